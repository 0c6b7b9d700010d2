//! Answers that are not what was asked for: statuses of every class, and bodies of every other kind.

use hookline_sandbox::{Direction, Endpoint, Fault, FaultRule, Method};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::helpers::{ACCOUNT, Api, MEDIA_TYPE};

async fn with(fault: Fault) -> Api {
    let api = Api::start().await;
    api.sandbox.fault(FaultRule::new(fault));
    api
}

async fn put(api: &Api) -> reqwest::Result<Response> {
    api.request(Method::PUT, &format!("/{ACCOUNT}/opt_outs/2025550147")).send().await
}

/// Returns all bytes that a PUT is answered with, until the connection ends.
async fn raw_put(api: &Api) -> String {
    let mut stream = tokio::net::TcpStream::connect(api.sandbox.addr()).await.expect("the sandbox listens");
    let request = format!(
        "PUT /{ACCOUNT}/opt_outs/2025550147 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer synthetic-token\r\n\
         Accept: {MEDIA_TYPE}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an orderly end");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn every_answer_says_that_it_is_the_stand_ins() {
    for fault in [
        Fault::status(200),
        Fault::status(304),
        Fault::status(503),
        Fault::Throttle { retry_after: "1".to_owned() },
        Fault::GarbageBody,
        Fault::Gzip,
        Fault::EffectThenStatus(204),
    ] {
        let api = with(fault.clone()).await;
        assert_eq!(put(&api).await.expect("an answer").headers()["X-Hookline-Sandbox"], "1", "{fault:?}");
    }
    let api = Api::with(|options| options.rate_limit = Some((1, std::time::Duration::from_secs(60)))).await;
    for _ in 0..2 {
        assert_eq!(put(&api).await.expect("an answer").headers()["X-Hookline-Sandbox"], "1", "429 too");
    }
    let unknown = api.bare(Method::GET, "/no/such/path").send().await.expect("an answer");
    assert_eq!(unknown.headers()["X-Hookline-Sandbox"], "1");
}

#[tokio::test]
async fn a_redirect_has_its_place_and_carries_nothing_out() {
    let api = with(Fault::redirect(302, "https://status.example.test/")).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");

    let path = format!("{}/{ACCOUNT}/opt_outs/2025550147", api.sandbox.base_url());
    let answer = client.put(path).bearer_auth("synthetic-token").send().await.expect("an answer");

    assert_eq!(answer.status(), 302);
    assert_eq!(answer.headers()["Location"], "https://status.example.test/");
    assert!(api.sandbox.effects().is_empty());
}

#[tokio::test]
async fn an_interim_status_alone_is_no_answer() {
    for status in [100, 102, 103, 199] {
        let api = with(Fault::status(status)).await;
        assert!(put(&api).await.expect_err("no final answer").status().is_none(), "{status}");

        let sent = raw_put(&api).await;
        assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{sent}");
        assert!(sent.contains("x-hookline-sandbox: 1\r\n") && sent.ends_with("\r\n\r\n"), "{sent}");
        assert_eq!(api.sandbox.requests()[0].status, Some(status));
        assert!(api.sandbox.effects().is_empty());
    }
}

#[tokio::test]
async fn a_switch_of_protocols_is_a_status_that_nobody_asked_for() {
    let api = with(Fault::status(101)).await;

    assert_eq!(put(&api).await.map(|answer| answer.status().as_u16()).ok(), Some(101));
}

#[tokio::test]
async fn an_interim_head_can_come_before_the_answer() {
    let api = with(Fault::Interim(103)).await;

    let answer = put(&api).await.expect("an answer");
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.json::<Value>().await.expect("JSON")["@type"], "OptOut");
    assert_eq!(api.sandbox.effects().len(), 1);

    let sent = raw_put(&api).await;
    assert!(sent.starts_with("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\n"), "{sent}");
}

#[tokio::test]
async fn a_page_for_people_is_answered_200_and_carries_nothing_out() {
    let api = with(Fault::maintenance_page()).await;

    let answer = put(&api).await.expect("an answer");

    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["Content-Type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    assert!(answer.text().await.expect("a body").contains("<title>"));
    assert!(api.sandbox.effects().is_empty());
}

#[tokio::test]
async fn another_resource_looks_like_an_answer() {
    let api = with(Fault::opt_out_of(ACCOUNT, "+12025550148")).await;
    let answer = put(&api).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), &answer.headers()["Content-Type"]), (200, &MEDIA_TYPE.parse().unwrap()));
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!((&body["@type"], &body["formattedPhoneNumber"]), (&json!("OptOut"), &json!("2025550148")));

    let api = with(Fault::another_resource()).await;
    assert_eq!(put(&api).await.expect("an answer").json::<Value>().await.expect("JSON")["@type"], "Account");
    assert!(api.sandbox.effects().is_empty());
}

#[tokio::test]
async fn a_write_can_be_carried_out_and_answered_with_anything() {
    let body = "<p>Saved</p>".into();
    let api = with(Fault::EffectThenBody { status: 202, media_type: "text/html".to_owned(), body }).await;

    let answer = put(&api).await.expect("an answer");

    assert_eq!((answer.status().as_u16(), answer.text().await.expect("text").as_str()), (202, "<p>Saved</p>"));
    assert_eq!(api.sandbox.effects().len(), 1);
}

#[tokio::test]
async fn a_compressed_body_is_the_answer_once_it_is_unpacked() {
    let api = Api::start().await;
    let plain = put(&api).await.expect("an answer").bytes().await.expect("a body");
    api.sandbox.fault(FaultRule::new(Fault::Gzip));

    let answer = put(&api).await.expect("an answer");

    assert_eq!((answer.status().as_u16(), &answer.headers()["Content-Encoding"]), (201, &"gzip".parse().unwrap()));
    let packed = answer.bytes().await.expect("a body");
    assert_eq!(&packed[..2], [0x1f, 0x8b], "this client asks for no compression, so it unpacks none");
    // Ten bytes of file header and five of block header precede the text; an eight-byte trailer follows it.
    assert_eq!(packed[15..packed.len() - 8], plain[..]);
}

#[tokio::test]
async fn half_an_emoji_is_an_escape_or_bytes_that_are_no_utf_8() {
    let api = Api::start().await;
    let text = api.sandbox.add_message(ACCOUNT, "+12025550147", Direction::In, "See you ");
    let read = async || api.request(Method::GET, &text.message).send().await.expect("an answer").bytes().await;

    api.sandbox.fault(FaultRule::new(Fault::LoneSurrogate).on(Endpoint::GetMessage).times(1));
    let escaped = read().await.expect("a body");
    let escaped = std::str::from_utf8(&escaped).expect("UTF-8");
    assert!(escaped.contains(r#""body":"See you \ud83d""#), "{escaped}");
    assert!(serde_json::from_str::<Value>(escaped).is_err());

    api.sandbox.fault(FaultRule::new(Fault::CutUtf8).times(1));
    let cut = read().await.expect("a body");
    assert!(std::str::from_utf8(&cut).is_err());
    assert!(String::from_utf8_lossy(&cut).contains("\"body\":\"See you \u{fffd}\""));

    assert!(serde_json::from_slice::<Value>(&read().await.expect("a body")).is_ok());
    api.sandbox.fault(FaultRule::new(Fault::LoneSurrogate));
    let other = put(&api).await.expect("an answer").text().await.expect("text");
    assert!(other.contains(r"2025550147\ud83d"), "{other}");
}
