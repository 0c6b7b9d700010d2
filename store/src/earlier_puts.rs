//! What was PUT of a phone before, as far as it makes another PUT needless; looked up for many at once.
//!
//! A PUT is *re-armed* once an opt-in was recorded after it, in any account, that is strictly newer than the
//! opt-out which caused it, or whose time cannot be read: from then on that PUT explains nothing any more, neither an
//! echo nor "already done". In doubt it is better to PUT once more.

use std::collections::HashMap;

use hookline_common::names::HandlerName;
use sqlx::AssertSqlSafe;

use crate::dialect::{Connection, DbRow};
use crate::error::StoreError;
use crate::model::PutDecision;
use crate::opt_out_puts::NOT_SENT;
use crate::opt_outs::Opt;
use crate::{row, statements};

/// What came before a PUT of an event to a target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Earlier {
    /// This event's own, answered 2xx or read back.
    own: bool,
    /// The latest to the account that raised the event, this event's own aside.
    to_source: Option<SentPut>,
    /// The latest to the target.
    to_target: Option<SentPut>,
}

/// A `put_sent` and what came of it.
#[derive(Clone, Copy, Debug)]
struct SentPut {
    answer: Answer,
    /// Its delivery ended without it.
    given_up: bool,
    rearmed: bool,
}

/// The last answer to a PUT; a GET that showed the opt-out after a 409 or 422 counts as its 200.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// None was recorded, or it was recorded that none came.
    None,
    /// The call never left this machine.
    NotSent,
    Status(i64),
}

impl Earlier {
    /// Why no PUT is needed. The order matters: what this event did itself explains more than what others did. Of
    /// others only the latest: a later PUT that was refused shows that what came before it no longer tells the state
    /// there.
    pub(crate) fn explains(&self) -> Option<PutDecision> {
        if self.own {
            Some(PutDecision::Duplicate)
        } else if self.to_source.is_some_and(|put| put.may_echo() && !put.rearmed) {
            Some(PutDecision::Echo)
        } else if self.to_target.is_some_and(|put| put.is_done() && !put.rearmed) {
            Some(PutDecision::AlreadyDone)
        } else {
            None
        }
    }
}

impl SentPut {
    fn is_done(&self) -> bool {
        matches!(self.answer, Answer::Status(200..=299))
    }

    /// Whether the account may have raised an event of its own because of it. One in doubt counts only as long as its
    /// delivery tries again or has ended well: once given up, the next opt-out must not lean on it.
    fn may_echo(&self) -> bool {
        let in_doubt = matches!(self.answer, Answer::None | Answer::Status(500..));
        if in_doubt { !self.given_up } else { self.is_done() }
    }

    fn read(row: &DbRow) -> Result<Self, StoreError> {
        let answer = match row::maybe_number(row, "status")? {
            Some(status) => Answer::Status(status),
            None if row::maybe_text(row, "reason")?.as_deref() == Some(NOT_SENT) => Answer::NotSent,
            None => Answer::None,
        };
        Ok(Self {
            answer,
            given_up: row::maybe_number(row, "given_up")?.is_some(),
            rearmed: row::maybe_number(row, "rearmed")?.is_some(),
        })
    }
}

/// One each, in their order.
pub(crate) async fn look_up(connection: &mut Connection, wanted: &[(&Opt, &str)]) -> Result<Vec<Earlier>, StoreError> {
    let mut found = Vec::with_capacity(wanted.len());
    for chunk in statements::chunks(wanted) {
        found.extend(look_up_chunk(connection, chunk).await?);
    }
    Ok(found)
}

async fn look_up_chunk(connection: &mut Connection, wanted: &[(&Opt, &str)]) -> Result<Vec<Earlier>, StoreError> {
    let statement = format!(
        "SELECT column1 AS place,
             (SELECT 1 FROM opt_ledger l WHERE l.event_id = column2 AND l.account = column3 AND l.phone = column5
              AND (l.kind = 'read_back' OR (l.kind = 'put_answered' AND l.status >= 200 AND l.status < 300)) LIMIT 1)
                 AS own,
             (SELECT l.seq FROM opt_ledger l WHERE l.phone = column5 AND l.account = column4 AND l.kind = 'put_sent'
              AND l.event_id <> column2 ORDER BY l.seq DESC LIMIT 1) AS to_source,
             (SELECT l.seq FROM opt_ledger l WHERE l.phone = column5 AND l.account = column3 AND l.kind = 'put_sent'
              ORDER BY l.seq DESC LIMIT 1) AS to_target
         FROM (VALUES {}) AS asked",
        statements::values(wanted.len(), 5)
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (place, (opt, target)) in (0_i64..).zip(wanted) {
        query = query.bind(place).bind(&opt.event_id).bind(*target).bind(&opt.account).bind(&opt.phone);
    }
    let rows = query.fetch_all(&mut *connection).await?;
    let mut places = Vec::with_capacity(rows.len());
    let mut seqs = Vec::new();
    for row in &rows {
        let (to_source, to_target) = (row::maybe_number(row, "to_source")?, row::maybe_number(row, "to_target")?);
        places.push((row::number(row, "place")?, row::maybe_number(row, "own")?.is_some(), to_source, to_target));
        seqs.extend([to_source, to_target].into_iter().flatten());
    }
    seqs.sort_unstable();
    seqs.dedup();
    let sent = sent_puts(connection, &seqs).await?;
    let put = |seq: Option<i64>| seq.and_then(|seq| sent.get(&seq).copied());
    places.sort_unstable_by_key(|(place, ..)| *place);
    Ok(places
        .into_iter()
        .map(|(_, own, to_source, to_target)| Earlier { own, to_source: put(to_source), to_target: put(to_target) })
        .collect())
}

/// By their places in the ledger.
async fn sent_puts(connection: &mut Connection, seqs: &[i64]) -> Result<HashMap<i64, SentPut>, StoreError> {
    let mut puts = HashMap::with_capacity(seqs.len());
    for chunk in statements::chunks(seqs) {
        let statement = format!(
            "SELECT sent.seq AS seq, answer.status AS status, answer.reason AS reason,
                 (SELECT 1 FROM deliveries d WHERE d.event_id = sent.event_id AND d.handler = ${handler}
                  AND d.state IN ('dead_lettered', 'discarded', 'skipped')) AS given_up,
                 (SELECT 1 FROM opt_ledger l WHERE l.phone = sent.phone AND l.kind = 'opted_in' AND l.seq > sent.seq
                  AND (l.event_time_ms IS NULL OR l.event_time_ms > sent.event_time_ms) LIMIT 1) AS rearmed
             FROM (VALUES {values}) AS asked JOIN opt_ledger sent ON sent.seq = column1
             LEFT JOIN opt_ledger answer ON answer.seq =
                 (SELECT l.seq FROM opt_ledger l WHERE l.phone = sent.phone AND l.seq > sent.seq
                  AND l.account = sent.account AND l.event_id = sent.event_id
                  AND l.kind IN ('put_answered', 'read_back') ORDER BY l.seq DESC LIMIT 1)",
            handler = chunk.len() + 1,
            values = statements::values(chunk.len(), 1),
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for seq in chunk {
            query = query.bind(*seq);
        }
        for row in query.bind(HandlerName::RecordOptOut.as_str()).fetch_all(&mut *connection).await? {
            puts.insert(row::number(&row, "seq")?, SentPut::read(&row)?);
        }
    }
    Ok(puts)
}
