//! Opt-outs that were received and are not yet PUT everywhere, with the reason for each. This check watches over
//! everything that may keep an opt-out from being sent.
//!
//! The check reads only open deliveries, by the index `deliveries_open_opt_outs`, so a million settled rows cost
//! nothing. It judges one page at a time, from the ledger's entries about those phones, by the rules of `state` and
//! `earlier_puts`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hookline_common::names::DeliveryState;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::DbRow;
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::{row, statements};
use crate::deliveries::model::RequestRecord;
use crate::opt_outs;
use crate::opt_outs::earlier_puts;
use crate::opt_outs::ledger::Entry;
use crate::opt_outs::model::{Unsent, UnsentSum, UnsentWhy};
use crate::opt_outs::state::{Fact, IS_START, Times, is_keyword};

/// Deliveries judged at a time.
const PAGE: usize = 512;
/// How long after its due time a delivery counts as lost. A broker brings back due deliveries within seconds, and
/// workers bring back those it lost within minutes. After this time, none comes back by itself.
const LOST_AFTER: Duration = Duration::from_mins(15);

impl Store {
    /// Counts the unsent opt-outs that were received more than `older_than` ago, and finds the oldest. `accounts` are
    /// the accounts configured now; they apply to events that no worker has handled yet.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn unsent_sum(&self, accounts: &[String], older_than: Duration) -> Result<UnsentSum, StoreError> {
        let mut sum = UnsentSum::default();
        self.each_unsent(accounts, older_than, |unsent| {
            sum.opt_outs += 1;
            sum.stuck += u64::from(matches!(unsent.why, UnsentWhy::DeadLetter { .. } | UnsentWhy::Lost));
            sum.oldest = Some(sum.oldest.map_or(unsent.received_at, |oldest| oldest.min(unsent.received_at)));
        })
        .await?;
        Ok(sum)
    }

    /// Returns a page of the opt-outs that [`Store::unsent_sum`] counts, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn unsent(
        &self,
        accounts: &[String],
        older_than: Duration,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<Unsent>, StoreError> {
        let after: (i64, String) = position(cursor, Default::default())?;
        let place = |unsent: &Unsent| (unsent.received_at.as_millis(), unsent.event_id.as_str().to_owned());
        let most = usize::try_from(rows_to_read(limit)).unwrap_or(usize::MAX);
        let mut oldest = BTreeMap::new();
        self.each_unsent(accounts, older_than, |unsent| {
            let place = place(&unsent);
            if place > after {
                oldest.insert(place, unsent);
            }
            if oldest.len() > most {
                oldest.pop_last();
            }
        })
        .await?;
        let mut found = page(oldest.into_values().collect(), limit, place);
        self.add_last_statuses(&mut found.rows).await?;
        Ok(found)
    }

    async fn each_unsent(
        &self,
        accounts: &[String],
        older_than: Duration,
        mut each: impl FnMut(Unsent),
    ) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let mut after = String::new();
        loop {
            let open = self.open_opt_outs(&after, now.minus(older_than)).await?;
            let Some(last) = open.last() else { return Ok(()) };
            after = last.event_id.clone();
            let is_last = open.len() < PAGE;
            let ids: Vec<&str> = open.iter().map(|open| open.event_id.as_str()).collect();
            let evidence = self.evidence(&ids).await?;
            for open in &open {
                if let Some(unsent) = evidence.judge(open, accounts, now)? {
                    each(unsent);
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn open_opt_outs(&self, after: &str, before: Timestamp) -> Result<Vec<Open>, StoreError> {
        // The handler and the states are literals, as in the index. Neither an opt-in nor START changes anything at
        // TextUs.
        let query = sqlx::query(
            "SELECT d.event_id, d.state, d.attempt, d.due_ms, d.due_attempt, d.held_by,
                 COALESCE(e.received_ms, l.received_ms, d.created_ms) AS received_ms,
                 COALESCE(e.source_event_id, l.source_event_id) AS source_event_id, l.reason, l.status
             FROM deliveries d
             LEFT JOIN events e ON e.event_id = d.event_id
             LEFT JOIN dead_letters l ON l.event_id = d.event_id AND l.handler = d.handler
             WHERE d.handler = 'record_opt_out' AND d.state IN ('waiting', 'dead_lettered') AND d.event_id > $1
               AND COALESCE(e.received_ms, l.received_ms, d.created_ms) <= $2
               AND COALESCE(e.event_type, l.event_type, '') <> 'contact.opted_in'
               AND COALESCE(e.keyword, l.keyword, '') <> 'start'
             ORDER BY d.event_id LIMIT $3",
        );
        let query = query.bind(after).bind(before.as_millis()).bind(i64::try_from(PAGE).unwrap_or(i64::MAX));
        self.db.rows(query).await?.iter().map(Open::read).collect()
    }

    /// Reads what the ledger says about these events and their phones.
    pub(crate) async fn evidence(&self, ids: &[&str]) -> Result<Evidence, StoreError> {
        let mut evidence = Evidence::default();
        let records =
            format!("SELECT {} FROM opt_ledger WHERE kind IN ('received', 'opted_in') AND event_id IN", Entry::COLUMNS);
        for row in self.rows_of(&records, ids, "").await? {
            let entry = Entry::read(&row)?;
            evidence.records.insert(entry.event_id.clone(), entry);
        }
        for row in self.rows_of("SELECT event_id, account FROM opt_out_targets WHERE event_id IN", ids, "").await? {
            evidence.targets.entry(row::text(&row, "event_id")?).or_default().push(row::text(&row, "account")?);
        }
        let mut phones: Vec<&str> = evidence.records.values().map(|entry| entry.phone.as_str()).collect();
        phones.sort_unstable();
        phones.dedup();
        let past = format!(
            "SELECT {} FROM opt_ledger l WHERE (l.kind <> 'skipped' OR {IS_START}) AND l.phone IN",
            Entry::COLUMNS
        );
        let mut pasts: HashMap<String, Vec<Entry>> = HashMap::new();
        for row in self.rows_of(&past, &phones, "ORDER BY seq").await? {
            let entry = Entry::read(&row)?;
            pasts.entry(entry.phone.clone()).or_default().push(entry);
        }
        evidence.pasts = pasts;
        Ok(evidence)
    }

    /// Sets the status of the last answer for each opt-out.
    async fn add_last_statuses(&self, unsent: &mut [Unsent]) -> Result<(), StoreError> {
        let ids: Vec<&str> = unsent.iter().map(|unsent| unsent.event_id.as_str()).collect();
        let mut statuses = HashMap::new();
        // The rows are in order, so the last attempt of each event stays.
        let attempts = "SELECT event_id, requests FROM attempts WHERE handler = 'record_opt_out' AND event_id IN";
        for row in self.rows_of(attempts, &ids, "ORDER BY seq").await? {
            let requests: Vec<RequestRecord> = serde_json::from_str(&row::text(&row, "requests")?)
                .map_err(|_| StoreError::unreadable("request list"))?;
            if let Some(last) = requests.last() {
                statuses.insert(row::text(&row, "event_id")?, last.status);
            }
        }
        for unsent in unsent {
            unsent.last_status = statuses.get(unsent.event_id.as_str()).copied().flatten();
        }
        Ok(())
    }

    /// Returns all rows of `select … IN` for these keys, chunk by chunk.
    async fn rows_of(&self, select: &str, keys: &[&str], then: &str) -> Result<Vec<DbRow>, StoreError> {
        let mut all = Vec::new();
        for chunk in statements::chunks(keys) {
            let statement = format!("{select} {} {then}", statements::list(chunk.len()));
            let mut query = sqlx::query(AssertSqlSafe(statement));
            for key in chunk {
                query = query.bind(*key);
            }
            all.extend(self.db.rows(query).await?);
        }
        Ok(all)
    }
}

/// A delivery of `record_opt_out` that is not settled, or is a dead letter.
struct Open {
    event_id: String,
    state: DeliveryState,
    attempt: u32,
    due: Option<Timestamp>,
    due_attempt: Option<i64>,
    held_by: Option<String>,
    received_at: Timestamp,
    source_event_id: Option<String>,
    dead_reason: Option<String>,
    dead_status: Option<i64>,
}

impl Open {
    fn read(row: &DbRow) -> Result<Self, StoreError> {
        Ok(Self {
            event_id: row::text(row, "event_id")?,
            state: row::name(row, "state")?,
            attempt: row::small(row, "attempt")?,
            due: row::maybe_time(row, "due_ms")?,
            due_attempt: row::maybe_number(row, "due_attempt")?,
            held_by: row::maybe_text(row, "held_by")?,
            received_at: row::time(row, "received_ms")?,
            source_event_id: row::maybe_text(row, "source_event_id")?,
            dead_reason: row::maybe_text(row, "reason")?,
            dead_status: row::maybe_number(row, "status")?,
        })
    }

    fn why(&self, now: Timestamp) -> UnsentWhy {
        if self.state == DeliveryState::DeadLettered {
            return UnsentWhy::DeadLetter {
                reason: self.dead_reason.as_deref().and_then(|reason| reason.parse().ok()),
                status: self.dead_status.and_then(|status| u16::try_from(status).ok()),
            };
        }
        let Some(due) = self.due.filter(|_| self.attempt > 0) else { return UnsentWhy::NotBegun };
        if now.since(due) > LOST_AFTER {
            return UnsentWhy::Lost;
        }
        match (self.due_attempt, &self.held_by) {
            (None, _) => UnsentWhy::UnderWay { attempt: self.attempt },
            (Some(_), Some(destination)) => UnsentWhy::Paused { destination: destination.clone() },
            (Some(attempt), None) => {
                UnsentWhy::Waiting { attempt: u32::try_from(attempt).unwrap_or(self.attempt), until: due }
            }
        }
    }
}

/// The ledger's entries about some events and their phones.
#[derive(Default)]
pub(crate) struct Evidence {
    /// The entry that recorded each event.
    records: HashMap<String, Entry>,
    /// The accounts that each event was to be PUT to when it was first handled.
    targets: HashMap<String, Vec<String>>,
    /// All relevant entries about each phone, in order.
    pasts: HashMap<String, Vec<Entry>>,
}

impl Evidence {
    /// Returns `None` if nothing is left to send.
    fn judge(&self, open: &Open, accounts: &[String], now: Timestamp) -> Result<Option<Unsent>, StoreError> {
        let missing_accounts = self.missing_accounts(&open.event_id, accounts);
        if missing_accounts.is_empty() {
            return Ok(None);
        }
        let record = self.records.get(&open.event_id);
        Ok(Some(Unsent {
            event_id: row::parse_event_id(&open.event_id)?,
            source_event_id: open.source_event_id.clone(),
            received_at: open.received_at,
            event_time: record.and_then(times).map(|times| Timestamp::from_millis(times.cut)),
            account: record.map(|record| record.account.clone()),
            phone: record.map(|record| record.phone.clone()),
            missing_accounts,
            why: open.why(now),
            last_status: None,
        }))
    }

    /// Returns the accounts that still need a PUT for this event. `accounts` are the ones configured now; they apply if
    /// no worker has handled the event.
    pub(crate) fn missing_accounts(&self, event_id: &str, accounts: &[String]) -> Vec<String> {
        // An older version did not keep the targets.
        let targets = self.targets.get(event_id).map_or(accounts, Vec::as_slice);
        let Some(record) = self.records.get(event_id) else { return targets.to_vec() };
        let Some(times) = times(record) else { return Vec::new() };
        let past = self.pasts.get(&record.phone).map_or(&[][..], Vec::as_slice);
        let is_taken_back = is_keyword(record) && opt_outs::is_taken_back(past, &record.account, times);
        if is_undone(past, &record.account, times) || is_taken_back {
            return Vec::new();
        }
        targets.iter().filter(|target| !is_sent(past, event_id, times, target)).cloned().collect()
    }
}

/// Returns the times of a recorded opt-out; `None` for an opt-in, which is never PUT.
fn times(record: &Entry) -> Option<Times> {
    Fact::of(record).filter(|fact| fact.opted_out).map(|fact| fact.times)
}

/// Whether an opt-in of the same account and phone undoes the opt-out; the handler skips it as stale.
fn is_undone(past: &[Entry], account: &str, times: Times) -> bool {
    let of_account = past.iter().filter(|entry| entry.account == account).filter_map(Fact::of);
    of_account.filter(|fact| !fact.opted_out).any(|opt_in| opt_in.times.undoes(times))
}

/// Whether the event's own PUT to the target is proved, or another PUT of the number makes it needless.
fn is_sent(past: &[Entry], event_id: &str, times: Times, target: &str) -> bool {
    earlier_puts::own_is_proved(past, event_id, target)
        || earlier_puts::is_explained(past, event_id, times, Timestamp::from_millis(times.cut), target)
}
