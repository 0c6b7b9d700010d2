use hookline_sandbox::Fault;
use hookline_sandbox::salesforce::{SalesforceEndpoint as E, SalesforceObject as Object};
use hookline_worker::delivery::handler::HandlerError;
use hookline_worker::records::{FlagWrite, OptOutFlag};
use serde_json::json;

use crate::helpers::{PHONE, TestCrm, at, failure};

const OUT: &str = "2026-11-02T15:04:05.678Z";
const IN: &str = "2026-11-03T09:00:00.500Z";

fn out() -> OptOutFlag {
    OptOutFlag { opted_out: true, since: at(OUT), opted_out_at: Some(at(OUT)), opted_in_at: None }
}

fn back_in() -> OptOutFlag {
    OptOutFlag { opted_out: false, since: at(IN), opted_out_at: Some(at(OUT)), opted_in_at: Some(at(IN)) }
}

#[tokio::test]
async fn news_are_on_a_contact_or_a_lead_with_both_dates_and_the_source() {
    let test = TestCrm::start().await;
    let contact = test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }));
    let lead = test.crm.add_lead(json!({ "LastName": "Roe", "Company": "A", "Phone": PHONE }));
    for id in [contact, lead] {
        assert_eq!(test.flag(&id, PHONE, &out()).await.unwrap(), FlagWrite::Changed);
        let person = test.person(&id);
        assert!(person.is_checked("SMS_Opted_Out__c"));
        assert_eq!(person.get("SMS_Opted_Out_At__c"), "2026-11-02T15:04:05.000+0000");
        assert_eq!((person.get("SMS_Opted_In_At__c"), person.get("SMS_Opt_Out_Source__c")), ("", "TextUs"));
        let changes = person.changes;
        assert_eq!(test.flag(&id, PHONE, &out()).await.unwrap(), FlagWrite::AsItWas);
        assert_eq!(test.person(&id).changes, changes);

        assert_eq!(test.flag(&id, PHONE, &back_in()).await.unwrap(), FlagWrite::Changed);
        let person = test.person(&id);
        assert!(!person.is_checked("SMS_Opted_Out__c"));
        assert_eq!(person.get("SMS_Opted_Out_At__c"), "2026-11-02T15:04:05.000+0000");
        assert_eq!(person.get("SMS_Opted_In_At__c"), "2026-11-03T09:00:00.000+0000");
        // Older news change nothing.
        assert_eq!(test.flag(&id, PHONE, &out()).await.unwrap(), FlagWrite::NewerThere);
        assert!(!test.person(&id).is_checked("SMS_Opted_Out__c"));
    }
    test.check();
}

#[tokio::test]
async fn newer_news_of_somebody_elses_stay() {
    let test = TestCrm::start().await;
    let sam = test
        .crm
        .add_contact(json!({ "LastName": "Doe", "Phone": PHONE, "SMS_Opted_In_At__c": "2026-11-04T00:00:00Z" }));
    assert_eq!(test.flag(&sam, PHONE, &out()).await.unwrap(), FlagWrite::NewerThere);
    assert!(!test.person(&sam).is_checked("SMS_Opted_Out__c"));

    // Set by hand, without a date.
    let roe = test.crm.add_contact(json!({ "LastName": "Roe", "Phone": PHONE, "SMS_Opted_Out__c": true }));
    assert_eq!(test.flag(&roe, PHONE, &back_in()).await.unwrap(), FlagWrite::NewerThere);
    assert!(test.person(&roe).is_checked("SMS_Opted_Out__c"));
}

#[tokio::test]
async fn a_lost_answer_is_looked_at_and_written_once() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }));
    test.fail_once(E::Update(Object::Contact), Fault::EffectThenReset);
    failure(test.flag(&sam, PHONE, &out()).await.expect_err("no answer"));

    assert_eq!(test.flag(&sam, PHONE, &out()).await.unwrap(), FlagWrite::AsItWas);

    assert!(test.person(&sam).is_checked("SMS_Opted_Out__c"));
    assert_eq!(test.person(&sam).changes, 1);
}

#[tokio::test]
async fn a_rule_that_only_warns_stops_no_opt_out() {
    let test = TestCrm::start().await;
    let ids = [0, 1].map(|n| test.crm.add_contact(json!({ "LastName": format!("Doe {n}"), "Phone": PHONE })));
    test.crm.add_duplicate_rule(Object::Contact, &["Phone"], true);

    for id in &ids {
        assert_eq!(test.flag(id, PHONE, &out()).await.unwrap(), FlagWrite::Changed);
    }
}

#[tokio::test]
async fn a_person_who_is_gone_is_looked_up_again_later() {
    let test = TestCrm::start().await;
    let sam = test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }));
    let lead = test.crm.add_lead(json!({ "LastName": "Doe", "Company": "A", "Phone": PHONE }));
    test.crm.delete(&sam);
    test.crm.convert_lead(&lead);
    for id in [sam, lead] {
        let error = test.flag(&id, PHONE, &out()).await.expect_err("gone");
        assert!(matches!(error, HandlerError::TryAgain { .. }), "{error:?}");
    }
}
