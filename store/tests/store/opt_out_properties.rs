//! Random histories of one phone in two accounts, against a model that knows the rules and keeps everything.

use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{OptStanding, PutAnswer, PutDecision};
use proptest::prelude::*;

use crate::database::CASES;
use crate::helpers::{TestStore, at, phone};
use crate::opt_outs::{into, out};

const ACCOUNTS: [&str; 2] = ["acme", "other"];
/// Times are multiples of this step, relative to now.
const STEP_SECONDS: i64 = 4 * 60;

#[derive(Clone, Debug)]
struct Step {
    opted_out: bool,
    /// A stop word or, for an opt-in, START, which changes no state.
    is_text: bool,
    account: usize,
    stated: i64,
    received: i64,
    /// The API's answer, if the step calls it.
    answer: Answer,
    /// The worker dies between settling and ack, so the event comes again.
    repeated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Proof,
    ReadBack,
    Unproven,
    Status(u16),
    None,
}

impl Answer {
    fn is_proof(self) -> bool {
        matches!(self, Self::Proof | Self::ReadBack)
    }

    fn told(self) -> PutAnswer {
        match self {
            Self::Proof => PutAnswer::Status(201),
            Self::ReadBack => PutAnswer::ReadBack(200),
            Self::Unproven => PutAnswer::Unproven(200),
            Self::Status(status) => PutAnswer::Status(status),
            Self::None => PutAnswer::NoAnswer,
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop_oneof![
        4 => Just(Answer::Proof),
        1 => Just(Answer::ReadBack),
        1 => Just(Answer::Unproven),
        1 => Just(Answer::Status(503)),
        1 => Just(Answer::Status(422)),
        1 => Just(Answer::None),
    ];
    let step =
        (any::<bool>(), prop::bool::weighted(0.4), 0..ACCOUNTS.len(), -3..=3_i64, -3..=3_i64, answer, any::<bool>())
            .prop_map(|(opted_out, is_text, account, stated, received, answer, repeated)| Step {
                opted_out,
                is_text,
                account,
                stated,
                received,
                answer,
                repeated,
            });
    prop::collection::vec(step, 1..12)
}

impl Step {
    /// The event's time, never later than its receipt.
    fn time(&self) -> i64 {
        self.stated.min(self.received)
    }

    fn opts_in(&self) -> bool {
        !self.opted_out && !self.is_text
    }

    fn is_start(&self) -> bool {
        !self.opted_out && self.is_text
    }

    fn undoes(&self, opt_out: &Self) -> bool {
        self.stated > opt_out.stated && self.time() > opt_out.time()
    }
}

/// A PUT that the event of step `cause` made.
struct Put {
    target: usize,
    cause: usize,
    is_proved: bool,
}

/// All steps, and every PUT with the step at which it was made.
struct Model<'a> {
    steps: &'a [Step],
    puts: Vec<(usize, Put)>,
}

impl Model<'_> {
    /// The standing of a step against all steps up to `now`.
    fn standing(&self, step: &Step, now: usize) -> OptStanding {
        let mut others = self.steps[..=now].iter().filter(|other| other.account == step.account);
        let stale = if step.opted_out {
            others.any(|other| (other.opts_in() || (step.is_text && other.is_start())) && other.undoes(step))
        } else {
            others.any(|other| other.opted_out && !step.undoes(other))
        };
        if stale { OptStanding::Stale } else { OptStanding::Current }
    }

    /// The state over all accounts: opted out while any opt-out is not undone.
    fn state(&self, now: usize) -> Option<(bool, i64)> {
        let came: Vec<&Step> = self.steps[..=now].iter().filter(|step| !step.is_start()).collect();
        let stands = |out: &Step| !came.iter().any(|other| other.opts_in() && other.undoes(out));
        let newest = came.iter().map(|step| step.time()).max()?;
        Some((came.iter().any(|step| step.opted_out && stands(step)), newest))
    }

    fn decision(&self, event: usize, target: usize, now: usize) -> PutDecision {
        let step = &self.steps[event];
        let to_target = || self.puts.iter().filter(|(_, put)| put.target == target && put.is_proved);
        let explains = |made_at: usize, put: &Put| {
            let cause = &self.steps[put.cause];
            // A START text counts unless the last one to its account is newer than this event.
            let is_outdone = |account: usize| {
                let mut came = self.steps[..=now].iter();
                came.any(|other| other.is_start() && other.account == account && other.undoes(step))
            };
            let counts = |other: &Step| other.opts_in() || (other.is_start() && !is_outdone(other.account));
            let opt_ins = || self.steps[..=now].iter().enumerate().filter(|(_, other)| counts(other));
            // The PUT was made just now, so no event is newer by five minutes.
            !opt_ins().any(|(place, _)| place > made_at) && !opt_ins().any(|(_, other)| other.time() > cause.time())
        };
        if to_target().any(|(_, put)| put.cause == event) {
            PutDecision::Duplicate
        } else if self.standing(step, now) == OptStanding::Stale {
            PutDecision::Stale
        } else if to_target().any(|(made_at, put)| put.cause != event && explains(*made_at, put)) {
            if step.account == target && !step.is_text { PutDecision::Echo } else { PutDecision::AlreadyDone }
        } else {
            PutDecision::Put
        }
    }
}

/// Does what `record_opt_out` does with the event of one step.
async fn handle(store: &Store, model: &mut Model<'_>, place: usize, now: i64) {
    let step = &model.steps[place];
    let seconds = |steps: i64| now + steps * STEP_SECONDS;
    let name = place.to_string();
    let opt = if step.opted_out { out(&name, seconds(step.stated)) } else { into(&name, seconds(step.stated)) };
    let opt = opt.of(ACCOUNTS[step.account]).received(seconds(step.received));
    let opt = if step.is_text { opt.by_text() } else { opt };
    if step.is_start() {
        return opt.noted(store).await;
    }
    let case = format!("step {place} of {:?}", model.steps);
    let expected = model.standing(step, place);
    if !step.opted_out {
        assert_eq!(opt.record(store).await, expected, "{case}");
        return;
    }
    let first = opt.record_and_decide(store, ACCOUNTS[0]).await;
    assert_eq!(first.is_none(), expected == OptStanding::Stale, "{case}");
    let Some(first) = first else { return };
    for (target, account) in ACCOUNTS.into_iter().enumerate() {
        let decision = if target == 0 { first } else { opt.decide(store, account).await };
        assert_eq!(decision, model.decision(place, target, place), "to {account}, {case}");
        if decision == PutDecision::Put {
            opt.answered(store, account, step.answer.told()).await;
            model.puts.push((place, Put { target, cause: place, is_proved: step.answer.is_proof() }));
        }
    }
}

async fn check(steps: Vec<Step>) {
    let TestStore { store, home: _home } = TestStore::new().await;
    let now = (Timestamp::now().as_millis() - at(0).as_millis()) / 1000;
    let mut model = Model { steps: &steps, puts: Vec::new() };
    for (place, step) in steps.iter().enumerate() {
        for _ in 0..=usize::from(step.repeated) {
            handle(&store, &mut model, place, now).await;
        }
        let state = model.state(place);
        assert_eq!(
            store.newest_state(&phone()).await.expect("the store answers"),
            state.map(|(opted_out, time)| (opted_out, at(now + time * STEP_SECONDS))),
            "step {place} of {steps:?}"
        );
    }
    assert_eq!(store.verify(None).await.expect("the store answers").broken, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_stale_event_is_put_and_only_a_proved_put_to_the_same_target_makes_another_needless(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(check(steps));
    }
}
