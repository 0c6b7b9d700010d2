//! One clock for all machines: the database's. The store compares leases, claims and heartbeats of several machines,
//! whose own clocks may disagree.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookline_common::time::Timestamp;

use crate::db::dialect::{Connection, Dialect};
use crate::db::error::StoreError;

/// How long a measured clock difference stays valid before the next measurement.
const MEASURED_FOR: Duration = Duration::from_secs(30);

/// The database's clock. Clones share the measurement.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<Measured>>);

#[derive(Default)]
struct Measured {
    ahead_ms: i64,
    at: Option<Instant>,
}

impl Clock {
    /// Returns the current time of the database's clock, as far as its difference is known.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(Timestamp::now().as_millis().saturating_add(self.lock().ahead_ms))
    }

    /// Converts a time of the database's clock to this machine's clock, by which callers wait.
    pub(crate) fn here(&self, theirs: Timestamp) -> Timestamp {
        Timestamp::from_millis(theirs.as_millis().saturating_sub(self.lock().ahead_ms))
    }

    /// Measures the difference again if the last measurement is older than [`MEASURED_FOR`].
    pub(crate) async fn measure(&self, dialect: &Dialect, connection: &mut Connection) -> Result<(), StoreError> {
        if self.lock().at.is_some_and(|at| at.elapsed() < MEASURED_FOR) {
            return Ok(());
        }
        let ahead_ms = dialect.clock_ahead(connection).await?;
        *self.lock() = Measured { ahead_ms, at: Some(Instant::now()) };
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
