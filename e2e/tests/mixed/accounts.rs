//! The invariants besides the opt-outs: every event accounted for, each effect once, no call before Retry-After, nothing
//! personal written.

use std::collections::{BTreeMap, BTreeSet};

use hookline_e2e::{HANDLERS, KEYWORD_HANDLERS, SECOND_ACCOUNT, SECRET, TOKEN, handlers_of};
use hookline_sandbox::{EffectKind, RecordedRequest};
use jiff::Timestamp;
use serde_json::Value;

use crate::bodies::message_id;
use crate::crm;
use crate::plan::What;
use crate::play::Play;
use crate::worlds;

/// A 429 is read that much later at most by other processes, on a busy machine.
const READ_WITHIN: i64 = 400;

pub(crate) async fn hold(play: &Play<'_>) -> Vec<String> {
    let mut failures = Vec::new();
    let events = play.stage.rows(&["events", "list"], "events").await;
    failures.extend(every_event_is_accounted_for(play, &events).await);
    failures.extend(effects_are_made_once(play, &events).await);
    failures.extend(no_call_is_early(play));
    failures.extend(nothing_personal_is_written(play));
    let violations = play.stage.all_in_one.sandbox.violations();
    failures.extend(violations.iter().map(|violation| format!("(d) asked wrongly: {}", violation.what)));
    failures
}

async fn every_event_is_accounted_for(play: &Play<'_>, events: &[Value]) -> Vec<String> {
    let mut failures = Vec::new();
    let known: BTreeMap<&str, &Value> =
        events.iter().filter_map(|event| Some((event["event_id"].as_str()?, event))).collect();
    let sent = play.sent();
    for one in &sent {
        let said = &play.plan.said[one.said];
        match known.get(one.id.as_str()) {
            None => failures.push(format!("(d1) the event {} was answered 200 and is nowhere", one.said)),
            Some(event) if event["event_type"] != said.what.event_type() => {
                failures.push(format!("(d1) the event {} is of type {}", one.said, event["event_type"]));
            }
            Some(_) => {}
        }
    }
    let ours: BTreeSet<&str> = sent.iter().map(|one| one.id.as_str()).collect();
    let strangers = known.iter().filter(|(id, event)| !ours.contains(*id) && event["event_type"] != "mixed.rotated");
    let echoes = play.stage.all_in_one.sandbox.echo_counts();
    let strangers = strangers.count() as u64;
    if !(echoes.sent..=echoes.sent + echoes.given_up).contains(&strangers) {
        failures.push(format!("(d5) {strangers} events that nobody sent, {echoes:?}"));
    }
    failures.extend(sums(play, events).await);
    failures
}

/// Per handler the counts of `status` are the sizes of the sets that the history lists.
async fn sums(play: &Play<'_>, events: &[Value]) -> Vec<String> {
    let mut failures = Vec::new();
    let sent = play.sent();
    let erased = play.plan.erased();
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for event in events {
        let mut handlers = Vec::new();
        for delivery in event["deliveries"].as_array().into_iter().flatten() {
            let text = |key: &str| delivery[key].as_str().unwrap_or_default().to_owned();
            *counts.entry((text("handler"), text("state"))).or_default() += 1;
            handlers.push(text("handler"));
        }
        handlers.sort();
        let kind = event["event_type"].as_str().unwrap_or_default();
        let said = sent.iter().find(|one| event["event_id"] == one.id).map(|one| &play.plan.said[one.said]);
        let is_keyword = said.is_some_and(|said| matches!(said.what, What::StopWord | What::StartWord));
        // Echoes of what was written about them, too.
        let may_be_erased = !erased.is_empty() && said.is_none_or(|said| erased.contains(said.phone()));
        failures.extend(discarded(event, may_be_erased));
        let expected = if is_keyword { &KEYWORD_HANDLERS[..] } else { handlers_of(kind) };
        if handlers != expected {
            failures.push(format!("(d11) {kind} {} is at {handlers:?}", event["event_id"]));
        }
    }
    let status = play.stage.json(&["status"]).await.unwrap_or_default();
    for handler in HANDLERS {
        let told = status["handlers"].as_array().into_iter().flatten().find(|told| told["handler"] == handler);
        let told = |state: &str| told.and_then(|told| told[state].as_u64()).unwrap_or_default();
        let mut sum = 0;
        for state in hookline_e2e::STATES {
            let listed = counts.get(&(handler.to_owned(), state.to_owned())).copied().unwrap_or_default();
            sum += listed;
            if listed != told(state) {
                failures.push(format!("(d11) {handler} {state}: {listed} listed, {} told", told(state)));
            }
        }
        if told("accepted") != sum || told("waiting") > 0 {
            failures.push(format!("(d11) {handler}: {sum} of {} accounted for", told("accepted")));
        }
    }
    failures
}

/// An operator discards work by erasing a person: theirs alone, and never what keeps them from being texted.
fn discarded(event: &Value, may_be_erased: bool) -> Vec<String> {
    let deliveries = event["deliveries"].as_array().into_iter().flatten();
    let given_up = deliveries.filter(|delivery| delivery["state"] == "discarded");
    let stays = |delivery: &&Value| {
        !may_be_erased
            || !["log_note", "create_contact", "sync_contact"].iter().any(|name| delivery["handler"] == *name)
    };
    given_up
        .filter(stays)
        .map(|delivery| format!("(d) {} of {} is discarded", delivery["handler"], event["event_id"]))
        .collect()
}

