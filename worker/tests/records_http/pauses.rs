//! Answers that pause the destination, and how the pause ends.

use std::time::Duration;

use hookline_common::names::Destination;
use hookline_common::secret::Secret;
use hookline_common::settings::Settings;
use hookline_sandbox::receiver::SECRET;
use hookline_worker::destinations::error::{DestinationError, Disposition};
use hookline_worker::gate::CheckResult;
use hookline_worker::records::SystemOfRecord as _;

use crate::helpers::{Connector, TestRecords, eventually, http_settings};

const ANOTHER: &str = "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=";

async fn reason(records: &TestRecords) -> Option<String> {
    let gates = records.connector.store.gates().await.expect("the store answers");
    let gate = gates.into_iter().find(|gate| gate.destination == Destination::SystemOfRecord)?;
    gate.reason.filter(|_| gate.paused)
}

async fn is_paused(records: &TestRecords) -> bool {
    eventually("the store knows of the pause", || async { reason(records).await.is_some() }).await;
    let error = records.connector.opt_out().await.expect_err("held");
    matches!(error, DestinationError::GateClosed { is_paused: true, .. })
}

#[tokio::test]
async fn a_410_pauses_until_an_operator_resumes() {
    let records = TestRecords::with(|receiver| receiver.status = Some(410), |_| {}).await;

    let error = records.connector.note().await.unwrap_err();

    // Nothing is lost: the delivery waits, and no attempt is spent.
    assert!(error.is_paused() && matches!(error.disposition(), Disposition::Hold { .. }), "{error:?}");
    assert!(error.to_string().contains("answered 410"), "{error}");
    assert!(is_paused(&records).await);
    let reason = reason(&records).await.expect("a reason");
    assert!(reason.contains("410") && reason.contains("hookline resume system_of_record"), "{reason}");
    let line = r#"hookline_destination_state{destination="system_of_record",state="paused"} 1"#;
    assert!(records.connector.shows(line));

    // Neither a receiver that works again, nor new secrets, nor a restart ends it.
    records.receiver.configure(|options| options.status = None);
    records.connector.gate().check_ended(CheckResult::Changed);
    let another = Connector::start(&http_settings(&records.receiver.url()), &records.store_dir).await;
    let held = another.note().await.unwrap_err();
    assert!(held.is_paused(), "{held}");
    assert_eq!(records.asked(), 1);

    records.connector.store.resume_gate(Destination::SystemOfRecord).await.expect("the store answers");
    eventually("calls are made again", || async { records.connector.note().await.is_ok() }).await;
    eventually("by all processes", || async { another.note().await.is_ok() }).await;
}

#[tokio::test]
async fn an_operator_pauses_and_resumes() {
    let records = TestRecords::start().await;
    records.connector.store.pause_gate(Destination::SystemOfRecord, "maintenance").await.expect("the store answers");
    eventually("the pause is seen", || async { records.connector.note().await.is_err() }).await;
    let asked = records.asked();

    let error = records.connector.note().await.unwrap_err();

    assert!(error.to_string().contains("paused: maintenance"), "{error}");
    assert_eq!(records.asked(), asked);
    records.connector.store.resume_gate(Destination::SystemOfRecord).await.expect("the store answers");
    eventually("calls are made again", || async { records.connector.note().await.is_ok() }).await;
}

#[tokio::test]
async fn a_refused_signature_pauses_and_new_secrets_end_the_pause() {
    for status in [401, 403] {
        let records = TestRecords::start().await;
        records.receiver.configure(|options| options.status = Some(status));

        let error = records.connector.note().await.unwrap_err();

        assert!(matches!(error, DestinationError::CredentialsRefused { status: of, .. } if of == status), "{error:?}");
        assert!(is_paused(&records).await, "{status}");
        let reason = reason(&records).await.expect("a reason");
        assert!(reason.starts_with(&format!("credentials refused ({status})")), "{reason}");
        let asked = records.asked();
        records.connector.note().await.unwrap_err();
        assert_eq!(records.asked(), asked, "{status}");

        // The receiver has a new secret, and so have we.
        records.receiver.configure(|options| {
            options.status = None;
            options.secrets = vec![ANOTHER.to_owned()];
        });
        let mut settings = Settings::defaults();
        settings.system_of_record.http.secrets = vec![Secret::new(ANOTHER)];
        assert!(records.connector.records.take_credentials(&settings).expect("good secrets"));
        records.connector.gate().check_ended(CheckResult::Changed);

        eventually("the question is answered", || async { records.connector.note().await.is_ok() }).await;
        records.assert_proper();
    }
}

#[tokio::test]
async fn secrets_that_sign_nothing_are_not_taken_over() {
    let records = TestRecords::start().await;
    let mut settings = Settings::defaults();
    settings.system_of_record.http.secrets = vec![Secret::new("whsec_tooshort")];
    assert!(records.connector.records.take_credentials(&settings).is_err());

    records.connector.note().await.unwrap();

    settings.system_of_record.http.secrets = vec![Secret::new(SECRET)];
    assert!(!records.connector.records.take_credentials(&settings).expect("good secrets"), "the same as before");
}

#[tokio::test]
async fn after_a_restart_a_refused_signature_is_asked_about_at_once() {
    let records = TestRecords::with(|receiver| receiver.status = Some(401), |_| {}).await;
    records.connector.note().await.unwrap_err();
    assert!(is_paused(&records).await);
    records.receiver.configure(|options| options.status = None);

    let restarted = Connector::start(&http_settings(&records.receiver.url()), &records.store_dir).await;

    eventually("the question ends the pause", || async { restarted.note().await.is_ok() }).await;
    // No process waited for the minute between two questions.
    assert!(restarted.records.settle_after() < Duration::from_secs(60));
    records.assert_proper();
}
