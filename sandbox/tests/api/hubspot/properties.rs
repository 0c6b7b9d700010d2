//! Properties: listed, made, refused.

use hookline_sandbox::HubSpotObject;
use serde_json::{Value, json};

use super::{Crm, but};

fn key() -> Value {
    json!({
        "name": "textus_contact_id", "label": "TextUs contact", "type": "string", "fieldType": "text",
        "groupName": "contactinformation", "hasUniqueValue": true,
    })
}

#[tokio::test]
async fn a_property_is_made_once() {
    let crm = Crm::start().await;
    for (path, expected) in [
        ("/crm/properties/2026-09/contacts", 201),
        ("/crm/properties/2026-09/contacts", 409),
        ("/crm/v3/properties/contacts", 409),
    ] {
        let (status, answered) = crm.post(path, &key()).await;
        assert_eq!(status, expected, "{answered}");
    }

    let (_, list) = crm.get("/crm/v3/properties/contacts").await;
    let named = |name: &str| list["results"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
    let made = named("textus_contact_id").expect("the new property");
    assert_eq!((&made["hasUniqueValue"], &made["hubspotDefined"]), (&json!(true), &json!(false)));
    let phone = named("phone").expect("HubSpot's own");
    assert_eq!((&phone["hasUniqueValue"], &phone["groupName"]), (&json!(false), &json!("contactinformation")));
    let computed = named("hs_calculated_phone_number").expect("HubSpot's own");
    assert_eq!(computed["modificationMetadata"]["readOnlyValue"], json!(true));
    assert_eq!(crm.get("/crm/properties/2026-09/contacts/textus_contact_id").await.1, *made);
    assert_eq!(crm.get("/crm/properties/2026-09/contacts/absent").await.0, 404);
    assert_eq!(crm.hubspot.property(HubSpotObject::Contact, "textus_contact_id"), Some(true));
    crm.assert_proper();
}

#[tokio::test]
async fn a_new_property_can_be_written_and_read_at_once() {
    let crm = Crm::start().await;
    assert_eq!(crm.post("/crm/v3/properties/contacts", &key()).await.0, 201);

    let (status, _) = crm.create("contacts", json!({ "lastname": "Doe", "textus_contact_id": "c1" })).await;

    assert_eq!(status, 201);
    assert_eq!(crm.get("/crm/v3/objects/contacts/c1?idProperty=textus_contact_id").await.0, 200);
}

#[tokio::test]
async fn notes_and_communications_take_a_unique_property_only_where_told_to() {
    let crm = Crm::start().await;
    let key = but(key(), json!({ "groupName": "engagement" }));
    for objects in ["notes", "communications"] {
        let path = format!("/crm/v3/properties/{objects}");
        assert_eq!(crm.post(&path, &key).await.0, 400, "{objects}");
        let plain = but(key.clone(), json!({ "hasUniqueValue": false, "name": "plain" }));
        assert_eq!(crm.post(&path, &plain).await.0, 201, "{objects}");
    }
    crm.hubspot.configure(|options| options.unique_properties_on_engagements = true);
    for objects in ["notes", "communications"] {
        assert_eq!(crm.post(&format!("/crm/v3/properties/{objects}"), &key).await.0, 201, "{objects}");
    }
    crm.assert_proper();
}

#[tokio::test]
async fn a_malformed_property_is_refused() {
    let crm = Crm::start().await;
    for changes in [
        json!({ "name": null }),
        json!({ "label": null }),
        json!({ "type": null }),
        json!({ "fieldType": null }),
        json!({ "groupName": null }),
        json!({ "name": "Textus" }),
        json!({ "name": "textus contact" }),
        json!({ "type": "boolean" }),
        json!({ "type": "datetime" }),
        json!({ "type": "bool", "fieldType": "booleancheckbox" }),
        json!({ "type": "enumeration", "fieldType": "select", "hasUniqueValue": false }),
        json!({ "unique": true }),
    ] {
        let (status, refusal) = crm.post("/crm/v3/properties/contacts", &but(key(), changes.clone())).await;
        assert_eq!(status, 400, "{changes} {refusal}");
    }
    assert_eq!(crm.violations().len(), 12);
}

#[tokio::test]
async fn a_group_must_exist_and_can_be_made() {
    let crm = Crm::start().await;
    let own = but(key(), json!({ "groupName": "texting" }));
    assert_eq!(crm.post("/crm/v3/properties/contacts", &own).await.0, 400);

    let group = json!({ "name": "texting", "label": "Texting" });
    assert_eq!(crm.post("/crm/v3/properties/contacts/groups", &group).await.0, 201);
    assert_eq!(crm.post("/crm/properties/2026-09/contacts/groups", &group).await.0, 409);

    assert_eq!(crm.post("/crm/v3/properties/contacts", &own).await.0, 201);
    let (_, groups) = crm.get("/crm/v3/properties/contacts/groups").await;
    assert_eq!(groups["results"].as_array().map(Vec::len), Some(2));
    crm.assert_proper();
}

#[tokio::test]
async fn an_object_has_at_most_ten_unique_properties() {
    let crm = Crm::start().await;
    for number in 0..10 {
        let one = but(key(), json!({ "name": format!("key_{number}") }));
        assert_eq!(crm.post("/crm/v3/properties/contacts", &one).await.0, 201);
    }
    assert_eq!(crm.post("/crm/v3/properties/contacts", &key()).await.0, 400);
}

#[tokio::test]
async fn a_flag_and_a_time_can_be_properties() {
    let crm = Crm::start().await;
    for (name, kind, field) in [("sms_opted_out", "bool", "booleancheckbox"), ("sms_opted_out_at", "datetime", "date")]
    {
        let property = json!({
            "name": name, "label": name, "type": kind, "fieldType": field, "groupName": "contactinformation",
        });
        assert_eq!(crm.post("/crm/properties/2026-09/contacts", &property).await.0, 201, "{name}");
    }
    let properties = json!({ "lastname": "Doe", "sms_opted_out": "true", "sms_opted_out_at": "2026-11-02T15:04:05Z" });
    assert_eq!(crm.create("contacts", properties).await.0, 201);
}

#[tokio::test]
async fn making_a_property_needs_the_scope_for_schemas() {
    let crm = Crm::start().await;
    crm.hubspot.configure(|options| options.scopes.retain(|scope| scope != "crm.schemas.contacts.write"));

    let (status, refusal) = crm.post("/crm/v3/properties/contacts", &key()).await;

    let needed = &refusal["errors"][0]["context"]["requiredGranularScopes"];
    assert_eq!((status, needed), (403, &json!(["crm.schemas.contacts.write"])));
}
