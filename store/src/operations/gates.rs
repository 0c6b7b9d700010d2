//! Whether calls to a destination may be made, shared by all processes: an operator's pause, the time until which the
//! destination closed itself, and the policy by which workers on one database share its quota.

use hookline_common::names::{Destination, OperationClass};
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::row;
use crate::operations::model::{GateRow, GateStanding, Question};

const COLUMNS: &str = "destination, paused, reason, closed_until, call_limit, remaining, per_minute, failing, policy";

impl Store {
    /// Returns the gate of every destination; a destination without a row is open.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn gates(&self) -> Result<Vec<GateRow>, StoreError> {
        let statement = format!("SELECT {COLUMNS} FROM gates");
        let rows = self.db.rows(sqlx::query(AssertSqlSafe(statement))).await?;
        let known = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let of = |destination: &Destination| {
            let row = known.iter().find(|row| row.destination == *destination);
            row.cloned().unwrap_or_else(|| GateRow::open(*destination))
        };
        Ok(Destination::ALL.iter().map(of).collect())
    }

    /// Returns, in one query, what a worker reads several times a second: the last question to all workers, and the
    /// gates that have a row.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn look(&self) -> Result<(Question, Vec<GateRow>), StoreError> {
        let statement = format!(
            "SELECT q.number, {} FROM worker_question q LEFT JOIN gates g ON 1 = 1 WHERE q.id = 1",
            COLUMNS.split(", ").map(|column| format!("g.{column}")).collect::<Vec<_>>().join(", ")
        );
        let rows = self.db.rows(sqlx::query(AssertSqlSafe(statement))).await?;
        let question = rows.first().map(|row| row::number(row, "number")).transpose()?.unwrap_or(0);
        let mut gates = Vec::with_capacity(rows.len());
        for row in &rows {
            if row::maybe_text(row, "destination")?.is_some() {
                gates.push(read(row)?);
            }
        }
        Ok((Question(question), gates))
    }

    /// Stops calls until [`Store::resume_gate`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pause_gate(&self, destination: Destination, reason: &str) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        let pause = move |row: GateRow, _now| (GateRow { paused: true, reason: Some(reason.clone()), ..row }, ());
        self.change_gate(destination, pause).await
    }

    /// Ends a pause. A Retry-After that has not passed still holds.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn resume_gate(&self, destination: Destination) -> Result<(), StoreError> {
        self.change_gate(destination, |row, _now| (GateRow { paused: false, reason: None, ..row }, ())).await
    }

    /// Changes a destination's row under its lock, so that no process loses another's change. `change` gets the row
    /// (open if there is none) and the store's time. It may run again if the transaction does.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn change_gate<T, F>(&self, destination: Destination, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(GateRow, Timestamp) -> (GateRow, T) + Send + Sync + 'static,
    {
        let clock = self.db.clock().clone();
        self.db
            .write((destination, change), move |connection, (destination, change)| {
                let clock = clock.clone();
                Box::pin(async move {
                    let before = lock(connection, *destination).await?;
                    let (after, result) = change(before.clone(), clock.now());
                    if after != before {
                        write(connection, &after).await?;
                    }
                    Ok(result)
                })
            })
            .await
    }
}

impl GateRow {
    fn open(destination: Destination) -> Self {
        let standing = GateStanding::default();
        Self { destination, paused: false, reason: None, closed_until: None, standing, policy: None }
    }

    /// Returns why the destination is paused; `None` if it is not.
    #[must_use]
    pub fn reason_of_pause(&self) -> Option<&str> {
        self.paused.then(|| self.reason.as_deref().unwrap_or_default())
    }
}

async fn lock(connection: &mut Connection, destination: Destination) -> Result<GateRow, StoreError> {
    sqlx::query("INSERT INTO gates (destination, paused) VALUES ($1, 0) ON CONFLICT (destination) DO NOTHING")
        .bind(destination.as_str())
        .execute(&mut *connection)
        .await?;
    let statement = format!("SELECT {COLUMNS} FROM gates WHERE destination = $1 {}", dialect::for_update(connection));
    read(&sqlx::query(AssertSqlSafe(statement)).bind(destination.as_str()).fetch_one(connection).await?)
}

async fn write(connection: &mut Connection, gate: &GateRow) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE gates SET paused = $2, reason = $3, closed_until = $4, call_limit = $5, remaining = $6, per_minute = $7,
             failing = $8, policy = $9
         WHERE destination = $1",
    )
    .bind(gate.destination.as_str())
    .bind(i64::from(gate.paused))
    .bind(row::maybe_clean(gate.reason.as_deref()))
    .bind(gate.closed_until.map(Timestamp::as_millis))
    .bind(gate.standing.limit)
    .bind(gate.standing.remaining)
    .bind(gate.standing.per_minute)
    .bind(gate.standing.failing.iter().map(|class| 1_i64 << class.index()).sum::<i64>())
    .bind(gate.policy.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

fn read(row: &DbRow) -> Result<GateRow, StoreError> {
    // One bit per class; earlier versions wrote 1 for any class.
    let failing = row::number(row, "failing")?;
    Ok(GateRow {
        destination: row::name(row, "destination")?,
        paused: row::flag(row, "paused")?,
        reason: row::maybe_text(row, "reason")?,
        closed_until: row::maybe_time(row, "closed_until")?,
        standing: GateStanding {
            limit: row::maybe_number(row, "call_limit")?,
            remaining: row::maybe_number(row, "remaining")?,
            per_minute: row::maybe_number(row, "per_minute")?,
            failing: OperationClass::ALL.iter().copied().filter(|class| failing & (1 << class.index()) != 0).collect(),
        },
        policy: row::maybe_text(row, "policy")?,
    })
}
