//! The locks of one contact's numbers in one account. A delivery that creates a contact holds the lock of each of its
//! numbers from before the look-ups until the outcome is recorded. So two contacts that share a number are never
//! created at once.

use std::time::Duration;

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::{ContactLink, PhoneLock};
use hookline_store::{Store, StoreError};

use super::soon;
use crate::delivery::handler::HandlerError;

pub(super) struct ContactLocks<'a> {
    store: &'a Store,
    account: &'a str,
    owner: &'a str,
    lease: Duration,
    /// Sorted, so that all deliveries lock in the same order.
    phones: Vec<&'a Phone>,
}

impl<'a> ContactLocks<'a> {
    pub(super) fn new(
        store: &'a Store,
        (account, owner): (&'a str, &'a str),
        lease: Duration,
        phones: &'a [Phone],
    ) -> Self {
        let mut phones: Vec<&Phone> = phones.iter().collect();
        phones.sort_unstable();
        Self { store, account, owner, lease, phones }
    }

    /// Takes all locks and returns what is known of each number. If one lock can't be had, it releases all, so that two
    /// contacts that share numbers never wait for each other.
    pub(super) async fn take(&self) -> Result<Vec<ContactLink>, HandlerError> {
        let mut links = Vec::with_capacity(self.phones.len());
        for phone in &self.phones {
            let refused = match self.store.lock_phone(self.account, phone, self.owner, self.lease).await {
                Ok(PhoneLock::Mine(link)) => {
                    links.push(link);
                    continue;
                }
                Ok(PhoneLock::Wait { until }) => {
                    HandlerError::Wait { until: soon(until), why: "another delivery is at this phone number" }
                }
                Err(error) => error.into(),
            };
            self.unlock(links.iter().map(|link| &link.phone)).await?;
            return Err(refused);
        }
        Ok(links)
    }

    /// Takes all locks again. Slow look-ups may have outlasted them, and another delivery may have created the contact
    /// since. In that case this attempt ends, and the next one looks again.
    pub(super) async fn renew(&self) -> Result<(), HandlerError> {
        if self.take().await?.iter().any(|link| link.contact_id.is_some()) {
            let why = "another delivery created the contact meanwhile";
            return Err(HandlerError::Wait { until: soon(Timestamp::now().plus(Duration::from_secs(1))), why });
        }
        Ok(())
    }

    /// Keeps all locks for as long as a POST whose outcome is unknown may still take effect: no look-up is conclusive
    /// before.
    pub(super) async fn keep(&self, settle_after: Duration) -> Result<(), StoreError> {
        for phone in &self.phones {
            self.store.lock_phone(self.account, phone, self.owner, settle_after).await?;
        }
        Ok(())
    }

    pub(super) async fn give_back(&self) -> Result<(), StoreError> {
        self.unlock(self.phones.iter().copied()).await
    }

    async fn unlock(&self, phones: impl Iterator<Item = &Phone>) -> Result<(), StoreError> {
        for phone in phones {
            self.store.unlock_phone(self.account, phone, self.owner).await?;
        }
        Ok(())
    }
}
