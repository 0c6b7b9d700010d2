//! A ledger that an older version wrote: verified as it was written, and read by the present rules. Rules about the
//! past are tested here too, because only entries made by hand are old.

use hmac::{Hmac, KeyInit, Mac};
use hookline_common::time::Timestamp;
use hookline_store::model::PutDecision;
use sha2::Sha256;

use crate::database::KEY;
use crate::helpers::{TestStore, at, id_of, phone};
use crate::opt_outs::{into, out};

/// An entry of the first version, which held only these fields.
struct Old {
    kind: &'static str,
    at: i64,
    event: &'static str,
    status: Option<i64>,
    event_time: Option<i64>,
}

impl Old {
    fn new(kind: &'static str, event: &'static str, at: i64, event_time: Option<i64>) -> Self {
        Self { kind, at, event, status: None, event_time }
    }

    fn hash(&self, seq: i64, previous_hash: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).expect("a key");
        mac.update(previous_hash.as_bytes());
        let number = |number: i64| Some(number.to_be_bytes().to_vec());
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let fields = [
            number(seq),
            text(self.kind),
            number(at(self.at).as_millis()),
            text(id_of(self.event).as_str()),
            text("acme"),
            text(phone().as_e164()),
            self.status.and_then(number),
            self.event_time.and_then(|time| number(at(time).as_millis())),
            None,
        ];
        for field in fields {
            let length = field.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64);
            mac.update(&length.to_be_bytes());
            mac.update(&field.unwrap_or_default());
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

/// Makes a store as the older version left it: the present version's columns are empty, and the state follows the old
/// rule.
async fn with_old_ledger(entries: &[Old]) -> TestStore {
    let test = TestStore::new().await;
    let mut previous_hash = "0".repeat(64);
    let mut connection = test.sql().await;
    for (seq, entry) in (1_i64..).zip(entries) {
        let hash = entry.hash(seq, &previous_hash);
        sqlx::query(
            "INSERT INTO opt_ledger (seq, kind, at_ms, event_id, account, phone, status, event_time_ms, previous_hash,
                 hash) VALUES ($1, $2, $3, $4, 'acme', $5, $6, $7, $8, $9)",
        )
        .bind(seq)
        .bind(entry.kind)
        .bind(at(entry.at).as_millis())
        .bind(id_of(entry.event).as_str())
        .bind(phone().as_e164())
        .bind(entry.status)
        .bind(entry.event_time.map(|time| at(time).as_millis()))
        .bind(&previous_hash)
        .bind(&hash)
        .execute(&mut connection)
        .await
        .expect("an entry");
        previous_hash = hash;
    }
    sqlx::query("UPDATE opt_ledger_head SET seq = $1, hash = $2")
        .bind(i64::try_from(entries.len()).expect("a few"))
        .bind(&previous_hash)
        .execute(&mut connection)
        .await
        .expect("the head");
    sqlx::query(
        "INSERT INTO opt_state (account, phone, opted_out_ms, opted_in_ms, source_event_id)
         VALUES ('acme', $1, $2, $3, 'the sender''s own id')",
    )
    .bind(phone().as_e164())
    .bind(at(30).as_millis())
    .bind(at(1_000_000).as_millis())
    .execute(&mut connection)
    .await
    .expect("a state");
    sqlx::query("DELETE FROM store_meta WHERE name = 'opt_state_rule'")
        .execute(&mut connection)
        .await
        .expect("no rule");
    test
}

