//! Bodies that are too large, too slow, cut off or malformed.

use std::time::Duration;

use hookline_common::settings::Settings;
use tokio::io::AsyncWriteExt;

use crate::helpers::{TestIngest, eventually, fixture, read_to_end, sign};

fn small_and_short(settings: &mut Settings) {
    settings.ingest.request_timeout = Duration::from_secs(1);
    settings.ingest.max_body_bytes = 1024;
}

fn head(length: &str) -> String {
    format!("POST /webhooks/textus HTTP/1.1\r\nhost: x\r\n{length}\r\n")
}

fn signed_head(length: &str, body: &[u8]) -> String {
    head(&format!("{length}x-textus-signature: {}\r\n", sign(body)))
}

#[tokio::test]
async fn a_body_declared_too_large_is_refused_before_it_is_sent() {
    let ingest = TestIngest::configured(small_and_short).await;

    let answer = ingest.exchange(head("content-length: 1025\r\n").as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains(r#""code":"body_too_large""#), "{answer}");
    assert_eq!((ingest.count("body_too_large"), ingest.stored().await.len()), (1, 0));
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_and_the_connection_closed() {
    let ingest = TestIngest::configured(small_and_short).await;
    let mut connection = ingest.connect().await;

    connection.write_all(head("transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
    connection.write_all(format!("400\r\n{}\r\n1\r\nx\r\n", "x".repeat(1024)).as_bytes()).await.unwrap();
    // The last chunk never comes, and the server doesn't wait for it.
    let answer = read_to_end(&mut connection).await;

    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!((ingest.count("body_too_large"), ingest.stored().await.len()), (1, 0));
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_accepted_declared_or_chunked() {
    let ingest = TestIngest::configured(small_and_short).await;
    let body = "x".repeat(1024);
    let close = "connection: close\r\n";

    let declared = signed_head(&format!("{close}content-length: 1024\r\n"), body.as_bytes()) + &body;
    let chunked = signed_head(&format!("{close}transfer-encoding: chunked\r\n"), body.as_bytes());
    let chunked = chunked + &format!("3ff\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", &body[1..]);

    for request in [declared, chunked] {
        let answer = ingest.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(ingest.stored().await.len(), 1);
    assert_eq!((ingest.count("unparsed"), ingest.count("duplicate_seen")), (1, 1));
}

#[tokio::test]
async fn a_body_that_does_not_end_in_time_is_answered_408_and_the_connection_closed() {
    let ingest = TestIngest::configured(small_and_short).await;
    let body = fixture("contact.opted_out.json").body;
    let half = &body[..body.len() / 2];

    for length in [format!("content-length: {}\r\n", body.len()), "transfer-encoding: chunked\r\n".to_owned()] {
        let mut connection = ingest.connect().await;
        connection.write_all(signed_head(&length, &body).as_bytes()).await.unwrap();
        if length.starts_with('t') {
            connection.write_all(format!("{:x}\r\n", half.len()).as_bytes()).await.unwrap();
        }
        connection.write_all(half).await.unwrap();

        let answer = read_to_end(&mut connection).await;

        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
    }
    assert_eq!((ingest.count("request_timeout"), ingest.stored().await.len()), (2, 0));
}

#[tokio::test]
async fn a_body_may_pause_within_its_time() {
    let ingest = TestIngest::configured(|settings| settings.ingest.request_timeout = Duration::from_secs(60)).await;
    let body = fixture("contact.opted_out.json").body;
    let mut connection = ingest.connect().await;
    let head = signed_head(&format!("connection: close\r\ncontent-length: {}\r\n", body.len()), &body);
    connection.write_all(head.as_bytes()).await.unwrap();

    for part in body.chunks(body.len().div_ceil(3)) {
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        connection.write_all(part).await.unwrap();
    }
    let answer = read_to_end(&mut connection).await;

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!((ingest.count("request_timeout"), ingest.stored().await.len()), (0, 1));
}

#[tokio::test]
async fn bodies_of_strangers_take_a_bounded_share_of_memory_and_shut_no_webhook_out() {
    let ingest = TestIngest::configured(|settings| settings.ingest.max_buffered_bytes = 1 << 20).await;
    let large = "x".repeat(300 << 10);
    let mut strangers = Vec::new();
    for _ in 0..2 {
        let mut connection = ingest.connect().await;
        // All but the last byte: the body stays in memory.
        connection.write_all(head(&format!("content-length: {}\r\n", large.len() + 1)).as_bytes()).await.unwrap();
        connection.write_all(large.as_bytes()).await.unwrap();
        strangers.push(connection);
    }

    // Both together are over the half that large bodies may take, so one of them was turned away.
    eventually("one is turned away", async || ingest.count("overloaded") == 1).await;
    assert_eq!(ingest.send_signed(&fixture("contact.opted_out.json").body).await.status, 200);
    let refused = ingest.exchange((head("content-length: 400000\r\n") + &large).as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1\r\n"), "{refused}");

    drop(strangers);
    eventually("the room is free again", async || ingest.send_signed(large.as_bytes()).await.status == 200).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_answered_408_and_the_connection_closed() {
    let ingest = TestIngest::configured(small_and_short).await;

    let answer = ingest.exchange(b"POST /webhooks/textus HTTP/1.1\r\nhost: x\r\nx-slow: ").await;

    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_sender_that_goes_away_in_the_middle_leaves_nothing() {
    let ingest = TestIngest::start().await;
    let body = fixture("contact.opted_out.json").body;

    for _ in 0..20 {
        let mut connection = ingest.connect().await;
        let head = signed_head(&format!("content-length: {}\r\n", body.len()), &body);
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&body[..body.len() - 1]).await.unwrap();
        drop(connection);
    }
    // A whole body after them. Its answer shows that the server still works, and only this body is stored.
    let answer = ingest.send_signed(b"whole").await;

    assert_eq!(answer.status, 200);
    let stored = ingest.stored().await;
    assert_eq!(stored.iter().map(|event| &event.body[..]).collect::<Vec<_>>(), [b"whole"]);
    assert_eq!((ingest.count("accepted"), ingest.count("unparsed")), (0, 1));
}

#[tokio::test]
async fn places_of_senders_that_went_away_are_free_again() {
    let ingest = TestIngest::configured(|settings| settings.ingest.max_in_flight = 1).await;

    let connection = ingest.begin("", 10).await;
    assert_eq!(ingest.send_signed(b"x").await.code(), "overloaded");
    drop(connection);

    eventually("the place is free again", async || ingest.send_signed(b"x").await.status == 200).await;
}

#[tokio::test]
async fn malformed_chunks_are_answered_400_and_nothing_is_stored() {
    let ingest = TestIngest::start().await;
    let request = signed_head("transfer-encoding: chunked\r\n", b"hello") + "5\r\nhello\r\nnot a length\r\n";

    let answer = ingest.exchange(request.as_bytes()).await;

    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(ingest.stored().await, []);
}
