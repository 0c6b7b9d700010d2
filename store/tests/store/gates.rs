use hookline_common::names::{Destination, OperationClass};
use hookline_store::Store;
use hookline_store::model::{GateRow, GateStanding, Question};

use crate::helpers::{TestStore, at};

async fn textus_gate(store: &Store) -> GateRow {
    store
        .gates()
        .await
        .expect("the store answers")
        .into_iter()
        .find(|gate| gate.destination == Destination::TextUs)
        .expect("every one")
}

#[tokio::test]
async fn every_destination_is_open_until_somebody_says_otherwise() {
    let TestStore { store, home: _home } = TestStore::new().await;

    let gates = store.gates().await.unwrap();

    assert_eq!(gates.len(), Destination::ALL.len());
    assert!(gates.iter().all(|gate| !gate.paused && gate.closed_until.is_none() && gate.standing.limit.is_none()));
}

#[tokio::test]
async fn resuming_does_not_open_a_gate_early() {
    let test = TestStore::new().await;
    let other = test.other().await;
    let close = |row: GateRow, _now| (GateRow { closed_until: Some(at(20)), ..row }, ());
    test.store.change_gate(Destination::TextUs, close).await.unwrap();
    test.store.pause_gate(Destination::TextUs, "maintenance").await.unwrap();
    assert_eq!(textus_gate(&other).await.reason_of_pause(), Some("maintenance"));

    test.store.resume_gate(Destination::TextUs).await.unwrap();

    let gate = textus_gate(&other).await;
    assert_eq!((gate.paused, gate.closed_until, gate.reason), (false, Some(at(20)), None));
}

#[tokio::test]
async fn what_a_worker_looks_at_is_one_look() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (question, gates) = store.look().await.unwrap();
    assert_eq!((question, gates), (Question::NONE, Vec::new()));

    let failing = vec![OperationClass::OptOutWrites, OperationClass::Reads];
    let standing = GateStanding { limit: Some(1000), remaining: Some(799), per_minute: None, failing };
    let told = standing.clone();
    let tell = move |row: GateRow, _now| (GateRow { standing: told.clone(), ..row }, ());
    store.change_gate(Destination::TextUs, tell).await.unwrap();
    let asked = store.ask_workers().await.unwrap();

    let (question, gates) = store.look().await.unwrap();
    assert_eq!(question, asked);
    assert_eq!(gates.iter().map(|gate| &gate.standing).collect::<Vec<_>>(), [&standing]);
    assert_eq!(textus_gate(&store).await.standing, standing);
}

#[tokio::test]
async fn what_all_know_of_a_destination_is_changed_by_one_after_another() {
    let test = TestStore::new().await;
    let count = |row: GateRow, _now| {
        let next = row.policy.as_deref().map_or(0, |before| before.parse::<u32>().expect("a number")) + 1;
        (GateRow { policy: Some(next.to_string()), ..row }, next)
    };

    let all = futures::future::join_all((0..20).map(|_| test.store.change_gate(Destination::TextUs, count))).await;

    let mut numbers: Vec<u32> = all.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
}
