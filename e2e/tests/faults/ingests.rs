//! Ingests die, and get the same event from several sides at once.

use std::collections::BTreeSet;

use futures::future::join_all;
use hookline_e2e::{ACCOUNT, Deployment, Half, Load, eventually, send_all};
use hookline_sandbox::EffectKind;
use hookline_sandbox::samples::{SampleFacts, sample};

use crate::{Fault, accepted, seed, shared_node};

#[tokio::test(flavor = "multi_thread")]
async fn f21_an_ingest_that_dies_between_the_confirm_and_the_answer_is_sent_the_same_event_again() {
    let fault = Fault::new("F21", "ingest dies after the confirm, before the answer; and before the confirm");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 40, 4, &all_in_one.sandbox);
    send_all(&all_in_one.sender, &load.bodies).await;
    all_in_one.settled().await;

    for (point, stored) in [("publish.confirmed", true), ("publish.sent", false)] {
        let person = SampleFacts::random(ACCOUNT);
        let body = sample("contact.opted_out", &person);
        all_in_one.stop(Half::Ingest, 0).await;
        all_in_one.put(Half::Ingest, 0, &[("HOOKLINE_TEST_ABORT_AT", point)]).await;
        let unanswered = all_in_one.sender.post(body.to_string().as_bytes()).await;
        assert!(unanswered.is_err(), "{point}: no answer came");
        assert_eq!(all_in_one.dies(Half::Ingest, 0).await, None, "it is aborted at {point}");
        all_in_one.put(Half::Ingest, 0, &[]).await;
        let made = || all_in_one.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone);
        if stored {
            eventually("what was confirmed is done", async || (made() == 1).then_some(())).await;
        }

        let id = all_in_one.sender.send(&body).await;
        let accounts = all_in_one.settled().await;

        assert!(accounts.of("record_opt_out", "done").contains(&id), "{point}: the repeat has the same id");
        assert_eq!(made(), 1, "{point}: one effect");
    }
    let tally = all_in_one.holds(&load, 0).await;
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn f33_the_same_event_five_times_at_once_to_two_ingests_is_one_event_and_one_effect() {
    let fault = Fault::new("F33", "the same event 5 times at once to 2 ingests");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.start(2, 2, "").await;
    let load = Load::mixed(seed(), 60, 0, &all_in_one.sandbox);

    for body in &load.bodies {
        let ids = join_all((0..5).map(|_| all_in_one.sender.send(body))).await;
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "one event_id");
    }
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(tally.accepted, 60);
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f32_an_ingest_out_of_descriptors_takes_webhooks_again_when_there_are_some() {
    let fault = Fault::new("F32", "64 file descriptors, 80 idle connections");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.limit_files(64);
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), 200, 20, &all_in_one.sandbox);
    let parts = load.parts(2);
    send_all(&all_in_one.sender, parts[0]).await;

    let webhooks = all_in_one.part(Half::Ingest, 0).webhooks.clone().expect("an ingest has one");
    let address = webhooks.trim_start_matches("http://").split('/').next().expect("an address");
    let mut idle = Vec::new();
    for _ in 0..80 {
        idle.push(tokio::net::TcpStream::connect(address).await.expect("the backlog takes it"));
    }
    let released = async {
        eventually("posts meet the limit", async || {
            (all_in_one.sender.unanswered() > 0 || all_in_one.sender.statuses().contains(&503)).then_some(())
        })
        .await;
        drop(idle);
    };
    let began = std::time::Instant::now();
    tokio::join!(send_all(&all_in_one.sender, parts[1]), async {
        // It may also have closed the idle ones itself, and never been short.
        tokio::select! {
            () = released => {}
            () = accepted(&all_in_one, 200) => {}
        }
    });
    let recovered = began.elapsed();
    let tally = all_in_one.holds(&load, 0).await;

    assert!(all_in_one.sender.statuses().is_subset(&[200, 503].into()), "{:?}", all_in_one.sender.answers());
    fault.survived(tally, Some(recovered));
}
