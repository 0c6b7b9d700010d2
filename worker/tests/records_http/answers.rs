//! What each answer means.

use std::time::Duration;

use hookline_common::names::DeadReason;
use hookline_common::time::Timestamp;
use hookline_sandbox::{DocumentType, Fault, Receiver, ReceiverOptions};
use hookline_worker::destinations::error::{DestinationError, Disposition};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::helpers::{Connector, NAME, TIMEOUT, TestRecords, eventually, http_settings};

#[tokio::test]
async fn each_status_asks_for_what_its_class_asks_for() {
    let retry = |after: Option<u64>| Disposition::Retry { after: after.map(Duration::from_secs) };
    let rejected = || Disposition::DeadLetter { reason: DeadReason::Rejected };
    for (status, retry_after, expected, may_have_taken_effect) in [
        (300, None, retry(None), true),
        (301, None, retry(None), true),
        (302, Some("4"), retry(Some(4)), true),
        (307, None, retry(None), true),
        (308, None, retry(None), true),
        (400, None, rejected(), false),
        (402, None, rejected(), false),
        (404, None, rejected(), false),
        (405, None, rejected(), false),
        (406, None, rejected(), false),
        (408, None, retry(None), true),
        (413, None, rejected(), false),
        (415, None, rejected(), false),
        (418, None, rejected(), false),
        (421, None, retry(None), false),
        (422, Some("9"), rejected(), false),
        (423, None, retry(None), false),
        (425, Some("9"), retry(Some(9)), false),
        (451, None, rejected(), false),
        (500, None, retry(None), true),
        (502, None, retry(None), true),
        (503, Some("7"), retry(Some(7)), true),
        (504, None, retry(None), true),
    ] {
        let records = TestRecords::start().await;
        let headers: Vec<_> = retry_after.map(|value| ("Retry-After", value)).into_iter().collect();
        records.answer_once(status, &headers, "");

        let error = records.connector.note().await.unwrap_err();

        assert_eq!(error.disposition(), expected, "{status}");
        assert_eq!(error.may_have_taken_effect(), may_have_taken_effect, "{status}");
        assert_eq!(error.status(), Some(status), "{status}");
        let record = records.connector.log.records().pop().expect("a record");
        assert_eq!((record.method.as_str(), record.path.as_str(), record.status), ("POST", "/hookline", Some(status)));
        // The connector itself tries nothing again.
        assert_eq!(records.asked(), 1, "{status}");
    }
}

#[tokio::test]
async fn any_2xx_is_taken_whatever_its_body() {
    let records = TestRecords::start().await;
    for (status, body) in [(200, ""), (200, "ok"), (201, "{}"), (202, "<html>queued</html>"), (204, ""), (299, "[")] {
        records.answer_once(status, &[], body);
        assert_eq!(records.connector.note().await.unwrap(), "thread_0011", "{status} {body}");
        records.answer_once(status, &[], body);
        assert!(records.connector.opt_out().await.unwrap(), "{status} {body}");
        records.answer_once(status, &[], body);
        assert_eq!(records.connector.upsert().await.unwrap(), (String::new(), true), "{status} {body}");
    }
}

