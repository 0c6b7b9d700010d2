//! While the gate is closed by a rate limit or paused, for refused credentials or by an operator, no call is made and
//! no attempt is spent.

use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use hookline_common::names::{Destination, OperationClass};
use hookline_common::time::Timestamp;
use hookline_sandbox::{Endpoint, Fault, FaultRule, SandboxOptions};
use hookline_store::model::GateRow;
use hookline_worker::destinations::error::{DestinationError, Disposition};
use hookline_worker::destinations::priority::Priority;
use reqwest::Method;

use crate::helpers::{PAUSED_PROBE, PHONE, TestApi, TestWorker, eventually, phone, segment};

/// How late another process may learn of a closing (docs/guarantees.md, "What an answer leads to").
const TOLD_WITHIN: Duration = Duration::from_millis(250);

async fn put(worker: &TestWorker, api: &TestApi) -> Result<u16, DestinationError> {
    worker.textus.put_opt_out(&api.log, "acme", &phone(PHONE)).await.map(|put| put.status)
}

fn hold(error: &DestinationError) -> Timestamp {
    match error.disposition() {
        Disposition::Hold { until, .. } => until,
        other @ (Disposition::Retry { .. } | Disposition::RetryAfterProbe { .. } | Disposition::DeadLetter { .. }) => {
            panic!("{error}: {other:?}")
        }
    }
}

fn is_held(worker: &TestWorker) -> bool {
    worker.gate.no_room_for(Priority::OptOut, &[OperationClass::OptOutWrites]).is_some()
}

fn is_state(worker: &TestWorker, state: &str) -> bool {
    worker.shows(&format!(r#"hookline_destination_state{{destination="textus",state="{state}"}} 1"#))
}

#[tokio::test]
async fn no_call_is_made_before_retry_after_has_passed() {
    let in_two_seconds = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2));
    for (retry_after, least, most) in
        [("1", 1000, 1600), (in_two_seconds.as_str(), 900, 3500), ("soon", 1000, 1800), ("-3", 1000, 1800)]
    {
        let api = TestApi::start().await;
        api.fail_once(Fault::Throttle { retry_after: retry_after.to_owned() });
        let clock = Instant::now();

        let error = put(&api.worker, &api).await.unwrap_err();
        assert!(matches!(error, DestinationError::Throttled { .. }), "{error}");
        assert!(is_held(&api.worker));
        assert!(is_state(&api.worker, "open"));

        // Tries all the time, as a careless caller would.
        eventually(retry_after, || async { put(&api.worker, &api).await.is_ok() }).await;
        let waited = u64::try_from(clock.elapsed().as_millis()).unwrap();
        assert!((least..most).contains(&waited), "{retry_after}: {waited} ms");
        assert_eq!(api.asked(), 2, "{retry_after}");
        eventually("the metric follows", || async { is_state(&api.worker, "closed") }).await;
    }
}

#[tokio::test]
async fn what_comes_shortly_before_the_gate_opens_waits_in_hand() {
    let api = TestApi::start().await;
    api.fail_once(Fault::Throttle { retry_after: "1".to_owned() });
    let until = hold(&put(&api.worker, &api).await.unwrap_err());

    // A parked delivery would come back by a queue's clock, long after.
    assert_eq!(put(&api.worker, &api).await.unwrap(), 201);

    assert!(Timestamp::now() >= until);
    assert_eq!(api.asked(), 2);
}

#[tokio::test]
async fn what_is_held_for_longer_than_a_call_waits_in_hand_is_given_back_at_once() {
    let api = TestApi::start().await;
    api.fail_once(Fault::Throttle { retry_after: "60".to_owned() });
    let until = hold(&put(&api.worker, &api).await.unwrap_err());

    let closed = put(&api.worker, &api).await.unwrap_err();

    assert!(matches!(closed, DestinationError::GateClosed { .. }), "{closed}");
    assert!(hold(&closed) <= until.plus(Duration::from_millis(50)));
    assert_eq!(api.asked(), 1);
    assert_eq!(api.log.records().len(), 1, "no request is shown where none was made");
}

#[tokio::test]
async fn an_absurd_retry_after_holds_for_a_quarter_of_an_hour_at_most() {
    for retry_after in ["86400000", "99999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let api = TestApi::start().await;
        api.fail_once(Fault::Throttle { retry_after: retry_after.to_owned() });

        let wait = hold(&put(&api.worker, &api).await.unwrap_err()).since(Timestamp::now());

        assert!(wait > Duration::from_secs(890) && wait <= Duration::from_secs(901), "{retry_after}: {wait:?}");
    }
}

