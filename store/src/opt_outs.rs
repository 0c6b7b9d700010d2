//! Who has opted out, by event time, and whether a PUT is still to be made.
//!
//! State is kept per account and phone as the newest time of each kind; a tie is opted out. Whether a PUT is still
//! to be made is `opt_out_puts.rs`.

use hookline_common::names::SkipReason;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::dialect::Connection;
use crate::error::StoreError;
use crate::ledger::Entry;
use crate::model::{LedgerKind, OptEvent, OptOutRow, OptStanding, Page};
use crate::opt_asks::{Changes, Known, OptAsk};
use crate::page::{page, position, rows_to_read};
use crate::{Store, row, statements};

/// An [`OptEvent`] that a write can keep.
#[derive(Clone)]
pub(crate) struct Opt {
    pub(crate) event_id: String,
    pub(crate) source_event_id: Option<String>,
    pub(crate) account: String,
    pub(crate) phone: String,
    pub(crate) opted_out: bool,
    pub(crate) event_time: Option<i64>,
    pub(crate) received_at: i64,
}

impl From<&OptEvent<'_>> for Opt {
    fn from(event: &OptEvent<'_>) -> Self {
        Self {
            event_id: event.event_id.as_str().to_owned(),
            source_event_id: row::maybe_clean(event.source_event_id),
            account: row::clean(event.account).into_owned(),
            phone: event.phone.as_e164().to_owned(),
            opted_out: event.opted_out,
            event_time: event.event_time.map(Timestamp::as_millis),
            received_at: event.received_at.as_millis(),
        }
    }
}

