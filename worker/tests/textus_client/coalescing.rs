//! Identical GETs at the same time share one request.

use std::time::Duration;

use futures::future::join_all;
use hookline_sandbox::{Endpoint, Fault, FaultRule};
use hookline_worker::calls::log::CallLog;
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::textus::opt_outs::Shows;

use crate::helpers::{PHONE, TestApi, eventually, phone, segment};

const SLOW: Duration = Duration::from_millis(250);

#[tokio::test]
async fn callers_who_ask_the_same_at_the_same_time_share_one_request() {
    let api = TestApi::with(|options| options.latency = SLOW).await;
    let id = api.sandbox.add_contact("acme", "Marisol Ektberg", PHONE);
    let other = api.sandbox.add_contact("acme", "Tobin Varnholt", "+12025550148");
    let logs: Vec<CallLog> = (0..20).map(|_| CallLog::default()).collect();
    let (slug, other) = (segment(&id), segment(&other));

    let asked_at_once = join_all(logs.iter().map(|log| api.textus().contact(log, &slug)));
    let (answers, different) = tokio::join!(asked_at_once, api.textus().contact(&api.log, &other));

    assert!(answers.into_iter().all(|answer| answer.unwrap().unwrap().raw_id() == id));
    assert_ne!(different.unwrap().unwrap().raw_id(), id);
    assert_eq!(api.asked(), 2);
    assert!(logs.iter().all(|log| log.records().len() == 1 && log.records()[0].status == Some(200)));
    let line = r#"hookline_api_requests_total{destination="textus",operation="get_contact",status="2xx"} 2"#;
    assert!(api.worker.shows(line));

    api.textus().contact(&api.log, &slug).await.unwrap();
    assert_eq!(api.asked(), 3, "an answer is not kept");
}

#[tokio::test]
async fn a_shared_failure_is_everyones() {
    let api = TestApi::start().await;
    api.fail_once(Fault::Slow(SLOW));
    api.sandbox.clear_faults();
    api.sandbox.fault(FaultRule::new(Fault::Hang(Duration::from_secs(9))).times(1));
    let slug = segment("Bn3RkQ8");

    let answers = join_all((0..5).map(|_| api.textus().get_message(&api.log, &slug))).await;

    assert!(answers.iter().all(|answer| matches!(answer, Err(DestinationError::NoAnswer { .. }))), "{answers:?}");
    assert_eq!(api.asked(), 1);
}

#[tokio::test]
async fn the_first_caller_may_go_away() {
    let api = TestApi::with(|options| options.latency = SLOW).await;
    let id = api.sandbox.add_contact("acme", "Marisol Ektberg", PHONE);
    let (textus, slug) = (api.textus().clone(), segment(&id));
    let first = tokio::spawn(async move { textus.contact(&CallLog::default(), &slug).await });
    eventually("the first request is on its way", || async { api.asked() == 1 }).await;

    let slug = segment(&id);
    let second = api.textus().contact(&api.log, &slug);
    first.abort();

    assert_eq!(second.await.unwrap().unwrap().raw_id(), id);
    assert_eq!(api.asked(), 1);
}

#[tokio::test]
async fn a_look_after_a_write_does_not_get_an_answer_from_before_it() {
    let api = TestApi::start().await;
    // The first look is answered late, with what was true when it was sent.
    api.sandbox.fault(FaultRule::new(Fault::Slow(SLOW)).on(Endpoint::GetOptOut).times(1));
    let textus = api.textus().clone();
    let early = tokio::spawn(async move { textus.get_opt_out(&CallLog::default(), "acme", &phone(PHONE)).await });
    eventually("the early look is on its way", || async { api.asked() == 1 }).await;

    api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap();

    assert_eq!(api.textus().get_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap(), Shows::This);
    assert_eq!(early.await.unwrap().unwrap(), Shows::Nothing);
}
