//! Every answer reports the rate limit, and the sandbox enforces it.

use std::time::{Duration, SystemTime};

use hookline_sandbox::RetryAfterForm;
use reqwest::{Method, Response};

use crate::helpers::{ACCOUNT, Api, fixture};

fn number(answer: &Response, header: &str) -> u64 {
    answer.headers()[header].to_str().ok().and_then(|text| text.parse().ok()).expect("a number")
}

async fn absent_message(api: &Api) -> Response {
    api.request(Method::GET, "/messages/absent1").send().await.expect("an answer")
}

#[tokio::test]
async fn every_answer_has_the_documented_headers() {
    let api = Api::start().await;

    let found = api.request(Method::GET, &format!("/{ACCOUNT}/contacts")).send().await.expect("an answer");
    let absent = absent_message(&api).await;
    let unauthorized = api.bare(Method::GET, "/messages/absent1").send().await.expect("an answer");

    assert_eq!((found.status().as_u16(), absent.status().as_u16()), (200, 404));
    assert_eq!(number(&found, "X-RateLimit-Limit"), 1_000);
    assert_eq!(number(&found, "X-RateLimit-Remaining"), 999);
    assert_eq!(number(&absent, "X-RateLimit-Remaining"), 998);
    assert_eq!(number(&unauthorized, "X-RateLimit-Remaining"), 999, "who has no token is counted apart");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((now + 290..=now + 301).contains(&number(&found, "X-RateLimit-Reset")));
    assert!(found.headers().contains_key("Date"));
}

#[tokio::test]
async fn over_the_limit_is_429_until_the_window_ends() {
    let api = Api::with(|options| options.rate_limit = Some((2, Duration::from_millis(1_200)))).await;
    absent_message(&api).await;
    absent_message(&api).await;

    let refused = absent_message(&api).await;

    assert_eq!(refused.status(), 429);
    assert_eq!(number(&refused, "X-RateLimit-Remaining"), 0);
    let wait = number(&refused, "Retry-After");
    assert!((1..=3).contains(&wait), "{wait}");
    assert!(refused.headers().get("Content-Type").is_none());
    assert_eq!(fixture("error.429.response.json")["response"]["body"], serde_json::Value::Null);
    assert!(refused.bytes().await.expect("a whole body").is_empty());
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(absent_message(&api).await.status(), 404, "who waits as told is let in");
}

#[tokio::test]
async fn retry_after_is_a_date_or_absent_where_told_to() {
    let api = Api::with(|options| {
        options.rate_limit = Some((0, Duration::from_secs(60)));
        options.retry_after_form = RetryAfterForm::HttpDate;
    })
    .await;

    let refused = absent_message(&api).await;
    let date = refused.headers()["Retry-After"].to_str().expect("text").to_owned();
    let ahead = httpdate::parse_http_date(&date).expect("an HTTP date").duration_since(SystemTime::now());
    assert!(ahead.is_ok_and(|ahead| ahead > Duration::from_secs(50)));

    api.sandbox.configure(|options| options.retry_after_form = RetryAfterForm::Absent);
    assert!(!absent_message(&api).await.headers().contains_key("Retry-After"));
}

#[tokio::test]
async fn what_is_refused_has_no_effect_and_is_recorded() {
    let api = Api::with(|options| options.rate_limit = Some((1, Duration::from_secs(60)))).await;

    assert_eq!(api.put_opt_out("2025550147").await.0, 201);
    assert_eq!(api.put_opt_out("2025550148").await.0, 429);

    assert_eq!(api.sandbox.effects().len(), 1);
    let statuses: Vec<_> = api.sandbox.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses, [Some(201), Some(429)]);
}
