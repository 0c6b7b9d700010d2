//! Unique values, and two writers of one value.

use hookline_sandbox::HubSpotObject;
use serde_json::json;

use super::{Crm, KEY, a_text, but, id};

#[tokio::test]
async fn a_repeated_unique_value_is_refused_and_the_other_record_named() {
    let crm = Crm::keyed().await;
    let (status, first) = crm.create("communications", but(a_text(), json!({ KEY: "k" }))).await;
    assert_eq!(status, 201);

    let (status, refusal) = crm.create("communications", but(a_text(), json!({ KEY: "k" }))).await;
    assert_eq!(status, 400);
    let names = |body: &serde_json::Value| body["message"].as_str().is_some_and(|text| text.contains(&id(&first)));
    assert!(names(&refusal), "{refusal}");

    let (_, second) = crm.create("communications", but(a_text(), json!({ KEY: "other" }))).await;
    let (status, refusal) =
        crm.patch(&format!("/crm/v3/objects/communications/{}", id(&second)), json!({ KEY: "k" })).await;
    assert!(status == 400 && names(&refusal), "{refusal}");
    let own = format!("/crm/v3/objects/communications/{}", id(&first));
    assert_eq!(crm.patch(&own, json!({ KEY: "k" })).await.0, 200, "its own value");
    assert_eq!(crm.hubspot.communications().len(), 2);
    crm.assert_proper();

    crm.hubspot.configure(|options| options.unique_conflict_status = 409);
    assert_eq!(crm.create("communications", but(a_text(), json!({ KEY: "k" }))).await.0, 409);
    assert_eq!(crm.delete(&own).await.0, 204);
    assert_eq!(crm.create("communications", but(a_text(), json!({ KEY: "k" }))).await.0, 201, "it was freed");
}

#[tokio::test]
async fn two_contacts_with_one_email_are_a_conflict_and_with_one_phone_are_not() {
    let crm = Crm::start().await;
    let (_, first) = crm.create("contacts", json!({ "email": "sam@example.com" })).await;

    let (status, refusal) = crm.create("contacts", json!({ "email": "SAM@example.com" })).await;

    let message = format!("Contact already exists. Existing ID: {}", id(&first));
    assert_eq!((status, &refusal["message"], &refusal["category"]), (409, &json!(message), &json!("CONFLICT")));
    for _ in 0..2 {
        assert_eq!(crm.create("contacts", json!({ "lastname": "Doe", "phone": "4155550123" })).await.0, 201);
    }
    assert_eq!(crm.hubspot.contacts().len(), 3);
}

#[tokio::test]
async fn concurrent_upserts_by_one_key_make_one_record() {
    let crm = Crm::keyed().await;
    let input = json!({ "id": "k", "idProperty": KEY, "properties": a_text() });
    let body = json!({ "inputs": [input] });

    let upserts = (0..8).map(|_| crm.post("/crm/objects/2026-09/communications/batch/upsert", &body));
    let answers = futures::future::join_all(upserts).await;

    assert!(answers.iter().all(|(status, _)| *status == 200));
    let new = answers.iter().filter(|(_, body)| body["results"][0]["new"] == json!(true)).count();
    assert_eq!((new, crm.hubspot.communications().len()), (1, 1));
}

#[tokio::test]
async fn a_seeded_property_is_reported_as_it_is() {
    let crm = Crm::keyed().await;
    assert_eq!(crm.hubspot.property(HubSpotObject::Communication, KEY), Some(true));
    assert_eq!(crm.hubspot.property(HubSpotObject::Note, KEY), None);

    crm.hubspot.remove_property(HubSpotObject::Communication, KEY);

    assert_eq!(crm.hubspot.property(HubSpotObject::Communication, KEY), None);
}
