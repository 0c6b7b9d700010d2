//! What is asked of the ledger, many at a time: the chain has one end, whose lock, look-ups and appends are paid for
//! once for all that wait.
//!
//! No two of a batch are about one phone or one event, so that each is decided by what was written before the batch.

use std::sync::Arc;

use hookline_common::names::SkipReason;
use sqlx::AssertSqlSafe;

use crate::db::{Ask, Batches, Db, Turn};
use crate::dialect::Connection;
use crate::earlier_puts::{self, Earlier};
use crate::error::StoreError;
use crate::ledger::{self, Entry, LedgerKey};
use crate::model::{OptStanding, PutAnswer, PutDecision};
use crate::opt_out_puts::{self, Put};
use crate::opt_outs::{self, Advance, Opt};
use crate::{row, statements};

#[derive(Clone)]
pub(crate) enum OptAsk {
    Record(Opt),
    /// Record it and, where it is current, say whether to PUT to this account.
    RecordAndDecide(Opt, String),
    /// Whether to PUT to this account.
    Decide(Opt, String),
    /// How a PUT ended.
    Answered(Put, PutAnswer),
    Skipped(Opt, SkipReason),
}

pub(crate) enum OptAnswer {
    Standing(OptStanding),
    /// `None` where what was recorded is stale.
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

    fn turn(&self) -> Turn {
        Turn::Ledger
    }

    fn turn_of(_: &[Self]) -> Turn {
        Turn::Ledger
    }

    /// What they wait for is the end of the chain.
    const APART: bool = false;
    // They are evidence. A server that fails over before the attempt's end must not forget only these.
    const LATER: bool = false;
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

/// What is known of an ask before its batch.
#[derive(Clone, Copy, Default)]
pub(crate) struct Known {
    /// The time that was recorded for this event; `None` where it was not recorded yet.
    pub(crate) recorded: Option<Option<i64>>,
    /// The newest opt-out and opt-in of this account and phone.
    pub(crate) newest_out: Option<i64>,
    pub(crate) newest_in: Option<i64>,
    /// Whether the ledger holds any PUT for this phone.
    pub(crate) put: bool,
}

/// What a batch writes.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) entries: Vec<Entry>,
    pub(crate) states: Vec<Advance>,
}

pub(crate) fn start(db: &Db, key: &Arc<LedgerKey>) -> Batches<OptAsk> {
    let key = Arc::clone(key);
    Batches::start(db, move |connection, asks| {
        let key = Arc::clone(&key);
        Box::pin(async move { carry_out(connection, &key, asks).await })
    })
}

async fn carry_out(
    connection: &mut Connection,
    key: &LedgerKey,
    asks: &[OptAsk],
) -> Result<Vec<OptAnswer>, StoreError> {
    let head = ledger::lock(connection).await?;
    let known = look_up(connection, asks).await?;
    let earlier = earlier(connection, asks, &known).await?;
    let (mut changes, mut answers) = (Changes::default(), Vec::with_capacity(asks.len()));
    for ((ask, known), earlier) in asks.iter().zip(&known).zip(&earlier) {
        answers.push(match ask {
            OptAsk::Record(opt) => OptAnswer::Standing(opt_outs::record(opt, known, &mut changes).0),
            OptAsk::RecordAndDecide(opt, target) => OptAnswer::Recorded({
                let (standing, recorded) = opt_outs::record(opt, known, &mut changes);
                match standing {
                    OptStanding::Current => {
                        let known = Known { recorded: Some(recorded), ..*known };
                        Some(opt_out_puts::decide(opt, target, &known, earlier, &mut changes))
                    }
                    OptStanding::Stale => None,
                }
            }),
            OptAsk::Decide(opt, target) => {
                OptAnswer::Decision(opt_out_puts::decide(opt, target, known, earlier, &mut changes))
            }
            OptAsk::Answered(put, answer) => {
                opt_out_puts::answered(put, *answer, &mut changes);
                OptAnswer::Written
            }
            OptAsk::Skipped(opt, reason) => {
                opt_outs::skip(connection, opt, *reason, &mut changes).await?;
                OptAnswer::Written
            }
        });
    }
    ledger::append(connection, key, head, &changes.entries).await?;
    opt_outs::advance(connection, &changes.states).await?;
    Ok(answers)
}

