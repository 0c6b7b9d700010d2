//! Begins, ends and logs attempts of deliveries, in batches.

use std::time::Duration;

use hookline_broker::Again;
use hookline_common::event::{Event, EventId};
use hookline_common::names::{DeliveryState, HandlerName};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::{Ask, Batches, Db, row, statements};
use crate::deliveries::model::{AttemptRecord, Begin, Copied, Ending};
use crate::effects::claims::{self, Wanted};
use crate::effects::completed;
use crate::effects::completed::CompletedEffect;
use crate::effects::model::{Claim, ClaimRequest};
use crate::operations::erasure::{self, ERASED};

/// Longer than any attempt takes. An attempt that has begun and has recorded nothing by then is in no worker's hands.
const IN_HAND: Duration = Duration::from_mins(5);

impl Store {
    /// Counts the attempt, unless the delivery is settled or a later attempt has begun.
    ///
    /// `again` lets a redrive or replay begin anew if the delivery was skipped or discarded. A dead-lettered delivery
    /// begins only after [`Store::mark_redriving`], a done or erased one never.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn begin(
        &self,
        event: &Event,
        handler: HandlerName,
        attempt: u32,
        again: Option<Again>,
    ) -> Result<Begin, StoreError> {
        let copy = Copied { attempt, again, copy: None };
        self.begin_claiming(event, handler, copy, None).await.map(|(begin, _)| begin)
    }

    /// As [`Store::begin`], unless a newer copy of the delivery has begun. If the attempt may go ahead, this also
    /// claims an effect like [`Store::claim`], in the same transaction. If the claim alone fails, the attempt begins
    /// without it and the claim in the answer is `None`: the attempt can then record the event and fail by itself.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn begin_claiming(
        &self,
        event: &Event,
        handler: HandlerName,
        copied: Copied,
        claim: Option<&ClaimRequest<'_>>,
    ) -> Result<(Begin, Option<Claim>), StoreError> {
        let ask = BeginAsk {
            event_id: event.id.clone(),
            handler,
            attempt: i64::from(copied.attempt),
            copy: copied.copy,
            again: copied.again.is_some(),
            wanted: claim.map(Wanted::from),
        };
        let begun = match self.begins.ask(ask.clone()).await {
            Err(StoreError::Contended(_) | StoreError::Invalid(_)) if ask.wanted.is_some() => {
                self.begins.ask(BeginAsk { wanted: None, ..ask }).await
            }
            begun => begun,
        };
        let (begin, claim) = begun?;
        Ok((begin, claim.map(|claim| self.by_our_clock(claim))))
    }

    /// Settles the delivery, logs its last attempt and notes its completed effects, in one transaction. `Done` replaces
    /// any other state and is never replaced; `Skipped` leaves a dead letter or a discarded delivery as it is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn finish(
        &self,
        record: &AttemptRecord,
        ending: Ending,
        effects: &[CompletedEffect],
    ) -> Result<(), StoreError> {
        self.finishes.ask(FinishAsk { record: record.clone(), ending, effects: effects.to_vec() }).await
    }

    /// Logs an attempt that did not settle the delivery (dead-lettered), and also notes its completed effects.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn log_attempt(&self, record: &AttemptRecord, effects: &[CompletedEffect]) -> Result<(), StoreError> {
        self.db
            .write((record.clone(), effects.to_vec()), |connection, (record, effects)| {
                Box::pin(async move {
                    log(connection, &[record]).await?;
                    completed::note(connection, effects.iter()).await
                })
            })
            .await
    }
}

/// An attempt that asks to begin.
#[derive(Clone)]
pub(crate) struct BeginAsk {
    event_id: EventId,
    handler: HandlerName,
    attempt: i64,
    copy: Option<Timestamp>,
    again: bool,
    wanted: Option<Wanted>,
}

/// An attempt that settles its delivery.
#[derive(Clone)]
pub(crate) struct FinishAsk {
    record: AttemptRecord,
    ending: Ending,
    effects: Vec<CompletedEffect>,
}

impl Ask for BeginAsk {
    type Answer = (Begin, Option<Claim>);

    fn about(&self) -> Vec<&str> {
        std::iter::once(self.event_id.as_str()).chain(self.wanted.as_ref().map(Wanted::effect_key)).collect()
    }

    const APART: bool = true;
}

impl Ask for FinishAsk {
    type Answer = ();

    fn about(&self) -> Vec<&str> {
        std::iter::once(self.record.event_id.as_str())
            .chain(self.effects.iter().map(CompletedEffect::effect_key))
            .collect()
    }

    const APART: bool = true;
}

