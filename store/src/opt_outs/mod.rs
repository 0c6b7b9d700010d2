//! The people who have opted out, by event time, and the PUTs still to be made.
//!
//! `state.rs` derives the state from the events; `puts.rs` decides about PUTs.

pub(crate) mod asks;
pub(crate) mod earlier_puts;
pub(crate) mod evidence;
pub(crate) mod flags;
pub(crate) mod ledger;
pub(crate) mod ledger_key;
pub(crate) mod model;
pub(crate) mod overtaking;
pub(crate) mod puts;
pub(crate) mod state;
pub(crate) mod unsent;
pub(crate) mod verify;

use hookline_common::names::SkipReason;
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::{row, statements};
use crate::opt_outs::asks::{Changes, OptAsk};
use crate::opt_outs::earlier_puts::{Past, starts_of};
use crate::opt_outs::ledger::Entry;
use crate::opt_outs::model::{LedgerKind, OptEvent, OptMethod, OptOutRow, OptStanding};
use crate::opt_outs::state::{CUT, Fact, PhoneState, STATED, State, Times, received};

/// An [`OptEvent`] with owned fields, which a write can keep.
#[derive(Clone)]
pub(crate) struct Opt {
    pub(crate) event_id: String,
    pub(crate) source_event_id: Option<String>,
    pub(crate) account: String,
    pub(crate) phone: String,
    pub(crate) opted_out: bool,
    pub(crate) event_time: Option<i64>,
    pub(crate) received_at: i64,
    pub(crate) method: OptMethod,
    targets: Vec<String>,
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
            method: event.method,
            targets: event.targets.iter().map(|target| row::clean(target).into_owned()).collect(),
        }
    }
}

impl Store {
    /// Records an opt-out or opt-in once and returns its standing by event time. A repeat of the event writes nothing.
    /// Its standing follows from the present state, never from itself.
    ///
    /// An opt-out without a readable time counts as made when it was received. An opt-in without a readable time
    /// changes nothing.
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

    /// Returns whether the person has opted out, over all accounts and by event time, and since when. Returns `None` if
    /// no event with a time was recorded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn newest_state(&self, phone: &Phone) -> Result<Option<(bool, Timestamp)>, StoreError> {
        let of = |kind: &str| {
            format!(
                "(l.kind = '{kind}' AND {STATED} >=
                  (SELECT MAX({CUT}) FROM opt_ledger l WHERE l.phone = $1 AND l.kind = '{kind}'))"
            )
        };
        let statement = format!(
            "SELECT {} FROM opt_ledger l WHERE l.phone = $1 AND ({} OR {})",
            Entry::COLUMNS,
            of("received"),
            of("opted_in")
        );
        let rows = self.db.rows(sqlx::query(AssertSqlSafe(statement)).bind(phone.as_e164())).await?;
        let entries = rows.iter().map(Entry::read).collect::<Result<Vec<_>, StoreError>>()?;
        let state = State::of(&entries.iter().filter_map(Fact::of).collect::<Vec<_>>());
        Ok(state.and_then(|state| state.newest()))
    }

    /// Returns the times of the newest opt-out and of the newest opt-in of a phone, in any account.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn opt_dates(&self, phone: &Phone) -> Result<[Option<Timestamp>; 2], StoreError> {
        let select = sqlx::query(
            "SELECT MAX(opted_out_ms) AS opted_out_ms, MAX(opted_in_ms) AS opted_in_ms FROM opt_state WHERE phone = $1",
        );
        let Some(row) = self.db.row(select.bind(phone.as_e164())).await? else { return Ok([None; 2]) };
        Ok([row::maybe_time(&row, "opted_out_ms")?, row::maybe_time(&row, "opted_in_ms")?])
    }

    /// Returns the state of every account and phone, ordered by account and phone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn opt_outs(&self, limit: u32, cursor: Option<&str>) -> Result<Page<OptOutRow>, StoreError> {
        let (account, phone): (String, String) = position(cursor, Default::default())?;
        // `put_status` leaves out 2xx answers that are no proof.
        let statement = format!(
            "SELECT s.account, s.phone, s.opted_out, s.opted_out_ms, s.opted_in_ms, s.source_event_id,
                 (SELECT l.status FROM opt_ledger l WHERE l.phone = s.phone AND l.kind = 'put_answered'
                  AND (l.status < 200 OR l.status >= 300 OR {proves_put}) ORDER BY l.seq DESC LIMIT 1) AS put_status
             FROM opt_state s WHERE (s.account, s.phone) > ($1, $2) ORDER BY s.account, s.phone LIMIT $3",
            proves_put = ledger::proves_put("l")
        );
        let query = sqlx::query(AssertSqlSafe(statement)).bind(account).bind(phone).bind(rows_to_read(limit));
        let rows = self.db.rows(query).await?;
        let rows = rows
            .iter()
            .map(|row| {
                let newest_out = row::maybe_number(row, "opted_out_ms")?;
                let newest = newest_out.max(row::maybe_number(row, "opted_in_ms")?);
                let newest = newest.ok_or_else(|| StoreError::unreadable("opt-out state"))?;
                let opted_out = match row::maybe_number(row, "opted_out")? {
                    Some(flag) => flag != 0,
                    // An older version wrote this row; it knew only these times.
                    None => newest_out == Some(newest),
                };
                Ok(OptOutRow {
                    account: row::text(row, "account")?,
                    phone: row::text(row, "phone")?,
                    opted_out,
                    event_time: Timestamp::from_millis(newest),
                    source_event_id: row::maybe_text(row, "source_event_id")?,
                    put_status: row::maybe_number(row, "put_status")?.and_then(|status| u16::try_from(status).ok()),
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(page(rows, limit, |row| (row.account.clone(), row.phone.clone())))
    }
}

/// Finds the entry that first recorded the event.
fn recorded<'a>(opt: &Opt, past: &'a Past) -> Option<&'a Entry> {
    let is_record = |entry: &&Entry| matches!(entry.kind, LedgerKind::Received | LedgerKind::OptedIn);
    past.iter().filter(is_record).find(|entry| entry.event_id == opt.event_id)
}

