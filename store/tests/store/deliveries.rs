use std::collections::BTreeSet;
use std::time::Duration;

use hookline_broker::{Again, DeadLetterInfo};
use hookline_common::event::{Event, EventId, Keyword};
use hookline_common::names::{DeadReason, DeliveryState, Destination, HandlerName, SkipReason, Verdict};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Begin, Copied, Ending, HandlerCounts, Overdue, Parked};

use crate::helpers::{TestStore, at, attempt, dead, event, event_at, id_of};

pub(crate) const HANDLER: HandlerName = HandlerName::LogNote;

pub(crate) async fn counts(store: &Store) -> HandlerCounts {
    store
        .counts()
        .await
        .expect("the store answers")
        .into_iter()
        .find(|counts| counts.handler == HANDLER)
        .expect("every handler")
}

#[tokio::test]
async fn a_delivery_begins_at_each_attempt_until_it_is_done() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");

    assert_eq!(store.begin(&event, HANDLER, 1, None).await.unwrap(), Begin::Go);
    assert_eq!(store.begin(&event, HANDLER, 1, None).await.unwrap(), Begin::Go, "handed out again after a crash");
    assert_eq!(store.begin(&event, HANDLER, 2, None).await.unwrap(), Begin::Go);
    store.finish(&attempt(&event, HANDLER, 2, Verdict::Done), Ending::Done, &[]).await.unwrap();

    for again in [None, Some(Again::Redrive), Some(Again::Replay)] {
        assert_eq!(
            store.begin(&event, HANDLER, 3, again).await.unwrap(),
            Begin::AlreadySettled(DeliveryState::Done),
            "{again:?}"
        );
    }
}

#[tokio::test]
async fn a_copy_left_behind_by_a_later_attempt_is_stale() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.begin(&event, HANDLER, 2, None).await.unwrap();

    assert_eq!(store.begin(&event, HANDLER, 1, None).await.unwrap(), Begin::StaleCopy);
    assert_eq!(store.begin(&event, HANDLER, 1, Some(Again::Redrive)).await.unwrap(), Begin::Go);
}

#[tokio::test]
async fn what_was_skipped_begins_again_only_when_asked_for_again() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.begin(&event, HANDLER, 7, None).await.unwrap();
    let record = attempt(&event, HANDLER, 7, Verdict::Skipped);
    store.finish(&record, Ending::Skipped(SkipReason::UnknownContact), &[]).await.unwrap();

    assert_eq!(store.begin(&event, HANDLER, 1, None).await.unwrap(), Begin::AlreadySettled(DeliveryState::Skipped));
    assert_eq!(store.begin(&event, HANDLER, 1, Some(Again::Replay)).await.unwrap(), Begin::Go);
    assert_eq!(store.begin(&event, HANDLER, 2, None).await.unwrap(), Begin::Go, "its retries count from the replay");
}

#[tokio::test]
async fn done_replaces_a_dead_letter_and_nothing_replaces_done() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::TooOld, at(0)), &[]).await.unwrap();
    assert_eq!(
        store.begin(&event, HANDLER, 1, Some(Again::Replay)).await.unwrap(),
        Begin::AlreadySettled(DeliveryState::DeadLettered)
    );

    store.finish(&attempt(&event, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
    let skipped = attempt(&event, HANDLER, 1, Verdict::Skipped);
    store.finish(&skipped, Ending::Skipped(SkipReason::Duplicate), &[]).await.unwrap();
    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::TooOld, at(1)), &[]).await.unwrap();

    let counts = counts(&store).await;
    assert_eq!((counts.accepted, counts.done), (1, 1));
}

