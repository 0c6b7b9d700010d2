//! Records, in batches, that the call of a claimed effect is being sent and that the effect was made. `effects/mod.rs`
//! explains claims.

use std::time::Duration;

use hookline_common::time::millis;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::{Ask, Batches, Db, row, statements};
use crate::effects::model::ClaimToken;

impl Store {
    /// Returns whether the claim still holds. If so, the lease ends `extend` from now, and a write counts as sent.
    /// Callers ask right before each write call. A lease that has run out is renewed too, as long as nobody took the
    /// claim over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn still_mine(&self, token: &ClaimToken, extend: Duration) -> Result<bool, StoreError> {
        self.sends.ask(SendAsk { token: token.clone(), lease_ms: millis(extend) }).await
    }

    /// Records that the effect was made, and its `remote_id` at the destination. This also applies if the claim was
    /// lost meanwhile: the effect exists, and the present owner of the claim must learn so before writing. If nothing
    /// was sent under the present claim, the earlier call in doubt made the effect, and the row names that call's
    /// event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn effect_done(&self, token: &ClaimToken, remote_id: Option<&str>) -> Result<(), StoreError> {
        self.note_completed(CompletedEffect::new(token.clone(), remote_id)).await
    }

    /// As [`Store::effect_done`], for an effect that could not be written together with the end of its attempt.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn note_completed(&self, effect: CompletedEffect) -> Result<(), StoreError> {
        self.completions.ask(effect).await
    }
}

/// An effect that was made under a claim. [`Store::effect_done`] records it.
#[derive(Clone, Debug)]
pub struct CompletedEffect {
    token: ClaimToken,
    remote_id: Option<String>,
}

impl CompletedEffect {
    #[must_use]
    pub fn new(token: ClaimToken, remote_id: Option<&str>) -> Self {
        Self { token, remote_id: row::maybe_clean(remote_id) }
    }

    pub(crate) fn effect_key(&self) -> &str {
        &self.token.effect_key
    }

    pub(crate) fn key(&self) -> (&str, &str, &str) {
        (self.token.handler.as_str(), &self.token.target, &self.token.effect_key)
    }
}

/// A claim under which a call is about to be sent.
#[derive(Clone)]
pub(crate) struct SendAsk {
    token: ClaimToken,
    lease_ms: i64,
}

impl Ask for SendAsk {
    /// Whether the claim holds.
    type Answer = bool;

    fn about(&self) -> Vec<&str> {
        vec![&self.token.effect_key]
    }

    const APART: bool = true;
}

impl Ask for CompletedEffect {
    type Answer = ();

    fn about(&self) -> Vec<&str> {
        vec![&self.token.effect_key]
    }

    const APART: bool = true;
}

pub(crate) fn sends(db: &Db) -> Batches<SendAsk> {
    let clock = db.clock().clone();
    Batches::start(db, move |connection, asks| {
        let now = clock.now().as_millis();
        Box::pin(send_all(connection, asks, now))
    })
}

pub(crate) fn completions(db: &Db) -> Batches<CompletedEffect> {
    Batches::start(db, |connection, asks| {
        Box::pin(async move {
            note(connection, asks.iter()).await?;
            Ok(vec![(); asks.len()])
        })
    })
}

async fn send_all(connection: &mut Connection, asks: &[SendAsk], now: i64) -> Result<Vec<bool>, StoreError> {
    let mut held = Vec::with_capacity(asks.len());
    for chunk in statements::chunks(asks) {
        let statement = format!(
            "UPDATE effects SET lease_until = column5, sent_ms = ${present}
             FROM (VALUES {values}) AS asked
             WHERE handler = column1 AND target = column2 AND effect_key = column3 AND owner = column4
             AND state = 'claimed'
             RETURNING handler, target, effect_key",
            present = chunk.len() * 5 + 1,
            values = statements::values(chunk.len(), 5),
        );
        let mut update = sqlx::query(AssertSqlSafe(statement));
        for SendAsk { token, lease_ms } in chunk {
            update = update
                .bind(token.handler.as_str())
                .bind(token.target.as_str())
                .bind(token.effect_key.as_str())
                .bind(token.owner.as_str())
                .bind(now.saturating_add(*lease_ms));
        }
        for row in update.bind(now).fetch_all(&mut *connection).await? {
            held.push((row::text(&row, "handler")?, row::text(&row, "target")?, row::text(&row, "effect_key")?));
        }
    }
    let is_held = |token: &ClaimToken| {
        held.iter().any(|(handler, target, effect_key)| {
            (handler.as_str(), target, effect_key) == (token.handler.as_str(), &token.target, &token.effect_key)
        })
    };
    Ok(asks.iter().map(|ask| is_held(&ask.token)).collect())
}

/// Marks effects done, in the order in which all jobs lock effects.
pub(crate) async fn note(
    connection: &mut Connection,
    effects: impl Iterator<Item = &CompletedEffect>,
) -> Result<(), StoreError> {
    let mut sorted: Vec<&CompletedEffect> = effects.collect();
    sorted.sort_by_key(|effect| effect.key());
    for chunk in statements::chunks(&sorted) {
        let statement = format!(
            "UPDATE effects SET state = 'done', remote_id = column4, unknown_ms = NULL, write_again = 0,
                 event_id = CASE WHEN state = 'claimed' AND sent_ms IS NULL AND unknown_ms IS NOT NULL
                                 THEN doubted_event_id ELSE event_id END
             FROM (VALUES {}) AS asked
             WHERE handler = column1 AND target = column2 AND effect_key = column3 AND state <> 'done'",
            statements::values(chunk.len(), 4)
        );
        let mut update = sqlx::query(AssertSqlSafe(statement));
        for CompletedEffect { token, remote_id } in chunk {
            update = update
                .bind(token.handler.as_str())
                .bind(token.target.as_str())
                .bind(token.effect_key.as_str())
                .bind(remote_id.as_deref());
        }
        update.execute(&mut *connection).await?;
    }
    Ok(())
}
