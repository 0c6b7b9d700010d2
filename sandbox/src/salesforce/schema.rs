//! The fields of each kind of object, and which values they take.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::object::SalesforceObject;
use super::record::date_time;
use super::{error, ids};
use crate::answer::Answer;

/// What a field holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Id,
    Text,
    /// A text of several lines. A long one can't be filtered by.
    TextArea,
    Phone,
    Email,
    Picklist(Vec<String>),
    /// A picklist that takes other values too.
    Combobox,
    Boolean,
    Date,
    DateTime,
    Number,
    Reference(&'static [SalesforceObject]),
}

impl Kind {
    /// The name of the type in a describe.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Text => "string",
            Self::TextArea => "textarea",
            Self::Phone => "phone",
            Self::Email => "email",
            Self::Picklist(_) => "picklist",
            Self::Combobox => "combobox",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Number => "double",
            Self::Reference(_) => "reference",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) kind: Kind,
    /// The maximum length of a text, in UTF-16 units; 0 for other kinds.
    pub(crate) length: usize,
    pub(crate) createable: bool,
    pub(crate) updateable: bool,
    pub(crate) nillable: bool,
    pub(crate) default: Option<Value>,
    pub(crate) external_id: bool,
    pub(crate) unique: bool,
    pub(crate) case_sensitive: bool,
    pub(crate) custom: bool,
    /// The user may not see it; to the user it doesn't exist.
    pub(crate) hidden: bool,
}

impl Field {
    pub(crate) fn is_filterable(&self) -> bool {
        self.kind != Kind::TextArea || self.length <= 255
    }

    /// Returns whether records are found by their values of this field.
    pub(crate) fn is_key(&self) -> bool {
        self.external_id || self.unique
    }

    /// Returns a stored value as it stands in a path.
    pub(crate) fn key_text(value: &Value) -> Option<String> {
        value.as_str().map(str::to_owned).or_else(|| value.as_f64().map(|number| number.to_string()))
    }

    /// Returns whether a create is refused without a value.
    pub(crate) fn is_required(&self) -> bool {
        self.createable && !self.nillable && self.default.is_none() && self.kind != Kind::Boolean
    }

    /// Returns whether two values are the same to this field. Case counts only where the field says so.
    pub(crate) fn same(&self, one: &str, other: &str) -> bool {
        if self.case_sensitive || matches!(self.kind, Kind::Id | Kind::Reference(_)) {
            one == other
        } else {
            one.to_lowercase() == other.to_lowercase()
        }
    }

    /// Returns the value as it is stored, `Null` if the field is cleared.
    pub(crate) fn stored(&self, value: &Value) -> Result<Value, Answer> {
        if value.is_null() {
            if self.kind == Kind::Boolean {
                return Err(self.refusal("INVALID_TYPE_ON_FIELD_IN_RECORD", "value not of required type: null"));
            }
            return Ok(Value::Null);
        }
        if self.kind == Kind::Boolean {
            return if value.is_boolean() { Ok(value.clone()) } else { Err(error::wrong_type("boolean", value)) };
        }
        if self.kind == Kind::Number {
            return if value.is_number() { Ok(value.clone()) } else { Err(error::wrong_type("double", value)) };
        }
        let Value::String(text) = value else { return Err(error::wrong_type("string", value)) };
        // Salesforce drops blanks at both ends of a text.
        let text = text.trim();
        if text.is_empty() {
            return Ok(Value::Null);
        }
        self.stored_text(text, value)
    }

    fn stored_text(&self, text: &str, value: &Value) -> Result<Value, Answer> {
        match &self.kind {
            Kind::Date => match text.parse::<jiff::civil::Date>() {
                Ok(date) if text.len() == 10 => return Ok(json!(date.to_string())),
                _ => return Err(error::wrong_type("date", value)),
            },
            Kind::DateTime => {
                let time = if text.contains('T') { text.parse::<Timestamp>().ok() } else { None };
                let time = time.ok_or_else(|| error::wrong_type("datetime", value))?;
                return Ok(json!(date_time(time)));
            }
            Kind::Id | Kind::Reference(_) => {
                let id = ids::read(text).filter(|id| self.takes_id(id));
                let message = format!("id value of incorrect type: {text}");
                return id.map(Value::String).ok_or_else(|| self.refusal("MALFORMED_ID", &message));
            }
            Kind::Picklist(values) if !values.iter().any(|known| known == text) => {
                let message = format!("bad value for restricted picklist field: {text}");
                return Err(self.refusal("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", &message));
            }
            Kind::Email if !is_email(text) => {
                return Err(self.refusal("INVALID_EMAIL_ADDRESS", &format!("invalid email address: {text}")));
            }
            Kind::Text
            | Kind::TextArea
            | Kind::Phone
            | Kind::Email
            | Kind::Picklist(_)
            | Kind::Combobox
            | Kind::Boolean
            | Kind::Number => {}
        }
        if self.length > 0 && text.encode_utf16().count() > self.length {
            let start: String = text.chars().take(80).collect();
            let message = format!("data value too large: {start} (max length={})", self.length);
            return Err(self.refusal("STRING_TOO_LONG", &message));
        }
        Ok(json!(text))
    }

