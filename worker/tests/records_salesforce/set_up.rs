use hookline_common::names::Destination;
use hookline_common::settings::SalesforceObject as Kind;
use hookline_sandbox::salesforce::{CustomField, SalesforceEndpoint as E, SalesforceObject as Object};
use hookline_worker::records::{FlagWrite, OptOutFlag};
use serde_json::json;

use crate::helpers::{CONTACT, PHONE, Part, TestCrm, at, eventually, facts, failure, note_failure};

const KEY: &str = "TextUs_Contact_Id__c";

fn add_sam(test: &TestCrm) -> String {
    test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }))
}

fn a_flag() -> OptOutFlag {
    let since = at("2026-11-02T15:04:05Z");
    OptOutFlag { opted_out: true, since, opted_out_at: Some(since), opted_in_at: None }
}

#[tokio::test]
async fn a_missing_field_pauses_the_destination_until_a_person_resumes_it() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.remove_field(Object::Task, "TextUs_Thread_Key__c");

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("no field"));

    assert!(error.is_paused() && error.detail().contains("Task has no field TextUs_Thread_Key__c"), "{error}");
    let key = CustomField::text("TextUs_Thread_Key__c", 80).external_id().unique();
    test.crm.add_custom_field(Object::Task, key);
    eventually("calls are made again", async || {
        test.store.resume_gate(Destination::SystemOfRecord).await.expect("an answer");
        test.write(&sam, &Part::new("Hello")).await.is_ok()
    })
    .await;
    test.only_task();
}

#[tokio::test]
async fn whatever_keeps_every_call_from_working_pauses_and_names_it() {
    type Break = fn(&TestCrm);
    let cases: [(Break, &str, &str); 6] = [
        (|test| test.crm.hide_field(Object::Contact, KEY, true), "find", "Contact has no field TextUs_Contact_Id__c"),
        (|test| test.crm.hide_field(Object::Lead, "MobilePhone", true), "find", "may not see MobilePhone of Lead"),
        (|test| test.crm.hide_field(Object::Contact, "SMS_Opted_Out__c", true), "flag", "SMS_Opted_Out__c"),
        (
            |test| test.crm.make_field_read_only(Object::Contact, "SMS_Opted_Out_At__c", true),
            "flag",
            "may not write SMS_Opted_Out_At__c of Contact",
        ),
        (
            |test| test.crm.make_field_read_only(Object::Task, "TextUs_Thread_Key__c", true),
            "write",
            "may not write TextUs_Thread_Key__c of Task",
        ),
        (
            |test| test.crm.configure(|options| options.read_only_objects = vec![Object::Contact]),
            "flag",
            "may not change a Contact",
        ),
    ];
    for (break_it, call, expected) in cases {
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        break_it(&test);

        let error = match call {
            "find" => failure(test.find(Some(CONTACT), Some(PHONE)).await.err().expect(expected)),
            "flag" => failure(test.flag(&sam, PHONE, &a_flag()).await.expect_err(expected)),
            _ => note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err(expected)),
        };

        assert!(error.is_paused() && error.detail().contains(expected), "{expected}: {error}");
        // Nothing else is called until a person has looked.
        let asked = test.crm.requests().len();
        assert!(failure(test.find(None, Some(PHONE)).await.err().expect(expected)).is_paused(), "{expected}");
        assert_eq!(test.crm.requests().len(), asked, "{expected}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_unique_is_told_before_a_third_task() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.add_custom_field(Object::Task, CustomField::text("TextUs_Thread_Key__c", 80).external_id());
    for _ in 0..2 {
        test.crm.add_task(
            json!({ "Subject": "x", "WhoId": sam, "TextUs_Thread_Key__c": "thread-00112233445566778899aabbccddeeff" }),
        );
    }

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("300"));

    assert!(error.is_paused() && error.detail().contains("not unique"), "{error}");
    assert_eq!(test.crm.tasks().len(), 2);
}

#[tokio::test]
async fn a_key_that_ignores_case_makes_no_one_of_two_people() {
    let test = TestCrm::start().await;
    test.crm.add_custom_field(Object::Contact, CustomField::text(KEY, 80).external_id().unique());
    let other = test.crm.add_contact(json!({ "LastName": "Other", KEY: "bN3rKq8" }));

    let error = failure(test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.err().expect("two cases"));

    assert!(error.is_paused() && error.detail().contains("not case-sensitive"), "{error}");
    assert_eq!(test.person(&other).get("LastName"), "Other");
}

#[tokio::test]
async fn fields_for_more_numbers_are_done_without() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.hide_field(Object::Contact, "HomePhone", true);
    test.crm.hide_field(Object::Contact, "OtherPhone", true);

    assert_eq!(test.find_ids(None, Some(PHONE)).await, std::slice::from_ref(&sam));
    assert_eq!(test.flag(&sam, PHONE, &a_flag()).await.unwrap(), FlagWrite::Changed);
}

#[tokio::test]
async fn the_check_names_everything_at_once() {
    let test = TestCrm::with(
        |_| {},
        |settings| {
            settings.salesforce.objects = vec![Kind::Lead];
            settings.templates.person.insert("Nickname__c".to_owned(), "{{ first_name }}".to_owned());
        },
    )
    .await;
    let log = test.log();
    assert_eq!(test.salesforce.written_objects(), ["Task", "Lead"]);
    test.salesforce.check_token(log).await.unwrap();
    for object in test.salesforce.written_objects() {
        assert_eq!(test.salesforce.problems(log, object).await.unwrap(), [""; 0], "{object}");
    }
    test.crm.add_custom_field(Object::Lead, CustomField::text("Region__c", 80).required());
    assert_eq!(
        test.salesforce.problems_of_creates(log).await.unwrap(),
        [
            "Lead has no field Nickname__c, or Hookline's user may not see it",
            "Lead requires Region__c, so fill it by [system_of_record.templates] person",
        ]
    );

    test.crm.remove_field(Object::Lead, "SMS_Opted_In_At__c");
    test.crm.add_custom_field(Object::Lead, CustomField::text("SMS_Opted_Out__c", 80));
    test.crm.add_custom_field(Object::Lead, CustomField::text(KEY, 80));
    assert_eq!(
        test.salesforce.problems(log, "Lead").await.unwrap(),
        [
            "TextUs_Contact_Id__c of Lead is not an external id, not unique, not case-sensitive",
            "SMS_Opted_Out__c of Lead is of type string, not boolean",
            "Lead has no field SMS_Opted_In_At__c, or Hookline's user may not see it",
        ]
    );
    test.crm.configure(|options| options.hidden_objects = vec![Object::Task]);
    assert_eq!(test.salesforce.problems(log, "Task").await.unwrap(), ["Hookline's user may not see the object Task"]);
    assert_eq!(test.crm.requests_to(E::Upsert(Object::Task)), 0);
}

#[tokio::test]
async fn an_org_that_renamed_its_closed_status_pauses_rather_than_refusing_each_note() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.set_picklist(Object::Task, "Status", &["Offen", "Erledigt"]);

    let written = test.write(&sam, &Part::new("Hello")).await;

    // The stand-in tells which statuses are closed only where it has TaskStatus.
    match written {
        Ok(_) => assert_eq!(test.only_task().get("Status"), "Erledigt"),
        Err(error) => {
            let error = note_failure(error);
            assert!(error.is_paused() && error.detail().contains("no status \"Completed\""), "{error}");
        }
    }
}
