//! The program `hookline-ingest`: its output and exit codes before anything is opened.

use std::process::{Command, Output};

fn hookline_ingest(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    // Isolated from its surroundings: no file in the working directory and no environment variable counts.
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookline-ingest"));
    command.args(arguments).current_dir(&folder).env_clear().output().expect("runs")
}

#[test]
fn help_and_version_exit_0_and_wrong_usage_2() {
    let help = hookline_ingest(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--config <FILE>"));
    let version = hookline_ingest(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(hookline_ingest(&["--nonsense"]).status.code(), Some(2));
}

#[test]
fn every_problem_of_the_settings_is_told_at_once_with_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookline.toml");
    std::fs::write(&file, "[ingest]\nlissen = \"127.0.0.1:0\"\nmax_body_bytes = \"a lot\"\n").unwrap();

    let output = hookline_ingest(&["--config", file.to_str().unwrap()]);

    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["hookline.toml:2", "hookline.toml:3", "listen", "broker"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}
