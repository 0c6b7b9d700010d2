//! `hookline backup`, and what a restored machine knows.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use hookline_e2e::{ACCOUNT, AllInOne};
use hookline_sandbox::EffectKind;
use hookline_sandbox::samples::{SampleFacts, sample};

const SENT: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_restores_everything_that_was_accepted_before_it() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    // Random numbers may meet, and the second opt-out of a number asks for nothing.
    let person = |n: usize| {
        let phone = format!("+1{}55501{:02}", 202 + n / 100, n % 100);
        SampleFacts { phone, ..SampleFacts::random(ACCOUNT) }
    };
    let people: Vec<SampleFacts> = (0..2 * SENT).map(person).collect();
    let bodies: Vec<_> = people.iter().map(|person| sample("contact.opted_out", person)).collect();
    for body in &bodies[..SENT] {
        all_in_one.sender.send(body).await;
    }
    let before = all_in_one.sender.accepted();
    let sender = all_in_one.sender.clone();
    let later = bodies[SENT..].to_vec();
    let load = tokio::spawn(async move {
        for body in &later {
            sender.send(body).await;
        }
    });
    let file = all_in_one.dir().join("hookline.tar");

    let document = all_in_one.json(&["backup", "hookline.tar"]).await;

    load.await.expect("all are accepted");
    let names: Vec<_> = document["files"].as_array().expect("files").iter().map(|file| &file["name"]).collect();
    assert_eq!(names, ["broker.db", "store.db", "ledger.key"]);
    let mode = file.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "it holds phone numbers");
    // The machine is gone, with its disk.
    running.process.kill().await;
    let data = all_in_one.dir().join("data");
    std::fs::remove_dir_all(&data).expect("removed");
    std::fs::create_dir(&data).expect("made");
    let unpacked = Command::new("tar").arg("-xf").arg(&file).arg("-C").arg(&data).status().expect("tar is there");
    assert!(unpacked.success());
    let running = all_in_one.run().await;
    let accounts = all_in_one.settled().await;

    for id in before.keys() {
        // Where the restored machine meets the echo of a PUT first, it makes the PUT for that.
        let end = accounts.ending(id, "record_opt_out");
        assert!(["done", "skipped: echo"].contains(&end.as_str()), "{id} was accepted before the backup: {end}");
    }
    for person in &people[..SENT] {
        assert!(all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone) >= 1);
    }
    assert_eq!(all_in_one.cli(&["opt-outs", "verify"]).await.code, Some(0));
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_replaces_nothing_and_leaves_nothing_behind_when_it_cannot_be_made() {
    let all_in_one = AllInOne::start().await;
    let nothing = all_in_one.cli(&["backup", "a.tar"]).await;
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.contains("there is nothing here"), "{}", nothing.stderr);
    let running = all_in_one.run().await;
    std::fs::write(all_in_one.dir().join("there.tar"), "mine").expect("written");

    let there = all_in_one.cli(&["backup", "there.tar"]).await;
    assert_eq!(there.code, Some(1));
    assert!(there.stderr.contains("exists already"), "{}", there.stderr);
    assert_eq!(std::fs::read_to_string(all_in_one.dir().join("there.tar")).expect("read"), "mine");
    let nowhere = all_in_one.cli(&["backup", "no/where/a.tar"]).await;
    assert_eq!(nowhere.code, Some(1));
    assert!(nowhere.stderr.contains("make the directory first"), "{}", nowhere.stderr);
    let names: Vec<_> = std::fs::read_dir(all_in_one.dir()).expect("read").flatten().map(|e| e.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".hookline-backup")), "{names:?}");
    assert_eq!(running.stop().await.code, Some(0));
}
