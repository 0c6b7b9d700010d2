//! Erasing one person: the payloads that are about them, notes, people, contact links, effects keyed by their numbers, and
//! the work that waits and would make them anew. The opt-out evidence stays (ledger, state, flags), and so does waiting
//! work on opt-outs: it is what keeps them from being texted.
//!
//! The person is who has the number, with all their numbers; several who share it are erased together. A number that
//! somebody else has too, or that is an account's own, is not taken for theirs.
//!
//! An event is about them where its own fields name one of their numbers or contacts ([`Subjects`]). A body without fields,
//! which is no JSON object, is about them where one of these stands anywhere in it: nobody can tell what else in it is
//! theirs. Where somebody else's text has one of their numbers, the number is masked, and whatever waits for that event goes on: with the masked text,
//! also where the broker has the other one ([`crate::deliveries::model::Begin::GoMasked`]).
//!
//! An opt-out that waits keeps its payload, for without that a copy that a pause holds or the broker loses could not be
//! published anew; it goes once the opt-out has ended (`kept`).
//!
//! What is not in the history or the dead letters yet is not found: ask again once it is.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::names::{DeliveryState, Destination, HandlerName};
use hookline_common::phone::Phone;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::row;
use crate::operations::audit;
use crate::operations::erasure::whom::Whom;
use crate::operations::model::{Erased, RemoteNote};
use crate::records::people;
use crate::threads;
use crate::threads::model::WrittenPart;

mod copies;
mod kept;
mod scan;
mod whom;
mod windows;

pub(crate) use copies::copy_gone;
use scan::{DEAD_LETTERS, EVENTS, Found, Payloads};

/// Rows that one transaction touches.
const BATCH: usize = 100;
/// Why a delivery was discarded here. Nothing begins such a delivery again, a redrive that was under way neither.
pub(crate) const ERASED: &str = "erased";
/// Readers of another process may be at the write-ahead log: how often, and how far apart, it is tried.
const CHECKPOINTS: u32 = 5;
const BETWEEN_CHECKPOINTS: Duration = Duration::from_millis(200);

/// What was done about payloads and their events.
#[derive(Default)]
struct Emptied {
    payloads: u64,
    /// Not yet: an opt-out needs them.
    kept: u64,
    event_ids: BTreeSet<EventId>,
    discarded: BTreeSet<(EventId, HandlerName)>,
    still_waiting: BTreeSet<(EventId, HandlerName)>,
}

impl Store {
    /// Erases the person who has this phone. The queues and the destinations are the caller's.
    ///
    /// # Errors
    /// `Invalid` where the number is an account's own, see [`StoreError`] for others; what was erased before stays erased,
    /// and asking again goes on.
    pub async fn erase(&self, phone: &Phone) -> Result<Erased, StoreError> {
        let (whom, [events, dead_letters]) = self.find(phone).await?;
        let mut emptied = Emptied::default();
        self.empty_payloads(&EVENTS, events.theirs, &mut emptied).await?;
        let payloads = std::mem::take(&mut emptied.payloads);
        self.empty_payloads(&DEAD_LETTERS, dead_letters.theirs, &mut emptied).await?;
        let erased = self
            .db
            .write_long((phone.clone(), whom.clone()), |connection, (phone, whom)| {
                Box::pin(erase_records(connection, phone, whom))
            })
            .await?;
        let mut masked = self.mask_payloads(&EVENTS, events.mention, &whom).await?;
        masked += self.mask_payloads(&DEAD_LETTERS, dead_letters.mention, &whom).await?;
        masked += self.mask_texts(&whom, None).await?;
        Ok(Erased {
            payloads,
            payloads_kept: emptied.kept,
            dead_letters: emptied.payloads,
            masked,
            event_ids: emptied.event_ids.into_iter().collect(),
            discarded: emptied.discarded.into_iter().collect(),
            still_waiting: emptied.still_waiting.into_iter().collect(),
            log_kept: !self.empty_log().await?,
            ..erased
        })
    }

