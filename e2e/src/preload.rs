//! Libraries that come before libc in a process of ours (`LD_PRELOAD`), to imitate a clock that was set or a disk that
//! fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use tempfile::TempDir;

static BUILT: LazyLock<(TempDir, Mutex<BTreeMap<String, PathBuf>>)> =
    LazyLock::new(|| (tempfile::tempdir().expect("a directory"), Mutex::default()));

/// Returns the library that is built of `e2e/preload/<name>.c`, once per test process.
///
/// # Panics
/// If it does not compile. A C compiler is there: a dependency of Hookline needs it, too.
#[must_use]
pub fn preload(name: &str) -> String {
    let (dir, built) = &*BUILT;
    let mut built = built.lock().unwrap_or_else(PoisonError::into_inner);
    let path = built.entry(name.to_owned()).or_insert_with(|| {
        let path = dir.path().join(format!("{name}.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("preload/{name}.c"));
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&path).arg(source).arg("-ldl");
        assert!(compile.status().expect("a C compiler is there").success(), "{name}.c compiles");
        path
    });
    path.display().to_string()
}
