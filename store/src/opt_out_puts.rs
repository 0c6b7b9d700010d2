//! Whether an opt-out is still to be PUT, and how the PUT ended.
//!
//! State alone never decides about a PUT: the ledger does, in one order for all processes, because deciding and
//! writing `put_sent` are one transaction on the ledger's head row. The call itself is made after it.
//!
//! A PUT is *re-armed* once an opt-in was recorded after it, in any account, that is strictly newer than the
//! opt-out which caused it, or whose time cannot be read: from then on that PUT explains nothing any more, neither an
//! echo nor "already done". In doubt it is better to PUT once more.

use hookline_common::event::EventId;
use hookline_common::names::HandlerName;
use hookline_common::phone::Phone;

use crate::dialect::Connection;
use crate::error::StoreError;
use crate::ledger::Entry;
use crate::model::{LedgerKind, OptEvent, OptStanding, PutAnswer, PutDecision};
use crate::opt_asks::{Answered, Changes, Known, OptAsk};
use crate::opt_outs::{Opt, effective_time, standing};
use crate::{Store, row};

impl Store {
    /// Whether this opt-out is still to be PUT to `target`. On [`PutDecision::Put`] the ledger holds `put_sent`
    /// when this returns; a retry by the same event is `Put` again until its answer is in.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decide_put(&self, event: &OptEvent<'_>, target: &str) -> Result<PutDecision, StoreError> {
        self.opt_asks.ask(OptAsk::Decide(Opt::from(event), target.to_owned())).await?.decision()
    }

    /// Records the opt-out as [`Store::record_opt_event`] does and, where it is current, decides as
    /// [`Store::decide_put`] does, in one transaction. `None` where it is stale.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn record_and_decide(
        &self,
        event: &OptEvent<'_>,
        target: &str,
    ) -> Result<Option<PutDecision>, StoreError> {
        self.opt_asks.ask(OptAsk::RecordAndDecide(Opt::from(event), target.to_owned())).await?.recorded()
    }

    /// How the PUT ended. Enough on the disk with the next write: the end of the attempt.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put_answered(
        &self,
        event_id: &EventId,
        phone: &Phone,
        target: &str,
        answer: PutAnswer,
    ) -> Result<(), StoreError> {
        let put = Put {
            event_id: event_id.as_str().to_owned(),
            phone: phone.as_e164().to_owned(),
            target: target.to_owned(),
        };
        self.put_answers.ask(Answered(put, answer)).await
    }
}

/// A PUT that was made.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) event_id: String,
    phone: String,
    target: String,
}

pub(crate) async fn decide(
    connection: &mut Connection,
    opt: &Opt,
    target: &str,
    known: &Known,
    changes: &mut Changes,
) -> Result<PutDecision, StoreError> {
    if known.put
        && let Some(made) = made_before(connection, opt, target).await?
    {
        return Ok(made);
    }
    let time = known.recorded.unwrap_or_else(|| effective_time(opt, None));
    // An opt-in may have been recorded since this event was: our own echo, overtaken by it between the two, would
    // otherwise opt the person out again.
    if standing(opt.opted_out, time, known.newest_out, known.newest_in) == OptStanding::Stale {
        return Ok(PutDecision::Stale);
    }
    let mut entry = Entry::new(LedgerKind::PutSent, &opt.event_id, target, &opt.phone);
    entry.event_time_ms = time;
    changes.entries.push(entry);
    Ok(PutDecision::Put)
}

pub(crate) fn answered(put: &Put, answer: PutAnswer) -> Vec<Entry> {
    let Put { event_id, phone, target } = put;
    let (status, read_back) = match answer {
        PutAnswer::Status(status) => (Some(i64::from(status)), false),
        PutAnswer::ReadBack(status) => (Some(i64::from(status)), true),
        PutAnswer::NoAnswer | PutAnswer::NotSent => (None, false),
    };
    let mut entry = Entry::new(LedgerKind::PutAnswered, event_id, target, phone);
    entry.status = status;
    entry.reason = (answer == PutAnswer::NotSent).then(|| NOT_SENT.to_owned());
    let mut entries = vec![entry];
    if read_back {
        let mut entry = Entry::new(LedgerKind::ReadBack, event_id, target, phone);
        // The GET that showed the opt-out.
        entry.status = Some(200);
        entries.push(entry);
    }
    entries
}

/// Reason of a `put_answered` row whose call never left this machine.
const NOT_SENT: &str = "not_sent";

/// A `put_sent` and what came of it.
struct SentPut {
    seq: i64,
    event_id: String,
    event_time: Option<i64>,
    answer: Answer,
}

/// The last answer to a PUT; a GET that showed the opt-out after a 409 or 422 counts as its 200.
enum Answer {
    /// None was recorded, or it was recorded that none came.
    None,
    /// The call never left this machine.
    NotSent,
    Status(i64),
}

