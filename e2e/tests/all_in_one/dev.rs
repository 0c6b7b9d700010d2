//! The first minutes: `dev --demo` in a fresh directory, `dev` with `trigger` beside it.

use std::path::Path;

use hookline_e2e::{HOOKLINE, Process, Ran, binary, eventually, run};
use serde_json::Value;
use tokio::process::Command;

fn hookline(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary(HOOKLINE));
    command.current_dir(dir).env_clear().args(arguments);
    // Not the usual ports: another may use them.
    command.env("HOOKLINE__INGEST__LISTEN", "127.0.0.1:0").env("HOOKLINE__ADMIN__LISTEN", "127.0.0.1:0");
    command
}

/// `10 events (8 sent, 2 raised by our own calls): 22 deliveries = 17 done + 5 skipped + 0 dead-lettered`
fn sums(ran: &Ran) -> Vec<u64> {
    let last = ran.stdout.trim_end().lines().last().expect("a last line");
    let sums: Vec<u64> = last
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().expect("digits"))
        .collect();
    assert_eq!(sums.len(), 7, "{last}");
    assert!(last.contains("done + ") && last.contains("skipped + ") && last.contains("dead-lettered"), "{last}");
    sums
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_passes_in_a_fresh_directory_and_once_more_and_its_sums_are_right() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let ran = run(hookline(dir.path(), &["dev", "--demo"])).await;

        assert_eq!(ran.code, Some(0), "round {round}: {ran:?}");
        let [events, sent, raised, deliveries, done, skipped, dead] = sums(&ran)[..] else { panic!("seven sums") };
        assert_eq!((sent, dead), (8, 0), "round {round}");
        assert_eq!(events, sent + raised, "round {round}");
        assert_eq!(deliveries, done + skipped + dead, "round {round}");
        // The PUT and the POST to the second account each raise a webhook that goes to three handlers.
        assert_eq!((raised, deliveries), (2, 23), "round {round}");
        for event_type in hookline_sandbox::samples::EVENT_TYPES {
            assert!(ran.stdout.contains(event_type), "round {round}: {event_type} is told");
        }
        let status = run(hookline(dir.path(), &["status", "--dev", "--json"])).await.json();
        let total = |key: &str| {
            status["handlers"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|handler| handler[key].as_u64().expect("a number"))
                .sum::<u64>()
        };
        assert_eq!(total("accepted"), deliveries * round, "round {round}");
        assert_eq!((total("waiting"), total("dead_lettered")), (0, 0), "round {round}");
        assert_eq!(status["unrecorded"], 0, "round {round}");
        assert!(!dir.path().join(".hookline/dev/dev.json").exists(), "round {round}: cleaned up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trigger_finds_a_running_dev_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = run(hookline(dir.path(), &["trigger", "message.received"])).await;
    assert_eq!(nobody.code, Some(2), "nobody runs yet: {nobody:?}");
    let mut dev = Process::start(hookline(dir.path(), &["dev"]));
    dev.line("the URL of the webhooks", |line| line.contains("/webhooks/textus").then_some(())).await;

    let ran =
        run(hookline(dir.path(), &["trigger", "--dev", "message.received", "--count", "5", "--concurrency", "2"]))
            .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = run(hookline(dir.path(), &["trigger", "contact.opted-out"])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");

    eventually("five notes", async || {
        let notes: Value = run(hookline(dir.path(), &["records", "notes", "--dev", "--json"])).await.json();
        (notes["notes"].as_array().expect("a list").len() == 5).then_some(())
    })
    .await;
    eventually("the opt-out is put", async || {
        let opt_outs: Value = run(hookline(dir.path(), &["opt-outs", "list", "--dev", "--json"])).await.json();
        (opt_outs["opt_outs"][0]["put_status"] == 201).then_some(())
    })
    .await;
    dev.line("the journey is told", |line| line.contains("record_opt_out done").then_some(())).await;
    dev.terminate();
    let ended = dev.ended(std::time::Duration::from_secs(40)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_dev_is_for_its_user_only_and_never_printed() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let ran = run(hookline(dir.path(), &["dev", "--demo"])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");

    let file = dir.path().join(".hookline/dev/dev-webhook-secret");
    let secret = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!ran.stdout.contains(secret.trim()) && !ran.stderr.contains(secret.trim()));
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_dev_that_runs_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".hookline/dev/dev.json");
    let check = async || run(hookline(dir.path(), &["healthcheck", "--dev"])).await;
    let nobody = |ran: &Ran| ran.code == Some(1) && ran.stdout.contains("no `hookline dev` runs");
    let ran = check().await;
    assert!(nobody(&ran), "{ran:?}");

    let mut dev = Process::start(hookline(dir.path(), &["dev"]));
    dev.line("the URL of the webhooks", |line| line.contains("/webhooks/textus").then_some(())).await;
    eventually("it is ready, on whatever port", async || (check().await.code == Some(0)).then_some(())).await;
    let told = std::fs::read(&file).unwrap();
    dev.terminate();
    let ended = dev.ended(std::time::Duration::from_secs(40)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    // Left behind, as by one that was killed.
    std::fs::write(&file, told).unwrap();
    let ran = check().await;
    assert!(nobody(&ran), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dev_whose_port_another_process_has_says_which_and_what_to_set() {
    let dir = tempfile::tempdir().unwrap();
    for key in ["INGEST", "ADMIN"] {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = other.local_addr().unwrap().to_string();
        let variable = format!("HOOKLINE__{key}__LISTEN");
        let mut dev = hookline(dir.path(), &["dev", "--demo"]);
        dev.env(&variable, &addr);

        let ran = run(dev).await;

        assert_eq!(ran.code, Some(1), "{ran:?}");
        let section = format!("[{}] listen", key.to_lowercase());
        for part in [addr.as_str(), &section, &variable, "another process"] {
            assert!(ran.stderr.contains(part), "{part}: {ran:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_passes_with_stand_ins_for_other_systems_of_record_and_shows_their_notes() {
    for (system, noun) in [("hubspot", "┌ communication "), ("salesforce", "┌ task 00T"), ("http", "┌ note thread_")]
    {
        let dir = tempfile::tempdir().unwrap();

        let ran = run(hookline(dir.path(), &["dev", "--demo", "--system-of-record", system])).await;

        assert_eq!(ran.code, Some(0), "{system}: {ran:?}");
        assert!(ran.stdout.contains(noun) && ran.stdout.contains(" Received: "), "{system}: {}", ran.stdout);
        assert!(!ran.stdout.contains("<br>"), "{system}: as its reader sees it");
    }
}
