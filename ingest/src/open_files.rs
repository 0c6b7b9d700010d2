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