    fn takes_id(&self, id: &str) -> bool {
        // A reference to an object that the stand-in doesn't have, for example an account, is taken for what it says.
        let Kind::Reference(objects) = &self.kind else { return true };
        objects.is_empty() || SalesforceObject::of_id(id).is_some_and(|object| objects.contains(&object))
    }

    fn refusal(&self, code: &str, message: &str) -> Answer {
        error::refused_write(code, format!("{}: {message}", self.label), &[&self.name])
    }
}

fn is_email(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(local, domain)| {
        !local.is_empty() && domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.')
    }) && !text.contains(char::is_whitespace)
}

/// A field that an administrator adds, for [`crate::Salesforce::add_custom_field`].
#[derive(Clone, Debug)]
pub struct CustomField(pub(crate) Field);

impl CustomField {
    /// A text of at most so many characters. Its unique values ignore case unless [`Self::case_sensitive`] is called.
    #[must_use]
    pub fn text(name: &str, length: usize) -> Self {
        Self::of_kind(name, Kind::Text, length)
    }

    /// A text of up to 131,072 characters, which can't be filtered by.
    #[must_use]
    pub fn long_text(name: &str) -> Self {
        Self::of_kind(name, Kind::TextArea, 131_072)
    }

    #[must_use]
    pub fn phone(name: &str) -> Self {
        Self::of_kind(name, Kind::Phone, 40)
    }

    #[must_use]
    pub fn checkbox(name: &str) -> Self {
        let mut field = Self::of_kind(name, Kind::Boolean, 0);
        (field.0.nillable, field.0.default) = (false, Some(json!(false)));
        field
    }

    #[must_use]
    pub fn date(name: &str) -> Self {
        Self::of_kind(name, Kind::Date, 0)
    }

    #[must_use]
    pub fn date_time(name: &str) -> Self {
        Self::of_kind(name, Kind::DateTime, 0)
    }

    #[must_use]
    pub fn number(name: &str) -> Self {
        Self::of_kind(name, Kind::Number, 0)
    }

    /// A restricted picklist.
    #[must_use]
    pub fn picklist(name: &str, values: &[&str]) -> Self {
        Self::of_kind(name, Kind::Picklist(values.iter().map(|value| (*value).to_owned()).collect()), 255)
    }

    #[must_use]
    pub fn external_id(mut self) -> Self {
        self.0.external_id = true;
        self
    }

    #[must_use]
    pub fn unique(mut self) -> Self {
        self.0.unique = true;
        self
    }

    #[must_use]
    pub fn case_sensitive(mut self) -> Self {
        self.0.case_sensitive = true;
        self
    }

    /// Every create is refused without a value.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.0.nillable = false;
        self
    }

    fn of_kind(name: &str, kind: Kind, length: usize) -> Self {
        let label = name.trim_end_matches("__c").replace('_', " ");
        Self(Field {
            name: name.to_owned(),
            label,
            kind,
            length,
            createable: true,
            updateable: true,
            nillable: true,
            default: None,
            external_id: false,
            unique: false,
            case_sensitive: false,
            custom: true,
            hidden: false,
        })
    }
}

/// The fields of one kind of object.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) fields: Vec<Field>,
}

impl Schema {
    /// Finds a field that the user may see, in which case of its name doesn't count.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| !field.hidden && field.name.eq_ignore_ascii_case(name))
    }

    /// Finds a field whether or not the user may see it.
    pub(crate) fn any_field(&mut self, name: &str) -> Option<&mut Field> {
        self.fields.iter_mut().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn visible(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.hidden)
    }

    /// Adds a field, or replaces the one of this name.
    pub(crate) fn add(&mut self, field: Field) {
        self.fields.retain(|other| !other.name.eq_ignore_ascii_case(&field.name));
        self.fields.push(field);
    }
}
