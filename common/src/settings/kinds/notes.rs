//! Time zones, templates and names of properties, for the notes in the system of record.

use serde_json::{Value as Json, json};

use super::{Kind, Scalar, Wrong};
use crate::time_zone::TimeZone;
use crate::{note_text, person_text};

/// The IANA name of a time zone.
pub(in super::super) struct ZoneName;

impl Kind for ZoneName {
    type Value = TimeZone;

    fn wanted(&self) -> String {
        "the IANA name of a time zone such as \"America/Chicago\" or \"UTC\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<TimeZone, Wrong> {
        scalar.text().and_then(TimeZone::parse).ok_or_else(|| Wrong::not("a time zone", self))
    }

    fn show(&self, value: &TimeZone) -> String {
        value.name().to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The template of a note.
pub(in super::super) struct TemplateText;

impl Kind for TemplateText {
    type Value = String;

    fn wanted(&self) -> String {
        "a template such as \"{% for message in messages %}{{ message.time }} {{ message.text }}{% endfor %}\""
            .to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a template", self))?;
        match note_text::check(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(error) => Err(Wrong::new(
                format!("not a template of a note: {error}"),
                "look at that place; docs/notes.md lists what a template can show",
            )),
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The internal name of a property in a CRM.
pub(in super::super) struct PropertyName;

impl Kind for PropertyName {
    type Value = String;

    fn wanted(&self) -> String {
        "the internal name of a property: 1 to 100 characters out of a to z, 0 to 9 and \"_\", beginning with a letter"
            .to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let name = scalar.text().unwrap_or_default().trim();
        let is_legal = (1..=100).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if is_legal { Ok(name.to_owned()) } else { Err(Wrong::not("a property's name", self)) }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[a-z][a-z0-9_]{0,99}$" })
    }
}

/// The template of one field of a person.
pub(in super::super) struct PersonTemplate;

impl Kind for PersonTemplate {
    type Value = String;

    fn wanted(&self) -> String {
        "a text in which {{ first_name }} and the like stand for what is known of the person".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a template", self))?;
        match person_text::check(text) {
            Ok(()) => Ok(text.to_owned()),
            Err(error) => Err(Wrong::new(
                format!("not a template of a person's field: {error}"),
                "look at that place; docs/notes.md lists what a template can show",
            )),
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string" })
    }
}

/// The name of a field in a system of record, with words for what is wanted.
pub(in super::super) struct FieldName(pub(in super::super) &'static str);

impl Kind for FieldName {
    type Value = String;

    fn wanted(&self) -> String {
        format!("{}: 1 to 100 letters, digits and \"_\", beginning with a letter", self.0)
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let name = scalar.text().unwrap_or_default().trim();
        let is_legal = (1..=100).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_legal { Ok(name.to_owned()) } else { Err(Wrong::not("a field's name", self)) }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{0,99}$" })
    }
}

/// Any text but an empty one, with words for what is wanted.
pub(in super::super) struct Filled(pub(in super::super) &'static str);

impl Kind for Filled {
    type Value = String;

    fn wanted(&self) -> String {
        self.0.to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a text", self))?.trim();
        if text.is_empty() { Err(Wrong::empty(self)) } else { Ok(text.to_owned()) }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The id of an owner in the system of record.
pub(in super::super) struct OwnerId;

impl Kind for OwnerId {
    type Value = String;

    fn wanted(&self) -> String {
        "the id of an owner in the system of record, such as \"005Hp00000abcDEF\" or \"41629779\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        if let Scalar::Integer(id) = scalar {
            return Ok(id.to_string());
        }
        let id = scalar.text().ok_or_else(|| Wrong::not("a text", self))?.trim();
        if id.is_empty() {
            return Err(Wrong::empty(self));
        }
        let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if is_id { Ok(id.to_owned()) } else { Err(Wrong::not("an owner's id", self)) }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "integer" }] })
    }
}
