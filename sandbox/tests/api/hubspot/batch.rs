//! Batches of reads and upserts.

use hookline_sandbox::HubSpotObject;
use serde_json::{Value, json};

use super::{Crm, KEY, a_text, but, id, ids};

fn input(key: &str, properties: Value) -> Value {
    json!({ "id": key, "idProperty": KEY, "properties": properties })
}

fn traced(key: &str, properties: Value) -> Value {
    but(input(key, properties), json!({ "objectWriteTraceId": key }))
}

#[tokio::test]
async fn an_upsert_creates_once_and_updates_then() {
    let crm = Crm::keyed().await;
    let path = "/crm/v3/objects/communications/batch/upsert";

    let (status, created) = crm.post(path, &json!({ "inputs": [traced("k", a_text())] })).await;
    assert_eq!((status, &created["status"], &created["results"][0]["new"]), (200, &json!("COMPLETE"), &json!(true)));
    let (status, updated) =
        crm.post(path, &json!({ "inputs": [input("k", json!({ "hs_communication_body": "Changed" }))] })).await;

    assert_eq!((status, &updated["results"][0]["new"]), (200, &json!(false)));
    assert_eq!(ids(&created), ids(&updated));
    let texts = crm.hubspot.communications();
    assert_eq!((texts.len(), texts[0].get("hs_communication_body"), texts[0].get(KEY)), (1, "Changed", "k"));
    assert_eq!(crm.hubspot.orphans(), ids(&created), "an upsert associates nobody");
    crm.assert_proper();
}

#[tokio::test]
async fn an_upsert_needs_a_unique_property_and_takes_no_associations() {
    let crm = Crm::keyed().await;
    crm.hubspot.add_property(HubSpotObject::Communication, "label", false);
    let path = "/crm/objects/2026-09/communications/batch/upsert";
    let new = input("k", a_text());
    for (inputs, expected_violations) in [
        (json!([but(new.clone(), json!({ "idProperty": "label" }))]), 0),
        (json!([but(new.clone(), json!({ "idProperty": "hs_object_id" }))]), 0),
        (json!([but(new.clone(), json!({ "idProperty": null }))]), 1),
        (json!([but(new.clone(), json!({ "associations": [] }))]), 2),
        (json!([new, new]), 3),
        (json!([]), 4),
        (json!([input("k", but(a_text(), json!({ KEY: "l" })))]), 5),
        (json!([input("k", json!({ "hs_communication_body": "a" }))]), 6),
        (Value::from((0..101).map(|n| input(&n.to_string(), a_text())).collect::<Vec<_>>()), 7),
    ] {
        let (status, refusal) = crm.post(path, &json!({ "inputs": inputs })).await;
        assert_eq!((status, crm.violations().len()), (400, expected_violations), "{refusal}");
    }
    assert!(crm.hubspot.communications().is_empty());
    let most: Vec<Value> = (0..100).map(|n| input(&n.to_string(), a_text())).collect();
    assert_eq!(crm.post(path, &json!({ "inputs": most })).await.0, 200);
    assert_eq!(crm.hubspot.communications().len(), 100);
}

#[tokio::test]
async fn traced_inputs_are_judged_one_by_one_and_others_together() {
    let crm = Crm::keyed().await;
    let bad = but(a_text(), json!({ "absent": "a" }));
    let old = "/crm/v3/objects/communications/batch/upsert";

    let (status, _) = crm.post(old, &json!({ "inputs": [input("a", a_text()), input("b", bad.clone())] })).await;
    assert_eq!((status, crm.hubspot.communications().len()), (400, 0));

    let mixed = json!({ "inputs": [traced("a", a_text()), traced("b", bad)] });
    let (status, partly) = crm.post(old, &mixed).await;
    assert_eq!((status, &partly["numErrors"], partly["results"].as_array().map(Vec::len)), (207, &json!(1), Some(1)));
    assert_eq!(partly["results"][0]["objectWriteTraceId"], "a");
    assert_eq!(partly["errors"][0]["context"]["objectWriteTraceId"], json!(["b"]));

    // The newest version declares no 207.
    assert_eq!(crm.post("/crm/objects/2026-09/communications/batch/upsert", &mixed).await.0, 400);
    assert_eq!(crm.post("/crm/objects/2026-03/communications/batch/upsert", &mixed).await.0, 207);
    assert_eq!(crm.hubspot.communications().len(), 1);
}

