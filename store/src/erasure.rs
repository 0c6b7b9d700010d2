//! Erasing one person: payloads that name them, notes, people, contact links, effects keyed by the number, and the
//! work that waits and would make them anew. The opt-out evidence stays (ledger, state, flags), and so does waiting
//! work on opt-outs: it is what keeps them from being texted.
//!
//! A payload names a person where one of the usual spellings of the number stands in it as a number of its own, or
//! the path of a contact that we linked to the number. Bytes that are not text are searched as they are.
//!
//! What is not in the history or the dead letters yet is not found: ask again once it is.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::names::{DeliveryState, HandlerName};
use hookline_common::phone::Phone;
use sqlx::{AssertSqlSafe, Row};

use crate::db::Turn;
use crate::dialect::{self, Connection, blob_contains};
use crate::error::StoreError;
use crate::model::Erased;
use crate::{Store, audit, row};

/// Payloads that are looked at, and emptied, at a time.
const BATCH: usize = 100;
/// Why a delivery was discarded here. Nothing begins such a delivery again, a redrive that was under way neither.
pub(crate) const ERASED: &str = "erased";
/// Readers of another process may be at the write-ahead log: how often, and how far apart, it is tried.
const CHECKPOINTS: u32 = 5;
const BETWEEN_CHECKPOINTS: Duration = Duration::from_millis(200);

/// A table of payloads.
struct Payloads {
    key: &'static str,
    table: &'static str,
    /// Takes the bytes of one row: `$1` is its key.
    empty: &'static str,
}

const EVENTS: Payloads = Payloads {
    key: "event_id",
    table: "events",
    empty: "UPDATE events SET body = NULL WHERE event_id = $1 AND body IS NOT NULL",
};
/// What is being redriven keeps its bytes until it is, and is gone then; the delivery does not begin.
const DEAD_LETTERS: Payloads = Payloads {
    key: "id",
    table: "dead_letters",
    empty: "UPDATE dead_letters SET body = NULL WHERE id = $1 AND body IS NOT NULL AND state = 'dead'",
};

/// What was done about payloads and their events.
#[derive(Default)]
struct Emptied {
    payloads: u64,
    event_ids: BTreeSet<EventId>,
    discarded: BTreeSet<(EventId, HandlerName)>,
    still_waiting: BTreeSet<(EventId, HandlerName)>,
}

impl Store {
    /// Erases a person by phone. The queues and the destinations are the caller's.
    ///
    /// # Errors
    /// See [`StoreError`]; what was erased before stays erased, and asking again goes on.
    pub async fn erase(&self, phone: &Phone) -> Result<Erased, StoreError> {
        let ids = self.contact_ids(phone).await?;
        let needles = Needles::new(phone, &ids);
        let mut emptied = Emptied::default();
        self.empty_payloads(&EVENTS, &needles, &mut emptied).await?;
        let payloads = std::mem::take(&mut emptied.payloads);
        self.empty_payloads(&DEAD_LETTERS, &needles, &mut emptied).await?;
        let erased = self
            .db
            .write(Turn::Long, (phone.clone(), ids), |connection, (phone, ids)| {
                Box::pin(erase_records(connection, phone, ids))
            })
            .await?;
        Ok(Erased {
            payloads,
            dead_letters: emptied.payloads,
            event_ids: emptied.event_ids.into_iter().collect(),
            discarded: emptied.discarded.into_iter().collect(),
            still_waiting: emptied.still_waiting.into_iter().collect(),
            log_kept: !self.empty_log().await?,
            ..erased
        })
    }

    /// `false` where readers kept it from being emptied.
    async fn empty_log(&self) -> Result<bool, StoreError> {
        for _ in 1..CHECKPOINTS {
            if self.db.checkpoint().await? {
                return Ok(true);
            }
            tokio::time::sleep(BETWEEN_CHECKPOINTS).await;
        }
        self.db.checkpoint().await
    }

