//! `notes sync` and `opt-outs sync` to HubSpot: what cannot be filled, and how fast the rest is.

use std::time::Duration;

use futures::StreamExt as _;
use hookline_e2e::{AllInOne, Process};
use hookline_sandbox::HubSpotOptions;
use serde_json::json;

use crate::chain::history::{History, contact, phone};
use crate::chain::systems::{hubspot, to_hubspot};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_filled_is_said_with_what_to_do() {
    let mut all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, "").await;
    all_in_one.run().await.stop().await;
    let builtin = all_in_one.cli(&["notes", "sync", "--since", "2026-11-01"]).await;
    assert_eq!(builtin.code, Some(2));
    assert!(builtin.stderr.contains("kind is \"builtin\""), "{builtin:?}");
    let crm = hubspot(HubSpotOptions::default()).await;
    to_hubspot(&mut all_in_one, &crm, "another-token");
    for (date, code, words) in [
        ("yesterday", 2, "is not a date"),
        ("2026-02-30", 2, "is not a date"),
        ("2999-01-01", 2, "is in the future"),
        ("2026-11-01", 1, "refuses the credentials with 401"),
    ] {
        let ran = all_in_one.cli(&["notes", "sync", "--since", date]).await;
        assert_eq!(ran.code, Some(code), "{date} {ran:?}");
        assert!(ran.stderr.contains(words), "{date} {ran:?}");
    }
    let refused = all_in_one.cli(&["opt-outs", "sync"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    to_hubspot(&mut all_in_one, &crm, &HubSpotOptions::default().token);
    assert_eq!(all_in_one.cli(&["pause", "system_of_record", "--reason", "lunch"]).await.code, Some(0));
    for sync in [&["notes", "sync", "--since", "2026-11-01"][..], &["opt-outs", "sync"]] {
        let paused = all_in_one.cli(sync).await;
        assert_eq!(paused.code, Some(1), "{paused:?}");
        assert!(paused.stderr.contains("lunch"), "{paused:?}");
    }
    assert_eq!(all_in_one.cli(&["resume", "system_of_record"]).await.code, Some(0));
    let flagged = all_in_one.json(&["opt-outs", "sync"]).await;
    assert_eq!((&flagged["numbers"], &flagged["flagged"]), (&json!(0), &json!(0)), "{flagged}");
}

/// `cargo test --release -p hookline-e2e --all-features --test all_in_one -- --ignored --nocapture five_thousand`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: docs/measurements.md has its figures"]
async fn five_thousand_texts_come_into_hubspot_at_its_limit() {
    const PEOPLE: usize = 250;
    const TEXTS: usize = 20;
    let more = "[handlers.log_note]\nmessage_lookup = \"none\"\n";
    let mut all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, more).await;
    let running = all_in_one.run().await;
    let (_, bodies) = History::new(PEOPLE, TEXTS, |_| true);
    futures::stream::iter(&bodies).map(|body| all_in_one.sender.send(body)).buffer_unordered(32).count().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(900);
    loop {
        let status = all_in_one.json(&["status"]).await;
        let waits = status["handlers"].as_array().expect("a list").iter().any(|handler| handler["waiting"] != 0);
        if status["unrecorded"] == 0 && !waits {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{status}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(running.stop().await.code, Some(0));
    let crm = hubspot(HubSpotOptions::default()).await;
    for person in 0..PEOPLE {
        let (phone, contact) = (phone(person), contact(person));
        crm.add_contact(&[("lastname", "Doe"), ("phone", &phone), ("textus_contact_id", &contact)]);
    }
    to_hubspot(&mut all_in_one, &crm, &HubSpotOptions::default().token);
    let sync = ["notes", "sync", "--since", "2026-11-01", "--json"];
    let told = all_in_one.json(&["notes", "sync", "--since", "2026-11-01", "--dry-run"]).await;
    let began = std::time::Instant::now();
    let ended = Process::start(all_in_one.command(&sync)).ended(Duration::from_secs(1200)).await;
    let took = began.elapsed();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let refused = crm.requests().iter().filter(|request| request.status == Some(429)).count();
    println!(
        "told {told}\nwritten {}\nin {took:?}, {} requests, {refused} refused",
        ended.stdout,
        crm.requests().len()
    );
    assert_eq!(crm.communications().len(), PEOPLE * 2);
    assert!((crm.violations(), crm.orphans()) == (vec![], vec![]));
}
