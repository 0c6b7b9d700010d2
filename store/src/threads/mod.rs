//! Threads: the texts from which the notes in the system of record are made. Every system of record has them, the
//! built-in one too. A write of a thread is made under its lease, from the messages that are read after taking it, and
//! is recorded with the version that it contains; so one write finishes all messages that were there.

pub(crate) mod links;
pub(crate) mod lists;
pub(crate) mod model;
pub(crate) mod sync;
pub(crate) mod writes;

use std::time::Duration;

use hookline_common::time::Timestamp;

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::row::{self, clean, maybe_clean};
use crate::threads::model::{
    Doubt, JoinThread, Thread, ThreadFacts, ThreadMessage, ThreadTurn, ThreadWrite, WrittenPart, write_id,
};

const MESSAGE: &str = "message_id, thread_id, version, event_id, event_ms, inbound, outcome, body, author, author_email, \
                       media, is_stop, occurred_ms";

impl Store {
    /// Adds a message to its thread and says whether the caller has to write the thread now.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn join_thread(&self, join: JoinThread) -> Result<ThreadTurn, StoreError> {
        let join = JoinThread { facts: clean_facts(join.facts), message: clean_message(join.message), ..join };
        let clock = self.db.clock().clone();
        let turn = self
            .db
            .write(join, move |connection, join| {
                let now = clock.now();
                Box::pin(async move { self::join(connection, join, now).await })
            })
            .await?;
        Ok(match turn {
            ThreadTurn::Wait { until } => ThreadTurn::Wait { until: self.db.clock().here(until) },
            ThreadTurn::Busy { until } => ThreadTurn::Busy { until: self.db.clock().here(until) },
            other @ (ThreadTurn::Written { .. } | ThreadTurn::Write(_)) => other,
        })
    }

    /// Whether this event's message is in a thread already, so that it need not be fetched again.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn thread_message(&self, message_id: &str) -> Result<Option<(ThreadFacts, ThreadMessage)>, StoreError> {
        let row = self
            .db
            .row(
                sqlx::query(
                    "SELECT m.message_id, m.thread_id, m.version, m.event_id, m.event_ms, m.inbound, m.outcome, m.body,
                         m.author, m.author_email, m.media, m.is_stop, m.occurred_ms, t.account, t.phone,
                         t.contact_id, t.business_number, t.day, t.thread_key
                     FROM thread_messages m JOIN threads t ON t.thread_id = m.thread_id WHERE m.message_id = $1",
                )
                .bind(clean(message_id).as_ref()),
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (message, _) = message(&row)?;
        let facts = ThreadFacts {
            account: row::text(&row, "account")?,
            phone: row::maybe_text(&row, "phone")?,
            contact_id: row::maybe_text(&row, "contact_id")?,
            business_number: row::maybe_text(&row, "business_number")?,
            day: row::text(&row, "day")?,
            only_message: None,
        };
        let is_alone = facts.key() != row::text(&row, "thread_key")?;
        let only_message = is_alone.then(|| message.message_id.clone());
        Ok(Some((ThreadFacts { only_message, ..facts }, message)))
    }
}

fn clean_facts(facts: ThreadFacts) -> ThreadFacts {
    ThreadFacts {
        account: clean(&facts.account).into_owned(),
        contact_id: maybe_clean(facts.contact_id.as_deref()),
        only_message: maybe_clean(facts.only_message.as_deref()),
        ..facts
    }
}

fn clean_message(message: ThreadMessage) -> ThreadMessage {
    ThreadMessage {
        message_id: clean(&message.message_id).into_owned(),
        body: clean(&message.body).into_owned(),
        author: maybe_clean(message.author.as_deref()),
        author_email: maybe_clean(message.author_email.as_deref()),
        ..message
    }
}

async fn join(connection: &mut Connection, join: &JoinThread, now: Timestamp) -> Result<ThreadTurn, StoreError> {
    let key = join.facts.key();
    // Neither a thread nor a message may have a row to lock yet.
    let names = [format!("thread {key}"), format!("thread message {}", join.message.message_id)];
    dialect::lock_names(connection, &names).await?;
    let (thread_id, version) = place(connection, join, &key, now).await?;
    let ask = TurnAsk {
        thread_id: &thread_id,
        system: &join.system,
        owner: &join.owner,
        lease: join.lease,
        update_every: join.update_every,
    };
    turn(connection, &ask, Some(version), now).await
}

/// Puts a message into its thread, and says nothing about who writes the thread.
pub(crate) async fn file(connection: &mut Connection, join: &JoinThread, now: Timestamp) -> Result<(), StoreError> {
    let key = join.facts.key();
    let names = [format!("thread {key}"), format!("thread message {}", join.message.message_id)];
    dialect::lock_names(connection, &names).await?;
    place(connection, join, &key, now).await.map(drop)
}

