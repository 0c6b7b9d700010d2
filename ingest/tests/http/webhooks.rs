//! What becomes of a signed webhook.

use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::service::telemetry::progress::Milestone;
use reqwest::StatusCode;

use crate::helpers::{TestIngest, fixture, fixtures, is_event_id, sign};

#[tokio::test]
async fn every_kind_of_webhook_is_acknowledged_and_stored_with_its_exact_bytes() {
    let ingest = TestIngest::start().await;
    let fixtures = fixtures();

    let mut sent = Vec::new();
    for fixture in &fixtures {
        let answer = ingest.post(&fixture.body).header("x-textus-signature", &fixture.signature).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", fixture.name);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let text = answer.text().await.unwrap();
        let id = serde_json::from_str::<serde_json::Value>(&text).unwrap()["event_id"].as_str().unwrap().to_owned();
        assert_eq!(text, format!(r#"{{"event_id":"{id}","status":"accepted"}}"#));
        sent.push(id);
    }

    let stored = ingest.stored().await;
    assert_eq!(stored.len(), fixtures.len());
    for (fixture, id) in fixtures.iter().zip(&sent) {
        let event = stored.iter().find(|event| event.id.as_str() == id).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fixture.body).unwrap();
        assert_eq!(event.body, fixture.body, "{}", fixture.name);
        assert_eq!(event.source.as_str(), "textus");
        assert_eq!(event.source_event_id.as_deref(), json["id"].as_str());
        assert_eq!(event.event_type.as_str(), json["action"].as_str().unwrap().replace('-', "_"));
        assert_eq!(event.content_type.as_deref(), Some("application/json"));
    }
    assert_eq!(ingest.count("accepted"), fixtures.len() as u64);
}

#[tokio::test]
async fn a_repeat_gets_the_same_event_id_and_is_stored_once() {
    let ingest = TestIngest::start().await;
    let body = fixture("message.received.json").body;

    let first = ingest.send_signed(&body).await;
    let repeat = ingest.send_signed(&body).await;

    assert!(is_event_id(&first.event_id()), "{first:?}");
    assert_eq!(first.event_id(), repeat.event_id());
    assert_eq!(ingest.stored().await.len(), 1);
    assert_eq!((ingest.count("accepted"), ingest.count("duplicate_seen")), (1, 1));
}

#[tokio::test]
async fn twenty_copies_at_once_are_one_event() {
    let ingest = TestIngest::start().await;
    let body = fixture("contact.opted_out.json").body;

    let answers = futures::future::join_all((0..20).map(|_| ingest.send_signed(&body))).await;

    let first = answers[0].event_id();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.event_id() == first));
    assert_eq!(ingest.stored().await.len(), 1);
    assert_eq!((ingest.count("accepted"), ingest.count("duplicate_seen")), (1, 19));
}

