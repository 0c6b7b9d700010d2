//! The metadata package in deploy/salesforce/ names exactly what the default configuration needs. scripts/validate checks
//! that each file is XML.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hookline_common::settings::Settings;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/salesforce")
}

/// Returns what stands between these tags, each time.
fn between<'a>(text: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    text.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0.trim())).collect()
}

fn names<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    texts.into_iter().map(str::to_owned).collect()
}

/// Returns the fields that the default configuration names, as `Object.Field`, with the type of each.
fn needed() -> Vec<(String, &'static str)> {
    let own = Settings::defaults().system_of_record.salesforce;
    let opted_out_at = own.opted_out_field.replace("__c", "_At__c");
    let mut fields = vec![(format!("Activity.{}", own.task_key_field), "key")];
    for object in ["Contact", "Lead"] {
        for (name, kind) in [
            (own.person_key_field.as_str(), "key"),
            (own.opted_out_field.as_str(), "Checkbox"),
            (opted_out_at.as_str(), "DateTime"),
            ("SMS_Opted_In_At__c", "DateTime"),
            ("SMS_Opt_Out_Source__c", "Text"),
        ] {
            fields.push((format!("{object}.{name}"), kind));
        }
    }
    fields
}

#[test]
fn the_package_has_the_fields_of_the_default_configuration_and_no_other() {
    let objects = package().join("force-app/main/default/objects");
    let mut found = BTreeSet::new();
    for object in std::fs::read_dir(&objects).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let fields = std::fs::read_dir(object.join("fields")).expect("a directory");
        for file in fields.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")) {
            let name = file.strip_suffix(".field-meta.xml").expect("a field");
            found.insert(format!("{}.{name}", object.file_name().expect("a name").to_string_lossy()));
        }
    }
    assert_eq!(found, needed().into_iter().map(|(name, _)| name).collect());

    for (name, kind) in needed() {
        let (object, field) = name.split_once('.').expect("two parts");
        let path = objects.join(object).join("fields").join(format!("{field}.field-meta.xml"));
        let text = std::fs::read_to_string(path).expect("a file");
        let one = |tag: &str| between(&text, tag).first().copied().unwrap_or_default().to_owned();
        assert_eq!(one("fullName"), field);
        let is_key = kind == "key";
        assert_eq!(one("type"), if is_key { "Text" } else { kind }, "{name}");
        assert_eq!(one("externalId"), is_key.to_string(), "{name}");
        for tag in ["unique", "caseSensitive"] {
            assert_eq!(one(tag) == "true", is_key, "{name} {tag}");
        }
    }
}

#[test]
fn the_manifest_and_the_permission_set_name_the_same_fields() {
    let fields: BTreeSet<String> = needed().into_iter().map(|(name, _)| name).collect();
    let manifest = std::fs::read_to_string(package().join("manifest/package.xml")).expect("a file");
    let mut members = names(between(&manifest, "members"));
    assert!(members.remove("Hookline"), "the permission set");
    assert_eq!(members, fields);

    let set = package().join("force-app/main/default/permissionsets/Hookline.permissionset-meta.xml");
    let set = std::fs::read_to_string(set).expect("a file");
    let custom = between(&set, "field").into_iter().filter(|field| field.ends_with("__c"));
    // The permissions of an activity's field are those of Task.
    let custom: BTreeSet<String> = custom.map(|field| field.replace("Task.", "Activity.")).collect();
    assert_eq!(custom, fields);
    assert_eq!(between(&set, "editable").len(), between(&set, "field").len());
    assert!(!set.contains("<editable>false</editable>"));
    assert_eq!(names(between(&set, "object")), names(["Account", "Contact", "Lead"]));
    for all in ["modifyAllRecords", "allowDelete"] {
        assert!(between(&set, all).iter().all(|value| *value == "false"), "{all}");
    }
}
