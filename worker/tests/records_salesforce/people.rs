use std::time::Duration;

use hookline_common::names::DeadReason;
use hookline_sandbox::Fault;
use hookline_sandbox::salesforce::{SalesforceEndpoint as E, SalesforceObject as Object, duplicates_detected};
use hookline_worker::delivery::handler::HandlerError;
use hookline_worker::records::{PersonId, SystemOfRecord as _};
use serde_json::json;

use crate::helpers::{CONTACT, OTHER_PHONE, PHONE, TestCrm, facts, failure, phone};

#[tokio::test]
async fn a_number_is_found_however_it_was_written() {
    let test = TestCrm::start().await;
    let mut all = Vec::new();
    for (field, text) in [
        ("Phone", "+14155550123"),
        ("MobilePhone", "(415) 555-0123"),
        ("HomePhone", "415.555.0123"),
        ("OtherPhone", "1-415-555-0123"),
        ("Phone", "415-555-0123 ext. 7"),
        ("MobilePhone", "tel:+1 415 555-0123"),
    ] {
        all.push(test.crm.add_contact(json!({ "LastName": text, field: text })));
    }
    all.push(test.crm.add_lead(json!({ "LastName": "Lead", "Company": "Acme", "Phone": "4155550123" })));
    test.crm.add_contact(json!({ "LastName": "London", "Phone": "+44 4155550123" }));
    test.crm.add_contact(json!({ "LastName": "Other", "Phone": OTHER_PHONE, "AssistantPhone": PHONE }));

    let mut found = test.find_ids(None, Some(PHONE)).await;

    found.sort();
    assert_eq!(found, all);
    test.check();
}

#[tokio::test]
async fn a_number_from_abroad_is_found_and_not_taken_for_another_countrys() {
    let test = TestCrm::start().await;
    let london = test.crm.add_contact(json!({ "LastName": "London", "Phone": "+44 20 7946 0958" }));
    let plain = test.crm.add_contact(json!({ "LastName": "Plain", "MobilePhone": "+442079460958" }));
    let new_york = test.crm.add_contact(json!({ "LastName": "Home", "Phone": "(207) 946-0958" }));

    let mut found = test.find_ids(None, Some("+442079460958")).await;
    found.sort();

    assert_eq!(found, [london, plain]);
    assert_eq!(test.find_ids(None, Some("+12079460958")).await, [new_york]);
    test.check();
}

#[tokio::test]
async fn what_a_query_can_see_needs_no_index() {
    let test = TestCrm::with(|options| options.index_lag = Duration::from_secs(3600), |_| {}).await;
    let upserted = test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.unwrap();

    assert_eq!(test.find_ids(None, Some(PHONE)).await, [upserted.person.id.0]);
    test.check();
}

#[tokio::test]
async fn the_contact_decides_before_the_number_and_its_case_counts() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(json!({ "LastName": "Doe", "TextUs_Contact_Id__c": "Bn3RkQ8" }));
    let lead =
        test.crm.add_lead(json!({ "LastName": "Roe", "Company": "A", "TextUs_Contact_Id__c": "/contacts/Le4D" }));
    let other = test.crm.add_contact(json!({ "LastName": "Poe", "TextUs_Contact_Id__c": "bN3rKq8" }));
    let by_number = test.crm.add_contact(json!({ "LastName": "Moe", "Phone": PHONE }));

    assert_eq!(test.find_ids(Some(CONTACT), Some(PHONE)).await, [sam]);
    assert_eq!(test.find_ids(Some("/contacts/Le4D"), Some(PHONE)).await, [lead]);
    assert_eq!(test.find_ids(Some("/contacts/bN3rKq8"), None).await, [other]);
    assert_eq!(test.find_ids(Some("/contacts/BN3RKQ8"), Some(PHONE)).await, [by_number]);
    assert_eq!(test.find_ids(Some("/contacts/it's' OR Id != '"), None).await, [""; 0]);
    test.check();
}

