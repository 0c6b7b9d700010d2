//! What a create needs, and what the stand-in refuses of it.

use reqwest::Method;
use serde_json::json;

use super::{Crm, a_text, but, codes, id, to_contact};
use crate::helpers::answer;

#[tokio::test]
async fn a_text_is_created_on_its_contacts_timeline_in_one_call() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);

    for path in ["/crm/v3/objects/communications", "/crm/objects/2026-09/communications", "/crm/objects/2026-03/0-18"] {
        let body = json!({ "properties": a_text(), "associations": to_contact(&sam, 81) });
        let (status, created) = crm.post(path, &body).await;

        assert_eq!(status, 201, "{created}");
        assert_eq!(created["properties"]["hs_communication_body"], "Hello");
        assert_eq!(created["properties"]["hs_timestamp"], "2026-11-02T15:04:05Z");
        assert_eq!((&created["archived"], created["createdAt"].is_string()), (&json!(false), true));
    }
    let texts = crm.hubspot.communications();
    assert_eq!(texts.len(), 3);
    assert!(texts.iter().all(|text| text.contacts == [sam.clone()] && text.get("hs_communication_body") == "Hello"));
    assert!(crm.hubspot.orphans().is_empty());
    crm.assert_proper();
}

#[tokio::test]
async fn a_note_takes_its_time_in_both_forms() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);

    for time in ["1793631845000", "2026-11-02T15:04:05Z"] {
        let properties = json!({ "hs_timestamp": time, "hs_note_body": "Hello" });
        let body = json!({ "properties": properties, "associations": to_contact(&sam, 202) });
        assert_eq!(crm.post("/crm/v3/objects/notes", &body).await.0, 201);
    }

    let notes = crm.hubspot.notes();
    assert!(notes.iter().all(|note| note.get("hs_timestamp") == "2026-11-02T15:04:05Z"));
    assert!(notes.iter().all(|note| note.contacts == [sam.clone()]));
    crm.assert_proper();
}

#[tokio::test]
async fn the_associations_key_is_required() {
    let crm = Crm::start().await;

    let (status, refusal) = crm.post("/crm/v3/objects/communications", &json!({ "properties": a_text() })).await;

    assert_eq!((status, &refusal["status"], &refusal["category"]), (400, &json!("error"), &json!("VALIDATION_ERROR")));
    assert!(refusal["message"].is_string() && refusal["correlationId"].is_string());
    assert!(crm.hubspot.communications().is_empty());
    assert_eq!(crm.violations().len(), 1);
}

#[tokio::test]
async fn each_kind_has_required_properties() {
    let crm = Crm::start().await;
    for (objects, properties) in [
        ("communications", but(a_text(), json!({ "hs_communication_channel_type": null }))),
        ("communications", but(a_text(), json!({ "hs_communication_logged_from": null }))),
        ("communications", but(a_text(), json!({ "hs_communication_channel_type": "FAX" }))),
        ("communications", but(a_text(), json!({ "hs_communication_logged_from": "TEXTUS" }))),
        ("communications", but(a_text(), json!({ "hs_timestamp": "yesterday" }))),
        ("communications", but(a_text(), json!({ "hs_timestamp": 1_793_631_845_000_i64 }))),
        ("notes", json!({ "hs_note_body": "Hello" })),
        ("contacts", json!({ "phone": "+14155550123" })),
        ("contacts", json!({ "phone": "+14155550123", "lastname": "" })),
    ] {
        let (status, body) = crm.create(objects, properties.clone()).await;
        assert_eq!(status, 400, "{objects} {properties} {body}");
    }
    for name in ["email", "firstname", "lastname"] {
        assert_eq!(crm.create("contacts", json!({ name: "a" })).await.0, 201, "{name}");
    }
    // Without a time, a text is logged all the same.
    assert_eq!(crm.create("communications", but(a_text(), json!({ "hs_timestamp": null }))).await.0, 201);
}

#[tokio::test]
async fn a_property_that_the_account_lacks_is_refused_by_its_name() {
    let crm = Crm::start().await;

    let (status, refusal) = crm.create("communications", but(a_text(), json!({ "sms_key": "a", "other": "b" }))).await;

    assert_eq!((status, codes(&refusal)), (400, vec!["PROPERTY_DOESNT_EXIST", "PROPERTY_DOESNT_EXIST"]));
    assert_eq!(refusal["errors"][1]["context"]["propertyName"], json!(["sms_key"]));
    assert!(refusal["message"].as_str().is_some_and(|text| text.contains("\"sms_key\\\" does not exist")), "{refusal}");
    assert!(crm.hubspot.communications().is_empty());
    crm.assert_proper();
}

