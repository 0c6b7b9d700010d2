//! Reads the body of a contact's create and update calls.
//! <https://apidocs.next.textus.com/docs/contacts/create-contact/>

use serde_json::{Map, Value};

use crate::answer::Answer;
use crate::model::{ContactPhone, fresh_slug};
use crate::phone::Number;

/// The fields of a contact's body; `None` for each field that the body leaves out.
pub(super) struct ContactBody {
    pub(super) name: Option<String>,
    pub(super) phones: Option<Vec<ContactPhone>>,
    pub(super) data: Option<Value>,
}

impl ContactBody {
    /// Reads the fields. A wrong structure is the client's fault and thus a violation; an unusable number may be the
    /// contact's own and is not.
    pub(super) fn read(body: &Value) -> Result<Self, Answer> {
        let improper = |what: &str| Err(Answer::improper(400, what));
        let Some(fields) = body.as_object() else { return improper("the body must be an object") };
        if fields.keys().any(|key| !["name", "phones", "data"].contains(&key.as_str())) {
            return improper("a contact has name, phones and data only");
        }
        if !fields.contains_key("name") && !fields.contains_key("phones") {
            return improper("a contact needs a name or phones");
        }
        let name = match fields.get("name") {
            None => None,
            Some(Value::String(name)) => Some(name.clone()),
            Some(_) => return improper("name must be a string"),
        };
        let phones = match fields.get("phones") {
            None => None,
            Some(Value::Array(phones)) => Some(phones.iter().map(phone).collect::<Result<_, _>>()?),
            Some(_) => return improper("phones must be an array"),
        };
        match fields.get("data") {
            None => Ok(Self { name, phones, data: None }),
            Some(data @ Value::Object(_)) => Ok(Self { name, phones, data: Some(data.clone()) }),
            Some(_) => improper("data must be an object"),
        }
    }
}

fn phone(entry: &Value) -> Result<ContactPhone, Answer> {
    let text = |fields: &Map<String, Value>, key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
    let read = entry
        .as_object()
        .filter(|fields| fields.len() == 2)
        .and_then(|fields| text(fields, "number").zip(text(fields, "type")));
    let Some((number, kind)) = read else {
        return Err(Answer::improper(400, "a phone has number and type, both strings"));
    };
    let Some(number) = Number::parse(&number) else {
        return Err(Answer::invalid("Validation failed: Number is not usable"));
    };
    Ok(ContactPhone { slug: fresh_slug(), number: number.e164, extension: number.extension, kind })
}
