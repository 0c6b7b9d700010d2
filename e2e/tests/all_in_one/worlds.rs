//! `dev` and `run` in one directory, the sandbox and the real API: nothing crosses. The sandbox plays the
//! real API where its answers bear no mark.

use std::path::{Path, PathBuf};

use hookline_e2e::{ACCOUNT, AllInOne, Process, Ran, Running, SECRET, TOKEN, eventually};
use hookline_sandbox::EffectKind;
use hookline_sandbox::samples::{SampleFacts, sample};
use serde_json::Value;

/// An all-in-one Hookline whose sandbox plays the real API, with its data where it is by default.
async fn real_all_in_one() -> AllInOne {
    let mut all_in_one = AllInOne::with(|sandbox| sandbox.marked = false, "").await;
    all_in_one.set("HOOKLINE__DATA_DIR", "./.hookline");
    all_in_one
}

fn is_the_sandbox(all_in_one: &AllInOne, marked: bool) {
    all_in_one.sandbox.configure(|options| options.marked = marked);
}

/// Someone opts out; the event's id.
async fn opt_out(all_in_one: &AllInOne) -> (String, SampleFacts) {
    let person = SampleFacts::random(ACCOUNT);
    (all_in_one.sender.send(&sample("contact.opted_out", &person)).await, person)
}

fn puts(all_in_one: &AllInOne) -> usize {
    all_in_one.sandbox.effects().iter().filter(|effect| effect.kind == EffectKind::OptOutPut).count()
}