#[tokio::test]
async fn computed_properties_cannot_be_written() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("phone", "(415) 555-0123")]);

    for name in [
        "hs_calculated_phone_number",
        "hs_searchable_calculated_mobile_number",
        "hs_object_id",
        "createdate",
        "hs_merged_object_ids",
    ] {
        let (status, refusal) = crm.patch(&format!("/crm/v3/objects/contacts/{sam}"), json!({ name: "1" })).await;
        assert_eq!((status, codes(&refusal)), (400, vec!["READ_ONLY_VALUE"]), "{name}");
    }
    assert_eq!(crm.hubspot.contacts()[0].get("hs_calculated_phone_number"), "+14155550123");
}

#[tokio::test]
async fn a_body_has_at_most_65536_characters() {
    let crm = Crm::start().await;
    // Characters are counted, not bytes.
    let longest = "é".repeat(65_536);
    let too_long = format!("{longest}x");
    for (objects, name, base) in [
        ("communications", "hs_communication_body", a_text()),
        ("notes", "hs_note_body", json!({ "hs_timestamp": "2026-11-02T15:04:05Z" })),
    ] {
        let (status, _) = crm.create(objects, but(base.clone(), json!({ name: longest }))).await;
        assert_eq!(status, 201, "{objects}");
        let (status, refusal) = crm.create(objects, but(base, json!({ name: too_long }))).await;
        assert_eq!((status, codes(&refusal)), (400, vec!["VALUE_TOO_LONG"]), "{objects}");
    }
}

#[tokio::test]
async fn a_malformed_request_is_a_violation() {
    let crm = Crm::start().await;
    let path = "/crm/v3/objects/communications";
    for body in [
        json!([]),
        json!({ "properties": [], "associations": [] }),
        json!({ "properties": { "hs_timestamp": null }, "associations": [] }),
        json!({ "properties": a_text(), "associations": {} }),
        json!({ "properties": a_text(), "associations": [], "idProperty": "key" }),
        json!({ "properties": a_text(), "associations": [{ "to": { "id": "1" }, "types": [] }] }),
        json!({ "properties": a_text(), "associations": [{ "to": {}, "types": [] }] }),
    ] {
        assert_eq!(crm.post(path, &body).await.0, 400, "{body}");
    }
    assert_eq!(crm.violations().len(), 7);
    let no_json = crm.request(Method::POST, path).header("Content-Type", "application/json").body("{");
    assert_eq!(answer(no_json).await.0, 400);
    let no_type = crm.request(Method::POST, path).body("{}");
    assert_eq!(answer(no_type).await.0, 415);
    let with_body = crm.request(Method::GET, &format!("{path}/1")).json(&json!({}));
    assert_eq!(answer(with_body).await.0, 400);
    assert_eq!(crm.put("/crm/v3/objects/communications").await.0, 405);
    assert_eq!(crm.get("/crm/v5/objects/communications/1").await.0, 404);
    assert_eq!(crm.violations().len(), 12);
    assert!(crm.hubspot.communications().is_empty());
}

#[tokio::test]
async fn the_token_and_its_scopes_are_checked() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let path = format!("/crm/objects/2026-09/contacts/{sam}");

    for request in [crm.bare(Method::GET, &path), crm.bare(Method::GET, &path).bearer_auth("another")] {
        let (status, refusal) = answer(request).await;
        assert_eq!((status, &refusal["category"]), (401, &json!("INVALID_AUTHENTICATION")));
    }
    crm.hubspot.configure(|options| options.scopes = vec!["crm.objects.contacts.read".to_owned()]);
    assert_eq!(crm.get(&path).await.0, 200);
    let (status, refusal) = crm.patch(&path, json!({ "firstname": "Sam" })).await;
    assert_eq!((status, &refusal["category"]), (403, &json!("MISSING_SCOPES")));
    let needed = &refusal["errors"][0]["context"]["requiredGranularScopes"];
    assert_eq!(needed, &json!(["crm.objects.contacts.write"]));
    assert_eq!(crm.get("/crm/v3/properties/notes").await.0, 200);
    crm.assert_proper();
}

#[tokio::test]
async fn a_version_can_be_missing() {
    let crm = Crm::with(|options| {
        options.numbered_versions = false;
        options.dated_versions = vec!["2026-09".to_owned()];
    })
    .await;

    let (_, created) = crm.create("contacts", json!({ "lastname": "Doe" })).await;

    assert_eq!(crm.get(&format!("/crm/objects/2026-09/contacts/{}", id(&created))).await.0, 200);
    assert_eq!(crm.get(&format!("/crm/objects/2026-03/contacts/{}", id(&created))).await.0, 404);
    assert_eq!(crm.get(&format!("/crm/v3/objects/contacts/{}", id(&created))).await.0, 404);
}
