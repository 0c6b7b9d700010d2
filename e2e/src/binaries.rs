//! Builds the binaries once per test process, and finds them next to the test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub const HOOKLINE: &str = "hookline";
pub(crate) const HOOKLINE_BENCH: &str = "hookline-bench";
pub const HOOKLINE_INGEST: &str = "hookline-ingest";
pub const HOOKLINE_WORKER: &str = "hookline-worker";

/// Returns the path of a freshly built binary of this workspace.
///
/// # Panics
/// If the build fails, since there is nothing to test then.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(build).join(name)
}

/// Builds into the directory into which this test was built, with the same profile. If nothing changed, cargo takes a
/// second. cargo itself locks the directory against other test processes.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // The test's path is target/debug/deps/all_in_one-0123456789abcdef.
    let profile = test.ancestors().nth(2).expect("a test lies in its profile's deps");
    let target = profile.parent().expect("a profile lies in the target directory");
    let mut build = Command::new(env!("CARGO"));
    // All features include the crash points, and let a test run with --all-features share what this builds.
    build.args(["build", "--quiet", "--workspace", "--bins", "--all-features", "--target-dir"]).arg(target);
    // Cargo sets variables about a test's package. A build script that reads them (ring's) would run again each time,
    // and its dependents would be rebuilt: half a minute for each run.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            build.env_remove(name);
        }
    }
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace"));
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    let built = build.status().expect("cargo runs");
    assert!(built.success(), "the binaries cannot be built");
    profile.to_owned()
}
