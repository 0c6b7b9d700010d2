//! The ledger's entries for an operator: those of one phone, or all of them for checking the chain without Hookline
//! (docs/verify_ledger.py).

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::DbRow;
use crate::db::error::StoreError;
use crate::db::row;
use crate::opt_outs::ledger::Entry;
use crate::opt_outs::model::{ExportedEntry, LedgerEntry};

impl Store {
    /// Returns every ledger entry about one phone, in order, as evidence.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn prove(&self, phone: &Phone) -> Result<Vec<LedgerEntry>, StoreError> {
        let statement = format!(
            "SELECT seq, {}, previous_hash, hash FROM opt_ledger WHERE phone = $1 ORDER BY seq",
            Entry::COLUMNS
        );
        let rows = self.db.rows(sqlx::query(AssertSqlSafe(statement)).bind(phone.as_e164())).await?;
        rows.iter().map(|row| Ok(exported(row)?.entry)).collect()
    }

    /// Returns at most `limit` entries after the entry `after`, in order; 0 begins at the first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn export_ledger(&self, after: i64, limit: u32) -> Result<Vec<ExportedEntry>, StoreError> {
        let statement = format!(
            "SELECT seq, {}, previous_hash, hash FROM opt_ledger WHERE seq > $1 ORDER BY seq LIMIT $2",
            Entry::COLUMNS
        );
        let query = sqlx::query(AssertSqlSafe(statement)).bind(after).bind(i64::from(limit));
        self.db.rows(query).await?.iter().map(exported).collect()
    }
}

fn exported(row: &DbRow) -> Result<ExportedEntry, StoreError> {
    let time = |millis: i64| Timestamp::from_millis(millis).to_string();
    let entry = Entry::read(row)?;
    Ok(ExportedEntry {
        phone: entry.phone,
        entry: LedgerEntry {
            seq: row::number(row, "seq")?,
            kind: entry.kind,
            at: time(entry.at_ms),
            event_id: entry.event_id,
            account: entry.account,
            status: entry.status.and_then(|status| u16::try_from(status).ok()),
            event_time: entry.event_time_ms.map(time),
            received_at: entry.received_ms.map(time),
            reason: entry.reason,
            method: entry.method,
            source_event_id: entry.source_event_id,
            hash_version: entry.hash_version,
            hash: row::text(row, "hash")?,
            previous_hash: row::text(row, "previous_hash")?,
        },
    })
}
