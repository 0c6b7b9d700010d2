//! What an operator erases when everything is over is gone, and nothing else is: not what others wrote, nor what proves
//! the opt-outs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::bodies::message_id;
use crate::people::numbers_of;
use crate::plan::What;
use crate::play::Play;

/// What the store tells of people.
struct Told {
    /// Bodies of notes by their message.
    notes: BTreeMap<String, String>,
    contacts: Vec<Value>,
    proofs: BTreeMap<String, Value>,
    events: BTreeSet<String>,
}

pub(crate) async fn holds(play: &Play<'_>) -> Vec<String> {
    let erased = play.plan.erased();
    if erased.is_empty() {
        return Vec::new();
    }
    let mut failures = Vec::new();
    let before = told(play, &erased).await;
    for phone in &erased {
        if play.stage.all_in_one.cli(&["erase", phone, "--yes"]).await.code != Some(0) {
            failures.push(format!("(d) {phone} cannot be erased"));
        }
    }
    let after = told(play, &erased).await;
    if after.proofs != before.proofs {
        failures.push("(d) erasing changed what proves the opt-outs".to_owned());
    }
    if after.events != before.events {
        failures.push("(d) erasing took events out of the history".to_owned());
    }
    let is_theirs = |contact: &&Value| !numbers_of(contact).is_disjoint(&erased);
    failures
        .extend(after.contacts.iter().filter(is_theirs).map(|one| format!("(d) {} is not erased", one["record_id"])));
    let others = before.contacts.iter().filter(|contact| !is_theirs(contact));
    let lost = others.filter(|contact| !after.contacts.contains(contact));
    failures.extend(lost.map(|one| format!("(d) {} of somebody else is erased", one["record_id"])));
    failures.extend(notes(play, &erased, &before, &after));
    failures.extend(payloads(play, &erased).await);
    if play.stage.all_in_one.cli(&["opt-outs", "verify"]).await.code != Some(0) {
        failures.push("(d) the ledger does not verify after erasing".to_owned());
    }
    failures
}

async fn told(play: &Play<'_>, erased: &BTreeSet<&str>) -> Told {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let notes = play.stage.rows(&["records", "notes"], "notes").await;
    let events = play.stage.rows(&["events", "list"], "events").await;
    let mut proofs = BTreeMap::new();
    for phone in erased {
        let proof = play.stage.json(&["opt-outs", "prove", phone]).await.unwrap_or_default();
        proofs.insert((*phone).to_owned(), proof["entries"].clone());
    }
    Told {
        notes: notes.iter().map(|note| (text(note, "message_id"), text(note, "body"))).collect(),
        contacts: play.stage.rows(&["records", "contacts"], "contacts").await,
        proofs,
        events: events.iter().map(|event| text(event, "event_id")).collect(),
    }
}

/// Theirs are gone, and the others' say what they said, without the number.
fn notes(play: &Play<'_>, erased: &BTreeSet<&str>, before: &Told, after: &Told) -> Vec<String> {
    let mut failures = Vec::new();
    for one in play.sent() {
        let said = &play.plan.said[one.said];
        let message = message_id((play.plan.seed, one.said));
        let (was, is) = (before.notes.contains_key(&message), after.notes.contains_key(&message));
        if erased.contains(said.phone()) && is {
            failures.push(format!("(d) the note of {} is not erased", one.said));
        } else if !erased.contains(said.phone()) && was && !is {
            failures.push(format!("(d) the note of {}, of somebody else, is erased", one.said));
        }
    }
    let shows = |body: &&String| erased.iter().any(|phone| body.contains(phone.trim_start_matches('+')));
    failures.extend(after.notes.values().filter(shows).map(|body| format!("(d) not masked: {body}")));
    failures
}

/// The history keeps what others wrote.
async fn payloads(play: &Play<'_>, erased: &BTreeSet<&str>) -> Vec<String> {
    let mut failures = Vec::new();
    for one in play.sent() {
        let said = &play.plan.said[one.said];
        let is_theirs = erased.contains(said.phone());
        // All of theirs, and of others what comes near: each is a command.
        let is_near = said.what == What::Text && erased.iter().any(|phone| said.facts.body.contains(phone));
        if !is_theirs && !is_near {
            continue;
        }
        let shown = play.stage.all_in_one.cli(&["events", "show", &one.id]).await.stdout;
        let is_kept = shown.lines().any(|line| line.starts_with("payload") && line.ends_with("kept"));
        if is_kept == is_theirs {
            let state = if is_kept { "kept" } else { "gone" };
            failures.push(format!("(d) the payload of {:?} {} is {state}", said.what, one.said));
        }
    }
    failures
}
