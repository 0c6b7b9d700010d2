//! Deliveries that were given back to the broker to wait: until when, and how they come back. With this record we can
//! republish a delivery that the broker loses meanwhile.

use hookline_common::names::{DeliveryState, Destination};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::{Ask, Batches, Db, statements};
use crate::deliveries::attempts;
use crate::deliveries::model::{AttemptRecord, Parked};
use crate::effects::completed;
use crate::effects::completed::CompletedEffect;

impl Store {
    /// Records until when a delivery waits, before the broker gets it. The same transaction logs the attempt that
    /// parked it, if there is one to log, and notes its completed effects.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn park(
        &self,
        parked: &Parked,
        record: Option<&AttemptRecord>,
        effects: &[CompletedEffect],
    ) -> Result<(), StoreError> {
        let ask = ParkAsk { parked: parked.clone(), record: record.cloned(), effects: effects.to_vec() };
        self.parks.ask(ask).await
    }
}

/// A delivery that is about to be parked.
#[derive(Clone)]
pub(crate) struct ParkAsk {
    parked: Parked,
    record: Option<AttemptRecord>,
    effects: Vec<CompletedEffect>,
}

impl Ask for ParkAsk {
    type Answer = ();

    fn about(&self) -> Vec<&str> {
        std::iter::once(self.parked.event_id.as_str())
            .chain(self.effects.iter().map(CompletedEffect::effect_key))
            .collect()
    }

    const APART: bool = true;
}

pub(crate) fn parks(db: &Db) -> Batches<ParkAsk> {
    Batches::start(db, |connection, asks| Box::pin(park_all(connection, asks)))
}

async fn park_all(connection: &mut Connection, asks: &[ParkAsk]) -> Result<Vec<()>, StoreError> {
    let mut sorted: Vec<&Parked> = asks.iter().map(|ask| &ask.parked).collect();
    // This is the order in which all jobs lock deliveries.
    sorted.sort_by_key(|parked| (parked.event_id.as_str(), parked.handler.as_str()));
    for chunk in statements::chunks(&sorted) {
        note(connection, chunk).await?;
    }
    let records: Vec<&AttemptRecord> = asks.iter().filter_map(|ask| ask.record.as_ref()).collect();
    attempts::log(connection, &records).await?;
    // Every batch that locks both locks deliveries before effects.
    completed::note(connection, asks.iter().flat_map(|ask| &ask.effects)).await?;
    Ok(vec![(); asks.len()])
}

/// Records the due times. Skips settled deliveries and those that a later copy has taken over.
async fn note(connection: &mut Connection, parked: &[&Parked]) -> Result<(), StoreError> {
    let statement = format!(
        "INSERT INTO deliveries
             (event_id, handler, state, attempt, created_ms, due_ms, due_attempt, first_attempt_ms, held_by)
         VALUES {}
         ON CONFLICT (event_id, handler) DO UPDATE SET due_ms = excluded.due_ms, due_attempt = excluded.due_attempt,
             first_attempt_ms = excluded.first_attempt_ms, held_by = excluded.held_by
         WHERE deliveries.state = 'waiting' AND deliveries.attempt <= excluded.due_attempt",
        statements::values(parked.len(), 9)
    );
    let mut insert = sqlx::query(AssertSqlSafe(statement));
    let now = Timestamp::now().as_millis();
    for parked in parked {
        insert = insert
            .bind(parked.event_id.as_str())
            .bind(parked.handler.as_str())
            .bind(DeliveryState::Waiting.as_str())
            .bind(i64::from(parked.attempt))
            .bind(now)
            .bind(parked.until.as_millis())
            .bind(i64::from(parked.attempt))
            .bind(parked.first_attempt_at.map(Timestamp::as_millis))
            .bind(parked.held_by.map(Destination::as_str));
    }
    insert.execute(connection).await?;
    Ok(())
}
