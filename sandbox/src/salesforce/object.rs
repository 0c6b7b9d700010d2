//! The kinds of object that the stand-in has, and the calls about them.

use std::fmt;

/// A kind of object. `User` and `RecordType` can only be read through the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SalesforceObject {
    Contact,
    Lead,
    /// <https://developer.salesforce.com/docs/platform/object-reference/references/standard-objects/object-task.html>
    Task,
    User,
    RecordType,
}

impl SalesforceObject {
    pub(crate) const ALL: [Self; 5] = [Self::Contact, Self::Lead, Self::Task, Self::User, Self::RecordType];

    /// Reads the name in a path or a query, in which case doesn't count.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|object| object.name().eq_ignore_ascii_case(name))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Contact => "Contact",
            Self::Lead => "Lead",
            Self::Task => "Task",
            Self::User => "User",
            Self::RecordType => "RecordType",
        }
    }

    /// The first three characters of its ids.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Contact => "003",
            Self::Lead => "00Q",
            Self::Task => "00T",
            Self::User => "005",
            Self::RecordType => "012",
        }
    }

    /// Returns the kind of object that an id names.
    pub(crate) fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|object| id.starts_with(object.prefix()))
    }

    pub(crate) fn is_person(self) -> bool {
        matches!(self, Self::Contact | Self::Lead)
    }

    /// Returns whether the API creates and changes such records.
    pub(crate) fn is_writable(self) -> bool {
        matches!(self, Self::Contact | Self::Lead | Self::Task)
    }
}

impl fmt::Display for SalesforceObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The calls that the stand-in answers, in each version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SalesforceEndpoint {
    /// `POST /services/oauth2/token`
    Token,
    /// `GET /services/data/`, the only call of data that needs no token
    Versions,
    /// `GET /services/data/vXX.0/`
    Resources,
    /// `GET /services/data/vXX.0/limits`
    Limits,
    /// `GET /services/data/vXX.0/sobjects/{object}/describe`
    Describe(SalesforceObject),
    /// `POST /services/data/vXX.0/sobjects/{object}`
    Create(SalesforceObject),
    /// `GET /services/data/vXX.0/sobjects/{object}/{id}{?fields}`
    Get(SalesforceObject),
    /// `PATCH /services/data/vXX.0/sobjects/{object}/{id}`
    Update(SalesforceObject),
    /// `DELETE /services/data/vXX.0/sobjects/{object}/{id}`
    Delete(SalesforceObject),
    /// `GET /services/data/vXX.0/sobjects/{object}/{field}/{value}{?fields}`
    GetByKey(SalesforceObject),
    /// `PATCH /services/data/vXX.0/sobjects/{object}/{field}/{value}{?updateOnly}`
    Upsert(SalesforceObject),
    /// `GET /services/data/vXX.0/query/{?q}`
    Query,
    /// `GET /services/data/vXX.0/queryAll/{?q}`, which sees deleted and merged records too
    QueryAll,
    /// `GET /services/data/vXX.0/query/{locator}`, the next page of a query
    QueryMore,
    /// `GET /services/data/vXX.0/search/{?q}`
    Search,
    /// `GET /services/data/vXX.0/parameterizedSearch/{?q,in,sobject,fields}`
    ParameterizedSearch,
    /// `PATCH /services/data/vXX.0/composite/sobjects/{object}/{field}`
    UpsertCollection(SalesforceObject),
    /// `POST /services/data/vXX.0/composite/batch`
    Batch,
}

impl SalesforceEndpoint {
    /// Returns whether a request of this kind has a body in JSON; the others must have none, or a form.
    pub(crate) fn takes_json(self) -> bool {
        match self {
            Self::Create(_) | Self::Update(_) | Self::Upsert(_) | Self::UpsertCollection(_) | Self::Batch => true,
            Self::Token
            | Self::Versions
            | Self::Resources
            | Self::Limits
            | Self::Describe(_)
            | Self::Get(_)
            | Self::Delete(_)
            | Self::GetByKey(_)
            | Self::Query
            | Self::QueryAll
            | Self::QueryMore
            | Self::Search
            | Self::ParameterizedSearch => false,
        }
    }

    /// Returns whether the call needs a token and counts towards the daily limit.
    pub(crate) fn needs_token(self) -> bool {
        !matches!(self, Self::Token | Self::Versions)
    }

    /// The kind of object that the path names.
    pub(crate) fn object(self) -> Option<SalesforceObject> {
        match self {
            Self::Describe(object)
            | Self::Create(object)
            | Self::Get(object)
            | Self::Update(object)
            | Self::Delete(object)
            | Self::GetByKey(object)
            | Self::Upsert(object)
            | Self::UpsertCollection(object) => Some(object),
            Self::Token
            | Self::Versions
            | Self::Resources
            | Self::Limits
            | Self::Query
            | Self::QueryAll
            | Self::QueryMore
            | Self::Search
            | Self::ParameterizedSearch
            | Self::Batch => None,
        }
    }
}
