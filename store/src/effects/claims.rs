//! Claims effects, in batches. `effects/mod.rs` explains claims.

use std::collections::HashMap;

use hookline_common::time::{Timestamp, millis};
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::{Ask, Batches, Db, row, statements};
use crate::effects::EffectState;
use crate::effects::model::{Claim, ClaimRequest, ClaimToken};

impl Store {
    /// Claims an effect. See [`Claim`] for what each answer obliges the caller to.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim(&self, request: &ClaimRequest<'_>) -> Result<Claim, StoreError> {
        let claim = self.claims.ask(Wanted::from(request)).await?;
        Ok(self.by_our_clock(claim))
    }

    pub(crate) fn by_our_clock(&self, claim: Claim) -> Claim {
        match claim {
            Claim::Wait { until } => Claim::Wait { until: self.db.clock().here(until) },
            claim @ (Claim::Fresh(_) | Claim::AfterUnknown { .. } | Claim::Done { .. }) => claim,
        }
    }
}

/// A [`ClaimRequest`] with owned fields, which a write can keep.
#[derive(Clone)]
pub(crate) struct Wanted {
    token: ClaimToken,
    event_id: String,
    lease_ms: i64,
    settle_ms: i64,
}

impl From<&ClaimRequest<'_>> for Wanted {
    fn from(request: &ClaimRequest<'_>) -> Self {
        Self {
            token: ClaimToken {
                handler: request.handler,
                target: row::clean(request.target).into_owned(),
                effect_key: row::clean(request.effect_key).into_owned(),
                owner: request.owner.to_owned(),
            },
            event_id: request.event_id.as_str().to_owned(),
            lease_ms: millis(request.lease),
            settle_ms: millis(request.settle_after),
        }
    }
}

impl Ask for Wanted {
    type Answer = Claim;

    fn about(&self) -> Vec<&str> {
        vec![&self.token.effect_key]
    }

    const APART: bool = true;
}

impl Wanted {
    pub(crate) fn effect_key(&self) -> &str {
        &self.token.effect_key
    }

    fn key(&self) -> (&str, &str, &str) {
        (self.token.handler.as_str(), &self.token.target, &self.token.effect_key)
    }
}

pub(crate) fn claims(db: &Db) -> Batches<Wanted> {
    let clock = db.clock().clone();
    Batches::start(db, move |connection, wanted| {
        let now = clock.now().as_millis();
        Box::pin(async move { claim_all(connection, &wanted.iter().collect::<Vec<_>>(), now).await })
    })
}

/// Returns one answer per request, in the order of the requests.
pub(crate) async fn claim_all(
    connection: &mut Connection,
    wanted: &[&Wanted],
    now: i64,
) -> Result<Vec<Claim>, StoreError> {
    let mut sorted: Vec<(usize, &Wanted)> = wanted.iter().copied().enumerate().collect();
    sorted.sort_by_key(|(_, wanted)| wanted.key());
    let mut claims = Vec::with_capacity(wanted.len());
    // One statement takes one settle time, and handlers differ in theirs.
    for alike in sorted.chunk_by(|(_, one), (_, next)| one.settle_ms == next.settle_ms) {
        for chunk in statements::chunks(alike) {
            let asked: Vec<&Wanted> = chunk.iter().map(|(_, wanted)| *wanted).collect();
            let mut taken = take(connection, &asked, now).await?;
            for &(place, wanted) in chunk {
                let claim = match taken.remove(&wanted.key()) {
                    Some(claim) => claim,
                    None => claim_slowly(connection, wanted, now).await?,
                };
                claims.push((place, claim));
            }
        }
    }
    claims.sort_by_key(|(place, _)| *place);
    Ok(claims.into_iter().map(|(_, claim)| claim).collect())
}

/// Claims an effect that [`take`] did not get at first.
async fn claim_slowly(connection: &mut Connection, wanted: &Wanted, now: i64) -> Result<Claim, StoreError> {
    // The first `take` has locked the row. If the row is gone all the same, we ask for it again.
    for _ in 0..3 {
        if let Some(claim) = refuse(connection, wanted, now).await? {
            return Ok(claim);
        }
        if let Some(claim) = take(connection, &[wanted], now).await?.remove(&wanted.key()) {
            return Ok(claim);
        }
    }
    Err(StoreError::Contended("an effect changed hands too often to be claimed".to_owned()))
}

