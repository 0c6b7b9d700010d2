//! The properties that each kind of object has: HubSpot's own, as far as an SMS pipeline meets them, and the account's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::object::HubSpotObject;

/// The most characters of a text property, a note's body included.
/// <https://developers.hubspot.com/docs/api-reference/crm-notes-v3/guide>
pub(crate) const MAX_TEXT: usize = 65_536;

/// What a property's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Bool,
    Date,
    DateTime,
    Enumeration,
    Phone,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "string" => Some(Self::Text),
            "number" => Some(Self::Number),
            "bool" => Some(Self::Bool),
            "date" => Some(Self::Date),
            "datetime" => Some(Self::DateTime),
            "enumeration" => Some(Self::Enumeration),
            "phone_number" => Some(Self::Phone),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Enumeration => "enumeration",
            Self::Phone => "phone_number",
        }
    }

    /// Returns whether a form can show values of this kind in this way.
    pub(crate) fn goes_with(self, field_type: &str) -> bool {
        let field_types: &[&str] = match self {
            Self::Text => &["text", "textarea", "html", "file", "phonenumber"],
            Self::Number => &["number"],
            Self::Bool => &["booleancheckbox"],
            Self::Date | Self::DateTime => &["date"],
            Self::Enumeration => &["booleancheckbox", "checkbox", "radio", "select"],
            Self::Phone => &["phonenumber"],
        };
        field_types.contains(&field_type)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Property {
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) field_type: String,
    pub(crate) group: String,
    /// The values of an enumeration; for other kinds none.
    pub(crate) options: Vec<String>,
    pub(crate) is_unique: bool,
    pub(crate) is_read_only: bool,
    pub(crate) is_custom: bool,
}

impl Property {
    fn standard(kind: Kind, group: &str) -> Self {
        let field_type = match kind {
            Kind::Text => "text",
            Kind::Number => "number",
            Kind::Bool => "booleancheckbox",
            Kind::Date | Kind::DateTime => "date",
            Kind::Enumeration => "select",
            Kind::Phone => "phonenumber",
        };
        Self {
            label: String::new(),
            kind,
            field_type: field_type.to_owned(),
            group: group.to_owned(),
            options: Vec::new(),
            is_unique: false,
            is_read_only: false,
            is_custom: false,
        }
    }

    /// Returns the property as the API describes it.
    pub(crate) fn body(&self, name: &str) -> Value {
        let option = |(order, value): (usize, &String)| json!({ "label": value, "value": value, "displayOrder": order, "hidden": false });
        json!({
            "name": name,
            "label": if self.label.is_empty() { name } else { &self.label },
            "type": self.kind.name(),
            "fieldType": self.field_type,
            "groupName": self.group,
            "description": "",
            "options": self.options.iter().enumerate().map(option).collect::<Vec<_>>(),
            "hasUniqueValue": self.is_unique,
            "hidden": false,
            "formField": false,
            "calculated": self.is_read_only,
            "hubspotDefined": !self.is_custom,
            "archived": false,
            "modificationMetadata": {
                "archivable": self.is_custom,
                "readOnlyDefinition": !self.is_custom,
                "readOnlyValue": self.is_read_only,
            },
        })
    }

    /// Returns the value as HubSpot stores it, or what is wrong with it. An empty text clears a property of any kind.
    pub(crate) fn stored(&self, value: &str) -> Result<String, (&'static str, String)> {
        if value.is_empty() {
            return Ok(String::new());
        }
        match self.kind {
            Kind::Text | Kind::Phone if value.chars().count() > MAX_TEXT => {
                Err(("VALUE_TOO_LONG", format!("the value has more than {MAX_TEXT} characters")))
            }
            Kind::Text | Kind::Phone => Ok(value.to_owned()),
            Kind::Number if value.parse::<f64>().is_ok_and(f64::is_finite) => Ok(value.to_owned()),
            Kind::Number => Err(("INVALID_INTEGER", format!("{value} was not a valid number."))),
            Kind::Bool if value == "true" || value == "false" => Ok(value.to_owned()),
            Kind::Bool => Err(("INVALID_OPTION", format!("{value} was not one of the allowed options: [true, false]"))),
            Kind::Date => date(value).ok_or_else(|| ("INVALID_DATE", format!("{value} was not a valid date."))),
            Kind::DateTime => {
                date_time(value).ok_or_else(|| ("INVALID_LONG", format!("{value} was not a valid date and time.")))
            }
            Kind::Enumeration if self.options.iter().any(|option| option == value) => Ok(value.to_owned()),
            Kind::Enumeration => {
                let options = self.options.join(", ");
                Err(("INVALID_OPTION", format!("{value} was not one of the allowed options: [{options}]")))
            }
        }
    }
}

/// Reads ISO 8601 with a zone, or milliseconds since 1970, and returns ISO 8601 in UTC.
fn date_time(text: &str) -> Option<String> {
    let time = match text.parse::<i64>() {
        Ok(milliseconds) => Timestamp::from_millisecond(milliseconds).ok()?,
        Err(_) => text.parse::<Timestamp>().ok()?,
    };
    Timestamp::from_millisecond(time.as_millisecond()).ok().map(|time| time.to_string())
}

