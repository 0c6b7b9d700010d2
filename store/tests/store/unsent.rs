//! The opt-outs that count as unsent, and the reason for each.

use std::time::Duration;

use hookline_common::event::{Event, EventType};
use hookline_common::names::{DeadReason, Destination, HandlerName, SkipReason, Verdict};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{
    Ending, OptEvent, OptMethod, Parked, PutAnswer, PutDecision, RequestRecord, Unsent, UnsentSum, UnsentWhy,
};

use crate::helpers::{TestStore, at, attempt, dead, event_at, phone};

const HANDLER: HandlerName = HandlerName::RecordOptOut;
const AGE: Duration = Duration::from_mins(15);
const HOUR: Duration = Duration::from_secs(3600);

/// The accounts that are configured now.
pub(crate) fn accounts() -> Vec<String> {
    ["acme", "second"].map(str::to_owned).to_vec()
}

/// Records an opt-out in the history, received `ago` before now.
pub(crate) async fn recorded(store: &Store, name: &str, ago: Duration) -> Event {
    let event =
        Event { event_type: EventType::new("contact.opted_out"), ..event_at(name, Timestamp::now().minus(ago), b"{}") };
    store.record_events(&[(event.clone(), vec![HANDLER])]).await.expect("recorded");
    event
}

pub(crate) fn opt<'a>(event: &'a Event, phone: &'a Phone, targets: &'a [String]) -> OptEvent<'a> {
    OptEvent {
        event_id: &event.id,
        source_event_id: None,
        account: "acme",
        phone,
        opted_out: event.event_type.as_str() == "contact.opted_out",
        event_time: Some(event.received_at),
        received_at: event.received_at,
        method: OptMethod::Webhook,
        targets,
    }
}

/// Begins the delivery and records the event in the ledger.
pub(crate) async fn handled(store: &Store, event: &Event, phone: &Phone, targets: &[&str]) {
    let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
    store.begin(event, HANDLER, 1, None).await.expect("begun");
    store.record_opt_event(&opt(event, phone, &targets)).await.expect("recorded");
}

pub(crate) async fn put(store: &Store, event: &Event, phone: &Phone, target: &str, answer: PutAnswer) {
    assert_eq!(store.decide_put(&opt(event, phone, &[]), target).await.expect("decided"), PutDecision::Put);
    store.put_answered(&event.id, phone, target, answer).await.expect("written");
}

async fn unsent(store: &Store) -> Vec<Unsent> {
    store.unsent(&accounts(), AGE, 50, None).await.expect("the store answers").rows
}

/// Returns the missing accounts of the one unsent opt-out; empty if there is none.
async fn missing(store: &Store) -> Vec<String> {
    let rows = unsent(store).await;
    assert!(rows.len() <= 1, "{rows:?}");
    rows.into_iter().flat_map(|row| row.missing_accounts).collect()
}

#[tokio::test]
async fn what_nobody_has_handled_is_unsent_in_every_account_that_is_configured_now() {
    let TestStore { store, home: _home } = TestStore::new().await;
    assert_eq!(store.unsent_sum(&accounts(), AGE).await.unwrap(), UnsentSum::default());
    recorded(&store, "young", AGE / 2).await;
    let old = recorded(&store, "old", HOUR).await;
    let opt_in = Event { event_type: EventType::new("contact.opted_in"), ..event_at("in", at(0), b"{}") };
    store.record_events(&[(opt_in, vec![HANDLER])]).await.unwrap();

    let [row] = <[Unsent; 1]>::try_from(unsent(&store).await).unwrap();
    assert_eq!((&row.event_id, row.received_at), (&old.id, old.received_at));
    assert_eq!((row.phone, row.missing_accounts, row.why), (None, accounts(), UnsentWhy::NotBegun));
    let sum = store.unsent_sum(&accounts(), AGE).await.unwrap();
    assert_eq!(sum, UnsentSum { opt_outs: 1, stuck: 0, oldest: Some(old.received_at) });
}

#[tokio::test]
async fn an_opt_out_is_unsent_until_each_account_of_its_first_handling_has_proof() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = recorded(&store, "a", HOUR).await;
    handled(&store, &event, &phone(), &["acme", "other"]).await;
    assert_eq!(missing(&store).await, ["acme", "other"]);
    put(&store, &event, &phone(), "acme", PutAnswer::Status(503)).await;
    put(&store, &event, &phone(), "acme", PutAnswer::Unproven(200)).await;
    assert_eq!(missing(&store).await, ["acme", "other"], "neither is proof");
    put(&store, &event, &phone(), "acme", PutAnswer::Status(201)).await;
    assert_eq!(missing(&store).await, ["other"], "and none that is configured only now");
    put(&store, &event, &phone(), "other", PutAnswer::ReadBack(409)).await;
    assert_eq!(missing(&store).await, [""; 0]);
}