impl SentPut {
    fn is_done(&self) -> bool {
        matches!(self.answer, Answer::Status(200..=299))
    }

    /// Whether it may have taken effect, with nobody knowing.
    fn is_in_doubt(&self) -> bool {
        matches!(self.answer, Answer::None | Answer::Status(500..))
    }
}

/// Why no PUT is needed; the order matters: what this event did itself explains more than what others did.
async fn made_before(connection: &mut Connection, opt: &Opt, target: &str) -> Result<Option<PutDecision>, StoreError> {
    let own = sqlx::query(
        "SELECT 1 FROM opt_ledger WHERE event_id = $1 AND account = $2 AND phone = $3
         AND (kind = 'read_back' OR (kind = 'put_answered' AND status >= 200 AND status < 300)) LIMIT 1",
    )
    .bind(opt.event_id.as_str())
    .bind(target)
    .bind(opt.phone.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    if own.is_some() {
        return Ok(Some(PutDecision::Duplicate));
    }
    // Only the latest: a later PUT that was refused shows that what came before it no longer tells the state there.
    if let Some(put) = latest_put(connection, opt, &opt.account, Some(&opt.event_id)).await?
        && may_echo(connection, &put).await?
        && !rearmed(connection, opt, &put).await?
    {
        return Ok(Some(PutDecision::Echo));
    }
    if let Some(put) = latest_put(connection, opt, target, None).await?
        && put.is_done()
        && !rearmed(connection, opt, &put).await?
    {
        return Ok(Some(PutDecision::AlreadyDone));
    }
    Ok(None)
}

/// The latest `put_sent` of this phone to `account`, but for those of event `except`.
async fn latest_put(
    connection: &mut Connection,
    opt: &Opt,
    account: &str,
    except: Option<&str>,
) -> Result<Option<SentPut>, StoreError> {
    let sent = sqlx::query(
        "SELECT seq, event_id, event_time_ms FROM opt_ledger
         WHERE phone = $1 AND account = $2 AND kind = 'put_sent' AND event_id <> $3 ORDER BY seq DESC LIMIT 1",
    )
    .bind(opt.phone.as_str())
    .bind(account)
    .bind(except.unwrap_or_default())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(sent) = sent else { return Ok(None) };
    let seq = row::number(&sent, "seq")?;
    let event_id = row::text(&sent, "event_id")?;
    let answer = sqlx::query(
        "SELECT status, reason FROM opt_ledger WHERE phone = $1 AND account = $2 AND event_id = $3 AND seq > $4
         AND kind IN ('put_answered', 'read_back') ORDER BY seq DESC LIMIT 1",
    )
    .bind(opt.phone.as_str())
    .bind(account)
    .bind(event_id.as_str())
    .bind(seq)
    .fetch_optional(connection)
    .await?;
    let answer = match answer {
        None => Answer::None,
        Some(row) => match row::maybe_number(&row, "status")? {
            Some(status) => Answer::Status(status),
            None if row::maybe_text(&row, "reason")?.as_deref() == Some(NOT_SENT) => Answer::NotSent,
            None => Answer::None,
        },
    };
    Ok(Some(SentPut { seq, event_id, event_time: row::maybe_number(&sent, "event_time_ms")?, answer }))
}

/// Whether the account may have raised an event of its own because of this PUT. One in doubt counts only as long as
/// its delivery tries again or has ended well: once given up, the next opt-out must not lean on it.
async fn may_echo(connection: &mut Connection, put: &SentPut) -> Result<bool, StoreError> {
    if !put.is_in_doubt() {
        return Ok(put.is_done());
    }
    let given_up = sqlx::query(
        "SELECT 1 FROM deliveries WHERE event_id = $1 AND handler = $2
         AND state IN ('dead_lettered', 'discarded', 'skipped')",
    )
    .bind(put.event_id.as_str())
    .bind(HandlerName::RecordOptOut.as_str())
    .fetch_optional(connection)
    .await?;
    Ok(given_up.is_none())
}

/// Whether the person opted in, in any account, after this PUT and by an event strictly newer than its cause, or by
/// one that cannot say how old it is.
async fn rearmed(connection: &mut Connection, opt: &Opt, put: &SentPut) -> Result<bool, StoreError> {
    let opted_in = sqlx::query(
        "SELECT 1 FROM opt_ledger WHERE phone = $1 AND kind = 'opted_in' AND seq > $2
         AND (event_time_ms IS NULL OR event_time_ms > $3) LIMIT 1",
    )
    .bind(opt.phone.as_str())
    .bind(put.seq)
    .bind(put.event_time)
    .fetch_optional(connection)
    .await?;
    Ok(opted_in.is_some())
}
