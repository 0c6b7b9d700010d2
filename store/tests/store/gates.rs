use hookline_common::names::Destination;
use hookline_store::Store;
use hookline_store::model::GateRow;

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
    assert!(gates.iter().all(|gate| !gate.paused && gate.closed_until.is_none() && gate.limit.is_none()));
}

#[tokio::test]
async fn a_gate_is_only_ever_closed_for_longer_and_resuming_does_not_open_it_early() {
    let test = TestStore::new().await;
    let other = test.other().await;
    test.store.close_gate(Destination::TextUs, at(20), "retry after").await.unwrap();
    other.close_gate(Destination::TextUs, at(10), "an older answer").await.unwrap();
    test.store.pause_gate(Destination::TextUs, "maintenance").await.unwrap();
    assert!(textus_gate(&other).await.paused);

    test.store.resume_gate(Destination::TextUs).await.unwrap();

    let gate = textus_gate(&other).await;
    assert_eq!((gate.paused, gate.closed_until, gate.reason), (false, Some(at(20)), None));
}

#[tokio::test]
async fn the_last_budget_is_known() {
    let TestStore { store, home: _home } = TestStore::new().await;
    store.budget(Destination::TextUs, 1000, 800).await.unwrap();
    store.budget(Destination::TextUs, 1000, 799).await.unwrap();

    let gate = textus_gate(&store).await;

    assert_eq!((gate.limit, gate.remaining), (Some(1000), Some(799)));
}