/// Inserts each row, or takes it over if its outcome is unknown and can no longer change. All requests have the same
/// settle time.
async fn take<'a>(
    connection: &mut Connection,
    wanted: &[&'a Wanted],
    now: i64,
) -> Result<HashMap<(&'a str, &'a str, &'a str), Claim>, StoreError> {
    let last = wanted.len() * 9;
    let (present, settle) = (format!("${}", last + 1), format!("${}", last + 2));
    // A claim that ended after it sent a call may have written, perhaps with a person's consent, so that consent is
    // spent. A claim that sent nothing leaves everything as it found it.
    let statement = format!(
        "INSERT INTO effects
             (handler, target, effect_key, state, event_id, owner, lease_until, created_ms, write_again)
         VALUES {values}
         ON CONFLICT (handler, target, effect_key) DO UPDATE SET
             state = 'claimed', event_id = excluded.event_id, owner = excluded.owner,
             lease_until = excluded.lease_until, sent_ms = NULL,
             write_again = CASE WHEN effects.state = 'unknown' OR effects.sent_ms IS NULL
                                THEN effects.write_again ELSE 0 END,
             unknown_ms = CASE WHEN effects.state = 'unknown' OR effects.sent_ms IS NULL THEN effects.unknown_ms
                               WHEN effects.lease_until < {present} THEN effects.lease_until ELSE {present} END,
             doubted_event_id = CASE WHEN effects.state = 'claimed' AND effects.sent_ms IS NULL
                                     THEN effects.doubted_event_id ELSE effects.event_id END
         WHERE (effects.state = 'claimed' AND effects.owner = excluded.owner AND effects.lease_until > {present})
            OR (effects.state = 'claimed' AND effects.sent_ms IS NOT NULL
                AND effects.lease_until + {settle} <= {present})
            OR (effects.state = 'claimed' AND effects.sent_ms IS NULL AND effects.lease_until <= {present}
                AND (effects.unknown_ms IS NULL OR effects.unknown_ms + {settle} <= {present}))
            OR (effects.state = 'unknown' AND effects.unknown_ms + {settle} <= {present})
         RETURNING handler, target, effect_key, unknown_ms, doubted_event_id AS event_id, write_again",
        values = statements::values(wanted.len(), 9)
    );
    let mut insert = sqlx::query(AssertSqlSafe(statement));
    for wanted in wanted {
        insert = insert
            .bind(wanted.token.handler.as_str())
            .bind(wanted.token.target.as_str())
            .bind(wanted.token.effect_key.as_str())
            .bind(EffectState::Claimed.as_str())
            .bind(wanted.event_id.as_str())
            .bind(wanted.token.owner.as_str())
            .bind(now.saturating_add(wanted.lease_ms))
            .bind(now)
            .bind(0_i64);
    }
    let settle_ms = wanted.first().map_or(0, |wanted| wanted.settle_ms);
    let rows = insert.bind(now).bind(settle_ms).fetch_all(connection).await?;
    let mut taken = HashMap::with_capacity(rows.len());
    for row in rows {
        let key = (row::text(&row, "handler")?, row::text(&row, "target")?, row::text(&row, "effect_key")?);
        let key = (key.0.as_str(), key.1.as_str(), key.2.as_str());
        let Some(wanted) = wanted.iter().find(|wanted| wanted.key() == key) else { continue };
        let token = wanted.token.clone();
        let claim = match row::maybe_number(&row, "unknown_ms")? {
            None => Claim::Fresh(token),
            Some(_) => Claim::AfterUnknown {
                token,
                write_again: row::flag(&row, "write_again")?,
                event_id: row::event_id(&row)?,
            },
        };
        taken.insert(wanted.key(), claim);
    }
    Ok(taken)
}

/// Returns why the effect could not be taken; `None` if the row is gone.
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
