//! The documents that the http connector sends, and the checks of their form.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value};

use crate::phone::is_e164;

/// The `type` of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentType {
    /// `people.find`: who has this id or number?
    PeopleFind,
    /// `person.upserted`
    PersonUpserted,
    /// `thread.written`
    ThreadWritten,
    /// `opt_out.changed`
    OptOutChanged,
}

impl DocumentType {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "people.find" => Some(Self::PeopleFind),
            "person.upserted" => Some(Self::PersonUpserted),
            "thread.written" => Some(Self::ThreadWritten),
            "opt_out.changed" => Some(Self::OptOutChanged),
            _ => None,
        }
    }
}

/// A document that the receiver took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub id: String,
    pub kind: DocumentType,
    /// The time that the document states.
    pub timestamp: Timestamp,
    pub data: Value,
    /// When the document was taken first.
    pub at: Timestamp,
    /// How often the document was taken: more than once if its answer was lost, for example.
    pub times: usize,
}

impl Document {
    /// Reads a body, and says what is wrong with it if it isn't exactly a document.
    pub(crate) fn read(body: &[u8]) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON".to_owned())?;
        let fields = object(&body, "the document", &["type", "id", "timestamp", "data"], &[])?;
        let kind = text(fields, "type")?;
        let kind = DocumentType::named(kind).ok_or_else(|| format!("there is no type {kind}"))?;
        let timestamp = time(fields, "timestamp")?.ok_or("timestamp is null")?;
        let data = fields.get("data").cloned().unwrap_or_default();
        check(kind, &data).map_err(|what| format!("data: {what}"))?;
        Ok(Self { id: text(fields, "id")?.to_owned(), kind, timestamp, data, at: Timestamp::now(), times: 1 })
    }
}

type Check = Result<(), String>;

fn check(kind: DocumentType, data: &Value) -> Check {
    match kind {
        DocumentType::PeopleFind => {
            let fields = object(data, "data", &["contact_id", "phone"], &[])?;
            phone(fields, "phone")?;
            match (maybe_text(fields, "contact_id")?, fields.get("phone")) {
                (None, Some(Value::Null)) => Err("neither contact_id nor phone".to_owned()),
                _ => Ok(()),
            }
        }
        DocumentType::PersonUpserted => {
            let fields = object(data, "data", &["person"], &[])?;
            person(fields, &["contact_id", "phones", "name"], &["id", "fields"])
        }
        DocumentType::ThreadWritten => thread(data),
        DocumentType::OptOutChanged => {
            let keys = ["person", "phone", "opted_out", "opted_out_at", "opted_in_at", "source"];
            let fields = object(data, "data", &keys, &[])?;
            if !fields.get("person").is_some_and(Value::is_null) {
                person(fields, &["id", "contact_id", "phones", "name"], &[])?;
            }
            phone(fields, "phone")?;
            if !fields.get("opted_out").is_some_and(Value::is_boolean) {
                return Err("opted_out is neither true nor false".to_owned());
            }
            time(fields, "opted_out_at")?;
            time(fields, "opted_in_at")?;
            maybe_text(fields, "source").map(drop)
        }
    }
}

fn thread(data: &Value) -> Check {
    let keys = ["thread_id", "person", "account", "business_number", "day", "text", "messages", "author"];
    let fields = object(data, "data", &keys, &[])?;
    for key in ["thread_id", "account", "text"] {
        text(fields, key)?;
    }
    person(fields, &["id", "contact_id", "phones", "name"], &[])?;
    phone(fields, "business_number")?;
    text(fields, "day")?.parse::<Date>().map_err(|_| "day is no date".to_owned())?;
    author(fields)?;
    let messages = fields.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
    messages.ok_or("messages is no array, or empty")?.iter().try_for_each(message)
}

fn message(message: &Value) -> Check {
    let keys = ["message_id", "direction", "outcome", "body", "author", "media", "occurred_at"];
    let fields = object(message, "a message", &keys, &[])?;
    text(fields, "message_id")?;
    text(fields, "outcome")?;
    if !["in", "out", "inbound", "outbound"].contains(&text(fields, "direction")?) {
        return Err("direction is neither in nor out".to_owned());
    }
    if !fields.get("body").is_some_and(|body| body.is_null() || body.is_string()) {
        return Err("body is neither a text nor null".to_owned());
    }
    if !fields.get("media").is_some_and(|media| media.is_null() || media.is_array()) {
        return Err("media is neither an array nor null".to_owned());
    }
    author(fields)?;
    time(fields, "occurred_at")?.map(drop).ok_or_else(|| "occurred_at is null".to_owned())
}

fn author(fields: &Map<String, Value>) -> Check {
    match fields.get("author") {
        Some(Value::Null | Value::String(_) | Value::Object(_)) => Ok(()),
        _ => Err("author is neither a text, an object nor null".to_owned()),
    }
}

fn person(fields: &Map<String, Value>, required: &[&str], optional: &[&str]) -> Check {
    let person = object(fields.get("person").unwrap_or(&Value::Null), "person", required, optional)?;
    maybe_text(person, "contact_id")?;
    maybe_text(person, "name")?;
    if person.contains_key("id") {
        maybe_text(person, "id")?;
    }
    if let Some(filled) = person.get("fields") {
        let filled =
            filled.as_object().filter(|filled| !filled.is_empty()).ok_or("fields is no object with members")?;
        if !filled.values().all(|text| text.as_str().is_some_and(|text| !text.is_empty())) {
            return Err("a field of the person is no text".into());
        }
    }
    let phones = person.get("phones").and_then(Value::as_array).ok_or("phones is no array")?;
    match phones.iter().find(|phone| !phone.as_str().is_some_and(is_e164)) {
        Some(phone) => Err(format!("a phone is not in E.164: a value of {} characters", phone.to_string().len())),
        None => Ok(()),
    }
}

/// Returns the fields of an object that has each required key and no key besides.
fn object<'a>(
    value: &'a Value,
    name: &str,
    required: &[&str],
    optional: &[&str],
) -> Result<&'a Map<String, Value>, String> {
    let fields = value.as_object().ok_or_else(|| format!("{name} is no object"))?;
    if let Some(key) = required.iter().find(|key| !fields.contains_key(**key)) {
        return Err(format!("{name} lacks {key}; what is absent is null"));
    }
    match fields.keys().find(|key| !required.contains(&key.as_str()) && !optional.contains(&key.as_str())) {
        Some(key) => Err(format!("{name} has a key too many: {key}")),
        None => Ok(fields),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    maybe_text(fields, key)?.ok_or_else(|| format!("{key} is null"))
}

fn maybe_text<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match fields.get(key) {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        _ => Err(format!("{key} is not a text, or empty")),
    }
}

fn phone(fields: &Map<String, Value>, key: &str) -> Check {
    match maybe_text(fields, key)? {
        Some(phone) if !is_e164(phone) => Err(format!("{key} is not in E.164")),
        _ => Ok(()),
    }
}

fn time(fields: &Map<String, Value>, key: &str) -> Result<Option<Timestamp>, String> {
    let parsed = |text: &str| text.parse().map_err(|_| format!("{key} is not RFC 3339"));
    maybe_text(fields, key)?.map(parsed).transpose()
}