#[tokio::test]
async fn every_state_is_counted_and_the_sum_holds_by_ids() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let [waiting, done, skipped, dead_lettered, discarded] = ["w", "d", "s", "l", "x"].map(event);
    let all = [&waiting, &done, &skipped, &dead_lettered, &discarded].map(|event| (event.clone(), vec![HANDLER]));
    store.record_events(&all).await.unwrap();
    store.record_events(&all).await.unwrap();
    store.finish(&attempt(&done, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
    let record = attempt(&skipped, HANDLER, 1, Verdict::Skipped);
    store.finish(&record, Ending::Skipped(SkipReason::NoAction), &[]).await.unwrap();
    store.insert_dead_letter(&dead_lettered, HANDLER, &dead(DeadReason::Rejected, at(0)), &[]).await.unwrap();
    store.insert_dead_letter(&discarded, HANDLER, &dead(DeadReason::Rejected, at(0)), &[]).await.unwrap();
    let row = store.dead_letter(discarded.id.as_str()).await.unwrap().remove(0);
    assert!(store.discard(&row.id, "a test number").await.unwrap());

    assert_eq!(
        counts(&store).await,
        HandlerCounts {
            handler: HANDLER,
            accepted: 5,
            done: 1,
            skipped: 1,
            dead_lettered: 1,
            discarded: 1,
            waiting: 1
        }
    );
    assert_eq!(store.counts().await.unwrap().len(), HandlerName::ALL.len(), "every handler, from zero");
    let waiting = store.waiting().await.unwrap();
    assert_eq!(waiting.iter().map(|of| (of.handler, of.deliveries)).collect::<Vec<_>>(), [(HANDLER, 1)]);
    let mut by_state = Vec::new();
    for &state in DeliveryState::ALL {
        by_state.extend(store.delivery_ids(HANDLER, Some(state)).await.unwrap());
    }
    by_state.sort();
    assert_eq!(by_state, store.delivery_ids(HANDLER, None).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_together_are_all_there_when_they_return() {
    let TestStore { store, home: _home } = TestStore::new().await;

    let writes = (0..300).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let event = event(&i.to_string());
            store.begin(&event, HANDLER, 1, None).await.unwrap();
            store.finish(&attempt(&event, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }

    assert_eq!(counts(&store).await.done, 300);
}

#[tokio::test]
async fn a_write_that_fails_does_not_take_its_group_with_it() {
    let test = TestStore::new().await;
    let store = &test.store;
    test.execute("DROP TABLE gates").await;

    let events: Vec<_> = (0..20).map(|i| event(&i.to_string())).collect();
    let begins = futures::future::join_all(events.iter().map(|event| store.begin(event, HANDLER, 1, None)));
    let budgets = futures::future::join_all((0..5).map(|_| store.pause_gate(Destination::TextUs, "maintenance")));
    let (begins, budgets) = tokio::join!(begins, budgets);

    assert!(begins.into_iter().all(|begin| begin.expect("its own table is there") == Begin::Go));
    assert!(budgets.into_iter().all(|budget| budget.is_err()));
    assert_eq!(counts(store).await.waiting, 20);
}

const HOUR: Duration = Duration::from_secs(3600);

async fn taken(store: &Store, quiet: Duration, again: Duration) -> Vec<EventId> {
    let overdue = Overdue { not_begun: quiet, due: quiet, again };
    let taken = store.take_undelivered(HANDLER, overdue, 10).await.expect("the store answers");
    taken.into_iter().map(|taken| taken.event_id).collect()
}

#[tokio::test]
async fn only_what_waits_and_nobody_began_is_missing() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let [begun, done, dead_letter, not_begun] = ["begun", "done", "dead", "not_begun"].map(event);
    let old = event_at("its payload is gone", at(0), b"{}");
    for event in [&begun, &done, &dead_letter, &not_begun, &old] {
        store.record_events(&[(event.clone(), vec![HANDLER, HandlerName::RecordHistory])]).await.unwrap();
    }
    store.record_events(&[(event("another handler's"), vec![HandlerName::SyncContact])]).await.unwrap();
    store.begin(&begun, HANDLER, 1, None).await.unwrap();
    store.begin(&done, HANDLER, 1, None).await.unwrap();
    store.finish(&attempt(&done, HANDLER, 1, Verdict::Done), Ending::Done, &[]).await.unwrap();
    let never_begun = DeadLetterInfo { attempts: 0, ..dead(DeadReason::DeliveryLimit, at(0)) };
    store.insert_dead_letter(&dead_letter, HANDLER, &never_begun, &[]).await.unwrap();
    store.expire(HOUR, Timestamp::now()).await.unwrap();

    assert_eq!(taken(&store, Duration::ZERO, HOUR).await, [not_begun.id]);
}

#[tokio::test]
async fn a_keyword_that_nobody_began_is_published_anew_by_this_version_alone() {
    let test = TestStore::new().await;
    let text = event("a stop word");
    let text = Event { event_type: text.event_type.with_keyword(Some(Keyword::Stop)), ..text };
    test.store.record_events(&[(text.clone(), vec![HandlerName::RecordOptOut, HandlerName::LogNote])]).await.unwrap();

    // The previous version's query finds nothing, however much time has passed.
    let by_older = "SELECT COUNT(*) FROM deliveries WHERE handler = 'record_opt_out' AND state = 'waiting'
                    AND COALESCE(republished_ms, 0) <= 4102444800000";
    let by_older: i64 = sqlx::query_scalar(by_older).fetch_one(&mut test.sql().await).await.unwrap();
    assert_eq!(by_older, 0);
    let overdue = Overdue { not_begun: Duration::ZERO, due: HOUR, again: HOUR };
    for (handler, again) in [(HandlerName::RecordOptOut, 1), (HandlerName::RecordOptOut, 0), (HandlerName::LogNote, 1)]
    {
        let taken = test.store.take_undelivered(handler, overdue, 9).await.unwrap();
        assert_eq!(taken.len(), again, "{handler}");
    }
}

#[tokio::test]
async fn what_is_missing_is_taken_by_one_asker_and_again_only_later_or_when_put_back() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let all = BTreeSet::from(["a", "b", "c"].map(|name| id_of(name).as_str().to_owned()));
    for name in ["a", "b", "c"] {
        store.record_events(&[(event(name), vec![HANDLER])]).await.unwrap();
    }

    assert_eq!(taken(&store, HOUR, HOUR).await, [], "it is on its way, most likely");
    let at_once = Overdue { not_begun: Duration::ZERO, due: HOUR, again: HOUR };
    let first = store.take_undelivered(HANDLER, at_once, 2).await.unwrap();
    let second = store.take_undelivered(HANDLER, at_once, 9).await.unwrap();
    assert_eq!((first.len(), second.len()), (2, 1));
    let taken_ids = first.iter().chain(&second).map(|taken| taken.event_id.as_str().to_owned());
    assert_eq!(taken_ids.collect::<BTreeSet<_>>(), all);
    assert_eq!(taken(&store, Duration::ZERO, HOUR).await, []);

    store.put_back(&second, None).await.unwrap();
    assert_eq!(taken(&store, Duration::ZERO, HOUR).await, [second[0].event_id.clone()]);
    assert_eq!(taken(&store, Duration::ZERO, Duration::ZERO).await.len(), 3, "it may be lost again");
    store.begin(&event("a"), HANDLER, 1, None).await.unwrap();
    assert_eq!(taken(&store, Duration::ZERO, Duration::ZERO).await.len(), 2);
}

#[tokio::test]
async fn what_is_being_redriven_is_not_missing_yet() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.record_events(&[(event.clone(), vec![HANDLER])]).await.unwrap();
    store.begin(&event, HANDLER, 1, None).await.unwrap();
    store.insert_dead_letter(&event, HANDLER, &dead(DeadReason::Rejected, at(0)), &[]).await.unwrap();
    let id = store.dead_letter(event.id.as_str()).await.unwrap()[0].id.clone();

    store.mark_redriving(&id).await.unwrap().expect("it is there");

    assert_eq!(taken(&store, Duration::ZERO, HOUR).await, [], "it was just published");
    assert_eq!(taken(&store, Duration::ZERO, Duration::ZERO).await, [event.id]);
}

fn overdue(due: Duration) -> Overdue {
    Overdue { not_begun: HOUR, due, again: HOUR }
}

fn parked(event: &Event, until: Timestamp, attempt: u32) -> Parked {
    let first_attempt_at = (attempt > 1).then(|| at(500));
    Parked { event_id: event.id.clone(), handler: HANDLER, until, attempt, first_attempt_at, held_by: None }
}

#[tokio::test]
async fn what_is_parked_is_lost_only_once_it_is_late_and_goes_on_with_its_attempt() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    store.record_events(&[(event.clone(), vec![HANDLER])]).await.unwrap();
    store.begin(&event, HANDLER, 2, None).await.unwrap();
    assert_eq!(store.take_undelivered(HANDLER, overdue(Duration::ZERO), 9).await.unwrap(), [], "it is in hand");

    let now = Timestamp::now();
    let log = attempt(&event, HANDLER, 2, Verdict::Parked);
    store.park(&parked(&event, now.plus(HOUR), 3), Some(&log), &[]).await.unwrap();
    assert_eq!(store.take_undelivered(HANDLER, overdue(Duration::ZERO), 9).await.unwrap(), [], "it waits");
    store.park(&parked(&event, now.minus(HOUR / 2), 3), None, &[]).await.unwrap();
    assert_eq!(store.take_undelivered(HANDLER, overdue(HOUR), 9).await.unwrap(), [], "the broker may be slow");

    let [lost] = <[_; 1]>::try_from(store.take_undelivered(HANDLER, overdue(HOUR / 3), 9).await.unwrap()).unwrap();
    assert_eq!((&lost.event_id, lost.handler), (&event.id, HANDLER));
    assert_eq!((lost.from.attempt, lost.from.first_attempt_at), (3, Some(at(500))));
    assert_eq!(store.take_undelivered(HANDLER, overdue(HOUR / 3), 9).await.unwrap(), [], "it was just given");
    store.put_back(std::slice::from_ref(&lost), None).await.unwrap();
    assert_eq!(store.take_undelivered(HANDLER, overdue(HOUR / 3), 9).await.unwrap().len(), 1);
    assert_eq!(store.event(&event.id).await.unwrap().unwrap().1.len(), 1, "one was an attempt");
}

