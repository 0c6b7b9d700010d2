//! `hookline notes`: shows what would be written to the system of record, and writes what it lacks.

mod sync;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use hookline_common::note_text::{Format, NoteText};
use hookline_worker::records;
use serde_json::json;

use crate::note_view;
use crate::open::{self, Place};
use crate::output;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum NotesCommand {
    /// Show the note of the thread that a message belongs to, as it would be written now
    Preview(PreviewArgs),
    /// Write the notes that the history knows and the system of record lacks, or has with another text
    Sync(sync::SyncArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PreviewArgs {
    /// Id of the message as TextUs sends it, with or without /messages/ in front
    message_id: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(place: Place<'_>, command: NotesCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    let args = match command {
        NotesCommand::Preview(args) => args,
        NotesCommand::Sync(args) => return sync::run(&settings, &args).await,
    };
    let Some(store) = open::store_or_none(&settings).await? else { return Err(open::nothing_here(&settings)) };
    let id = args.message_id.trim();
    let id = if id.starts_with("/messages/") { id.to_owned() } else { format!("/messages/{id}") };
    let Some(thread) = store.thread_of(&id).await? else {
        bail!(
            "no thread has the message {id:?}: it is not handled yet, was erased, or is older than [store] retention; \
             {} shows the ids of messages",
            output::typed("records threads")
        );
    };
    let system = &settings.system_of_record;
    let (format, limit) = records::note_form(system.kind);
    let text = NoteText::new(system.templates.note.as_deref(), format, system.time_zone.clone(), limit)?;
    let parts = text.parts(&thread.note())?;
    if args.json {
        let messages: Vec<&str> = thread.messages.iter().map(|message| message.message_id.as_str()).collect();
        output::print_json(&json!({
            "thread_id": thread.thread_id,
            "business_number": thread.business_number,
            "day": thread.day,
            "message_ids": messages,
            "parts": parts,
        }))?;
    } else {
        let shown = parts.iter().map(|part| match format {
            Format::Plain => part.clone(),
            Format::Html => note_view::rendered(part),
        });
        output::print_line(&shown.collect::<Vec<_>>().join("\n\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
