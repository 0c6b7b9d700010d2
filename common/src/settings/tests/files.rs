//! The generated files in `config/`.

use super::super::catalogue::{CATALOGUE, is_index};
use super::super::visit::Form;
use super::*;

const HOW: &str = "is not what the keys say; run `cargo run -p hookline-common --example settings_files`";

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name);
    std::fs::read_to_string(path).expect("the file is there")
}

fn key_lines(text: &str) -> impl Iterator<Item = &str> {
    let is_key = |line: &&str| {
        line.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    };
    text.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).filter(is_key)
}

#[test]
fn the_example_is_the_defaults() {
    let text = file("hookline.example.toml");

    assert_eq!(text, example(), "config/hookline.example.toml {HOW}");
    assert_eq!(settings(&text, &[]), Settings::defaults());
}

#[test]
fn the_example_has_every_key_and_all_of_it_is_a_good_configuration() {
    let text = file("hookline.example.toml");
    // We switch on what is commented out.
    let mut all = String::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_off = line.starts_with("# ") && (bare == "[[sources]]" || key_lines(bare).next().is_some());
        all.push_str(if is_off { bare } else { line });
        all.push('\n');
    }
    let secrets = [
        "LEDGER_KEY",
        "TEXTUS_WEBHOOK_SECRET",
        "TEXTUS_API_TOKEN",
        "HUBSPOT_TOKEN",
        "SALESFORCE_CLIENT_ID",
        "SALESFORCE_CLIENT_SECRET",
    ]
    .map(|name| (name, SECRET));
    let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let places = [("BROKER_URL", "amqps://hookline:x@rabbit.example"), ("STORE_URL", "postgres://hookline:x@host/db")];
    let signing = [("HTTP_RECORD_SECRET", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4")];
    let variables = [&secrets[..], &places, &signing, &[("SALESFORCE_JWT_KEY", key.as_str())]].concat();
    let needs = Needs { certificates: false, ..Needs::RUN };
    let loaded = Folder::with(&all).load(needs, &variables).expect("a good configuration");

    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.sources.len(), 1);
    let keys = CATALOGUE.iter().filter(|entry| matches!(entry.form, Form::Key(_))).count();
    assert_eq!(key_lines(&text).count(), keys);
}

#[test]
fn the_schema_is_generated_from_the_keys() {
    let schema: serde_json::Value = serde_json::from_str(&file("hookline.schema.json")).expect("JSON");
    assert_eq!(schema, json_schema(), "config/hookline.schema.json {HOW}");

    for entry in CATALOGUE.iter() {
        let pointer = entry.path.split('.').fold(String::new(), |pointer, part| {
            if is_index(part) { format!("{pointer}/items") } else { format!("{pointer}/properties/{part}") }
        });
        let found = schema.pointer(&pointer).unwrap_or_else(|| panic!("{} is in the schema", entry.path));
        assert_eq!(found["description"], entry.doc);
    }
}