#[tokio::test]
async fn a_409_says_that_it_was_done_already() {
    let records = TestRecords::start().await;
    records.answer_once(409, &[], r#"{"error":"known"}"#);
    assert_eq!(records.connector.note().await.unwrap(), "thread_0011");
    records.answer_once(409, &[], "");
    assert!(!records.connector.opt_out().await.unwrap(), "nothing changed");
    let line = r#"hookline_api_requests_total{destination="system_of_record",operation="log_note",status="4xx"} 1"#;
    assert!(records.connector.shows(line));
}

#[tokio::test]
async fn breakers_do_not_count_what_is_rejected() {
    let records = TestRecords::with(|receiver| receiver.status = Some(405), |_| {}).await;

    for _ in 0..30 {
        let error = records.connector.note().await.unwrap_err();
        assert!(matches!(error, DestinationError::Rejected { status: 405, .. }), "{error:?}");
    }

    assert_eq!(records.asked(), 30);
}

#[tokio::test]
async fn no_document_is_sent_before_retry_after_has_passed() {
    let records = TestRecords::start().await;
    records.fail_once(Fault::Throttle { retry_after: "30".to_owned() });

    let before = Timestamp::now();
    let error = records.connector.note().await.unwrap_err();
    assert!(matches!(error, DestinationError::Throttled { .. }), "{error:?}");
    let Disposition::Hold { until, .. } = error.disposition() else { panic!("{error:?}") };
    assert!(until.since(before) >= Duration::from_secs(30), "{until}");
    assert!(until.since(Timestamp::now()) <= Duration::from_secs(31), "{until}");

    for error in [
        records.connector.note().await.unwrap_err(),
        records.connector.opt_out().await.unwrap_err(),
        records.connector.find(Some("/contacts/x"), None).await.err().expect("held"),
    ] {
        assert!(matches!(error, DestinationError::GateClosed { is_paused: false, .. }), "{error:?}");
    }
    assert_eq!(records.asked(), 1);
}

#[tokio::test]
async fn after_a_429_without_retry_after_the_next_one_closes_for_longer() {
    let records = TestRecords::start().await;
    for least in [1, 2, 4] {
        records.answer_once(429, &[], "");
        let before = Timestamp::now();

        let error = records.connector.note().await.unwrap_err();

        let Disposition::Hold { until, .. } = error.disposition() else { panic!("{error:?}") };
        assert!(until.since(before) >= Duration::from_secs(least), "{least} s: {:?}", until.since(before));
        tokio::time::sleep(until.since(Timestamp::now())).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(ReceiverOptions::default()).await.unwrap();
    let records = TestRecords::start().await;
    for status in [301, 302, 303, 307, 308] {
        records.answer_once(status, &[("Location", &elsewhere.url())], "");

        let error = records.connector.note().await.unwrap_err();

        assert_eq!(error, DestinationError::Failed { status, retry_after: None, detail: String::new() });
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn what_was_never_sent_surely_had_no_effect() {
    let records = TestRecords::start().await;
    records.receiver.stop().await;

    let error = records.connector.note().await.unwrap_err();

    assert!(matches!(error, DestinationError::NotSent { .. }), "{error:?}");
    assert_eq!(error.disposition(), Disposition::Retry { after: None });
}

#[tokio::test]
async fn calls_that_fail_again_and_again_are_held_but_for_a_probe() {
    let records = TestRecords::with(|receiver| receiver.status = Some(503), |_| {}).await;

    let mut held = None;
    for _ in 0..50 {
        if let Err(error @ DestinationError::GateClosed { .. }) = records.connector.note().await {
            held = Some(error);
            break;
        }
    }

    let held = held.expect("the breaker opens");
    assert!(held.to_string().contains("contact writes fail"), "{held}");
    assert!(records.requests_to(DocumentType::ThreadWritten) < 50);
    // Opt-outs have a breaker of their own.
    let error = records.connector.opt_out().await.unwrap_err();
    assert!(matches!(error, DestinationError::Failed { status: 503, .. }), "{error:?}");
}

#[tokio::test]
async fn nothing_personal_is_in_an_error_a_log_or_a_metric() {
    let records = TestRecords::start().await;
    let said = format!("{NAME}: Lilac WALLPAPER from +12025550147 (secret-canary@example.com) is refused");
    records.answer_once(422, &[], &serde_json::json!({ "error": said }).to_string());
    let note = records.connector.note().await.unwrap_err();
    records.answer_once(422, &[], &serde_json::json!({ "error": said }).to_string());
    let upsert = records.connector.upsert().await.unwrap_err();

    // What each document holds is known, and masked; the rest is told.
    for (error, private) in [(note, ["Lilac", "WALLPAPER"]), (upsert, ["Marisol", "Ektberg"])] {
        let told = format!("{error} {error:?} {}", error.detail());
        assert!(told.contains("is refused"), "{told}");
        for private in private.into_iter().chain(["5550147", "secret-canary"]) {
            assert!(!told.to_lowercase().contains(&private.to_lowercase()), "{private}: {told}");
        }
    }
    let logged = format!("{:?}", records.connector.log);
    assert!(!logged.contains("5550147") && !logged.contains("Marisol"), "{logged}");
}

#[tokio::test]
async fn a_time_out_ends_a_call_and_leaves_its_outcome_unknown() {
    let records = TestRecords::start().await;
    records.fail_once(Fault::Hang(TIMEOUT * 20));

    let error = records.connector.note().await.unwrap_err();

    assert!(matches!(error, DestinationError::NoAnswer { .. }), "{error:?}");
    assert!(error.may_have_taken_effect());
    assert_eq!(error.disposition(), Disposition::Retry { after: None });
    eventually("the next call is made as before", || async { records.connector.note().await.is_ok() }).await;
}

/// A receiver may be slow to send a body that nobody needs, and other calls must not go out meanwhile.
#[tokio::test]
async fn a_429_closes_the_gate_before_its_body_has_come() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = http_settings(&format!("http://{}/", listener.local_addr().unwrap()));
    settings.timeout = Duration::from_secs(120);
    let dir = tempfile::tempdir().unwrap();
    let connector = Connector::start(&settings, &dir).await;
    let stalls = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 65_536]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 429 Slow\r\nRetry-After: 60\r\nContent-Length: 9\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });

    let sent = tokio::time::timeout(Duration::from_secs(60), connector.note());

    let error = sent.await.expect("no body is waited for").unwrap_err();
    assert!(matches!(error, DestinationError::Throttled { .. }), "{error:?}");
    stalls.abort();
}
