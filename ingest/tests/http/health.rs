//! The admin listener.

use hookline_broker::BrokerState;
use reqwest::Method;

use crate::helpers::{Answer, Behaviour, FaultyBroker, TestIngest};

#[tokio::test]
async fn a_well_process_is_alive_ready_and_shows_its_metrics_from_zero() {
    let ingest = TestIngest::start().await;

    let live = Answer::of(ingest.admin(Method::GET, "/livez")).await;
    let ready = Answer::of(ingest.admin(Method::GET, "/readyz")).await;
    let metrics = ingest.admin(Method::GET, "/metrics").send().await.unwrap();

    assert_eq!(live.status, 200);
    assert_eq!((ready.status, ready.text.as_str()), (200, r#"{"status":"ready"}"#));
    assert!(metrics.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = metrics.text().await.unwrap();
    for line in
        [r#"hookline_ingest_requests_total{result="not_durable",source="textus"} 0"#, "hookline_broker_connected 1"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_process_that_cannot_store_is_alive_and_says_why_it_is_not_ready() {
    let broker = FaultyBroker::new(Behaviour::Refuse);
    let ingest = TestIngest::with_broker(broker.clone(), |_| {}).await;

    broker.state.send_replace(BrokerState::NotReady("the disk is full".to_owned()));

    let ready = Answer::of(ingest.admin(Method::GET, "/readyz")).await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.text, r#"{"reasons":["broker: the disk is full"],"status":"not_ready"}"#);
    assert_eq!(Answer::of(ingest.admin(Method::GET, "/livez")).await.status, 200);
}

#[tokio::test]
async fn other_paths_and_methods_are_turned_away() {
    let ingest = TestIngest::start().await;

    let path = ingest.admin(Method::GET, "/webhooks/textus").send().await.unwrap();
    let method = ingest.admin(Method::POST, "/readyz").body("x").send().await.unwrap();

    assert_eq!(path.status().as_u16(), 404);
    assert!(path.text().await.unwrap().starts_with(r#"{"error":{"code":"not_found""#));
    assert_eq!((method.status().as_u16(), &method.headers()["allow"]), (405, &"GET, HEAD".parse().unwrap()));
    assert_eq!(ingest.admin(Method::HEAD, "/readyz").send().await.unwrap().status(), 200);
}
