//! Looks through everything that was written down: which payloads are about a person, and which texts of others have one
//! of their numbers.

use std::collections::BTreeSet;

use hookline_common::event::EventId;
use hookline_common::phone::Phone;
use hookline_common::subjects::Subjects;
use hookline_common::written::Text;
use sqlx::{AssertSqlSafe, Row as _};

use super::BATCH;
use super::windows::{Key, Windows};
use crate::Store;
use crate::db::dialect::{Connection, DbRow, blob_contains};
use crate::db::error::StoreError;
use crate::db::row;
use crate::operations::erasure::whom::Whom;

/// A table of payloads, whose primary key is one text.
pub(super) struct Payloads {
    key: &'static str,
    table: &'static str,
    walk: Key,
    /// Takes the bytes of one row: `$1` is its key.
    pub(super) empty: &'static str,
    /// An opt-out that waits is published anew from them.
    pub(super) opt_outs_need_them: bool,
}

pub(super) const EVENTS: Payloads = Payloads {
    key: "event_id",
    table: "events",
    walk: Key::Time("received_ms", "event_id"),
    empty: "UPDATE events SET body = NULL WHERE event_id = $1 AND body IS NOT NULL",
    opt_outs_need_them: true,
};
/// What is being redriven keeps its bytes until it is, and is gone then; the delivery does not begin. An opt-out that was
/// given up keeps them too: without a redrive this person would be texted on.
pub(super) const DEAD_LETTERS: Payloads = Payloads {
    key: "id",
    table: "dead_letters",
    walk: Key::Time("dead_ms", "id"),
    empty: "UPDATE dead_letters SET body = NULL WHERE id = $1 AND body IS NOT NULL AND state = 'dead'
            AND handler NOT IN ('record_opt_out', 'flag_opt_out')",
    opt_outs_need_them: false,
};

/// Texts beside the payloads: what was noted, what failed and why, what operators wrote. Each with its table, the key by
/// which that is walked, and the key of a row.
const TEXTS: [(&str, Key, Key, &str, Text); 9] = [
    ("records_notes", Key::Time("created_ms", "note_id"), Key::Text("note_id"), "body", Text::Plain),
    ("records_people", Key::Time("created_ms", "record_id"), Key::Text("record_id"), "name", Text::Plain),
    ("thread_messages", Key::Time("created_ms", "message_id"), Key::Text("message_id"), "body", Text::Plain),
    ("thread_writes", Key::Text("write_id"), Key::Text("write_id"), "text", Text::Plain),
    ("dead_letters", Key::Time("dead_ms", "id"), Key::Text("id"), "detail", Text::Plain),
    ("attempts", Key::Number("seq"), Key::Number("seq"), "detail", Text::Plain),
    ("attempts", Key::Number("seq"), Key::Number("seq"), "requests", Text::Json),
    ("audit", Key::Number("seq"), Key::Number("seq"), "reason", Text::Plain),
    ("deliveries", Key::DeliveryTime, Key::Delivery, "reason", Text::Plain),
];

/// A payload that has something of the person.
struct Hit {
    key: String,
    event_id: EventId,
    subjects: Subjects,
    mentions: bool,
}

/// The payloads of a table, before it is known which numbers are the accounts' own.
pub(super) struct Scanned(Vec<Hit>);

/// Keys of rows with their events.
pub(super) struct Found {
    pub(super) theirs: Vec<(String, EventId)>,
    pub(super) mention: Vec<(String, EventId)>,
}

impl Scanned {
    /// Of the person's numbers, and others, those that are accounts' own.
    pub(super) fn business(&self) -> impl Iterator<Item = &Phone> {
        self.0.iter().flat_map(|row| &row.subjects.business)
    }

    pub(super) fn split(self, whom: &Whom) -> Found {
        let (theirs, others): (Vec<_>, Vec<_>) = self.0.into_iter().partition(|row| whom.is_subject(&row.subjects));
        let keys = |rows: Vec<Hit>| rows.into_iter().map(|row| (row.key, row.event_id)).collect();
        Found { theirs: keys(theirs), mention: keys(others.into_iter().filter(|row| row.mentions).collect()) }
    }
}

impl Store {
    pub(super) async fn scan(&self, payloads: &Payloads, whom: &Whom) -> Result<Scanned, StoreError> {
        let Payloads { table, key, walk, .. } = payloads;
        let needles = whom.needles();
        let mut windows = Windows::of(table, *walk);
        let found: Vec<String> = (0..needles.len())
            .map(|i| blob_contains(self.db.dialect(), "body", i + windows.parameters() + 1))
            .collect();
        let mut scanned = Vec::new();
        while let Some(mut window) = windows.next(&self.db).await? {
            loop {
                let statement = format!(
                    "SELECT {key} AS row_key, {} AS place, event_id, body FROM {table}
                     WHERE {} AND body IS NOT NULL AND ({}) ORDER BY {} LIMIT {BATCH}",
                    walk.selected(),
                    window.condition(),
                    found.join(" OR "),
                    walk.columns()
                );
                let mut select = window.bind(sqlx::query(AssertSqlSafe(statement)).persistent(false))?;
                for needle in &needles {
                    select = select.bind(needle.as_bytes());
                }
                let rows = self.db.rows_long(select).await?;
                for row in &rows {
                    scanned.extend(hit(row, whom)?);
                }
                match rows.last() {
                    Some(last) if rows.len() == BATCH => window.go_on_after(row::text(last, "place")?),
                    Some(_) | None => break,
                }
            }
        }
        Ok(Scanned(scanned))
    }

