use std::time::Duration;

use hookline_common::phone::Phone;
use hookline_common::settings::HubSpotObject;
use hookline_common::time::Timestamp;
use hookline_sandbox::Fault;
use hookline_sandbox::hubspot::{
    HubSpotEndpoint as E, HubSpotObject as Object, migrating, status, throttled, validation_rule,
};
use hookline_worker::delivery::handler::HandlerError;
use hookline_worker::destinations::error::{DestinationError, Disposition};
use hookline_worker::gate::CheckResult;
use hookline_worker::records::{NoteError, SystemOfRecord as _};

use crate::helpers::{CONTACT, PHONE, Part, TestCrm, at, eventually, facts, failure, note_failure};

const CREATE: E = E::Create(Object::Communication);

fn add_sam(test: &TestCrm) -> String {
    test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)])
}

/// Returns how long a held delivery waits.
fn held_for(error: &DestinationError) -> Duration {
    match error.disposition() {
        Disposition::Hold { until, .. } => until.since(Timestamp::now()),
        other @ (Disposition::Retry { .. } | Disposition::RetryAfterProbe { .. } | Disposition::DeadLetter { .. }) => {
            panic!("{other:?}")
        }
    }
}

#[tokio::test]
async fn a_429_holds_calls_for_as_long_as_its_policy_says() {
    for (policy, at_least, at_most) in [("SECONDLY", 0, 1), ("TEN_SECONDLY_ROLLING", 8, 10), ("DAILY", 890, 900)] {
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        test.fail_once(CREATE, throttled(policy));

        let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("refused"));
        assert!(matches!(error, DestinationError::Throttled { .. }), "{policy} {error:?}");
        let seconds = held_for(&error).as_secs();
        assert!(seconds >= at_least && seconds <= at_most, "{policy} {seconds}");
        assert!(!error.may_have_taken_effect());

        if at_least > 1 {
            let asked = test.crm.requests().len();
            let error = failure(test.find(None, Some(PHONE)).await.err().expect("the gate is closed"));
            assert!(matches!(error, DestinationError::GateClosed { is_paused: false, .. }), "{policy} {error:?}");
            assert_eq!(test.crm.requests().len(), asked, "{policy}");
        } else {
            test.write(&sam, &Part::new("Hello")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_account_that_moves_is_left_alone() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(CREATE, migrating("40"));

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("refused"));

    assert!(error.detail().contains("477"), "{error}");
    assert!((30..=41).contains(&held_for(&error).as_secs()), "{error:?}");
    let asked = test.crm.requests().len();
    test.find(None, Some(PHONE)).await.err().expect("the gate is closed");
    assert_eq!(test.crm.requests().len(), asked);
}

#[tokio::test]
async fn passing_faults_are_tried_again_and_only_some_leave_a_note_in_doubt() {
    for (code, in_doubt, after) in [
        (423, false, Some(Duration::from_secs(2))),
        (500, true, None),
        (502, true, None),
        (503, true, None),
        (504, true, None),
        (521, true, None),
        (524, true, None),
    ] {
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        test.fail_once(CREATE, status(code));

        let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("a fault"));

        assert_eq!(error.disposition(), Disposition::Retry { after }, "{code}");
        assert_eq!(error.may_have_taken_effect(), in_doubt, "{code}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_hubspot_said_without_what_is_personal() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(CREATE, validation_rule("hs_communication_body", "Hello Marisol, +14155550123 is not allowed"));

    let error = note_failure(test.write(&sam, &Part::new("Hello Marisol")).await.expect_err("refused"));

    assert_eq!((error.kind(), error.status()), ("rejected", Some(400)));
    let detail = error.detail();
    assert!(detail.contains("hs_communication_body") || detail.contains("is not allowed"), "{detail}");
    assert!(detail.contains("correlationId"), "{detail}");
    for secret in ["Marisol", "4155550123"] {
        assert!(!detail.contains(secret), "{detail}");
    }
}

#[tokio::test]
async fn a_refused_token_pauses_the_destination_until_another_one_is_there() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.crm.configure(|options| options.token = "another-token".to_owned());

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("refused"));
    assert!(matches!(error, DestinationError::CredentialsRefused { status: 401, .. }), "{error:?}");
    let asked = test.crm.requests().len();
    let error = failure(test.find(None, Some(PHONE)).await.err().expect("paused"));
    assert!(error.is_paused(), "{error:?}");
    assert_eq!(test.crm.requests().len(), asked, "a paused destination is not called");

    assert!(test.hubspot.take_credentials(&test.settings_with_token("another-token")).unwrap());
    assert!(!test.hubspot.take_credentials(&test.settings_with_token("another-token")).unwrap());
    test.hubspot.gate().unwrap().check_ended(CheckResult::Changed);
    eventually("the new token ends the pause", || async { test.write(&sam, &Part::new("Hello")).await.is_ok() }).await;
    assert_eq!(test.crm.communications().len(), 1);
}

#[tokio::test]
async fn a_missing_scope_pauses_the_destination_until_it_is_there() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let write = "crm.objects.contacts.write";
    test.crm.configure(|options| options.scopes.retain(|scope| scope != write));

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("refused"));
    assert!(matches!(error, DestinationError::CredentialsRefused { status: 403, .. }), "{error:?}");
    assert!(error.is_paused() && !error.may_have_taken_effect());
    let error = failure(test.find(None, Some(PHONE)).await.err().expect("paused"));
    assert!(error.is_paused(), "{error:?}");

    // The check finds the scope still missing, although the token may read.
    test.crm.clear_requests();
    test.hubspot.gate().unwrap().check_ended(CheckResult::Changed);
    eventually("a check", || async { !test.crm.requests().is_empty() }).await;
    for _ in 0..10 {
        let error = failure(test.find(None, Some(PHONE)).await.err().expect("still paused"));
        assert!(error.is_paused(), "{error:?}");
    }
    assert_eq!(test.crm.requests().len(), test.crm.requests_to(E::Update(Object::Contact)), "only what was refused");

    test.crm.configure(|options| options.scopes.push(write.to_owned()));
    test.hubspot.gate().unwrap().check_ended(CheckResult::Changed);
    eventually("the scope ends the pause", || async { test.write(&sam, &Part::new("Hello")).await.is_ok() }).await;
    test.check();
}