#[tokio::test]
async fn of_several_copies_the_newest_goes_on_and_of_equal_ones_the_later_attempt() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let event = event("a");
    let begin = async |copy: Option<i64>, attempt, again| {
        let copied = Copied { attempt, again, copy: copy.map(Timestamp::from_millis) };
        store.begin_claiming(&event, HANDLER, copied, None).await.unwrap().0
    };
    assert_eq!(begin(Some(0), 3, None).await, Begin::Go);
    assert_eq!(begin(Some(0), 2, None).await, Begin::StaleCopy);
    assert_eq!(begin(Some(70), 3, None).await, Begin::Go, "published anew");
    assert_eq!(begin(Some(0), 3, None).await, Begin::StaleCopy, "the one that was parked all the time");
    assert_eq!(begin(Some(0), 4, None).await, Begin::StaleCopy, "whatever came of it meanwhile");
    assert_eq!(begin(Some(70), 4, None).await, Begin::Go);
    assert_eq!(begin(Some(70), 3, None).await, Begin::StaleCopy);
    // A replay begins anew, and its retries do not count as stale.
    assert_eq!(begin(Some(90), 1, Some(Again::Replay)).await, Begin::Go);
    assert_eq!(begin(Some(90), 2, None).await, Begin::Go);
    assert_eq!(begin(Some(70), 5, None).await, Begin::StaleCopy);
    assert_eq!(begin(None, 2, None).await, Begin::Go, "a broker that holds one copy at most");
    assert_eq!(begin(None, 1, None).await, Begin::StaleCopy, "as if there were no copies");
}

