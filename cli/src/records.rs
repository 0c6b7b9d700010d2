//! `hookline records`: lists the contents of the built-in system of record, and the threads written to any. Phone numbers are printed in full, because
//! the operator asked for them.

use std::process::ExitCode;

use clap::Subcommand;
use hookline_common::note_text::Format;
use hookline_common::settings::{Settings, SystemOfRecordKind};
use hookline_store::model::{NoteRow, OptFlagRow, PersonRow, ThreadRow};
use hookline_worker::records;
use serde_json::{Value, json};

use crate::note_view;
use crate::open::{self, Place};
use crate::output::{self, ListArgs, Listing};
use crate::table::{Table, or_dash};

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum RecordsCommand {
    /// List notes of text messages, newest first
    Notes(ListArgs),
    /// List threads with the text of their note, newest first
    Threads(ListArgs),
    /// List people, newest first
    Contacts(ListArgs),
    /// List the opt-out flag of each phone number
    OptOuts(ListArgs),
}

pub(crate) async fn run(place: Place<'_>, command: RecordsCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    let store = open::store(&settings).await?;
    match command {
        RecordsCommand::Notes(list) => {
            let page = store.notes(list.limit, list.cursor.as_deref()).await?;
            notes(&page.rows, page.next, &settings).print(list.json)?;
        }
        RecordsCommand::Threads(list) => {
            let system = records::name(&settings.system_of_record);
            let page = store.threads(&system, list.limit, list.cursor.as_deref()).await?;
            threads(&page.rows, page.next, &settings).print(list.json)?;
        }
        RecordsCommand::Contacts(list) => {
            let page = store.persons(list.limit, list.cursor.as_deref()).await?;
            contacts(&page.rows, page.next).print(list.json)?;
        }
        RecordsCommand::OptOuts(list) => {
            let page = store.opt_flags(list.limit, list.cursor.as_deref()).await?;
            opt_outs(&page.rows, page.next).print(list.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn notes(rows: &[NoteRow], next: Option<String>, settings: &Settings) -> Listing<'static> {
    let mut table = Table::new(&["OCCURRED", "PHONE", "DIRECTION", "MESSAGE", "BODY"]);
    for NoteRow { note, .. } in rows {
        table.row([
            note.occurred_at.to_string(),
            or_dash(note.phone.as_ref()),
            note.direction.clone(),
            note.message_id.clone(),
            note.body.clone(),
        ]);
    }
    let rows = rows.iter().map(note_document).collect();
    Listing {
        key: "notes",
        rows,
        table,
        next,
        when_empty: match settings.system_of_record.kind {
            SystemOfRecordKind::Builtin => format!(
                "No notes yet: they come with message.received and message.delivered.{}",
                output::try_trigger("message.received")
            ),
            SystemOfRecordKind::Salesforce | SystemOfRecordKind::HubSpot | SystemOfRecordKind::Http => {
                format!(
                    "Notes are in your system of record; {} shows what was written.",
                    output::typed("records threads")
                )
            }
        },
    }
}

fn note_document(row: &NoteRow) -> Value {
    let note = &row.note;
    json!({
        "note_id": row.note_id,
        "message_id": note.message_id,
        "event_id": note.event_id.as_str(),
        "contact_id": note.contact_id,
        "phone": note.phone,
        "direction": note.direction,
        "body": note.body,
        "occurred_at": note.occurred_at.to_string(),
        "business_number": note.business_number,
        "user": note.user,
        "thread_id": note.thread_id,
    })
}

fn threads(rows: &[ThreadRow], next: Option<String>, settings: &Settings) -> Listing<'static> {
    let (format, _limit) = records::note_form(settings.system_of_record.kind);
    let shown = |text: &String| match format {
        Format::Plain => note_view::in_one_line(text),
        Format::Html => note_view::in_one_line(&note_view::rendered(text)),
    };
    let mut table = Table::new(&["DAY", "BUSINESS NUMBER", "MESSAGES", "LAST MESSAGE", "RECORD", "WRITTEN", "TEXT"]);
    for thread in rows {
        table.row([
            thread.day.clone(),
            or_dash(thread.business_number.as_ref()),
            thread.message_ids.len().to_string(),
            or_dash(thread.message_ids.last()),
            or_dash(thread.record_id.as_ref()),
            or_dash(thread.written_at),
            or_dash(thread.text.as_ref().map(shown)),
        ]);
    }
    let rows = rows
        .iter()
        .map(|thread| {
            json!({
                "thread_id": thread.thread_id,
                "record_id": thread.record_id,
                "business_number": thread.business_number,
                "day": thread.day,
                "message_ids": thread.message_ids,
                "text": thread.text,
                "remote_id": thread.remote_id,
                "written_at": thread.written_at.map(|at| at.to_string()),
            })
        })
        .collect();
    Listing {
        key: "threads",
        rows,
        table,
        next,
        when_empty: format!(
            "No threads yet: they come with message.received and message.delivered.{}",
            output::try_trigger("message.received")
        ),
    }
}

fn contacts(rows: &[PersonRow], next: Option<String>) -> Listing<'static> {
    let mut table = Table::new(&["CREATED", "RECORD", "CONTACT", "PHONES", "NAME"]);
    for person in rows {
        table.row([
            person.created_at.to_string(),
            person.record_id.clone(),
            or_dash(person.contact_id.as_ref()),
            or_dash((!person.phones.is_empty()).then(|| person.phones.join(", "))),
            or_dash(person.name.as_ref()),
        ]);
    }
    let rows = rows
        .iter()
        .map(|person| {
            json!({
                "record_id": person.record_id,
                "contact_id": person.contact_id,
                "phone": person.phone,
                "phones": person.phones,
                "name": person.name,
                "created_at": person.created_at.to_string(),
            })
        })
        .collect();
    Listing {
        key: "contacts",
        rows,
        table,
        next,
        when_empty: format!(
            "No contacts yet: they come with contact.created.{}",
            output::try_trigger("contact.created")
        ),
    }
}

fn opt_outs(rows: &[OptFlagRow], next: Option<String>) -> Listing<'static> {
    let mut table = Table::new(&["PHONE", "OPTED OUT", "EVENT TIME"]);
    for flag in rows {
        let opted_out = if flag.opted_out { "yes" } else { "no" };
        table.row([flag.phone.clone(), opted_out.to_owned(), flag.event_time.to_string()]);
    }
    let rows = rows
        .iter()
        .map(|flag| {
            json!({ "phone": flag.phone, "opted_out": flag.opted_out, "event_time": flag.event_time.to_string() })
        })
        .collect();
    Listing {
        key: "opt_outs",
        rows,
        table,
        next,
        when_empty: "No opt-out flags yet: they come with \
         contact.opted_out, for people the system of record knows."
            .to_owned(),
    }
}
