//! What a back-fill reads and writes (`hookline notes sync`, `hookline opt-outs sync`): threads with what one system of
//! record has of them, messages of the history that no thread has yet, and how far an interrupted back-fill got.

use std::time::Duration;

use hookline_common::event::{Event, EventId};
use hookline_common::names::HandlerName;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect;
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::row::{self, clean};
use crate::deliveries::model::Payload;
use crate::threads::model::{JoinThread, ThreadFacts, ThreadLease, ThreadStand, ThreadTurn};
use crate::threads::{TurnAsk, clean_facts, clean_message, file, parts, turn};

/// How the owners of leases begin that back-fills take. No delivery's owner begins so.
const SYNC_OWNER: &str = "sync-";
/// Events that one statement looks at.
const WINDOW: u32 = 1_000;
/// How long a change that a killed back-fill sent may take to be carried out.
const LATE_CHANGE: Duration = Duration::from_secs(30);

impl Store {
    /// Returns a page of threads since a day, oldest first, each with what one system of record has of it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn threads_since(
        &self,
        system: &str,
        day: &str,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<ThreadStand>, StoreError> {
        let (from_day, from_id): (String, String) = position(cursor, (day.to_owned(), String::new()))?;
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT t.day, t.thread_id, t.closed_ms, w.parts FROM threads t
                     LEFT JOIN thread_writes w ON w.write_id = t.thread_id || ' ' || $1
                     WHERE (t.day, t.thread_id) > ($2, $3) ORDER BY t.day, t.thread_id LIMIT $4",
                )
                .bind(system)
                .bind(from_day)
                .bind(from_id)
                .bind(rows_to_read(limit)),
            )
            .await?;
        let mut heads = Vec::with_capacity(rows.len());
        for head in &rows {
            let parts = if row::maybe_text(head, "parts")?.is_some() { parts(head)? } else { Vec::new() };
            let is_closed = row::maybe_number(head, "closed_ms")?.is_some();
            heads.push((row::text(head, "day")?, row::text(head, "thread_id")?, is_closed, parts));
        }
        let Page { rows: heads, next } = page(heads, limit, |(day, thread_id, ..)| (day.clone(), thread_id.clone()));
        let mut stands = Vec::with_capacity(heads.len());
        for (_day, thread_id, is_closed, parts) in heads {
            let thread = self.thread_if_there(&thread_id).await?;
            stands.extend(thread.map(|thread| ThreadStand { thread, is_closed, parts }));
        }
        Ok(Page { rows: stands, next })
    }

    /// Returns the open thread that a message with these facts belongs to; `None` if there is none yet.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_stand(&self, system: &str, facts: &ThreadFacts) -> Result<Option<ThreadStand>, StoreError> {
        let key = clean_facts(facts.clone()).key();
        let select = sqlx::query(
            "SELECT t.thread_id, w.parts FROM threads t
             LEFT JOIN thread_writes w ON w.write_id = t.thread_id || ' ' || $1
             WHERE t.thread_key = $2 AND t.closed_ms IS NULL ORDER BY t.number DESC LIMIT 1",
        );
        let Some(head) = self.db.row(select.bind(system).bind(key)).await? else { return Ok(None) };
        let parts = if row::maybe_text(&head, "parts")?.is_some() { parts(&head)? } else { Vec::new() };
        let thread = self.thread_if_there(&row::text(&head, "thread_id")?).await?;
        Ok(thread.map(|thread| ThreadStand { thread, is_closed: false, parts }))
    }

    /// Takes the lease of a thread, whatever was written of it. Returns `None` if the thread was erased or closed
    /// meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_thread(
        &self,
        lease: &ThreadLease,
        lasts: Duration,
        update_every: Duration,
    ) -> Result<Option<ThreadTurn>, StoreError> {
        let clock = self.db.clock().clone();
        let taken = self
            .db
            .write((lease.clone(), lasts, update_every), move |connection, (lease, lasts, update_every)| {
                let now = clock.now();
                Box::pin(async move {
                    let lock = dialect::for_update(connection);
                    let statement = format!("SELECT closed_ms FROM threads WHERE thread_id = $1 {lock}");
                    let thread = sqlx::query(AssertSqlSafe(statement))
                        .bind(lease.thread_id.as_str())
                        .fetch_optional(&mut *connection)
                        .await?;
                    let Some(thread) = thread else { return Ok(None) };
                    if row::maybe_number(&thread, "closed_ms")?.is_some() {
                        return Ok(None);
                    }
                    let ask = TurnAsk {
                        thread_id: &lease.thread_id,
                        system: &lease.system,
                        owner: &lease.owner,
                        lease: *lasts,
                        update_every: *update_every,
                    };
                    turn(connection, &ask, None, now).await.map(Some)
                })
            })
            .await?;
        Ok(taken.map(|turn| match turn {
            ThreadTurn::Wait { until } => ThreadTurn::Wait { until: self.db.clock().here(until) },
            ThreadTurn::Busy { until } => ThreadTurn::Busy { until: self.db.clock().here(until) },
            other @ (ThreadTurn::Written { .. } | ThreadTurn::Write(_)) => other,
        }))
    }

    /// Puts a message into its thread, and leaves the writing to others.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn file_message(&self, join: JoinThread) -> Result<(), StoreError> {
        let join = JoinThread { facts: clean_facts(join.facts), message: clean_message(join.message), ..join };
        let clock = self.db.clock().clone();
        self.db
            .write(join, move |connection, join| {
                let now = clock.now();
                Box::pin(async move { file(connection, join, now).await })
            })
            .await
    }

    /// Returns events with a text that no thread has, oldest first, as far as their payloads are kept. Events with a
    /// delivery to `log_note` that waits, or that a person has to decide about or has given up, are left out. A page may
    /// be empty although others follow: one call looks at a bounded part of the history.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn texts_without_thread(
        &self,
        since: Timestamp,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Event>, StoreError> {
        let (received_ms, event_id): (i64, String) = position(cursor, (since.as_millis(), String::new()))?;
        // The limit within keeps a database from looking for matches in all of the history.
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT e.received_ms, e.event_id, CASE WHEN e.has_body = 1
                         AND e.event_type IN ('message.received', 'message.delivered', 'message.failed')
                         AND NOT EXISTS (SELECT 1 FROM thread_messages m WHERE m.event_id = e.event_id)
                         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = e.event_id
                             AND d.handler = 'log_note' AND d.state IN ('waiting', 'dead_lettered', 'discarded'))
                         THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END AS is_loose
                     FROM (SELECT received_ms, event_id, event_type,
                               CASE WHEN body IS NULL THEN 0 ELSE 1 END AS has_body
                           FROM events WHERE (received_ms, event_id) > ($1, $2)
                           ORDER BY received_ms, event_id LIMIT $3) e
                     ORDER BY e.received_ms, e.event_id",
                )
                .bind(received_ms)
                .bind(event_id)
                .bind(rows_to_read(WINDOW)),
            )
            .await?;
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            keys.push((row::number(row, "received_ms")?, row::event_id(row)?, row::flag(row, "is_loose")?));
        }
        let key = |(received_ms, event_id, _): &(i64, EventId, bool)| (*received_ms, event_id.as_str().to_owned());
        let window = page(keys, WINDOW, key);
        let loose = window.rows.iter().filter(|(.., is_loose)| *is_loose).cloned().collect();
        let loose = page(loose, limit, key);
        let mut events = Vec::with_capacity(loose.rows.len());
        for (_, event_id, _) in &loose.rows {
            // A payload may have expired a moment ago.
            if let Payload::Here(event) = self.event_payload(event_id).await? {
                events.push(event);
            }
        }
        Ok(Page { rows: events, next: loose.next.or(window.next) })
    }

    /// Returns whether an effect was made, by whatever event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn effect_is_made(
        &self,
        handler: HandlerName,
        target: &str,
        effect_key: &str,
    ) -> Result<bool, StoreError> {
        let select = sqlx::query(
            "SELECT 1 AS made FROM effects
             WHERE handler = $1 AND target = $2 AND effect_key = $3 AND state = 'done'",
        );
        let (target, effect_key) = (clean(target), clean(effect_key));
        let select = select.bind(handler.as_str()).bind(target.as_ref()).bind(effect_key.as_ref());
        Ok(self.db.row(select).await?.is_some())
    }

    /// Returns the person whom an operator chose for one of the thread's events.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn chosen_for_thread(&self, system: &str, thread_id: &str) -> Result<Option<String>, StoreError> {
        let select = sqlx::query(
            "SELECT l.person_id FROM person_links l JOIN thread_messages m ON m.event_id = l.value
             WHERE l.system = $1 AND l.kind = 'event' AND l.chosen = 1 AND m.thread_id = $2
             ORDER BY m.occurred_ms, m.message_id LIMIT 1",
        );
        let row = self.db.row(select.bind(system).bind(thread_id)).await?;
        row.map(|row| row::text(&row, "person_id")).transpose()
    }

    /// Returns how many numbers there are up to one of which an opt-out or opt-in with a time is known, and those behind
    /// it, in their order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn phones_with_state(&self, after: Option<&Phone>) -> Result<(u64, Vec<Phone>), StoreError> {
        let after = after.map_or("", Phone::as_e164);
        let before = sqlx::query("SELECT COUNT(DISTINCT phone) AS phones FROM opt_state WHERE phone <= $1").bind(after);
        let before = self.db.row(before).await?.map_or(Ok(0), |row| row::count(&row, "phones"))?;
        let behind = sqlx::query("SELECT DISTINCT phone FROM opt_state WHERE phone > $1 ORDER BY phone").bind(after);
        let rows = self.db.rows(behind).await?;
        let phones = rows.iter().map(|row| row::text(row, "phone")).collect::<Result<Vec<_>, _>>()?;
        Ok((before, phones.iter().filter_map(|phone| Phone::parse(phone)).collect()))
    }

    /// Returns the last item that an interrupted back-fill has done, with all before it; `None` if none was interrupted
    /// within this time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sync_done(&self, name: &str, within: Duration) -> Result<Option<String>, StoreError> {
        let since = self.db.clock().now().minus(within).as_millis();
        let select =
            sqlx::query("SELECT done_to FROM syncs WHERE name = $1 AND updated_ms > $2").bind(name).bind(since);
        self.db.row(select).await?.map(|row| row::text(&row, "done_to")).transpose()
    }

    /// Records the last item that a back-fill has done with all before it; `None` ends it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn save_sync(&self, name: &str, done_to: Option<&str>) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write((name.to_owned(), done_to.map(str::to_owned)), move |connection, (name, done_to)| {
                let now = clock.now().as_millis();
                Box::pin(async move {
                    let query = match done_to {
                        Some(done_to) => sqlx::query(
                            "INSERT INTO syncs (name, done_to, updated_ms) VALUES ($1, $2, $3)
                             ON CONFLICT (name) DO UPDATE SET done_to = excluded.done_to,
                                 updated_ms = excluded.updated_ms",
                        )
                        .bind(name.as_str())
                        .bind(done_to.as_str())
                        .bind(now),
                        None => sqlx::query("DELETE FROM syncs WHERE name = $1").bind(name.as_str()),
                    };
                    query.execute(connection).await?;
                    Ok(())
                })
            })
            .await
    }

    /// Returns a new owner for the leases of a back-fill.
    #[must_use]
    pub fn sync_owner() -> String {
        format!("{SYNC_OWNER}{}-{:016x}", std::process::id(), rand::random::<u64>())
    }

    /// Ends the leases and phone locks of back-fills. A process may call this only if it has made sure that no other
    /// back-fill works on this store. Does nothing on a database that other machines may use: there the leases of dead
    /// processes end by themselves. A note that a call may have created stays in doubt, and a thread with notes is left
    /// alone for a moment, since a call that changes one may still be carried out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_leases_of_dead_syncs(&self) -> Result<(), StoreError> {
        if self.db.dialect().is_shared() {
            return Ok(());
        }
        let latest = self.db.clock().now().plus(LATE_CHANGE).as_millis();
        self.db
            .write((format!("{SYNC_OWNER}%"), latest), |connection, (owners, latest)| {
                Box::pin(async move {
                    for statement in [
                        "UPDATE thread_writes SET lease_owner = NULL, lease_until = NULL
                         WHERE lease_owner LIKE $1 AND parts = '[]' AND $2 > 0",
                        "UPDATE thread_writes SET lease_until = $2 WHERE lease_owner LIKE $1 AND lease_until > $2",
                        "UPDATE contact_links SET lock_owner = NULL, lock_until = NULL
                         WHERE lock_owner LIKE $1 AND $2 > 0",
                    ] {
                        sqlx::query(statement).bind(owners.as_str()).bind(*latest).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
