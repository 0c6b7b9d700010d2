//! A CRM in the place of the built-in system of record, with faults of its own: which plans have one, and whether each
//! text is in one note on the right person's record, and each record has its flag.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hookline_common::phone::Phone;
use hookline_sandbox::hubspot::{HubSpotRecord, status, throttled};
use hookline_sandbox::{Fault, FaultRule, HubSpot, HubSpotEndpoint as Call, HubSpotObject as Object, HubSpotOptions};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::bodies::message_id;
use crate::owed::{may_undo, surely_undoes};
use crate::plan::{Plan, Said, What};
use crate::play::{Play, Sent};

/// Of a hundred plans, so many have a CRM. Plans with an erasure have none: theirs is a lane about the store.
const OF_A_HUNDRED: u32 = 30;
const TOKEN: &str = "synthetic-token-of-the-crm";
/// Drawn apart, so that a seed plays what it played before there was a CRM.
const APART: u64 = 0xC12;

/// What a plan draws of its CRM.
#[derive(Clone, Debug)]
pub(crate) struct Crm {
    /// Whether notes have a unique property, by which they are written.
    by_key: bool,
    lag: Duration,
    /// Places among what can fail, and how many calls each fails for.
    faults: Vec<(usize, usize)>,
}

pub(crate) fn drawn(seed: u64, has_erasure: bool) -> Option<Crm> {
    let mut rng = StdRng::seed_from_u64(seed ^ APART);
    if has_erasure || !rng.random_ratio(OF_A_HUNDRED, 100) {
        return None;
    }
    let by_key = rng.random_bool(0.7);
    let lag = Duration::from_millis(rng.random_range(0..4_000));
    let places: Vec<usize> = (0..possible(by_key).len()).collect();
    let count = rng.random_range(0..5);
    let faults: Vec<usize> = places.sample(&mut rng, count).copied().collect();
    let faults = faults.into_iter().map(|place| (place, rng.random_range(1..3))).collect();
    Some(Crm { by_key, lag, faults })
}

/// What can fail. The bodies of some answers have ids that are drawn anew each time, so a plan holds places in this list.
fn possible(by_key: bool) -> Vec<FaultRule> {
    let write = if by_key { Call::BatchUpsert(Object::Communication) } else { Call::Create(Object::Communication) };
    vec![
        // Where notes are created one by one, a lost answer is settled half a minute later.
        FaultRule::new(Fault::EffectThenReset).on(if by_key { write } else { Call::Update(Object::Communication) }),
        FaultRule::new(Fault::status(503)).on(write),
        FaultRule::new(throttled("TEN_SECONDLY_ROLLING")).on(write),
        FaultRule::new(status(423)).on(Call::Update(Object::Communication)),
        FaultRule::new(Fault::EffectThenReset).on(Call::BatchUpsert(Object::Contact)),
        FaultRule::new(Fault::EffectThenReset).on(Call::Update(Object::Contact)),
        FaultRule::new(Fault::status(502)).on(Call::Get(Object::Contact)),
        FaultRule::new(Fault::status(502)).on(Call::BatchRead(Object::Contact)),
        FaultRule::new(throttled("SECONDLY")).on(Call::Search(Object::Contact)),
        FaultRule::new(Fault::Reset).on(Call::Search(Object::Contact)),
    ]
}

impl Crm {
    /// Starts the CRM with all that the configuration needs of it, and its faults.
    pub(crate) async fn start(&self) -> HubSpot {
        let options = HubSpotOptions {
            token: TOKEN.to_owned(),
            index_lag: self.lag,
            unique_properties_on_engagements: self.by_key,
            ..HubSpotOptions::default()
        };
        let crm = HubSpot::start(options).await.expect("a loopback port");
        crm.add_hookline_properties("textus_contact_id", "sms_opted_out");
        if self.by_key {
            crm.add_property(Object::Communication, "textus_thread_key", true);
        }
        let possible = possible(self.by_key);
        for (place, times) in &self.faults {
            crm.fault(possible[*place].clone().times(*times));
        }
        crm
    }
}

