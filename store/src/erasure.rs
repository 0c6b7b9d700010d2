//! Erasing one person: payloads that name them, notes, people, contact links, effects keyed by the number. The opt-out evidence stays (ledger,
//! state, flags): it is what keeps them from being texted.
//!
//! A payload names a person where one of the usual spellings of the number stands in it as a number of its own, or
//! the id of a contact that we linked to the number. Bytes that are not text are searched as they are.

use std::collections::BTreeSet;

use hookline_common::event::EventId;
use hookline_common::phone::Phone;
use sqlx::{AssertSqlSafe, Row};

use crate::dialect::{Connection, blob_contains};
use crate::error::StoreError;
use crate::model::Erased;
use crate::{Store, audit, row};

/// Payloads that are looked at, and emptied, at a time.
const BATCH: usize = 100;
/// Shorter ids would be found in what has nothing to do with them.
const SHORTEST_ID: usize = 8;

/// A table of payloads.
struct Payloads {
    table: &'static str,
    key: &'static str,
}

impl Store {
    /// Erases a person by phone. The queues and the destinations are the caller's.
    ///
    /// # Errors
    /// See [`StoreError`]; what was erased before stays erased, and asking again goes on.
    pub async fn erase(&self, phone: &Phone) -> Result<Erased, StoreError> {
        let needles = Needles { numbers: spellings(phone), ids: self.contact_ids(phone).await? };
        let mut event_ids = BTreeSet::new();
        let events = Payloads { table: "events", key: "event_id" };
        let payloads = self.empty_payloads(&events, &needles, &mut event_ids).await?;
        let dead = Payloads { table: "dead_letters", key: "id" };
        let dead_letters = self.empty_payloads(&dead, &needles, &mut event_ids).await?;
        let mut erased = self
            .db
            .write((phone.clone(), needles.ids), |connection, (phone, ids)| {
                Box::pin(erase_records(connection, phone, ids))
            })
            .await?;
        erased.payloads = payloads;
        erased.dead_letters = dead_letters;
        erased.event_ids = event_ids.into_iter().collect();
        self.db.checkpoint().await?;
        Ok(erased)
    }

    /// Ids of the contacts linked to the number, without their path: JSON may escape its slashes.
    async fn contact_ids(&self, phone: &Phone) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT contact_id FROM contact_links WHERE phone = $1 AND contact_id IS NOT NULL
             UNION SELECT contact_id FROM records_people WHERE phone = $1 AND contact_id IS NOT NULL",
        )
        .bind(phone.as_e164())
        .fetch_all(self.db.readers())
        .await?;
        rows.iter().map(|row| row::text(row, "contact_id")).collect()
    }

    async fn empty_payloads(
        &self,
        payloads: &Payloads,
        needles: &Needles,
        event_ids: &mut BTreeSet<EventId>,
    ) -> Result<u64, StoreError> {
        let Payloads { table, key } = payloads;
        let texts = needles.texts();
        let found: Vec<String> = (0..texts.len()).map(|i| blob_contains("body", i + 3)).collect();
        let statement = format!(
            "SELECT {key} AS row_key, event_id, body FROM {table}
             WHERE {key} > $1 AND body IS NOT NULL AND ({}) ORDER BY {key} LIMIT $2",
            found.join(" OR ")
        );
        let mut after = String::new();
        let mut emptied = 0;
        loop {
            let mut select = sqlx::query(AssertSqlSafe(statement.clone()))
                .persistent(false)
                .bind(after.clone())
                .bind(i64::try_from(BATCH).unwrap_or(i64::MAX));
            for text in &texts {
                select = select.bind(text.as_bytes());
            }
            let rows = select.fetch_all(self.db.readers()).await?;
            let mut keys = Vec::new();
            for row in &rows {
                after = row::text(row, "row_key")?;
                if needles.are_in(&row.try_get::<Vec<u8>, _>("body")?) {
                    event_ids.insert(row::event_id(row)?);
                    keys.push(after.clone());
                }
            }
            emptied += self.empty(payloads, keys).await?;
            if rows.len() < BATCH {
                return Ok(emptied);
            }
        }
    }

    async fn empty(&self, Payloads { table, key }: &Payloads, keys: Vec<String>) -> Result<u64, StoreError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let statement = format!("UPDATE {table} SET body = NULL WHERE {key} = $1 AND body IS NOT NULL");
        self.db
            .write((statement, keys), |connection, (statement, keys)| {
                Box::pin(async move {
                    let mut emptied = 0;
                    for key in keys {
                        let done = sqlx::query(AssertSqlSafe(statement.clone()))
                            .bind(key.as_str())
                            .execute(&mut *connection)
                            .await?;
                        emptied += done.rows_affected();
                    }
                    Ok(emptied)
                })
            })
            .await
    }
}

