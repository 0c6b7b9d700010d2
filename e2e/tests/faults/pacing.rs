//! Many workers on one token: its quota is used, and not overrun.

use std::time::Duration;

use hookline_e2e::{Deployment, Load, send_all};
use hookline_sandbox::RecordedRequest;

use crate::{Fault, full, seed, shared_node};

const LIMIT: usize = 100;
const WINDOW: Duration = Duration::from_secs(3);
/// Until the length of a window is learned.
const LEARNED_MS: i64 = 12_000;

/// The share of the quota that was used, after the first windows and before the last.
fn used(requests: &[RecordedRequest]) -> f64 {
    let times: Vec<i64> = requests
        .iter()
        .filter(|r| r.status.is_some_and(|status| status < 300))
        .map(|r| r.at.as_millisecond())
        .collect();
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return 0.0 };
    let (from, to) = (first + LEARNED_MS, last - 3_000);
    let calls = times.iter().filter(|at| (from..to).contains(at)).count();
    calls as f64 / (LIMIT as f64 * (to - from) as f64 / WINDOW.as_millis() as f64)
}

#[tokio::test(flavor = "multi_thread")]
async fn f35_many_workers_on_one_token_use_its_quota_and_do_not_overrun_it() {
    let fault = Fault::new("F35", "8 workers on one token of 100 calls in 3 s");
    let limited = Some((u32::try_from(LIMIT).unwrap_or_default(), WINDOW));
    let mut all_in_one = Deployment::with(shared_node().await, |sandbox| sandbox.rate_limit = limited).await;
    all_in_one.start(1, 8, "").await;
    let load = Load::mixed(seed(), full(100, 500), 0, &all_in_one.sandbox);
    send_all(&all_in_one.sender, &load.bodies).await;
    let tally = all_in_one.holds(&load, 0).await;

    let requests = all_in_one.sandbox.requests();
    let refused = requests.iter().filter(|request| request.status == Some(429)).count();
    let share = used(&requests) * 100.0;
    println!("F35: {share:.1} % of the quota used, {refused} of {} calls refused", requests.len());
    assert!(refused * 100 <= requests.len(), "{refused} of {} calls met 429", requests.len());
    fault.survived(tally, None);
}
