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
    let mut house = Deployment::on(shared_node().await).await;
    house.start(1, 1, "").await;
    let load = Load::mixed(seed(), 40, 4, &house.sandbox);
    send_all(&house.sender, &load.bodies).await;
    house.settled().await;

    for (point, stored) in [("publish.confirmed", true), ("publish.sent", false)] {
        let person = SampleFacts::random(ACCOUNT);
        let body = sample("contact.opted_out", &person);
        house.stop(Half::Ingest, 0).await;
        house.put(Half::Ingest, 0, &[("HOOKLINE_TEST_ABORT_AT", point)]).await;
        let unanswered = house.sender.post(body.to_string().as_bytes()).await;
        assert!(unanswered.is_err(), "{point}: no answer came");
        assert_eq!(house.dies(Half::Ingest, 0).await, None, "it is aborted at {point}");
        house.put(Half::Ingest, 0, &[]).await;
        let made = || house.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone);
        if stored {
            eventually("what was confirmed is done", async || (made() == 1).then_some(())).await;
        }

        let id = house.sender.send(&body).await;
        let accounts = house.settled().await;

        assert!(accounts.of("record_opt_out", "done").contains(&id), "{point}: the repeat has the same id");
        assert_eq!(made(), 1, "{point}: one effect");
    }
    let tally = house.holds(&load, 0).await;
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn f33_the_same_event_five_times_at_once_to_two_ingests_is_one_event_and_one_effect() {
    let fault = Fault::new("F33", "the same event 5 times at once to 2 ingests");
    let mut house = Deployment::on(shared_node().await).await;
    house.start(2, 2, "").await;
    let load = Load::mixed(seed(), 60, 0, &house.sandbox);

    for body in &load.bodies {
        let ids = join_all((0..5).map(|_| house.sender.send(body))).await;
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1, "one event_id");
    }
    let tally = house.holds(&load, 0).await;

    assert_eq!(tally.accepted, 60);
    fault.survived(tally, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f32_an_ingest_out_of_descriptors_takes_webhooks_again_when_there_are_some() {
    let fault = Fault::new("F32", "64 file descriptors, 80 idle connections");
    let mut house = Deployment::on(shared_node().await).await;
    house.limit_files(64);
    house.start(1, 1, "").await;
    let load = Load::mixed(seed(), 200, 20, &house.sandbox);
    let parts = load.parts(2);
    send_all(&house.sender, parts[0]).await;

    let webhooks = house.part(Half::Ingest, 0).webhooks.clone().expect("an ingest has one");
    let address = webhooks.trim_start_matches("http://").split('/').next().expect("an address");
    let mut idle = Vec::new();
    for _ in 0..80 {
        idle.push(tokio::net::TcpStream::connect(address).await.expect("the backlog takes it"));
    }
    let released = async {
        eventually("posts meet the limit", async || {
            (house.sender.unanswered() > 0 || house.sender.statuses().contains(&503)).then_some(())
        })
        .await;
        drop(idle);
    };
    let began = std::time::Instant::now();
    tokio::join!(send_all(&house.sender, parts[1]), async {
        // It may also have closed the idle ones itself, and never been short.
        tokio::select! {
            () = released => {}
            () = accepted(&house, 200) => {}
        }
    });
    let recovered = began.elapsed();
    let tally = house.holds(&load, 0).await;

    assert!(house.sender.statuses().is_subset(&[200, 503].into()), "{:?}", house.sender.answers());
    fault.survived(tally, Some(recovered));
}
