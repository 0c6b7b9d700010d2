use std::time::Duration;

use hookline_common::time::Timestamp;
use hookline_sandbox::salesforce::{
    SalesforceEndpoint as E, SalesforceObject as Object, query_timeout, request_limit, status, validation_rule,
};
use hookline_worker::destinations::error::{DestinationError, Disposition};
use serde_json::json;

use crate::helpers::{CONTACT, PHONE, Part, TestCrm, facts, failure, note_failure};

const UPSERT: E = E::Upsert(Object::Task);

fn add_sam(test: &TestCrm) -> String {
    test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }))
}

fn held_for(error: &DestinationError) -> Duration {
    match error.disposition() {
        Disposition::Hold { until, .. } => until.since(Timestamp::now()),
        other @ (Disposition::Retry { .. } | Disposition::RetryAfterProbe { .. } | Disposition::DeadLetter { .. }) => {
            panic!("{other:?}")
        }
    }
}

#[tokio::test]
async fn the_end_of_the_daily_requests_closes_the_gate_for_long() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(UPSERT, request_limit());

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("refused"));

    assert!((890..=900).contains(&held_for(&error).as_secs()), "{error:?}");
    assert!(!error.is_paused() && !error.may_have_taken_effect());
    let concurrent = TestCrm::start().await;
    let sam = add_sam(&concurrent);
    let words = "ConcurrentRequests (Concurrent API Requests) Limit exceeded.";
    concurrent.fail_once(UPSERT, status(403, "REQUEST_LIMIT_EXCEEDED", words));
    let error = note_failure(concurrent.write(&sam, &Part::new("Hello")).await.expect_err("refused"));
    assert!((50..=60).contains(&held_for(&error).as_secs()), "{error:?}");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    for (fault, in_doubt) in [
        (query_timeout(), false),
        (status(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."), true),
        (status(502, "", ""), true),
        (status(418, "SOMETHING_NEW", "later"), true),
    ] {
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        test.fail_once(UPSERT, fault);

        let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("a fault"));

        assert!(matches!(error.disposition(), Disposition::Retry { .. }), "{error:?}");
        assert_eq!(error.may_have_taken_effect(), in_doubt, "{error:?}");
        test.write(&sam, &Part::new("Hello")).await.unwrap();
    }
}

#[tokio::test]
async fn a_rule_of_the_org_refuses_one_note_in_its_own_words_without_numbers() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let words = format!("No texts from {PHONE} or sam@example.com, says secretword");
    for (fault, code) in [
        (validation_rule("Description", &words), "FIELD_CUSTOM_VALIDATION_EXCEPTION"),
        (status(400, "REQUIRED_FIELD_MISSING", &words), "REQUIRED_FIELD_MISSING"),
        (status(400, "STRING_TOO_LONG", &words), "STRING_TOO_LONG"),
        (status(400, "A_CODE_OF_TOMORROW", &words), "A_CODE_OF_TOMORROW"),
        (status(403, "INSUFFICIENT_ACCESS", &words), "INSUFFICIENT_ACCESS"),
    ] {
        test.fail_once(UPSERT, fault);

        let error = note_failure(test.write(&sam, &Part::new("the secretword")).await.expect_err("refused"));

        assert!(matches!(error.disposition(), Disposition::DeadLetter { .. }), "{error:?}");
        let detail = error.detail();
        assert!(detail.contains(code) && detail.contains("No texts from"), "{detail}");
        for private in ["4155550123", "sam@example.com", "secretword"] {
            assert!(!detail.contains(private), "{detail}");
        }
        test.write(&sam, &Part::new("Hello")).await.unwrap();
    }
}

#[tokio::test]
async fn an_api_that_is_switched_off_waits_for_a_person() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(UPSERT, status(403, "API_DISABLED_FOR_ORG", "API is not enabled for this Organization or Partner"));

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("switched off"));

    assert!(error.is_paused() && error.detail().contains("API Enabled"), "{error}");
    assert!(failure(test.find(None, Some(PHONE)).await.err().expect("paused")).is_paused());
}

#[tokio::test]
async fn no_secret_and_no_number_is_in_the_log_of_calls() {
    let test = TestCrm::start().await;
    test.upsert(&facts(Some(CONTACT), &[PHONE], Some("Sam Doe"))).await.unwrap();
    test.find(None, Some(PHONE)).await.unwrap();

    let log = format!("{:?}", test.log());

    assert!(log.contains("/services/oauth2/token") && log.contains("FROM Contact"), "{log}");
    let tokens = test.crm.tokens_issued();
    for private in ["4155550123", "Doe", "synthetic-client-secret", tokens[0].as_str()] {
        assert!(!log.contains(private), "{log}");
    }
}
