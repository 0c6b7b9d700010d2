//! The pace that the settings allow.

use std::time::{Duration, Instant};

use futures::future::join_all;
use hookline_common::settings::HttpRecordSettings;

use crate::helpers::TestRecords;

#[tokio::test]
async fn documents_keep_to_the_pace_that_is_set() {
    let paced = |settings: &mut HttpRecordSettings| {
        // No call waits in hand for longer than its time-out.
        (settings.max_per_second, settings.timeout) = (10, Duration::from_secs(8));
    };
    let records = TestRecords::with(|_| {}, paced).await;
    let clock = Instant::now();

    let sent = join_all((0..25).map(|_| records.connector.note())).await;

    let lasted = clock.elapsed();
    sent.into_iter().for_each(|sent| drop(sent.unwrap()));
    assert_eq!(records.asked(), 25);
    // A copy of the gate's state that is written while calls go may forget one of them.
    assert!(lasted >= Duration::from_millis(2_200), "25 documents at 10 a second within {lasted:?}");
}

#[tokio::test]
async fn without_a_pace_nothing_waits() {
    let records = TestRecords::start().await;

    let sent = tokio::time::timeout(Duration::from_secs(60), join_all((0..100).map(|_| records.connector.note())));

    assert!(sent.await.expect("a minute is enough").into_iter().all(|sent| sent.is_ok()));
}