#[tokio::test]
async fn a_converted_lead_is_the_contact_it_became() {
    let test = TestCrm::start().await;
    let lead = test
        .crm
        .add_lead(json!({ "LastName": "Roe", "Company": "A", "TextUs_Contact_Id__c": "Bn3RkQ8", "Phone": PHONE }));
    let contact = test.crm.convert_lead(&lead);

    assert_eq!(test.find_ids(Some(CONTACT), None).await, std::slice::from_ref(&contact));
    assert_eq!(test.find_ids(None, Some(PHONE)).await, std::slice::from_ref(&contact));
    let upserted = test.upsert(&facts(Some(CONTACT), &[OTHER_PHONE], None)).await.unwrap();
    assert_eq!((upserted.person.id.0.as_str(), upserted.created), (contact.as_str(), false));
    let person = test.person(&contact);
    assert_eq!((person.get("TextUs_Contact_Id__c"), person.get("MobilePhone")), ("Bn3RkQ8", OTHER_PHONE));
    test.check();
}

#[tokio::test]
async fn a_merged_person_is_found_by_the_link_to_who_they_were() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }));
    let master =
        test.crm.add_contact(json!({ "LastName": "Doe", "Phone": OTHER_PHONE, "MobilePhone": "5", "HomePhone": "6",
        "OtherPhone": "7" }));
    test.store.link_person(test.salesforce.name(), None, Some(&phone(PHONE)), &sam).await.unwrap();
    test.crm.merge(&master, &sam);

    // The number did not survive, but who had it is known.
    assert_eq!(test.find_ids(None, Some(PHONE)).await, [master]);
}

#[tokio::test]
async fn all_pages_of_a_query_are_read() {
    let test = TestCrm::with(|options| options.page_size = 2, |_| {}).await;
    let all: Vec<String> =
        (0..5).map(|n| test.crm.add_contact(json!({ "LastName": format!("Doe {n}"), "Phone": PHONE }))).collect();

    let mut found = test.find_ids(None, Some(PHONE)).await;
    found.sort();

    assert_eq!(found, all);
    test.check();
}

#[tokio::test]
async fn a_new_person_is_upserted_once_whatever_is_lost() {
    let test = TestCrm::start().await;
    test.fail_once(E::Upsert(Object::Contact), Fault::EffectThenReset);
    let sam = facts(Some(CONTACT), &[PHONE, OTHER_PHONE], Some("Sam van Doe"));
    let error = failure(test.upsert(&sam).await.err().expect("no answer"));
    assert!(error.may_have_taken_effect());

    let upserted = test.upsert(&sam).await.unwrap();

    let contacts = test.crm.contacts();
    assert_eq!(contacts.len(), 1);
    for (field, expected) in [
        ("FirstName", "Sam van"),
        ("LastName", "Doe"),
        ("MobilePhone", PHONE),
        ("Phone", OTHER_PHONE),
        ("TextUs_Contact_Id__c", "Bn3RkQ8"),
    ] {
        assert_eq!(contacts[0].get(field), expected, "{field}");
    }
    assert_eq!(upserted.person.id.0, contacts[0].id);
    assert_eq!(upserted.person.contact_id.as_deref(), Some(CONTACT));
    test.check();
}

#[tokio::test]
async fn a_person_known_by_number_only_gets_a_key_and_later_a_name() {
    let test = TestCrm::start().await;
    let created = test.upsert(&facts(None, &[PHONE], None)).await.unwrap();
    let person = test.person(&created.person.id.0);
    assert_eq!((person.get("LastName"), person.get("TextUs_Contact_Id__c")), (PHONE, "phone-14155550123"));
    assert_eq!((created.created, created.person.contact_id), (true, None));

    let again = test.upsert(&facts(None, &[PHONE], None)).await.unwrap();
    assert!(!again.created && !again.changed);
    let named = test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.unwrap();

    assert!(!named.created && named.changed);
    let person = test.person(&named.person.id.0);
    assert_eq!((person.get("LastName"), person.get("TextUs_Contact_Id__c")), ("Doe", "Bn3RkQ8"));
    assert_eq!(test.crm.contacts().len(), 1);
    test.check();
}