    /// What [`Store::erase`] would do now; nothing is changed.
    ///
    /// # Errors
    /// As [`Store::erase`].
    pub async fn would_erase(&self, phone: &Phone) -> Result<Erased, StoreError> {
        let (whom, [events, dead_letters]) = self.find(phone).await?;
        let mut waiting = Emptied::default();
        for (_, event_id) in &events.theirs {
            waiting.kept += u64::from(self.look_at_waiting(event_id, &mut waiting).await?);
        }
        for (_, event_id) in &dead_letters.theirs {
            self.look_at_waiting(event_id, &mut waiting).await?;
        }
        let [notes, contact_links] = self.records_of(&whom).await?;
        let mut theirs = self.thread_keys_of(&whom).await?;
        theirs.extend(notes.union(&whom.records).cloned());
        let masked = self.mask_texts(&whom, Some(&theirs)).await?;
        Ok(Erased {
            numbers: whom.phones.len() as u64,
            payloads: events.theirs.len() as u64 - waiting.kept,
            payloads_kept: waiting.kept,
            dead_letters: dead_letters.theirs.len() as u64,
            notes: notes.len() as u64,
            persons: whom.records.len() as u64,
            contact_links: contact_links.len() as u64,
            remote_notes: self.remote_notes_of(&whom).await?,
            masked: masked + (events.mention.len() + dead_letters.mention.len()) as u64,
            event_ids: waiting.event_ids.into_iter().collect(),
            discarded: waiting.discarded.into_iter().collect(),
            still_waiting: waiting.still_waiting.into_iter().collect(),
            log_kept: false,
        })
    }

    /// The notes that other systems of record have of whom [`Store::erase`] would erase now; nothing is changed.
    ///
    /// # Errors
    /// As [`Store::erase`].
    pub async fn remote_notes(&self, phone: &Phone) -> Result<Vec<RemoteNote>, StoreError> {
        let (whom, _) = self.find(phone).await?;
        self.remote_notes_of(&whom).await
    }

