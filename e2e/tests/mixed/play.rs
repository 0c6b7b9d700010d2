//! Carries a plan out, and keeps a record of what was done when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_e2e::Sender;
use hookline_sandbox::FaultId;
use hookline_sandbox::samples::sign;
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;

use crate::clock::{Clock, Ms};
use crate::plan::{Below, Plan, Step};
use crate::stage::{self, Stage};
use crate::{bodies, pace, worlds};

/// For how long a webhook is posted until it is accepted.
const SENDING: Duration = Duration::from_secs(60);

/// An event that was posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) said: usize,
    pub(crate) stated: Ms,
    pub(crate) posted: Ms,
    /// When its post was answered 200, by the first of its posts.
    pub(crate) accepted: Ms,
    pub(crate) id: String,
    /// The same, by the machine's pace.
    pub(crate) ready: Duration,
    /// How many accounts were configured then.
    pub(crate) accounts: usize,
}

/// A run on its way.
pub(crate) struct Play<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) stage: Stage,
    pub(crate) clock: Arc<Clock>,
    sent: Arc<Mutex<BTreeMap<usize, Sent>>>,
    bodies: BTreeMap<usize, (Vec<u8>, Ms)>,
    begun: BTreeMap<usize, FaultId>,
    /// When what was held up is PUT at the latest, by the machine's pace.
    pub(crate) expected: Duration,
    /// Since when the clock is how far ahead.
    pub(crate) leaps: Vec<(Timestamp, Ms)>,
    pub(crate) restarts: usize,
    /// What an act showed that should not be.
    pub(crate) failures: Vec<String>,
    /// Answers of the other world from before this pause nothing any more.
    resumed: Timestamp,
    accounts: usize,
    sending: JoinSet<()>,
}

impl<'a> Play<'a> {
    /// Everything is up, and nothing has happened yet.
    pub(crate) async fn begin(plan: &'a Plan) -> Self {
        let mut stage = Stage::set(plan).await;
        stage.start().await;
        Self {
            plan,
            stage,
            clock: Arc::default(),
            sent: Arc::default(),
            bodies: BTreeMap::new(),
            begun: BTreeMap::new(),
            expected: Duration::ZERO,
            leaps: Vec::new(),
            restarts: 0,
            failures: Vec::new(),
            resumed: Timestamp::UNIX_EPOCH,
            accounts: plan.accounts,
            sending: JoinSet::new(),
        }
    }

    /// Takes every step, and returns when what was posted is accepted.
    ///
    /// # Panics
    /// Where a post is refused, or never accepted.
    pub(crate) async fn all_steps(&mut self) {
        let mut began = Instant::now();
        for (at, step) in &self.plan.steps {
            tokio::time::sleep_until((began + *at).into()).await;
            let taking = Instant::now();
            self.take(*step).await;
            if matches!(step, Step::Unroute | Step::Route) {
                // rabbitmqctl takes seconds, which are nobody's plan.
                began += taking.elapsed();
            }
        }
        while let Some(sent) = self.sending.join_next().await {
            sent.expect("a webhook is accepted");
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Send(said) => self.send(said),
            Step::SendAgain(said) => self.post(said),
            Step::Begin(trouble) => {
                let rule = self.plan.troubles[trouble].rule.clone();
                self.begun.insert(trouble, self.stage.all_in_one.sandbox.fault(rule));
            }
            Step::End(trouble) => self.end(trouble),
            Step::Pause => drop(self.stage.all_in_one.cli(&["pause", "textus"]).await),
            Step::Resume => {
                self.resume().await;
                // What waited for this goes at once: nothing failed.
                self.expected = self.expected.max(pace::now());
            }
            Step::Restart { is_kill, leap } => self.restart(is_kill, leap).await,
            Step::AddAccount => {
                self.accounts = 2;
                self.stage.use_accounts(2);
                self.restart(false, 0).await;
            }
            Step::RotateSecret => self.stage.rotate_secret().await,
            Step::Replay(said) => {
                let id = self.held().get(&said).map(|sent| sent.id.clone());
                if let Some(id) = id {
                    self.stage.all_in_one.cli(&["events", "replay", &id]).await;
                }
            }
            Step::LostOptIn(said) => {
                let facts = &self.plan.said[said].facts;
                let lost = json!({ "action": "contact.opted_in",
                    "optOut": { "account": format!("/accounts/{}", facts.account), "phoneNumber": facts.phone } });
                self.stage.all_in_one.sandbox.learn(&lost).expect("an opt-in");
            }
            Step::Erase(said) => {
                let phone = self.plan.said[said].phone();
                let ran = self.stage.all_in_one.cli(&["erase", phone, "--yes"]).await;
                if ran.code != Some(0) {
                    self.failures.push(format!("(d) erase fails: {}", ran.stderr));
                }
            }
            Step::EraseOurselves(said) => {
                // Refused once events have told whose it is. What it takes nevertheless is missed later.
                let ours = &self.plan.said[said].facts.account_phone;
                self.stage.all_in_one.cli(&["erase", ours, "--yes"]).await;
            }
            Step::OtherWorld => worlds::begin(self).await,
            Step::OwnWorld => worlds::end(self).await,
            Step::Unroute => self.stage.unroute().await,
            Step::Route => {
                self.stage.route().await;
                self.hold(Duration::ZERO);
            }
        }
    }

