//! What we know of a person's contact in each TextUs account. One row is also the lock that serialises writes per
//! account and phone across processes, so that an echo that overtakes our answer finds the row.

use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::phone::Phone;

use crate::Store;
use crate::db::dialect::DbRow;
use crate::db::error::StoreError;
use crate::db::row;
use crate::records::model::{ContactLink, PhoneLock};

impl Store {
    /// Takes the lock of an account and phone, or renews it for the same owner.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lock_phone(
        &self,
        account: &str,
        phone: &Phone,
        owner: &str,
        lease: Duration,
    ) -> Result<PhoneLock, StoreError> {
        let arguments = (account.to_owned(), phone.clone(), owner.to_owned(), lease);
        let clock = self.db.clock().clone();
        let lock = self
            .db
            .write(arguments, move |connection, (account, phone, owner, lease)| {
                let now = clock.now();
                Box::pin(async move {
                    let mine = sqlx::query(
                        "INSERT INTO contact_links (account, phone, created_by_us, lock_owner, lock_until)
                         VALUES ($1, $2, 0, $3, $4)
                         ON CONFLICT (account, phone) DO UPDATE SET
                             lock_owner = excluded.lock_owner, lock_until = excluded.lock_until
                         WHERE contact_links.lock_owner IS NULL OR contact_links.lock_owner = excluded.lock_owner
                            OR contact_links.lock_until <= $5
                         RETURNING contact_id, person_id, created_by_us",
                    )
                    .bind(account.as_str())
                    .bind(phone.as_e164())
                    .bind(owner.as_str())
                    .bind(now.plus(*lease).as_millis())
                    .bind(now.as_millis())
                    .fetch_optional(&mut *connection)
                    .await?;
                    if let Some(row) = mine {
                        return Ok(PhoneLock::Mine(contact_link(&row, account, phone)?));
                    }
                    let held = sqlx::query("SELECT lock_until FROM contact_links WHERE account = $1 AND phone = $2")
                        .bind(account.as_str())
                        .bind(phone.as_e164())
                        .fetch_optional(connection)
                        .await?;
                    let until = held.map(|row| row::maybe_time(&row, "lock_until")).transpose()?.flatten();
                    Ok(PhoneLock::Wait { until: until.unwrap_or(now) })
                })
            })
            .await?;
        Ok(match lock {
            PhoneLock::Wait { until } => PhoneLock::Wait { until: self.db.clock().here(until) },
            PhoneLock::Mine(link) => PhoneLock::Mine(link),
        })
    }

    /// Releases the lock, unless another owner has it by now.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn unlock_phone(&self, account: &str, phone: &Phone, owner: &str) -> Result<(), StoreError> {
        let arguments = (account.to_owned(), phone.clone(), owner.to_owned());
        self.db
            .write(arguments, |connection, (account, phone, owner)| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE contact_links SET lock_owner = NULL, lock_until = NULL
                         WHERE account = $1 AND phone = $2 AND lock_owner = $3",
                    )
                    .bind(account.as_str())
                    .bind(phone.as_e164())
                    .bind(owner.as_str())
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Returns what is known of the contact; `None` if nothing is, whether the row is locked or not.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn link(&self, account: &str, phone: &Phone) -> Result<Option<ContactLink>, StoreError> {
        let row = self
            .db
            .row(
                sqlx::query(
                    "SELECT contact_id, person_id, created_by_us FROM contact_links WHERE account = $1 AND phone = $2
             AND (contact_id IS NOT NULL OR person_id IS NOT NULL OR created_by_us = 1)",
                )
                .bind(account)
                .bind(phone.as_e164()),
            )
            .await?;
        row.map(|row| contact_link(&row, account, phone)).transpose()
    }

    /// Saves what is known: an id replaces the one before, a missing id leaves it, `created_by_us` only turns true.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn save_link(&self, link: &ContactLink) -> Result<(), StoreError> {
        self.db
            .write(link.clone(), |connection, link| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO contact_links (account, phone, contact_id, person_id, created_by_us)
                         VALUES ($1, $2, $3, $4, $5)
                         ON CONFLICT (account, phone) DO UPDATE SET
                             contact_id = COALESCE(excluded.contact_id, contact_links.contact_id),
                             person_id = COALESCE(excluded.person_id, contact_links.person_id),
                             created_by_us = CASE WHEN excluded.created_by_us = 1 THEN 1
                                                  ELSE contact_links.created_by_us END",
                    )
                    .bind(link.account.as_str())
                    .bind(link.phone.as_e164())
                    .bind(row::maybe_clean(link.contact_id.as_deref()))
                    .bind(row::maybe_clean(link.person_id.as_deref()))
                    .bind(i64::from(link.created_by_us))
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Whether another event's POST of a contact with this phone was sent and its outcome is not known yet, also while
    /// somebody looks for the contact under a new claim. A `contact.created` that arrives meanwhile may be that POST's
    /// echo. POSTs that were given up do not count.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn contact_in_doubt(&self, phone: &Phone, event_id: &EventId) -> Result<bool, StoreError> {
        let row = self
            .db
            .row(
                sqlx::query(
                    "SELECT 1 FROM effects e
             LEFT JOIN deliveries d ON d.event_id = e.event_id AND d.handler = e.handler
             WHERE e.handler = 'create_contact' AND e.effect_key = $1
               AND (((e.state = 'unknown' OR (e.state = 'claimed' AND e.sent_ms IS NOT NULL)) AND e.event_id <> $2)
                 OR (e.state = 'claimed' AND e.unknown_ms IS NOT NULL
                     AND COALESCE(e.doubted_event_id, e.event_id) <> $2))
               AND (d.state IS NULL OR d.state = 'waiting') LIMIT 1",
                )
                .bind(phone.as_e164())
                .bind(event_id.as_str()),
            )
            .await?;
        Ok(row.is_some())
    }

    /// Whether our own POST created this contact, so that its `contact.created` is an echo.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn created_by_us(&self, contact_id: &str) -> Result<bool, StoreError> {
        let row = self
            .db
            .row(
                sqlx::query("SELECT 1 FROM contact_links WHERE contact_id = $1 AND created_by_us = 1 LIMIT 1")
                    .bind(row::clean(contact_id).as_ref()),
            )
            .await?;
        Ok(row.is_some())
    }
}

fn contact_link(row: &DbRow, account: &str, phone: &Phone) -> Result<ContactLink, StoreError> {
    Ok(ContactLink {
        account: account.to_owned(),
        phone: phone.clone(),
        contact_id: row::maybe_text(row, "contact_id")?,
        person_id: row::maybe_text(row, "person_id")?,
        created_by_us: row::flag(row, "created_by_us")?,
    })
}
