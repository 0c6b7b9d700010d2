use hookline_common::settings::HubSpotObject;
use hookline_sandbox::hubspot::HubSpotObject as Object;
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::records::hubspot::set_up::{Found, NoteKey, VendorSync};

use crate::helpers::TestCrm;

#[tokio::test]
async fn what_is_missing_is_made_and_then_found() {
    let test = TestCrm::bare(HubSpotObject::Note, |options| options.unique_properties_on_engagements = true).await;
    let needed = [test.hubspot.contact_properties(), vec![test.hubspot.note_property()]].concat();

    for property in &needed {
        assert_eq!(test.hubspot.look_for(test.log(), property).await.unwrap(), Found::Missing, "{}", property.name);
        test.hubspot.create_property(test.log(), property).await.unwrap();
        assert_eq!(test.hubspot.look_for(test.log(), property).await.unwrap(), Found::Good, "{}", property.name);
        // Whoever makes it a second time finds it there.
        test.hubspot.create_property(test.log(), property).await.unwrap();
    }

    assert_eq!(test.crm.property(Object::Contact, "textus_contact_id"), Some(true));
    assert_eq!(test.crm.property(Object::Contact, "sms_opted_out"), Some(false));
    test.check();
}

#[tokio::test]
async fn the_upsert_of_notes_is_tried_and_leaves_nothing_behind() {
    for (object, in_sandbox) in
        [(HubSpotObject::Note, Object::Note), (HubSpotObject::Communication, Object::Communication)]
    {
        let test = TestCrm::bare(object, |_| {}).await;
        let without = test.hubspot.try_note_key(test.log()).await.unwrap();
        assert!(matches!(without, NoteKey::LookUp(_)), "{without:?}");

        test.crm.add_property(in_sandbox, "textus_thread_key", true);
        assert_eq!(test.hubspot.try_note_key(test.log()).await.unwrap(), NoteKey::Upsert);
        assert_eq!(test.hubspot.try_note_key(test.log()).await.unwrap(), NoteKey::Upsert, "again");

        assert!(test.crm.notes().is_empty() && test.crm.communications().is_empty());
        test.check();
    }
}

#[tokio::test]
async fn a_property_of_another_kind_is_no_help() {
    let test = TestCrm::bare(HubSpotObject::Communication, |_| {}).await;
    test.crm.add_property(Object::Contact, "textus_contact_id", false);
    test.crm.add_property(Object::Contact, "sms_opted_out", false);

    let needed = test.hubspot.contact_properties();

    for (property, word) in needed.iter().zip(["unique", "type"]) {
        let found = test.hubspot.look_for(test.log(), property).await.unwrap();
        assert!(matches!(&found, Found::Different(words) if words.contains(word)), "{found:?}");
    }
}

#[tokio::test]
async fn a_token_without_the_scope_for_properties_is_told() {
    let test = TestCrm::bare(HubSpotObject::Communication, |options| {
        options.scopes.retain(|scope| scope != "crm.schemas.contacts.write");
    })
    .await;
    let property = &test.hubspot.contact_properties()[0];

    let error = test.hubspot.create_property(test.log(), property).await.expect_err("refused");

    assert!(matches!(error, DestinationError::CredentialsRefused { status: 403, .. }), "{error:?}");
    // Workers don't need that scope, so they go on.
    assert_eq!(test.find(None, Some("+14155550123")).await.unwrap().len(), 0);
}

#[tokio::test]
async fn where_hubspot_does_not_tell_who_wrote_a_text_it_has_to_be_asked_elsewhere() {
    let test = TestCrm::bare(HubSpotObject::Communication, |_| {}).await;

    assert_eq!(test.hubspot.vendor_sync(test.log()).await.unwrap(), VendorSync::NotTold);
}

#[tokio::test]
async fn texts_of_another_integration_are_seen() {
    let test = TestCrm::bare(HubSpotObject::Communication, |_| {}).await;
    let sam = test.crm.add_contact(&[("lastname", "Doe")]);
    for object in [Object::Communication, Object::Note] {
        test.crm.add_property(object, "hs_object_source_detail_1", false);
    }
    let write = |body: &str| {
        let properties = [("hs_note_body", body), ("hs_object_source_detail_1", "TextUs")];
        test.crm.add_note(&properties, &[&sam]);
    };
    write("Hello<br><br>ref thread_00112233445566778899aabbccddeeff");
    assert_eq!(test.hubspot.vendor_sync(test.log()).await.unwrap(), VendorSync::NotSeen, "that one is ours");

    write("Logged by TextUs");
    assert_eq!(test.hubspot.vendor_sync(test.log()).await.unwrap(), VendorSync::Seen(1));
}
