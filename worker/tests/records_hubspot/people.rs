use std::time::Duration;

use hookline_common::names::DeadReason;
use hookline_common::settings::HubSpotObject;
use hookline_sandbox::Fault;
use hookline_sandbox::hubspot::{HubSpotEndpoint as E, HubSpotObject as Object};
use hookline_worker::delivery::handler::HandlerError;
use hookline_worker::records::SystemOfRecord as _;

use crate::helpers::{CONTACT, OTHER_PHONE, PHONE, TestCrm, facts, failure, phone};

const AN_HOUR: Duration = Duration::from_secs(3600);

async fn with_lag() -> TestCrm {
    TestCrm::with(HubSpotObject::Communication, |options| options.index_lag = AN_HOUR).await
}

#[tokio::test]
async fn a_number_is_found_however_it_was_typed() {
    let test = TestCrm::start().await;
    for typed in ["(415) 555-0123", "+1 415 555 0123", "+14155550123", "415.555.0123 x7"] {
        for property in ["phone", "mobilephone"] {
            let id = test.crm.add_contact(&[("lastname", "Doe"), (property, typed), ("hubspot_owner_id", "7")]);

            assert_eq!(test.find_ids(None, Some(PHONE)).await, *std::slice::from_ref(&id), "{property} {typed}");
            test.crm.delete_contact(&id);
        }
    }
    test.check();
}

#[tokio::test]
async fn a_person_is_told_with_all_that_rules_of_preference_need() {
    let test = TestCrm::start().await;
    test.crm.add_contact(&[
        ("firstname", "Sam"),
        ("lastname", "Doe"),
        ("phone", "(415) 555-0123"),
        ("mobilephone", OTHER_PHONE),
    ]);
    let owned = test.crm.add_contact(&[("lastname", "Roe"), ("phone", PHONE), ("hubspot_owner_id", "7")]);

    let found = test.find(None, Some(PHONE)).await.unwrap();

    assert_eq!(found[0].phones, [phone(PHONE), phone(OTHER_PHONE)]);
    assert_eq!((found[0].name.as_deref(), found[0].has_owner), (Some("Sam Doe"), false));
    assert_eq!((&found[1].id.0, found[1].has_owner), (&owned, true));
    assert!(found.iter().all(|person| person.created_at.is_some()));
}

#[tokio::test]
async fn a_national_number_of_another_country_is_nobody() {
    let test = TestCrm::start().await;
    // 207 946 0958 in London, and the same digits in Maine.
    let london = test.crm.add_contact(&[("lastname", "Smith"), ("phone", "+442079460958")]);
    let maine = test.crm.add_contact(&[("lastname", "Jones"), ("phone", "2079460958")]);

    assert_eq!(test.find_ids(None, Some("+12079460958")).await, [maine]);
    assert_eq!(test.find_ids(None, Some("+442079460958")).await, [london]);
    test.check();
}

#[tokio::test]
async fn everybody_with_a_number_is_found_on_all_pages() {
    let test = TestCrm::start().await;
    for number in 0..230 {
        test.crm.add_contact(&[("lastname", &format!("Doe {number}")), ("mobilephone", PHONE)]);
    }

    assert_eq!(test.find_ids(None, Some(PHONE)).await.len(), 230);
    test.check();
}

#[tokio::test]
async fn a_contact_id_counts_before_a_number_and_needs_no_search() {
    let test = TestCrm::start().await;
    let linked = test.crm.add_contact(&[("lastname", "Doe"), ("textus_contact_id", "Bn3RkQ8")]);
    let typed = test.crm.add_contact(&[("lastname", "Roe"), ("textus_contact_id", "/contacts/Zz1")]);
    let same_number = test.crm.add_contact(&[("lastname", "Poe"), ("phone", PHONE)]);

    let found = test.find(Some(CONTACT), Some(PHONE)).await.unwrap();
    assert_eq!((found.len(), &found[0].id.0), (1, &linked));
    assert_eq!(found[0].contact_id.as_deref(), Some(CONTACT));
    assert_eq!(test.find_ids(Some("/contacts/Zz1"), None).await, [typed]);
    assert_eq!(test.crm.requests_to(E::Search(Object::Contact)), 0);
    assert_eq!(test.find_ids(Some("/contacts/None"), Some(PHONE)).await, [same_number]);
    assert_eq!(test.find_ids(Some("/contacts/None"), None).await, [""; 0]);
    test.check();
}