/// What was PUT before, of those whose phone was; one each, in their order.
async fn earlier(connection: &mut Connection, asks: &[OptAsk], known: &[Known]) -> Result<Vec<Earlier>, StoreError> {
    let mut earlier = vec![Earlier::default(); asks.len()];
    let (places, wanted): (Vec<usize>, Vec<(&Opt, &str)>) = asks
        .iter()
        .zip(known)
        .enumerate()
        .filter(|(_, (_, known))| known.put)
        .filter_map(|(place, (ask, _))| match ask {
            OptAsk::RecordAndDecide(opt, target) | OptAsk::Decide(opt, target) => Some((place, (opt, target.as_str()))),
            OptAsk::Record(_) | OptAsk::Answered(..) | OptAsk::Skipped(..) => None,
        })
        .unzip();
    for (place, found) in places.into_iter().zip(earlier_puts::look_up(connection, &wanted).await?) {
        earlier[place] = found;
    }
    Ok(earlier)
}

/// One each, in their order.
async fn look_up(connection: &mut Connection, asks: &[OptAsk]) -> Result<Vec<Known>, StoreError> {
    let mut known = vec![Known::default(); asks.len()];
    let mut asked: Vec<(i64, &Opt)> = (0..)
        .zip(asks)
        .filter_map(|(place, ask)| match ask {
            OptAsk::Record(opt) | OptAsk::RecordAndDecide(opt, _) | OptAsk::Decide(opt, _) => Some((place, opt)),
            OptAsk::Answered(..) | OptAsk::Skipped(..) => None,
        })
        .collect();
    let Some(last) = asked.last().copied() else { return Ok(known) };
    asked.resize(asked.len().next_power_of_two(), last);
    // Each by a look-up of its own, which an index answers whatever the planner thinks of the tables' sizes.
    let statement = format!(
        "SELECT column1 AS place,
             (SELECT 1 FROM opt_ledger l WHERE l.event_id = column2 AND l.kind IN ('received', 'opted_in') LIMIT 1)
                 AS recorded,
             (SELECT l.event_time_ms FROM opt_ledger l
              WHERE l.event_id = column2 AND l.kind IN ('received', 'opted_in') LIMIT 1) AS event_time_ms,
             (SELECT s.opted_out_ms FROM opt_state s WHERE s.account = column3 AND s.phone = column4) AS opted_out_ms,
             (SELECT s.opted_in_ms FROM opt_state s WHERE s.account = column3 AND s.phone = column4) AS opted_in_ms,
             (SELECT 1 FROM opt_ledger l WHERE l.phone = column4 AND l.kind IN ('put_sent', 'put_answered', 'read_back')
              LIMIT 1) AS put
         FROM (VALUES {}) AS asked",
        statements::values(asked.len(), 4)
    );
    let mut query = sqlx::query(AssertSqlSafe(statement));
    for (place, opt) in asked {
        query = query.bind(place).bind(&opt.event_id).bind(&opt.account).bind(&opt.phone);
    }
    for row in query.fetch_all(connection).await? {
        let recorded = row::maybe_number(&row, "recorded")?.is_some();
        let found = Known {
            recorded: if recorded { Some(row::maybe_number(&row, "event_time_ms")?) } else { None },
            newest_out: row::maybe_number(&row, "opted_out_ms")?,
            newest_in: row::maybe_number(&row, "opted_in_ms")?,
            put: row::maybe_number(&row, "put")?.is_some(),
        };
        let place = usize::try_from(row::number(&row, "place")?).ok().and_then(|place| known.get_mut(place));
        *place.ok_or_else(|| StoreError::unreadable("place"))? = found;
    }
    Ok(known)
}
