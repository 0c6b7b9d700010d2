//! A wrong configuration is told whole, with file, line and remedy, before anything is opened.

use std::path::Path;

use hookline_e2e::{AllInOne, HOOKLINE, HOOKLINE_INGEST, HOOKLINE_WORKER, Ran, binary, run};
use tokio::process::Command;

const BAD: &str = r#"data_dir = "./data"
shutdown_grace = "soon"

[ingest]
listn = "127.0.0.1:0"
max_body_bytes = "lots"

[[sources]]
name = "textus"
secrets = ["env:NO_SUCH_WEBHOOK_SECRET"]

[textus]
base_url = "http://textus.example"
account = "a/b"
token = "env:NO_SUCH_TOKEN"

[handlers.log_note]
message_lookup = "guess"
"#;

async fn program(dir: &Path, name: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(binary(name));
    command.current_dir(dir).env_clear().args(arguments);
    run(command).await
}

/// The lines of the file that a problem is told for, each told with a remedy.
fn lines_told(ran: &Ran) -> Vec<usize> {
    let mut lines = Vec::new();
    for line in ran.stderr.lines() {
        let (number, rest) = line.strip_prefix("bad.toml:").and_then(|rest| rest.split_once(": ")).expect(line);
        assert!(rest.contains("; "), "what is wrong; what to do: {line}");
        lines.push(number.parse().expect(line));
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_tells_all_problems_at_once_and_exits_2() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), BAD).unwrap();
    let cases: [(&str, &[&str], &[usize]); 4] = [
        (HOOKLINE, &["run", "--config", "bad.toml"], &[2, 5, 6, 10, 13, 14, 15, 18]),
        (HOOKLINE, &["check", "--config", "bad.toml"], &[2, 5, 6, 10, 13, 14, 15, 18]),
        // Each needs its own secrets only.
        (HOOKLINE_INGEST, &["--config", "bad.toml"], &[2, 5, 6, 10, 13, 14, 18]),
        (HOOKLINE_WORKER, &["--config", "bad.toml"], &[2, 5, 6, 13, 14, 15, 18]),
    ];
    for (name, arguments, expected) in cases {
        let ran = program(dir.path(), name, arguments).await;

        assert_eq!(ran.code, Some(2), "{name} {arguments:?}: {ran:?}");
        let told = lines_told(&ran);
        for line in expected {
            assert!(told.contains(line), "{name} {arguments:?} tells line {line}: {}", ran.stderr);
        }
        assert!(ran.stderr.contains("ingest.listen"), "the nearest known key: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{name} {arguments:?}");
        assert!(!dir.path().join("data").exists(), "{name} {arguments:?} opened nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_variable_is_told_by_its_name_and_its_key() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), BAD).unwrap();

    let ran = program(dir.path(), HOOKLINE, &["check", "--config", "bad.toml"]).await;

    let told = |words: [&str; 2]| ran.stderr.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(told(["NO_SUCH_WEBHOOK_SECRET", "secrets"]), "{}", ran.stderr);
    assert!(told(["NO_SUCH_TOKEN", "textus.token"]), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_toml_or_not_there_is_told_with_the_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bad.toml"), "[ingest\nlisten = 1\n").unwrap();
    for (name, arguments) in [
        (HOOKLINE, &["run", "--config", "bad.toml"][..]),
        (HOOKLINE, &["check", "--config", "bad.toml"]),
        (HOOKLINE_INGEST, &["--config", "bad.toml"]),
        (HOOKLINE_WORKER, &["--config", "bad.toml"]),
    ] {
        let ran = program(dir.path(), name, arguments).await;
        assert_eq!((ran.code, ran.stderr.starts_with("bad.toml:1: ")), (Some(2), true), "{name}: {ran:?}");
    }
    for (name, arguments) in
        [(HOOKLINE, &["run", "--config", "absent.toml"][..]), (HOOKLINE_INGEST, &["--config", "absent.toml"])]
    {
        let ran = program(dir.path(), name, arguments).await;
        assert_eq!((ran.code, ran.stderr.contains("absent.toml")), (Some(2), true), "{name}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_halves_alone_need_a_broker_and_say_so() {
    let all_in_one = AllInOne::start().await;
    let config = all_in_one.config().display().to_string();
    for name in [HOOKLINE_INGEST, HOOKLINE_WORKER] {
        let ran = program(all_in_one.dir(), name, &["--config", &config]).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("broker.url") && ran.stderr.contains("hookline run"), "{name}: {}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_configuration_is_fine_and_shows_no_secret() {
    let all_in_one = AllInOne::start().await;
    for arguments in [&["check"][..], &["check", "--json"], &["check", "--connect"]] {
        let ran = all_in_one.cli(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        for secret in [hookline_e2e::SECRET, hookline_e2e::TOKEN] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{arguments:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_exits_2_and_help_and_version_exit_0() {
    let dir = tempfile::tempdir().unwrap();
    for name in [HOOKLINE, HOOKLINE_INGEST, HOOKLINE_WORKER] {
        assert_eq!(program(dir.path(), name, &["--nonsense"]).await.code, Some(2), "{name}");
        for argument in ["--help", "--version"] {
            let ran = program(dir.path(), name, &[argument]).await;
            assert_eq!(ran.code, Some(0), "{name} {argument}");
            assert!(!ran.stdout.is_empty(), "{name} {argument}");
        }
    }
    assert_eq!(program(dir.path(), HOOKLINE_WORKER, &["--handlers", "log_notes"]).await.code, Some(2));
}
