//! Random histories of one phone in two accounts, against a model that only knows event times.

use std::collections::HashMap;

use hookline_store::Store;
use hookline_store::model::{OptStanding, PutAnswer, PutDecision};
use proptest::prelude::*;

use crate::database::CASES;
use crate::helpers::{TestStore, at, phone};
use crate::opt_outs::{into, out};

const ACCOUNTS: [&str; 2] = ["acme", "other"];

#[derive(Clone, Debug)]
struct Step {
    opted_out: bool,
    account: usize,
    time: i64,
    /// What the API says, if it is asked.
    answer: u16,
    /// The worker dies between settling and ack: the event comes again.
    repeated: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (any::<bool>(), 0..ACCOUNTS.len(), 0..6_i64, prop_oneof![Just(201), Just(503), Just(422)], any::<bool>())
            .prop_map(|(opted_out, account, time, answer, repeated)| Step {
                opted_out,
                account,
                time,
                answer,
                repeated,
            });
    prop::collection::vec(step, 1..12)
}

/// Newest opt-out and opt-in per account.
#[derive(Default)]
struct Model(HashMap<usize, (Option<i64>, Option<i64>)>);

impl Model {
    /// How the event stands before it is applied.
    fn standing(&self, step: &Step) -> OptStanding {
        let (newest_out, newest_in) = self.0.get(&step.account).copied().unwrap_or_default();
        let stale = if step.opted_out {
            newest_in.is_some_and(|newest| step.time < newest)
        } else {
            newest_out.is_some_and(|newest| step.time <= newest)
        };
        if stale { OptStanding::Stale } else { OptStanding::Current }
    }

    fn apply(&mut self, step: &Step) {
        let (newest_out, newest_in) = self.0.entry(step.account).or_default();
        let newest = if step.opted_out { newest_out } else { newest_in };
        *newest = (*newest).max(Some(step.time));
    }

    /// Over all accounts; a tie is opted out.
    fn newest(&self) -> (bool, i64) {
        let newest_out = self.0.values().filter_map(|times| times.0).max();
        let newest_in = self.0.values().filter_map(|times| times.1).max();
        (newest_out >= newest_in, newest_out.max(newest_in).expect("at least one event"))
    }
}

/// What `record_opt_out` does with one event; gives back whether anything was PUT.
async fn handle(store: &Store, name: &str, step: &Step) -> (OptStanding, Vec<PutDecision>) {
    let opt = if step.opted_out { out(name, step.time) } else { into(name, step.time) }.of(ACCOUNTS[step.account]);
    if !step.opted_out {
        return (opt.record(store).await, Vec::new());
    }
    let first = opt.record_and_decide(store, ACCOUNTS[0]).await;
    let standing = if first.is_some() { OptStanding::Current } else { OptStanding::Stale };
    let mut decisions = Vec::new();
    if let Some(first) = first {
        for target in ACCOUNTS {
            let decision = if target == ACCOUNTS[0] { first } else { opt.decide(store, target).await };
            if decision == PutDecision::Put {
                opt.answered(store, target, PutAnswer::Status(step.answer)).await;
            }
            decisions.push(decision);
        }
    }
    (standing, decisions)
}

async fn check(steps: Vec<Step>) {
    let TestStore { store, home: _home } = TestStore::new().await;
    let mut model = Model::default();
    // No PUT since an opt-in that is newer than every opt-out before it: nothing may hold the next one back.
    let mut armed = true;
    // What a PUT of another event to this account explains.
    let (mut answered_well, mut may_echo) = ([false; ACCOUNTS.len()], [false; ACCOUNTS.len()]);
    for (i, step) in steps.iter().enumerate() {
        let name = i.to_string();
        let expected = model.standing(step);
        model.apply(step);

        let (standing, decisions) = handle(&store, &name, step).await;
        assert_eq!(standing, expected, "step {i} of {steps:?}");
        assert_eq!(decisions.is_empty(), standing == OptStanding::Stale || !step.opted_out);
        if armed {
            assert!(decisions.iter().all(|decision| *decision == PutDecision::Put), "step {i} of {steps:?}");
        }
        if !decisions.is_empty() {
            armed = false;
        } else if !step.opted_out && model.newest() == (false, step.time) {
            armed = true;
        }
        for (target, decision) in decisions.iter().enumerate() {
            match decision {
                PutDecision::Put => {}
                PutDecision::Echo => assert!(may_echo[step.account], "step {i} of {steps:?}"),
                PutDecision::AlreadyDone => assert!(answered_well[target], "step {i} of {steps:?}"),
                PutDecision::Duplicate => panic!("step {i} is new in {steps:?}"),
                PutDecision::Stale => panic!("nothing came between record and decision, step {i} of {steps:?}"),
            }
        }
        for (target, decision) in decisions.iter().enumerate() {
            if *decision == PutDecision::Put {
                answered_well[target] |= step.answer == 201;
                may_echo[target] |= step.answer != 422;
            }
        }
        if step.repeated {
            let (again, decisions_again) = handle(&store, &name, step).await;
            assert_eq!(again, model.standing(step), "step {i}, repeated, of {steps:?}");
            for (first, second) in decisions.iter().zip(decisions_again) {
                if *first == PutDecision::Put && step.answer == 201 {
                    assert_eq!(second, PutDecision::Duplicate, "step {i}, repeated, of {steps:?}");
                }
            }
        }
        let (opted_out, time) = model.newest();
        assert_eq!(
            store.newest_state(&phone()).await.expect("the store answers"),
            Some((opted_out, at(time))),
            "step {i} of {steps:?}"
        );
    }
    assert_eq!(store.verify(None).await.expect("the store answers").broken, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_stale_event_is_put_and_the_state_is_the_newest_by_event_time(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(check(steps));
    }
}
