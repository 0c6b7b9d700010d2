//! One fact, one effect per handler and target: who may write it now, and whether it was written before.
//!
//! A row is `claimed` before the first write call and `done` after it; `still_mine`, right before each call, notes
//! that one is sent. Where a call's outcome is not known, or its claim expired after that, the effect is *unknown*:
//! whoever claims it next must look before it writes, and not before the call can no longer come true
//! (`settle_after`). What is in doubt and whose it was stay on the row through such a claim, so that giving it back
//! does not make an unknown outcome look fresh. A claim that ended with nothing sent leaves what was before it.
//!
//! Every step is one statement that says in its WHERE what it relies on: two processes cannot both win.

use hookline_common::time::Timestamp;

use crate::db::Turn;
use crate::dialect::Connection;
use crate::error::StoreError;
use crate::model::{Claim, ClaimRequest, ClaimToken};
use crate::{Store, row};

#[derive(Clone, Copy, PartialEq, Eq)]
enum EffectState {
    Claimed,
    Done,
    Unknown,
}

impl std::str::FromStr for EffectState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "claimed" => Ok(Self::Claimed),
            "done" => Ok(Self::Done),
            "unknown" => Ok(Self::Unknown),
            _ => Err(()),
        }
    }
}

/// A [`ClaimRequest`] that a write can keep.
struct Wanted {
    token: ClaimToken,
    event_id: String,
    lease_ms: i64,
    settle_ms: i64,
}

