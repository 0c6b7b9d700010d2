//! A deployment that moves from the built-in system of record to HubSpot and from there to Salesforce. Each has exactly the
//! same threads afterwards, once, although the back-fills are killed and refused and lose answers, and texts go on coming.

pub(crate) mod history;
pub(crate) mod systems;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use hookline_e2e::{AllInOne, Process, Running};
use hookline_sandbox::samples::sample;
use hookline_sandbox::{Fault, FaultRule};
use serde_json::{Value, json};

use history::{History, SINCE, ThreadKey, facts, phone};
use systems::{Known, PersonRecord, System, is_named};

const SYNC: [&str; 4] = ["notes", "sync", "--since", SINCE];
/// Longer than any deadline: the back-fill is killed before.
const HANG: Duration = Duration::from_secs(3_600);

/// How much there is of everything.
struct Size {
    people: usize,
    texts: usize,
    /// Numbers that are opted out.
    opted_out: usize,
    /// How often each kind of call fails.
    failures: usize,
    /// What the back-fills to HubSpot and to Salesforce meet.
    steps: [Step; 2],
    /// Texts that come during each back-fill.
    late: usize,
    within: Duration,
}

/// What was sent about a note and not answered may be carried out late, so nobody writes that note for half a minute then.
/// Therefore the small variant has such doubts in one step only.
#[derive(Clone, Copy)]
struct Step {
    kills: &'static [Kill],
    /// Whether calls fail so that a note may have been written.
    doubts: bool,
}

/// After how many calls of a kind a back-fill is killed.
enum Kill {
    Person(usize),
    Note(usize),
}

const SHORT_KILLS: &[Kill] = &[Kill::Person(0), Kill::Note(2), Kill::Note(5)];
const LONG_KILLS: &[Kill] =
    &[Kill::Person(5), Kill::Note(1), Kill::Note(20), Kill::Person(20), Kill::Note(50), Kill::Note(60), Kill::Note(60)];

struct Chain {
    all_in_one: AllInOne,
    history: History,
    size: Size,
}