    /// Ids of the contacts linked to the number.
    async fn contact_ids(&self, phone: &Phone) -> Result<Vec<String>, StoreError> {
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT contact_id FROM contact_links WHERE phone = $1 AND contact_id IS NOT NULL
             UNION SELECT contact_id FROM records_people WHERE phone = $1 AND contact_id IS NOT NULL",
                )
                .bind(phone.as_e164()),
            )
            .await?;
        rows.iter().map(|row| row::text(row, "contact_id")).collect()
    }

    async fn empty_payloads(
        &self,
        payloads: &Payloads,
        needles: &Needles,
        emptied: &mut Emptied,
    ) -> Result<(), StoreError> {
        let Payloads { table, key, .. } = payloads;
        let texts = needles.texts();
        let found: Vec<String> = (0..texts.len()).map(|i| blob_contains(self.db.dialect(), "body", i + 3)).collect();
        let statement = format!(
            "SELECT {key} AS row_key, event_id, body FROM {table}
             WHERE {key} > $1 AND body IS NOT NULL AND ({}) ORDER BY {key} LIMIT $2",
            found.join(" OR ")
        );
        let mut after = String::new();
        loop {
            let mut select = sqlx::query(AssertSqlSafe(statement.clone()))
                .persistent(false)
                .bind(after.clone())
                .bind(i64::try_from(BATCH).unwrap_or(i64::MAX));
            for text in &texts {
                select = select.bind(text.as_bytes());
            }
            let mut reader = self.db.reader().await?;
            let rows = self.db.within_long(select.fetch_all(&mut reader.connection)).await?;
            reader.give_back();
            let mut theirs = Vec::new();
            for row in &rows {
                after = row::text(row, "row_key")?;
                if needles.are_in(&row.try_get::<Vec<u8>, _>("body")?) {
                    theirs.push((after.clone(), row::event_id(row)?));
                }
            }
            self.empty(payloads.empty, theirs, emptied).await?;
            if rows.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Bytes and waiting work go together: once its bytes are gone, nothing finds the event any more.
    async fn empty(
        &self,
        statement: &'static str,
        rows: Vec<(String, EventId)>,
        emptied: &mut Emptied,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut rows = rows;
        rows.sort_by(|(_, a), (_, b)| a.cmp(b));
        let done = self
            .db
            .write(Turn::Long, rows, move |connection, rows| {
                Box::pin(async move {
                    let mut done = Emptied::default();
                    for (key, event_id) in rows {
                        // Deliveries before what belongs to them, as everybody does.
                        discard_waiting(connection, event_id, &mut done).await?;
                        let row = sqlx::query(statement).bind(key.as_str()).execute(&mut *connection).await?;
                        done.payloads += row.rows_affected();
                        done.event_ids.insert(event_id.clone());
                    }
                    Ok(done)
                })
            })
            .await?;
        emptied.payloads += done.payloads;
        emptied.event_ids.extend(done.event_ids);
        emptied.discarded.extend(done.discarded);
        emptied.still_waiting.extend(done.still_waiting);
        Ok(())
    }
}

/// Gives up what waits for an event, but for what records it and what keeps the person from being texted.
async fn discard_waiting(
    connection: &mut Connection,
    event_id: &EventId,
    done: &mut Emptied,
) -> Result<(), StoreError> {
    // Locked: a handler must not end one of them between this and its being given up.
    let statement = format!(
        "SELECT handler FROM deliveries WHERE event_id = $1 AND state = $2 ORDER BY handler {}",
        dialect::for_update(connection)
    );
    let waiting = sqlx::query(AssertSqlSafe(statement))
        .bind(event_id.as_str())
        .bind(DeliveryState::Waiting.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for row in &waiting {
        // A newer version may know more handlers.
        let Ok(handler) = row::text(row, "handler")?.parse() else { continue };
        match handler {
            HandlerName::RecordOptOut | HandlerName::FlagOptOut | HandlerName::RecordHistory => {
                done.still_waiting.insert((event_id.clone(), handler));
            }
            HandlerName::LogNote | HandlerName::CreateContact | HandlerName::SyncContact => {
                sqlx::query("UPDATE deliveries SET state = $3, reason = $4 WHERE event_id = $1 AND handler = $2")
                    .bind(event_id.as_str())
                    .bind(handler.as_str())
                    .bind(DeliveryState::Discarded.as_str())
                    .bind(ERASED)
                    .execute(&mut *connection)
                    .await?;
                done.discarded.insert((event_id.clone(), handler));
            }
        }
    }
    Ok(())
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
    /// Paths of contacts, with their slashes as they are and as JSON may escape them. The slug alone is too short to
    /// tell anything.
    contacts: Vec<String>,
}

impl Needles {
    /// `ids` are contact ids as TextUs sends them.
    fn new(phone: &Phone, ids: &[String]) -> Self {
        let slugs = ids.iter().filter_map(|id| id.rsplit('/').next()).filter(|slug| !slug.is_empty());
        let contacts = slugs.flat_map(|slug| [format!("/contacts/{slug}"), format!(r"\/contacts\/{slug}")]).collect();
        Self { numbers: spellings(phone), contacts }
    }

    fn texts(&self) -> Vec<&str> {
        self.numbers.iter().chain(&self.contacts).map(String::as_str).collect()
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
        let slug_ends = |_: &[u8], after: &[u8]| {
            !after.first().is_some_and(|next| next.is_ascii_alphanumeric() || matches!(next, b'-' | b'_'))
        };
        self.numbers.iter().any(|number| occurs(body, number, stands_alone))
            || self.contacts.iter().any(|path| occurs(body, path, slug_ends))
    }
}

/// Whether `text` occurs in `body` between bytes that `fits` accepts.
fn occurs(body: &[u8], text: &str, fits: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    let len = text.len();
    body.windows(len).enumerate().any(|(at, window)| window == text.as_bytes() && fits(&body[..at], &body[at + len..]))
}
