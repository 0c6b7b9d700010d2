//! Requests to the ledger, batched: the chain has one end, and all waiting requests share the cost of its lock,
//! look-ups and appends.
//!
//! No two requests of a batch concern the same phone or event, so that entries written before the batch decide each of
//! them.

use std::sync::Arc;

use hookline_common::names::{HandlerName, SkipReason};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::{Ask, Batches, Db, row, statements};
use crate::opt_outs::ledger::{self, Entry, LedgerKey};
use crate::opt_outs::model::{OptStanding, PutAnswer, PutDecision};
use crate::opt_outs::puts::{self, Put};
use crate::opt_outs::state::{self, CUT, IS_START, PhoneState, STATED};
use crate::opt_outs::{self, Opt, earlier_puts};

#[derive(Clone)]
pub(crate) enum OptAsk {
    Record(Opt),
    /// Record the event and, if it is current, decide whether to PUT to this account.
    RecordAndDecide(Opt, String),
    /// Decide whether to PUT to this account.
    Decide(Opt, String),
    /// Record how a PUT ended.
    Answered(Put, PutAnswer),
    Skipped(Opt, SkipReason),
}

pub(crate) enum OptAnswer {
    Standing(OptStanding),
    /// `None` if the recorded event is stale.
    Recorded(Option<PutDecision>),
    Decision(PutDecision),
    Written,
}

impl Ask for OptAsk {
    type Answer = OptAnswer;

    fn about(&self) -> Vec<&str> {
        match self {
            Self::Record(opt) | Self::RecordAndDecide(opt, _) | Self::Decide(opt, _) | Self::Skipped(opt, _) => {
                vec![&opt.phone, &opt.event_id]
            }
            Self::Answered(put, _) => vec![&put.phone, &put.event_id],
        }
    }

    /// All asks wait for the same lock, the end of the chain.
    const APART: bool = false;
}

impl OptAnswer {
    pub(crate) fn standing(self) -> Result<OptStanding, StoreError> {
        match self {
            Self::Standing(standing) => Ok(standing),
            Self::Recorded(_) | Self::Decision(_) | Self::Written => Err(other_question()),
        }
    }

    pub(crate) fn decision(self) -> Result<PutDecision, StoreError> {
        match self {
            Self::Decision(decision) => Ok(decision),
            Self::Standing(_) | Self::Recorded(_) | Self::Written => Err(other_question()),
        }
    }

    pub(crate) fn recorded(self) -> Result<Option<PutDecision>, StoreError> {
        match self {
            Self::Recorded(decision) => Ok(decision),
            Self::Standing(_) | Self::Decision(_) | Self::Written => Err(other_question()),
        }
    }
}

fn other_question() -> StoreError {
    StoreError::Invalid("the ledger answered another question".to_owned())
}

/// The changes that a batch writes.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) entries: Vec<Entry>,
    pub(crate) standings: Vec<PhoneState>,
    /// Pairs of event id and account.
    pub(crate) targets: Vec<(String, String)>,
}

pub(crate) fn start(db: &Db, key: &Arc<LedgerKey>) -> Batches<OptAsk> {
    let (key, clock) = (Arc::clone(key), db.clock().clone());
    Batches::start(db, move |connection, asks| {
        let (key, now) = (Arc::clone(&key), clock.now());
        Box::pin(async move { carry_out(connection, &key, asks, now).await })
    })
}

async fn carry_out(
    connection: &mut Connection,
    key: &LedgerKey,
    asks: &[OptAsk],
    now: Timestamp,
) -> Result<Vec<OptAnswer>, StoreError> {
    let head = ledger::lock(connection).await?;
    let pasts = pasts(connection, asks).await?;
    let in_flight = in_flight(connection, asks, &pasts, now).await?;
    let (mut changes, mut answers) = (Changes::default(), Vec::with_capacity(asks.len()));
    for ((ask, past), in_flight) in asks.iter().zip(&pasts).zip(&in_flight) {
        answers.push(match ask {
            OptAsk::Record(opt) => OptAnswer::Standing(opt_outs::record(opt, past, &mut changes)),
            OptAsk::RecordAndDecide(opt, target) => {
                OptAnswer::Recorded(match opt_outs::record(opt, past, &mut changes) {
                    OptStanding::Current => Some(puts::decide(opt, target, past, *in_flight, &mut changes)),
                    OptStanding::Stale => None,
                })
            }
            OptAsk::Decide(opt, target) => {
                OptAnswer::Decision(puts::decide(opt, target, past, *in_flight, &mut changes))
            }
            OptAsk::Answered(put, answer) => {
                puts::answered(put, *answer, &mut changes);
                OptAnswer::Written
            }
            OptAsk::Skipped(opt, reason) => {
                opt_outs::skip(connection, opt, *reason, &mut changes).await?;
                OptAnswer::Written
            }
        });
    }
    ledger::append(connection, key, head, &changes.entries).await?;
    state::write(connection, &changes.standings).await?;
    opt_outs::keep_targets(connection, &changes.targets).await?;
    Ok(answers)
}

