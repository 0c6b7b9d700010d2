//! Contacts that people merge, change and delete meanwhile.

use hookline_sandbox::MergedIds;
use serde_json::json;

use super::{Crm, a_text, id, ids, to_contact};

#[tokio::test]
async fn a_merge_moves_the_texts_and_the_missing_values() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe"), ("phone", "4155550123")]);
    let twin = crm.hubspot.add_contact(&[("lastname", "Dough"), ("mobilephone", "4155550199")]);
    let note = crm.hubspot.add_note(&[("hs_note_body", "Hello")], &[&twin]);

    crm.hubspot.merge(&sam, &twin);

    let contacts = crm.hubspot.contacts();
    assert_eq!((contacts.len(), contacts[0].get("lastname")), (1, "Doe"));
    assert_eq!(contacts[0].get("hs_searchable_calculated_mobile_number"), "4155550199");
    assert_eq!(contacts[0].get("hs_merged_object_ids"), twin);
    assert_eq!((&crm.hubspot.notes()[0].id, &crm.hubspot.notes()[0].contacts), (&note, &vec![sam]));
}

#[tokio::test]
async fn the_id_of_a_merged_contact_is_absent_or_names_the_primary() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let twin = crm.hubspot.add_contact(&[("lastname", "Dough")]);
    crm.hubspot.merge(&sam, &twin);
    let path = format!("/crm/objects/2026-09/contacts/{twin}");
    let text = json!({ "properties": a_text(), "associations": to_contact(&twin, 81) });

    assert_eq!(crm.get(&path).await.0, 404);
    assert_eq!(crm.patch(&path, json!({ "city": "Rome" })).await.0, 404);
    assert_eq!(crm.post("/crm/v3/objects/communications", &text).await.0, 400);
    assert_eq!(crm.get(&format!("{path}/associations/communications")).await.0, 404);

    crm.hubspot.configure(|options| options.merged_ids = MergedIds::Resolve);
    let (status, primary) = crm.get(&path).await;
    assert_eq!((status, id(&primary)), (200, sam.clone()));
    assert_eq!(crm.patch(&path, json!({ "city": "Rome" })).await.0, 200);
    assert_eq!(crm.post("/crm/v3/objects/communications", &text).await.0, 201);
    assert_eq!(crm.hubspot.communications()[0].contacts, [sam]);
    crm.assert_proper();
}

#[tokio::test]
async fn a_deleted_contact_is_gone_and_its_texts_are_not_the_clients_orphans() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let body = json!({ "properties": a_text(), "associations": to_contact(&sam, 81) });
    assert_eq!(crm.post("/crm/v3/objects/communications", &body).await.0, 201);

    crm.hubspot.delete_contact(&sam);

    assert!(crm.hubspot.contacts().is_empty() && crm.hubspot.orphans().is_empty());
    assert!(crm.hubspot.communications()[0].contacts.is_empty());
    assert_eq!(crm.get(&format!("/crm/v3/objects/contacts/{sam}")).await.0, 404);
    let search =
        json!({ "filterGroups": [{ "filters": [{ "propertyName": "lastname", "operator": "EQ", "value": "Doe" }] }] });
    assert_eq!(ids(&crm.post("/crm/v3/objects/contacts/search", &search).await.1), Vec::<String>::new());
}

#[tokio::test]
async fn a_contact_that_is_changed_by_hand_is_found_at_once() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe"), ("phone", "4155550123")]);

    crm.hubspot.change_contact(&sam, &[("phone", "4155550199"), ("lastname", "")]);

    let seen = &crm.hubspot.contacts()[0];
    assert_eq!((seen.get("hs_searchable_calculated_phone_number"), seen.get("lastname")), ("4155550199", ""));
}
