use std::time::Duration;

use hookline_common::secret::Secret;
use hookline_sandbox::salesforce::{PRIVATE_KEY, SalesforceEndpoint as E, SalesforceObject as Object, oauth, status};
use hookline_sandbox::{Fault, FaultRule};
use hookline_worker::destinations::error::{DestinationError, Disposition};
use hookline_worker::gate::CheckResult;
use hookline_worker::records::SystemOfRecord as _;
use serde_json::json;

use crate::helpers::{PHONE, Part, TestCrm, eventually, failure, note_failure};

const UPSERT: E = E::Upsert(Object::Task);

fn add_sam(test: &TestCrm) -> String {
    test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }))
}

#[tokio::test]
async fn one_token_serves_all_calls_and_calls_go_to_its_instance() {
    let test = TestCrm::start().await;
    let port = test.crm.addr().port();
    test.crm.configure(|options| options.instance_url = Some(format!("http://localhost:{port}")));
    let sam = add_sam(&test);

    let writes = futures::future::join_all((0..8).map(|n| {
        let (test, sam) = (&test, sam.clone());
        async move { test.write(&sam, &Part::new(&format!("text {n}"))).await }
    }));
    assert!(writes.await.into_iter().all(|written| written.is_ok()));

    assert_eq!(test.crm.tokens_issued().len(), 1);
    assert_eq!(test.crm.requests_to(E::Versions), 1);
    test.only_task();
    test.check();
}

#[tokio::test]
async fn a_session_that_ends_costs_one_token_for_all_who_wait_and_no_call() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.write(&sam, &Part::new("before")).await.unwrap();

    for round in 1..=3 {
        test.crm.revoke_tokens();
        let calls = futures::future::join_all((0..8).map(|n| {
            let (test, sam) = (&test, sam.clone());
            async move {
                test.write(&sam, &Part::new(&format!("text {n}"))).await.map_err(|error| format!("{error:?}"))?;
                test.find(None, Some(PHONE)).await.map_err(|error| format!("{error:?}")).map(|found| found.len())
            }
        }));
        for found in calls.await {
            assert_eq!(found, Ok(1));
        }
        assert_eq!(test.crm.tokens_issued().len(), 1 + round);
    }
    test.only_task();
    test.check();
}

#[tokio::test]
async fn a_session_that_ends_every_few_calls_fails_nothing() {
    let test = TestCrm::with(|options| options.token_calls = Some(5), |_settings| {}).await;
    let sam = add_sam(&test);

    for n in 0..40 {
        test.write(&sam, &Part::new(&format!("text {n}"))).await.unwrap();
    }

    assert_eq!(test.only_task().get("Description"), "text 39");
    assert!(test.crm.tokens_issued().len() <= 1 + 42 / 5, "{}", test.crm.tokens_issued().len());
}

#[tokio::test]
async fn a_jwt_is_taken_for_the_user_and_the_login_host() {
    let test = TestCrm::with(
        |_options| {},
        |settings| {
            let own = &mut settings.salesforce;
            own.client_secret = None;
            own.jwt_key = Some(Secret::new(PRIVATE_KEY));
            own.username = Some("integration@example.com".to_owned());
        },
    )
    .await;
    let sam = add_sam(&test);

    test.write(&sam, &Part::new("Hello")).await.unwrap();

    test.only_task();
    test.check();
}

#[tokio::test]
async fn refused_credentials_pause_the_destination_in_an_administrators_words_and_others_end_that() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.configure(|options| options.client_secret = "another".to_owned());

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("no token"));

    assert!(error.is_paused() && !error.may_have_taken_effect(), "{error:?}");
    assert!(error.detail().contains("client_secret"), "{error}");
    assert_eq!(test.crm.requests_to(UPSERT), 0);
    let (_, gates) = test.store.look().await.unwrap();
    assert!(format!("{gates:?}").contains("consumer secret") || !format!("{gates:?}").contains("another"));

    let settings = test.settings_with_secret("another");
    assert!(test.salesforce.take_credentials(&settings).unwrap());
    assert!(!test.salesforce.take_credentials(&settings).unwrap());
    test.salesforce.gate().unwrap().check_ended(CheckResult::Changed);
    eventually("the other secret ends the pause", async || test.write(&sam, &Part::new("Hello")).await.is_ok()).await;
    test.only_task();
}

