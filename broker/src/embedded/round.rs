//! Runs the settlements and leases of one moment in one transaction: a fixed script whose statements take their rows as
//! JSON, so that any number of rows needs one call to the SQLite thread and one commit.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use futures::TryStreamExt;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Either, Executor, Row};

use hookline_common::names::Queue;

use super::rows::{self, SLOTS};
use crate::{DeadLetterInfo, Spends};

/// How many rows each queue can take now, by slot.
pub(super) type Wants = [u32; SLOTS];
/// The earliest due time of each queue's rows that are not handed out; `i64::MAX` if there is none.
pub(super) type NextDue = [i64; SLOTS];

/// A queue row while it is handed out. The token is unique to this handing out: a settlement with a former holder's
/// token changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) row: i64,
    pub(super) token: i64,
}

/// The change to a leased row.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Done,
    /// The row is ready again at `due_ms` (`None` leaves its due time). If it spends neither attempt nor age, the wait
    /// does not count towards its age: a first attempt begins anew, and a later one's age stands still until `due_ms`.
    Back {
        due_ms: Option<i64>,
        spends: Spends,
        count: Count,
        last: Option<String>,
    },
    Dead {
        due_ms: i64,
        info: DeadLetterInfo,
    },
}

/// The change to the count of deliveries that ended without a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// This delivery ended without a settlement too, so it stays counted.
    Keep,
    /// The row counts as if it had not been handed out.
    Undo,
    /// The delivery was settled.
    Reset,
}

#[derive(Debug)]
pub(super) struct LeasedRow {
    pub(super) lease: Lease,
    pub(super) queue: Queue,
    pub(super) due_ms: i64,
    /// How often the row was handed out, this time included.
    pub(super) deliveries: u32,
    pub(super) attempt: u32,
    pub(super) first_attempt_ms: i64,
    pub(super) again: Option<String>,
    pub(super) last: Option<String>,
    pub(super) dead_info: Option<String>,
}

#[derive(Debug)]
pub(super) struct RoundOutcome {
    /// Rows whose change was made. The other rows' leases had passed on.
    pub(super) changed: HashSet<i64>,
    pub(super) leased: Vec<LeasedRow>,
    pub(super) next_due: NextDue,
}

/// Its parameters are: settled rows, changed rows, token, now, then one limit per slot.
static SCRIPT: LazyLock<Arc<str>> = LazyLock::new(|| {
    let ready = rows::each_slot(|slot, handler, dead| {
        format!(
            "SELECT id FROM (SELECT id FROM queue WHERE lease = 0 AND handler = {handler} AND dead = {dead} \
             AND due_ms <= ?4 ORDER BY due_ms, id LIMIT ?{})",
            slot + 5
        )
    });
    format!(
        "BEGIN IMMEDIATE;
         DELETE FROM queue WHERE id IN (
             SELECT q.id FROM json_each(?1) AS s CROSS JOIN queue AS q WHERE q.id = s.value->>0 AND q.lease = s.value->>1
         ) RETURNING id;
         UPDATE queue SET lease = 0, due_ms = COALESCE(s.due, due_ms), attempt = attempt + s.spent,
             deliveries = CASE s.count WHEN 'keep' THEN deliveries WHEN 'undo' THEN MAX(deliveries - 1, 0) ELSE 0 END,
             first_attempt_ms = CASE WHEN s.ages OR s.to_dead THEN first_attempt_ms
                 WHEN attempt > 1 THEN first_attempt_ms + MAX(COALESCE(s.due, due_ms) - ?4, 0) END,
             last = COALESCE(s.failure, last), dead = MAX(dead, s.to_dead), dead_info = COALESCE(s.info, dead_info)
         FROM (SELECT value->>0 AS row, value->>1 AS token, value->>2 AS due, value->>3 AS spent, value->>4 AS count,
                      value->>5 AS failure, value->>6 AS to_dead, value->>7 AS info, COALESCE(value->>8, 0) AS ages FROM json_each(?2)) AS s
         WHERE id = s.row AND lease = s.token RETURNING id;
         UPDATE queue SET lease = ?3, deliveries = deliveries + 1, first_attempt_ms = COALESCE(first_attempt_ms, ?4)
         WHERE id IN ({})
         RETURNING id, handler, dead, due_ms, deliveries, attempt, first_attempt_ms, again, last, dead_info;
         {};
         UPDATE meta SET value = ?4 WHERE name = 'clock' AND value < ?4 - 1000;
         COMMIT",
        ready.join(" UNION ALL "),
        *NEXT_DUE
    )
    .into()
});

