//! Somebody sets the wall clock, of ingest, workers and commands alike; RabbitMQ's and PostgreSQL's stay right.

use std::time::{Duration, Instant};

use hookline_e2e::{ACCOUNT, Deployment, Half, Load, eventually, preload, send_all};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault as ApiFault, FaultRule};

use crate::{Fault, full, seed, shared_node, timed};

const HOUR: i64 = 3600;
/// What a 429 asks for.
const RETRY_AFTER: Duration = Duration::from_secs(6);
/// How long after the 429 it is noticed here.
const NOTICED: Duration = Duration::from_millis(500);
/// How late work may be after a leap: the longest that a breaker is open when it opens, and a busy machine.
const LATE: Duration = Duration::from_secs(40);

struct Clock(std::path::PathBuf);

impl Clock {
    fn of(all_in_one: &mut Deployment<'_>) -> Self {
        let clock = Self(all_in_one.dir().join("clock"));
        clock.set(0);
        all_in_one.set("LD_PRELOAD", &preload("clock"));
        all_in_one.set("CLOCK_FILE", clock.0.to_str().expect("a text"));
        clock
    }

    /// Every process sees a clock that is so many seconds ahead, from now on.
    fn set(&self, ahead: i64) {
        use std::io::Write as _;
        // In place, as the processes have it mapped.
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&self.0);
        file.expect("a file").write_all(&ahead.to_ne_bytes()).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f31_a_wall_clock_that_leaps_an_hour_on_and_back_loses_nothing_and_holds_nothing_up() {
    let fault = Fault::new("F31", "wall clock set an hour on, two back, and right, under load");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    let clock = Clock::of(&mut all_in_one);
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), full(200, 1000), full(20, 100), &all_in_one.sandbox);
    let leaps = [HOUR, -HOUR, 0];
    let parts = load.parts(leaps.len() + 1);
    send_all(&all_in_one.sender, parts[0]).await;

    let mut recovered = Duration::ZERO;
    for (ahead, part) in leaps.into_iter().zip(&parts[1..]) {
        // The clock leaps while the API fails and deliveries wait for it.
        all_in_one.sandbox.fault(FaultRule::new(ApiFault::status(503)));
        send_all(&all_in_one.sender, &part[..part.len() / 2]).await;
        clock.set(ahead);
        send_all(&all_in_one.sender, &part[part.len() / 2..]).await;
        all_in_one.sandbox.clear_faults();
        let settled = timed("what waited is done", LATE, async || {
            let status = all_in_one.json(&["status"]).await;
            status["handlers"].as_array().is_some_and(|all| all.iter().all(|handler| handler["waiting"] == 0))
        });
        recovered = recovered.max(settled.await);

        all_in_one.sandbox.fault(FaultRule::new(refusal()).on(Endpoint::PutOptOut).times(1));
        let person = SampleFacts::random(ACCOUNT);
        all_in_one.sender.send(&sample("contact.opted_out", &person)).await;
        let asked = || all_in_one.sandbox.requests().iter().any(|request| request.status == Some(429));
        eventually("it is asked to wait", async || asked().then_some(())).await;
        let refused = Instant::now();
        clock.set(ahead + HOUR);
        eventually("it is done", async || {
            let puts = all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone);
            (puts == 1).then_some(())
        })
        .await;
        let waited = refused.elapsed();
        assert!(waited > RETRY_AFTER - NOTICED, "asked to wait {RETRY_AFTER:?}, it waited {waited:?}");
        clock.set(ahead);
    }
    let tally = all_in_one.holds(&load, 0).await;

    assert!(wrote_ahead(&all_in_one), "the clock leaps for them");
    assert_eq!(all_in_one.sender.statuses(), [200].into());
    fault.survived(tally, Some(recovered));
}

/// Whether a worker wrote a line in what is its future.
fn wrote_ahead(all_in_one: &Deployment<'_>) -> bool {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(30);
    let lines = all_in_one.parts(Half::Worker).flat_map(|worker| worker.process.stderr());
    let lines = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
    let mut times = lines.filter_map(|line| line["timestamp"].as_str()?.parse::<jiff::Timestamp>().ok());
    times.any(|at| at > soon)
}

fn refusal() -> ApiFault {
    let headers = vec![("Retry-After".to_owned(), RETRY_AFTER.as_secs().to_string())];
    ApiFault::Status { status: 429, headers, body: None }
}