impl Store {
    /// Asks for an effect; see [`Claim`] for what the answers oblige to.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let wanted = Wanted {
            token: ClaimToken {
                handler: request.handler,
                target: row::clean(request.target).into_owned(),
                effect_key: row::clean(request.effect_key).into_owned(),
                owner: request.owner.to_owned(),
            },
            event_id: request.event_id.as_str().to_owned(),
            lease_ms: millis(request.lease),
            settle_ms: millis(request.settle_after),
        };
        let clock = self.db.clock().clone();
        let turn = turn(&wanted.token);
        let claim = self
            .db
            .write(turn, wanted, move |connection, wanted| {
                let now = clock.now().as_millis();
                Box::pin(claim(connection, wanted, now))
            })
            .await?;
        Ok(match claim {
            Claim::Wait { until } => Claim::Wait { until: self.db.clock().here(until) },
            claim @ (Claim::Fresh(_) | Claim::AfterUnknown { .. } | Claim::Done { .. }) => claim,
        })
    }

    /// Whether the claim still holds; if so, its lease ends `extend` from now, and a write counts as sent. Asked right
    /// before each write call. A lease that has run out is renewed too, as long as nobody took the claim over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn still_mine(&self, token: &ClaimToken, extend: std::time::Duration) -> Result<bool, StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(turn(token), (token.clone(), millis(extend)), move |connection, (token, extend)| {
                let now = clock.now().as_millis();
                Box::pin(async move {
                    let renewed = sqlx::query(
                        "UPDATE effects SET lease_until = $5, sent_ms = $6
                         WHERE handler = $1 AND target = $2 AND effect_key = $3 AND owner = $4 AND state = 'claimed'",
                    )
                    .bind(token.handler.as_str())
                    .bind(token.target.as_str())
                    .bind(token.effect_key.as_str())
                    .bind(token.owner.as_str())
                    .bind(now.saturating_add(*extend))
                    .bind(now)
                    .execute(connection)
                    .await?;
                    Ok(renewed.rows_affected() == 1)
                })
            })
            .await
    }

    /// The effect was made, and is known by `remote_id` there. True of a claim that was lost meanwhile too: the
    /// effect is there, and whoever holds the claim now must learn it before writing. Where nothing was sent under
    /// the present claim, the call that was in doubt made it, and its event is named.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn effect_done(&self, token: &ClaimToken, remote_id: Option<&str>) -> Result<(), StoreError> {
        self.db
            .write(turn(token), (token.clone(), remote_id.map(str::to_owned)), |connection, (token, remote_id)| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE effects SET state = 'done', remote_id = $4, unknown_ms = NULL, write_again = 0,
                             event_id = CASE WHEN state = 'claimed' AND sent_ms IS NULL AND unknown_ms IS NOT NULL
                                             THEN doubted_event_id ELSE event_id END
                         WHERE handler = $1 AND target = $2 AND effect_key = $3 AND state <> 'done'",
                    )
                    .bind(token.handler.as_str())
                    .bind(token.target.as_str())
                    .bind(token.effect_key.as_str())
                    .bind(remote_id.as_deref())
                    .execute(connection)
                    .await?;
                    Ok(())
                })
            })
            .await
    }

    /// A call was sent and no usable answer came: from now on the outcome is unknown. Ends the claim, and a
    /// person's word that it may be written again.
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

    /// Nothing was sent under this claim. An outcome that was unknown before stays unknown since then.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn release(&self, token: &ClaimToken) -> Result<(), StoreError> {
        self.db
            .write(turn(token), token.clone(), |connection, token| {
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

    /// Ends every claim and phone lock: for a process that has made sure that no other works in this data directory,
    /// such as the owner of the embedded broker at its start. What was sent is unknown since now. Does nothing on a
    /// database that other machines may work on: there, claims of the dead end with their lease.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_claims_of_the_dead(&self) -> Result<(), StoreError> {
        if self.db.dialect().is_shared() { Ok(()) } else { self.end_claims(None).await }
    }

    /// Ends the claims and phone locks of one owner that will not do it itself, as those of the dead are ended.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_claims_of(&self, owner: &str) -> Result<(), StoreError> {
        self.end_claims(Some(owner.to_owned())).await
    }

    /// `None`: of every owner.
    async fn end_claims(&self, owner: Option<String>) -> Result<(), StoreError> {
        let clock = self.db.clock().clone();
        self.db
            .write(Turn::Alone, owner, move |connection, owner| {
                let now = clock.now().as_millis();
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE contact_links SET lock_owner = NULL, lock_until = NULL
                         WHERE ($1 IS NULL OR lock_owner = $1) AND lock_until IS NOT NULL",
                    )
                    .bind(owner.as_deref())
                    .execute(&mut *connection)
                    .await?;
                    for statement in [
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
            .write(turn(token), token.clone(), move |connection, token| {
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

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn turn(token: &ClaimToken) -> Turn {
    Turn::row("effects", &[token.handler.as_str(), &token.target, &token.effect_key])
}

async fn claim(connection: &mut Connection, wanted: &Wanted, now: i64) -> Result<Claim, StoreError> {
    // Where it cannot be taken, its row is locked by having been looked at; should it be gone all the same, it is ours
    // to ask for again.
    for _ in 0..3 {
        if let Some(claim) = take(connection, wanted, now).await? {
            return Ok(claim);
        }
        if let Some(claim) = refuse(connection, wanted, now).await? {
            return Ok(claim);
        }
    }
    Err(StoreError::Contended("an effect changed hands too often to be claimed".to_owned()))
}

/// Makes the row, or takes it over where its outcome is unknown and can no longer change.
async fn take(connection: &mut Connection, wanted: &Wanted, now: i64) -> Result<Option<Claim>, StoreError> {
    // A claim that ended after it sent may have written, with a person's consent too: that consent is spent. One that
    // sent nothing leaves everything as it found it.
    let row = sqlx::query(
        "INSERT INTO effects
             (handler, target, effect_key, state, event_id, owner, lease_until, write_again, created_ms)
         VALUES ($1, $2, $3, 'claimed', $4, $5, $6, 0, $7)
         ON CONFLICT (handler, target, effect_key) DO UPDATE SET
             state = 'claimed', event_id = excluded.event_id, owner = excluded.owner,
             lease_until = excluded.lease_until, sent_ms = NULL,
             write_again = CASE WHEN effects.state = 'unknown' OR effects.sent_ms IS NULL
                                THEN effects.write_again ELSE 0 END,
             unknown_ms = CASE WHEN effects.state = 'unknown' OR effects.sent_ms IS NULL THEN effects.unknown_ms
                               WHEN effects.lease_until < $7 THEN effects.lease_until ELSE $7 END,
             doubted_event_id = CASE WHEN effects.state = 'claimed' AND effects.sent_ms IS NULL
                                     THEN effects.doubted_event_id ELSE effects.event_id END
         WHERE (effects.state = 'claimed' AND effects.owner = excluded.owner AND effects.lease_until > $7)
            OR (effects.state = 'claimed' AND effects.sent_ms IS NOT NULL AND effects.lease_until + $8 <= $7)
            OR (effects.state = 'claimed' AND effects.sent_ms IS NULL AND effects.lease_until <= $7
                AND (effects.unknown_ms IS NULL OR effects.unknown_ms + $8 <= $7))
            OR (effects.state = 'unknown' AND effects.unknown_ms + $8 <= $7)
         RETURNING unknown_ms, doubted_event_id AS event_id, write_again",
    )
    .bind(wanted.token.handler.as_str())
    .bind(wanted.token.target.as_str())
    .bind(wanted.token.effect_key.as_str())
    .bind(wanted.event_id.as_str())
    .bind(wanted.token.owner.as_str())
    .bind(now.saturating_add(wanted.lease_ms))
    .bind(now)
    .bind(wanted.settle_ms)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let token = wanted.token.clone();
    Ok(Some(match row::maybe_number(&row, "unknown_ms")? {
        None => Claim::Fresh(token),
        Some(_) => {
            Claim::AfterUnknown { token, write_again: row::flag(&row, "write_again")?, event_id: row::event_id(&row)? }
        }
    }))
}

/// Why it could not be taken; `None` where the row is gone.
async fn refuse(connection: &mut Connection, wanted: &Wanted, now: i64) -> Result<Option<Claim>, StoreError> {
    let row = sqlx::query(
        "SELECT state, event_id, remote_id, lease_until, sent_ms, unknown_ms FROM effects
         WHERE handler = $1 AND target = $2 AND effect_key = $3",
    )
    .bind(wanted.token.handler.as_str())
    .bind(wanted.token.target.as_str())
    .bind(wanted.token.effect_key.as_str())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let lease_until = row::number(&row, "lease_until")?;
    let settled = |since: i64| since.saturating_add(wanted.settle_ms);
    let unknown_ms = row::maybe_number(&row, "unknown_ms")?;
    let until = match row::name::<EffectState>(&row, "state")? {
        EffectState::Done => {
            return Ok(Some(Claim::Done {
                event_id: row::event_id(&row)?,
                remote_id: row::maybe_text(&row, "remote_id")?,
            }));
        }
        EffectState::Claimed if lease_until > now => lease_until,
        EffectState::Claimed if row::maybe_number(&row, "sent_ms")?.is_some() => settled(lease_until),
        EffectState::Claimed => unknown_ms.map_or(now, settled),
        EffectState::Unknown => settled(unknown_ms.unwrap_or(lease_until)),
    };
    Ok(Some(Claim::Wait { until: Timestamp::from_millis(until) }))
}