async fn erase_records(connection: &mut Connection, phone: &Phone, ids: &[String]) -> Result<Erased, StoreError> {
    let mut erased = Erased::default();
    for id in ids {
        let notes = sqlx::query("DELETE FROM records_notes WHERE contact_id = $1")
            .bind(id.as_str())
            .execute(&mut *connection)
            .await?;
        erased.notes += notes.rows_affected();
    }
    // An account and phone is the key of a contact's effect. A claim that is being worked on would only be repeated.
    sqlx::query("DELETE FROM effects WHERE effect_key = $1 AND state <> 'claimed'")
        .bind(phone.as_e164())
        .execute(&mut *connection)
        .await?;
    let mut removed = [0; 3];
    let statements = [
        "DELETE FROM records_notes WHERE phone = $1 OR person_id IN
             (SELECT record_id FROM records_people WHERE phone = $1)",
        "DELETE FROM records_people WHERE phone = $1",
        "DELETE FROM contact_links WHERE phone = $1",
    ];
    for (statement, removed) in statements.into_iter().zip(&mut removed) {
        let done = sqlx::query(statement).bind(phone.as_e164()).execute(&mut *connection).await?;
        *removed = done.rows_affected();
    }
    let [notes, persons, contact_links] = removed;
    audit::note(connection, "erase", &phone.masked(), None).await?;
    Ok(Erased { notes: erased.notes + notes, persons, contact_links, ..Erased::default() })
}

/// The number as payloads write it, without country code; E.164 and `1-…` hold one of these.
fn spellings(phone: &Phone) -> Vec<String> {
    let digits = phone.ten_digits();
    let mut all = vec![digits.to_owned()];
    if phone.as_e164().starts_with("+1") && digits.len() == 10 {
        let (area, exchange, line) = (&digits[..3], &digits[3..6], &digits[6..]);
        all.push(format!("({area}) {exchange}-{line}"));
        all.extend(["-", ".", " "].map(|mark| [area, exchange, line].join(mark)));
    }
    all
}

/// What to look for in a payload.
struct Needles {
    numbers: Vec<String>,
    /// Contact ids as TextUs sends them.
    ids: Vec<String>,
}

impl Needles {
    fn id_segments(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().filter_map(|id| id.rsplit('/').next()).filter(|id| id.len() >= SHORTEST_ID)
    }

    fn texts(&self) -> Vec<&str> {
        self.numbers.iter().map(String::as_str).chain(self.id_segments()).collect()
    }

    fn are_in(&self, body: &[u8]) -> bool {
        let stands_alone = |before: &[u8], after: &[u8]| {
            let number_goes_on = after.first().is_some_and(u8::is_ascii_digit);
            let begins_earlier = match before {
                // Only the country code of the same number may touch it.
                [.., other, b'1'] => other.is_ascii_digit(),
                [b'1'] => false,
                [.., last] => last.is_ascii_digit(),
                [] => false,
            };
            !number_goes_on && !begins_earlier
        };
        let is_whole = |before: &[u8], after: &[u8]| {
            !before.last().is_some_and(u8::is_ascii_alphanumeric)
                && !after.first().is_some_and(u8::is_ascii_alphanumeric)
        };
        self.numbers.iter().any(|number| occurs(body, number, stands_alone))
            || self.id_segments().any(|id| occurs(body, id, is_whole))
    }
}

/// Whether `text` occurs in `body` between bytes that `fits` accepts.
fn occurs(body: &[u8], text: &str, fits: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let len = text.len();
    body.windows(len).enumerate().any(|(at, window)| window == text.as_bytes() && fits(&body[..at], &body[at + len..]))
}
