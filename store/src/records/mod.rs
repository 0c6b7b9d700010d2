//! The built-in system of record: notes and opt-out flags. `people.rs` holds its people.

pub(crate) mod contacts;
pub(crate) mod flag_checks;
pub(crate) mod model;
pub(crate) mod people;

use std::collections::HashSet;

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::row;
use crate::records::model::{NewNote, NoteRow, OptFlagRow};
use crate::threads::model::{Thread, ThreadMessage};

impl Store {
    /// Attaches every message of a thread to a person, once per message.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_thread_notes(&self, person_id: &str, thread: &Thread) -> Result<(), StoreError> {
        self.db
            .write((person_id.to_owned(), thread.clone()), |connection, (person_id, thread)| {
                Box::pin(async move {
                    let known = sqlx::query("SELECT message_id FROM records_notes WHERE thread_id = $1")
                        .bind(thread.thread_id.as_str())
                        .fetch_all(&mut *connection)
                        .await?;
                    let known =
                        known.iter().map(|row| row::text(row, "message_id")).collect::<Result<HashSet<_>, _>>()?;
                    for message in thread.messages.iter().filter(|message| !known.contains(&message.message_id)) {
                        let note_id = format!("note_{:016x}", rand::random::<u64>());
                        let note = note_of(thread, message);
                        insert_note(connection, &note_id, person_id, &note).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Sets whether a phone is opted out, if the event is newer than the flag's; on a tie, opted out wins. Returns
    /// whether the flag itself changed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn set_opt_flag(
        &self,
        phone: &Phone,
        opted_out: bool,
        event_time: Timestamp,
    ) -> Result<bool, StoreError> {
        self.db
            .write((phone.clone(), opted_out, event_time), |connection, (phone, opted_out, event_time)| {
                Box::pin(async move {
                    // The row read here must be the one replaced below, even if there is none yet to lock.
                    dialect::lock_names(connection, &[format!("opt flag {}", phone.as_e164())]).await?;
                    let before = sqlx::query("SELECT opted_out FROM records_opt_flags WHERE phone = $1")
                        .bind(phone.as_e164())
                        .fetch_optional(&mut *connection)
                        .await?;
                    let before = before.map(|row| row::flag(&row, "opted_out")).transpose()?;
                    let written = sqlx::query(
                        "INSERT INTO records_opt_flags (phone, opted_out, event_time_ms) VALUES ($1, $2, $3)
                         ON CONFLICT (phone) DO UPDATE SET
                             opted_out = excluded.opted_out, event_time_ms = excluded.event_time_ms
                         WHERE excluded.event_time_ms > records_opt_flags.event_time_ms
                            OR (excluded.event_time_ms = records_opt_flags.event_time_ms AND excluded.opted_out = 1)",
                    )
                    .bind(phone.as_e164())
                    .bind(i64::from(*opted_out))
                    .bind(event_time.as_millis())
                    .execute(connection)
                    .await?;
                    Ok(written.rows_affected() == 1 && before != Some(*opted_out))
                })
            })
            .await
    }

    /// Returns a page of notes, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn notes(&self, limit: u32, cursor: Option<&str>) -> Result<Page<NoteRow>, StoreError> {
        let (created_ms, note_id): (i64, String) = position(cursor, (i64::MAX, String::new()))?;
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT note_id, message_id, person_id, event_id, contact_id, phone, direction, body, occurred_ms,
                    business_number, user_name, created_ms, thread_id
             FROM records_notes WHERE (created_ms, note_id) < ($1, $2)
             ORDER BY created_ms DESC, note_id DESC LIMIT $3",
                )
                .bind(created_ms)
                .bind(note_id)
                .bind(rows_to_read(limit)),
            )
            .await?;
        let rows = rows
            .iter()
            .map(|row| Ok((note_row(row)?, row::number(row, "created_ms")?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let Page { rows, next } = page(rows, limit, |(note, created_ms)| (*created_ms, note.note_id.clone()));
        Ok(Page { rows: rows.into_iter().map(|(note, _)| note).collect(), next })
    }

    /// Returns a page of opt-out flags, ordered by phone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn opt_flags(&self, limit: u32, cursor: Option<&str>) -> Result<Page<OptFlagRow>, StoreError> {
        let phone: String = position(cursor, String::new())?;
        let rows = self.db.rows(sqlx::query(
            "SELECT phone, opted_out, event_time_ms FROM records_opt_flags WHERE phone > $1 ORDER BY phone LIMIT $2",
        )
            .bind(phone)
            .bind(rows_to_read(limit))).await?;
        let rows = rows
            .iter()
            .map(|row| {
                Ok(OptFlagRow {
                    phone: row::text(row, "phone")?,
                    opted_out: row::flag(row, "opted_out")?,
                    event_time: row::time(row, "event_time_ms")?,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(page(rows, limit, |flag| flag.phone.clone()))
    }
}

fn note_of(thread: &Thread, message: &ThreadMessage) -> NewNote {
    NewNote {
        message_id: message.message_id.clone(),
        event_id: message.event_id.clone(),
        contact_id: thread.contact_id.clone(),
        phone: thread.phone.clone(),
        direction: if message.is_inbound { "in" } else { "out" }.to_owned(),
        body: message.body.clone(),
        occurred_at: message.occurred_at,
        business_number: thread.business_number.clone(),
        user: message.author.clone(),
        thread_id: Some(thread.thread_id.clone()),
    }
}

/// Does nothing if the message already has a note.
async fn insert_note(
    connection: &mut Connection,
    note_id: &str,
    person_id: &str,
    note: &NewNote,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO records_notes (note_id, message_id, person_id, event_id, contact_id, phone, direction, body,
             occurred_ms, business_number, user_name, created_ms, thread_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (message_id) DO NOTHING",
    )
    .bind(note_id)
    .bind(note.message_id.as_str())
    .bind(person_id)
    .bind(note.event_id.as_str())
    .bind(note.contact_id.as_deref())
    .bind(note.phone.as_deref())
    .bind(note.direction.as_str())
    .bind(note.body.as_str())
    .bind(note.occurred_at.as_millis())
    .bind(note.business_number.as_deref())
    .bind(note.user.as_deref())
    .bind(Timestamp::now().as_millis())
    .bind(note.thread_id.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

fn note_row(row: &DbRow) -> Result<NoteRow, StoreError> {
    Ok(NoteRow {
        note_id: row::text(row, "note_id")?,
        person_id: row::text(row, "person_id")?,
        note: NewNote {
            message_id: row::text(row, "message_id")?,
            event_id: row::event_id(row)?,
            contact_id: row::maybe_text(row, "contact_id")?,
            phone: row::maybe_text(row, "phone")?,
            direction: row::text(row, "direction")?,
            body: row::text(row, "body")?,
            occurred_at: row::time(row, "occurred_ms")?,
            business_number: row::maybe_text(row, "business_number")?,
            user: row::maybe_text(row, "user_name")?,
            thread_id: row::maybe_text(row, "thread_id")?,
        },
    })
}
