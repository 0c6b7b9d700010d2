//! A connection each: more than the usual soft limit of open files allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's soft limit to its hard limit. The processes started after it inherit that.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused at worst: then 1,000 at once are too many, and the measurement says so by failing.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