#[tokio::test]
async fn an_id_that_looks_like_a_file_makes_one_person_too() {
    let test = TestCrm::start().await;
    test.fail_once(E::Create(Object::Contact), Fault::EffectThenReset);
    let sam = facts(Some("/contacts/sanford.llc"), &[PHONE], Some("Sam Doe"));
    failure(test.upsert(&sam).await.err().expect("no answer"));

    let upserted = test.upsert(&sam).await.unwrap();

    assert_eq!(test.crm.contacts().len(), 1);
    assert_eq!(test.person(&upserted.person.id.0).get("TextUs_Contact_Id__c"), "sanford.llc");
    test.check();
}

#[tokio::test]
async fn a_lead_has_a_company_and_what_templates_say() {
    for (template, expected) in [(None, "[not provided]"), (Some("{{ last_name }} family"), "Doe family")] {
        let test = TestCrm::with(
            |_| {},
            |settings| {
                settings.salesforce.objects = vec![hookline_common::settings::SalesforceObject::Lead];
                let person = &mut settings.templates.person;
                person.insert("LeadSource".to_owned(), "TextUs".to_owned());
                person.extend(template.map(|template| ("Company".to_owned(), template.to_owned())));
            },
        )
        .await;

        test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.unwrap();

        let lead = &test.crm.leads()[0];
        assert_eq!((lead.get("Company"), lead.get("LeadSource")), (expected, "TextUs"));
        assert_eq!(test.crm.contacts(), []);
        test.check();
    }
}

#[tokio::test]
async fn nothing_of_a_persons_own_is_overwritten() {
    let test = TestCrm::start().await;
    let sam =
        test.crm.add_contact(json!({ "FirstName": "Samuel", "LastName": "Doe", "Phone": PHONE, "MobilePhone": "5" }));

    let upserted = test.upsert(&facts(Some(CONTACT), &[PHONE, OTHER_PHONE], Some("Sam Roe"))).await.unwrap();

    assert_eq!(upserted.person.id.0, sam);
    let person = test.person(&sam);
    for (field, expected) in [
        ("FirstName", "Samuel"),
        ("LastName", "Doe"),
        ("Phone", PHONE),
        ("MobilePhone", "5"),
        ("HomePhone", OTHER_PHONE),
    ] {
        assert_eq!(person.get(field), expected, "{field}");
    }
    assert_eq!(person.get("TextUs_Contact_Id__c"), "Bn3RkQ8");
    test.check();
}

#[tokio::test]
async fn the_one_whom_a_duplicate_rule_found_is_used() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(json!({ "LastName": "Doe", "Email": "sam@example.com" }));
    test.fail_once(E::Upsert(Object::Contact), duplicates_detected("Contact", &[&sam]));

    let upserted = test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.unwrap();

    assert_eq!((upserted.person.id.0.as_str(), upserted.created), (sam.as_str(), false));
    let person = test.person(&sam);
    assert_eq!((person.get("MobilePhone"), person.get("TextUs_Contact_Id__c")), (PHONE, "Bn3RkQ8"));
    assert_eq!(test.crm.contacts().len(), 1);
}

#[tokio::test]
async fn whom_a_duplicate_rule_does_not_tell_apart_an_operator_does() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(json!({ "LastName": "Doe", "TextUs_Contact_Id__c": "Another" }));
    let roe = test.crm.add_lead(json!({ "LastName": "Roe", "Company": "A" }));
    for found in [vec![sam.as_str(), roe.as_str()], vec![sam.as_str()], vec!["0015e0000000001AAA"], vec![]] {
        test.fail_once(E::Upsert(Object::Contact), duplicates_detected("Contact", &found));

        let error = test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.err().expect("ambiguous");

        assert!(matches!(error, HandlerError::GiveUp { reason: DeadReason::AmbiguousContact, .. }), "{error:?}");
        assert!(found.iter().all(|id| error.to_string().contains(id)), "{error}");
    }
    assert_eq!((test.crm.contacts().len(), test.crm.leads().len()), (1, 1));
}

#[tokio::test]
async fn a_duplicate_rule_keeps_no_number_from_a_known_person() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(json!({ "LastName": "Doe", "TextUs_Contact_Id__c": "Bn3RkQ8" }));
    test.crm.add_contact(json!({ "LastName": "Doe", "MobilePhone": PHONE }));
    test.crm.add_duplicate_rule(Object::Contact, &["MobilePhone"], true);

    test.upsert(&facts(Some(CONTACT), &[PHONE], None)).await.unwrap();

    assert_eq!(test.person(&sam).get("MobilePhone"), PHONE);
}