pub(crate) fn begins(db: &Db) -> Batches<BeginAsk> {
    let clock = db.clock().clone();
    Batches::start(db, move |connection, asks: &Vec<BeginAsk>| {
        let now = clock.now().as_millis();
        Box::pin(async move {
            let begins = begin_all(connection, asks).await?;
            // Every batch that locks both locks deliveries before effects.
            let going: Vec<&Wanted> = asks
                .iter()
                .zip(&begins)
                .filter(|(_, begin)| goes(begin))
                .filter_map(|(ask, _)| ask.wanted.as_ref())
                .collect();
            let mut claims = claims::claim_all(connection, &going, now).await?.into_iter();
            let claim = |(begin, ask): (Begin, &BeginAsk)| {
                let claim = if goes(&begin) && ask.wanted.is_some() { claims.next() } else { None };
                (begin, claim)
            };
            Ok(begins.into_iter().zip(asks).map(claim).collect())
        })
    })
}

pub(crate) fn finishes(db: &Db) -> Batches<FinishAsk> {
    Batches::start(db, |connection, asks| Box::pin(finish_all(connection, asks)))
}

/// Returns one answer per ask, in the order of the asks.
async fn begin_all(connection: &mut Connection, asks: &[BeginAsk]) -> Result<Vec<Begin>, StoreError> {
    let mut sorted: Vec<(usize, &BeginAsk)> = asks.iter().enumerate().collect();
    // This is the order in which all jobs lock deliveries.
    sorted.sort_by_key(|(_, ask)| (ask.event_id.as_str(), ask.handler.as_str()));
    let mut answers = Vec::with_capacity(asks.len());
    // Redrives and replays need a statement of their own.
    for alike in sorted.chunk_by(|(_, one), (_, next)| one.again == next.again) {
        for chunk in statements::chunks(alike) {
            let counted = count(connection, chunk).await?;
            for &(place, ask) in chunk {
                let counted = counted
                    .iter()
                    .find(|row| row.event_id == ask.event_id.as_str() && row.handler == ask.handler.as_str());
                let begin = match counted {
                    Some(Counted { masked: true, .. }) => Begin::GoMasked,
                    Some(_) => Begin::Go,
                    None => standing(connection, ask).await?,
                };
                answers.push((place, begin));
            }
        }
    }
    answers.sort_by_key(|(place, _)| *place);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Counts the attempts that may begin, and returns their events and handlers. Either all of the asks are `again`, or
/// none is.
///
/// Several copies of one delivery may be on their way. The newest copy counts and, of equally new ones, the one of the
/// later attempt. The row holds the copy and attempt that began last, so a running delivery never looks stale.
async fn count(connection: &mut Connection, asks: &[(usize, &BeginAsk)]) -> Result<Vec<Counted>, StoreError> {
    let next = asks.len() * 7;
    let (again, erased) = (next + 1, next + 2);
    // A redrive or replay of a settled delivery counts from its own attempt. If the old run's count stayed, retries of
    // the new run would look like stale copies.
    let statement = format!(
        "INSERT INTO deliveries (event_id, handler, state, attempt, created_ms, due_ms, copy_ms) VALUES {}
         ON CONFLICT (event_id, handler) DO UPDATE SET
             attempt = CASE WHEN deliveries.state = 'waiting' AND deliveries.attempt > excluded.attempt
                             AND COALESCE(deliveries.copy_ms, 0) = COALESCE(excluded.copy_ms, deliveries.copy_ms, 0)
                            THEN deliveries.attempt ELSE excluded.attempt END,
             copy_ms = COALESCE(excluded.copy_ms, deliveries.copy_ms),
             due_ms = excluded.due_ms, due_attempt = NULL, held_by = NULL,
             state = 'waiting', reason = NULL
         WHERE (deliveries.state = 'waiting'
                AND (${again} = 1
                     OR COALESCE(deliveries.copy_ms, 0) < excluded.copy_ms
                     OR (COALESCE(deliveries.copy_ms, 0) = COALESCE(excluded.copy_ms, deliveries.copy_ms, 0)
                         AND deliveries.attempt <= excluded.attempt)))
            OR (deliveries.state IN ('skipped', 'discarded') AND ${again} = 1
                AND COALESCE(deliveries.reason, '') <> ${erased})
         RETURNING event_id, handler, COALESCE(masked, 0) AS masked",
        statements::values(asks.len(), 7)
    );
    let mut insert = sqlx::query(AssertSqlSafe(statement));
    let now = Timestamp::now();
    for (_, ask) in asks {
        insert = insert
            .bind(ask.event_id.as_str())
            .bind(ask.handler.as_str())
            .bind(DeliveryState::Waiting.as_str())
            .bind(ask.attempt)
            .bind(now.as_millis())
            .bind(now.plus(IN_HAND).as_millis())
            .bind(ask.copy.map(Timestamp::as_millis));
    }
    let again = asks.first().is_some_and(|(_, ask)| ask.again);
    let rows = insert.bind(i64::from(again)).bind(ERASED).fetch_all(connection).await?;
    let counted = |row| {
        let (event_id, handler) = (row::text(row, "event_id")?, row::text(row, "handler")?);
        Ok(Counted { event_id, handler, masked: row::flag(row, "masked")? })
    };
    rows.iter().map(counted).collect()
}

/// A delivery whose attempt was counted.
struct Counted {
    event_id: String,
    handler: String,
    masked: bool,
}

fn goes(begin: &Begin) -> bool {
    matches!(begin, Begin::Go | Begin::GoMasked)
}

/// Returns the reason why the attempt may not begin.
async fn standing(connection: &mut Connection, ask: &BeginAsk) -> Result<Begin, StoreError> {
    let row = sqlx::query(
        "SELECT state, COALESCE(erased_copy, 0) AS erased FROM deliveries WHERE event_id = $1 AND handler = $2",
    )
    .bind(ask.event_id.as_str())
    .bind(ask.handler.as_str())
    .fetch_one(&mut *connection)
    .await?;
    if row::flag(&row, "erased")? {
        // The broker's copy has arrived here, and is dropped.
        erasure::copy_gone(connection, &ask.event_id, ask.handler).await?;
    }
    Ok(match row::name::<DeliveryState>(&row, "state")? {
        DeliveryState::Waiting => Begin::StaleCopy,
        settled @ (DeliveryState::Done
        | DeliveryState::Skipped
        | DeliveryState::DeadLettered
        | DeliveryState::Discarded) => Begin::AlreadySettled(settled),
    })
}

async fn finish_all(connection: &mut Connection, asks: &[FinishAsk]) -> Result<Vec<()>, StoreError> {
    let mut sorted: Vec<&FinishAsk> = asks.iter().collect();
    // This is the order in which all jobs lock deliveries.
    sorted.sort_by_key(|ask| (ask.record.event_id.as_str(), ask.record.handler.as_str()));
    for chunk in statements::chunks(&sorted) {
        settle(connection, chunk).await?;
    }
    let records: Vec<&AttemptRecord> = asks.iter().map(|ask| &ask.record).collect();
    log(connection, &records).await?;
    // Every batch that locks both locks deliveries before effects.
    completed::note(connection, asks.iter().flat_map(|ask| &ask.effects)).await?;
    Ok(vec![(); asks.len()])
}

async fn settle(connection: &mut Connection, asks: &[&FinishAsk]) -> Result<(), StoreError> {
    let statement = format!(
        "INSERT INTO deliveries (event_id, handler, state, reason, attempt, created_ms) VALUES {}
         ON CONFLICT (event_id, handler) DO UPDATE SET state = excluded.state, reason = excluded.reason,
             attempt = CASE WHEN deliveries.attempt > excluded.attempt
                            THEN deliveries.attempt ELSE excluded.attempt END
         WHERE deliveries.state IN ('waiting', 'skipped') OR (excluded.state = 'done' AND deliveries.state <> 'done')",
        statements::values(asks.len(), 6)
    );
    let mut insert = sqlx::query(AssertSqlSafe(statement));
    let now = Timestamp::now().as_millis();
    for FinishAsk { record, ending, .. } in asks {
        let (state, reason) = match ending {
            Ending::Done => (DeliveryState::Done, None),
            Ending::Skipped(reason) => (DeliveryState::Skipped, Some(reason.as_str())),
        };
        insert = insert
            .bind(record.event_id.as_str())
            .bind(record.handler.as_str())
            .bind(state.as_str())
            .bind(reason)
            .bind(i64::from(record.attempt))
            .bind(now);
    }
    insert.execute(connection).await?;
    Ok(())
}

pub(crate) async fn log(connection: &mut Connection, records: &[&AttemptRecord]) -> Result<(), StoreError> {
    for chunk in statements::chunks(records) {
        let statement = format!(
            "INSERT INTO attempts (event_id, handler, attempt, started_ms, duration_ms, verdict, detail, requests)
             VALUES {}",
            statements::values(chunk.len(), 8)
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for record in chunk {
            let requests =
                serde_json::to_string(&record.requests).map_err(|_| StoreError::unreadable("request list"))?;
            insert = insert
                .bind(record.event_id.as_str())
                .bind(record.handler.as_str())
                .bind(i64::from(record.attempt))
                .bind(record.started_at.as_millis())
                .bind(i64::try_from(record.duration.as_millis()).unwrap_or(i64::MAX))
                .bind(record.verdict.as_str())
                .bind(row::maybe_clean(record.detail.as_deref()))
                .bind(requests);
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}
