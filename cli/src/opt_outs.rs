//! `hookline opt-outs`: lists the opt-outs, proves the entries of one phone number, verifies and exports the ledger, and
//! writes what it says onto the records.

mod sync;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hookline_common::names::DeadReason;
use hookline_common::phone::Phone;
use hookline_common::settings::Settings;
use hookline_store::model::{FlagConfirmation, FlagRow, OptOutRow, Unsent, UnsentWhy};
use hookline_store::{Store, StoreKind};
use hookline_worker::background::unsent::UNSENT_AFTER;
use serde_json::json;

use crate::open::{self, Place};
use crate::output::{self, ListArgs, Listing};
use crate::table::{Table, or_dash};

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum OptOutsCommand {
    /// List the state of each phone number per account, or the opt-outs that are not PUT everywhere yet
    List(OptOutsListArgs),
    /// Show every entry of the ledger about one phone number
    Prove(ProveArgs),
    /// Check the whole chain and the state that follows from it; exit 0 if both are whole, 1 if not
    Verify(VerifyArgs),
    /// Print all entries, one JSON object a line; docs/verify_ledger.py checks them without Hookline
    Export,
    /// Write every known opt-out and opt-in onto every record with the number
    Sync(sync::SyncArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct OptOutsListArgs {
    /// List only opt-outs that were received over 15 minutes ago and are not PUT to every account, oldest first
    #[arg(long)]
    unsent: bool,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProveArgs {
    /// Phone number in any usual form; a number without + belongs to the North American plan
    phone: String,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyArgs {
    /// Also check that this head, exported earlier, is still in the chain; this shows a cut tail
    #[arg(long, value_name = "HASH", value_parser = head)]
    head: Option<String>,
    /// Print one JSON document instead of a sentence
    #[arg(long)]
    json: bool,
}

/// Checks the hash's form, because a typing error must not look like a ledger that was cut.
fn head(text: &str) -> Result<String, &'static str> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { Ok(text.to_owned()) } else { Err("a head is a hash of 64 hexadecimal digits, as `verify` prints it") }
}

pub(crate) async fn run(place: Place<'_>, command: OptOutsCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    match command {
        OptOutsCommand::List(OptOutsListArgs { unsent: true, list }) => {
            unsent(&settings, &list).await?;
            Ok(ExitCode::SUCCESS)
        }
        OptOutsCommand::List(OptOutsListArgs { unsent: false, list }) => {
            let page = open::store(&settings).await?.opt_outs(list.limit, list.cursor.as_deref()).await?;
            listing(&page.rows, page.next).print(list.json)?;
            Ok(ExitCode::SUCCESS)
        }
        OptOutsCommand::Prove(args) => {
            let phone = phone(&args.phone)?;
            prove(&evidence(&settings).await?, &phone, args.json).await
        }
        OptOutsCommand::Verify(args) => verify(&evidence(&settings).await?, &args).await,
        OptOutsCommand::Export => export(&evidence(&settings).await?).await,
        OptOutsCommand::Sync(args) => sync::run(&settings, &args).await,
    }
}

/// Opens the store for evidence, with a note if it is the sandbox's, so that nobody mistakes that for TextUs's.
async fn evidence(settings: &Settings) -> anyhow::Result<Store> {
    let store = open::store(settings).await?;
    if store.kind().await? == Some(StoreKind::Sandbox) {
        output::hint("note: this store is the sandbox's; TextUs knows nothing of what it holds");
    }
    Ok(store)
}

/// Parses a phone number as an operator types it.
pub(crate) fn phone(text: &str) -> anyhow::Result<Phone> {
    Phone::parse(text).ok_or_else(|| {
        open::wrong_usage("that is not a phone number; give it in E.164 (+12025550147) or as ten digits (2025550147)")
    })
}

fn listing(rows: &[OptOutRow], next: Option<String>) -> Listing<'static> {
    let state = |row: &OptOutRow| if row.opted_out { "opted_out" } else { "opted_in" };
    let mut table = Table::new(&["ACCOUNT", "PHONE", "STATE", "EVENT TIME", "PUT"]);
    for row in rows {
        table.row([
            row.account.clone(),
            row.phone.clone(),
            state(row).to_owned(),
            row.event_time.to_string(),
            or_dash(row.put_status),
        ]);
    }
    let rows = rows
        .iter()
        .map(|row| {
            json!({
                "account": row.account,
                "phone": row.phone,
                "state": state(row),
                "event_time": row.event_time.to_string(),
                "source_event_id": row.source_event_id,
                "put_status": row.put_status,
            })
        })
        .collect();
    Listing {
        key: "opt_outs",
        rows,
        table,
        next,
        when_empty: format!(
            "The ledger is empty: entries come with contact.opted_out.{}",
            output::try_trigger("contact.opted_out")
        ),
    }
}

async fn unsent(settings: &Settings, args: &ListArgs) -> anyhow::Result<()> {
    let store = open::store(settings).await?;
    let accounts = &settings.handlers.record_opt_out.accounts;
    let page = store.unsent(accounts, UNSENT_AFTER, args.limit, args.cursor.as_deref()).await?;
    let mut table = Table::new(&["RECEIVED", "EVENT", "PHONE", "NOT PUT TO", "WHY"]);
    for row in &page.rows {
        table.row([
            row.received_at.to_string(),
            row.event_id.to_string(),
            or_dash(row.phone.as_deref()),
            row.missing_accounts.join(", "),
            why(row),
        ]);
    }
    let rows = page.rows.iter().map(unsent_row).collect();
    let when_empty = "Every opt-out that was received over 15 minutes ago is PUT to all of its accounts.".to_owned();
    Listing { key: "opt_outs", rows, table, next: page.next, when_empty }.print(args.json)
}

fn unsent_row(row: &Unsent) -> serde_json::Value {
    json!({
        "account": row.account,
        "phone": row.phone,
        "state": "opted_out",
        "event_time": row.event_time.map(|time| time.to_string()),
        "source_event_id": row.source_event_id,
        "put_status": row.last_status,
        "unsent": {
            "event_id": row.event_id,
            "received_at": row.received_at.to_string(),
            "missing_accounts": row.missing_accounts,
            "kind": kind_of(&row.why),
            "reason": why(row),
        },
    })
}

/// The reason as a keyword for programs, from a closed set.
const fn kind_of(why: &UnsentWhy) -> &'static str {
    match why {
        UnsentWhy::DeadLetter { .. } => "dead_letter",
        UnsentWhy::NotBegun => "not_begun",
        UnsentWhy::UnderWay { .. } => "under_way",
        UnsentWhy::Waiting { .. } => "waiting",
        UnsentWhy::Paused { .. } => "paused",
        UnsentWhy::Lost => "lost",
    }
}