#[tokio::test]
async fn people_who_share_a_number_are_ambiguous_and_tell_owner_and_age() {
    let test = TestCrm::start().await;
    let ana = test.crm.add_user(json!({ "LastName": "Rivera" }));
    let owned = test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE, "OwnerId": ana }));
    let ours = test.crm.add_contact(json!({ "FirstName": "Jo", "LastName": "Roe", "Phone": PHONE }));

    let error = test.upsert(&facts(Some(CONTACT), &[PHONE], None)).await.err().expect("ambiguous");
    assert!(matches!(error, HandlerError::GiveUp { reason: DeadReason::AmbiguousContact, .. }), "{error:?}");
    let mut found = test.find(None, Some(PHONE)).await.unwrap();
    found.sort_by_key(|person| person.id.0.clone());

    let told: Vec<(&str, bool, bool, Option<&str>)> = found
        .iter()
        .map(|person| (person.id.0.as_str(), person.has_owner, person.created_at.is_some(), person.name.as_deref()))
        .collect();
    assert_eq!(told, [(owned.as_str(), true, true, Some("Doe")), (ours.as_str(), false, true, Some("Jo Roe"))]);
}

#[tokio::test]
async fn the_first_object_comes_first_and_a_contact_id_before_a_number() {
    let test = TestCrm::start().await;
    let lead = test.crm.add_lead(json!({ "LastName": "Roe", "Company": "A", "Phone": PHONE }));
    let contact = test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }));
    let mut both = test.find_ids(None, Some(PHONE)).await;
    both.sort_by_key(|id| test.salesforce.place_of(&PersonId(id.clone())));
    assert_eq!(both, [contact.clone(), lead], "an opt-out is for both");
    let upserted = test.upsert(&facts(Some(CONTACT), &[PHONE], None)).await.unwrap();
    assert_eq!(upserted.person.id.0, contact);

    let by_number = test.crm.add_contact(json!({ "LastName": "N", "TextUs_Contact_Id__c": "phone-14155550188" }));
    let by_id = test.crm.add_lead(json!({ "LastName": "I", "Company": "A", "TextUs_Contact_Id__c": "Le4D" }));
    let upserted = test.upsert(&facts(Some("/contacts/Le4D"), &[OTHER_PHONE], None)).await.unwrap();
    assert_eq!(upserted.person.id.0, by_id);
    assert_eq!(test.upsert(&facts(None, &[OTHER_PHONE], None)).await.unwrap().person.id.0, by_number);
    test.check();
}

#[tokio::test]
async fn objects_that_are_not_configured_are_left_alone() {
    let leads_only = vec![hookline_common::settings::SalesforceObject::Lead];
    let test = TestCrm::with(|_| {}, |settings| settings.salesforce.objects = leads_only).await;
    // The fields of contacts need not be there.
    test.crm.remove_field(Object::Contact, "TextUs_Contact_Id__c");
    let lead = test
        .crm
        .add_lead(json!({ "LastName": "Roe", "Company": "A", "TextUs_Contact_Id__c": "Bn3RkQ8", "Phone": PHONE }));
    test.crm.convert_lead(&lead);

    assert_eq!(test.find_ids(Some(CONTACT), Some(PHONE)).await, [""; 0]);
    let written = test.write(&lead, &crate::helpers::Part::new("Hello")).await;
    assert!(matches!(written, Err(hookline_worker::records::NoteError::PersonIsGone)), "{written:?}");
    test.check();
}

#[tokio::test]
async fn a_refused_query_is_told_without_a_piece_of_a_number() {
    let test = TestCrm::start().await;
    let words = "5-0123', '+1 415-555-0123') OR Nonsense ^ ERROR at Row:1:Column:601 unexpected token: Nonsense";
    test.fail_once(E::Query, hookline_sandbox::salesforce::status(400, "MALFORMED_QUERY", words));

    let error = failure(test.find(None, Some(PHONE)).await.err().expect("refused"));

    assert!(error.detail().contains("unexpected token") && !error.detail().contains("0123"), "{error}");
}
