//! `--set POINTER=VALUE`: changes one value of a sample body.

use std::str::FromStr;

use serde_json::Value;

/// One change, addressed by a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    pointer: String,
    value: Value,
}

impl FromStr for Set {
    type Err = String;

    /// Parses a change such as `/message/body=Hello`. A value that is not JSON is taken as a text.
    fn from_str(text: &str) -> Result<Self, String> {
        let (pointer, value) = text
            .split_once('=')
            .ok_or_else(|| "give JSON_POINTER=VALUE, for example /message/body=Hello".to_owned())?;
        if !pointer.starts_with('/') {
            return Err(format!("{pointer:?} is not a JSON pointer: it starts with /, for example /message/body"));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Ok(Self { pointer: pointer.to_owned(), value })
    }
}

impl Set {
    /// Returns a note if the last key doesn't exist yet, because it may be a typing error.
    pub(crate) fn adds_to(&self, body: &Value) -> Option<String> {
        let (parent, leaf) = self.pointer.rsplit_once('/')?;
        let leaf = leaf.replace("~1", "/").replace("~0", "~");
        let object = body.pointer(parent)?.as_object().filter(|object| !object.contains_key(&leaf))?;
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        Some(format!("note: --set {} adds a key; what is there: {}", self.pointer, names.join(", ")))
    }

    /// Sets the value, and adds the last key if it is missing.
    ///
    /// # Errors
    /// Fails when the pointer leads nowhere; the error names the missing part.
    pub(crate) fn apply(&self, body: &mut Value) -> Result<(), String> {
        let (parent, leaf) = self.pointer.rsplit_once('/').unwrap_or(("", &self.pointer));
        let leaf = leaf.replace("~1", "/").replace("~0", "~");
        let Some(parent_value) = body.pointer_mut(parent) else {
            return Err(format!("--set {}: the body has nothing at {parent:?}", self.pointer));
        };
        match parent_value {
            Value::Object(object) => {
                object.insert(leaf, self.value.clone());
                Ok(())
            }
            Value::Array(items) => {
                let length = items.len();
                let index = leaf.parse::<usize>().ok().filter(|index| *index <= length);
                match index {
                    Some(index) if index < length => items[index] = self.value.clone(),
                    Some(_) => items.push(self.value.clone()),
                    None => return Err(format!("--set {}: the list there has {length} items", self.pointer)),
                }
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Err(format!("--set {}: {parent:?} is neither an object nor a list", self.pointer))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(text: &str, mut body: Value) -> Result<Value, String> {
        text.parse::<Set>()?.apply(&mut body)?;
        Ok(body)
    }

    #[test]
    fn a_value_is_changed_or_made() {
        let body = json!({ "message": { "body": "old", "flags": ["a"] } });

        for (text, pointer, expected) in [
            ("/message/body=Hello there", "/message/body", json!("Hello there")),
            ("/message/body=\"42\"", "/message/body", json!("42")),
            ("/message/body=42", "/message/body", json!(42)),
            ("/message/body=null", "/message/body", Value::Null),
            ("/message/body=a=b", "/message/body", json!("a=b")),
            ("/message/body=", "/message/body", json!("")),
            ("/message/new={\"a\":[1]}", "/message/new/a/0", json!(1)),
            ("/a~1b=1", "/a~1b", json!(1)),
            ("/message/flags/0=b", "/message/flags/0", json!("b")),
            ("/message/flags/1=b", "/message/flags/1", json!("b")),
        ] {
            let changed = set(text, body.clone()).expect(text);
            assert_eq!(changed.pointer(pointer), Some(&expected), "{text}");
        }
    }

    #[test]
    fn a_key_that_is_added_is_told_with_those_that_are_there() {
        let body = json!({ "optOut": { "phoneNumber": "+12025550147", "type": "opt-out" } });
        let told = |text: &str| text.parse::<Set>().expect(text).adds_to(&body);

        let note = told("/optOut/phone=+13035550168").expect("a key is added");
        assert!(note.contains("phoneNumber, type"), "{note}");
        assert_eq!(told("/optOut/phoneNumber=+13035550168"), None);
    }

    #[test]
    fn a_pointer_that_leads_nowhere_is_named() {
        let body = json!({ "message": { "body": "old", "flags": [] } });

        for text in [
            "message/body=x",
            "/message",
            "/nowhere/body=x",
            "/message/body/x=1",
            "/message/flags/1=x",
            "/message/flags/-1=x",
        ] {
            assert!(set(text, body.clone()).is_err(), "{text}");
        }
    }
}