/// The reason in words.
fn why(row: &Unsent) -> String {
    let answered = |status: Option<u16>| status.map_or_else(String::new, |status| format!(", last answered {status}"));
    match &row.why {
        UnsentWhy::DeadLetter { reason, status } => {
            let reason = reason.map_or("unknown to this version", DeadReason::as_str);
            format!("dead letter: {reason}{}", answered(status.or(row.last_status)))
        }
        UnsentWhy::NotBegun => "no worker has begun it: it waits in its queue, or is published anew soon".to_owned(),
        UnsentWhy::UnderWay { attempt } => format!("attempt {attempt} is under way{}", answered(row.last_status)),
        UnsentWhy::Waiting { attempt, until } => {
            format!("attempt {attempt} is due at {until}{}", answered(row.last_status))
        }
        UnsentWhy::Paused { destination } => {
            format!("{destination} is paused; `hookline resume {destination}`{}", answered(row.last_status))
        }
        UnsentWhy::Lost => {
            format!("lost: it was due and did not come back; `hookline events replay {}`", row.event_id)
        }
    }
}

async fn prove(store: &Store, phone: &Phone, as_json: bool) -> anyhow::Result<ExitCode> {
    let (entries, flags) = (store.prove(phone).await?, store.confirmed_flags(phone).await?);
    if as_json {
        let flags: Vec<_> = flags.iter().map(flag_row).collect();
        output::print_json(&json!({ "phone": phone.as_e164(), "entries": entries, "flags": flags }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        output::hint(&format!("The ledger holds nothing about {}.", phone.as_e164()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        Table::new(&["SEQ", "AT", "KIND", "METHOD", "EVENT TIME", "ACCOUNT", "STATUS", "REASON", "EVENT", "HASH"]);
    for entry in &entries {
        table.row([
            entry.seq.to_string(),
            entry.at.clone(),
            kind(entry)?,
            or_dash(entry.method.as_deref()),
            or_dash(entry.event_time.as_deref()),
            entry.account.clone(),
            or_dash(entry.status),
            or_dash(entry.reason.as_deref()),
            entry.event_id.clone(),
            entry.hash.clone(),
        ]);
    }
    output::print_line(&format!("Evidence for {}, oldest first:", phone.as_e164()))?;
    output::print_table(&table)?;
    if !flags.is_empty() {
        output::print_line("\nFlags on records of the system of record, as last confirmed:")?;
        output::print_table(&flags_table(&flags))?;
    }
    output::hint(&format!(
        "{} checks that the chain these entries are part of is whole; --json shows every field.",
        output::typed("opt-outs verify")
    ));
    Ok(ExitCode::SUCCESS)
}

fn flag_row(row: &FlagRow) -> serde_json::Value {
    json!({
        "system": row.flag.system,
        "record_id": row.flag.record_id,
        "opted_out": row.flag.opted_out,
        "since": row.flag.since.to_string(),
        "confirmed": row.flag.confirmation.as_str(),
        "confirmed_at": row.confirmed_at.to_string(),
    })
}

fn flags_table(flags: &[FlagRow]) -> Table {
    let mut table = Table::new(&["SYSTEM", "RECORD", "STATE", "SINCE", "CONFIRMED AT", "HOW"]);
    for FlagRow { flag, confirmed_at } in flags {
        let how = match flag.confirmation {
            FlagConfirmation::Written => "written",
            FlagConfirmation::Found => "found there",
            FlagConfirmation::Newer => "newer news found there",
        };
        table.row([
            flag.system.clone(),
            or_dash(Some(&flag.record_id).filter(|id| !id.is_empty())),
            if flag.opted_out { "opted_out" } else { "opted_in" }.to_owned(),
            flag.since.to_string(),
            confirmed_at.to_string(),
            how.to_owned(),
        ]);
    }
    table
}

/// Returns the kind as the JSON document spells it.
fn kind(entry: &hookline_store::model::LedgerEntry) -> anyhow::Result<String> {
    Ok(serde_json::to_value(entry.kind)?.as_str().unwrap_or_default().to_owned())
}

async fn verify(store: &Store, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let check = store.verify(args.head.as_deref()).await?;
    let whole = check.broken.is_none();
    if args.json {
        output::print_json(&json!({
            "ok": whole,
            "entries": check.entries,
            "head": check.head,
            "broken": check.broken,
        }))?;
    } else if let Some(broken) = &check.broken {
        output::print_line(&format!("broken: {broken}"))?;
        output::hint(
            "docs/runbooks.md, \"The ledger is broken\", says how to go on; keep a copy of the store as evidence.",
        );
    } else {
        output::print_line(&format!("whole: {} entries", check.entries))?;
        output::print_line(&format!("head:  {}", check.head))?;
        output::hint("Keep the head somewhere else: `verify --head HASH` later also shows a cut tail.");
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Number of ledger entries that are read at a time.
const STRIDE: u32 = 1000;

async fn export(store: &Store) -> anyhow::Result<ExitCode> {
    let mut after = 0;
    loop {
        let entries = store.export_ledger(after, STRIDE).await?;
        let Some(last) = entries.last() else { break };
        after = last.entry.seq;
        let mut lines = String::new();
        for entry in &entries {
            lines.push_str(&serde_json::to_string(entry)?);
            lines.push('\n');
        }
        output::print(&lines)?;
    }
    let entries = if after == 1 { "1 entry".to_owned() } else { format!("{after} entries") };
    output::hint(&format!(
        "{entries}. They hold phone numbers. Keep the last hash somewhere else: it later also shows a cut tail."
    ));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use hookline_common::event::{EventId, SourceName};
    use hookline_common::time::Timestamp;

    use super::*;

    #[test]
    fn an_unsent_opt_out_says_where_it_is_missing_and_why() {
        let at = Timestamp::from_millis(1_800_000_000_000);
        let row = |why, last_status| Unsent {
            event_id: EventId::derive(&SourceName::new("textus").expect("a name"), None, b"{}"),
            source_event_id: Some("d-1".to_owned()),
            received_at: at,
            event_time: Some(at),
            account: Some("acme".to_owned()),
            phone: Some("+12025550147".to_owned()),
            missing_accounts: vec!["acme".to_owned(), "second".to_owned()],
            why,
            last_status,
        };
        let dead = UnsentWhy::DeadLetter { reason: Some(DeadReason::Rejected), status: Some(422) };
        let json = unsent_row(&row(dead, Some(409)));
        assert_eq!(json["unsent"]["missing_accounts"], json!(["acme", "second"]));
        assert_eq!(json["unsent"]["received_at"], at.to_string());
        assert_eq!(
            (&json["phone"], &json["put_status"], &json["state"]),
            (&json!("+12025550147"), &json!(409), &json!("opted_out"))
        );
        let cases = [
            (
                UnsentWhy::DeadLetter { reason: Some(DeadReason::Rejected), status: Some(422) },
                "dead letter: rejected, last answered 422",
            ),
            (UnsentWhy::NotBegun, "no worker has begun it: it waits in its queue, or is published anew soon"),
            (UnsentWhy::UnderWay { attempt: 2 }, "attempt 2 is under way, last answered 503"),
            (
                UnsentWhy::Waiting { attempt: 3, until: at },
                "attempt 3 is due at 2027-01-15T08:00:00.000Z, last answered 503",
            ),
            (
                UnsentWhy::Paused { destination: "textus".to_owned() },
                "textus is paused; `hookline resume textus`, last answered 503",
            ),
        ];
        for (reason, words) in cases {
            let json = unsent_row(&row(reason.clone(), Some(503)));
            assert_eq!(json["unsent"]["reason"], words);
            assert_eq!(json["unsent"]["kind"], kind_of(&reason));
        }
    }
}
