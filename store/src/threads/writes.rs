//! The steps of a thread's write under its lease. Each is one statement whose WHERE names the lease's owner, so that a
//! process that was slow cannot overwrite what its successor recorded.

use std::time::Duration;

use crate::Store;
use crate::db::error::StoreError;
use crate::threads::model::{ThreadLease, ThreadWritten, WrittenPart};

impl Store {
    /// Must be called right before a call that creates the note of a part on a person's record: from now on the note may
    /// be there. Renews the lease. Returns `false` if another process has taken it over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn thread_note_sent(
        &self,
        lease: &ThreadLease,
        part: usize,
        person_id: &str,
        extend: Duration,
    ) -> Result<bool, StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write((lease.clone(), part, person_id.to_owned()), move |connection, (lease, part, person_id)| {
                let now = clock.now();
                Box::pin(async move {
                    let done = sqlx::query(
                        "UPDATE thread_writes SET lease_until = $3, doubt_part = $4, doubt_ms = $5, person_id = $6
                         WHERE write_id = $1 AND lease_owner = $2",
                    )
                    .bind(lease.write_id())
                    .bind(lease.owner.as_str())
                    .bind(now.plus(extend).as_millis())
                    .bind(i64::try_from(*part).unwrap_or(i64::MAX))
                    .bind(now.as_millis())
                    .bind(person_id.as_str())
                    .execute(connection)
                    .await?;
                    Ok(done.rows_affected() == 1)
                })
            })
            .await
    }

    /// Renews the lease before a call that may be repeated. Returns `false` if another process has taken it over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn renew_thread(&self, lease: &ThreadLease, extend: Duration) -> Result<bool, StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(lease.clone(), move |connection, lease| {
                let until = clock.now().plus(extend);
                Box::pin(async move {
                    let done = sqlx::query(
                        "UPDATE thread_writes SET lease_until = $3 WHERE write_id = $1 AND lease_owner = $2",
                    )
                    .bind(lease.write_id())
                    .bind(lease.owner.as_str())
                    .bind(until.as_millis())
                    .execute(connection)
                    .await?;
                    Ok(done.rows_affected() == 1)
                })
            })
            .await
    }

    /// Records the notes that are there so far, of which `part` is new, and ends the doubt about that one. This applies even
    /// if the lease was lost: the notes exist, and the present owner must learn so. Returns `false` if the thread was erased
    /// meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn thread_parts(
        &self,
        lease: &ThreadLease,
        person_id: &str,
        (part, parts): (usize, &[WrittenPart]),
    ) -> Result<bool, StoreError> {
        let arguments = (lease.clone(), person_id.to_owned(), part, json(parts));
        self.db
            .write(arguments, |connection, (lease, person_id, part, parts)| {
                Box::pin(async move {
                    let done = sqlx::query(
                        "UPDATE thread_writes SET parts = $3,
                             person_id = CASE WHEN COALESCE(doubt_part, $4) = $4 THEN $2 ELSE person_id END,
                             doubt_ms = CASE WHEN doubt_part = $4 THEN NULL ELSE doubt_ms END,
                             doubt_part = CASE WHEN doubt_part = $4 THEN NULL ELSE doubt_part END
                         WHERE write_id = $1",
                    )
                    .bind(lease.write_id())
                    .bind(person_id.as_str())
                    .bind(parts.as_str())
                    .bind(i64::try_from(*part).unwrap_or(i64::MAX))
                    .execute(connection)
                    .await?;
                    Ok(done.rows_affected() == 1)
                })
            })
            .await
    }

    /// Records that the whole thread was written, and ends the lease. Also applies if the lease was lost, unless a later
    /// version was written meanwhile. Returns `false` if the thread was erased meanwhile.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn thread_written(&self, lease: &ThreadLease, written: &ThreadWritten) -> Result<bool, StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write((lease.clone(), written.clone()), move |connection, (lease, written)| {
                let now = clock.now();
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE thread_writes SET version = $3, person_id = $4, parts = $5, text = $6, written_ms = $7,
                             doubt_part = NULL, doubt_ms = NULL,
                             lease_until = CASE WHEN lease_owner = $2 THEN NULL ELSE lease_until END,
                             lease_owner = CASE WHEN lease_owner = $2 THEN NULL ELSE lease_owner END
                         WHERE write_id = $1 AND version <= $3",
                    )
                    .bind(lease.write_id())
                    .bind(lease.owner.as_str())
                    .bind(written.version)
                    .bind(written.person_id.as_str())
                    .bind(json(&written.parts))
                    .bind(written.text.as_str())
                    .bind(now.as_millis())
                    .execute(&mut *connection)
                    .await?;
                    let known = sqlx::query("SELECT 1 FROM thread_writes WHERE write_id = $1").bind(lease.write_id());
                    Ok(known.fetch_optional(connection).await?.is_some())
                })
            })
            .await
    }

    /// Keeps the lease for `keep` after a call whose outcome is not known. A note in doubt counts from now on: the call may
    /// have waited for long before it was made.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn thread_in_doubt(&self, lease: &ThreadLease, keep: Duration) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(lease.clone(), move |connection, lease| {
                let now = clock.now();
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE thread_writes SET lease_until = $3,
                             doubt_ms = CASE WHEN doubt_part IS NULL THEN doubt_ms ELSE $4 END
                         WHERE write_id = $1 AND lease_owner = $2",
                    )
                    .bind(lease.write_id())
                    .bind(lease.owner.as_str())
                    .bind(now.plus(keep).as_millis())
                    .bind(now.as_millis())
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Ends the lease without a write. `nothing_sent` says that a note which was about to be created is surely not there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn release_thread(&self, lease: &ThreadLease, nothing_sent: bool) -> Result<(), StoreError> {
        self.db
            .write((lease.clone(), nothing_sent), |connection, (lease, nothing_sent)| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE thread_writes SET lease_owner = NULL, lease_until = NULL,
                             doubt_part = CASE WHEN $3 = 1 THEN NULL ELSE doubt_part END,
                             doubt_ms = CASE WHEN $3 = 1 THEN NULL ELSE doubt_ms END
                         WHERE write_id = $1 AND lease_owner = $2",
                    )
                    .bind(lease.write_id())
                    .bind(lease.owner.as_str())
                    .bind(i64::from(*nothing_sent))
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }
}

fn json(parts: &[WrittenPart]) -> String {
    serde_json::to_string(parts).unwrap_or_default()
}