#[tokio::test]
async fn contacts_are_upserted_by_email_or_by_the_accounts_own_key() {
    let crm = Crm::start().await;
    crm.hubspot.add_property(HubSpotObject::Contact, "textus_contact_id", true);
    let path = "/crm/objects/2026-09/contacts/batch/upsert";
    let by = |property: &str, id: &str| json!({ "inputs": [{ "id": id, "idProperty": property, "properties": { "lastname": "Doe" } }] });

    let (_, first) = crm.post(path, &by("textus_contact_id", "c1")).await;
    let (_, again) = crm.post(path, &by("textus_contact_id", "c1")).await;
    let (_, by_email) = crm.post(path, &by("email", "Sam@example.com")).await;
    let (_, by_email_again) = crm.post(path, &by("email", "sam@Example.com")).await;

    assert_eq!((ids(&first), ids(&by_email)), (ids(&again), ids(&by_email_again)));
    assert_eq!(crm.hubspot.contacts().len(), 2);
    crm.assert_proper();
}

#[tokio::test]
async fn a_batch_read_tells_what_it_did_not_find() {
    let crm = Crm::keyed().await;
    let one = crm.hubspot.add_communication(&[(KEY, "a"), ("hs_communication_body", "1")], &[]);
    let two = crm.hubspot.add_communication(&[(KEY, "b")], &[]);
    let body = json!({ "inputs": [{ "id": one }, { "id": two }], "properties": ["hs_communication_body"] });

    let (status, all) = crm.post("/crm/v3/objects/communications/batch/read", &body).await;
    assert_eq!((status, ids(&all)), (200, vec![one.clone(), two]));
    assert_eq!(all["results"][0]["properties"]["hs_communication_body"], "1");
    assert_eq!(all["results"][1]["properties"]["hs_communication_body"], Value::Null);

    let body = json!({
        "inputs": [{ "id": "a" }, { "id": "c" }],
        "properties": [],
        "propertiesWithHistory": [],
        "idProperty": KEY,
    });
    for (path, expected) in [("/crm/v3/objects", 207), ("/crm/objects/2026-09", 200)] {
        let (status, some) = crm.post(&format!("{path}/communications/batch/read"), &body).await;
        assert_eq!((status, ids(&some), &some["numErrors"]), (expected, vec![one.clone()], &json!(1)));
        assert_eq!(some["errors"][0]["context"]["ids"], json!(["c"]));
    }
    crm.assert_proper();
}

#[tokio::test]
async fn the_probe_for_unique_keys_ends_as_the_account_is() {
    let property = json!({
        "name": KEY, "label": "Thread", "type": "string", "fieldType": "text", "groupName": "engagement",
        "hasUniqueValue": true,
    });
    for works in [false, true] {
        let crm = Crm::with(|options| options.unique_properties_on_engagements = works).await;
        let (status, answered) = crm.post("/crm/v3/properties/communications", &property).await;
        assert_eq!(status, if works { 201 } else { 400 }, "{answered}");
        let (status, _) = crm
            .post("/crm/v3/objects/communications/batch/upsert", &json!({ "inputs": [input("probe", a_text())] }))
            .await;
        assert_eq!(status, if works { 200 } else { 400 });
        crm.assert_proper();
    }
}

#[tokio::test]
async fn a_hollow_upsert_shows_only_in_a_repeat() {
    let crm = Crm::with(|options| options.hollow_upserts_on_engagements = true).await;
    let property = json!({
        "name": KEY, "label": "Thread", "type": "string", "fieldType": "text", "groupName": "engagement",
        "hasUniqueValue": true,
    });
    assert_eq!(crm.post("/crm/v3/properties/communications", &property).await.0, 201);
    let path = "/crm/objects/2026-09/communications/batch/upsert";

    let (_, first) = crm.post(path, &json!({ "inputs": [input("probe", a_text())] })).await;
    let (_, again) = crm.post(path, &json!({ "inputs": [input("probe", a_text())] })).await;

    assert_eq!((&first["results"][0]["new"], &again["results"][0]["new"]), (&json!(true), &json!(true)));
    assert_ne!(ids(&first), ids(&again));
    crm.assert_proper();
}

#[tokio::test]
async fn a_batch_of_what_is_merged_or_deleted_finds_nothing() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    crm.hubspot.delete_contact(&sam);

    let body = json!({ "inputs": [{ "id": sam }], "properties": [] });
    let (status, none) = crm.post("/crm/v3/objects/contacts/batch/read", &body).await;

    assert_eq!((status, ids(&none)), (207, Vec::<String>::new()));
    let (_, created) = crm.create("contacts", json!({ "lastname": "Doe" })).await;
    assert_ne!(id(&created), sam);
}