#[tokio::test]
async fn what_is_settled_or_superseded_is_not_unsent() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let number = |last: u32| Phone::parse(&format!("+1202555{last:04}")).unwrap();
    // Done, skipped and discarded opt-outs do not count.
    let [done, skipped, discarded] = [
        recorded(&store, "done", HOUR).await,
        recorded(&store, "skipped", HOUR).await,
        recorded(&store, "discarded", HOUR).await,
    ];
    for (event, ending) in [(&done, Ending::Done), (&skipped, Ending::Skipped(SkipReason::Echo))] {
        store.finish(&attempt(event, HANDLER, 1, Verdict::Done), ending, &[]).await.unwrap();
    }
    store.insert_dead_letter(&discarded, HANDLER, &dead(DeadReason::Rejected, at(0)), &[]).await.unwrap();
    let id = store.dead_letter(discarded.id.as_str()).await.unwrap()[0].id.clone();
    assert!(store.discard(&id, "a test").await.unwrap());
    assert_eq!(unsent(&store).await, []);

    // A later opt-in undoes the opt-out, an older one does not.
    for (name, ago, is_undone) in [("later", HOUR / 2, true), ("older", HOUR * 2, false)] {
        let phone = number(if is_undone { 101 } else { 102 });
        let event = recorded(&store, name, HOUR).await;
        handled(&store, &event, &phone, &["acme"]).await;
        let opt_in = Event { event_type: EventType::new("contact.opted_in"), ..event_at("x", at(0), b"{}") };
        let received_at = Timestamp::now().minus(ago);
        let opt_in = Event { id: crate::helpers::id_of(&format!("in {name}")), received_at, ..opt_in };
        store.record_opt_event(&opt(&opt_in, &phone, &[])).await.unwrap();
        assert_eq!(unsent(&store).await.iter().any(|row| row.event_id == event.id), !is_undone, "{name}");
        store.finish(&attempt(&event, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
    }

    // A later PUT of the same number counts for this opt-out; a PUT of another number does not.
    let event = recorded(&store, "earlier", HOUR).await;
    handled(&store, &event, &number(103), &["acme"]).await;
    for (name, phone, left) in [("of another", number(104), 1), ("again", number(103), 0)] {
        let later = recorded(&store, name, Duration::from_secs(5)).await;
        handled(&store, &later, &phone, &["acme"]).await;
        put(&store, &later, &phone, "acme", PutAnswer::Status(201)).await;
        assert_eq!(unsent(&store).await.len(), left, "{name}");
    }
}

#[tokio::test]
async fn a_put_of_long_before_an_opt_out_does_not_send_it() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let first = recorded(&store, "first", HOUR).await;
    handled(&store, &first, &phone(), &["acme"]).await;
    put(&store, &first, &phone(), "acme", PutAnswer::Status(201)).await;
    store.finish(&attempt(&first, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();

    // By the ledger's time the event is of the next hour; by the history's time it is old.
    let again = recorded(&store, "again", HOUR).await;
    store.begin(&again, HANDLER, 1, None).await.unwrap();
    let later = Event { received_at: Timestamp::now().plus(HOUR), ..again.clone() };
    store.record_opt_event(&opt(&later, &phone(), &["acme".to_owned()])).await.unwrap();

    assert_eq!(missing(&store).await, ["acme"]);
}

#[tokio::test]
async fn each_is_listed_with_what_it_waits_for_oldest_first() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let now = Timestamp::now();
    let park = async |name: &str, minutes: u32, until: Timestamp, held_by| {
        let event = recorded(&store, name, AGE + Duration::from_mins(u64::from(minutes))).await;
        store.begin(&event, HANDLER, 1, None).await.unwrap();
        let parked = Parked {
            event_id: event.id.clone(),
            handler: HANDLER,
            until,
            attempt: 2,
            first_attempt_at: Some(now),
            held_by,
        };
        let request = |status| RequestRecord {
            method: "PUT".to_owned(),
            path: "/…".to_owned(),
            status: Some(status),
            duration_ms: 1,
        };
        let mut log = attempt(&event, HANDLER, 1, Verdict::Parked);
        log.requests = vec![request(429), request(503)];
        store.park(&parked, Some(&log), &[]).await.unwrap();
        event
    };
    let until = now.plus(HOUR);
    park("waits", 50, until, None).await;
    park("paused", 40, until, Some(Destination::TextUs)).await;
    park("lost", 30, now.minus(HOUR), None).await;
    let begun = recorded(&store, "begun", AGE + Duration::from_mins(20)).await;
    store.begin(&begun, HANDLER, 3, None).await.unwrap();
    let refused = recorded(&store, "dead", AGE + Duration::from_mins(10)).await;
    store.insert_dead_letter(&refused, HANDLER, &dead(DeadReason::Rejected, now), &[]).await.unwrap();

    let first = store.unsent(&accounts(), AGE, 2, None).await.unwrap();
    let rest = store.unsent(&accounts(), AGE, 9, first.next.as_deref()).await.unwrap();
    let rows: Vec<_> = first.rows.into_iter().chain(rest.rows).map(|row| (row.why, row.last_status)).collect();
    assert_eq!(
        rows,
        [
            (UnsentWhy::Waiting { attempt: 2, until }, Some(503)),
            (UnsentWhy::Paused { destination: "textus".to_owned() }, Some(503)),
            (UnsentWhy::Lost, Some(503)),
            (UnsentWhy::UnderWay { attempt: 3 }, None),
            (UnsentWhy::DeadLetter { reason: Some(DeadReason::Rejected), status: Some(422) }, None),
        ]
    );
    let sum = store.unsent_sum(&accounts(), AGE).await.unwrap();
    assert_eq!((sum.opt_outs, sum.stuck), (5, 2));
}
