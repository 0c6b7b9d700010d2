//! Time zones, templates and names of properties, for the notes in the system of record.

use serde_json::{Value as Json, json};

use super::{Kind, Scalar, Wrong};
use crate::note_text;
use crate::time_zone::TimeZone;

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
