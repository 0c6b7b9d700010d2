//! Reads JSON-LD as TextUs writes it. A related resource is a path, an embedded object or `null`, and the same key
//! varies by endpoint (<https://apidocs.next.textus.com/docs/conversations/assign_contact>). Readers here never fail on
//! a shape that they don't know: they read it as absent, and the code that needs the resource reports it missing.

use hookline_common::phone::Phone;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A related resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link<T> {
    /// `null`, left out, or in a shape that says nothing.
    #[default]
    Absent,
    /// Where to fetch the resource: `/contacts/Bn3RkQ8`.
    Path(String),
    Here(T),
}

impl<T> Link<T> {
    #[must_use]
    pub fn here(&self) -> Option<&T> {
        match self {
            Self::Here(value) => Some(value),
            Self::Absent | Self::Path(_) => None,
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Link<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match value {
            Value::String(path) if !path.trim().is_empty() => Self::Path(path),
            Value::Object(_) | Value::Array(_) => T::deserialize(value).map_or(Self::Absent, Self::Here),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Self::Absent,
        })
    }
}

/// A set of resources, or one page of it (<https://apidocs.next.textus.com/overview/collections/>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection<T> {
    pub members: Vec<T>,
    /// Size of the whole set, which may exceed the members of this page.
    pub total_items: Option<u64>,
    /// The path of the next page; `None` on the last page, or if the whole set is here.
    pub next: Option<String>,
}

impl<T> Collection<T> {
    /// Returns whether no member is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let here = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        self.next.is_none() && self.total_items.is_none_or(|total| total <= here)
    }
}

/// Reads `{"members": […]}` or a bare list, and refuses everything else. A member that can't be read is left out, and
/// the collection then isn't whole.
impl<'de, T: DeserializeOwned> Deserialize<'de> for Collection<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (members, total, next) = match Value::deserialize(deserializer)? {
            Value::Array(members) => (members, None, None),
            Value::Object(mut fields) => {
                let Some(Value::Array(members)) = fields.remove("members") else {
                    return Err(serde::de::Error::custom("a collection without members"));
                };
                let next = fields.get("view").and_then(|view| view.get("next")).and_then(Value::as_str);
                (members, fields.get("totalItems").and_then(Value::as_u64), next.map(str::to_owned))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(serde::de::Error::custom("no collection"));
            }
        };
        let sent = u64::try_from(members.len()).unwrap_or(u64::MAX);
        let members: Vec<T> = members.into_iter().filter_map(|member| T::deserialize(member).ok()).collect();
        let total_items = Some(total.map_or(sent, |total| total.max(sent)));
        Ok(Self { members, total_items, next: next.filter(|path| !path.is_empty()) })
    }
}

/// For `deserialize_with`: reads a text, and anything else as `None`.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

/// Most digits in a short code (<https://www.usshortcodes.com>: five or six).
pub(super) const MOST_OF_CODE: usize = 6;

/// Reads like [`text`], and also reads a number as its digits if it may be a short code or is a telephone number.
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        Value::Number(number) => {
            let digits = number.to_string();
            (digits.len() <= MOST_OF_CODE || Phone::of_number(&number).is_some()).then_some(digits)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
    struct Thing {
        id: String,
    }

    #[derive(Deserialize)]
    struct Holder {
        #[serde(default)]
        thing: Link<Thing>,
    }

    fn thing(id: &str) -> Thing {
        Thing { id: id.to_owned() }
    }

    #[test]
    fn a_link_is_read_in_every_form() {
        for (sent, read) in [
            (json!({}), Link::Absent),
            (json!({"thing": null}), Link::Absent),
            (json!({"thing": ""}), Link::Absent),
            (json!({"thing": 7}), Link::Absent),
            (json!({"thing": {"@type": "Thing"}}), Link::Absent),
            (json!({"thing": "/things/a"}), Link::Path("/things/a".to_owned())),
            (json!({"thing": {"id": "/things/a", "more": [1]}}), Link::Here(thing("/things/a"))),
        ] {
            let holder: Holder = serde_json::from_value(sent.clone()).unwrap();
            assert_eq!(holder.thing, read, "{sent}");
        }
    }

    #[test]
    fn a_collection_knows_whether_it_is_whole() {
        for (sent, members, whole, next) in [
            (json!([{"id": "a"}]), 1, true, None),
            (json!({"members": [], "totalItems": 0}), 0, true, None),
            (json!({"members": [{"id": "a"}], "totalItems": 1, "view": {"next": null}}), 1, true, None),
            (json!({"members": [{"id": "a"}], "totalItems": 3, "view": {"next": "/p2"}}), 1, false, Some("/p2")),
            (json!({"members": [{"id": "a"}], "totalItems": 2}), 1, false, None),
            (json!({"members": [{"id": "a"}, 7]}), 1, false, None),
        ] {
            let read: Collection<Thing> = serde_json::from_value(sent.clone()).unwrap();
            assert_eq!(read.members.len(), members, "{sent}");
            assert_eq!((read.is_whole(), read.next.as_deref()), (whole, next), "{sent}");
        }
        for sent in [json!({}), json!({"members": "/x"}), json!("x"), json!(null)] {
            assert!(serde_json::from_value::<Collection<Thing>>(sent.clone()).is_err(), "{sent}");
        }
    }
}