impl Chain {
    /// Begins with the built-in system of record, which gets all texts and opt-outs.
    async fn begin(size: Size) -> Self {
        let more = "[handlers.log_note]\nmessage_lookup = \"none\"\n";
        let all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, more).await;
        let (history, bodies) = History::new(size.people, size.texts, is_named);
        let chain = Self { all_in_one, history, size };
        let running = chain.all_in_one.run().await;
        chain.send(&bodies).await;
        let opt_outs: Vec<Value> =
            (0..chain.size.opted_out).map(|person| sample("contact.opted_out", &facts(person))).collect();
        chain.send(&opt_outs).await;
        chain.quiet().await;
        assert_eq!(running.stop().await.code, Some(0));
        chain
    }

    async fn send(&self, bodies: &[Value]) {
        let sends = futures::stream::iter(bodies).map(|body| self.all_in_one.sender.send(body));
        sends.buffer_unordered(16).count().await;
    }

    /// Waits until nothing waits, and asserts that nothing failed for good.
    async fn quiet(&self) {
        let deadline = Instant::now() + self.size.within;
        loop {
            let status = self.all_in_one.json(&["status"]).await;
            let handlers = status["handlers"].as_array().expect("a list");
            assert!(handlers.iter().all(|handler| handler["dead_lettered"] == 0), "{status}");
            if status["unrecorded"] == 0 && handlers.iter().all(|handler| handler["waiting"] == 0) {
                return;
            }
            assert!(Instant::now() < deadline, "{status}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Moves to another system of record, whose workers run from then on.
    async fn move_to(&mut self, system: &System, step: Step) -> Running {
        let known = system.add_people(self.size.people);
        system.take_over(&mut self.all_in_one);
        let threads = self.history.threads().len();
        let told = self.all_in_one.json(&[&SYNC[..], &["--dry-run"]].concat()).await;
        assert_eq!((&told["notes"], &told["dry_run"]), (&json!(threads), &json!(true)), "{told}");
        assert_eq!(system.requests(), Vec::new());

        system.fails(self.size.failures, step.doubts);
        let running = self.all_in_one.run().await;
        for (number, kill) in step.kills.iter().enumerate() {
            let late = self.history.later(self.size.late / step.kills.len());
            // By turns the call of which the back-fill hears nothing any more has its effect or not.
            let fault = if number % 2 == 0 { Fault::EffectThenHang(HANG) } else { Fault::Hang(HANG) };
            tokio::join!(self.killed_in(system, kill, fault), self.send(&late));
        }
        let process = Process::start(self.all_in_one.command(&[&SYNC[..], &["--json"]].concat()));
        let late = self.history.later(self.size.late);
        self.send(&late).await;
        let ended = process.ended(self.size.within).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        self.quiet().await;

        threads_are_there_once(system, &known, &self.history.threads());
        self.repeats_write_nothing(system).await;
        self.opt_outs_are_flagged(system).await;
        system.is_clean();
        running
    }

    /// Runs a back-fill that is killed while calls hang, so that it can never come to its end before.
    async fn killed_in(&self, system: &System, kill: &Kill, fault: Fault) {
        let (call, after) = match kill {
            Kill::Person(after) => (system.person_call(), after),
            Kill::Note(after) => (system.note_call(), after),
        };
        let calls = || system.requests().iter().filter(|request| request.endpoint == Some(call)).count();
        let before = calls();
        let rule = system.fault(FaultRule::new(fault).on(call).skip(*after));
        let process = Process::start(self.all_in_one.command(&SYNC));
        hookline_e2e::eventually("a call hangs", async || (calls() > before + after).then_some(())).await;
        assert_eq!(process.kill().await.code, None);
        system.remove_fault(rule);
    }

    async fn repeats_write_nothing(&self, system: &System) {
        let before = system.writes();
        let again = self.all_in_one.json(&SYNC).await;
        assert_eq!((&again["notes"], &again["to_write"]), (&json!(0), &json!(0)), "{again}");
        assert_eq!(system.writes(), before);
    }

    /// Flags the opt-outs, and asserts that every record with one of the numbers has a flag then, and no other.
    async fn opt_outs_are_flagged(&self, system: &System) {
        self.all_in_one.json(&["opt-outs", "sync"]).await;
        for record in system.people() {
            let is_one = (0..self.size.opted_out).any(|person| phone(person).ends_with(&record.number));
            assert_eq!(record.is_opted_out, is_one, "{}", record.id);
        }
        let before = system.writes();
        let again = self.all_in_one.json(&["opt-outs", "sync"]).await;
        let numbers = self.size.opted_out;
        assert_eq!((&again["flagged"], &again["unchanged"]), (&json!(0), &json!(numbers)), "{again}");
        assert_eq!(system.writes(), before);
    }
}

/// Asserts that each thread is one note with its texts in order, on the record of its person, and that everybody is one
/// record, apart from those who were two before.
fn threads_are_there_once(system: &System, known: &Known, threads: &BTreeMap<ThreadKey, Vec<String>>) {
    let people = system.people();
    let mut records = BTreeSet::new();
    let mut right = BTreeMap::new();
    for (phone, _) in threads.keys() {
        let is_theirs = |record: &&PersonRecord| phone.ends_with(&record.number) && !known.twins.contains(&record.id);
        let theirs: Vec<&String> = people.iter().filter(is_theirs).map(|record| &record.id).collect();
        let [record] = theirs.as_slice() else { panic!("{phone} has the records {theirs:?}") };
        records.insert((*record).clone());
        right.insert(phone.clone(), (*record).clone());
    }
    assert!(known.records.is_subset(&records), "those who were there before got their notes");
    assert_eq!(people.len(), records.len() + known.twins.len());

    let mut shown = BTreeMap::new();
    for note in system.notes() {
        assert_eq!(Some(&note.whose), right.get(&note.thread.0), "whose the note of {:?} is", note.thread);
        let other = shown.insert(note.thread.clone(), note.texts);
        assert_eq!(other, None, "{:?} is one note", note.thread);
    }
    assert_eq!(&shown, threads);
}

async fn each_system_gets_the_same_threads_once(size: Size, rate_limit: (u32, Duration), by_key: bool) {
    let mut chain = Chain::begin(size).await;
    let hubspot = System::hubspot(rate_limit, by_key).await;
    let running = chain.move_to(&hubspot, chain.size.steps[0]).await;
    assert_eq!(running.stop().await.code, Some(0));
    let (calls, notes) = (hubspot.requests().len(), hubspot.notes().len());

    let salesforce = System::salesforce().await;
    let running = chain.move_to(&salesforce, chain.size.steps[1]).await;

    assert_eq!(running.stop().await.code, Some(0));
    assert_eq!((hubspot.requests().len(), hubspot.notes().len()), (calls, notes), "the earlier system is left alone");
    println!("calls to HubSpot {calls}, to Salesforce {}", salesforce.requests().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_system_of_a_chain_gets_the_same_threads_once_though_back_fills_are_killed() {
    let size = Size {
        people: 20,
        texts: 6,
        opted_out: 2,
        failures: 1,
        steps: [Step { kills: SHORT_KILLS, doubts: true }, Step { kills: &[], doubts: false }],
        late: 6,
        within: Duration::from_secs(150),
    };
    each_system_gets_the_same_threads_once(size, (40, Duration::from_secs(1)), true).await;
}

/// `cargo test --release -p hookline-e2e --all-features --test all_in_one -- --ignored --nocapture a_long_history`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: docs/measurements.md has its figures"]
async fn a_long_history_comes_into_each_system_of_a_chain_once() {
    let size = Size {
        people: 250,
        texts: 20,
        opted_out: 40,
        failures: 12,
        steps: [Step { kills: LONG_KILLS, doubts: true }; 2],
        late: 70,
        within: Duration::from_secs(1_800),
    };
    each_system_gets_the_same_threads_once(size, (100, Duration::from_secs(10)), false).await;
}