async fn paused(all_in_one: &AllInOne) -> String {
    eventually("textus is paused", async || {
        let status = all_in_one.json(&["status"]).await;
        let textus = status["destinations"].as_array()?.iter().find(|one| one["destination"] == "textus")?.clone();
        (textus["state"] == "paused").then(|| textus["reason"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

/// `dev`, up.
async fn dev(all_in_one: &AllInOne) -> Process {
    let mut dev = Process::start(all_in_one.command(&["dev"]));
    dev.line("it takes webhooks", |line| line.contains("/webhooks/textus").then_some(())).await;
    dev
}

async fn stop(process: Process) {
    process.terminate();
    let ended = process.ended(std::time::Duration::from_secs(40)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

/// The phones of a list of opt-outs.
async fn opted_out(all_in_one: &AllInOne, flags: &[&str]) -> Vec<String> {
    let list: Value = all_in_one.json(&[&["opt-outs", "list"], flags].concat()).await;
    let rows = list["opt_outs"].as_array().expect("a list");
    rows.iter().map(|row| row["phone"].as_str().expect("a text").to_owned()).collect()
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_then_run_then_dev_in_one_directory_and_nothing_crosses() {
    let all_in_one = real_all_in_one().await;
    let first = dev(&all_in_one).await;
    assert_eq!(all_in_one.cli(&["trigger", "contact.opted_out", "--dev"]).await.code, Some(0));
    eventually("the sandbox has it", async || {
        let list = all_in_one.cli(&["opt-outs", "list", "--dev", "--json"]).await;
        list.stdout.contains("\"put_status\": 201").then_some(())
    })
    .await;
    let nothing = all_in_one.cli(&["status"]).await;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(nothing.stderr.contains("nothing here") && nothing.stderr.contains("--dev"), "{nothing:?}");
    stop(first).await;
    let pretended = opted_out(&all_in_one, &["--dev"]).await;
    assert_eq!(pretended.len(), 1);
    assert_eq!(all_in_one.sandbox.requests(), [], "`dev` never asks the real API");
    for file in files_in(&all_in_one.dir().join(".hookline")) {
        let bytes = std::fs::read(&file).expect("a readable file");
        for secret in [SECRET, TOKEN] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a production's secret", file.display());
        }
    }

    let running = all_in_one.run().await;
    let (id, person) = opt_out(&all_in_one).await;
    assert_eq!(all_in_one.settled().await.ending(&id, "record_opt_out"), "done");
    let real = opted_out(&all_in_one, &[]).await;
    assert_eq!(real, [person.phone]);
    assert_eq!(opted_out(&all_in_one, &["--dev"]).await, pretended);
    assert_eq!(puts(&all_in_one), 1);
    let asked = all_in_one.sandbox.requests().len();

    // Beside it: each has its own.
    let again = dev(&all_in_one).await;
    assert_eq!(all_in_one.cli(&["trigger", "contact.opted_out", "--dev"]).await.code, Some(0));
    eventually("the second", async || (opted_out(&all_in_one, &["--dev"]).await.len() == 2).then_some(())).await;
    stop(again).await;
    assert_eq!(running.stop().await.code, Some(0));

    assert_eq!(opted_out(&all_in_one, &[]).await, real);
    assert_eq!(all_in_one.sandbox.requests().len(), asked, "`dev` never asks the real API");
    for dev in [&[][..], &["--dev"]] {
        assert_eq!(all_in_one.cli(&[&["opt-outs", "verify"], dev].concat()).await.code, Some(0));
    }
}

/// Starts it in the other world and waits until it has found out; nothing is put, and what comes is kept.
async fn meets_the_other_world(all_in_one: &AllInOne) -> (Running, String) {
    let before = puts(all_in_one);
    let running = all_in_one.run().await;
    let (id, person) = opt_out(all_in_one).await;
    let reason = paused(all_in_one).await;
    assert!(reason.contains("[textus] base_url") && reason.contains("hookline resume textus"), "{reason}");
    let told = running.process.stderr().iter().filter(|line| line.contains("destination.paused")).count();
    assert_eq!(told, 1, "one line says so: {:?}", running.process.stderr());
    assert_eq!(puts(all_in_one), before, "nothing is put");
    let proof = all_in_one.json(&["opt-outs", "prove", &person.phone]).await;
    let kinds: Vec<&Value> = proof["entries"].as_array().expect("a list").iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["received"], "kept, and nothing is said to be sent");
    (running, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_store_puts_nothing_to_the_sandbox() {
    let all_in_one = real_all_in_one().await;
    let running = all_in_one.run().await;
    let (id, _) = opt_out(&all_in_one).await;
    assert_eq!(all_in_one.settled().await.ending(&id, "record_opt_out"), "done");
    assert_eq!(running.stop().await.code, Some(0));

    is_the_sandbox(&all_in_one, true);
    let checked = all_in_one.cli(&["check", "--connect"]).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.contains("the sandbox answers, and this store is for the real API"), "{checked:?}");
    let status = all_in_one.json(&["status"]).await;
    assert_eq!(status["destinations"][0]["state"], "healthy", "a command pauses nothing");
    let (running, kept) = meets_the_other_world(&all_in_one).await;
    assert_eq!(running.stop().await.code, Some(0));

    is_the_sandbox(&all_in_one, false);
    let running = all_in_one.run().await;
    assert_eq!(all_in_one.cli(&["resume", "textus"]).await.code, Some(0));
    assert_eq!(all_in_one.settled().await.ending(&kept, "record_opt_out"), "done");
    assert_eq!(puts(&all_in_one), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dev_keeps_never_goes_to_the_real_api() {
    let mut all_in_one = real_all_in_one().await;
    let demo = all_in_one.cli(&["dev", "--demo"]).await;
    assert_eq!(demo.code, Some(0), "{demo:?}");
    all_in_one.set("HOOKLINE__DATA_DIR", "./.hookline/dev");

    let (running, _) = meets_the_other_world(&all_in_one).await;

    running.stop().await;
    assert_eq!(puts(&all_in_one), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_leaves_a_real_store_in_its_directory_alone() {
    let mut all_in_one = real_all_in_one().await;
    all_in_one.set("HOOKLINE__DATA_DIR", "./.hookline/dev");
    let running = all_in_one.run().await;
    let (id, _) = opt_out(&all_in_one).await;
    assert_eq!(all_in_one.settled().await.ending(&id, "record_opt_out"), "done");
    running.stop().await;

    let refused: Ran = all_in_one.cli(&["dev", "--demo"]).await;

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("real API") && refused.stderr.contains("another data_dir"), "{refused:?}");
    assert_eq!(opted_out(&all_in_one, &[]).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_beside_an_older_devs_secret_is_warned_of_at_each_start() {
    let all_in_one = real_all_in_one().await;
    std::fs::create_dir(all_in_one.dir().join(".hookline")).unwrap();
    std::fs::write(all_in_one.dir().join(".hookline/dev-webhook-secret"), "textus-synthetic\n").unwrap();
    for start in 1..=2 {
        let mut running = all_in_one.run().await;
        let warning = running.process.line("store.mixed", |line| line.contains("store.mixed").then(|| line.to_owned()));
        assert!(warning.await.contains("dev-webhook-secret"), "start {start}");
        running.stop().await;
    }
}
