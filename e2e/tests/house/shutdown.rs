//! SIGTERM drains; a second process on the same directory is refused; health is told.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hookline_e2e::{ACCOUNT, House, eventually};
use hookline_sandbox::EffectKind;
use hookline_sandbox::samples::{SampleFacts, sample};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_in_flight_gives_back_the_rest_and_exits_0() {
    let house = House::with(
        |sandbox| {
            sandbox.latency = Duration::from_millis(600);
            sandbox.echoes = false;
        },
        "[handlers.record_opt_out]\nconcurrency = 4\n",
    )
    .await;
    let running = house.run().await;
    let people: Vec<SampleFacts> = (0..20).map(|_| SampleFacts::random(ACCOUNT)).collect();
    join_all(people.iter().map(|person| async { house.sender.send(&sample("contact.opted_out", person)).await })).await;
    eventually("some are in flight", async || (!house.sandbox.requests().is_empty()).then_some(())).await;

    let clock = Instant::now();
    let ended = running.stop().await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(clock.elapsed() < Duration::from_secs(20), "within shutdown_grace: {:?}", clock.elapsed());
    assert!(ended.stderr.contains("hookline.stopped"));
    let puts = house.sandbox.effects().len();
    assert!(puts < people.len(), "stopped in the middle: {puts}");
    let unanswered = house.sandbox.requests().iter().filter(|request| request.status.is_none()).count();
    assert_eq!(unanswered, 0, "no call was cut off");

    let running = house.run().await;
    let accounts = house.settled().await;
    accounts.hold(&house.sender.accepted(), 0);
    for person in &people {
        assert_eq!(
            house.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone),
            1,
            "drained, not repeated"
        );
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_on_the_same_directory_is_refused_in_words_and_the_first_goes_on() {
    let house = House::start().await;
    let running = house.run().await;

    let second = house.cli(&["run"]).await;

    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&house.dir().join("data").display().to_string()), "{}", second.stderr);
    assert!(second.stderr.contains("another"), "{}", second.stderr);
    assert!(!second.stderr.contains("panicked"), "{}", second.stderr);
    assert_eq!(running.admin("/readyz").await.0, 200);
    let id = house.sender.send(&sample("message.failed", &SampleFacts::random(ACCOUNT))).await;
    assert_eq!(house.settled().await.ending(&id, "record_history"), "done");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_while_it_is_up_and_while_it_is_down() {
    let house = House::start().await;
    let running = house.run().await;
    let url = running.admin.clone();

    assert_eq!(running.admin("/livez").await.0, 200);
    assert_eq!(running.admin("/readyz").await.0, 200);
    let up = house.cli(&["healthcheck", &url]).await;
    assert_eq!(up.code, Some(0), "{up:?}");
    assert_eq!(running.stop().await.code, Some(0));
    let down = house.cli(&["healthcheck", &url]).await;
    assert_eq!(down.code, Some(1), "{down:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_refuses_everything_does_not_make_it_unready() {
    let house = House::start().await;
    let running = house.run().await;
    house.sandbox.fault(hookline_sandbox::FaultRule::new(hookline_sandbox::Fault::status(401)));

    house.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    eventually("paused", async || {
        let status = house.json(&["status"]).await;
        let destinations = status["destinations"].as_array().expect("a list").clone();
        destinations.iter().any(|one| one["destination"] == "textus" && one["state"] == "paused").then_some(())
    })
    .await;

    assert_eq!(running.admin("/readyz").await.0, 200);
    house.sandbox.clear_faults();
    assert_eq!(house.cli(&["resume", "textus"]).await.code, Some(0));
    house.settled().await.hold(&house.sender.accepted(), house.sandbox.echoes_sent());
    running.stop().await;
}