/// The settings that lead to the CRM, without `HOOKLINE__`.
pub(crate) fn settings(crm: &HubSpot) -> [(&'static str, String); 6] {
    [
        ("SYSTEM_OF_RECORD__KIND", "hubspot".to_owned()),
        ("SYSTEM_OF_RECORD__UPDATE_EVERY", "500ms".to_owned()),
        ("SYSTEM_OF_RECORD__HUBSPOT__BASE_URL", crm.base_url()),
        ("SYSTEM_OF_RECORD__HUBSPOT__TOKEN", TOKEN.to_owned()),
        ("SYSTEM_OF_RECORD__HUBSPOT__TIMEOUT", "1s".to_owned()),
        ("HANDLERS__LOG_NOTE__ON_UNKNOWN_CONTACT", "create".to_owned()),
    ]
}

/// How many notes each message is in, by the message's id.
pub(crate) async fn noted(play: &Play<'_>, crm: &HubSpot) -> BTreeMap<String, usize> {
    let threads = play.stage.rows(&["records", "threads"], "threads").await;
    let notes = crm.communications();
    let mut noted = BTreeMap::new();
    for thread in &threads {
        let count = notes.iter().filter(|note| is_of(note, thread)).count();
        for message in thread["message_ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            *noted.entry(message.to_owned()).or_default() += count;
        }
    }
    noted
}

/// Whether a note carries the key of this thread and the text that was last written.
fn is_of(note: &HubSpotRecord, thread: &Value) -> bool {
    let [id, text] = ["thread_id", "text"].map(|key| thread[key].as_str().unwrap_or_default());
    let body = note.get("hs_communication_body");
    !text.is_empty() && body.starts_with(text) && body.ends_with(&format!("ref {id}"))
}

pub(crate) async fn holds(play: &Play<'_>, crm: &HubSpot) -> Vec<String> {
    let threads = play.stage.rows(&["records", "threads"], "threads").await;
    let (contacts, notes) = (crm.contacts(), crm.communications());
    let mut failures = Vec::new();
    if notes.len() != threads.len() {
        failures.push(format!("(d) the CRM has {} notes of {} threads", notes.len(), threads.len()));
    }
    failures
        .extend(crm.violations().iter().map(|violation| format!("(d) the CRM was asked wrongly: {}", violation.what)));
    failures.extend(crm.orphans().iter().map(|id| format!("(d) the note {id} is on nobody's timeline")));
    for one in play.sent() {
        let said = &play.plan.said[one.said];
        failures.extend(on_the_right_record(play, (said, &one), &threads, (&notes, &contacts)));
        if said.what == What::Created {
            failures.extend(one_record(said, &contacts));
            failures.extend(flag(play, said, &contacts));
        }
    }
    failures
}

fn on_the_right_record(
    play: &Play<'_>,
    (said, one): (&Said, &Sent),
    threads: &[Value],
    (notes, contacts): (&[HubSpotRecord], &[HubSpotRecord]),
) -> Option<String> {
    let message = message_id((play.plan.seed, one.said));
    let has_it =
        |thread: &&Value| thread["message_ids"].as_array().is_some_and(|ids| ids.iter().any(|id| *id == message));
    let thread = threads.iter().find(has_it)?;
    let note = notes.iter().find(|note| is_of(note, thread))?;
    let owner = note.contacts.first().and_then(|id| contacts.iter().find(|contact| contact.id == *id));
    let is_right = note.contacts.len() == 1 && owner.is_some_and(|owner| is_theirs(owner, said));
    (!is_right).then(|| format!("(d) the text {} is on the record of somebody else", one.said))
}

/// A contact has room for two numbers; the others are known by its key alone.
fn is_theirs(contact: &HubSpotRecord, said: &Said) -> bool {
    let numbers = numbers_of(contact);
    contact.get("textus_contact_id") == said.facts.contact_id || said.phones().any(|phone| numbers.contains(phone))
}

fn numbers_of(contact: &HubSpotRecord) -> BTreeSet<String> {
    let numbers = ["phone", "mobilephone"].map(|name| Phone::parse(contact.get(name)));
    numbers.into_iter().flatten().map(|phone| phone.as_e164().to_owned()).collect()
}

fn one_record(said: &Said, contacts: &[HubSpotRecord]) -> Option<String> {
    let records: Vec<&str> =
        contacts.iter().filter(|contact| is_theirs(contact, said)).map(|contact| contact.id.as_str()).collect();
    (records.len() != 1).then(|| format!("(d) the person of {:?} is in the CRM as {records:?}", said.phone()))
}

/// A record is flagged where one of its numbers stands opted out, and only there.
fn flag(play: &Play<'_>, said: &Said, contacts: &[HubSpotRecord]) -> Option<String> {
    let contact = contacts.iter().find(|contact| is_theirs(contact, said))?;
    let (is_flagged, numbers) = (contact.get("sms_opted_out") == "true", numbers_of(contact));
    let sent = play.sent();
    let of = |is_what: fn(What) -> bool, phone: &str| {
        let is_it = |one: &&Sent| {
            let other = &play.plan.said[one.said];
            is_what(other.what) && other.phone() == phone
        };
        sent.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let (mut stands, mut undone) = (false, true);
    for phone in &numbers {
        let (outs, ins) = (of(What::opts_out, phone), of(|what| what == What::OptIn, phone));
        stands |= outs.iter().any(|out| !ins.iter().any(|opt_in| may_undo(opt_in, out)));
        undone &= outs.iter().all(|out| ins.iter().any(|opt_in| surely_undoes(opt_in, out)));
    }
    // An echo of our own PUT opts out as well.
    let has_echo = play.stage.all_in_one.sandbox.effects().iter().any(|effect| numbers.contains(&effect.key));
    if is_flagged && undone && !has_echo {
        return Some(format!("(d) the record {} is flagged, and nobody opted it out", contact.id));
    }
    (!is_flagged && stands)
        .then(|| format!("(d) the record {} has a number that stands opted out, and no flag", contact.id))
}

/// What the plan has of a CRM, in words.
pub(crate) fn told(plan: &Plan) -> String {
    plan.crm.as_ref().map_or_else(String::new, |crm| {
        format!(
            "  CRM: {}, index {:?} late, {:?}\n",
            if crm.by_key { "notes by key" } else { "notes one by one" },
            crm.lag,
            crm.faults
        )
    })
}