/// How many notes the built-in system of record has of each message, by the message's id.
async fn noted(play: &Play<'_>) -> BTreeMap<String, usize> {
    let mut noted = BTreeMap::new();
    for note in play.stage.rows(&["records", "notes"], "notes").await {
        *noted.entry(note["message_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    noted
}

async fn effects_are_made_once(play: &Play<'_>, events: &[Value]) -> Vec<String> {
    let mut failures = Vec::new();
    let noted = match &play.stage.crm {
        Some(crm) => crm::noted(play, crm).await,
        None => noted(play).await,
    };
    let dead: BTreeSet<(&str, &str)> = events
        .iter()
        .flat_map(|event| event["deliveries"].as_array().into_iter().flatten().map(move |delivery| (event, delivery)))
        .filter(|(_, delivery)| delivery["state"] == "dead_lettered")
        .filter_map(|(event, delivery)| Some((event["event_id"].as_str()?, delivery["handler"].as_str()?)))
        .collect();
    for one in play.sent() {
        let said = &play.plan.said[one.said];
        let (id, index) = (one.id.as_str(), one.said);
        let notes = noted.get(&message_id((play.plan.seed, index))).copied().unwrap_or_default();
        let posts =
            play.stage.all_in_one.sandbox.effect_count(EffectKind::ContactCreated, SECOND_ACCOUNT, said.phone());
        let (made, handler) = match said.what {
            What::Text | What::StopWord | What::StartWord => (notes, "log_note"),
            What::ForbiddenText => (usize::from(dead.contains(&(id, "log_note"))) + notes, "log_note"),
            What::Created => (posts, "create_contact"),
            What::OptOut | What::OptIn | What::NumberlessOptOut | What::Garbage | What::Unheard => continue,
        };
        let is_erased = play.plan.erased().contains(said.phone());
        if made != 1 && !(is_erased && made == 0) {
            let end = if dead.contains(&(id, handler)) { "a dead letter" } else { "no dead letter" };
            failures.push(format!("(d3) {:?} {index}: {made} effects of {handler}, {end}", said.what));
        }
    }
    for (id, handler) in &dead {
        let said = play.sent().iter().find(|one| one.id == *id).map(|one| play.plan.said[one.said].what);
        let is_due = said.is_some_and(|what| what == What::ForbiddenText || unreadable_for(what).contains(handler));
        if !is_due && *handler != "record_opt_out" {
            failures.push(format!("(d) {handler} of {said:?} is a dead letter"));
        }
    }
    for one in play.sent() {
        let what = play.plan.said[one.said].what;
        for handler in unreadable_for(what).iter().filter(|handler| !dead.contains(&(one.id.as_str(), *handler))) {
            failures.push(format!("(d) {handler} of {what:?} {} is no dead letter", one.said));
        }
    }
    failures
}

/// Who gives up what cannot be read, and tells it.
fn unreadable_for(what: What) -> &'static [&'static str] {
    if what == What::Garbage {
        &["record_history"]
    } else if what == What::NumberlessOptOut {
        &["record_opt_out", "flag_opt_out"]
    } else {
        &[]
    }
}

/// No call is made between a 429 and the end of its Retry-After.
fn no_call_is_early(play: &Play<'_>) -> Vec<String> {
    let requests = play.stage.all_in_one.sandbox.requests();
    let millis = |at: Timestamp| at.as_millisecond();
    let mut failures = Vec::new();
    for throttled in requests.iter().filter(|request| request.status == Some(429)) {
        // The other world's word is no word of this API.
        if worlds::is_strange(throttled, play.plan.is_sandbox) {
            continue;
        }
        let Some(answered) = throttled.answered_at.map(millis) else { continue };
        // Minutes have passed by a clock that leapt.
        if play.leaps.iter().any(|(at, _)| (answered..answered + 1_000).contains(&millis(*at))) {
            continue;
        }
        // Every one of the lane says one second.
        let early = |request: &&RecordedRequest| (answered + READ_WITHIN..answered + 950).contains(&millis(request.at));
        if let Some(early) = requests.iter().find(early) {
            let after = millis(early.at) - answered;
            failures.push(format!("(d6) {} {} came {after} ms after a 429", early.method, early.path));
        }
    }
    failures
}

fn nothing_personal_is_written(play: &Play<'_>) -> Vec<String> {
    let written = play.stage.written();
    let phones = play.plan.said.iter().map(|said| said.phone().trim_start_matches("+1").trim_start_matches('+'));
    let names = play.plan.said.iter().map(|said| said.facts.contact_name.as_str());
    let planted: BTreeSet<&str> = phones.chain(names).chain([SECRET, TOKEN]).collect();
    let is_written = |planted: &&&str| written.iter().any(|line| line.contains(**planted));
    planted.iter().filter(is_written).map(|planted| format!("(d8) {planted} is written")).collect()
}
