use hookline_common::names::Destination;
use hookline_store::Store;
use hookline_store::model::{GateRow, GateStanding};

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
    for remaining in [800, 799] {
        let told = GateStanding { limit: Some(1000), remaining: Some(remaining), ..GateStanding::default() };
        store.gate_standing(Destination::TextUs, told).await.unwrap();
    }

    let gate = textus_gate(&store).await;

    assert_eq!((gate.standing.limit, gate.standing.remaining), (Some(1000), Some(799)));
}

#[tokio::test]
async fn what_all_know_of_a_budget_is_changed_by_one_after_another() {
    let test = TestStore::new().await;
    let count = |before: Option<&str>, _now_ms: i64| {
        let next = before.map_or(0, |before| before.parse::<u32>().expect("a number")) + 1;
        (next.to_string(), next)
    };

    let all = futures::future::join_all((0..20).map(|_| test.store.change_ration(Destination::TextUs, count))).await;

    let mut numbers: Vec<u32> = all.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
}
