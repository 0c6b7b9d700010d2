//! The JSON schema of `hookline.toml`, for editors and for checks in CI.

use serde_json::{Map, Value as Json, json};

use super::Settings;
use super::catalogue::{CATALOGUE, is_index};
use super::declare::Table;
use super::visit::{Entry, Form, KeyForm};

const REFERENCE: &str = "#/definitions/reference";

/// Returns a draft 7 schema with an object for each table, which allows only the known keys.
#[must_use]
pub fn json_schema() -> Json {
    let mut root = table_schema(Settings::HELP.trim_start());
    for entry in CATALOGUE.iter() {
        place(&mut root, entry);
    }
    if let Json::Object(root) = &mut root {
        root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        root.insert("title".to_owned(), json!("hookline.toml"));
        let reference = json!({
            "description": "Where the value is: an environment variable, or a file.",
            "type": "string",
            "pattern": "^(env:[A-Za-z0-9_]+|file:.+)$",
        });
        root.insert("definitions".to_owned(), json!({ "reference": reference }));
    }
    root
}

/// Allows `env:NAME` and `file:PATH` instead of the value.
pub(super) fn or_reference(schema: Json) -> Json {
    json!({ "anyOf": [schema, { "$ref": REFERENCE }] })
}

fn table_schema(doc: &str) -> Json {
    json!({ "description": doc, "type": "object", "additionalProperties": false, "properties": {} })
}

fn schema_of(entry: &Entry) -> Json {
    match &entry.form {
        Form::Table => table_schema(entry.doc),
        Form::Tables => {
            json!({ "description": entry.doc, "type": "array", "items": table_schema(entry.doc) })
        }
        Form::Key(key) => {
            let mut schema = Map::new();
            schema.insert("description".to_owned(), json!(entry.doc));
            schema.insert("anyOf".to_owned(), or_reference(key.schema.clone())["anyOf"].take());
            // A key has either a default or an example.
            if let (Some(shown), None) = (&key.value, &key.example)
                && let Ok(table) = format!("value = {}", shown.toml).parse::<toml::Table>()
            {
                schema.insert("default".to_owned(), json!(table["value"]));
            }
            Json::Object(schema)
        }
    }
}

/// Puts an entry's schema at its path below the root. The index `0` stands for the items of a repeated table.
fn place(root: &mut Json, entry: &Entry) {
    let (table, name) = entry.path.rsplit_once('.').unwrap_or(("", &entry.path));
    let mut at = root;
    for part in table.split('.').filter(|part| !part.is_empty()) {
        at = if is_index(part) { &mut at["items"] } else { &mut at["properties"][part] };
    }
    if let Form::Key(KeyForm { is_required: true, .. }) = &entry.form {
        let mut required = at["required"].as_array().cloned().unwrap_or_default();
        required.push(json!(name));
        at["required"] = json!(required);
    }
    at["properties"][name] = schema_of(entry);
}