/// The position of each statement in [`SCRIPT`].
const DELETED: usize = 1;
const UPDATED: usize = 2;
const LEASED: usize = 3;
const DUE: usize = 4;

static NEXT_DUE: LazyLock<Arc<str>> = LazyLock::new(|| {
    let first = rows::each_slot(|_, handler, dead| {
        format!(
            "(SELECT due_ms FROM queue WHERE lease = 0 AND handler = {handler} AND dead = {dead} ORDER BY due_ms LIMIT 1)"
        )
    });
    format!("SELECT {}", first.join(", ")).into()
});

pub(super) async fn run(
    conn: &mut SqliteConnection,
    changes: &[(Lease, Change)],
    wants: &Wants,
    token: i64,
    now_ms: i64,
) -> Result<RoundOutcome, sqlx::Error> {
    let done = changes.iter().filter(|(_, change)| matches!(change, Change::Done));
    let done = done.map(|(lease, _)| json!([lease.row, lease.token])).collect::<Vec<_>>();
    let back = changes.iter().filter_map(|(lease, change)| update(*lease, change)).collect::<Vec<_>>();
    let mut query = sqlx::query(AssertSqlSafe(Arc::clone(&SCRIPT)))
        .bind(Value::from(done).to_string())
        .bind(Value::from(back).to_string())
        .bind(token)
        .bind(now_ms);
    for limit in wants {
        query = query.bind(i64::from(*limit));
    }

    let mut outcome = RoundOutcome { changed: HashSet::new(), leased: Vec::new(), next_due: [i64::MAX; SLOTS] };
    let mut statement = 0;
    let mut answers = conn.fetch_many(query);
    while let Some(answer) = answers.try_next().await? {
        match answer {
            Either::Left(_) => statement += 1,
            Either::Right(row) => match statement {
                DELETED | UPDATED => {
                    outcome.changed.insert(row.try_get(0)?);
                }
                LEASED => outcome.leased.extend(leased_row(&row, token)?),
                DUE => outcome.next_due = read_next_due(&row)?,
                _ => {}
            },
        }
    }
    outcome.leased.sort_unstable_by_key(|row| (row.due_ms, row.lease.row));
    Ok(outcome)
}

/// Rolls back a script that stopped half-way.
pub(super) async fn roll_back(conn: &mut SqliteConnection) {
    // SQLite has often rolled back by itself by now, and then reports that there is nothing to roll back.
    let _ = conn.execute("ROLLBACK").await;
}

pub(super) async fn next_due(conn: &mut SqliteConnection) -> Result<NextDue, sqlx::Error> {
    read_next_due(&sqlx::query(AssertSqlSafe(Arc::clone(&NEXT_DUE))).fetch_one(conn).await?)
}

fn update(lease: Lease, change: &Change) -> Option<Value> {
    let Lease { row, token } = lease;
    match change {
        Change::Done => None,
        Change::Back { due_ms, spends, count, last } => {
            let count = match count {
                Count::Keep => "keep",
                Count::Undo => "undo",
                Count::Reset => "reset",
            };
            let (spent, ages) = (*spends == Spends::Attempt, *spends != Spends::Nothing);
            Some(json!([row, token, due_ms, i64::from(spent), count, last, 0, null, i64::from(ages)]))
        }
        Change::Dead { due_ms, info } => {
            Some(json!([row, token, due_ms, 0, "reset", null, 1, serde_json::to_string(info).ok()]))
        }
    }
}

fn leased_row(row: &SqliteRow, token: i64) -> Result<Option<LeasedRow>, sqlx::Error> {
    let Some(handler) = rows::handler(row.try_get(1)?) else { return Ok(None) };
    Ok(Some(LeasedRow {
        lease: Lease { row: row.try_get(0)?, token },
        queue: rows::queue(handler, row.try_get(2)?),
        due_ms: row.try_get(3)?,
        deliveries: row.try_get(4)?,
        attempt: row.try_get(5)?,
        first_attempt_ms: row.try_get(6)?,
        again: row.try_get(7)?,
        last: row.try_get(8)?,
        dead_info: row.try_get(9)?,
    }))
}

fn read_next_due(row: &SqliteRow) -> Result<NextDue, sqlx::Error> {
    let mut next = [i64::MAX; SLOTS];
    for (slot, due) in next.iter_mut().enumerate() {
        *due = row.try_get::<Option<i64>, _>(slot)?.unwrap_or(i64::MAX);
    }
    Ok(next)
}
