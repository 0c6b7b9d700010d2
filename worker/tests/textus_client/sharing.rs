//! Two processes share one PostgreSQL store: what one learns about a destination also binds the other.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::names::OperationClass;
use hookline_common::secret::Secret;
use hookline_common::settings::{BreakerSettings, TextUsSettings};
use hookline_common::testing::nodes::PostgresNode;
use hookline_sandbox::{Fault, FaultRule};
use hookline_store::Location;
use hookline_worker::destinations::priority::Priority;

use crate::helpers::{PHONE, TestApi, TestWorker, eventually, phone, settings};

const LONG: Duration = Duration::from_secs(60);

async fn put(worker: &TestWorker, api: &TestApi) -> Option<u16> {
    worker.textus.put_opt_out(&api.log, "acme", &phone(PHONE)).await.ok().map(|put| put.status)
}

#[tokio::test]
async fn what_closes_the_breaker_in_one_process_frees_another_that_has_nothing_in_hand() {
    let api = TestApi::start().await;
    let patient = TextUsSettings {
        timeout: Duration::from_secs(10),
        breaker: BreakerSettings { open_min: LONG, open_max: LONG },
        ..settings(&api.sandbox.base_url())
    };
    let url = PostgresNode::shared().await.database().await;
    let one = TestWorker::with(&patient, Location::Postgres { url: Secret::new(url.clone()), connections: 5 }).await;
    let other = TestWorker::with(&patient, Location::Postgres { url: Secret::new(url), connections: 5 }).await;
    // From here on the limit is known. Before that, only one call is made at a time.
    assert!(put(&one, &api).await.is_some());
    api.fail_once(Fault::Slow(Duration::from_secs(3)));
    api.sandbox.fault(FaultRule::new(Fault::status(500)).times(5));
    let is_held = || {
        other.gate.no_room_for(Priority::OptOut, &[OperationClass::OptOutWrites]).is_some_and(|wait| wait > LONG / 2)
    };

    let slow = async {
        let answered = put(&one, &api).await;
        assert!(is_held(), "the breaker was open by then");
        answered
    };
    let failing = async {
        eventually("the slow call is made", || async { api.asked() == 2 }).await;
        join_all((0..5).map(|_| put(&other, &api))).await
    };
    let (answered, failed) = tokio::join!(slow, failing);

    assert_eq!((answered.is_some(), failed), (true, vec![None; 5]));
    eventually("the other may call", || async { !is_held() }).await;
    assert!(put(&other, &api).await.is_some());
}
