//! Allows the process as many connections as the machine permits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard limit. The soft limit is commonly 1024, for programs that use
/// `select`, and each connection takes two descriptors (`connection.rs`).
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    // If the call is refused, the limit stays, and connections beyond it wait to be accepted.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Descriptors reserved for everything but connections: listeners, threads, the spool, the broker, the admin listener.
const OTHERS: u64 = 44;

/// Returns the maximum number of concurrent connections. More would take the descriptors that the spool, the broker and
/// `/readyz` need.
pub(crate) fn for_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX)
}
