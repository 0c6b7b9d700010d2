//! `hookline dead-letters resolve`: settles what a person has to decide.

use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Args};
use hookline_common::names::DeadReason;
use hookline_common::settings::{Settings, SystemOfRecordKind};
use hookline_common::subjects::Subjects;
use hookline_store::Store;
use hookline_store::model::DeadLetterRow;
use hookline_worker::background::dead_letters::redrive;
use hookline_worker::records;
use serde_json::json;

use super::{changed_all, unknown};
use crate::{open, output};

#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("how").required(true).args(["done", "write_again", "person"])))]
pub(crate) struct ResolveArgs {
    /// Id of the dead letter or of its event
    id: String,
    /// The write is at the destination, so the delivery is done
    #[arg(long)]
    done: bool,
    /// The write is not at the destination, so make it again
    #[arg(long)]
    write_again: bool,
    /// The text of an ambiguous_contact is this person's, named by the id in the system of record; write it again
    #[arg(long, value_name = "ID", value_parser = person_id)]
    person: Option<String>,
    /// Take this person for every later text from the same number too
    #[arg(long, requires = "person")]
    remember: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(settings: &Settings, store: &Store, args: &ResolveArgs) -> anyhow::Result<ExitCode> {
    let rows = store.dead_letter(&args.id).await?;
    if rows.is_empty() {
        return Err(unknown(&args.id));
    }
    let (reason, option) = match args.person {
        Some(_) => (DeadReason::AmbiguousContact, "--person settles"),
        None => (DeadReason::OutcomeUnknown, "--done and --write-again settle"),
    };
    let open: Vec<_> = rows.iter().filter(|row| row.info.reason == reason).collect();
    if open.is_empty() {
        anyhow::bail!(
            "{} was given up as {}: {option} only {reason}; {}",
            rows[0].id,
            rows[0].info.reason,
            other_ways(rows[0].info.reason)
        );
    }
    let asked = open.len();
    let broker = if args.done { None } else { Some(open::broker(settings).await?) };
    let mut resolved = 0_u64;
    for row in open {
        let settled = match (&broker, &args.person) {
            (None, _) => store.resolve_done(&row.id).await?,
            (Some(broker), Some(person)) => {
                choose(settings, store, row, person, args.remember).await?
                    && redrive(store, broker.as_ref(), &row.id).await?
            }
            (Some(broker), None) => {
                store.resolve_write_again(&row.id).await? && redrive(store, broker.as_ref(), &row.id).await?
            }
        };
        resolved += u64::from(settled);
    }
    if let Some(broker) = broker {
        broker.close().await;
    }
    if args.json {
        output::print_json(&json!({ "resolved": resolved }))?;
    } else {
        let next = match &args.person {
            Some(person) if resolved > 0 => format!("; the text is written again, on the record of {person}"),
            Some(_) | None => String::new(),
        };
        output::print_line(&format!("resolved: {resolved}{next}"))?;
    }
    Ok(changed_all(resolved, asked, ExitCode::SUCCESS))
}

/// Reads the id of a person in the system of record.
fn person_id(text: &str) -> Result<String, String> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if (1..=128).contains(&text.len()) && text.chars().all(is_legal) {
        return Ok(text.to_owned());
    }
    Err("not an id: 1 to 128 letters, digits, \"-\", \"_\", \".\" or \":\"".to_owned())
}

/// Says what can be done about a dead letter with this reason.
fn other_ways(reason: DeadReason) -> &'static str {
    match reason {
        DeadReason::AmbiguousContact => "choose with --person, or redrive or discard this one",
        DeadReason::OutcomeUnknown => "say --done or --write-again, or discard this one",
        DeadReason::Rejected
        | DeadReason::NotFound
        | DeadReason::AttemptsExhausted
        | DeadReason::TooOld
        | DeadReason::UnknownContact
        | DeadReason::Unreadable
        | DeadReason::DeliveryLimit => "redrive or discard this one",
    }
}

/// Records whose text the dead letter is.
async fn choose(
    settings: &Settings,
    store: &Store,
    row: &DeadLetterRow,
    person: &str,
    remember: bool,
) -> anyhow::Result<bool> {
    let event = store.dead_letter_event(&row.id).await?.with_context(|| {
        format!("the payload of {} is gone, so nothing of it can be written; discard the dead letter", row.id)
    })?;
    let phones = Subjects::of(&event.body).phones;
    let phone = phones.first().filter(|_| phones.len() == 1);
    if settings.system_of_record.kind == SystemOfRecordKind::Builtin {
        let people = store.find_person(None, phone).await?;
        if people.iter().all(|known| known.record_id != person) {
            let ids: Vec<&str> = people.iter().map(|known| known.record_id.as_str()).collect();
            anyhow::bail!(
                "nobody with this number has the id {person:?}; those who have the number: {}",
                ids.join(", ")
            );
        }
    }
    if remember && phone.is_none() {
        anyhow::bail!("the text has no number that could be remembered; leave out --remember");
    }
    let system = records::name(&settings.system_of_record);
    Ok(store.choose_person(&row.id, &system, person, phone.filter(|_| remember)).await?)
}