#[tokio::test]
async fn a_missing_scope_for_reads_is_asked_for_by_a_read() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let read = "crm.objects.contacts.read";
    test.crm.configure(|options| options.scopes.retain(|scope| scope != read));
    let error = failure(test.find(None, Some(PHONE)).await.err().expect("refused"));
    assert!(error.is_paused(), "{error:?}");

    test.crm.clear_requests();
    test.hubspot.gate().unwrap().check_ended(CheckResult::Changed);
    eventually("a check", || async { test.crm.requests_to(E::Get(Object::Contact)) > 0 }).await;
    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("still paused"));
    assert!(error.is_paused(), "{error:?}");

    test.crm.configure(|options| options.scopes.push(read.to_owned()));
    test.hubspot.gate().unwrap().check_ended(CheckResult::Changed);
    eventually("the scope ends the pause", || async { test.find(None, Some(PHONE)).await.is_ok() }).await;
    test.check();
}

#[tokio::test]
async fn a_missing_property_pauses_the_destination_and_is_named() {
    for property in ["textus_contact_id", "sms_opted_out", "sms_opted_out_at", "sms_opted_in_at", "sms_opt_out_source"]
    {
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        test.crm.remove_property(Object::Contact, property);

        let error = if property == "textus_contact_id" {
            failure(test.upsert(&facts(Some(CONTACT), &[PHONE], None)).await.err().expect("refused"))
        } else {
            let first = at("2026-11-02T10:00:00Z");
            let flag = hookline_worker::records::OptOutFlag {
                opted_out: true,
                since: first,
                opted_out_at: Some(first),
                opted_in_at: None,
            };
            failure(test.flag(&sam, PHONE, &flag).await.expect_err("refused"))
        };

        assert!(error.is_paused(), "{property} {error:?}");
        let detail = error.detail();
        assert!(detail.contains(property) && detail.contains("--create-properties"), "{detail}");
        eventually("the gate is paused", || async {
            test.find(None, Some(PHONE)).await.is_err_and(|error| failure(error).is_paused())
        })
        .await;
    }
}

#[tokio::test]
async fn a_search_too_many_waits_and_is_not_made() {
    let test = TestCrm::with(HubSpotObject::Communication, |options| options.latency = Duration::ZERO).await;
    for _ in 0..12 {
        test.find(None, Some(PHONE)).await.unwrap();
    }

    assert!(test.crm.requests().iter().all(|request| request.status == Some(200)), "no search was one too many");
}

#[tokio::test]
async fn searches_that_waited_at_the_gate_do_not_go_together() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(CREATE, throttled("SECONDLY"));
    test.write(&sam, &Part::new("Hello")).await.expect_err("the gate is closed for a second");

    let searches = (0..10).map(|_| test.find(None, Some(PHONE)));
    let ended = futures::future::join_all(searches).await;

    let made = ended.iter().filter(|found| found.is_ok()).count();
    let searches: Vec<_> =
        test.crm.requests().into_iter().filter(|request| request.path.ends_with("/search")).collect();
    assert_eq!(searches.len(), made);
    // HubSpot refuses the sixth within a second.
    assert!(searches.iter().all(|search| search.status == Some(200)), "{searches:?}");
}

#[tokio::test]
async fn processes_share_the_searches_of_a_second() {
    let test = TestCrm::with(HubSpotObject::Communication, |options| options.latency = Duration::ZERO).await;
    let another = test.another_process().await;
    let phone = Phone::parse(PHONE);
    let attempt = test.attempt();
    for _ in 0..10 {
        let searches = (test.find(None, Some(PHONE)), another.find_people(&attempt, None, phone.as_ref()));
        let (one, other) = tokio::join!(searches.0, searches.1);
        one.unwrap();
        other.unwrap();
    }

    // HubSpot refuses the sixth within a second.
    assert!(test.crm.requests().iter().all(|request| request.status == Some(200)), "{:?}", test.crm.requests());
}

#[tokio::test]
async fn searches_of_other_apps_are_met_by_waiting() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(E::Search(Object::Contact), throttled("SECONDLY"));

    // HubSpot answers 429 to the first, and the connector waits.
    assert_eq!(test.find_ids(None, Some(PHONE)).await, [sam]);
    assert_eq!(test.crm.requests_to(E::Search(Object::Contact)), 2);
}

#[tokio::test]
async fn an_association_is_looked_up_before_a_refusal_counts() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.write(&sam, &Part::second("Fine")).await.unwrap();
    test.fail_once(CREATE, validation_rule("hs_communication_body", "too rude"));
    test.fail_once(E::Get(Object::Contact), Fault::Reset);

    let error = test.write(&sam, &Part::new("Hello")).await.expect_err("refused");

    // Nothing was written, and nothing is in doubt.
    assert!(matches!(error, NoteError::Failed(HandlerError::TryAgain { .. })), "{error:?}");
    test.write(&sam, &Part::new("Hello")).await.unwrap();
    assert_eq!(test.crm.communications().len(), 2);
}
