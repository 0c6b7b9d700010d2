//! The Integrations API reports only the rate limit to the gate.

use hookline_common::names::OperationClass::{OptOutWrites, Reads};
use hookline_sandbox::{Endpoint, Fault, FaultRule};
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::destinations::priority::Priority;
use hookline_worker::textus::integrations::Change;

use crate::helpers::{PHONE, TestApi, phone};

fn is_held(api: &TestApi) -> bool {
    let gate = &api.worker.gate;
    [(Priority::OptOut, OptOutWrites), (Priority::Note, Reads)]
        .iter()
        .any(|(priority, class)| gate.no_room_for(*priority, &[*class]).is_some())
}

#[tokio::test]
async fn whatever_the_list_is_answered_nothing_else_is_held() {
    for status in [401, 403, 404, 500, 503] {
        let api = TestApi::start().await;
        api.sandbox.fault(FaultRule::new(Fault::status(status)).on(Endpoint::ListIntegrations));

        for _ in 0..30 {
            let error = api.textus().integrations(&api.log, "acme").await.err().expect("a failure");
            assert_eq!(error.status(), Some(status));
        }

        assert!(!is_held(&api), "{status}");
        api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.expect("opt-outs are PUT");
        assert_eq!(api.asked(), 31, "{status}: nobody asks about the token");
    }
}

#[tokio::test]
async fn a_list_that_is_answered_ends_no_outage_of_other_reads() {
    let api = TestApi::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::GetOptOut));
    for _ in 0..5 {
        api.textus().get_opt_out(&api.log, "acme", &phone(PHONE)).await.expect_err("an outage");
    }
    assert!(api.worker.gate.no_room_for(Priority::Note, &[Reads]).is_some());

    api.textus().integrations(&api.log, "acme").await.map(drop).expect("a list, though reads are held");

    assert!(api.worker.gate.no_room_for(Priority::Note, &[Reads]).is_some(), "still held");
}

#[tokio::test]
async fn a_retry_after_of_the_list_binds_all_calls() {
    let api = TestApi::start().await;
    api.fail_once_on(Endpoint::ListIntegrations, Fault::Throttle { retry_after: "60".to_owned() });

    let error = api.textus().integrations(&api.log, "acme").await.err().expect("a failure");

    assert!(matches!(error, DestinationError::Throttled { .. }), "{error}");
    let error = api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.map(|_put| ()).unwrap_err();
    assert!(matches!(error, DestinationError::GateClosed { .. }), "{error}");
}

#[tokio::test]
async fn lists_that_are_none_or_too_long_are_errors_and_strange_members_make_it_not_whole() {
    let api = TestApi::start().await;
    for body in ["{}", "null", "<html>", "{\"members\": {}}"] {
        api.answer_once(200, &[], body);
        assert!(api.textus().integrations(&api.log, "acme").await.is_err(), "{body}");
    }
    for (body, found, whole) in [
        ("[]", 0, true),
        (r#"{"members": [], "totalItems": 3}"#, 0, false),
        (r#"{"members": ["/integrations/a"]}"#, 0, false),
        (r#"{"members": [{"id": "/integrations/../contacts/a"}]}"#, 0, false),
        (r#"{"members": [{"id": "/integrations/a"}, {"id": "/integrations/b", "config": 7}]}"#, 2, true),
    ] {
        api.answer_once(200, &[], body);
        let listed = api.textus().integrations(&api.log, "acme").await.map_err(|error| error.to_string()).unwrap();
        assert_eq!((listed.all.len(), listed.is_whole), (found, whole), "{body}");
    }
    api.answer_once(200, &[], r#"{"members": [], "view": {"next": "https://evil.example.com/integrations"}}"#);
    assert!(api.textus().integrations(&api.log, "acme").await.is_err(), "the token goes nowhere else");
}

#[tokio::test]
async fn a_write_without_a_body_in_its_answer_is_done() {
    let api = TestApi::start().await;
    let url = "https://hooks.example.com/webhooks/textus".parse().unwrap();
    let made = api.textus().create_integration(&api.log, "acme", &url, &["contact.opted_out"]).await;
    let Ok(made) = made else { panic!("made") };
    api.answer_once(204, &[], "");

    let answered = api.textus().update_integration(&api.log, &made, &Change::SwitchOff).await;

    assert!(matches!(answered, Ok(None)));
    assert!(made.posts_to(&url) && made.is_active() && made.secret().is_some());
    assert_eq!(api.sandbox.violations(), []);
    assert!(!format!("{:?}", api.log).contains("textus-"), "{:?}", api.log);
}
