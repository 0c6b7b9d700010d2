//! The wall clock of a machine that was off for a while: minutes that a run does not have to wait for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use hookline_e2e::AllInOne;
use jiff::Timestamp;

/// Milliseconds of the clock that Hookline's processes see.
pub(crate) type Ms = i64;

/// How far that clock is ahead of the test's own.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> Ms {
        Timestamp::now().as_millisecond() + self.ahead.load(Ordering::Relaxed)
    }

    /// The stand-in's record is kept by the test's clock. What was recorded before a leap becomes later by it, and the
    /// oracle only ever asks whether something came late enough, or after something else that was recorded.
    pub(crate) fn of(&self, recorded: Timestamp, leaps: &[(Timestamp, Ms)]) -> Ms {
        let ahead = leaps.iter().rev().find(|(since, _)| *since <= recorded).map_or(0, |(_, ahead)| *ahead);
        recorded.as_millisecond() + ahead
    }

    /// Every process that starts from now on sees a clock that is so much further ahead.
    pub(crate) fn leap(&self, all_in_one: &mut AllInOne, seconds: i64) -> Ms {
        let ahead = self.ahead.fetch_add(seconds * 1_000, Ordering::Relaxed) + seconds * 1_000;
        all_in_one.set("LD_PRELOAD", &library().display().to_string());
        all_in_one.set("MIXED_CLOCK_AHEAD", &(ahead / 1_000).to_string());
        ahead
    }
}

/// Built once per test process. A C compiler is there: a dependency of Hookline needs it, too.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = LIBRARY.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mixed/clock.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).arg("-ldl");
        assert!(compile.status().expect("a C compiler is there").success(), "clock.c compiles");
        (dir, path)
    });
    path
}