    pub(crate) async fn resume(&mut self) {
        self.stage.all_in_one.cli(&["resume", "textus"]).await;
        self.resumed = Timestamp::now();
    }

    /// When an operator last resumed.
    pub(crate) fn resumed(&self) -> Timestamp {
        self.resumed
    }

    /// Ends the faults that go on until every opt-out is PUT.
    pub(crate) fn end_lasting(&mut self) {
        let lasting: Vec<usize> = self.begun.keys().copied().collect();
        lasting.into_iter().for_each(|trouble| self.end(trouble));
    }

    fn end(&mut self, trouble: usize) {
        if let Some(id) = self.begun.remove(&trouble) {
            self.stage.all_in_one.sandbox.remove_fault(id);
        }
        let trouble = &self.plan.troubles[trouble];
        if trouble.holds_puts {
            // A call that was on its way may hang as long as that.
            self.hold(trouble.and_then + stage::TIMEOUT);
        }
    }

    /// PUTs can be made again that long from now: one `retry.max` and one `open_max` later, as this broker rounds them,
    /// they must be.
    pub(crate) fn hold(&mut self, and_then: Duration) {
        let retry_max = match self.plan.below {
            Below::OneMachine => stage::RETRY_MAX,
            Below::RabbitMqAndPostgres => stage::SHORTEST_TIER,
        };
        self.expected = self.expected.max(pace::now() + and_then + retry_max + stage::OPEN_MAX);
    }

    async fn restart(&mut self, is_kill: bool, leap: i64) {
        self.stage.stop(is_kill).await;
        if leap > 0 {
            let ahead = self.clock.leap(&mut self.stage.all_in_one, leap);
            self.leaps.push((Timestamp::now(), ahead));
            // Events are dated by the clock that is ahead: so is what our own PUTs raise.
            let ahead = Duration::from_millis(u64::try_from(ahead).expect("ahead"));
            self.stage.all_in_one.sandbox.configure(|options| options.clock_ahead = ahead);
        }
        self.stage.start().await;
        self.restarts += 1;
        // The claim of a call that was cut off is believed until its lease has ended.
        self.hold(if is_kill { stage::LEASE } else { Duration::ZERO });
    }

    fn send(&mut self, said: usize) {
        let meant = &self.plan.said[said];
        let stated = bodies::stated(meant.dated, self.clock.now());
        let body = bodies::body(meant, (self.plan.seed, said), stated);
        if meant.what.is_text_or_contact() {
            self.stage.all_in_one.sandbox.learn(&body).expect("a sample's shape");
        }
        self.bodies.insert(said, (bodies::bytes(meant, body), stated));
        self.post(said);
    }

    fn post(&mut self, said: usize) {
        let Some((bytes, stated)) = self.bodies.get(&said).cloned() else { return };
        let (sender, clock, sent) =
            (self.stage.all_in_one.sender.clone(), Arc::clone(&self.clock), Arc::clone(&self.sent));
        let (signature, accounts) = (sign(self.stage.secret(), &bytes), self.accounts);
        let posted = clock.now();
        self.sending.spawn(async move {
            let id = accepted(&sender, &bytes, &signature).await;
            let accepted = clock.now();
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            let ready = pace::now();
            sent.entry(said).or_insert(Sent { said, stated, posted, accepted, id, ready, accounts });
        });
    }

    /// What was accepted so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.held().values().cloned().collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<usize, Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accepted(sender: &Sender, bytes: &[u8], signature: &str) -> String {
    let deadline = Instant::now() + SENDING;
    loop {
        match sender.post_signed(bytes, signature).await {
            Ok(answer) if answer.status == 200 => return answer.event_id(),
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            Err(_) => {}
        }
        assert!(Instant::now() < deadline, "never accepted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
