//! Connections that fail on the way.

use std::time::{Duration, Instant};

use hookline_sandbox::{EffectKind, Fault};
use hookline_worker::calls::log::CallLog;
use hookline_worker::destinations::error::{DestinationError, Disposition};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::helpers::{MAX_RESPONSE_BYTES, PHONE, TIMEOUT, TestApi, TestWorker, phone, segment};

#[tokio::test]
async fn what_was_sent_and_not_answered_has_an_unknown_outcome() {
    let long = Duration::from_secs(30);
    for fault in
        [Fault::Hang(long), Fault::Slow(long), Fault::EffectThenHang(long), Fault::Reset, Fault::EffectThenReset]
    {
        let api = TestApi::start().await;
        let shown = format!("{fault:?}");
        api.fail_once(fault);
        let clock = Instant::now();

        let error = api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap_err();

        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{shown}: {error:?}");
        assert!(error.may_have_taken_effect());
        assert_eq!(error.disposition(), Disposition::Retry { after: None });
        assert!(clock.elapsed() < TIMEOUT * 3, "{shown}: {:?}", clock.elapsed());
        assert_eq!(api.log.records()[0].status, None, "{shown}");
        let told = format!("{error} {error:?}");
        assert!(!told.contains("5550147") && !told.contains("opt_outs"), "{told}");
        let line = r#"hookline_api_requests_total{destination="textus",operation="put_opt_out",status="error"} 1"#;
        assert!(api.worker.shows(line), "{shown}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_whole_is_no_answer() {
    let pause = Duration::from_millis(200);
    let too_long = u64::try_from(MAX_RESPONSE_BYTES).unwrap() + 1;
    for fault in [
        Fault::HugeBody(too_long),
        Fault::HugeBody(2_000_000_000),
        Fault::TruncatedBody,
        Fault::GarbageBody,
        Fault::DripBody(pause),
    ] {
        let api = TestApi::start().await;
        let id = api.sandbox.add_contact("acme", "Marisol Ektberg", PHONE);
        let shown = format!("{fault:?}");
        api.fail_once(fault);
        let clock = Instant::now();

        let error = api.textus().contact(&api.log, &segment(&id)).await.unwrap_err();

        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{shown}: {error:?}");
        assert!(clock.elapsed() < TIMEOUT * 3, "{shown}: {:?}", clock.elapsed());
        assert_eq!(api.log.records()[0].status, Some(200), "{shown}");
    }
}

#[tokio::test]
async fn a_body_without_an_announced_length_is_read_to_the_cap_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let worker = TestWorker::start(&base_url, &dir).await;
    // The server sends until the client leaves.
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let clock = Instant::now();

    let error = worker.textus.contact(&CallLog::default(), &segment("Bn3RkQ8")).await.unwrap_err();

    assert!(error.to_string().contains("longer than 65536 bytes"), "{error}");
    flood.await.unwrap();
    assert!(clock.elapsed() < TIMEOUT, "left at the cap, not at the time-out: {:?}", clock.elapsed());
}

#[tokio::test]
async fn an_errors_body_is_not_waited_for_longer_than_the_call_may_take() {
    let api = TestApi::start().await;
    let clock = Instant::now();
    api.answer_once(422, &[], &format!(r#"{{"error":"{}"}}"#, "x".repeat(5_000_000)));

    let error = api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap_err();

    assert_eq!(error.status(), Some(422));
    assert!(clock.elapsed() < TIMEOUT * 3);
}

#[tokio::test]
async fn what_was_never_sent_surely_had_no_effect() {
    let api = TestApi::start().await;
    api.sandbox.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let nowhere = TestWorker::start("http://no-such-host.invalid", &dir).await;
    for textus in [api.textus(), &nowhere.textus] {
        let error = textus.put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap_err();

        assert!(matches!(error, DestinationError::NotSent { .. }), "{error:?}");
        assert!(!error.may_have_taken_effect());
        assert_eq!(error.disposition(), Disposition::Retry { after: None });
        let told = format!("{error} {error:?}");
        assert!(!told.contains("5550147") && !told.contains("opt_outs"), "{told}");
    }
}

#[tokio::test]
async fn a_destination_that_comes_back_is_called_as_before() {
    let api = TestApi::start().await;
    api.fail_once(Fault::Reset);
    api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap_err();

    assert_eq!(api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap().status, 201);

    assert_eq!(api.sandbox.effect_count(EffectKind::OptOutPut, "acme", PHONE), 1);
}