#[tokio::test]
async fn what_a_pause_held_is_given_once_when_it_is_over() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let [held, begun, other, unknown] = ["held", "begun", "other", "unknown"].map(event);
    for event in [&held, &begun, &other] {
        store.record_events(&[(event.clone(), vec![HANDLER])]).await.unwrap();
    }
    for event in [&held, &begun, &other, &unknown] {
        store.begin(event, HANDLER, 1, None).await.unwrap();
        let held_by = Some(if event.id == other.id { Destination::SystemOfRecord } else { Destination::TextUs });
        let parked = Parked { held_by, ..parked(event, Timestamp::now().plus(HOUR), 1) };
        store.park(&parked, None, &[]).await.unwrap();
    }
    store.begin(&begun, HANDLER, 1, None).await.unwrap();

    let given = store.take_held(Destination::TextUs, 9).await.unwrap();
    assert_eq!(given.iter().map(|given| (&given.event_id, given.from.attempt)).collect::<Vec<_>>(), [(&held.id, 1)]);
    assert_eq!(store.take_held(Destination::TextUs, 9).await.unwrap(), []);
    store.put_back(&given, Some(Destination::TextUs)).await.unwrap();
    assert_eq!(store.take_held(Destination::TextUs, 9).await.unwrap().len(), 1);
}
