//! Deliveries that nobody has begun: what the history knows to be routed and a broker may have lost, or never had.

use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::db::Turn;
use crate::error::StoreError;
use crate::{Store, dialect, row};

impl Store {
    /// Deliveries of a handler that were routed to it longer than `quiet` ago and never begun, oldest first, with their
    /// payloads still here. Those that are given are given again after `again`, to whichever process asks.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_unbegun(
        &self,
        handler: HandlerName,
        quiet: Duration,
        again: Duration,
        most: u32,
    ) -> Result<Vec<EventId>, StoreError> {
        let statement = format!(
            "UPDATE deliveries SET republished_ms = $1 WHERE (event_id, handler) IN
                 (SELECT d.event_id, d.handler FROM deliveries d
                  WHERE d.handler = $2 AND d.state = 'waiting' AND d.attempt = 0 AND d.created_ms <= $3
                    AND COALESCE(d.republished_ms, 0) <= $4
                    AND EXISTS (SELECT 1 FROM events e WHERE e.event_id = d.event_id AND e.body IS NOT NULL)
                  ORDER BY d.created_ms, d.event_id LIMIT $5 {})
             RETURNING event_id, created_ms",
            dialect::for_removal(self.db.dialect())
        );
        let now = Timestamp::now();
        let ask = (statement, handler, now, now.minus(quiet), now.minus(again), most);
        self.db
            .write(Turn::Alone, ask, |connection, (statement, handler, now, routed_before, given_before, most)| {
                Box::pin(async move {
                    let rows = sqlx::query(AssertSqlSafe(statement.as_str()))
                        .bind(now.as_millis())
                        .bind(handler.as_str())
                        .bind(routed_before.as_millis())
                        .bind(given_before.as_millis())
                        .bind(i64::from(*most))
                        .fetch_all(connection)
                        .await?;
                    let mut taken: Vec<(i64, EventId)> = rows
                        .iter()
                        .map(|row| Ok((row::number(row, "created_ms")?, row::event_id(row)?)))
                        .collect::<Result<_, StoreError>>()?;
                    taken.sort_by(|(one, a), (other, b)| (one, a.as_str()).cmp(&(other, b.as_str())));
                    Ok(taken.into_iter().map(|(_, event_id)| event_id).collect())
                })
            })
            .await
    }
}
