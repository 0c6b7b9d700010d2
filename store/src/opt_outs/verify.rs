//! Verifies the ledger: each entry is as it was written and in its place, and `opt_state` is what follows from the
//! entries. Without the key nobody can write an entry or a state that passes.

use std::collections::BTreeMap;

use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::{Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::row;
use crate::opt_outs::ledger::{Entry, START};
use crate::opt_outs::model::LedgerCheck;
use crate::opt_outs::state::{self, PhoneState, PhonesOfLedger, Row};

/// Entries per read while the chain is verified.
const STRIDE: i64 = 1000;
/// Phones whose states are compared at a time.
const PHONES: usize = 500;

impl Store {
    /// Verifies the whole chain and compares the state derived from it. `expected_head` is a head exported earlier,
    /// which the chain must still contain.
    ///
    /// # Errors
    /// See [`StoreError`]. A broken chain is no error: [`LedgerCheck::broken`] says where it is broken.
    pub async fn verify(&self, expected_head: Option<&str>) -> Result<LedgerCheck, StoreError> {
        // One read transaction shows the chain, the head row and the states at the same moment.
        let mut reader = self.db.reader().await?;
        let mut snapshot = reader.snapshot().await?;
        let mut check = LedgerCheck { entries: 0, broken: None, head: START.to_owned() };
        let mut head_seen = expected_head.is_none_or(|head| head.eq_ignore_ascii_case(START));
        let mut after = 0;
        let statement = format!(
            "SELECT seq, {}, previous_hash, hash FROM opt_ledger WHERE seq > $1 ORDER BY seq LIMIT $2",
            Entry::COLUMNS
        );
        loop {
            let strided = sqlx::query(AssertSqlSafe(statement.clone())).bind(after).bind(STRIDE);
            let rows = self.db.within(strided.fetch_all(&mut *snapshot)).await?;
            for row in &rows {
                let seq = row::number(row, "seq")?;
                if check.broken.is_none() {
                    check.broken = self.fault(row, seq, after, &check.head);
                }
                after = seq;
                check.entries += 1;
                check.head = row::text(row, "hash")?;
                head_seen |= expected_head.is_some_and(|head| head.eq_ignore_ascii_case(&check.head));
            }
            if rows.is_empty() {
                break;
            }
        }
        if check.broken.is_none() {
            check.broken = self.fault_of_end(&mut snapshot, after, &check.head, head_seen).await?;
        }
        if check.broken.is_none() {
            check.broken = self.fault_of_states(&mut snapshot).await?;
        }
        self.db.within(snapshot.rollback()).await?;
        reader.give_back();
        Ok(check)
    }

    /// Describes what is wrong with one entry; `None` if nothing is.
    fn fault(&self, row: &DbRow, seq: i64, after: i64, previous: &str) -> Option<String> {
        if seq != after + 1 {
            return Some(format!("entry {} is missing", after + 1));
        }
        // A column of another type counts as forged, like one of another value.
        let read =
            || Ok::<_, StoreError>((Entry::read(row)?, row::text(row, "previous_hash")?, row::text(row, "hash")?));
        let Ok((entry, previous_hash, hash)) = read() else {
            return Some(format!("entry {seq} cannot be read"));
        };
        if previous_hash != previous {
            Some(format!("entry {seq} does not follow the entry before it"))
        } else if self.ledger_key.hash(seq, &previous_hash, &entry) != hash || entry.holds_more_than_its_hash() {
            Some(format!("entry {seq} was changed after it was written"))
        } else {
            None
        }
    }

    async fn fault_of_end(
        &self,
        snapshot: &mut Connection,
        last: i64,
        last_hash: &str,
        head_seen: bool,
    ) -> Result<Option<String>, StoreError> {
        let head = sqlx::query("SELECT seq, hash FROM opt_ledger_head WHERE id = 1").fetch_optional(snapshot);
        let whole = match self.db.within(head).await? {
            Some(head) => row::number(&head, "seq")? == last && row::text(&head, "hash")? == last_hash,
            None => false,
        };
        Ok(if !whole {
            Some(format!("the chain ends at entry {last}, not where its head says"))
        } else if !head_seen {
            Some("the chain no longer holds the exported head: its tail was cut or rewritten".to_owned())
        } else {
            None
        })
    }

    /// Describes the first state that differs from the chain, is missing, or is of a number that the chain does not
    /// know.
    async fn fault_of_states(&self, snapshot: &mut Connection) -> Result<Option<String>, StoreError> {
        let mut phones = PhonesOfLedger::new();
        let mut from = String::new();
        loop {
            let mut derived: Vec<PhoneState> = Vec::new();
            let mut last_phone = None;
            for _ in 0..PHONES {
                let Some(entries) = self.db.within(phones.next(snapshot)).await? else { break };
                last_phone = entries.first().map(|entry| entry.phone.clone());
                derived.extend(state::standings(&entries));
            }
            let rows = state::rows(snapshot, &from, last_phone.as_deref());
            let broken = fault_of(&derived, self.db.within(rows).await?);
            match last_phone {
                Some(phone) if broken.is_none() => from = phone,
                _ => return Ok(broken),
            }
        }
    }
}

/// Describes the first difference without phone numbers, because the text may go into a log.
fn fault_of(derived: &[PhoneState], rows: Vec<Row>) -> Option<String> {
    let mut rows: BTreeMap<_, _> =
        rows.into_iter().map(|row| ((row.phone.clone(), row.account.clone()), row)).collect();
    for standing in derived {
        match rows.remove(&(standing.phone.clone(), standing.account.clone())) {
            None => return Some(fault_in("misses a number", &standing.account)),
            Some(row) if !row.is(&standing.state) => {
                return Some(fault_in("holds another state of a number", &standing.account));
            }
            Some(_) => {}
        }
    }
    rows.into_keys().next().map(|(_, account)| fault_in("holds a number that the chain does not know", &account))
}

fn fault_in(what: &str, account: &str) -> String {
    format!("every entry is whole, but the table opt_state {what} of account {account}: it was changed by hand")
}
