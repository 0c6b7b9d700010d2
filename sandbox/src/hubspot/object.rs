//! The three kinds of object that the stand-in has, and the calls about them.

use std::fmt;

/// A kind of CRM object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HubSpotObject {
    Contact,
    /// A text, a WhatsApp message or a LinkedIn message: <https://developers.hubspot.com/docs/api/crm/communications>
    Communication,
    /// <https://developers.hubspot.com/docs/api-reference/crm-notes-v3/guide>
    Note,
}

impl HubSpotObject {
    pub(crate) const ALL: [Self; 3] = [Self::Contact, Self::Communication, Self::Note];

    /// Reads the name in a path: plural, singular or the type's id.
    pub(crate) fn named(segment: &str) -> Option<Self> {
        match segment {
            "contacts" | "contact" | "0-1" => Some(Self::Contact),
            "communications" | "communication" | "0-18" => Some(Self::Communication),
            "notes" | "note" | "0-46" => Some(Self::Note),
            _ => None,
        }
    }

    pub(crate) fn type_id(self) -> &'static str {
        match self {
            Self::Contact => "0-1",
            Self::Communication => "0-18",
            Self::Note => "0-46",
        }
    }

    /// The type id of an association from this kind to a contact. For a contact there is none.
    pub(crate) fn type_to_contact(self) -> Option<u64> {
        match self {
            Self::Contact => None,
            Self::Communication => Some(81),
            Self::Note => Some(202),
        }
    }

    /// The type id of an association from a contact to this kind.
    pub(crate) fn type_from_contact(self) -> Option<u64> {
        match self {
            Self::Contact => None,
            Self::Communication => Some(82),
            Self::Note => Some(201),
        }
    }
}

impl fmt::Display for HubSpotObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contact => "CONTACT",
            Self::Communication => "COMMUNICATION",
            Self::Note => "NOTE",
        })
    }
}

/// The calls that the stand-in answers, in each version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HubSpotEndpoint {
    /// `POST /crm/v3/objects/{objectType}`
    Create(HubSpotObject),
    /// `GET /crm/v3/objects/{objectType}/{id}{?properties,idProperty}`
    Get(HubSpotObject),
    /// `PATCH /crm/v3/objects/{objectType}/{id}{?idProperty}`
    Update(HubSpotObject),
    /// `DELETE /crm/v3/objects/{objectType}/{id}`
    Archive(HubSpotObject),
    /// `POST /crm/v3/objects/{objectType}/batch/read`
    BatchRead(HubSpotObject),
    /// `POST /crm/v3/objects/{objectType}/batch/upsert`
    BatchUpsert(HubSpotObject),
    /// `POST /crm/v3/objects/{objectType}/search`
    Search(HubSpotObject),
    /// `GET /crm/v3/properties/{objectType}`
    ListProperties(HubSpotObject),
    /// `POST /crm/v3/properties/{objectType}`
    CreateProperty(HubSpotObject),
    /// `GET /crm/v3/properties/{objectType}/{name}`
    GetProperty(HubSpotObject),
    /// `GET /crm/v3/properties/{objectType}/groups`
    ListGroups(HubSpotObject),
    /// `POST /crm/v3/properties/{objectType}/groups`
    CreateGroup(HubSpotObject),
    /// `PUT /crm/v4/objects/{from}/{id}/associations/default/{to}/{id}`
    Associate { from: HubSpotObject, to: HubSpotObject },
    /// `GET /crm/v4/objects/{from}/{id}/associations/{to}{?limit,after}`
    ListAssociations { from: HubSpotObject, to: HubSpotObject },
    /// `PUT /crm/v4/objects/{from}/{id}/associations/{to}/{id}`
    Label { from: HubSpotObject, to: HubSpotObject },
    /// `DELETE /crm/v4/objects/{from}/{id}/associations/{to}/{id}`
    Dissociate { from: HubSpotObject, to: HubSpotObject },
    /// `GET /crm/v3/owners{?email,after,limit,archived}`
    ListOwners,
}

impl HubSpotEndpoint {
    /// Returns whether a request of this kind has a body; the others must have none.
    pub(crate) fn takes_body(self) -> bool {
        match self {
            Self::Create(_)
            | Self::Update(_)
            | Self::BatchRead(_)
            | Self::BatchUpsert(_)
            | Self::Search(_)
            | Self::CreateProperty(_)
            | Self::CreateGroup(_)
            | Self::Label { .. } => true,
            Self::Get(_)
            | Self::Archive(_)
            | Self::ListProperties(_)
            | Self::GetProperty(_)
            | Self::ListGroups(_)
            | Self::Associate { .. }
            | Self::ListAssociations { .. }
            | Self::ListOwners
            | Self::Dissociate { .. } => false,
        }
    }

    /// The scopes of which the call needs one.
    pub(crate) fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Get(_) | Self::BatchRead(_) | Self::Search(_) | Self::ListAssociations { .. } => {
                &["crm.objects.contacts.read"]
            }
            Self::Create(_)
            | Self::Update(_)
            | Self::Archive(_)
            | Self::BatchUpsert(_)
            | Self::Associate { .. }
            | Self::Label { .. }
            | Self::Dissociate { .. } => &["crm.objects.contacts.write"],
            Self::ListProperties(_) | Self::GetProperty(_) | Self::ListGroups(_) => {
                &["crm.schemas.contacts.read", "crm.objects.contacts.read"]
            }
            Self::CreateProperty(_) | Self::CreateGroup(_) => &["crm.schemas.contacts.write"],
            Self::ListOwners => &["crm.objects.owners.read"],
        }
    }
}
