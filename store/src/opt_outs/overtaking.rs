//! Opt-outs that overtook an opt-in or a START text: they are newer, and were decided before the ledger knew of it.
//!
//! Such an opt-out may have been taken for explained by a PUT from before the opt-in (see `earlier_puts`). Once the
//! opt-in is recorded, the same rules are asked again, and an opt-out that still needs a PUT is reopened.

use hookline_common::event::EventId;
use hookline_common::names::{DeliveryState, Destination, HandlerName};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::DbRow;
use crate::db::error::StoreError;
use crate::db::row;
use crate::opt_outs::Opt;
use crate::opt_outs::model::{OptEvent, OptMethod, Overtaking};
use crate::opt_outs::state::{CUT, STATED, Times};

impl Store {
    /// Reopens the settled opt-outs that are newer than this recorded opt-in or START text and, now that it is
    /// recorded, still need a PUT. A pause that has ended publishes them anew, so they come within seconds. `accounts`
    /// are the accounts configured now; they apply to opt-outs of versions that did not keep their accounts.
    ///
    /// An opt-out that a worker has in hand may have been decided already and is not settled yet: ask again once it is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn reopen_overtaking(&self, event: &OptEvent<'_>, accounts: &[String]) -> Result<Overtaking, StoreError> {
        let newer = self.newer_opt_outs(&Opt::from(event)).await?;
        let mut overtaking = Overtaking {
            in_hand_until: newer.iter().filter_map(|newer| newer.in_hand_until).max(),
            ..Overtaking::default()
        };
        let settled: Vec<&Newer> = newer.iter().filter(|newer| newer.is_settled).collect();
        let ids: Vec<&str> = settled.iter().map(|newer| newer.event_id.as_str()).collect();
        let evidence = self.evidence(&ids).await?;
        for newer in settled {
            if evidence.missing_accounts(newer.event_id.as_str(), accounts).is_empty() {
                continue;
            }
            let list = if newer.has_payload { &mut overtaking.reopened } else { &mut overtaking.erased };
            list.push(newer.event_id.clone());
        }
        if !overtaking.reopened.is_empty() {
            self.reopen(overtaking.reopened.clone()).await?;
        }
        Ok(overtaking)
    }

    /// Returns the recorded opt-outs of this phone, in any account, that this opt-in does not undo.
    async fn newer_opt_outs(&self, opt_in: &Opt) -> Result<Vec<Newer>, StoreError> {
        // A START text without a time counts as sent when it was received.
        let is_text = opt_in.method == OptMethod::Keyword;
        let Some(times) = Times::of(is_text, opt_in.event_time, opt_in.received_at) else { return Ok(Vec::new()) };
        let statement = format!(
            "SELECT l.event_id, d.state, d.due_ms, d.due_attempt, e.event_id AS payload_of
             FROM opt_ledger l JOIN deliveries d ON d.event_id = l.event_id AND d.handler = 'record_opt_out'
             LEFT JOIN events e ON e.event_id = l.event_id AND e.body IS NOT NULL
             WHERE l.phone = $1 AND l.kind = 'received' AND ({STATED} >= $2 OR {CUT} >= $3)
               AND d.state IN ('waiting', 'skipped', 'done')"
        );
        let query = sqlx::query(AssertSqlSafe(statement));
        let query = query.bind(opt_in.phone.as_str()).bind(times.stated).bind(times.cut);
        self.db.rows(query).await?.iter().map(|row| Newer::read(row, Timestamp::now())).collect()
    }

    async fn reopen(&self, mut events: Vec<EventId>) -> Result<(), StoreError> {
        // This is the order in which all jobs lock deliveries.
        events.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        self.db
            .write((events, Timestamp::now()), |connection, (events, now)| {
                Box::pin(async move {
                    for event_id in events {
                        // Nothing is in a queue, so the delivery waits as one that a pause held.
                        sqlx::query(
                            "UPDATE deliveries SET state = $1, reason = NULL, due_ms = $2, due_attempt = 1,
                                 first_attempt_ms = NULL, held_by = $3, republished_ms = NULL
                             WHERE event_id = $4 AND handler = $5 AND state IN ('skipped', 'done')",
                        )
                        .bind(DeliveryState::Waiting.as_str())
                        .bind(now.as_millis())
                        .bind(Destination::TextUs.as_str())
                        .bind(event_id.as_str())
                        .bind(HandlerName::RecordOptOut.as_str())
                        .execute(&mut *connection)
                        .await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}

/// The delivery of an opt-out that is newer than an opt-in.
struct Newer {
    event_id: EventId,
    is_settled: bool,
    /// When an attempt under way has ended at the latest; `None` if none is under way.
    in_hand_until: Option<Timestamp>,
    has_payload: bool,
}

impl Newer {
    fn read(row: &DbRow, now: Timestamp) -> Result<Self, StoreError> {
        let is_settled = row::name::<DeliveryState>(row, "state")? != DeliveryState::Waiting;
        let is_parked = row::maybe_number(row, "due_attempt")?.is_some();
        let until = row::maybe_time(row, "due_ms")?.filter(|until| !is_settled && !is_parked && *until > now);
        Ok(Self {
            event_id: row::event_id(row)?,
            is_settled,
            in_hand_until: until,
            has_payload: row::maybe_text(row, "payload_of")?.is_some(),
        })
    }
}
