//! The people of the system of record: each is one record with all their numbers, and each number has its flag.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::owed::{may_undo, surely_undoes};
use crate::plan::What;
use crate::play::{Play, Sent};

pub(crate) async fn hold(play: &Play<'_>) -> Vec<String> {
    let contacts = play.stage.rows(&["records", "contacts"], "contacts").await;
    let flags = play.stage.rows(&["records", "opt-outs"], "opt_outs").await;
    let flags: BTreeMap<&str, bool> =
        flags.iter().filter_map(|flag| Some((flag["phone"].as_str()?, flag["opted_out"].as_bool()?))).collect();
    let (erased, mut failures) = (play.plan.erased(), Vec::new());
    for one in play.sent() {
        let said = &play.plan.said[one.said];
        if said.what != What::Created || erased.contains(said.phone()) {
            continue;
        }
        let numbers: BTreeSet<&str> = said.phones().collect();
        failures.extend(one_record(&contacts, &numbers));
        failures.extend(numbers.iter().filter_map(|phone| flag(play, phone, flags.get(phone).copied())));
    }
    failures
}

pub(crate) fn numbers_of(contact: &Value) -> BTreeSet<&str> {
    contact["phones"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A contact is one person, by whichever of their numbers they came first.
fn one_record(contacts: &[Value], numbers: &BTreeSet<&str>) -> Option<String> {
    let records: Vec<BTreeSet<&str>> =
        contacts.iter().map(numbers_of).filter(|known| !known.is_disjoint(numbers)).collect();
    let is_one = matches!(records.as_slice(), [one] if one.is_superset(numbers));
    (!is_one).then(|| format!("(d) the person of {numbers:?} is in the records as {records:?}"))
}

/// A number of a known person is flagged where it stands opted out, and only there.
fn flag(play: &Play<'_>, phone: &str, flag: Option<bool>) -> Option<String> {
    let sent = play.sent();
    let of = |is_what: fn(What) -> bool| {
        let is_it = move |one: &&Sent| {
            let said = &play.plan.said[one.said];
            is_what(said.what) && said.phone() == phone
        };
        sent.iter().filter(is_it).collect::<Vec<_>>()
    };
    let (outs, ins) = (of(What::opts_out), of(|what| what == What::OptIn));
    let stands = outs.iter().any(|out| !ins.iter().any(|opt_in| may_undo(opt_in, out)));
    let undone = outs.iter().all(|out| ins.iter().any(|opt_in| surely_undoes(opt_in, out)));
    // An echo of our own PUT opts out as well.
    let has_echo = play.stage.all_in_one.sandbox.effects().iter().any(|effect| effect.key == phone);
    match flag {
        Some(true) if undone && !has_echo => Some(format!("(d) {phone} is flagged, and nobody opted it out")),
        None | Some(false) if stands => Some(format!("(d) {phone} stands opted out, and has no flag")),
        _ => None,
    }
}