#[tokio::test]
async fn calls_that_were_on_their_way_all_wait_for_the_same_time() {
    let api = TestApi::with(|options| options.latency = Duration::from_millis(100)).await;
    // From here on the limit is known. Before that, only one call is made at a time.
    put(&api.worker, &api).await.unwrap();
    api.sandbox.fault(FaultRule::new(Fault::Throttle { retry_after: "none".to_owned() }).times(10));

    let errors = join_all((0..10).map(|_| put(&api.worker, &api))).await;

    assert_eq!(api.asked(), 11);
    for error in errors {
        let wait = hold(&error.unwrap_err()).since(Timestamp::now());
        assert!(wait < Duration::from_millis(1500), "ten at once are one 429 in a row: {wait:?}");
    }
}

#[tokio::test]
async fn another_process_learns_of_a_closing_in_time() {
    let api = TestApi::start().await;
    let other = api.another_worker().await;
    api.fail_once(Fault::Throttle { retry_after: "60".to_owned() });

    put(&api.worker, &api).await.unwrap_err();
    let clock = Instant::now();
    eventually("the other gate closes", || async { is_held(&other) }).await;
    let told = clock.elapsed();

    assert!(matches!(put(&other, &api).await, Err(DestinationError::GateClosed { .. })));
    assert_eq!(api.asked(), 1);
    // Four times the promise, because all tests of this binary share two cores.
    assert!(told < TOLD_WITHIN * 4, "{told:?}");
}

#[tokio::test]
async fn a_closing_outlives_a_restart() {
    let api = TestApi::start().await;
    api.fail_once(Fault::Throttle { retry_after: "60".to_owned() });
    put(&api.worker, &api).await.unwrap_err();
    eventually("the store knows", || async {
        let gates = api.worker.store.gates().await.unwrap();
        gates.iter().any(|gate| gate.destination == Destination::TextUs && gate.closed_until.is_some())
    })
    .await;

    let restarted = api.another_worker().await;

    assert!(matches!(put(&restarted, &api).await, Err(DestinationError::GateClosed { .. })));
}

#[tokio::test]
async fn a_closing_of_a_worker_of_the_version_before_binds_as_well() {
    let api = TestApi::start().await;
    let until = Timestamp::now().plus(Duration::from_secs(60));
    let close = move |row: GateRow, _now| (GateRow { closed_until: Some(until), ..row }, ());
    api.worker.store.change_gate(Destination::TextUs, close).await.unwrap();

    eventually("the gate closes", || async { is_held(&api.worker) }).await;

    assert!(matches!(put(&api.worker, &api).await, Err(DestinationError::GateClosed { .. })));
    assert_eq!(api.asked(), 0);
}

