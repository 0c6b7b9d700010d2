//! Draws a plan: a few situations, what happens besides, and what an operator does meanwhile.

use std::time::Duration;

use hookline_e2e::{ACCOUNT, People, SECOND_ACCOUNT};
use hookline_sandbox::{FaultRule, SampleFacts};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::besides::BESIDES;
use crate::plan::{Below, Dated, Plan, Said, Step, Trouble, What};
use crate::situations::{EVERYWHERE, ON_ONE_MACHINE, ON_RABBITMQ, Situation};
use crate::{crm, numbers, operator};

/// When the last of a situation's steps has begun.
const SPAN: u64 = 2_400;

pub(crate) struct Maker {
    pub(crate) rng: StdRng,
    pub(crate) accounts: usize,
    people: People,
    steps: Vec<(u64, Step)>,
    said: Vec<Said>,
    troubles: Vec<Trouble>,
    is_sandbox: bool,
}

/// The plan of a seed; the same one each time.
pub(crate) fn plan(seed: u64, below: Below) -> Plan {
    let mut rng = StdRng::seed_from_u64(seed);
    let accounts = rng.random_range(1..=2);
    let people = People::new(seed.wrapping_mul(7_919));
    let (steps, said, troubles, is_sandbox) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut maker = Maker { rng, accounts, people, steps, said, troubles, is_sandbox };
    let here: &[(&str, Situation)] = match below {
        Below::OneMachine => &ON_ONE_MACHINE,
        Below::RabbitMqAndPostgres => &ON_RABBITMQ,
    };
    let all: Vec<&(&str, Situation)> = EVERYWHERE.iter().chain(here).collect();
    let count = maker.rng.random_range(1..=3);
    let chosen: Vec<(&str, Situation)> = all.sample(&mut maker.rng, count).map(|one| **one).collect();
    let mut about = Vec::new();
    for (name, make) in chosen {
        about.push(name);
        let at = maker.rng.random_range(0..500);
        make(&mut maker, at);
    }
    operator::ordinary_day(&mut maker, SPAN);
    about.extend(operator::interferes(&mut maker, SPAN));
    for (name, make, of_a_hundred) in BESIDES {
        if maker.rng.random_ratio(of_a_hundred, 100) {
            let (at, before) = (maker.rng.random_range(0..500), maker.said.len());
            make(&mut maker, at);
            if maker.said.len() > before {
                about.push(name);
            }
        }
    }
    maker.steps.sort_by_key(|(at, _)| *at);
    let steps: Vec<_> = maker.steps.into_iter().map(|(at, step)| (Duration::from_millis(at), step)).collect();
    let Maker { said, troubles, accounts, .. } = maker;
    let is_sandbox = maker.is_sandbox && troubles.is_empty();
    let has_erasure = steps.iter().any(|(_, step)| matches!(step, Step::Erase(_) | Step::EraseOurselves(_)));
    // A lost answer of a CRM is settled half a minute later, which is too long for the quick lane.
    let has_crm = crate::runs::text("HOOKLINE_FAULTS_LANE").as_deref() == Some("full");
    let crm = has_crm.then(|| crm::drawn(seed, has_erasure)).flatten();
    about.extend(crm.is_some().then_some("17 a CRM"));
    Plan { seed, below, accounts, is_sandbox, crm, about, said, troubles, steps }
}

impl Maker {
    pub(crate) fn step(&mut self, at: u64, step: Step) {
        self.steps.push((at, step));
    }

    /// Somebody new with a number at home.
    pub(crate) fn somebody(&mut self) -> SampleFacts {
        let embed_contact = self.rng.random_bool(0.5);
        let account = self.an_account();
        let facts = self.people.next(account);
        SampleFacts { embed_contact, body: format!("text {}", self.said.len()), ..facts }
    }

    /// Somebody new with a number from abroad.
    pub(crate) fn somebody_abroad(&mut self) -> SampleFacts {
        let phone = loop {
            let phone = numbers::abroad(&mut self.rng);
            if self.said.iter().all(|said| said.phone() != phone) {
                break phone;
            }
        };
        SampleFacts { phone, ..self.somebody() }
    }

    /// One of the accounts that are configured from the start.
    pub(crate) fn an_account(&mut self) -> &'static str {
        if self.accounts == 2 && self.rng.random_bool(0.3) { SECOND_ACCOUNT } else { ACCOUNT }
    }

    /// Both accounts are configured from the start.
    pub(crate) fn needs_both_accounts(&mut self) {
        self.accounts = 2;
    }

    /// The store may be the sandbox's, if nothing else is against it.
    pub(crate) fn may_be_sandbox(&mut self) {
        self.is_sandbox = self.rng.random_bool(0.5);
    }

    /// A contact is created, and what tells of it names the number itself.
    pub(crate) fn created(&mut self, at: u64, facts: &SampleFacts) -> usize {
        let (facts, written, opt_out_id) = (facts.clone(), facts.phone.clone(), None);
        self.say_so(
            at,
            Said { what: What::Created, facts, written, opt_out_id, dated: Dated::FromNow(0), blemish: None },
        )
    }

    /// Says this of somebody, in the usual way.
    pub(crate) fn say(&mut self, at: u64, what: What, facts: &SampleFacts, dated: Dated) -> usize {
        let opt_out_id = numbers::opt_out_id(&mut self.rng, &facts.phone);
        let said = Said { what, facts: facts.clone(), written: facts.phone.clone(), opt_out_id, dated, blemish: None };
        self.say_so(at, said)
    }

    pub(crate) fn say_so(&mut self, at: u64, said: Said) -> usize {
        self.said.push(said);
        self.step(at, Step::Send(self.said.len() - 1));
        self.said.len() - 1
    }

    /// An opt-out of somebody, now.
    pub(crate) fn stop(&mut self, at: u64, facts: &SampleFacts) -> usize {
        self.say(at, What::OptOut, facts, Dated::FromNow(0))
    }

    /// A fault of the API from then to then that may hold up opt-outs.
    pub(crate) fn trouble(&mut self, at: u64, until: u64, rule: FaultRule) {
        self.trouble_that(at, until, Trouble { rule, holds_puts: true, and_then: Duration::ZERO, is_lasting: false });
    }

    pub(crate) fn trouble_that(&mut self, at: u64, until: u64, trouble: Trouble) {
        let is_lasting = trouble.is_lasting;
        self.troubles.push(trouble);
        self.step(at, Step::Begin(self.troubles.len() - 1));
        if !is_lasting {
            self.step(until, Step::End(self.troubles.len() - 1));
        }
    }

    /// What has been said so far, by its number.
    pub(crate) fn said(&self) -> impl Iterator<Item = (usize, &Said)> {
        self.said.iter().enumerate()
    }

    /// When something is said first.
    pub(crate) fn said_at(&self, index: usize) -> u64 {
        let sends = self.steps.iter().find(|(_, step)| *step == Step::Send(index));
        sends.map_or(0, |(at, _)| *at)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.rng).expect("there are some")
    }
}