#[tokio::test]
async fn the_senders_id_makes_the_event_id_whatever_else_the_body_says() {
    let ingest = TestIngest::start().await;

    let first = ingest.send_signed(br#"{"id":"/d/1","action":"contact.created","n":1}"#).await;
    let changed = ingest.send_signed(br#"{"id":"/d/1","action":"contact.created","n":2}"#).await;
    let other = ingest.send_signed(br#"{"id":"/d/2","action":"contact.created","n":1}"#).await;

    assert_eq!(first.event_id(), changed.event_id());
    assert_ne!(first.event_id(), other.event_id());
}

#[tokio::test]
async fn what_is_signed_is_never_refused() {
    let ingest = TestIngest::start().await;
    let deep = format!(r#"{{"id":"x","action":"contact.created","a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let bodies: [&[u8]; 8] = [
        b"",
        b"hello",
        b"\xff\xfe\x00",
        b"null",
        br#"["contact.created"]"#,
        br#"{"id":"no action"}"#,
        br#"{"action":7}"#,
        deep.as_bytes(),
    ];

    for body in bodies {
        let answer = ingest.send_signed(body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(ingest.send_signed(body).await.event_id(), answer.event_id(), "a repeat is recognised");
    }

    let mut stored: Vec<_> = ingest.stored().await;
    assert!(stored.iter().all(|event| event.event_type.as_str() == "unparsed"));
    stored.sort_by(|a, b| a.body.cmp(&b.body));
    let mut expected = bodies.to_vec();
    expected.sort_unstable();
    assert_eq!(stored.iter().map(|event| &event.body[..]).collect::<Vec<_>>(), expected);
    assert_eq!((ingest.count("unparsed"), ingest.count("duplicate_seen")), (8, 8));
    assert_eq!(ingest.count("accepted"), 0);
}

#[tokio::test]
async fn a_text_that_is_a_stop_word_alone_goes_to_who_opts_out_unless_that_is_off() {
    use HandlerName::{FlagOptOut, LogNote, RecordHistory, RecordOptOut};
    let with = |keywords: &[&str]| {
        let keywords: Vec<String> = keywords.iter().map(|word| (*word).to_owned()).collect();
        TestIngest::configured(move |settings| settings.handlers.record_opt_out.keywords = keywords)
    };
    let to_all = vec![RecordOptOut, FlagOptOut, LogNote, RecordHistory];
    let a_note = vec![LogNote, RecordHistory];
    for (ingest, text, routed_to) in [
        (TestIngest::start().await, "Stop!", &to_all),
        (TestIngest::start().await, "UNSTOP", &to_all),
        (TestIngest::start().await, "Stop by at noon", &a_note),
        (with(&["BASTA"]).await, "basta", &to_all),
        (with(&["BASTA"]).await, "STOP", &a_note),
        (with(&[]).await, "STOP", &a_note),
        (with(&[]).await, "START", &a_note),
    ] {
        let mut body: serde_json::Value = serde_json::from_slice(&fixture("message.received.json").body).unwrap();
        body["message"]["body"] = text.into();

        let answer = ingest.send_signed(body.to_string().as_bytes()).await;

        assert_eq!(answer.status, 200);
        let mut found = ingest.routed().await;
        found.sort();
        assert_eq!(found, *routed_to, "{text}");
        let stored = ingest.stored().await;
        assert!(stored.iter().all(|event| event.event_type.as_str() == "message.received"));
    }
}

#[tokio::test]
async fn an_unknown_type_is_kept_as_sent_and_of_duplicate_keys_the_last_counts() {
    let ingest = TestIngest::start().await;

    ingest.send_signed(br#"{"id":"a","action":"contact.merged-in"}"#).await;
    ingest.send_signed(br#"{"id":"b","action":"contact.created","action":"contact.opted-in","id":"c"}"#).await;

    let stored = ingest.stored().await;
    let seen = |id: &str| stored.iter().find(|event| event.source_event_id.as_deref() == Some(id)).unwrap();
    assert_eq!(seen("a").event_type.as_str(), "contact.merged-in");
    assert_eq!(seen("c").event_type.as_str(), "contact.opted_in");
    assert_eq!(stored.len(), 2);
}

#[tokio::test]
async fn request_id_and_trace_context_of_a_sane_form_are_taken_over() {
    let ingest = TestIngest::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let post = |body: &'static [u8]| ingest.post(body).header("x-textus-signature", sign(body));

    let sane = post(b"1").header("x-request-id", "req-1.A_b").header("traceparent", trace).send().await.unwrap();
    let insane = post(b"2").header("x-request-id", "a b").header("traceparent", "00-x").send().await.unwrap();
    let refused = ingest.post(b"3").header("x-request-id", "req-3").send().await.unwrap();

    assert_eq!(sane.headers()["x-request-id"], "req-1.A_b");
    assert_eq!(refused.headers()["x-request-id"], "req-3");
    let made = insane.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    let stored = ingest.stored().await;
    let ids = |body: &[u8]| {
        let event = stored.iter().find(|event| event.body == body).unwrap();
        (event.request_id.clone(), event.traceparent.clone())
    };
    assert_eq!(ids(b"1"), (Some("req-1.A_b".to_owned()), Some(trace.to_owned())));
    assert_eq!(ids(b"2"), (Some(made), None));
}

#[tokio::test]
async fn an_acknowledgement_is_told_to_whoever_watches_and_timed() {
    let ingest = TestIngest::start().await;
    let mut progress = ingest.progress.listen();

    let answer = ingest.send_signed(&fixture("contact.opted-out.hyphen.json").body).await;

    let Milestone::Accepted { event_id, event_type, duplicate, .. } = progress.try_recv().unwrap() else {
        panic!("not an acknowledgement");
    };
    assert_eq!(event_id, EventId::parse(&answer.event_id()).unwrap());
    assert_eq!((event_type.as_str(), duplicate), ("contact.opted_out", false));
    let metrics = ingest.metrics.render();
    assert!(metrics.contains(r#"hookline_ingest_ack_seconds_count{source="textus"} 1"#), "{metrics}");
    assert!(metrics.contains("hookline_publish_confirm_seconds_count 1"), "{metrics}");
}