#[tokio::test]
async fn somebody_new_is_created_once_whatever_is_lost() {
    for facts in [facts(Some(CONTACT), &[PHONE], Some("Sam Doe")), facts(None, &[PHONE], None)] {
        let test = with_lag().await;
        test.fail_once(E::BatchUpsert(Object::Contact), Fault::EffectThenReset);

        let error = failure(test.upsert(&facts).await.err().expect("the answer is lost"));
        assert!(error.may_have_taken_effect(), "{error}");
        let again = test.upsert(&facts).await.unwrap();

        assert!(!again.created, "the first call created the contact");
        let contacts = test.crm.contacts();
        assert_eq!(contacts.len(), 1);
        assert_eq!(again.person.id.0, contacts[0].id);
        let (key, name) = if facts.name.is_some() { ("Bn3RkQ8", "Sam Doe") } else { ("phone:+14155550123", PHONE) };
        assert_eq!((contacts[0].get("textus_contact_id"), contacts[0].get("lastname")), (key, name));
        assert_eq!(contacts[0].get("phone"), PHONE);
        test.check();
    }
}

#[tokio::test]
async fn two_messages_of_one_new_person_make_one_person_before_the_index_has_them() {
    let test = with_lag().await;
    let first = test.upsert(&facts(Some(CONTACT), &[PHONE], None)).await.unwrap();
    assert!(first.created && first.changed);
    // The caller links while it holds the locks of the numbers.
    let name = test.hubspot.name().to_owned();
    test.store.link_person(&name, Some(CONTACT), Some(&phone(PHONE)), &first.person.id.0).await.unwrap();

    let second = test.upsert(&facts(None, &[PHONE], None)).await.unwrap();

    assert_eq!(second.person.id, first.person.id);
    assert_eq!(test.crm.contacts().len(), 1);
    test.check();
}

#[tokio::test]
async fn whoever_was_known_by_number_alone_is_linked_later() {
    let test = with_lag().await;
    let first = test.upsert(&facts(None, &[PHONE], None)).await.unwrap();

    let second = test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.unwrap();

    assert_eq!(second.person.id, first.person.id);
    assert!(!second.created && second.changed);
    let contact = test.contact(&first.person.id.0);
    assert_eq!((contact.get("textus_contact_id"), contact.get("lastname")), ("Bn3RkQ8", "Sam Doe"));
    test.check();
}

#[tokio::test]
async fn what_a_contact_has_is_never_overwritten() {
    let test = TestCrm::start().await;
    let id = test.crm.add_contact(&[("firstname", "Samuel"), ("lastname", "Doe"), ("phone", "(415) 555-0123")]);

    let first = test.upsert(&facts(Some(CONTACT), &[PHONE, OTHER_PHONE], Some("Sam"))).await.unwrap();
    let third = facts(Some(CONTACT), &[PHONE, OTHER_PHONE, "+14155550199"], Some("Sam"));
    let again = test.upsert(&third).await.unwrap();

    assert!(!first.created && first.changed && !again.changed);
    assert_eq!(again.person.phones, [phone(PHONE), phone(OTHER_PHONE)], "a third number has no place");
    let contact = test.contact(&id);
    for (property, value) in [
        ("firstname", "Samuel"),
        ("lastname", "Doe"),
        ("phone", "(415) 555-0123"),
        ("mobilephone", OTHER_PHONE),
        ("textus_contact_id", "Bn3RkQ8"),
    ] {
        assert_eq!(contact.get(property), value, "{property}");
    }
    test.check();
}

