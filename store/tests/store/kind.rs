//! A store's kind is fixed once, whoever fixes it first. A store of an earlier version is real if it holds answers.

use futures::future::join_all;
use hookline_common::names::{HandlerName, Verdict};
use hookline_store::StoreKind;
use hookline_store::model::RequestRecord;

use crate::database::KEY;
use crate::helpers::{TestStore, attempt, event};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_say_so_at_once_one_decides() {
    let test = TestStore::new().await;
    assert_eq!(test.store.kind().await.unwrap(), None);
    let other = test.other().await;
    let kinds = [StoreKind::Sandbox, StoreKind::Real];

    let asked = (0..16).map(|n| {
        let store = if n % 3 == 0 { &other } else { &test.store };
        store.fix_kind(kinds[n % 2])
    });
    let fixed: Vec<StoreKind> = join_all(asked).await.into_iter().map(|kind| kind.expect("a kind")).collect();

    assert!(fixed.iter().all(|kind| *kind == fixed[0]), "{fixed:?}");
    assert_eq!(test.other().await.kind().await.unwrap(), Some(fixed[0]), "and it stays so");
}

#[tokio::test]
async fn an_older_store_that_holds_answers_is_real() {
    for (status, expected) in [(Some(201), Some(StoreKind::Real)), (Some(503), Some(StoreKind::Real)), (None, None)] {
        let test = TestStore::new().await;
        let request = RequestRecord {
            method: "PUT".to_owned(),
            path: "/acme/opt_outs/********47".to_owned(),
            status,
            duration_ms: 4,
        };
        let made = attempt(&event("a"), HandlerName::RecordOptOut, 1, Verdict::Parked);
        let made = hookline_store::model::AttemptRecord { requests: vec![request], ..made };
        test.store.log_attempt(&made, &[]).await.unwrap();

        assert_eq!(test.open(KEY).await.unwrap().kind().await.unwrap(), expected, "{status:?}");
    }
}
