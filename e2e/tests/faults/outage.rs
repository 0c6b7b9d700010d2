//! The API is away for minutes: it fails, refuses connections, hangs. Webhooks go on, deliveries wait in their queues, next
//! to nothing is called, and as soon as it is back it is called as fast as its quota allows.

use std::time::Duration;

use hookline_e2e::{Deployment, Load, Proxy, Sender};
use hookline_sandbox::{Fault as ApiFault, FaultRule, RecordedRequest};
use jiff::Timestamp;
use serde_json::Value;

use crate::{Fault, seed, shared_node};

const WORKERS: u64 = 4;
const LIMIT: usize = 100;
const WINDOW: Duration = Duration::from_secs(3);
/// Failures running that open the breaker.
const RUNNING: u64 = 5;

/// How late a probe that is due may be: the time between two looks at a gate, and a machine that has other things to do.
const LATE: Duration = Duration::from_secs(2);

struct Outage {
    /// The API fails so long, then refuses so long, then hangs so long.
    phase: Duration,
    /// `[textus.breaker]`: how often it is probed. Less often after 24 of them, and an outage here lasts no longer.
    open_min: Duration,
    /// Events before it, and while it lasts.
    events: (usize, usize),
}

/// What was called while it lasted, and when it was over.
struct Lasted {
    began: Timestamp,
    /// Connections that were refused.
    refused: u64,
    back: Timestamp,
}

impl Outage {
    /// Most calls that it may see: the failures that open the breaker, one that each worker was given by then, a probe
    /// each `open_min`, and one for each phase whose beginning cuts off what is on its way.
    fn calls_at_most(&self) -> u64 {
        let probes = 3 * self.phase.as_millis() / self.open_min.as_millis();
        RUNNING + WORKERS + 3 + u64::try_from(probes).expect("few")
    }

    async fn happens(&self, all_in_one: &Deployment<'_>, proxy: &Proxy) -> Lasted {
        let began = Timestamp::now();
        all_in_one.sandbox.fault(FaultRule::new(ApiFault::status(500)));
        tokio::time::sleep(self.phase).await;

        let accepted = proxy.accepted();
        proxy.refuse(true);
        proxy.reset();
        tokio::time::sleep(self.phase).await;
        let refused = proxy.accepted() - accepted;

        all_in_one.sandbox.clear_faults();
        all_in_one.sandbox.fault(FaultRule::new(ApiFault::Hang(self.phase * 2)));
        proxy.refuse(false);
        tokio::time::sleep(self.phase).await;
        all_in_one.sandbox.clear_faults();
        Lasted { began, refused, back: Timestamp::now() }
    }

    async fn is_survived(&self, fault: Fault) {
        let limited = Some((u32::try_from(LIMIT).expect("small"), WINDOW));
        let mut all_in_one = Deployment::with(shared_node().await, |sandbox| sandbox.rate_limit = limited).await;
        let proxy = Proxy::start(all_in_one.sandbox.addr(), seed()).await.expect("a proxy");
        all_in_one.api_through(proxy.address());
        let more = format!("[textus.breaker]\nopen_min = \"{}ms\"\n", self.open_min.as_millis());
        all_in_one.start(1, usize::try_from(WORKERS).expect("few"), &more).await;
        let (before, during) = self.events;
        let load = Load::mixed(seed(), before + during, 0, &all_in_one.sandbox);
        let (first, second) = load.bodies.split_at(before);

        hookline_e2e::send_all(&all_in_one.sender, first).await;
        all_in_one.settled().await;
        let (lasted, ()) =
            tokio::join!(self.happens(&all_in_one, &proxy), send_over(&all_in_one.sender, second, self.phase * 3));
        let backlog = waiting(&all_in_one).await;
        let tally = all_in_one.holds(&load, 0).await;

        let requests = all_in_one.sandbox.requests();
        let asked = requests.iter().filter(|request| (lasted.began..lasted.back).contains(&request.at)).count();
        let calls = u64::try_from(asked).expect("few") + lasted.refused;
        let answered = answered_after(lasted.back, &requests);
        let first = answered.first().copied().expect("something is called again");
        let full = answered.iter().filter(|at| **at < first + WINDOW * 2).count();
        println!(
            "outage: {calls} calls while it lasted, {} at most; the first answer after {first:.1?}, then {full} calls of {} in \
             two windows",
            self.calls_at_most(),
            2 * LIMIT
        );
        assert!(calls <= self.calls_at_most(), "{calls} calls while it lasted");
        assert!(first <= self.open_min + LATE, "the first answer after {first:?}");
        let due = (backlog * 9 / 10).min(2 * LIMIT * 8 / 10);
        assert!(full >= due, "{full} calls in two windows, for a backlog of {backlog}");
        fault.survived(tally, Some(first));
    }
}

/// How long after `back` calls were made that were answered, whatever it was: a 404 costs as much of the quota.
fn answered_after(back: Timestamp, requests: &[RecordedRequest]) -> Vec<Duration> {
    let is_answered = |status: u16| status < 500 && status != 429;
    let answered = requests.iter().filter(|request| request.at >= back && request.status.is_some_and(is_answered));
    answered.filter_map(|request| request.at.duration_since(back).try_into().ok()).collect()
}

/// Deliveries that wait for the API.
async fn waiting(all_in_one: &Deployment<'_>) -> usize {
    let status = all_in_one.json(&["status"]).await;
    let handlers = status["handlers"].as_array().expect("handlers");
    let waiting: u64 = handlers.iter().filter_map(|handler| handler["waiting"].as_u64()).sum();
    usize::try_from(waiting).expect("few")
}

/// Posts these one by one, spread over a time.
async fn send_over(sender: &Sender, bodies: &[Value], time: Duration) {
    let mut ticker = tokio::time::interval(time / u32::try_from(bodies.len()).expect("few"));
    for body in bodies {
        ticker.tick().await;
        sender.send(body).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn an_api_that_is_away_for_two_minutes_is_called_at_full_rate_when_it_is_back() {
    let outage = Outage { phase: Duration::from_secs(40), open_min: Duration::from_secs(5), events: (300, 480) };
    outage.is_survived(Fault::new("outage", "API away for 2 minutes: 500, refused, hanging; 4 workers")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_away_for_seconds_is_called_at_full_rate_when_it_is_back() {
    let outage = Outage { phase: Duration::from_secs(2), open_min: Duration::from_millis(500), events: (20, 60) };
    outage.is_survived(Fault::new("outage", "API away for 6 s: 500, refused, hanging; 4 workers")).await;
}