#[tokio::test]
async fn a_number_without_a_place_and_one_that_is_not_in_the_index_find_their_contact() {
    const THIRD: &str = "+14155550199";
    let test = with_lag().await;
    let numbers = facts(Some(CONTACT), &[PHONE, OTHER_PHONE, THIRD], None);
    let id = test.upsert(&numbers).await.unwrap().person.id.0;
    let name = test.hubspot.name().to_owned();
    for number in [PHONE, OTHER_PHONE, THIRD] {
        test.store.link_person(&name, None, Some(&phone(number)), &id).await.unwrap();
    }

    for number in [PHONE, OTHER_PHONE, THIRD] {
        assert_eq!(test.find_ids(None, Some(number)).await, std::slice::from_ref(&id), "{number}");
    }
    test.crm.change_contact(&id, &[("mobilephone", "")]);
    assert_eq!(test.find_ids(None, Some(OTHER_PHONE)).await, [""; 0], "a number that was taken from a contact");
    test.check();
}

#[tokio::test]
async fn a_contact_of_somebody_else_with_the_same_number_is_left_alone() {
    let test = TestCrm::start().await;
    let other = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE), ("textus_contact_id", "Other")]);

    let upserted = test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Roe"))).await.unwrap();

    assert!(upserted.created);
    assert_ne!(upserted.person.id.0, other);
    assert_eq!(test.contact(&other).get("textus_contact_id"), "Other");
    // The number alone does not tell whom a text is from.
    assert_eq!(test.find_ids(None, Some(PHONE)).await.len(), 2);
    test.check();
}

#[tokio::test]
async fn among_several_people_none_is_guessed() {
    let test = TestCrm::start().await;
    for name in ["Doe", "Roe"] {
        test.crm.add_contact(&[("lastname", name), ("phone", PHONE)]);
    }

    let error = test.upsert(&facts(Some(CONTACT), &[PHONE], None)).await.err().expect("nobody is chosen");

    assert!(matches!(error, HandlerError::GiveUp { reason: DeadReason::AmbiguousContact, .. }), "{error:?}");
    assert_eq!(test.crm.contacts().len(), 2);
    test.check();
}

#[tokio::test]
async fn templates_fill_fields_of_a_person_who_is_created_and_of_nobody_else() {
    let templates = [
        ("firstname", "{{ first_name }}"),
        ("lastname", "{{ last_name or phone }}"),
        ("lifecyclestage", "lead"),
        ("jobtitle", "{{ name if false }}"),
        // The key decides whose contact it is, whatever a template says.
        ("textus_contact_id", "mine"),
    ];
    let test = TestCrm::filling(&templates).await;
    let there = test.crm.add_contact(&[("lastname", "Roe"), ("phone", OTHER_PHONE)]);
    let other = facts(None, &[OTHER_PHONE], Some("Jo Roe"));

    let created = test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Lee Doe"))).await.unwrap();
    test.upsert(&other).await.unwrap();

    let contact = test.contact(&created.person.id.0);
    let get = |name| contact.get(name);
    assert_eq!(
        [get("firstname"), get("lastname"), get("lifecyclestage"), get("jobtitle")],
        ["Sam Lee", "Doe", "lead", ""]
    );
    assert_eq!(get("textus_contact_id"), CONTACT.trim_start_matches("/contacts/"));
    assert_eq!((test.contact(&there).get("firstname"), test.contact(&there).get("lifecyclestage")), ("", ""));
    test.check();
}

#[tokio::test]
async fn a_template_for_a_property_that_is_missing_holds_up_people_and_loses_none() {
    let test = TestCrm::filling(&[("shoe_size", "11")]).await;

    let error = failure(
        test.upsert(&facts(Some(CONTACT), &[PHONE], None)).await.map(drop).expect_err("there is no such property"),
    );

    assert!(error.is_paused() && error.to_string().contains("shoe_size"), "{error:?}");
    assert!(error.to_string().contains("[system_of_record.templates.person]"), "{error:?}");
    assert!(test.crm.contacts().is_empty());
}
