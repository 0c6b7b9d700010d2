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
    /// Deliveries of a handler that were routed to it longer than `quiet` ago and never begun, with their payloads still
    /// here. Those that are given are given again after `again`, to whichever process asks; so are those of a redrive.
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
        // In no order: sorting would read all that waits.
        let statement = format!(
            "UPDATE deliveries SET republished_ms = $1 WHERE (event_id, handler) IN
                 (SELECT d.event_id, d.handler FROM deliveries d
                  WHERE d.handler = $2 AND d.state = 'waiting' AND d.attempt = 0 AND d.created_ms <= $3
                    AND COALESCE(d.republished_ms, 0) <= $4
                    AND EXISTS (SELECT 1 FROM events e WHERE e.event_id = d.event_id AND e.body IS NOT NULL)
                  LIMIT $5 {})
             RETURNING event_id",
            dialect::for_removal(self.db.dialect())
        );
        let now = Timestamp::now();
        let ask = (statement, handler, now, now.minus(quiet), now.minus(again), most);
        self.db
            .write(Turn::Long, ask, |connection, (statement, handler, now, routed_before, given_before, most)| {
                Box::pin(async move {
                    let rows = sqlx::query(AssertSqlSafe(statement.as_str()))
                        .bind(now.as_millis())
                        .bind(handler.as_str())
                        .bind(routed_before.as_millis())
                        .bind(given_before.as_millis())
                        .bind(i64::from(*most))
                        .fetch_all(connection)
                        .await?;
                    rows.iter().map(row::event_id).collect()
                })
            })
            .await
    }

    /// What was given and could not be published: it is given again to who asks next.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_back_unbegun(&self, handler: HandlerName, event_ids: &[EventId]) -> Result<(), StoreError> {
        let mut event_ids = event_ids.to_vec();
        // In the order in which everybody locks deliveries.
        event_ids.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        self.db
            .write(Turn::Alone, (handler, event_ids), |connection, (handler, event_ids)| {
                Box::pin(async move {
                    for event_id in event_ids {
                        let update = sqlx::query(
                            "UPDATE deliveries SET republished_ms = NULL
                             WHERE event_id = $1 AND handler = $2 AND state = 'waiting' AND attempt = 0",
                        );
                        let update = update.bind(event_id.as_str()).bind(handler.as_str());
                        update.execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
