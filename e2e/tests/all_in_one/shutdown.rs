//! SIGTERM drains; a second process on the same directory is refused; health is told.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hookline_e2e::{ACCOUNT, AllInOne, eventually};
use hookline_sandbox::EffectKind;
use hookline_sandbox::samples::{SampleFacts, sample};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_in_flight_gives_back_the_rest_and_exits_0() {
    let all_in_one = AllInOne::with(
        |sandbox| {
            sandbox.latency = Duration::from_millis(600);
            sandbox.echoes = false;
        },
        "[handlers.record_opt_out]\nconcurrency = 4\n",
    )
    .await;
    let running = all_in_one.run().await;
    let people: Vec<SampleFacts> = (0..20).map(|_| SampleFacts::random(ACCOUNT)).collect();
    join_all(people.iter().map(|person| async { all_in_one.sender.send(&sample("contact.opted_out", person)).await }))
        .await;
    eventually("some are in flight", async || (!all_in_one.sandbox.requests().is_empty()).then_some(())).await;

    let clock = Instant::now();
    let ended = running.stop().await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(clock.elapsed() < Duration::from_secs(20), "within shutdown_grace: {:?}", clock.elapsed());
    assert!(ended.stderr.contains("hookline.stopped"));
    let puts = all_in_one.sandbox.effects().len();
    assert!(puts < people.len(), "stopped in the middle: {puts}");
    let unanswered = all_in_one.sandbox.requests().iter().filter(|request| request.status.is_none()).count();
    assert_eq!(unanswered, 0, "no call was cut off");

    let running = all_in_one.run().await;
    let accounts = all_in_one.settled().await;
    accounts.hold(&all_in_one.sender.accepted(), 0);
    for person in &people {
        assert_eq!(
            all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone),
            1,
            "drained, not repeated"
        );
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_on_the_same_directory_is_refused_in_words_and_the_first_goes_on() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;

    let second = all_in_one.cli(&["run"]).await;

    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&all_in_one.dir().join("data").display().to_string()), "{}", second.stderr);
    assert!(second.stderr.contains("another"), "{}", second.stderr);
    assert!(!second.stderr.contains("panicked"), "{}", second.stderr);
    assert_eq!(running.admin("/readyz").await.0, 200);
    let id = all_in_one.sender.send(&sample("message.failed", &SampleFacts::random(ACCOUNT))).await;
    assert_eq!(all_in_one.settled().await.ending(&id, "record_history"), "done");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_while_it_is_up_and_while_it_is_down() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    let url = running.admin.clone();

    assert_eq!(running.admin("/livez").await.0, 200);
    assert_eq!(running.admin("/readyz").await.0, 200);
    let up = all_in_one.cli(&["healthcheck", &url]).await;
    assert_eq!(up.code, Some(0), "{up:?}");
    assert_eq!(running.stop().await.code, Some(0));
    let down = all_in_one.cli(&["healthcheck", &url]).await;
    assert_eq!(down.code, Some(1), "{down:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_refuses_everything_does_not_make_it_unready() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    all_in_one.sandbox.fault(hookline_sandbox::FaultRule::new(hookline_sandbox::Fault::status(401)));

    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    eventually("paused", async || {
        let status = all_in_one.json(&["status"]).await;
        let destinations = status["destinations"].as_array().expect("a list").clone();
        destinations.iter().any(|one| one["destination"] == "textus" && one["state"] == "paused").then_some(())
    })
    .await;

    assert_eq!(running.admin("/readyz").await.0, 200);
    all_in_one.sandbox.clear_faults();
    assert_eq!(all_in_one.cli(&["resume", "textus"]).await.code, Some(0));
    all_in_one.settled().await.hold(&all_in_one.sender.accepted(), all_in_one.sandbox.echoes_sent());
    running.stop().await;
}