/// Puts the message into its thread. Returns the thread and the version at which the message last changed.
async fn place(
    connection: &mut Connection,
    join: &JoinThread,
    key: &str,
    now: Timestamp,
) -> Result<(String, i64), StoreError> {
    let message = &join.message;
    let statement = format!(
        "SELECT {MESSAGE}, (SELECT closed_ms FROM threads t WHERE t.thread_id = m.thread_id) AS closed_ms,
             (SELECT version FROM thread_writes w WHERE w.write_id = m.thread_id || ' ' || $2) AS written
         FROM thread_messages m WHERE message_id = $1"
    );
    let before = sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(message.message_id.as_str())
        .bind(join.system.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(before) = before else {
        let (thread_id, version) = open_thread(connection, join, key, now).await?;
        insert(connection, message, &thread_id, version, now).await?;
        return Ok((thread_id, version));
    };
    let thread_id = row::text(&before, "thread_id")?;
    let (known, known_version) = self::message(&before)?;
    let is_closed = row::maybe_number(&before, "closed_ms")?.is_some();
    let is_written = row::maybe_number(&before, "written")?.is_some_and(|written| written >= known_version);
    if is_closed && is_written {
        // What is in the note of a closed thread stays as it is.
        return Ok((thread_id, known_version));
    }
    let wins = message.rank() > known.rank() && *message != known;
    if !is_closed && !wins {
        return Ok((thread_id, known_version));
    }
    let counts = if wins { message } else { &known };
    let (thread_id, version) = if is_closed {
        // Without the messages that have expired, its note can't be written any more.
        open_thread(connection, join, key, now).await?
    } else {
        let version = next_version(connection, &thread_id).await?;
        (thread_id, version)
    };
    sqlx::query("DELETE FROM thread_messages WHERE message_id = $1")
        .bind(message.message_id.as_str())
        .execute(&mut *connection)
        .await?;
    insert(connection, counts, &thread_id, version, now).await?;
    Ok((thread_id, version))
}

/// Returns the open thread of this key, which is created if there is none, with its next version.
async fn open_thread(
    connection: &mut Connection,
    join: &JoinThread,
    key: &str,
    now: Timestamp,
) -> Result<(String, i64), StoreError> {
    let last = sqlx::query(
        "SELECT thread_id, number, closed_ms FROM threads WHERE thread_key = $1 ORDER BY number DESC LIMIT 1",
    )
    .bind(key)
    .fetch_optional(&mut *connection)
    .await?;
    let mut number = 0;
    if let Some(last) = &last {
        if row::maybe_number(last, "closed_ms")?.is_none() {
            let thread_id = row::text(last, "thread_id")?;
            let version = next_version(connection, &thread_id).await?;
            return Ok((thread_id, version));
        }
        number = row::number(last, "number")? + 1;
    }
    let thread_id = if number == 0 { format!("thread_{key}") } else { format!("thread_{key}_{number}") };
    let facts = &join.facts;
    sqlx::query(
        "INSERT INTO threads (thread_id, thread_key, number, account, phone, contact_id, business_number, day, version,
             created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9)",
    )
    .bind(thread_id.as_str())
    .bind(key)
    .bind(number)
    .bind(facts.account.as_str())
    .bind(facts.phone.as_deref())
    .bind(facts.contact_id.as_deref())
    .bind(facts.business_number.as_deref())
    .bind(facts.day.as_str())
    .bind(now.as_millis())
    .execute(connection)
    .await?;
    Ok((thread_id, 1))
}

async fn next_version(connection: &mut Connection, thread_id: &str) -> Result<i64, StoreError> {
    let row = sqlx::query("UPDATE threads SET version = version + 1 WHERE thread_id = $1 RETURNING version")
        .bind(thread_id)
        .fetch_one(connection)
        .await?;
    row::number(&row, "version")
}

async fn insert(
    connection: &mut Connection,
    message: &ThreadMessage,
    thread_id: &str,
    version: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO thread_messages (message_id, thread_id, version, event_id, event_ms, inbound, outcome, body, author,
             author_email, media, is_stop, occurred_ms, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(message.message_id.as_str())
    .bind(thread_id)
    .bind(version)
    .bind(message.event_id.as_str())
    .bind(message.event_time.as_millis())
    .bind(i64::from(message.is_inbound))
    .bind(message.outcome.as_str())
    .bind(message.body.as_str())
    .bind(message.author.as_deref())
    .bind(message.author_email.as_deref())
    .bind(serde_json::to_string(&message.media).unwrap_or_default())
    .bind(i64::from(message.is_stop))
    .bind(message.occurred_at.as_millis())
    .bind(now.as_millis())
    .execute(connection)
    .await?;
    Ok(())
}

/// Who wants to write which thread.
pub(crate) struct TurnAsk<'a> {
    pub(crate) thread_id: &'a str,
    pub(crate) system: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) lease: Duration,
    pub(crate) update_every: Duration,
}

