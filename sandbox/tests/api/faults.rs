//! Each kind of fault, as a client sees it, and what it leaves in the ledger.

use std::time::{Duration, Instant};

use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};
use reqwest::{Error, Method, Response};

use crate::helpers::{ACCOUNT, Api, eventually};

async fn put(api: &Api) -> Result<Response, Error> {
    let path = format!("/{ACCOUNT}/opt_outs/2025550147");
    api.request(Method::PUT, &path).timeout(Duration::from_millis(1_500)).send().await
}

fn effects(api: &Api) -> usize {
    api.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, "+12025550147")
}

/// Starts a sandbox whose next opt-out PUT meets this fault.
async fn with(fault: Fault) -> Api {
    let api = Api::start().await;
    api.sandbox.fault(FaultRule::new(fault).on(Endpoint::PutOptOut).times(1));
    api
}

/// Asserts that the connection ended: there was no status, no timeout and no refused connection.
fn assert_cut(error: &Error) {
    assert!(error.status().is_none() && !error.is_timeout() && !error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn a_burst_of_statuses_ends_after_its_count() {
    let api = Api::start().await;
    let fault = Fault::Status {
        status: 503,
        headers: vec![("Retry-After".to_owned(), "7".to_owned()), ("X-RateLimit-Remaining".to_owned(), "x".to_owned())],
        body: Some("busy".to_owned()),
    };
    api.sandbox.fault(FaultRule::new(fault).method(Method::PUT).path_prefix(format!("/{ACCOUNT}/")).skip(1).times(2));

    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = put(&api).await.expect("an answer");
        statuses.push(answer.status().as_u16());
        if answer.status() == 503 {
            assert_eq!(answer.headers()["Retry-After"], "7");
            assert_eq!(answer.headers()["X-RateLimit-Remaining"], "x");
            assert_eq!(answer.text().await.expect("a whole body"), "busy");
        }
    }
    assert_eq!(statuses, [201, 503, 503, 201]);
    assert_eq!(effects(&api), 2);
}

#[tokio::test]
async fn a_rule_leaves_other_requests_alone_and_can_be_cleared() {
    let api = Api::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(500)).on(Endpoint::PutOptOut));

    assert_eq!(api.get(&format!("/{ACCOUNT}/opt_outs/2025550147")).await.0, 404);
    assert_eq!(put(&api).await.expect("an answer").status(), 500);
    api.sandbox.clear_faults();
    assert_eq!(put(&api).await.expect("an answer").status(), 201);
}

#[tokio::test]
async fn a_throttle_gives_its_text_word_for_word() {
    let api = with(Fault::Throttle { retry_after: "soon, perhaps".to_owned() }).await;

    let answer = put(&api).await.expect("an answer");

    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["Retry-After"], "soon, perhaps");
    assert_eq!(effects(&api), 0);
}

#[tokio::test]
async fn a_hang_runs_into_the_clients_time_out() {
    let api = with(Fault::Hang(Duration::from_secs(60))).await;

    let error = put(&api).await.expect_err("no answer");

    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(effects(&api), 0);
    assert_eq!(api.sandbox.requests()[0].status, None);
}

#[tokio::test]
async fn a_slow_answer_comes_late_with_its_effect_made_at_once() {
    let api = with(Fault::Slow(Duration::from_millis(300))).await;
    let started = Instant::now();

    let (answer, ()) = tokio::join!(put(&api), eventually("the effect is made", || effects(&api) == 1));

    assert_eq!(answer.expect("an answer").status(), 201);
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn latency_delays_every_answer() {
    let api = Api::with(|options| options.latency = Duration::from_millis(150)).await;
    let started = Instant::now();

    assert_eq!(put(&api).await.expect("an answer").status(), 201);

    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_reset_gives_no_answer_and_has_no_effect() {
    let api = with(Fault::Reset).await;

    let error = put(&api).await.expect_err("no answer");

    assert_cut(&error);
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let kinds: Vec<_> = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(|io| io.kind()).collect();
    assert_eq!(kinds, [std::io::ErrorKind::ConnectionReset], "a reset, not an orderly end");

    assert_eq!(effects(&api), 0);
    assert_eq!(put(&api).await.expect("an answer").status(), 201);
}

#[tokio::test]
async fn an_effect_whose_answer_is_lost_is_recorded_once() {
    for fault in [Fault::EffectThenReset, Fault::EffectThenHang(Duration::from_millis(100))] {
        let api = with(fault.clone()).await;

        assert_cut(&put(&api).await.expect_err("no answer"));

        assert_eq!(effects(&api), 1, "{fault:?}");
        let requests = api.sandbox.requests();
        assert_eq!((requests.len(), requests[0].status), (1, None), "{fault:?}");
        assert_eq!(api.get(&format!("/{ACCOUNT}/opt_outs/2025550147")).await.0, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn an_effect_can_be_answered_with_an_error() {
    let api = with(Fault::EffectThenStatus(502)).await;

    assert_eq!(put(&api).await.expect("an answer").status(), 502);

    assert_eq!((effects(&api), api.sandbox.requests()[0].status), (1, Some(502)));
}

#[tokio::test]
async fn garbage_is_a_200_that_is_no_json() {
    let api = with(Fault::GarbageBody).await;

    let answer = put(&api).await.expect("an answer");

    assert_eq!(answer.status(), 200);
    assert!(answer.json::<serde_json::Value>().await.is_err_and(|error| error.is_decode()));
    assert_eq!(effects(&api), 1);
}

#[tokio::test]
async fn a_huge_body_is_json_of_the_size_asked_for() {
    let api = with(Fault::HugeBody(3_000_000)).await;

    let body = put(&api).await.expect("an answer").bytes().await.expect("a whole body");

    assert_eq!(body.len(), 3_000_000);
    assert!(serde_json::from_slice::<String>(&body).is_ok());
}

#[tokio::test]
async fn a_truncated_body_fails_after_its_status() {
    let api = with(Fault::TruncatedBody).await;

    let answer = put(&api).await.expect("a head");

    assert_eq!(answer.status(), 201);
    assert_cut(&answer.bytes().await.expect_err("half a body"));
    assert_eq!(effects(&api), 1);
}

#[tokio::test]
async fn a_dripping_body_outlasts_the_clients_time_out() {
    let api = with(Fault::DripBody(Duration::from_millis(20))).await;

    let answer = put(&api).await.expect("a head");

    assert_eq!(answer.status(), 201);
    assert!(answer.bytes().await.expect_err("too slow").is_timeout());
}

#[tokio::test]
async fn nothing_answers_after_a_stop() {
    let api = with(Fault::Hang(Duration::from_secs(60))).await;
    let hanging = put(&api);

    let (hung, ()) = tokio::join!(hanging, async {
        eventually("the request is there", || !api.sandbox.requests().is_empty()).await;
        api.sandbox.stop().await;
    });

    assert_cut(&hung.expect_err("no answer"));
    assert!(put(&api).await.expect_err("nobody listens").is_connect());
}
