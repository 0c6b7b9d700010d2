//! What signs a document, as the receiver and the wire see it.

use std::time::Duration;

use hookline_common::secret::Secret;
use hookline_common::time::Timestamp;
use hookline_sandbox::receiver::{SECRET, sign};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::helpers::{Connector, TestRecords, http_settings};

const NEW: &str = "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=";

/// During a rotation some receivers have the old secret and some the new one.
#[tokio::test]
async fn with_two_secrets_either_verifies() {
    for theirs in [vec![SECRET], vec![NEW], vec![NEW, SECRET]] {
        let known = theirs.iter().map(|secret| (*secret).to_owned()).collect();
        let ours = |settings: &mut hookline_common::settings::HttpRecordSettings| {
            settings.secrets = vec![Secret::new(NEW), Secret::new(SECRET)];
        };
        let records = TestRecords::with(|receiver| receiver.secrets = known, ours).await;

        records.connector.note().await.unwrap_or_else(|error| panic!("{theirs:?}: {error}"));

        assert_eq!(records.receiver.documents().len(), 1, "{theirs:?}");
        records.assert_proper();
    }
}

#[tokio::test]
async fn a_secret_that_the_receiver_does_not_have_signs_nothing() {
    let records = TestRecords::with(|_| {}, |settings| settings.secrets = vec![Secret::new(NEW)]).await;

    let error = records.connector.note().await.unwrap_err();

    assert_eq!(error.status(), Some(401));
    assert!(records.receiver.documents().is_empty());
}

/// One request as it is on the wire: its head in lower case, and its body.
async fn one_request(listener: &TcpListener) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut read = Vec::new();
    loop {
        let mut part = [0; 4096];
        let bytes = stream.read(&mut part).await.expect("a request");
        assert!(bytes > 0, "the request is whole");
        read.extend_from_slice(&part[..bytes]);
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        let length = header(&head, "content-length").parse::<usize>().expect("a length");
        if read.len() >= end + 4 + length {
            let answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.expect("the client reads");
            return (head, read[end + 4..].to_vec());
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let of = |line: &'a str| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let values: Vec<&str> = head.lines().filter_map(of).map(|(_, value)| value).collect();
    let [value] = values.as_slice() else { panic!("{name}: {values:?}") };
    value
}

#[tokio::test]
async fn each_send_is_signed_anew_and_has_the_same_id_and_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = http_settings(&format!("http://{}/in/box", listener.local_addr().unwrap()));
    settings.secrets = vec![Secret::new(NEW), Secret::new(SECRET)];
    let dir = tempfile::tempdir().unwrap();
    let connector = Connector::start(&settings, &dir).await;
    let mut seen = Vec::new();
    for pause in [1_100, 0] {
        let before = Timestamp::now().as_millis() / 1_000;
        let (sent, (head, body)) = tokio::join!(connector.note(), one_request(&listener));
        assert_eq!(sent.unwrap_err().status(), Some(500));
        let after = Timestamp::now().as_millis() / 1_000;

        assert!(head.starts_with("POST /in/box HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "content-type"), "application/json");
        assert!(!head.to_lowercase().contains("authorization:"), "{head}");
        let seconds: i64 = header(&head, "webhook-timestamp").parse().unwrap();
        assert!((before..=after).contains(&seconds), "the time of this send: {before} {seconds} {after}");
        let id = header(&head, "webhook-id").to_owned();
        let expected = format!("{} {}", sign(NEW, &id, seconds, &body), sign(SECRET, &id, seconds, &body));
        assert_eq!(header(&head, "webhook-signature"), expected, "the first secret signs first");
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["id"], id.as_str());
        seen.push((id, body, seconds));
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    assert_eq!((&seen[0].0, &seen[0].1), (&seen[1].0, &seen[1].1));
    assert!(seen[0].2 < seen[1].2, "an old time would be refused after five minutes");
}
