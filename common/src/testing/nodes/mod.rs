//! Private RabbitMQ and PostgreSQL nodes for tests: on free loopback ports, in one temporary folder per test process,
//! beside the services that this machine runs. They end with the test process, however that ends: a reaper process
//! waits for the end of a pipe whose other end only the test process holds.
//!
//! `scripts/test` installs the servers. Without them a node panics with a hint.

mod island;
mod ports;
mod postgres;
mod rabbit;
mod root;

pub use postgres::PostgresNode;
pub use rabbit::RabbitNode;
pub use root::root;

use std::path::Path;
use std::time::{Duration, Instant};

/// How long a boot may take; on two busy cores one has taken 16 s.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The search path of nodes, as on Debian: nothing of the caller's environment reaches a node.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Calls `look` until it returns something; `None` after [`BOOT_DEADLINE`].
async fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + BOOT_DEADLINE;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The end of a log, for a panic's message, because the folder is gone by the time somebody could look.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