impl Store {
    /// Records an opt-out or opt-in once, and says how it stands by event time. A repeat of the event writes nothing
    /// and is measured against the present state, never against itself.
    ///
    /// An opt-out whose time cannot be read counts as made when it was received, or at the newest opt-in known then:
    /// in doubt, opted out. An opt-in whose time cannot be read changes nothing.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn record_opt_event(&self, event: &OptEvent<'_>) -> Result<OptStanding, StoreError> {
        self.opt_asks.ask(OptAsk::Record(Opt::from(event))).await?.standing()
    }

    /// Records why nothing was PUT, once per event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn note_skipped(&self, event: &OptEvent<'_>, reason: SkipReason) -> Result<(), StoreError> {
        self.opt_asks.ask(OptAsk::Skipped(Opt::from(event), reason)).await.map(drop)
    }

    /// Whether the person has opted out, over all accounts and by event time, and since when; `None` where nothing
    /// was recorded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn newest_state(&self, phone: &Phone) -> Result<Option<(bool, Timestamp)>, StoreError> {
        let query = sqlx::query(
            "SELECT MAX(opted_out_ms) AS opted_out_ms, MAX(opted_in_ms) AS opted_in_ms FROM opt_state WHERE phone = $1",
        )
        .bind(phone.as_e164());
        let Some(row) = self.db.row(query).await? else { return Ok(None) };
        Ok(newest(row::maybe_number(&row, "opted_out_ms")?, row::maybe_number(&row, "opted_in_ms")?))
    }

    /// The state of every account and phone, by account and phone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn opt_outs(&self, limit: u32, cursor: Option<&str>) -> Result<Page<OptOutRow>, StoreError> {
        let (account, phone): (String, String) = position(cursor, Default::default())?;
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT s.account, s.phone, s.opted_out_ms, s.opted_in_ms, s.source_event_id,
                    (SELECT l.status FROM opt_ledger l
                     WHERE l.phone = s.phone AND l.kind = 'put_answered' AND l.status IS NOT NULL
                     ORDER BY l.seq DESC LIMIT 1) AS put_status
             FROM opt_state s WHERE (s.account, s.phone) > ($1, $2) ORDER BY s.account, s.phone LIMIT $3",
                )
                .bind(account)
                .bind(phone)
                .bind(rows_to_read(limit)),
            )
            .await?;
        let rows = rows
            .iter()
            .map(|row| {
                let newest = newest(row::maybe_number(row, "opted_out_ms")?, row::maybe_number(row, "opted_in_ms")?);
                let (opted_out, event_time) = newest.ok_or_else(|| StoreError::unreadable("opt-out state"))?;
                Ok(OptOutRow {
                    account: row::text(row, "account")?,
                    phone: row::text(row, "phone")?,
                    opted_out,
                    event_time,
                    source_event_id: row::maybe_text(row, "source_event_id")?,
                    put_status: row::maybe_number(row, "put_status")?.and_then(|status| u16::try_from(status).ok()),
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(page(rows, limit, |row| (row.account.clone(), row.phone.clone())))
    }
}

fn newest(opted_out: Option<i64>, opted_in: Option<i64>) -> Option<(bool, Timestamp)> {
    let newest = opted_out.max(opted_in)?;
    Some((opted_out == Some(newest), Timestamp::from_millis(newest)))
}

pub(crate) fn effective_time(opt: &Opt, newest_in: Option<i64>) -> Option<i64> {
    match opt.event_time {
        None if opt.opted_out => newest_in.max(Some(opt.received_at)),
        time => time,
    }
}

pub(crate) fn standing(
    opted_out: bool,
    time: Option<i64>,
    newest_out: Option<i64>,
    newest_in: Option<i64>,
) -> OptStanding {
    // `None` sorts before every time: an opt-in without one is never newer than an opt-out.
    let stale = if opted_out { time < newest_in } else { time.is_none() || time <= newest_out };
    if stale { OptStanding::Stale } else { OptStanding::Current }
}

/// Records the event where that was not done before; how it stands, and the time that is recorded for it.
pub(crate) fn record(opt: &Opt, known: &Known, changes: &mut Changes) -> (OptStanding, Option<i64>) {
    let time = known.recorded.unwrap_or_else(|| effective_time(opt, known.newest_in));
    let standing = standing(opt.opted_out, time, known.newest_out, known.newest_in);
    if known.recorded.is_some() {
        return (standing, time);
    }
    let kind = if opt.opted_out { LedgerKind::Received } else { LedgerKind::OptedIn };
    let mut entry = Entry::new(kind, &opt.event_id, &opt.account, &opt.phone);
    entry.event_time_ms = time;
    changes.entries.push(entry);
    if let Some(time) = time {
        let decides = standing == OptStanding::Current && Some(time) >= known.newest_out.max(known.newest_in);
        changes.states.push(Advance { opt: opt.clone(), time, decides });
    }
    (standing, time)
}

/// Why nothing was PUT, once per event.
pub(crate) async fn skip(
    connection: &mut Connection,
    opt: &Opt,
    reason: SkipReason,
    changes: &mut Changes,
) -> Result<(), StoreError> {
    let known = sqlx::query("SELECT 1 FROM opt_ledger WHERE event_id = $1 AND kind = 'skipped' LIMIT 1")
        .bind(opt.event_id.as_str())
        .fetch_optional(connection)
        .await?;
    if known.is_none() {
        let mut entry = Entry::new(LedgerKind::Skipped, &opt.event_id, &opt.account, &opt.phone);
        entry.reason = Some(reason.as_str().to_owned());
        changes.entries.push(entry);
    }
    Ok(())
}

/// A newer time of one kind for an account and phone.
pub(crate) struct Advance {
    opt: Opt,
    time: i64,
    /// It decides the state: the event is named in it.
    decides: bool,
}

/// No two of one account and phone.
pub(crate) async fn advance(connection: &mut Connection, states: &[Advance]) -> Result<(), StoreError> {
    for decides in [true, false] {
        let states: Vec<&Advance> = states.iter().filter(|state| state.decides == decides).collect();
        let named = if decides { "excluded" } else { "opt_state" };
        for chunk in statements::chunks(&states) {
            let statement = format!(
                "INSERT INTO opt_state (account, phone, opted_out_ms, opted_in_ms, source_event_id) VALUES {}
                 ON CONFLICT (account, phone) DO UPDATE SET
                     opted_out_ms = CASE WHEN opt_state.opted_out_ms IS NULL
                                              OR excluded.opted_out_ms > opt_state.opted_out_ms
                                         THEN excluded.opted_out_ms ELSE opt_state.opted_out_ms END,
                     opted_in_ms = CASE WHEN opt_state.opted_in_ms IS NULL
                                             OR excluded.opted_in_ms > opt_state.opted_in_ms
                                        THEN excluded.opted_in_ms ELSE opt_state.opted_in_ms END,
                     source_event_id = {named}.source_event_id",
                statements::values(chunk.len(), 5)
            );
            let mut insert = sqlx::query(AssertSqlSafe(statement));
            for Advance { opt, time, .. } in chunk {
                let (out, into) = if opt.opted_out { (Some(*time), None) } else { (None, Some(*time)) };
                insert = insert
                    .bind(opt.account.as_str())
                    .bind(opt.phone.as_str())
                    .bind(out)
                    .bind(into)
                    .bind(opt.source_event_id.as_deref());
            }
            insert.execute(&mut *connection).await?;
        }
    }
    Ok(())
}