/// Reads `2026-11-02`, or milliseconds since 1970 that are a midnight in UTC.
fn date(text: &str) -> Option<String> {
    const DAY: i64 = 86_400_000;
    let date: Date = match text.parse::<i64>() {
        Ok(milliseconds) if milliseconds % DAY == 0 => {
            TimeZone::UTC.to_datetime(Timestamp::from_millisecond(milliseconds).ok()?).date()
        }
        Ok(_) => return None,
        Err(_) => text.parse().ok()?,
    };
    Some(date.to_string())
}

/// The properties and their groups of one kind of object.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) properties: BTreeMap<String, Property>,
    /// Each group's name and label.
    pub(crate) groups: BTreeMap<String, String>,
}

impl Schema {
    /// Returns HubSpot's own properties.
    pub(crate) fn standard(object: HubSpotObject) -> Self {
        let (group, texts): (_, &[&str]) = match object {
            HubSpotObject::Contact => ("contactinformation", &CONTACT_TEXTS),
            HubSpotObject::Communication => ("engagement", &["hs_communication_body"]),
            HubSpotObject::Note => ("engagement", &["hs_note_body", "hs_attachment_ids"]),
        };
        let groups = [(group.to_owned(), group.to_owned())].into();
        let mut schema = Self { properties: BTreeMap::new(), groups };
        for name in texts {
            schema.add(name, Property::standard(Kind::Text, group));
        }
        schema.add("hubspot_owner_id", Property::standard(Kind::Number, group));
        let created = Property { is_read_only: true, ..Property::standard(Kind::DateTime, group) };
        let calculated = Property { is_read_only: true, ..Property::standard(Kind::Text, group) };
        schema.add("hs_object_id", Property { is_read_only: true, ..Property::standard(Kind::Number, group) });
        for name in times_of(object) {
            schema.add(name, created.clone());
        }
        match object {
            HubSpotObject::Contact => {
                schema.add("email", Property { is_unique: true, ..Property::standard(Kind::Text, group) });
                for name in ["phone", "mobilephone"] {
                    schema.add(name, Property::standard(Kind::Text, group));
                }
                for name in CALCULATED {
                    schema.add(name, calculated.clone());
                }
            }
            HubSpotObject::Communication => {
                let choice = |options: &[&str]| Property {
                    options: options.iter().map(|option| (*option).to_owned()).collect(),
                    ..Property::standard(Kind::Enumeration, group)
                };
                schema.add("hs_communication_channel_type", choice(&["SMS", "WHATS_APP", "LINKEDIN_MESSAGE"]));
                schema.add("hs_communication_logged_from", choice(&["CRM"]));
                schema.add("hs_timestamp", Property::standard(Kind::DateTime, group));
            }
            HubSpotObject::Note => schema.add("hs_timestamp", Property::standard(Kind::DateTime, group)),
        }
        schema
    }

    fn add(&mut self, name: &str, property: Property) {
        self.properties.insert(name.to_owned(), property);
    }

    /// Adds an account's property as if made by hand.
    pub(crate) fn add_custom(&mut self, name: &str, kind: Kind, is_unique: bool) {
        let group = self.groups.keys().next().cloned().unwrap_or_default();
        self.add(name, Property { is_unique, is_custom: true, ..Property::standard(kind, &group) });
    }

    pub(crate) fn is_unique(&self, name: &str) -> bool {
        self.properties.get(name).is_some_and(|property| property.is_unique)
    }

    /// Returns how many unique properties the account has made.
    pub(crate) fn unique_count(&self) -> usize {
        self.properties.values().filter(|property| property.is_unique && property.is_custom).count()
    }
}

/// The times of creation and of the last change.
pub(crate) fn times_of(object: HubSpotObject) -> [&'static str; 2] {
    match object {
        HubSpotObject::Contact => ["createdate", "lastmodifieddate"],
        HubSpotObject::Communication | HubSpotObject::Note => ["hs_createdate", "hs_lastmodifieddate"],
    }
}

const CONTACT_TEXTS: [&str; 12] = [
    "firstname",
    "lastname",
    "company",
    "jobtitle",
    "address",
    "city",
    "state",
    "zip",
    "country",
    "website",
    "lifecyclestage",
    "hs_lead_status",
];

/// Properties that HubSpot computes.
const CALCULATED: [&str; 5] = [
    "hs_calculated_phone_number",
    "hs_calculated_mobile_number",
    "hs_searchable_calculated_phone_number",
    "hs_searchable_calculated_mobile_number",
    "hs_merged_object_ids",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        for (text, expected) in [
            ("2026-11-02T15:04:05.000Z", Some("2026-11-02T15:04:05Z")),
            ("2026-11-02T16:04:05.120+01:00", Some("2026-11-02T15:04:05.12Z")),
            ("1793631845000", Some("2026-11-02T15:04:05Z")),
            ("2026-11-02T15:04:05", None),
            ("2026-11-02", None),
            ("yesterday", None),
        ] {
            assert_eq!(date_time(text).as_deref(), expected, "{text}");
        }
        assert_eq!(date("1793577600000").as_deref(), Some("2026-11-02"));
        assert_eq!(date("1793577600001"), None);
    }
}
