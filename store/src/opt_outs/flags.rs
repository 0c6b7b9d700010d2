//! What was confirmed of the opt-out flags on records of the system of record, as evidence beside the ledger.

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;

use crate::Store;
use crate::db::error::StoreError;
use crate::db::row;
use crate::opt_outs::model::{ConfirmedFlag, FlagConfirmation, FlagRow};

impl Store {
    /// Records what was confirmed of the flag on a record. Older news does not replace what is recorded of newer news.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn flag_confirmed(&self, phone: &Phone, flag: ConfirmedFlag) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write((phone.as_e164().to_owned(), flag), move |connection, (phone, flag)| {
                let now = clock.now().as_millis();
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO opt_out_flags (phone, system, person_id, opted_out, since_ms, confirmed, confirmed_ms)
                         VALUES ($1, $2, $3, $4, $5, $6, $7)
                         ON CONFLICT (phone, system, person_id) DO UPDATE SET opted_out = excluded.opted_out,
                             since_ms = excluded.since_ms, confirmed = excluded.confirmed,
                             confirmed_ms = excluded.confirmed_ms
                         WHERE excluded.since_ms >= opt_out_flags.since_ms",
                    )
                    .bind(phone.as_str())
                    .bind(row::clean(&flag.system).as_ref())
                    .bind(row::clean(&flag.record_id).as_ref())
                    .bind(i64::from(flag.opted_out))
                    .bind(flag.since.as_millis())
                    .bind(flag.confirmation.as_str())
                    .bind(now)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Returns what was last confirmed of the flags of one number, on every record of every system of record.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn confirmed_flags(&self, phone: &Phone) -> Result<Vec<FlagRow>, StoreError> {
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT system, person_id, opted_out, since_ms, confirmed, confirmed_ms FROM opt_out_flags
                     WHERE phone = $1 ORDER BY confirmed_ms, system, person_id",
                )
                .bind(phone.as_e164()),
            )
            .await?;
        rows.iter()
            .map(|row| {
                let confirmation = FlagConfirmation::parse(&row::text(row, "confirmed")?);
                Ok(FlagRow {
                    flag: ConfirmedFlag {
                        system: row::text(row, "system")?,
                        record_id: row::text(row, "person_id")?,
                        opted_out: row::flag(row, "opted_out")?,
                        since: row::time(row, "since_ms")?,
                        confirmation: confirmation.ok_or_else(|| StoreError::unreadable("confirmed"))?,
                    },
                    confirmed_at: Timestamp::from_millis(row::number(row, "confirmed_ms")?),
                })
            })
            .collect()
    }
}