#[tokio::test]
async fn a_spent_window_holds_calls_until_its_reset() {
    let api = TestApi::start().await;
    let reset = (Timestamp::now().as_millis() / 1000 + 2).to_string();
    let spent = [("X-RateLimit-Limit", "1000"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", &reset)];
    api.answer_once(201, &spent, "{}");

    assert_eq!(put(&api.worker, &api).await.unwrap(), 201);

    assert!(api.worker.shows(r#"hookline_api_budget_remaining{destination="textus"} 0"#));
    assert!(api.worker.shows(r#"hookline_api_budget_limit{destination="textus"} 1000"#));
    eventually("the next window is used", || async { put(&api.worker, &api).await.is_ok() }).await;
    assert!(Timestamp::now().as_millis() / 1000 >= reset.parse::<i64>().unwrap());
    assert_eq!(api.asked(), 2);
}

#[tokio::test]
async fn the_budget_is_told_to_the_store() {
    let api = TestApi::with(|options| options.rate_limit = Some((10, Duration::from_secs(300)))).await;

    put(&api.worker, &api).await.unwrap();

    eventually("the store knows", || async {
        let gates = api.worker.store.gates().await.unwrap();
        gates.iter().any(|gate| {
            let told = (gate.standing.limit, gate.standing.remaining);
            gate.destination == Destination::TextUs && told == (Some(10), Some(9))
        })
    })
    .await;
}

#[tokio::test]
async fn the_documented_limit_is_never_overrun_twice() {
    let api = TestApi::with(|options| options.rate_limit = Some((3, Duration::from_secs(2)))).await;
    for _ in 0..3 {
        put(&api.worker, &api).await.unwrap();
    }

    eventually("calls go on in the next window", || async { put(&api.worker, &api).await.is_ok() }).await;

    assert!(api.sandbox.requests().iter().all(|request| request.status == Some(201)));
}

fn checks(api: &TestApi) -> usize {
    api.sandbox.requests().iter().filter(|request| request.path.ends_with("/contact_phones?q=0000000000")).count()
}

fn puts(api: &TestApi) -> usize {
    api.sandbox.requests().iter().filter(|request| request.method == Method::PUT).count()
}

#[tokio::test]
async fn refused_credentials_pause_the_destination_until_the_check_is_taken() {
    let api = TestApi::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(401)));
    let error = put(&api.worker, &api).await.unwrap_err();
    assert!(matches!(error, DestinationError::CredentialsRefused { status: 401, .. }), "{error}");
    hold(&error);
    assert!(is_state(&api.worker, "paused"));

    // There is one check per interval, and no delivery is a probe.
    let clock = Instant::now();
    while checks(&api) < 2 {
        let tries = join_all((0..8).map(|_| put(&api.worker, &api))).await;
        assert!(tries.iter().all(|tried| tried.as_ref().is_err_and(|error| hold(error) > Timestamp::EPOCH)));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(clock.elapsed() >= PAUSED_PROBE * 2 - Duration::from_millis(20), "{:?}", clock.elapsed());
    assert_eq!(puts(&api), 1);
    assert!(is_state(&api.worker, "paused"));

    api.sandbox.clear_faults();
    eventually("the check resumes", || async { put(&api.worker, &api).await.is_ok() }).await;
    assert!(is_state(&api.worker, "closed"));
    eventually("the store knows", || async { api.worker.store.gates().await.unwrap().iter().all(|gate| !gate.paused) })
        .await;
}

#[tokio::test]
async fn a_403_with_a_good_token_is_about_one_resource() {
    // Answers to the check with a valid token: 2xx, or a final status.
    for status in [None, Some(404), Some(400), Some(422)] {
        let api = TestApi::start().await;
        if let Some(status) = status {
            api.sandbox.fault(FaultRule::new(Fault::status(status)).on(Endpoint::FindContactPhones));
        }
        api.fail_once_on(Endpoint::PutOptOut, Fault::status(403));

        let error = put(&api.worker, &api).await.unwrap_err();

        assert!(matches!(error, DestinationError::Forbidden { .. }), "{status:?}: {error}");
        assert_eq!((checks(&api), puts(&api)), (1, 1), "{status:?}");
        assert!(is_state(&api.worker, "closed"), "{status:?}");
        assert!(put(&api.worker, &api).await.is_ok(), "{status:?}");
    }
}

#[tokio::test]
async fn a_403_is_the_tokens_where_the_check_is_refused_as_well() {
    for (status, worked_before) in [(401, true), (403, false)] {
        let api = TestApi::start().await;
        if worked_before {
            put(&api.worker, &api).await.unwrap();
        }
        api.sandbox.fault(FaultRule::new(Fault::status(status)).on(Endpoint::FindContactPhones));
        api.fail_once_on(Endpoint::PutOptOut, Fault::status(403));

        let error = put(&api.worker, &api).await.unwrap_err();

        // The error has the call's own status, whatever the check's answer was.
        let is_refused = matches!(error, DestinationError::CredentialsRefused { status: 403, .. });
        assert!(is_refused, "{status}: {error}");
        assert!(is_state(&api.worker, "paused"), "{status}");
    }
}

#[tokio::test]
async fn a_403_of_the_check_is_no_refusal_where_a_call_was_answered_2xx_lately() {
    let api = TestApi::start().await;
    put(&api.worker, &api).await.unwrap();
    api.sandbox.fault(FaultRule::new(Fault::status(403)).on(Endpoint::FindContactPhones));
    api.fail_once_on(Endpoint::PutOptOut, Fault::status(403));

    assert!(matches!(put(&api.worker, &api).await, Err(DestinationError::Forbidden { .. })));

    assert!(put(&api.worker, &api).await.is_ok());
}

#[tokio::test]
async fn a_403_is_tried_again_where_the_check_tells_nothing() {
    let page = Fault::Status { status: 200, headers: Vec::new(), body: Some("<html>back soon</html>".to_owned()) };
    for fault in [Fault::status(500), Fault::status(302), Fault::Reset, page] {
        let api = TestApi::start().await;
        let case = format!("{fault:?}");
        api.sandbox.fault(FaultRule::new(fault).on(Endpoint::FindContactPhones));
        api.fail_once_on(Endpoint::PutOptOut, Fault::status(403));

        let error = put(&api.worker, &api).await.unwrap_err();

        assert!(matches!(error, DestinationError::Failed { status: 403, .. }), "{case}: {error}");
        assert!(is_state(&api.worker, "closed"), "{case}");
    }
}

#[tokio::test]
async fn where_the_check_tells_nothing_an_opt_out_that_waits_ends_the_pause() {
    let api = TestApi::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(500)).on(Endpoint::FindContactPhones));
    api.fail_once_on(Endpoint::PutOptOut, Fault::status(401));
    put(&api.worker, &api).await.unwrap_err();
    let message = segment("/messages/unknown");

    // Reads keep failing, and no note may probe.
    eventually("an opt-out probes", || async {
        let read = api.textus().get_message(&api.log, &message).await;
        let is_held = matches!(read, Err(DestinationError::GateClosed { .. }));
        let put = put(&api.worker, &api).await;
        assert!(is_held || put.is_ok(), "{read:?}");
        put.is_ok()
    })
    .await;

    assert!(checks(&api) >= 1);
    assert!(!is_state(&api.worker, "paused"));
}

#[tokio::test]
async fn reads_that_fail_leave_opt_outs_alone() {
    let api = TestApi::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(500)).method(Method::GET));
    let message = segment("/messages/unknown");

    eventually("reads are held", || async {
        matches!(api.textus().get_message(&api.log, &message).await, Err(DestinationError::GateClosed { .. }))
    })
    .await;

    for _ in 0..10 {
        assert!(put(&api.worker, &api).await.is_ok());
    }
    assert!(api.worker.gate.no_room_for(Priority::Note, &[OperationClass::Reads]).is_some());
    assert!(api.worker.gate.no_room_for(Priority::OptOut, &[OperationClass::OptOutWrites]).is_none());
}

#[tokio::test]
async fn an_operators_resume_ends_a_pause_at_once_and_everywhere() {
    let api = TestApi::start().await;
    let other = api.another_worker().await;
    api.fail_once(Fault::status(401));
    put(&api.worker, &api).await.unwrap_err();
    eventually("the other process pauses", || async { is_held(&other) }).await;

    // Does what `hookline resume` does.
    api.worker.store.resume_gate(Destination::TextUs).await.unwrap();

    let clock = Instant::now();
    eventually("both go on", || async { !is_held(&api.worker) && !is_held(&other) }).await;
    assert!(clock.elapsed() < PAUSED_PROBE, "{:?}", clock.elapsed());
    put(&api.worker, &api).await.unwrap();
    put(&other, &api).await.unwrap();
}

#[tokio::test]
async fn an_operators_pause_is_neither_probed_nor_ended_by_an_answer() {
    let api = TestApi::start().await;
    api.fail_once(Fault::status(401));
    put(&api.worker, &api).await.unwrap_err();
    eventually("the store knows", || async { api.worker.store.gates().await.unwrap().iter().any(|gate| gate.paused) })
        .await;

    // Does what `hookline pause` does.
    api.worker.store.pause_gate(Destination::TextUs, "maintenance").await.unwrap();
    tokio::time::sleep(TOLD_WITHIN * 2).await;
    let deadline = Instant::now() + PAUSED_PROBE * 2;
    while Instant::now() < deadline {
        let error = put(&api.worker, &api).await.unwrap_err();
        assert!(matches!(error, DestinationError::GateClosed { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    assert_eq!(api.asked(), 1);
    api.worker.store.resume_gate(Destination::TextUs).await.unwrap();
    eventually("calls go on", || async { put(&api.worker, &api).await.is_ok() }).await;
}

#[tokio::test]
async fn a_pause_outlives_a_restart_and_new_credentials_are_tried_at_once() {
    let api = TestApi::start().await;
    api.sandbox.configure(|options| options.token = "another-token".to_owned());
    put(&api.worker, &api).await.unwrap_err();
    eventually("the store knows", || async { api.worker.store.gates().await.unwrap().iter().any(|gate| gate.paused) })
        .await;

    let before = api.another_worker().await;
    assert!(is_state(&before, "paused"));
    put(&before, &api).await.unwrap_err();
    eventually("its own token is checked, and refused as well", || async { checks(&api) > 0 }).await;
    assert!(matches!(put(&before, &api).await, Err(DestinationError::GateClosed { .. })));

    api.sandbox.configure(|options| options.token = SandboxOptions::default().token);
    let after = api.another_worker().await;
    assert_eq!(put(&after, &api).await.unwrap(), 201);
    assert!(!is_held(&after));
}
