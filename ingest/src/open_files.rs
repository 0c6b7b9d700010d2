//! Lets the process have as many connections as the machine allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one. The soft limit is commonly 1024, for the sake of programs that
/// use `select`, and a connection takes two (`connection.rs`).
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    // Refused: then it stays as it is, and connections beyond it wait to be accepted.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Files that the process needs beside connections: listeners, threads, the spool, the broker, the admin listener.
const OTHERS: u64 = 44;

/// How many connections there may be at once. More would take the descriptors that spool, broker and `/readyz` need.
pub(crate) fn for_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX)
}
