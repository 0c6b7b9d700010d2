//! A destination that hangs, and does not even fail, holds up nobody who calls another one.

use std::time::Duration;

use hookline_common::testing::nodes::PostgresNode;
use hookline_e2e::{ACCOUNT, Deployment, Load, eventually, send_all};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault as ApiFault, FaultRule};
use sqlx::{Connection as _, Executor as _};

use crate::{Fault, seed, shared_node};

const EVENTS: usize = 60;

/// How many deliveries of a handler were done or skipped, and how many wait.
async fn standing(all_in_one: &Deployment<'_>, handler: &str) -> (u64, u64) {
    let status = all_in_one.json(&["status"]).await;
    let handlers = status["handlers"].as_array().expect("handlers");
    let row = handlers.iter().find(|row| row["handler"] == handler).expect("every handler");
    let count = |state: &str| row[state].as_u64().expect("a count");
    (count("done") + count("skipped"), count("waiting"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_hangs_holds_up_no_handler_that_calls_another() {
    let fault = Fault::new("hang", "TextUs hangs: the system of record's handlers go on");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    // How long a call that hangs is waited for.
    all_in_one.set("HOOKLINE__TEXTUS__TIMEOUT", "3s");
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), EVENTS, 0, &all_in_one.sandbox);
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::Hang(hookline_e2e::DEADLINE * 2)));

    send_all(&all_in_one.sender, &load.bodies).await;

    for (handler, events) in [("flag_opt_out", load.opted_out.len()), ("sync_contact", load.created.len())] {
        let all = (events as u64, 0);
        eventually(handler, async || (standing(&all_in_one, handler).await == all).then_some(())).await;
    }
    for (handler, events) in [("record_opt_out", load.opted_out.len()), ("create_contact", load.created.len())] {
        assert_eq!(standing(&all_in_one, handler).await, (0, events as u64), "{handler} waits for the API");
    }
    all_in_one.sandbox.clear_faults();
    let tally = all_in_one.holds(&load, 0).await;
    fault.survived(tally, None);
}

/// The built-in one lies in the store: what it waits for is a lock on its tables.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn a_system_of_record_that_hangs_holds_up_no_opt_out() {
    let fault = Fault::new("hang", "the system of record hangs: opt-outs go on");
    let store = PostgresNode::shared().await.database().await;
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.use_store(&store);
    all_in_one.start(1, 2, "").await;
    let load = Load::mixed(seed(), EVENTS, 0, &all_in_one.sandbox);
    let mut other = sqlx::PgConnection::connect(&store).await.expect("the database is there");
    let mut hold = other.begin().await.expect("a transaction");
    hold.execute("LOCK TABLE records_people, records_notes, records_opt_flags").await.expect("locked");

    send_all(&all_in_one.sender, &load.bodies).await;

    let opt_outs = load.opted_out.len();
    // Each PUT's echo is an opt-out, too.
    let all = (2 * opt_outs as u64, 0);
    eventually("opt-outs are done", async || (standing(&all_in_one, "record_opt_out").await == all).then_some(()))
        .await;
    let effects = all_in_one.sandbox.effects();
    assert_eq!(effects.iter().filter(|effect| effect.kind == EffectKind::OptOutPut).count(), opt_outs);
    let held = [("flag_opt_out", 2 * opt_outs), ("log_note", load.texts.len()), ("sync_contact", load.created.len())];
    for (handler, events) in held {
        // The history may be behind.
        let waits = async || (standing(&all_in_one, handler).await.1 == events as u64).then_some(());
        eventually("what calls the system of record waits", waits).await;
    }
    hold.rollback().await.expect("unlocked");
    let tally = all_in_one.holds(&load, 0).await;
    fault.survived(tally, None);
}

/// What was made is not forgotten with the end of its attempt: whoever comes next need not wait for the claim's lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_somebody_keeps_does_not_keep_its_put_from_being_noted() {
    let store = PostgresNode::shared().await.database().await;
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.use_store(&store);
    all_in_one.start(1, 1, "").await;
    all_in_one.sandbox.fault(FaultRule::new(ApiFault::Slow(Duration::from_secs(2))).on(Endpoint::PutOptOut).times(1));
    let mut other = sqlx::PgConnection::connect(&store).await.expect("the database is there");
    let states = "SELECT state FROM effects WHERE handler = 'record_opt_out'";

    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    eventually("the PUT is claimed", async || {
        let claimed: Option<String> = sqlx::query_scalar(states).fetch_optional(&mut other).await.expect("a table");
        (claimed.as_deref() == Some("claimed")).then_some(())
    })
    .await;
    let mut hold = other.begin().await.expect("a transaction");
    hold.execute("SELECT 1 FROM deliveries FOR UPDATE").await.expect("locked");

    eventually("the PUT is noted", async || {
        let made: String = sqlx::query_scalar(states).fetch_one(&mut *hold).await.expect("a row");
        (made == "done").then_some(())
    })
    .await;
    hold.rollback().await.expect("unlocked");
    all_in_one.settled().await;
    let puts = all_in_one.sandbox.effects().into_iter().filter(|effect| effect.kind == EffectKind::OptOutPut).count();
    assert_eq!(puts, 1);
}