    /// Who is meant, and which payloads of each table are about them or mention them.
    async fn find(&self, phone: &Phone) -> Result<(Whom, [Found; 2]), StoreError> {
        let mut whom = self.whom(phone).await?;
        let (events, dead_letters) = (self.scan(&EVENTS, &whom).await?, self.scan(&DEAD_LETTERS, &whom).await?);
        let mut business = self.business_numbers_of_notes(&whom).await?;
        business.extend(events.business().chain(dead_letters.business()).cloned());
        if business.contains(phone) {
            return Err(StoreError::Invalid(format!(
                "{} is a business number of one of your accounts, not a person's: erasing it would take the texts of \
                 everybody who wrote to it",
                phone.masked()
            )));
        }
        whom.leave(&business);
        let found = [events.split(&whom), dead_letters.split(&whom)];
        Ok((whom, found))
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

    async fn empty_payloads(
        &self,
        payloads: &'static Payloads,
        rows: Vec<(String, EventId)>,
        emptied: &mut Emptied,
    ) -> Result<(), StoreError> {
        for rows in rows.chunks(BATCH) {
            self.empty(payloads, rows.to_vec(), emptied).await?;
        }
        Ok(())
    }

    /// Bytes and waiting work go together: once its bytes are gone, nothing finds the event any more.
    async fn empty(
        &self,
        payloads: &'static Payloads,
        mut rows: Vec<(String, EventId)>,
        emptied: &mut Emptied,
    ) -> Result<(), StoreError> {
        rows.sort_by(|(_, a), (_, b)| a.cmp(b));
        let done = self
            .db
            .write_long(rows, move |connection, rows| {
                Box::pin(async move {
                    let mut done = Emptied::default();
                    for (key, event_id) in rows {
                        // Deliveries before what belongs to them, as everybody does.
                        let is_needed = discard_waiting(connection, event_id, &mut done).await?;
                        done.event_ids.insert(event_id.clone());
                        if is_needed && payloads.opt_outs_need_them {
                            done.kept += 1;
                            continue;
                        }
                        let row = sqlx::query(payloads.empty).bind(key.as_str()).execute(&mut *connection).await?;
                        done.payloads += row.rows_affected();
                    }
                    Ok(done)
                })
            })
            .await?;
        emptied.payloads += done.payloads;
        emptied.kept += done.kept;
        emptied.event_ids.extend(done.event_ids);
        emptied.discarded.extend(done.discarded);
        emptied.still_waiting.extend(done.still_waiting);
        Ok(())
    }

    /// Whether an opt-out needs the payload.
    async fn look_at_waiting(&self, event_id: &EventId, waiting: &mut Emptied) -> Result<bool, StoreError> {
        let rows = self.db.rows(sqlx::query(UNENDED).bind(event_id.as_str())).await?;
        waiting.event_ids.insert(event_id.clone());
        let mut is_needed = false;
        for row in &rows {
            let Some(unended) = unended(row)? else { continue };
            is_needed |= unended.is_opt_out();
            if unended.waits {
                let which =
                    if is_given_up(unended.handler) { &mut waiting.discarded } else { &mut waiting.still_waiting };
                which.insert((event_id.clone(), unended.handler));
            }
        }
        Ok(is_needed)
    }
}

/// All but what records the event and what keeps the person from being texted.
fn is_given_up(handler: HandlerName) -> bool {
    match handler {
        HandlerName::RecordOptOut | HandlerName::FlagOptOut | HandlerName::RecordHistory => false,
        HandlerName::LogNote | HandlerName::CreateContact | HandlerName::SyncContact => true,
    }
}

/// Deliveries of one event that may go on; a redrive lets dead letters go on.
const UNENDED: &str =
    "SELECT handler, state FROM deliveries WHERE event_id = $1 AND state IN ('waiting', 'dead_lettered')
     ORDER BY handler";

struct Unended {
    handler: HandlerName,
    /// Not a dead letter.
    waits: bool,
}

impl Unended {
    fn is_opt_out(&self) -> bool {
        matches!(self.handler, HandlerName::RecordOptOut | HandlerName::FlagOptOut)
    }
}

/// `None`: a newer version may know more handlers.
fn unended(row: &DbRow) -> Result<Option<Unended>, StoreError> {
    let Ok(handler) = row::text(row, "handler")?.parse() else { return Ok(None) };
    let waits = row::name::<DeliveryState>(row, "state")? == DeliveryState::Waiting;
    Ok(Some(Unended { handler, waits }))
}

/// Gives waiting work up; whether an opt-out needs the payload.
async fn discard_waiting(
    connection: &mut Connection,
    event_id: &EventId,
    done: &mut Emptied,
) -> Result<bool, StoreError> {
    // Locked: a handler must not end one of them between this and its being given up.
    let statement = format!("{UNENDED} {}", dialect::for_update(connection));
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(event_id.as_str()).fetch_all(&mut *connection).await?;
    let mut is_needed = false;
    for row in &rows {
        let Some(unended) = unended(row)? else { continue };
        let Unended { handler, waits } = unended;
        if unended.is_opt_out() {
            kept::mark(connection, event_id, handler).await?;
            is_needed = true;
        }
        if !waits {
            continue;
        }
        if !is_given_up(handler) {
            done.still_waiting.insert((event_id.clone(), handler));
            continue;
        }
        sqlx::query(
            "UPDATE deliveries SET state = $3, reason = $4, erased_copy = 1 WHERE event_id = $1 AND handler = $2",
        )
        .bind(event_id.as_str())
        .bind(handler.as_str())
        .bind(DeliveryState::Discarded.as_str())
        .bind(ERASED)
        .execute(&mut *connection)
        .await?;
        done.discarded.insert((event_id.clone(), handler));
    }
    Ok(is_needed)
}

/// Removes the person's threads and links. Returns the notes that other systems of record have.
async fn erase_threads(connection: &mut Connection, whom: &Whom) -> Result<Vec<RemoteNote>, StoreError> {
    let phones = whom.phones.iter().map(|phone| (phone.as_e164().to_owned(), "phone"));
    let contacts = whom.contacts.iter().map(|contact| (contact.clone(), "contact_id"));
    let mut notes = Vec::new();
    for (value, column) in phones.chain(contacts) {
        let of_theirs = format!("thread_id IN (SELECT thread_id FROM threads WHERE {column} = $1)");
        let written = format!("SELECT system, parts FROM thread_writes WHERE {of_theirs}");
        let rows = sqlx::query(AssertSqlSafe(written)).bind(value.as_str()).fetch_all(&mut *connection).await?;
        for row in &rows {
            let system = row::text(row, "system")?;
            if system == Destination::SystemOfRecord.as_str() {
                continue;
            }
            let note = |part: WrittenPart| RemoteNote { system: system.clone(), id: part.id };
            notes.extend(threads::parts(row)?.into_iter().filter(WrittenPart::is_there).map(note));
        }
        for statement in [
            format!("DELETE FROM thread_writes WHERE {of_theirs}"),
            format!("DELETE FROM thread_messages WHERE {of_theirs}"),
            format!("DELETE FROM threads WHERE {column} = $1"),
            "DELETE FROM person_links WHERE value = $1 OR person_id IN
                 (SELECT person_id FROM person_links WHERE value = $1 AND system <> 'system_of_record' AND person_id <> '')"
                .to_owned(),
        ] {
            sqlx::query(AssertSqlSafe(statement)).bind(value.as_str()).execute(&mut *connection).await?;
        }
    }
    Ok(notes)
}

async fn erase_records(connection: &mut Connection, phone: &Phone, whom: &Whom) -> Result<Erased, StoreError> {
    let mut erased = Erased { numbers: whom.phones.len() as u64, ..Erased::default() };
    let delete = async |connection: &mut Connection, statement: &'static str, value: &str| {
        let done = sqlx::query(statement).bind(value.to_owned()).execute(connection).await?;
        Ok::<_, StoreError>(done.rows_affected())
    };
    for record_id in &whom.records {
        erased.notes += delete(connection, "DELETE FROM records_notes WHERE person_id = $1", record_id).await?;
        erased.persons += people::remove_person(connection, record_id).await?;
    }
    for contact in &whom.contacts {
        erased.notes += delete(connection, "DELETE FROM records_notes WHERE contact_id = $1", contact).await?;
        erased.contact_links += delete(connection, "DELETE FROM contact_links WHERE contact_id = $1", contact).await?;
        // Numbers that a later event told are part of the key.
        let numbers = "DELETE FROM effects WHERE handler = 'sync_contact' AND state <> 'claimed'
            AND effect_key > $1 || ' ' AND effect_key < $1 || '!'";
        delete(connection, numbers, contact).await?;
    }
    for phone in &whom.phones {
        let phone = phone.as_e164();
        erased.notes += delete(connection, "DELETE FROM records_notes WHERE phone = $1", phone).await?;
        erased.contact_links += delete(connection, "DELETE FROM contact_links WHERE phone = $1", phone).await?;
        // A back-fill then begins anew.
        delete(connection, "DELETE FROM syncs WHERE done_to = $1", phone).await?;
        // An account and phone is the key of a contact's effect. A claim that is being worked on would only be repeated.
        delete(connection, "DELETE FROM effects WHERE effect_key = $1 AND state <> 'claimed'", phone).await?;
    }
    erased.remote_notes = erase_threads(connection, whom).await?;
    audit::note(connection, "erase", &phone.masked(), None).await?;
    Ok(erased)
}
