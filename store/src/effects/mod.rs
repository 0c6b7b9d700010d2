//! One fact has one effect per handler and target. This module decides who may write the effect now, and records
//! whether it was written before.
//!
//! A row is `claimed` before the first write call and `done` after it. Right before each call, `still_mine` records
//! that a call is sent. If a call's outcome is not known, or the claim expires after a call was sent, the effect is
//! *unknown*. Its next owner must look before it writes, and only once the call can no longer take effect
//! (`settle_after`). Under the new claim, the row keeps the doubt and the event it belongs to, so that releasing the
//! claim does not make an unknown outcome look fresh. A claim that ends with nothing sent leaves the row as it was.
//!
//! Every step is one statement whose WHERE states what it relies on, so two processes cannot both win.

pub(crate) mod claims;
pub(crate) mod completed;
pub(crate) mod model;

use crate::Store;
use crate::db::error::StoreError;
use crate::effects::model::ClaimToken;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EffectState {
    Claimed,
    Done,
    Unknown,
}

impl EffectState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Done => "done",
            Self::Unknown => "unknown",
        }
    }
}

impl std::str::FromStr for EffectState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Claimed, Self::Done, Self::Unknown].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

impl Store {
    /// Records that a call was sent and no usable answer came: from now on the outcome is unknown. Ends the claim, and
    /// a person's permission to write again.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn effect_unknown(&self, token: &ClaimToken) -> Result<(), StoreError> {
        self.end_claim(
            token,
            "UPDATE effects SET state = 'unknown', unknown_ms = $5, write_again = 0
             WHERE handler = $1 AND target = $2 AND effect_key = $3 AND owner = $4 AND state = 'claimed'",
        )
        .await
    }

    /// Ends a claim under which nothing was sent. An outcome that was unknown before stays unknown since then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn release(&self, token: &ClaimToken) -> Result<(), StoreError> {
        self.db
            .write(token.clone(), |connection, token| {
                Box::pin(async move {
                    for statement in [
                        "UPDATE effects SET state = 'unknown', event_id = doubted_event_id
                         WHERE handler = $1 AND target = $2 AND effect_key = $3
                         AND owner = $4 AND state = 'claimed' AND unknown_ms IS NOT NULL",
                        "DELETE FROM effects WHERE handler = $1 AND target = $2 AND effect_key = $3
                         AND owner = $4 AND state = 'claimed' AND unknown_ms IS NULL",
                    ] {
                        sqlx::query(statement)
                            .bind(token.handler.as_str())
                            .bind(token.target.as_str())
                            .bind(token.effect_key.as_str())
                            .bind(token.owner.as_str())
                            .execute(&mut *connection)
                            .await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Ends every claim and every phone lock, except the locks of a POST that may still take effect, which end with
    /// their lease. A process may call this only if it has made sure that no other works in this data directory, such
    /// as the owner of the embedded broker at its start. Effects whose call was sent are unknown from now on. Does
    /// nothing on a database that other machines may use: there, the claims of dead processes end with their lease.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_claims_of_the_dead(&self) -> Result<(), StoreError> {
        if self.db.dialect().is_shared() { Ok(()) } else { self.end_claims(None).await }
    }

    /// Ends the claims and phone locks of one owner that will not end them itself, by the rules of
    /// [`Store::end_claims_of_the_dead`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_claims_of(&self, owner: &str) -> Result<(), StoreError> {
        self.end_claims(Some(owner.to_owned())).await
    }

    /// Ends the claims of `owner`, or of every owner if `None`.
    async fn end_claims(&self, owner: Option<String>) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(owner, move |connection, owner| {
                let now = clock.now().as_millis();
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE contact_links SET lock_owner = NULL, lock_until = NULL
                         WHERE ($1 IS NULL OR lock_owner = $1) AND lock_until IS NOT NULL
                           AND NOT EXISTS (SELECT 1 FROM effects
                               WHERE handler = 'create_contact' AND target = account AND owner = lock_owner
                                 AND (state = 'unknown' OR (state = 'claimed' AND sent_ms IS NOT NULL)))",
                    )
                    .bind(owner.as_deref())
                    .execute(&mut *connection)
                    .await?;
                    for statement in [
                        // A note that a call may have created stays in doubt.
                        "UPDATE thread_writes SET lease_owner = NULL, lease_until = NULL
                         WHERE lease_owner IS NOT NULL AND ($1 IS NULL OR lease_owner = $1)",
                        "DELETE FROM effects WHERE ($1 IS NULL OR owner = $1) AND state = 'claimed'
                         AND sent_ms IS NULL AND unknown_ms IS NULL",
                        "UPDATE effects SET state = 'unknown', event_id = doubted_event_id
                         WHERE ($1 IS NULL OR owner = $1) AND state = 'claimed' AND sent_ms IS NULL",
                    ] {
                        sqlx::query(statement).bind(owner.as_deref()).execute(&mut *connection).await?;
                    }
                    sqlx::query(
                        "UPDATE effects SET state = 'unknown', unknown_ms = $2, write_again = 0
                         WHERE ($1 IS NULL OR owner = $1) AND state = 'claimed'",
                    )
                    .bind(owner.as_deref())
                    .bind(now)
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn end_claim(&self, token: &ClaimToken, statement: &'static str) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(token.clone(), move |connection, token| {
                let now = clock.now().as_millis();
                Box::pin(async move {
                    sqlx::query(statement)
                        .bind(token.handler.as_str())
                        .bind(token.target.as_str())
                        .bind(token.effect_key.as_str())
                        .bind(token.owner.as_str())
                        .bind(now)
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}
