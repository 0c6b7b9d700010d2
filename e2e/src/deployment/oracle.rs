//! Checks Hookline's promises after a fault: every accepted id is in exactly one state per handler, each effect was
//! made once, nothing is stuck, the ledger is whole, and no personal data was written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hookline_sandbox::{EffectKind, RecordedRequest};
use serde_json::Value;

use super::load::{CANARY_EMAIL, CANARY_PHONE};
use super::{BROKER_PASSWORD, Deployment, Half, LEDGER_KEY, Load, STORE_PASSWORD};
use crate::accounts::{Accounts, HANDLERS};
use crate::all_in_one::{ACCOUNT, SECOND_ACCOUNT, SECRET, TOKEN};
use crate::wait::eventually;

/// The figures of one row of results.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub events: usize,
    pub accepted: usize,
    pub done: usize,
    pub skipped: usize,
    pub dead_lettered: usize,
    pub repeats_suppressed: usize,
}

impl Deployment<'_> {
    /// Waits until nothing waits anywhere (spools, queues, delays, echoes), and accounts for every event.
    ///
    /// # Panics
    /// If that doesn't happen in time, or the accounts do not agree.
    pub async fn settled(&self) -> Accounts {
        let mut last = String::new();
        let settled = eventually("everything is settled", async || {
            let echoes = self.sandbox.echo_counts();
            let spooled = self.spooled().await;
            let status = self.json(&["status"]).await;
            let handlers = status["handlers"].as_array().expect("handlers");
            let waits: u64 = handlers.iter().filter_map(|handler| handler["waiting"].as_u64()).sum();
            let queues =
                if spooled == 0 && waits == 0 && echoes.pending == 0 { self.waiting().await } else { BTreeMap::new() };
            last = format!("{spooled} spooled, {waits} waiting, {echoes:?}, {queues:?}");
            // An echo is pending before its write is answered, so with nothing waiting no new echo can begin.
            let quiet = spooled == 0 && waits == 0 && queues.is_empty();
            (quiet && echoes.pending == 0 && echoes == self.sandbox.echo_counts()).then_some(())
        });
        tokio::select! {
            () = settled => {}
            () = tokio::time::sleep(crate::DEADLINE * 9 / 10) => panic!("not settled: {last}\n{}", self.unsettled().await),
        }
        Accounts::read(&self.commands).await
    }

    /// Describes the waiting deliveries and what the broker still holds.
    async fn unsettled(&self) -> String {
        let mut told = String::new();
        for handler in HANDLERS {
            for id in self.cli(&["status", "--ids", handler, "--state", "waiting"]).await.stdout.lines() {
                let shown = self.json(&["events", "show", id]).await;
                let _ = writeln!(told, "{handler} of {}: {}", shown["event_type"], shown["deliveries"]);
            }
        }
        let _ = write!(told, "{:?}", self.waiting().await);
        told
    }

    /// Returns the number of events in the spools of the running ingests.
    pub async fn spooled(&self) -> u64 {
        let mut spooled = 0.0;
        for ingest in self.parts(Half::Ingest) {
            spooled += ingest.metric("hookline_ingest_spool_events").await;
        }
        spooled as u64
    }

    /// Checks all promises. `crashes` is the maximum number of times that a process was ended between a call and its
    /// record. Each of these may repeat the PUT of an opt-out, which changes nothing there.
    ///
    /// # Panics
    /// If a promise is broken.
    pub async fn holds(&self, load: &Load, crashes: usize) -> Tally {
        let accounts = self.settled().await;
        self.accounts_hold(&accounts);
        self.effects_hold(load, crashes).await;
        assert_eq!(self.cli(&["opt-outs", "verify"]).await.code, Some(0), "the ledger verifies");
        assert_eq!(self.sandbox.violations(), [], "the API was asked for nothing wrong");
        self.nothing_personal_is_written().await;
        self.tally(load, &accounts).await
    }

    /// Asserts that every event that was answered 200, and no other but echoes, is done or skipped at each of its
    /// handlers, or is a dead letter that was expected.
    fn accounts_hold(&self, accounts: &Accounts) {
        let accepted = self.sender.accepted();
        for (id, event_type) in &accepted {
            let found = accounts.events.get(id);
            // An event that must become a dead letter may have a type that is not one.
            assert!(
                found.is_some_and(|found| found == event_type || self.doomed.contains(id)),
                "{id} was answered 200"
            );
        }
        let others = accounts.events.keys().filter(|id| !accepted.contains_key(*id)).count() as u64;
        let echoes = self.sandbox.echo_counts();
        // An echo that was given up may have arrived before.
        let expected = echoes.sent..=echoes.sent + echoes.given_up;
        assert!(expected.contains(&others), "{others} events that nobody sent, {echoes:?}");
        for handler in HANDLERS {
            for state in ["waiting", "discarded"] {
                assert!(accounts.of(handler, state).is_empty(), "{handler} {state}: {:?}", accounts.of(handler, state));
            }
            for id in accounts.of(handler, "dead_lettered") {
                assert!(self.doomed.contains(id), "{handler}: {id} is {}", accounts.ending(id, handler));
            }
        }
    }

    async fn effects_hold(&self, load: &Load, crashes: usize) {
        let notes = self.rows(&["records", "notes"], "notes").await;
        let mut noted: BTreeMap<String, usize> = BTreeMap::new();
        for note in &notes {
            *noted.entry(note["message_id"].as_str().expect("a text").to_owned()).or_default() += 1;
        }
        assert_eq!(noted.keys().cloned().collect::<std::collections::BTreeSet<_>>(), load.texts, "a note of each text");
        assert!(noted.values().all(|count| *count == 1), "and one only");
        for person in &load.opted_out {
            let puts = self.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone);
            assert!(
                (1..=1 + crashes).contains(&puts),
                "{puts} PUTs of an opt-out: {:?}",
                self.asked_about(&person.phone)
            );
        }
        for person in &load.created {
            let posts = self.sandbox.effect_count(EffectKind::ContactCreated, SECOND_ACCOUNT, &person.phone);
            assert_eq!(posts, 1, "a contact is made once");
        }
    }

    /// Returns the requests to the API with this phone in the path.
    fn asked_about(&self, phone: &str) -> Vec<RecordedRequest> {
        let digits = phone.trim_start_matches('+');
        self.sandbox.requests().into_iter().filter(|request| request.path.contains(digits)).collect()
    }

    /// Asserts that no personal data and no secret is in any log or metric, of processes that ended and of those that
    /// run.
    ///
    /// # Panics
    /// If some is.
    pub async fn nothing_personal_is_written(&self) {
        let mut written = self.written.clone();
        for part in self.parts(Half::Ingest).chain(self.parts(Half::Worker)) {
            written.extend(part.process.stdout());
            written.extend(part.process.stderr());
            written.push(part.admin("/metrics").await.1);
            written.push(part.admin("/readyz").await.1);
        }
        let phone = CANARY_PHONE.trim_start_matches('+');
        let planted = [phone, &phone[1..], "000-1234", CANARY_EMAIL, SECRET, TOKEN, LEDGER_KEY];
        for planted in planted.into_iter().chain([BROKER_PASSWORD, STORE_PASSWORD]) {
            let line = written.iter().flat_map(|text| text.lines()).find(|line| line.contains(planted));
            assert!(line.is_none(), "{planted} is written: {line:?}");
        }
    }

    async fn tally(&self, load: &Load, accounts: &Accounts) -> Tally {
        let count = |state: &str| HANDLERS.iter().map(|handler| accounts.of(handler, state).len()).sum();
        let mut suppressed = 0.0;
        for worker in self.parts(Half::Worker) {
            suppressed += worker.metric("hookline_effects_suppressed_total").await;
        }
        Tally {
            events: load.bodies.len(),
            accepted: self.sender.accepted().len(),
            done: count("done"),
            skipped: count("skipped"),
            dead_lettered: count("dead_lettered"),
            repeats_suppressed: suppressed as usize,
        }
    }

    /// Returns the log lines of all processes with this message.
    #[must_use]
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let running = self.parts(Half::Ingest).chain(self.parts(Half::Worker)).flat_map(|part| part.process.stderr());
        let lines = self.written.iter().flat_map(|text| text.lines().map(str::to_owned)).chain(running);
        let parsed = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        parsed.filter(|line| line["message"] == message).collect()
    }
}
