//! `hookline opt-outs`: the ledger. Who opted out, the evidence for one phone number, and whether the chain is whole.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hookline_common::phone::Phone;
use hookline_store::Store;
use hookline_store::model::OptOutRow;
use serde_json::json;

use crate::open;
use crate::output::{self, ListArgs, Listing};
use crate::table::{Table, or_dash};

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum OptOutsCommand {
    /// Where each phone number stands, per account
    List(ListArgs),
    /// Every entry of the ledger about one phone number
    Prove(ProveArgs),
    /// Walk the whole chain: exit 0 whole, 1 broken
    Verify(VerifyArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ProveArgs {
    /// In any usual form; without a + a number of the North American plan
    phone: String,
    /// One JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyArgs {
    /// A head exported earlier: shows a cut tail too
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
    /// One JSON document instead of a sentence
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: Option<&Path>, command: OptOutsCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(config)?;
    match command {
        OptOutsCommand::List(list) => {
            let page = open::store(&settings).await?.opt_outs(list.limit, list.cursor.as_deref()).await?;
            listing(&page.rows, page.next).print(list.json)?;
            Ok(ExitCode::SUCCESS)
        }
        OptOutsCommand::Prove(args) => {
            let phone = phone(&args.phone)?;
            prove(&open::store(&settings).await?, &phone, args.json).await
        }
        OptOutsCommand::Verify(args) => verify(&open::store(&settings).await?, &args).await,
    }
}

/// Reads a phone number as an operator types it.
pub(crate) fn phone(text: &str) -> anyhow::Result<Phone> {
    Phone::parse(text).ok_or_else(|| {
        open::wrong_usage("that is no phone number; give it in E.164 (+12025550147) or as ten digits (2025550147)")
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
        when_empty: "The ledger is empty: entries come with \
         contact.opted_out. Try `hookline trigger contact.opted_out`.",
    }
}

async fn prove(store: &Store, phone: &Phone, as_json: bool) -> anyhow::Result<ExitCode> {
    let entries = store.prove(phone).await?;
    if as_json {
        output::print_json(&json!({ "phone": phone.as_e164(), "entries": entries }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if entries.is_empty() {
        output::hint(&format!("The ledger holds nothing about {}.", phone.as_e164()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["AT", "KIND", "ACCOUNT", "STATUS", "REASON", "EVENT", "HASH"]);
    for entry in &entries {
        table.row([
            entry.at.clone(),
            kind(entry)?,
            entry.account.clone(),
            or_dash(entry.status),
            or_dash(entry.reason.as_deref()),
            entry.event_id.clone(),
            entry.hash.clone(),
        ]);
    }
    output::print_line(&format!("Evidence for {}, oldest first:", phone.as_e164()))?;
    output::print_table(&table)?;
    output::hint("`hookline opt-outs verify` checks that the chain these entries are part of is whole.");
    Ok(ExitCode::SUCCESS)
}

/// The kind as the JSON document spells it.
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
        output::hint("Restore the store from a backup made before this, and keep this file as evidence.");
    } else {
        output::print_line(&format!("whole: {} entries", check.entries))?;
        output::print_line(&format!("head:  {}", check.head))?;
        output::hint("Keep the head somewhere else: `verify --head HASH` later also shows a cut tail.");
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
