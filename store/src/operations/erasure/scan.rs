//! Looks through everything that was written down: which payloads are about a person, and which texts of others have one
//! of their numbers.

use std::collections::BTreeSet;

use hookline_common::event::EventId;
use hookline_common::phone::Phone;
use hookline_common::subjects::Subjects;
use hookline_common::written::Text;
use sqlx::{AssertSqlSafe, Row as _};

use super::BATCH;
use crate::Store;
use crate::db::dialect::{Connection, blob_contains};
use crate::db::error::StoreError;
use crate::db::row;
use crate::operations::erasure::whom::Whom;

/// A table of payloads.
pub(super) struct Payloads {
    key: &'static str,
    table: &'static str,
    /// Takes the bytes of one row: `$1` is its key.
    pub(super) empty: &'static str,
    /// An opt-out that waits is published anew from them.
    pub(super) opt_outs_need_them: bool,
}

pub(super) const EVENTS: Payloads = Payloads {
    key: "event_id",
    table: "events",
    empty: "UPDATE events SET body = NULL WHERE event_id = $1 AND body IS NOT NULL",
    opt_outs_need_them: true,
};
/// What is being redriven keeps its bytes until it is, and is gone then; the delivery does not begin. An opt-out that was
/// given up keeps them too: without a redrive this person would be texted on.
pub(super) const DEAD_LETTERS: Payloads = Payloads {
    key: "id",
    table: "dead_letters",
    empty: "UPDATE dead_letters SET body = NULL WHERE id = $1 AND body IS NOT NULL AND state = 'dead'
            AND handler NOT IN ('record_opt_out', 'flag_opt_out')",
    opt_outs_need_them: false,
};

/// Texts beside the payloads, with their table's key: what was noted, what failed and why, what operators wrote.
const TEXTS: [(&str, Key, &str, Text); 7] = [
    ("records_notes", Key::Text("note_id"), "body", Text::Plain),
    ("records_people", Key::Text("record_id"), "name", Text::Plain),
    ("dead_letters", Key::Text("id"), "detail", Text::Plain),
    ("attempts", Key::Number("seq"), "detail", Text::Plain),
    ("attempts", Key::Number("seq"), "requests", Text::Json),
    ("audit", Key::Number("seq"), "reason", Text::Plain),
    ("deliveries", Key::Delivery, "reason", Text::Plain),
];

/// A table's primary key. A row is changed by the key as the index has it: by an expression of it each change would look
/// through the whole table.
#[derive(Clone, Copy)]
enum Key {
    Text(&'static str),
    Number(&'static str),
    /// Event and handler.
    Delivery,
}

impl Key {
    /// As one text.
    fn selected(self) -> String {
        match self {
            Self::Text(column) => column.to_owned(),
            Self::Number(column) => format!("CAST({column} AS TEXT)"),
            Self::Delivery => "event_id || ' ' || handler".to_owned(),
        }
    }

    /// The condition that names one row, for [`Key::change`].
    fn condition(self) -> String {
        match self {
            Self::Text(column) | Self::Number(column) => format!("{column} = $2"),
            Self::Delivery => "event_id = $2 AND handler = $3".to_owned(),
        }
    }

    /// Runs a statement that sets `$1` in the row with this key.
    async fn change(
        self,
        connection: &mut Connection,
        statement: &str,
        key: &str,
        words: &str,
    ) -> Result<(), StoreError> {
        let unreadable = || StoreError::unreadable("row_key");
        let update = sqlx::query(AssertSqlSafe(statement)).bind(words);
        let update = match self {
            Self::Text(_) => update.bind(key),
            Self::Number(_) => update.bind(key.parse::<i64>().map_err(|_| unreadable())?),
            Self::Delivery => {
                let (event_id, handler) = key.rsplit_once(' ').ok_or_else(unreadable)?;
                update.bind(event_id).bind(handler)
            }
        };
        update.execute(connection).await?;
        Ok(())
    }
}

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
        let Payloads { table, key, .. } = payloads;
        let needles = whom.needles();
        let found: Vec<String> = (0..needles.len()).map(|i| blob_contains(self.db.dialect(), "body", i + 3)).collect();
        let statement = format!(
            "SELECT {key} AS row_key, event_id, body FROM {table}
             WHERE {key} > $1 AND body IS NOT NULL AND ({}) ORDER BY {key} LIMIT $2",
            found.join(" OR ")
        );
        let mut after = String::new();
        let mut scanned = Vec::new();
        loop {
            let mut select = sqlx::query(AssertSqlSafe(statement.clone()))
                .persistent(false)
                .bind(after.clone())
                .bind(i64::try_from(BATCH).unwrap_or(i64::MAX));
            for needle in &needles {
                select = select.bind(needle.as_bytes());
            }
            let mut reader = self.db.reader().await?;
            let rows = self.db.within_long(select.fetch_all(&mut reader.connection)).await?;
            reader.give_back();
            for row in &rows {
                after = row::text(row, "row_key")?;
                let body = row.try_get::<Vec<u8>, _>("body")?;
                let mut subjects = Subjects::of(&body);
                subjects.business.retain(|number| whom.phones.contains(number));
                if subjects.is_unreadable {
                    whom.find_in(&body, &mut subjects);
                }
                let mentions = whom.written().any(|number| number.is_in(&body, Text::Json));
                if mentions || whom.is_subject(&subjects) {
                    scanned.push(Hit { key: after.clone(), event_id: row::event_id(row)?, subjects, mentions });
                }
            }
            if rows.len() < BATCH {
                return Ok(Scanned(scanned));
            }
        }
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
        for (table, key, column, kind) in TEXTS {
            let needles: Vec<&str> = whom.written().map(|number| number.needle()).collect();
            let found: Vec<String> =
                (0..needles.len()).map(|i| blob_contains(self.db.dialect(), column, i + 1)).collect();
            if found.is_empty() {
                continue;
            }
            let statement = format!(
                "SELECT {} AS row_key, {column} AS words FROM {table} WHERE {column} IS NOT NULL AND ({})",
                key.selected(),
                found.join(" OR ")
            );
            let mut select = sqlx::query(AssertSqlSafe(statement)).persistent(false);
            for needle in needles {
                select = select.bind(needle.to_owned());
            }
            let mut reader = self.db.reader().await?;
            let rows = self.db.within_long(select.fetch_all(&mut reader.connection)).await?;
            reader.give_back();
            let mut changes = Vec::new();
            for row in &rows {
                let (key, words) = (row::text(row, "row_key")?, row::text(row, "words")?);
                if dry.is_some_and(|theirs| theirs.contains(&key)) {
                    continue;
                }
                if let Some(words) = whom.mask(words.as_bytes(), kind) {
                    let words = String::from_utf8(words).map_err(|_| StoreError::unreadable("text"))?;
                    changes.push((key, words));
                }
            }
            masked += changes.len() as u64;
            if dry.is_none() {
                self.change_texts(format!("UPDATE {table} SET {column} = $1 WHERE {}", key.condition()), key, changes)
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
