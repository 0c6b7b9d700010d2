//! Reads, changes and archives one record.

use hookline_sandbox::HubSpotObject;
use serde_json::{Value, json};

use super::{Crm, a_text, id};

#[tokio::test]
async fn a_contact_is_read_with_the_properties_that_were_asked_for() {
    let crm = Crm::start().await;
    let properties = [("phone", "(415) 555-0123"), ("mobilephone", "+44 20 7946 0958"), ("email", "Sam@Example.com")];
    let sam = crm.hubspot.add_contact(&properties);

    let (status, plain) = crm.get(&format!("/crm/v3/objects/contacts/{sam}")).await;
    assert_eq!((status, &plain["properties"]["email"]), (200, &json!("sam@example.com")));
    assert_eq!(plain["properties"]["lastname"], Value::Null);
    assert!(plain["properties"]["createdate"].is_string() && plain["properties"].get("phone").is_none());

    let names = [
        "hs_calculated_phone_number",
        "hs_calculated_mobile_number",
        "hs_searchable_calculated_phone_number",
        "hs_searchable_calculated_mobile_number",
        "absent",
    ];
    let (_, asked) = crm.get(&format!("/crm/v3/objects/contacts/{sam}?properties={}", names.join(","))).await;
    let values: Vec<&Value> = names.iter().map(|name| &asked["properties"][name]).collect();
    assert_eq!(
        values,
        ["+14155550123", "+442079460958", "4155550123", "2079460958"]
            .map(Value::from)
            .iter()
            .chain([&Value::Null])
            .collect::<Vec<_>>()
    );
    assert_eq!(asked["properties"]["hs_object_id"], sam.as_str());
    crm.assert_proper();
}

#[tokio::test]
async fn a_record_is_read_by_a_unique_property_only() {
    let crm = Crm::keyed().await;
    crm.hubspot.add_property(HubSpotObject::Communication, "label", false);
    let text = crm.hubspot.add_communication(&[("textus_thread_key", "a/b c"), ("label", "x")], &[]);
    let path = "/crm/objects/2026-09/communications";

    let (status, found) = crm.get(&format!("{path}/a%2Fb%20c?idProperty=textus_thread_key&properties=label")).await;
    assert_eq!((status, id(&found), &found["properties"]["label"]), (200, text, &json!("x")));
    assert_eq!(crm.get(&format!("{path}/other?idProperty=textus_thread_key")).await.0, 404);
    assert_eq!(crm.get(&format!("{path}/x?idProperty=label")).await.0, 400);
    assert_eq!(crm.get(&format!("{path}/x?idProperty=absent")).await.0, 400);
    crm.hubspot.add_contact(&[("email", "sam@example.com")]);
    assert_eq!(crm.get("/crm/v3/objects/contacts/Sam%40example.com?idProperty=email").await.0, 200);
    crm.assert_proper();
    assert_eq!(crm.get(&format!("{path}/x?idproperty=label")).await.0, 400);
    assert_eq!(crm.violations(), ["the call has no parameter idproperty"]);
}

#[tokio::test]
async fn what_is_absent_or_of_another_kind_is_not_found() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    for path in ["contacts/99", "contacts/x", &format!("notes/{sam}"), &format!("communications/{sam}")] {
        let (status, refusal) = crm.get(&format!("/crm/v3/objects/{path}")).await;
        assert_eq!((status, &refusal["category"]), (404, &json!("OBJECT_NOT_FOUND")), "{path}");
    }
    crm.assert_proper();
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_clears_with_an_empty_text() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("firstname", "Sam"), ("phone", "4155550123")]);
    let path = format!("/crm/objects/2026-09/contacts/{sam}");

    let (status, changed) = crm.patch(&path, json!({ "phone": "", "mobilephone": "415-555-0199" })).await;

    assert_eq!((status, &changed["properties"]["mobilephone"]), (200, &json!("415-555-0199")));
    let seen = &crm.hubspot.contacts()[0];
    assert_eq!((seen.get("firstname"), seen.get("phone")), ("Sam", ""));
    assert_eq!(seen.get("hs_calculated_phone_number"), "");
    assert_eq!(seen.get("hs_searchable_calculated_mobile_number"), "4155550199");
    assert_eq!(crm.patch("/crm/objects/2026-09/contacts/99", json!({})).await.0, 404);
    crm.assert_proper();
}

#[tokio::test]
async fn an_archived_record_is_gone() {
    let crm = Crm::start().await;
    let (_, created) = crm.create("communications", a_text()).await;
    let path = format!("/crm/objects/2026-09/communications/{}", id(&created));
    assert_eq!(crm.hubspot.orphans(), [id(&created)]);

    assert_eq!(crm.delete(&path).await.0, 204);

    assert_eq!(crm.get(&path).await.0, 404);
    assert_eq!(crm.patch(&path, json!({})).await.0, 404);
    assert_eq!(crm.delete(&path).await.0, 404, "a repeat");
    assert!(crm.hubspot.communications().is_empty() && crm.hubspot.orphans().is_empty());
}

#[tokio::test]
async fn values_have_the_kind_of_their_property() {
    let crm = Crm::start().await;
    for (name, kind) in
        [("sms_opted_out", "bool"), ("sms_opted_out_at", "datetime"), ("age", "number"), ("day", "date")]
    {
        crm.hubspot.add_typed_property(HubSpotObject::Contact, name, kind);
    }
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let path = format!("/crm/objects/2026-09/contacts/{sam}");
    for (name, value, stored) in [
        ("sms_opted_out", "true", Some("true")),
        ("sms_opted_out", "yes", None),
        ("sms_opted_out", "", Some("")),
        ("sms_opted_out_at", "2026-11-02T15:04:05.678901Z", Some("2026-11-02T15:04:05.678Z")),
        ("sms_opted_out_at", "2026-11-02", None),
        ("age", "41.5", Some("41.5")),
        ("age", "old", None),
        ("day", "2026-11-02", Some("2026-11-02")),
        ("day", "1793631845000", None),
    ] {
        let (status, body) = crm.patch(&path, json!({ name: value })).await;
        assert_eq!(status, if stored.is_some() { 200 } else { 400 }, "{name} {value} {body}");
        if let Some(stored) = stored {
            assert_eq!(crm.hubspot.contacts()[0].get(name), stored, "{name} {value}");
        }
    }
}
