//! What the opt-out ledger claims, held against what the stand-in answered, and against what was posted.

use std::collections::{BTreeMap, BTreeSet};

use hookline_sandbox::RecordedRequest;
use serde_json::Value;

use crate::owed::{Calls, may_undo, owed, surely_undoes};
use crate::plan::What;
use crate::play::{Play, Sent};

type Key = (String, String, u16);

pub(crate) async fn holds(play: &Play<'_>) -> Vec<String> {
    let mut evidence = BTreeMap::new();
    let phones: BTreeSet<&str> =
        play.plan.said.iter().filter(|said| said.is_about_opting()).map(|said| said.phone()).collect();
    for phone in phones {
        let proof = play.stage.json(&["opt-outs", "prove", phone]).await.unwrap_or_default();
        evidence.insert(phone, proof["entries"].as_array().cloned().unwrap_or_default());
    }
    // After the ledger: what it holds was answered before, though a run that fails may go on.
    let calls = Calls::of(play);
    let mut failures = nobody_else(play, &calls);
    failures.extend(claims(&evidence, &calls));
    for owed in owed(play) {
        let is_proof = |entry: &Value| {
            let kind = entry["kind"].as_str().unwrap_or_default();
            let status = entry["status"].as_u64().unwrap_or_default();
            entry["account"] == owed.account
                && (kind == "read_back" || kind == "put_answered" && (200..300).contains(&status))
        };
        if !evidence.get(owed.phone.as_str()).is_some_and(|entries| entries.iter().any(is_proof)) {
            failures.push(format!("(a) no proof in the ledger: {} at {}", owed.phone, owed.account));
        }
    }
    failures.extend(states(play).await);
    if play.stage.all_in_one.cli(&["opt-outs", "verify"]).await.code != Some(0) {
        failures.push("(d) the ledger does not verify".to_owned());
    }
    failures
}

/// No PUT for a number that nobody opted out.
fn nobody_else(play: &Play<'_>, calls: &Calls) -> Vec<String> {
    let outs: BTreeSet<&str> =
        play.plan.said.iter().filter(|said| said.what.opts_out()).map(|said| said.phone()).collect();
    let strange = calls.puts().filter(|put| put.phone.as_deref().is_some_and(|phone| !outs.contains(phone)));
    strange.map(|put| format!("(b) {} was PUT, and nobody opted that number out", put.path)).collect()
}

/// Every PUT that the ledger calls answered was answered so, each by a call of its own; and every opt-out that it read was
/// there. One read may serve several.
fn claims(evidence: &BTreeMap<&str, Vec<Value>>, calls: &Calls) -> Vec<String> {
    let mut answered: BTreeMap<Key, u64> = BTreeMap::new();
    calls.puts().filter(|put| calls.counts(put)).filter_map(key).for_each(|key| *answered.entry(key).or_default() += 1);
    let shown: BTreeSet<Key> =
        calls.reads().filter(|read| read.genuine && calls.counts(read)).filter_map(key).collect();
    let mut failures = Vec::new();
    for (phone, entries) in evidence {
        for entry in entries {
            let (Some(kind), Some(status)) = (entry["kind"].as_str(), entry["status"].as_u64()) else { continue };
            let account = entry["account"].as_str().unwrap_or_default();
            let key = (account.to_owned(), (*phone).to_owned(), u16::try_from(status).unwrap_or_default());
            let is_so = match kind {
                "put_answered" => answered.get_mut(&key).filter(|left| **left > 0).map(|left| *left -= 1).is_some(),
                "read_back" => shown.contains(&key),
                _ => true,
            };
            if !is_so {
                failures.push(format!("(c) the ledger says {kind} {status} of {phone} at {account}, the API does not"));
            }
        }
    }
    failures
}

fn key(request: &RecordedRequest) -> Option<Key> {
    Some((request.account.clone()?, request.phone.clone().or_else(|| as_in_its_id(&request.path))?, request.status?))
}

/// Digits of a number from abroad as an event's `optOut.id` had them: the stand-in knows no such path, and a fault may
/// have answered before it said so.
fn as_in_its_id(path: &str) -> Option<String> {
    let last = path.rsplit('/').next()?;
    last.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("+{last}"))
}

/// Where each number stands, in the account of its events, follows from event time (docs/guarantees.md, 4).
async fn states(play: &Play<'_>) -> Vec<String> {
    let sent = play.sent();
    let said = |sent: &Sent| &play.plan.said[sent.said];
    let rows = play.stage.rows(&["opt-outs", "list"], "opt_outs").await;
    let mut failures = Vec::new();
    for row in &rows {
        let (account, phone) = (row["account"].as_str().unwrap_or_default(), row["phone"].as_str().unwrap_or_default());
        let of = |is_what: fn(What) -> bool| {
            let is_it = move |sent: &&Sent| {
                let said = said(sent);
                is_what(said.what) && said.facts.account == account && said.phone() == phone
            };
            sent.iter().filter(is_it).collect::<Vec<_>>()
        };
        // START changes no state.
        let (outs, ins) = (of(What::opts_out), of(|what| what == What::OptIn));
        let stands = outs.iter().any(|out| !ins.iter().any(|opt_in| may_undo(opt_in, out)));
        let undone = !outs.is_empty() && outs.iter().all(|out| ins.iter().any(|opt_in| surely_undoes(opt_in, out)));
        // Echoes of our own PUTs are events of the account, too, and can only opt out.
        let state = &row["state"];
        if stands && state != "opted_out" {
            failures.push(format!("(d4) {phone} at {account} is {state}, and stands opted out"));
        }
        let has_echo = play
            .stage
            .all_in_one
            .sandbox
            .effects()
            .iter()
            .any(|effect| effect.account == account && effect.key == phone);
        if undone && !has_echo && state != "opted_in" {
            failures.push(format!("(d4) {phone} at {account} is {state}, and opted in since"));
        }
    }
    failures
}
