//! Faults of ours. Whatever the broker does, the sender is answered 503 with a time to retry, never a 4xx.

use std::time::{Duration, Instant};

use hookline_broker::BrokerState;
use hookline_common::settings::Settings;
use tokio::io::AsyncWriteExt;

use crate::helpers::{Answer, Behaviour, DEADLINE, FaultyBroker, TestIngest, read_to_end, sign};

fn assert_come_back_later(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.code()), (503, code.to_owned()), "{answer:?}");
    let seconds: u64 = answer.retry_after.as_deref().unwrap_or_default().parse().expect("whole seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn whatever_keeps_an_event_from_being_stored_is_answered_503() {
    for (behaviour, code) in [
        (Behaviour::Refuse, "not_durable"),
        (Behaviour::TimeOut, "not_durable"),
        (Behaviour::Break, "not_durable"),
        (Behaviour::Panic, "not_durable"),
        (Behaviour::BeFull, "not_durable"),
    ] {
        let ingest = TestIngest::with_broker(FaultyBroker::new(behaviour), |_| {}).await;

        for n in 1..=3 {
            assert_come_back_later(&ingest.send_signed(b"{}").await, code);
            assert_eq!(ingest.count(code), n, "{behaviour:?}");
        }
        assert_eq!(ingest.count("unparsed") + ingest.count("accepted"), 0);
    }
}

#[tokio::test]
async fn a_broker_that_hangs_is_given_up_after_five_seconds() {
    let broker = FaultyBroker::new(Behaviour::Hang);
    let short = |settings: &mut Settings| settings.ingest.request_timeout = Duration::from_millis(300);
    let ingest = TestIngest::with_broker(broker, short).await;
    let started = Instant::now();

    let answer = ingest.send_signed(b"{}").await;

    assert_come_back_later(&answer, "not_durable");
    assert!(
        started.elapsed() >= Duration::from_secs(5),
        "the time to read is not that to store: {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn too_many_in_flight_are_turned_away_before_their_body_is_read() {
    let ingest = TestIngest::configured(|settings| {
        settings.ingest.max_in_flight = 2;
    })
    .await;
    let mut first = ingest.begin(&sign(b"first"), 5).await;
    let mut second = ingest.begin("wrong", 6).await;

    // No byte of this body is sent: the answer comes without waiting for one, and the size is not its reason.
    let head = "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n";
    let answer = ingest.exchange(head.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains(r#""code":"overloaded""#), "{answer}");
    for (connection, body, status) in [(&mut first, "first", "200"), (&mut second, "second", "401")] {
        connection.write_all(body.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let answer = read_to_end(connection).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "who has a place is served: {answer}");
    }
    assert_eq!(ingest.count("overloaded"), 1);
    assert_eq!(ingest.send_signed(b"third").await.status, 200, "the places are free again");
}

#[tokio::test]
async fn a_failed_disk_ends_the_server_with_an_error() {
    let broker = FaultyBroker::new(Behaviour::Break);
    let mut ingest = TestIngest::with_broker(broker.clone(), |_| {}).await;

    broker.state.send_replace(BrokerState::Failed("fsync: Input/output error".to_owned()));

    let ended = tokio::time::timeout(DEADLINE, ingest.ended()).await.expect("ends by itself");
    let error = ended.expect_err("not with success");
    assert!(error.to_string().contains("fsync: Input/output error"), "{error}");
}