#[tokio::test]
async fn an_opt_in_dated_ahead_no_longer_hides_the_stop_that_came_after_it() {
    let test =
        with_old_ledger(&[Old::new("opted_in", "in", 10, Some(1_000_000)), Old::new("received", "stop", 31, Some(30))])
            .await;
    let before = test.store.opt_outs(10, None).await.unwrap().rows;
    assert!(!before[0].opted_out, "by the older version's rule");

    let store = test.open(KEY).await.unwrap();

    let after = store.opt_outs(10, None).await.unwrap().rows;
    assert_eq!((after[0].opted_out, after[0].event_time), (true, at(30)));
    assert_eq!(after[0].source_event_id.as_deref(), Some("the sender's own id"), "no entry would tell");
    assert_eq!(store.newest_state(&phone()).await.unwrap(), Some((true, at(30))));
    assert_eq!(out("stop", 30).decide(&store, "acme").await, PutDecision::Put, "its PUT is made after all");
}

#[tokio::test]
async fn old_entries_are_verified_as_they_were_written_and_followed_by_new_ones() {
    let answered = Old { status: Some(201), ..Old::new("put_answered", "stop", 12, None) };
    let test = with_old_ledger(&[
        Old::new("received", "stop", 11, Some(10)),
        Old::new("put_sent", "stop", 11, Some(10)),
        answered,
    ])
    .await;
    let store = test.open(KEY).await.unwrap();

    assert_eq!(out("stop", 10).decide(&store, "acme").await, PutDecision::Duplicate);
    assert_eq!(out("echo", 13).record_and_decide(&store, "acme").await, Some(PutDecision::Echo));
    into("in", 20).record(&store).await;

    let check = store.verify(None).await.unwrap();
    assert_eq!((check.entries, check.broken), (5, None));
    let versions: Vec<_> = store.prove(&phone()).await.unwrap().iter().map(|entry| entry.hash_version).collect();
    assert_eq!(versions, [1, 1, 1, 2, 2]);
    let rows = store.opt_outs(10, None).await.unwrap().rows;
    assert_eq!((rows[0].opted_out, rows[0].source_event_id.as_deref()), (false, Some("in")));
}

#[tokio::test]
async fn the_state_is_derived_once() {
    let test = with_old_ledger(&[Old::new("received", "stop", 11, Some(10))]).await;
    test.open(KEY).await.unwrap();
    test.execute("UPDATE opt_state SET source_event_id = 'changed', opted_out = 0").await;

    let store = test.open(KEY).await.unwrap();

    assert!(!store.opt_outs(10, None).await.unwrap().rows[0].opted_out);
}

#[tokio::test]
async fn an_opt_out_that_is_newer_than_the_put_by_more_than_five_minutes_is_news() {
    let now = (Timestamp::now().as_millis() - at(0).as_millis()) / 1000;
    for (minutes, expected) in [(4, PutDecision::Echo), (6, PutDecision::Put)] {
        let made = now - minutes * 60;
        let answered = Old { status: Some(201), ..Old::new("put_answered", "cause", made, None) };
        let test = with_old_ledger(&[
            Old::new("received", "cause", made, Some(made)),
            Old::new("put_sent", "cause", made, Some(made)),
            answered,
        ])
        .await;

        let next = out("next", now).received(now);
        assert_eq!(next.record_and_decide(&test.store, "acme").await, Some(expected), "{minutes} min");
        let dated_ahead = out("dated ahead", now + 1_000_000).received(now);
        assert_eq!(dated_ahead.record_and_decide(&test.store, "acme").await, Some(expected), "{minutes} min");
        let late = out("late", made + 60).received(now);
        assert_eq!(late.record_and_decide(&test.store, "acme").await, Some(PutDecision::Echo), "{minutes} min");
    }
}

#[tokio::test]
async fn a_flag_of_the_future_is_mended_too() {
    let test =
        with_old_ledger(&[Old::new("opted_in", "in", 10, Some(1_000_000)), Old::new("received", "stop", 31, Some(30))])
            .await;
    test.store.set_opt_flag(&phone(), false, at(1_000_000)).await.unwrap();

    let store = test.open(KEY).await.unwrap();

    let flags = store.opt_flags(10, None).await.unwrap().rows;
    assert_eq!(flags.iter().map(|flag| (flag.opted_out, flag.event_time)).collect::<Vec<_>>(), [(true, at(30))]);
}
