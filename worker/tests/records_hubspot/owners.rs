use hookline_common::settings::HubSpotObject;
use hookline_sandbox::hubspot::{HubSpotEndpoint as E, HubSpotObject as Object};
use hookline_worker::records::SystemOfRecord as _;

use crate::helpers::{PHONE, Part, TestCrm};

const NOTES: Object = Object::Communication;
const ANA: &str = "ana@acme.example";

fn owned(owner: &str) -> Part {
    Part { owner: Some(owner.to_owned()), ..Part::new("Hello") }
}

#[tokio::test]
async fn an_owner_is_found_by_address_in_whatever_case_unless_deactivated() {
    let test = TestCrm::start().await;
    let ana = test.crm.add_owner("Ana@Acme.example");
    let gone = test.crm.add_owner("gone@acme.example");
    test.crm.archive_owner(&gone);

    for (email, expected) in [(ANA, Some(ana.as_str())), ("gone@acme.example", None), ("x+y@acme.example", None)] {
        let found = test.hubspot.find_owner(test.log(), email).await.expect("an answer");
        assert_eq!(found.as_deref(), expected, "{email}");
    }
    let shown = format!("{:?}", test.log().records());
    assert!(shown.contains("/crm/owners/") && !shown.contains("acme"), "{shown}");
    test.check();
}

#[tokio::test]
async fn a_token_that_may_not_see_owners_is_good_for_all_else() {
    let test = TestCrm::with(HubSpotObject::Communication, |options| {
        options.scopes.retain(|scope| !scope.contains("owners"));
    })
    .await;
    let sam = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);

    test.hubspot.find_owner(test.log(), ANA).await.expect_err("a missing scope");
    assert!(!test.hubspot.may_read_owners(test.log()).await.expect("an answer"));

    test.write(&sam, &Part::new("Hello")).await.expect("nothing is paused");
    test.check();
}

#[tokio::test]
async fn each_way_of_writing_a_note_sets_its_owner() {
    for with_key in [false, true] {
        let test = TestCrm::start().await;
        if with_key {
            test.crm.add_property(NOTES, "textus_thread_key", true);
        }
        let sam = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);
        let [ana, bo] = [ANA, "bo@acme.example"].map(|email| test.crm.add_owner(email));
        let owner = || test.crm.communications()[0].get("hubspot_owner_id").to_owned();

        let id = test.write(&sam, &owned(&ana)).await.unwrap();
        assert_eq!(owner(), ana, "{with_key}");
        // A change by somebody else; without an owner the present one stays.
        test.write(&sam, &Part { owner: None, ..owned("") }.again(&id, "Hello again")).await.unwrap();
        assert_eq!(owner(), ana, "{with_key}");
        test.write(&sam, &owned(&bo).again(&id, "Hello, Bo")).await.unwrap();
        assert_eq!(owner(), bo, "{with_key}");
        test.check();
    }
}

#[tokio::test]
async fn an_owner_who_is_refused_keeps_no_note_from_being_written() {
    for with_key in [false, true] {
        let test = TestCrm::start().await;
        if with_key {
            test.crm.add_property(NOTES, "textus_thread_key", true);
        }
        let sam = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);
        let gone = test.crm.add_owner(ANA);
        test.crm.archive_owner(&gone);
        test.crm.clear_requests();

        let id = test.write(&sam, &owned(&gone)).await.unwrap();
        let first = test.crm.requests().len();
        test.write(&sam, &owned(&gone).again(&id, "Hello again")).await.unwrap();

        // The refusal is remembered, and writing by key goes on.
        assert_eq!(test.crm.requests().len(), first + 1, "{with_key}");
        let upserts = test.crm.requests_to(E::BatchUpsert(NOTES));
        assert_eq!(upserts, if with_key { 2 } else { 0 });
        assert_eq!(test.crm.communications().len(), 1);
        assert_eq!(test.crm.communications()[0].get("hubspot_owner_id"), "");
        test.check();
    }
}

#[tokio::test]
async fn a_person_who_is_gone_is_told_from_an_owner_who_is_refused() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);
    test.crm.delete_contact(&sam);
    let ana = test.crm.add_owner(ANA);

    let failed = test.write(&sam, &owned(&ana)).await.expect_err("nobody");

    assert!(matches!(failed, hookline_worker::records::NoteError::PersonIsGone), "{failed:?}");
    let bo = test.crm.add_contact(&[("lastname", "Roe")]);
    test.write(&bo, &owned(&ana)).await.unwrap();
    assert_eq!(test.crm.communications()[0].get("hubspot_owner_id"), ana, "Ana was not refused");
    test.check();
}