/// Returns the event's times as first recorded, because a repeat is received later.
pub(crate) fn times(opt: &Opt, past: &Past) -> Option<Times> {
    match recorded(opt, past) {
        Some(entry) => Times::of(opt.opted_out, entry.event_time_ms, received(entry)),
        None => Times::of(opt.opted_out, opt.event_time, opt.received_at),
    }
}

/// Returns the event's standing against the entries of this account and phone.
pub(crate) fn standing(opt: &Opt, past: &Past) -> OptStanding {
    let others = past.iter().filter(|entry| entry.account == opt.account).filter_map(Fact::of);
    let is_stale = match times(opt, past) {
        None => true,
        Some(own) if opt.opted_out => {
            others.filter(|fact| !fact.opted_out).any(|opt_in| opt_in.times.undoes(own))
                || (opt.method == OptMethod::Keyword && is_taken_back(past, &opt.account, own))
        }
        Some(own) => others.filter(|fact| fact.opted_out).any(|opt_out| !own.undoes(opt_out.times)),
    };
    if is_stale { OptStanding::Stale } else { OptStanding::Current }
}

/// Whether a START text to this account took back a stop word with these times.
pub(crate) fn is_taken_back(past: &Past, account: &str, stop_word: Times) -> bool {
    starts_of(past, account).any(|start| start.undoes(stop_word))
}

/// Records the event unless it is already recorded, and returns its standing.
pub(crate) fn record(opt: &Opt, past: &Past, changes: &mut Changes) -> OptStanding {
    if recorded(opt, past).is_none() {
        let kind = if opt.opted_out { LedgerKind::Received } else { LedgerKind::OptedIn };
        let entry = Entry::of(kind, opt, &opt.account);
        let of_account = past.iter().filter(|entry| entry.account == opt.account).chain([&entry]);
        if let Some(state) = State::of(&of_account.filter_map(Fact::of).collect::<Vec<_>>()) {
            changes.standings.push(PhoneState { account: opt.account.clone(), phone: opt.phone.clone(), state });
        }
        if opt.opted_out {
            changes.targets.extend(opt.targets.iter().map(|target| (opt.event_id.clone(), target.clone())));
        }
        changes.entries.push(entry);
    }
    standing(opt, past)
}

/// Stores the accounts that opt-outs must be PUT to.
pub(crate) async fn keep_targets(connection: &mut Connection, targets: &[(String, String)]) -> Result<(), StoreError> {
    for chunk in statements::chunks(targets) {
        let statement = format!(
            "INSERT INTO opt_out_targets (event_id, account) VALUES {} ON CONFLICT (event_id, account) DO NOTHING",
            statements::values(chunk.len(), 2)
        );
        let mut insert = sqlx::query(AssertSqlSafe(statement));
        for (event_id, account) in chunk {
            insert = insert.bind(event_id.as_str()).bind(account.as_str());
        }
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Records why nothing was PUT, once per event.
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
        let reason = Some(reason.as_str().to_owned());
        changes.entries.push(Entry { reason, ..Entry::of(LedgerKind::Skipped, opt, &opt.account) });
    }
    Ok(())
}