/// Decides whether the caller writes the thread, and takes its lease if so. A write of `version` or a later one makes
/// another write needless; `None` asks for one whatever was written.
pub(crate) async fn turn(
    connection: &mut Connection,
    ask: &TurnAsk<'_>,
    version: Option<i64>,
    now: Timestamp,
) -> Result<ThreadTurn, StoreError> {
    let TurnAsk { thread_id, system, owner, lease, update_every } = *ask;
    let write_id = write_id(thread_id, system);
    sqlx::query(
        "INSERT INTO thread_writes (write_id, thread_id, system, version, parts) VALUES ($1, $2, $3, 0, '[]')
         ON CONFLICT (write_id) DO NOTHING",
    )
    .bind(write_id.as_str())
    .bind(thread_id)
    .bind(system)
    .execute(&mut *connection)
    .await?;
    let lock = dialect::for_update(connection);
    let statement = format!(
        "SELECT version, person_id, parts, written_ms, doubt_part, doubt_ms, lease_owner, lease_until
         FROM thread_writes WHERE write_id = $1 {lock}"
    );
    let write = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(write_id.as_str()).fetch_one(&mut *connection).await?;
    let written = row::number(&write, "version")?;
    if version.is_some_and(|version| written >= version) {
        return Ok(ThreadTurn::Written { thread_id: thread_id.to_owned() });
    }
    let holder = row::maybe_text(&write, "lease_owner")?.filter(|holder| holder != owner);
    if let (Some(_), Some(until)) = (holder, row::maybe_time(&write, "lease_until")?)
        && until > now
    {
        return Ok(ThreadTurn::Busy { until });
    }
    let due = row::maybe_time(&write, "written_ms")?.map(|written| written.plus(update_every));
    if let Some(due) = due.filter(|due| *due > now) {
        return Ok(ThreadTurn::Wait { until: due });
    }
    sqlx::query("UPDATE thread_writes SET lease_owner = $2, lease_until = $3 WHERE write_id = $1")
        .bind(write_id.as_str())
        .bind(owner)
        .bind(now.plus(lease).as_millis())
        .execute(&mut *connection)
        .await?;
    let whole = whole_thread(connection, thread_id).await?;
    let (thread, version) = whole.ok_or_else(|| StoreError::Contended("a thread was erased meanwhile".to_owned()))?;
    Ok(ThreadTurn::Write(Box::new(ThreadWrite {
        thread,
        version,
        person_id: row::maybe_text(&write, "person_id")?,
        parts: parts(&write)?,
        doubt: doubt(&write)?,
    })))
}

/// Returns the thread with all messages, and its version; `None` if it was erased.
pub(crate) async fn whole_thread(
    connection: &mut Connection,
    thread_id: &str,
) -> Result<Option<(Thread, i64)>, StoreError> {
    let thread = sqlx::query(
        "SELECT account, phone, contact_id, business_number, day, version FROM threads WHERE thread_id = $1",
    )
    .bind(thread_id)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(thread) = thread else { return Ok(None) };
    let statement =
        format!("SELECT {MESSAGE} FROM thread_messages WHERE thread_id = $1 ORDER BY occurred_ms, message_id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(thread_id).fetch_all(connection).await?;
    let messages = rows.iter().map(|row| Ok(message(row)?.0)).collect::<Result<_, StoreError>>()?;
    let version = row::number(&thread, "version")?;
    let thread = Thread {
        thread_id: thread_id.to_owned(),
        account: row::text(&thread, "account")?,
        phone: row::maybe_text(&thread, "phone")?,
        contact_id: row::maybe_text(&thread, "contact_id")?,
        business_number: row::maybe_text(&thread, "business_number")?,
        day: row::text(&thread, "day")?,
        messages,
    };
    Ok(Some((thread, version)))
}

/// Reads a message and the version at which it last changed.
pub(crate) fn message(row: &DbRow) -> Result<(ThreadMessage, i64), StoreError> {
    let outcome = hookline_common::note_text::MessageOutcome::parse(&row::text(row, "outcome")?);
    let message = ThreadMessage {
        message_id: row::text(row, "message_id")?,
        event_id: row::event_id(row)?,
        event_time: row::time(row, "event_ms")?,
        is_inbound: row::flag(row, "inbound")?,
        outcome: outcome.ok_or_else(|| StoreError::unreadable("outcome"))?,
        body: row::text(row, "body")?,
        author: row::maybe_text(row, "author")?,
        author_email: row::maybe_text(row, "author_email")?,
        media: serde_json::from_str(&row::text(row, "media")?).map_err(|_| StoreError::unreadable("media"))?,
        is_stop: row::flag(row, "is_stop")?,
        occurred_at: row::time(row, "occurred_ms")?,
    };
    Ok((message, row::number(row, "version")?))
}

pub(crate) fn parts(row: &DbRow) -> Result<Vec<WrittenPart>, StoreError> {
    serde_json::from_str(&row::text(row, "parts")?).map_err(|_| StoreError::unreadable("parts"))
}

fn doubt(row: &DbRow) -> Result<Option<Doubt>, StoreError> {
    let Some(since) = row::maybe_time(row, "doubt_ms")? else { return Ok(None) };
    Ok(Some(Doubt { part: row::small::<usize>(row, "doubt_part")?, since }))
}
