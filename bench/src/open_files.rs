//! Raises the limit on open files, because the connections need more than the usual soft limit allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's soft limit to its hard limit. Processes started afterwards inherit it.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // If the call is refused, 1,000 connections at once are too many, and the measurement fails visibly.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
