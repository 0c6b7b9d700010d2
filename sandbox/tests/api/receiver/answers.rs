//! Answers other than success, faults, and the record of requests.

use std::time::{Duration, Instant};

use hookline_sandbox::receiver::{DocumentType, SECRET};
use hookline_sandbox::{Fault, FaultRule};
use serde_json::json;

use super::{Endpoint, a_thread, an_opt_out};
use crate::helpers::{answer, eventually};

#[tokio::test]
async fn a_status_can_be_answered_instead_with_its_headers() {
    let endpoint = Endpoint::start().await;
    for (number, (status, retry_after, location)) in
        [(410, None, None), (429, Some("7"), None), (307, None, Some("http://127.0.0.1:9/")), (503, Some("x"), None)]
            .into_iter()
            .enumerate()
    {
        endpoint.receiver.configure(|options| {
            options.status = Some(status);
            options.retry_after = retry_after.map(str::to_owned);
            options.location = location.map(str::to_owned);
        });
        let id = format!("d{number}");
        let answered =
            endpoint.signed(SECRET, 0, &id, &a_thread(&id, "a").to_string()).send().await.expect("an answer");
        let header = |name| answered.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(answered.status(), status);
        assert_eq!((header("Retry-After"), header("Location")), (retry_after, location));
    }
    assert!(endpoint.receiver.documents().is_empty());

    endpoint.receiver.configure(|options| options.status = None);
    assert_eq!(endpoint.post(&a_thread("d0", "a")).await.0, 200, "the document that was refused is taken later");
    endpoint.assert_proper();
}

#[tokio::test]
async fn an_answer_can_be_slow() {
    let endpoint = Endpoint::with(|options| options.latency = Duration::from_millis(40)).await;
    let start = Instant::now();
    assert_eq!(endpoint.post(&a_thread("d1", "a")).await.0, 200);
    assert!(start.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn an_answer_can_be_lost_before_or_after_the_effect() {
    for (fault, effects) in [(Fault::Reset, 0), (Fault::EffectThenReset, 1)] {
        let endpoint = Endpoint::start().await;
        endpoint.receiver.fault(FaultRule::new(fault).on(DocumentType::ThreadWritten).times(1));
        assert_eq!(endpoint.post(&an_opt_out("d0", true)).await.0, 200, "another type");

        let body = a_thread("d1", "a").to_string();
        assert!(endpoint.signed(SECRET, 0, "d1", &body).send().await.is_err());
        assert_eq!(endpoint.receiver.threads().len(), effects);

        assert_eq!(answer(endpoint.signed(SECRET, 0, "d1", &body)).await.0, 200);
        assert_eq!((endpoint.receiver.threads().len(), endpoint.receiver.threads()[0].writes), (1, 1));
        endpoint.assert_proper();
    }
}

#[tokio::test]
async fn two_bodies_are_noticed_even_where_a_fault_took_the_first() {
    let endpoint = Endpoint::start().await;
    endpoint.receiver.fault(FaultRule::new(Fault::status(503)).times(1));

    assert_eq!(endpoint.post(&a_thread("d1", "a")).await.0, 503);
    assert_eq!(endpoint.post(&a_thread("d1", "b")).await.0, 400);

    assert_eq!(endpoint.violations(), ["a webhook-id came with another body than before"]);
}

#[tokio::test]
async fn an_effect_can_come_after_the_client_gave_up() {
    let endpoint = Endpoint::start().await;
    endpoint.receiver.fault(FaultRule::new(Fault::LateEffect(Duration::from_millis(50))));

    assert!(endpoint.signed(SECRET, 0, "d1", &a_thread("d1", "a").to_string()).send().await.is_err());

    eventually("the effect", || endpoint.receiver.threads().len() == 1).await;
}

#[tokio::test]
async fn an_answer_can_be_no_json() {
    let endpoint = Endpoint::start().await;
    endpoint.receiver.fault(FaultRule::new(Fault::GarbageBody));

    let body = a_thread("d1", "a").to_string();
    let answered = endpoint.signed(SECRET, 0, "d1", &body).send().await.expect("an answer");

    assert_eq!(answered.status(), 200);
    assert!(answered.json::<serde_json::Value>().await.is_err());
    assert_eq!(endpoint.receiver.threads().len(), 1);
}

#[tokio::test]
async fn another_path_method_or_media_type_is_a_violation() {
    let endpoint = Endpoint::with(|options| options.path = "/texts".to_owned()).await;
    assert!(endpoint.receiver.url().ends_with("/texts"));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let elsewhere = format!("{}/hookline", endpoint.receiver.base_url());

    assert_eq!(client.post(&elsewhere).send().await.expect("an answer").status(), 404);
    assert_eq!(client.get(endpoint.receiver.url()).send().await.expect("an answer").status(), 405);
    let body = a_thread("d1", "a").to_string();
    let signed = endpoint.signed(SECRET, 0, "d1", &body).build().expect("a request");
    let mut typeless = signed;
    typeless.headers_mut().insert("Content-Type", "text/plain".parse().expect("a value"));
    assert_eq!(client.execute(typeless).await.expect("an answer").status(), 415);

    assert_eq!(endpoint.violations().len(), 3);
    assert_eq!(endpoint.post(&a_thread("d1", "a")).await, (200, json!({})));
}

#[tokio::test]
async fn requests_are_recorded() {
    let endpoint = Endpoint::start().await;
    assert_eq!(endpoint.post(&a_thread("d1", "a")).await.0, 200);

    let requests = endpoint.receiver.requests();

    assert_eq!((requests.len(), requests[0].path.as_str(), requests[0].status), (1, "/hookline", Some(200)));
    assert_eq!(requests[0].endpoint, Some(DocumentType::ThreadWritten.into()));
    endpoint.receiver.clear_requests();
    assert!(endpoint.receiver.requests().is_empty());
    endpoint.receiver.stop().await;
    let refused = endpoint.signed(SECRET, 0, "d2", "{}").send().await.expect_err("nobody listens");
    assert!(refused.is_connect());
}