impl OptAsk {
    /// The event for whose decision the phone's past matters.
    fn opt(&self) -> Option<&Opt> {
        match self {
            Self::Record(opt) | Self::RecordAndDecide(opt, _) | Self::Decide(opt, _) => Some(opt),
            Self::Answered(..) | Self::Skipped(..) => None,
        }
    }

    /// The event and account of an ask that decides about a PUT.
    fn put(&self) -> Option<(&Opt, &str)> {
        match self {
            Self::RecordAndDecide(opt, target) | Self::Decide(opt, target) => Some((opt, target)),
            Self::Record(_) | Self::Answered(..) | Self::Skipped(..) => None,
        }
    }
}

/// Reads the ledger entries about each ask's phone that can affect its decision, in order: every PUT; and, per account,
/// the opt-outs, opt-ins and START texts that no newer one outweighs, the last of each kind, and the ask's own. Returns
/// one list per ask, in the order of the asks.
///
/// `kind || ''` keeps PostgreSQL from an index that begins with another column: while a new database has no statistics,
/// PostgreSQL would read the kinds of the whole ledger instead of the entries of a phone.
async fn pasts(connection: &mut Connection, asks: &[OptAsk]) -> Result<Vec<Vec<Entry>>, StoreError> {
    let mut pasts = vec![Vec::new(); asks.len()];
    let asked: Vec<(i64, &Opt)> =
        (0..).zip(asks).filter_map(|(place, ask)| ask.opt().map(|opt| (place, opt))).collect();
    for chunk in statements::chunks(&asked) {
        let statement = format!(
            "WITH asked (place, of_phone, of_event) AS (VALUES {values}),
             newest (in_place, of_account, of_kind, newest_cut, last_seq) AS
                 (SELECT place, l.account, l.kind, MAX({CUT}), MAX(l.seq) FROM asked JOIN opt_ledger l ON l.phone = of_phone
                  WHERE l.kind || '' IN ('received', 'opted_in') OR {IS_START} GROUP BY place, l.account, l.kind)
             SELECT place, {columns} FROM asked JOIN opt_ledger l ON l.phone = of_phone
             LEFT JOIN newest ON in_place = place AND of_account = l.account AND of_kind = l.kind
             WHERE l.kind IN ('put_sent', 'put_answered', 'read_back')
                 OR ((l.kind IN ('received', 'opted_in') OR {IS_START}) AND (l.event_id = of_event OR l.seq = last_seq OR {STATED} >= newest_cut))
             ORDER BY l.seq",
            columns = Entry::COLUMNS,
            values = statements::values(chunk.len(), 3)
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for (place, opt) in chunk {
            query = query.bind(*place).bind(opt.phone.as_str()).bind(opt.event_id.as_str());
        }
        for row in query.fetch_all(&mut *connection).await? {
            let place = usize::try_from(row::number(&row, "place")?).ok().and_then(|place| pasts.get_mut(place));
            place.ok_or_else(|| StoreError::unreadable("place"))?.push(Entry::read(&row)?);
        }
    }
    Ok(pasts)
}

/// For each ask about a PUT: until when another event's claim runs, if that event has an unanswered PUT of the same
/// phone to the same account. Returns one time per ask, in the order of the asks.
async fn in_flight(
    connection: &mut Connection,
    asks: &[OptAsk],
    pasts: &[Vec<Entry>],
    now: Timestamp,
) -> Result<Vec<Option<Timestamp>>, StoreError> {
    let mut until = vec![None; asks.len()];
    let unanswered = |(place, (ask, past)): (usize, (&OptAsk, &Vec<Entry>))| {
        let (opt, target) = ask.put()?;
        let events = earlier_puts::unanswered(past, &opt.event_id, target);
        Some(events.into_iter().map(|event_id| (place, target.to_owned(), event_id.to_owned())).collect::<Vec<_>>())
    };
    let sent: Vec<_> = asks.iter().zip(pasts).enumerate().filter_map(unanswered).flatten().collect();
    for chunk in statements::chunks(&sent) {
        let parameters = chunk.len() * 3;
        let statement = format!(
            "SELECT column1 AS place, e.lease_until FROM (VALUES {values}) AS asked
             JOIN effects e ON e.handler = ${handler} AND e.target = column2 AND e.effect_key = column3
             WHERE e.state = 'claimed' AND e.lease_until > ${now}",
            values = statements::values(chunk.len(), 3),
            handler = parameters + 1,
            now = parameters + 2,
        );
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for (place, target, event_id) in chunk {
            query = query.bind(i64::try_from(*place).unwrap_or(i64::MAX)).bind(target).bind(event_id);
        }
        let query = query.bind(HandlerName::RecordOptOut.as_str()).bind(now.as_millis());
        for row in query.fetch_all(&mut *connection).await? {
            let place = usize::try_from(row::number(&row, "place")?).ok().and_then(|place| until.get_mut(place));
            let place = place.ok_or_else(|| StoreError::unreadable("place"))?;
            *place = (*place).max(Some(row::time(&row, "lease_until")?));
        }
    }
    Ok(until)
}