    /// Masks the numbers in others' payloads; how many that changed. The broker's copies of what waits are not read again.
    pub(super) async fn mask_payloads(
        &self,
        payloads: &'static Payloads,
        rows: Vec<(String, EventId)>,
        whom: &Whom,
    ) -> Result<u64, StoreError> {
        let mut rows = rows;
        rows.sort_by(|(_, a), (_, b)| a.cmp(b));
        let mut masked = 0;
        for rows in rows.chunks(BATCH) {
            masked += self
                .db
                .write_long((rows.to_vec(), whom.clone()), move |connection, (rows, whom)| {
                    Box::pin(async move {
                        let mut masked = 0;
                        for (key, event_id) in rows {
                            masked += mask_payload(connection, payloads, key, event_id, whom).await?;
                        }
                        Ok(masked)
                    })
                })
                .await?;
        }
        Ok(masked)
    }

    /// Masks the numbers in all other texts; how many that are. `dry`: only counts them, without those of these keys.
    pub(super) async fn mask_texts(&self, whom: &Whom, dry: Option<&BTreeSet<String>>) -> Result<u64, StoreError> {
        let mut masked = 0;
        for (table, walk, key, column, kind) in TEXTS {
            let needles: Vec<&str> = whom.written().map(|number| number.needle()).collect();
            if needles.is_empty() {
                continue;
            }
            let mut windows = Windows::of(table, walk);
            let found: Vec<String> = (0..needles.len())
                .map(|i| blob_contains(self.db.dialect(), column, i + windows.parameters() + 1))
                .collect();
            let mut changes = Vec::new();
            while let Some(window) = windows.next(&self.db).await? {
                let statement = format!(
                    "SELECT {} AS row_key, {column} AS words FROM {table}
                     WHERE {} AND {column} IS NOT NULL AND ({})",
                    key.selected(),
                    window.condition(),
                    found.join(" OR ")
                );
                let mut select = window.bind(sqlx::query(AssertSqlSafe(statement)).persistent(false))?;
                for needle in &needles {
                    select = select.bind((*needle).to_owned());
                }
                for row in &self.db.rows_long(select).await? {
                    changes.extend(masked_text(row, whom, kind, dry)?);
                }
            }
            masked += changes.len() as u64;
            if dry.is_none() {
                self.change_texts(
                    format!("UPDATE {table} SET {column} = $1 WHERE {}", key.compared("=", 2)),
                    key,
                    changes,
                )
                .await?;
            }
        }
        Ok(masked)
    }

    async fn change_texts(
        &self,
        statement: String,
        key: Key,
        changes: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        for changes in changes.chunks(BATCH) {
            self.db
                .write_long((statement.clone(), changes.to_vec()), move |connection, (statement, changes)| {
                    Box::pin(async move {
                        for (row, words) in changes {
                            key.change(connection, statement, row, words).await?;
                        }
                        Ok(())
                    })
                })
                .await?;
        }
        Ok(())
    }
}

/// Returns what a payload has of the person; `None` if nothing.
fn hit(row: &DbRow, whom: &Whom) -> Result<Option<Hit>, StoreError> {
    let body = row.try_get::<Vec<u8>, _>("body")?;
    let mut subjects = Subjects::of(&body);
    subjects.business.retain(|number| whom.phones.contains(number));
    if subjects.is_unreadable {
        whom.find_in(&body, &mut subjects);
    }
    let mentions = whom.written().any(|number| number.is_in(&body, Text::Json));
    if !mentions && !whom.is_subject(&subjects) {
        return Ok(None);
    }
    Ok(Some(Hit { key: row::text(row, "row_key")?, event_id: row::event_id(row)?, subjects, mentions }))
}

/// Returns the key of a row with its masked text; `None` if nothing of it is masked, or the row is one of `theirs`.
fn masked_text(
    row: &DbRow,
    whom: &Whom,
    kind: Text,
    theirs: Option<&BTreeSet<String>>,
) -> Result<Option<(String, String)>, StoreError> {
    let (key, words) = (row::text(row, "row_key")?, row::text(row, "words")?);
    if theirs.is_some_and(|theirs| theirs.contains(&key)) {
        return Ok(None);
    }
    let Some(words) = whom.mask(words.as_bytes(), kind) else { return Ok(None) };
    Ok(Some((key, String::from_utf8(words).map_err(|_| StoreError::unreadable("text"))?)))
}

async fn mask_payload(
    connection: &mut Connection,
    payloads: &Payloads,
    key: &str,
    event_id: &EventId,
    whom: &Whom,
) -> Result<u64, StoreError> {
    let Payloads { table, key: column, .. } = payloads;
    // Deliveries before what belongs to them, as everybody does.
    sqlx::query(
        "UPDATE deliveries SET masked = 1
         WHERE event_id = $1 AND handler <> 'record_history' AND state IN ('waiting', 'dead_lettered')",
    )
    .bind(event_id.as_str())
    .execute(&mut *connection)
    .await?;
    let select = format!("SELECT body FROM {table} WHERE {column} = $1 AND body IS NOT NULL");
    let row = sqlx::query(AssertSqlSafe(select)).bind(key).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(0) };
    let Some(body) = whom.mask(&row.try_get::<Vec<u8>, _>("body")?, Text::Json) else { return Ok(0) };
    let update = format!("UPDATE {table} SET body = $2 WHERE {column} = $1 AND body IS NOT NULL");
    let done = sqlx::query(AssertSqlSafe(update)).bind(key).bind(body).execute(connection).await?;
    Ok(done.rows_affected())
}