#[tokio::test]
async fn each_refusal_names_what_to_do() {
    for (error, description, expected) in [
        ("invalid_grant", "no client credentials user enabled", "run-as user"),
        ("invalid_grant", "user hasn't approved this consumer", "pre-authorized"),
        ("invalid_grant", "audience is invalid", "audience"),
        ("invalid_grant", "expired authorization code", "clock"),
        ("invalid_client_id", "client identifier invalid", "consumer key"),
        ("unsupported_grant_type", "grant type not supported", "flow"),
    ] {
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        test.crm.fault(FaultRule::new(oauth(error, description)).on(E::Token));

        let refused = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("no token"));

        assert!(refused.is_paused() && refused.detail().contains(expected), "{error} {description}: {refused}");
        assert!(matches!(refused.disposition(), Disposition::Hold { .. }));
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_away_is_a_passing_fault_before_any_write() {
    let away = [Fault::Reset, status(503, "SERVER_UNAVAILABLE", "away"), oauth("unknown_error", "retry your request")];
    for fault in away {
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        test.fail_once(E::Token, fault);

        let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("no token"));

        assert!(matches!(error.disposition(), Disposition::Retry { .. }), "{error:?}");
        assert!(!error.may_have_taken_effect());
        test.write(&sam, &Part::new("Hello")).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_is_not_sent_to_a_strange_host() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.configure(|options| options.instance_url = Some("https://evil.example".to_owned()));

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("a strange host"));

    assert!(error.is_paused() && error.detail().contains("not sent"), "{error}");
    assert_eq!(test.crm.requests_to(UPSERT), 0);
}

#[tokio::test]
async fn a_token_that_salesforce_does_not_take_pauses_the_destination() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.fault(FaultRule::new(status(401, "INVALID_SESSION_ID", "Session expired or invalid")).on(UPSERT));
    test.crm.fault(FaultRule::new(status(401, "INVALID_SESSION_ID", "Session expired or invalid")).on(E::Query));

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("refused"));

    assert!(matches!(error, DestinationError::CredentialsRefused { status: 401, .. }), "{error:?}");
    assert_eq!(test.crm.tokens_issued().len(), 2);
    let held = failure(test.find(None, Some(PHONE)).await.err().expect("paused"));
    assert!(held.is_paused(), "{held:?}");
}

#[tokio::test]
async fn the_newest_version_is_used_and_another_one_where_that_is_gone() {
    let test =
        TestCrm::with(|options| options.versions = vec!["9.0".into(), "58.0".into(), "61.0".into()], |_| {}).await;
    let sam = add_sam(&test);
    test.write(&sam, &Part::new("one")).await.unwrap();
    assert!(test.calls().iter().all(|call| call.contains("/v61.0/")), "{:?}", test.calls());

    let gone = status(410, "UNSUPPORTED_API_VERSION", "the version is gone");
    test.crm.configure(|options| options.versions = vec!["58.0".into()]);
    test.fail_once(UPSERT, gone);
    test.write(&sam, &Part::new("two")).await.unwrap();
    assert_eq!(test.only_task().get("Description"), "two");

    let old = TestCrm::with(|options| options.versions = vec!["40.0".into()], |_| {}).await;
    let sam = add_sam(&old);
    let error = note_failure(old.write(&sam, &Part::new("one")).await.expect_err("too old"));
    assert!(error.detail().contains("v52.0") && !error.may_have_taken_effect(), "{error}");
}

#[tokio::test]
async fn the_last_of_the_daily_requests_are_left_to_opt_outs() {
    let test = TestCrm::with(|options| options.daily_limit = 1_000, |_| {}).await;
    let sam = add_sam(&test);
    test.crm.set_daily_usage(960);
    // The priority of a log of its own is that of an opt-out.
    test.write(&sam, &Part::new("one")).await.unwrap();
    test.crm.set_daily_usage(1_000);

    let error = note_failure(test.write(&sam, &Part::new("two")).await.expect_err("nothing is left"));

    assert!(error.detail().contains("REQUEST_LIMIT_EXCEEDED"), "{error}");
    let Disposition::Hold { until, .. } = error.disposition() else { panic!("{error:?}") };
    assert!(until.since(hookline_common::time::Timestamp::now()) > Duration::from_mins(14));
    let asked = test.crm.requests().len();
    failure(test.find(None, Some(PHONE)).await.err().expect("the gate is closed"));
    assert_eq!(test.crm.requests().len(), asked);
}
