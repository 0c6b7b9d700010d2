//! What became of a run: waits for every PUT that is owed, redrives what was refused for good, ends what still fails,
//! waits until everything is settled, and looks at everything.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::owed::{Calls, Owed, opt_ins, owed};
use crate::plan::What;
use crate::play::{Play, Sent};
use crate::{accounts, crm, erasure, ledger, pace, people};

/// What the failure begins with that time alone makes.
pub(crate) const LATE: &str = "(a) too late:";
/// What its way takes besides, by the machine's pace: queues, the store, several runs at once.
const SLACK: Duration = Duration::from_millis(2_500);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const ASK_EVERY: Duration = Duration::from_millis(700);
const SETTLED_WITHIN: Duration = Duration::from_secs(40);
/// A CRM is searched a few times a second, and the lease of a process that was killed lasts half a minute longer.
const SETTLED_WITH_A_CRM_WITHIN: Duration = Duration::from_secs(150);
/// What the API may refuse an opt-out with, for good.
const FINAL: [u64; 7] = [400, 409, 410, 413, 414, 415, 422];

/// A record_opt_out that was given up.
struct DeadLetter {
    id: String,
    event_id: String,
    reason: String,
    is_final: bool,
}

/// Everything that did not come true; empty where the run passes.
pub(crate) async fn of(play: &mut Play<'_>) -> Vec<String> {
    let mut late = wait_for_puts(play, &Vec::new(), false).await;
    redrive(play).await;
    play.hold(Duration::ZERO);
    late.extend(wait_for_puts(play, &late, true).await);
    play.end_lasting();

    let mut failures: Vec<String> =
        late.iter().map(|owed| format!("{LATE} {} has {}", owed.account, told(owed))).collect();
    // Whoever is late already may take for ever.
    let within = if play.stage.crm.is_some() { SETTLED_WITH_A_CRM_WITHIN } else { SETTLED_WITHIN };
    let within = if late.is_empty() { within } else { within / 4 };
    let settled = settled(play, within).await;
    let calls = Calls::of(play);
    let never = owed(play).into_iter().filter(|owed| !calls.settle(owed, &opt_ins(play, owed)));
    failures.extend(never.map(|owed| format!("(a) {} never has {}", owed.account, told(&owed))));
    let is_owed =
        |dead: &DeadLetter| !play.sent().iter().any(|sent| sent.id == dead.event_id && is_unreadable(play, sent));
    for dead in dead_opt_outs(play).await.into_iter().filter(is_owed) {
        failures.push(format!("(a) an opt-out is a dead letter: {} ({})", dead.reason, dead.event_id));
    }
    failures.extend(ledger::holds(play).await);
    match settled {
        Ok(()) => {
            failures.extend(accounts::hold(play).await);
            match &play.stage.crm {
                Some(crm) => failures.extend(crm::holds(play, crm).await),
                None => failures.extend(people::hold(play).await),
            }
            failures.extend(erasure::holds(play).await);
        }
        Err(why) => failures.push(why),
    }
    failures.append(&mut play.failures);
    failures.sort();
    failures.dedup();
    failures
}

fn is_unreadable(play: &Play<'_>, sent: &Sent) -> bool {
    play.plan.said[sent.said].what == What::NumberlessOptOut
}

fn told(owed: &Owed) -> String {
    format!("the opt-out {} of {}", owed.sent.said, owed.phone)
}

/// Waits for each PUT that is owed, and gives those that are late. Of an opt-out that the API refused for good only
/// `with_refused`, and none that was `late` before.
async fn wait_for_puts(play: &Play<'_>, late: &[Owed], with_refused: bool) -> Vec<Owed> {
    let mut asked = None::<Instant>;
    let mut open: Vec<Owed> = owed(play).into_iter().filter(|owed| !late.contains(owed)).collect();
    let (mut refused, mut too_late) = (BTreeSet::new(), Vec::new());
    loop {
        let calls = Calls::of(play);
        open.retain(|owed| !calls.settle(owed, &opt_ins(play, owed)));
        if !open.is_empty() && !with_refused && asked.is_none_or(|at| at.elapsed() > ASK_EVERY) {
            let dead = dead_opt_outs(play).await;
            refused = dead.into_iter().filter(|dead| dead.is_final).map(|dead| dead.event_id).collect();
            asked = Some(Instant::now());
        }
        open.retain(|owed| !refused.contains(&owed.sent.id));
        // What nothing held up is due at once.
        let now = pace::now();
        let is_late = |owed: &mut Owed| now > play.expected.max(owed.sent.ready) + SLACK;
        too_late.extend(open.extract_if(.., is_late));
        if open.is_empty() {
            return too_late;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn dead_opt_outs(play: &Play<'_>) -> Vec<DeadLetter> {
    let rows = play.stage.rows(&["dead-letters", "list", "--handler", "record_opt_out"], "dead_letters").await;
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| DeadLetter {
            id: text(row, "id"),
            event_id: text(row, "event_id"),
            reason: format!("{} {}", text(row, "reason"), row["status"]),
            is_final: row["status"].as_u64().is_some_and(|status| FINAL.contains(&status)),
        })
        .collect()
}

/// What an operator does once the API takes again what it refused.
async fn redrive(play: &Play<'_>) {
    for dead in dead_opt_outs(play).await.iter().filter(|dead| dead.is_final) {
        play.stage.all_in_one.cli(&["dead-letters", "redrive", &dead.id]).await;
    }
}

/// Waits until nothing waits any more: in history, queues, or as an echo on its way.
async fn settled(play: &Play<'_>, within: Duration) -> Result<(), String> {
    let deadline = Instant::now() + within;
    let mut pause = LOOK_EVERY;
    loop {
        let echoes = play.stage.all_in_one.sandbox.echo_counts();
        let status = play.stage.json(&["status"]).await.unwrap_or_default();
        let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
        let waits: Vec<String> = list("handlers")
            .iter()
            .filter(|handler| handler["waiting"] != 0)
            .map(|handler| format!("{} {}", handler["waiting"], handler["handler"]))
            .collect();
        let is_work = |queue: &Value| queue["queue"].as_str().is_some_and(|name| name.starts_with("hookline.work."));
        let queued = list("queues").iter().any(|queue| is_work(queue) && queue["messages"] != 0);
        let quiet = !list("handlers").is_empty() && waits.is_empty() && !queued && status["unrecorded"] == 0;
        if quiet && echoes.pending == 0 && echoes == play.stage.all_in_one.sandbox.echo_counts() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("(d) not settled: waiting {waits:?}, unrecorded {}, {echoes:?}", status["unrecorded"]));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 5 / 4).min(ASK_EVERY);
    }
}
