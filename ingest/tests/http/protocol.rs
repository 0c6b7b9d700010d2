//! HTTP itself: requests that are not HTTP, several requests on a connection, old clients, polite clients.

use tokio::io::AsyncWriteExt;

use crate::helpers::{TestIngest, read_to_end, sign};

fn request(body: &str, headers: &str) -> String {
    let signature = sign(body.as_bytes());
    format!(
        "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\nx-textus-signature: {signature}\r\ncontent-length: {}\r\n\
         {headers}\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn what_is_no_http_is_answered_400() {
    let ingest = TestIngest::start().await;

    for garbage in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\x7f\x03\r\n\r\n",
        "POST\r\n\r\n",
        "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nhello",
    ] {
        let answer = ingest.exchange(garbage.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{garbage:?}: {answer}");
    }
    assert_eq!(ingest.stored().await, []);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let ingest = TestIngest::start().await;
    let bodies: Vec<String> = (0..5).map(|n| format!(r#"{{"id":"{n}","action":"contact.created"}}"#)).collect();
    let mut all: String = bodies[..4].iter().map(|body| request(body, "")).collect();
    all += &request(&bodies[4], "connection: close\r\n");

    let answers = ingest.exchange(all.as_bytes()).await;

    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 5, "{answers}");
    let stored = ingest.stored().await;
    let positions: Vec<_> = bodies
        .iter()
        .map(|body| {
            let event = stored.iter().find(|event| event.body == body.as_bytes()).unwrap();
            answers.find(event.id.as_str()).unwrap()
        })
        .collect();
    assert!(positions.is_sorted(), "{positions:?}");
}

#[tokio::test]
async fn long_pipelined_requests_are_all_answered() {
    let ingest = TestIngest::start().await;
    // Together and each by itself longer than what is read of a connection at a time; so is the head of one.
    let mut all: String = (0..12).map(|n: u32| request(&n.to_string().repeat(40_000), "")).collect();
    all += &(0..40).map(|n| request(&format!("short {n}"), "")).collect::<String>();
    all += &request("long head", &format!("x-long: {}\r\n", "x".repeat(40_000)));
    let chunks = format!("4e20\r\n{}\r\n", "x".repeat(20_000)).repeat(3) + &"1\r\nx\r\n".repeat(10_000) + "0\r\n\r\n";
    let head = request("", "transfer-encoding: chunked\r\n").replace("content-length: 0\r\n", "");
    all += &head.replace(&sign(b""), &sign("x".repeat(70_000).as_bytes()));
    all += &chunks;
    all += &request("the last", "connection: close\r\n");

    let answers = ingest.exchange(all.as_bytes()).await;

    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 12 + 40 + 3, "{answers}");
    assert_eq!(ingest.stored().await.len(), 12 + 40 + 3);
}

#[tokio::test]
async fn a_refused_request_does_not_spoil_the_next_on_its_connection() {
    let ingest = TestIngest::start().await;
    let refused = "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
    let wrong_method = "GET /webhooks/textus HTTP/1.1\r\nhost: x\r\n\r\n";

    let all = format!("{refused}{wrong_method}{}", request("whole", "connection: close\r\n"));
    let answers = ingest.exchange(all.as_bytes()).await;

    let at = |status: &str| answers.find(status).unwrap_or_else(|| panic!("no {status} in {answers}"));
    assert!(at("HTTP/1.1 401 ") < at("HTTP/1.1 405 ") && at("HTTP/1.1 405 ") < at("HTTP/1.1 200 "), "{answers}");
    assert_eq!(ingest.stored().await.len(), 1);
}

#[tokio::test]
async fn a_sender_that_closes_its_half_after_the_request_is_answered() {
    let ingest = TestIngest::start().await;
    let mut connection = ingest.connect().await;

    connection.write_all(request("half", "").as_bytes()).await.unwrap();
    connection.shutdown().await.unwrap();
    let answer = read_to_end(&mut connection).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(ingest.stored().await.len(), 1);
}

#[tokio::test]
async fn an_http_1_0_sender_and_one_that_waits_to_be_asked_for_the_body_are_served() {
    let ingest = TestIngest::start().await;

    let old = ingest.exchange(request("old", "").replace("HTTP/1.1", "HTTP/1.0").as_bytes()).await;
    assert!(old.contains(" 200 OK\r\n"), "{old}");

    let mut connection = ingest.begin(&sign(b"polite"), "polite".len()).await;
    connection.write_all(b"polite").await.unwrap();
    connection.shutdown().await.unwrap();
    let answer = read_to_end(&mut connection).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    assert_eq!(ingest.stored().await.len(), 2);
}
