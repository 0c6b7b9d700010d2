//! `hookline erase PHONE`: deletes a person's payloads, notes and history; the opt-out evidence stays.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use hookline_common::event::EventId;
use hookline_common::names::DeliveryState;
use hookline_store::Store;
use serde_json::json;

use crate::{open, opt_outs, output};

#[derive(Args, Clone, Debug)]
pub(crate) struct EraseArgs {
    /// In any usual form; without a + a number of the North American plan
    phone: String,
    /// One JSON document instead of sentences
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: Option<&Path>, args: &EraseArgs) -> anyhow::Result<ExitCode> {
    let settings = open::settings(config)?;
    let phone = opt_outs::phone(&args.phone)?;
    let store = open::store(&settings).await?;
    let erased = store.erase(&phone).await?;
    let waiting = still_waiting(&store, &erased.event_ids).await?;
    if args.json {
        output::print_json(&json!({
            "phone": phone.masked(),
            "payloads": erased.payloads,
            "notes": erased.notes,
            "persons": erased.persons,
            "contact_links": erased.contact_links,
            "dead_letters": erased.dead_letters,
            "events_waiting": waiting,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print_line(&format!(
        "Erased of {}: {} payloads, {} notes, {} people, {} contact links, {} dead letters.",
        phone.masked(),
        erased.payloads,
        erased.notes,
        erased.persons,
        erased.contact_links,
        erased.dead_letters
    ))?;
    output::print_line("Kept: the opt-out ledger, which proves what this person asked for.")?;
    if waiting > 0 {
        output::print_line(&format!(
            "Still in the queues: {waiting} events of this person. Nothing accepted is dropped: they are worked off \
             and leave the queues then. Run `hookline erase` again after that (`hookline status` shows what waits)."
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How many of the events still have a delivery in a queue, whose message holds the payload.
async fn still_waiting(store: &Store, event_ids: &[EventId]) -> anyhow::Result<u64> {
    let mut waiting = 0;
    for event_id in event_ids {
        let Some((event, _)) = store.event(event_id).await? else { continue };
        if event.deliveries.iter().any(|delivery| delivery.state == DeliveryState::Waiting) {
            waiting += 1;
        }
    }
    Ok(waiting)
}
