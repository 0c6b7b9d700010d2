//! Earlier PUTs of a phone that make another PUT needless. This module reads them from the phone's ledger entries.
//!
//! State alone never decides about a PUT. For each target on its own, another event's PUT replaces this event's PUT if
//! the target answered it with proof, if it was sent no earlier than five minutes before this event's time, and if no
//! opt-in speaks against it. An opt-in of any account speaks against it if it was recorded after the PUT was sent, or
//! is newer than the PUT's event. A START text speaks against it as an opt-in does, unless the last such text to that
//! account is newer than this event. In doubt we PUT once more: a superfluous PUT costs a call, a missing one breaks
//! the law.
//!
//! By these rules, a stop word as a text and the `contact.opted_out` that TextUs makes of it are one fact. We PUT the
//! one that comes first. The other, at most minutes apart, finds that PUT.

use std::time::Duration;

use hookline_common::time::Timestamp;

use crate::opt_outs::ledger::Entry;
use crate::opt_outs::model::LedgerKind;
use crate::opt_outs::state::{Fact, Times, received, start};

/// How much later than a PUT an event may be and still be explained by it. This covers clocks that disagree; an opt-out
/// that is newer than this is news.
const EXPLAINS: Duration = Duration::from_mins(5);

/// The ledger's entries about one phone, in order. Of the skipped events, only START texts are included.
pub(crate) type Past = [Entry];

/// Whether the ledger proves this event's own PUT to the target.
pub(crate) fn own_is_proved(past: &Past, event_id: &str, target: &str) -> bool {
    past.iter().any(|entry| entry.event_id == event_id && entry.account == target && entry.proves_put())
}

/// Whether another event's PUT makes this event's PUT needless. `own` are this event's times; `time` is its time by the
/// clock that dates PUTs.
pub(crate) fn is_explained(past: &Past, event_id: &str, own: Times, time: Timestamp, target: &str) -> bool {
    // If the last START text to an account is newer than this event, the account's START texts do not speak against a
    // PUT.
    let is_outdone = |account: &str| starts_of(past, account).any(|start| start.undoes(own));
    let asks_again = |entry: &Entry| start(entry).filter(|_| !is_outdone(&entry.account));
    let opts_in = |entry: &Entry| Fact::of(entry).filter(|fact| !fact.opted_out).map(|fact| fact.times);
    let newest_in = past.iter().filter_map(|entry| opts_in(entry).or_else(|| asks_again(entry)));
    let newest_in = newest_in.map(|times| times.cut).max();
    let speaks_against = |later: &Entry| later.kind == LedgerKind::OptedIn || asks_again(later).is_some();
    let explains = |(place, sent): (usize, &Entry)| {
        let stands = !past[place..].iter().any(speaks_against)
            && newest_in.is_none_or(|newest_in| newest_in <= event_time(sent));
        let in_time = sent.at_ms >= time.minus(EXPLAINS).as_millis();
        stands && in_time && answers(past, place).any(Entry::proves_put)
    };
    puts(past, event_id, target).any(explains)
}

/// Returns the times of the START texts to this account.
pub(crate) fn starts_of<'a>(past: &'a Past, account: &'a str) -> impl Iterator<Item = Times> + 'a {
    past.iter().filter(move |entry| entry.account == account).filter_map(start)
}

/// Returns the other events whose latest PUT to the target has no answer yet. Of two events that each have one, only
/// the earlier waits for the later, so that no two wait for each other.
pub(crate) fn unanswered<'a>(past: &'a Past, event_id: &str, target: &str) -> Vec<&'a str> {
    let is_unanswered = |place: usize| answers(past, place).next().is_none();
    let is_latest = |place: usize| {
        !past[place + 1..].iter().any(|later| is_put(later, target) && later.event_id == past[place].event_id)
    };
    let own = (0..past.len()).rfind(|&place| is_put(&past[place], target) && past[place].event_id == event_id);
    let after = own.filter(|&own| is_unanswered(own)).unwrap_or(0);
    puts(past, event_id, target)
        .filter(|&(place, _)| place >= after && is_latest(place) && is_unanswered(place))
        .map(|(_, sent)| sent.event_id.as_str())
        .collect()
}

fn is_put(entry: &Entry, target: &str) -> bool {
    entry.kind == LedgerKind::PutSent && entry.account == target
}

/// Returns other events' PUTs to the target, with their places.
fn puts<'a>(past: &'a Past, event_id: &str, target: &str) -> impl Iterator<Item = (usize, &'a Entry)> {
    past.iter().enumerate().filter(move |(_, entry)| is_put(entry, target) && entry.event_id != event_id)
}

/// Returns the entries that answer the PUT at this place, up to the same event's next PUT to the same target.
fn answers(past: &Past, place: usize) -> impl Iterator<Item = &Entry> {
    let sent = &past[place];
    past[place + 1..]
        .iter()
        .filter(|entry| entry.event_id == sent.event_id && entry.account == sent.account)
        .filter(|entry| !matches!(entry.kind, LedgerKind::Received | LedgerKind::OptedIn | LedgerKind::Skipped))
        .take_while(|entry| entry.kind != LedgerKind::PutSent)
}

/// Returns the time of this PUT's event, never later than its receipt.
fn event_time(sent: &Entry) -> i64 {
    received(sent).min(sent.event_time_ms.unwrap_or(i64::MAX))
}
