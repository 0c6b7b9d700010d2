//! Threads: which messages they hold, who may write one when, and what becomes of them by age and erasure.

use std::time::Duration;

use hookline_common::names::{DeadReason, HandlerName};
use hookline_common::note_text::MessageOutcome;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{
    JoinThread, PersonFacts, RemoteNote, ThreadFacts, ThreadLease, ThreadMessage, ThreadTurn, ThreadWrite,
    ThreadWritten, WrittenPart,
};
use rand::seq::SliceRandom as _;

use crate::helpers::{TestStore, at, dead, event, id_of, phone};

pub(crate) const CRM: &str = "hubspot api.hubapi.com";
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn message(n: usize) -> ThreadMessage {
    let seconds = i64::try_from(n).expect("a small number");
    ThreadMessage {
        message_id: format!("/messages/{n}"),
        event_id: id_of(&format!("event {n}")),
        event_time: at(seconds),
        is_inbound: true,
        outcome: MessageOutcome::Received,
        body: format!("text {n}"),
        author: None,
        author_email: None,
        media: Vec::new(),
        is_stop: false,
        occurred_at: at(seconds),
    }
}

fn facts() -> ThreadFacts {
    ThreadFacts {
        account: "acme".to_owned(),
        phone: Some(phone().as_e164().to_owned()),
        contact_id: Some("/contacts/1".to_owned()),
        business_number: Some("+12025550100".to_owned()),
        day: "2026-11-02".to_owned(),
        only_message: None,
    }
}

pub(crate) fn join(owner: &str, message: ThreadMessage) -> JoinThread {
    JoinThread {
        facts: facts(),
        message,
        system: CRM.to_owned(),
        owner: owner.to_owned(),
        lease: HOUR,
        update_every: Duration::ZERO,
    }
}

pub(crate) async fn to_write(store: &Store, ask: JoinThread) -> (ThreadLease, Box<ThreadWrite>) {
    let owner = ask.owner.clone();
    match store.join_thread(ask).await.expect("the store answers") {
        ThreadTurn::Write(write) => {
            let thread_id = write.thread.thread_id.clone();
            (ThreadLease { thread_id, system: CRM.to_owned(), owner }, write)
        }
        ThreadTurn::Written { .. } => panic!("it is written"),
        ThreadTurn::Wait { until } | ThreadTurn::Busy { until } => panic!("wait until {until}"),
    }
}

pub(crate) async fn write(store: &Store, message: ThreadMessage) -> Box<ThreadWrite> {
    let (lease, write) = to_write(store, join("one", message)).await;
    let part = WrittenPart { id: "note 1".to_owned(), hash: "h".to_owned() };
    let written = ThreadWritten {
        version: write.version,
        person_id: "person 1".to_owned(),
        parts: vec![part],
        text: format!("{} texts", write.thread.messages.len()),
    };
    store.thread_written(&lease, &written).await.expect("the store answers");
    write
}

async fn is_written(store: &Store, message: ThreadMessage) -> bool {
    matches!(store.join_thread(join("asks", message)).await.expect("the store answers"), ThreadTurn::Written { .. })
}

#[tokio::test]
async fn the_messages_of_a_thread_do_not_depend_on_the_order_in_which_they_came() {
    let mut copies: Vec<ThreadMessage> = (0..12).map(message).collect();
    // Differing copies of one message: what was delivered counts, then the later event, then the greater event id.
    copies.push(ThreadMessage { outcome: MessageOutcome::Failed, event_time: at(500), ..message(3) });
    copies.push(ThreadMessage { body: "later".to_owned(), event_time: at(100), ..message(4) });
    copies.push(ThreadMessage { body: "a".to_owned(), event_id: id_of("a"), ..message(5) });
    copies.push(ThreadMessage { body: "b".to_owned(), event_id: id_of("b"), ..message(5) });
    copies.push(ThreadMessage { outcome: MessageOutcome::Failed, event_id: id_of("f"), ..message(6) });
    copies.push(ThreadMessage { outcome: MessageOutcome::Failed, event_time: at(7), ..message(12) });

    let mut seen = None;
    for _ in 0..6 {
        let TestStore { store, home: _home } = TestStore::new().await;
        copies.shuffle(&mut rand::rng());
        for copy in copies.iter().chain(copies.iter().take(4)) {
            store.join_thread(join("one", copy.clone())).await.unwrap();
        }
        let thread = store.thread_of("/messages/0").await.unwrap().unwrap();
        let bodies: Vec<_> = thread.messages.iter().map(|message| (message.body.clone(), message.outcome)).collect();
        assert_eq!(thread.messages.len(), 13);
        assert_eq!(bodies[4], ("later".to_owned(), MessageOutcome::Received));
        assert_eq!((bodies[3].1, bodies[6].1), (MessageOutcome::Received, MessageOutcome::Received));
        assert!(bodies.contains(&("text 12".to_owned(), MessageOutcome::Failed)));
        assert!(*seen.get_or_insert_with(|| thread.clone()) == thread);
    }
}

#[tokio::test]
async fn one_write_finishes_all_that_were_in_the_thread() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (lease, _) = to_write(&store, join("one", message(1))).await;
    for n in [2, 3] {
        let turn = store.join_thread(join("two", message(n))).await.unwrap();
        assert!(matches!(turn, ThreadTurn::Busy { until } if until > Timestamp::now()), "one holds the lease");
    }
    store.release_thread(&lease, true).await.unwrap();

    let write = write(&store, message(2)).await;

    assert_eq!(write.thread.messages.len(), 3);
    for n in [1, 2, 3] {
        assert!(is_written(&store, message(n)).await, "{n}");
    }
    assert!(!is_written(&store, message(4)).await);
    let rows = store.threads(CRM, 10, None).await.unwrap().rows;
    assert_eq!((rows[0].text.as_deref(), rows[0].remote_id.as_deref()), (Some("3 texts"), Some("note 1")));
    assert_eq!(store.threads("system_of_record", 10, None).await.unwrap().rows.len(), 0, "another system's");
}

#[tokio::test]
async fn a_thread_is_written_again_no_sooner_than_asked() {
    let TestStore { store, home: _home } = TestStore::new().await;
    write(&store, message(1)).await;

    let turn = store.join_thread(JoinThread { update_every: HOUR, ..join("two", message(2)) }).await.unwrap();

    let ThreadTurn::Wait { until } = turn else { panic!("a write at once") };
    let wait = until.since(Timestamp::now());
    assert!(wait > HOUR - Duration::from_secs(60) && wait <= HOUR, "{wait:?}");
    assert!(is_written(&store, message(1)).await);
    to_write(&store, join("two", message(2))).await;
}

#[tokio::test]
async fn a_copy_that_changes_nothing_asks_for_no_write_and_one_that_does_asks() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let failed = ThreadMessage { outcome: MessageOutcome::Failed, ..message(1) };
    write(&store, failed.clone()).await;

    assert!(is_written(&store, failed.clone()).await);
    let write = write(&store, ThreadMessage { event_id: id_of("delivered"), ..message(1) }).await;
    assert!(write.thread.messages[0].outcome == MessageOutcome::Received);
    assert!(is_written(&store, failed).await, "delivered beats failed");
}

#[tokio::test]
async fn a_note_that_may_be_there_stays_in_doubt_until_something_is_known() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (lease, first) = to_write(&store, join("one", message(1))).await;
    assert_eq!((first.doubt, first.parts.len()), (None, 0));
    assert!(store.thread_note_sent(&lease, 0, "person 1", HOUR).await.unwrap());
    store.release_thread(&lease, false).await.unwrap();

    let (second, write) = to_write(&store, join("two", message(2))).await;
    assert_eq!(write.doubt.map(|doubt| doubt.part), Some(0));
    assert_eq!(write.person_id.as_deref(), Some("person 1"), "whose record may have it");
    assert!(!store.thread_note_sent(&lease, 0, "person 2", HOUR).await.unwrap(), "the lease passed on");
    assert!(!store.renew_thread(&lease, HOUR).await.unwrap());

    let parts = [WrittenPart { id: "note 1".to_owned(), hash: "h".to_owned() }];
    store.thread_parts(&second, "person 1", (0, &parts)).await.unwrap();
    store.release_thread(&second, false).await.unwrap();
    let (third, write) = to_write(&store, join("three", message(2))).await;
    assert_eq!((write.doubt, write.parts.as_slice()), (None, &parts[..]));
    store.thread_note_sent(&third, 1, "person 1", HOUR).await.unwrap();
    store.release_thread(&third, true).await.unwrap();
    assert_eq!(to_write(&store, join("four", message(2))).await.1.doubt, None);
}

#[tokio::test]
async fn a_doubt_counts_from_the_failed_answer_and_ends_with_its_own_part_only() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (lease, _) = to_write(&store, join("one", message(1))).await;
    store.thread_note_sent(&lease, 1, "person 1", HOUR).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let answered = store.now();
    store.thread_in_doubt(&lease, HOUR).await.unwrap();
    let turn = store.join_thread(join("two", message(2))).await.unwrap();
    assert!(matches!(turn, ThreadTurn::Busy { .. }), "it may still overwrite a newer text");
    store.thread_in_doubt(&lease, Duration::ZERO).await.unwrap();

    let parts = [WrittenPart { id: "note 1".to_owned(), hash: "h".to_owned() }];
    let (second, write) = to_write(&store, join("two", message(2))).await;
    assert!(write.doubt.is_some_and(|doubt| doubt.part == 1 && doubt.since >= answered));
    store.thread_parts(&second, "person 2", (0, &parts)).await.unwrap();
    store.release_thread(&second, false).await.unwrap();

    let (_, write) = to_write(&store, join("three", message(2))).await;
    assert_eq!((write.parts.as_slice(), write.doubt.map(|doubt| doubt.part)), (&parts[..], Some(1)));
    assert_eq!(write.person_id.as_deref(), Some("person 1"), "whose record may have it");
}

#[tokio::test]
async fn an_older_write_that_ends_late_does_not_undo_a_newer_one() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (slow, old) = to_write(&store, JoinThread { lease: Duration::ZERO, ..join("slow", message(1)) }).await;
    write(&store, message(2)).await;

    let written =
        ThreadWritten { version: old.version, person_id: String::new(), parts: vec![], text: "1 text".to_owned() };
    store.thread_written(&slow, &written).await.unwrap();

    assert!(is_written(&store, message(2)).await);
    assert_eq!(store.threads(CRM, 1, None).await.unwrap().rows[0].text.as_deref(), Some("2 texts"));
}

#[tokio::test]
async fn once_a_message_has_expired_later_ones_get_a_note_of_their_own() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let first = write(&store, message(1)).await;
    let turn = store.join_thread(JoinThread { update_every: HOUR, ..join("two", message(2)) }).await.unwrap();
    assert!(matches!(turn, ThreadTurn::Wait { .. }));

    let in_a_month = Timestamp::now().plus(HOUR * 24 * 31);
    store.expire(HOUR * 24 * 30, in_a_month).await.unwrap();

    let second = write(&store, message(2)).await;
    assert_ne!(second.thread.thread_id, first.thread.thread_id);
    assert_eq!(second.thread.messages.len(), 1);
    let third = write(&store, message(3)).await;
    assert_eq!(third.thread.thread_id, second.thread.thread_id);
    let rows = store.threads(CRM, 10, None).await.unwrap().rows;
    assert_eq!(rows.iter().map(|row| row.text.is_some()).collect::<Vec<_>>(), [true, false], "the text has expired");
}

#[tokio::test]
async fn threads_differ_by_account_number_business_number_and_day_and_by_contact_only_without_a_number() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let nobody = ThreadFacts { phone: None, ..facts() };
    let of = |change: ThreadFacts, n| JoinThread { facts: change, ..join("one", message(n)) };
    let mut ids = Vec::new();
    for (n, change) in [
        facts(),
        ThreadFacts { contact_id: Some("/contacts/2".to_owned()), ..facts() },
        ThreadFacts { account: "other".to_owned(), ..facts() },
        ThreadFacts { phone: Some("+12025550148".to_owned()), ..facts() },
        ThreadFacts { business_number: None, ..facts() },
        ThreadFacts { day: "2026-11-03".to_owned(), ..facts() },
        ThreadFacts { only_message: Some("/messages/6".to_owned()), ..facts() },
        nobody.clone(),
        ThreadFacts { contact_id: Some("/contacts/2".to_owned()), ..nobody },
    ]
    .into_iter()
    .enumerate()
    {
        store.join_thread(of(change, n)).await.unwrap();
        ids.push(store.thread_of(&format!("/messages/{n}")).await.unwrap().unwrap().thread_id);
    }

    assert_eq!(ids[0], ids[1], "a contact id that comes late does not split the thread");
    ids.remove(0);
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
    let (known, _) = store.thread_message("/messages/6").await.unwrap().unwrap();
    assert_eq!(known.only_message.as_deref(), Some("/messages/6"));
}

#[tokio::test]
async fn an_erasure_takes_threads_and_links_and_names_the_notes_elsewhere() {
    let TestStore { store, home: _home } = TestStore::new().await;
    write(&store, message(1)).await;
    store.link_person(CRM, Some("/contacts/1"), Some(&phone()), "person 1").await.unwrap();

    let foretold = store.would_erase(&phone()).await.unwrap();
    let erased = store.erase(&phone()).await.unwrap();

    let note = RemoteNote { system: CRM.to_owned(), id: "note 1".to_owned() };
    assert_eq!((&foretold.remote_notes, &erased.remote_notes), (&vec![note.clone()], &vec![note]));
    assert_eq!(store.threads(CRM, 10, None).await.unwrap().rows.len(), 0);
    assert!(store.thread_message("/messages/1").await.unwrap().is_none());
    assert_eq!(store.linked_person(CRM, None, Some(&phone())).await.unwrap(), None);
}

#[tokio::test]
async fn a_choice_of_an_operator_stays_and_a_link_of_ours_follows_what_is_found() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (contact, number, event) = (Some("/contacts/1"), phone(), event("shared"));
    store.link_person(CRM, contact, Some(&number), "a").await.unwrap();
    assert_eq!(store.linked_person(CRM, None, Some(&number)).await.unwrap().as_deref(), Some("a"));
    assert_eq!(store.linked_person("http x", None, Some(&number)).await.unwrap(), None, "another system");
    let shared = hookline_common::phone::Phone::parse("+12025550199").expect("a number");
    for person in ["a", "a", "z", "a"] {
        store.link_person(CRM, None, Some(&shared), person).await.unwrap();
    }
    assert_eq!(store.linked_person(CRM, None, Some(&shared)).await.unwrap(), None, "two people have it");
    assert_eq!(store.chosen_person(CRM, &event.id, Some(&number)).await.unwrap(), None);

    store.record_events(&[(event.clone(), vec![HandlerName::LogNote])]).await.unwrap();
    let info = dead(DeadReason::AmbiguousContact, at(9));
    store.insert_dead_letter(&event, HandlerName::LogNote, &info, &[]).await.unwrap();
    let id = store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;
    assert!(store.choose_person(&id, CRM, "for this event", None).await.unwrap());
    assert_eq!(store.chosen_person(CRM, &id_of("another"), Some(&number)).await.unwrap(), None);
    assert!(store.choose_person(&id, CRM, "b", Some(&number)).await.unwrap());
    assert!(!store.choose_person("unknown", CRM, "b", Some(&number)).await.unwrap());
    store.link_person(CRM, contact, Some(&number), "c").await.unwrap();

    assert_eq!(store.chosen_person(CRM, &id_of("another"), Some(&number)).await.unwrap().as_deref(), Some("b"));
    assert_eq!(store.linked_person(CRM, contact, None).await.unwrap().as_deref(), Some("c"));
    store.unlink_person(CRM, "b").await.unwrap();
    assert_eq!(store.chosen_person(CRM, &event.id, Some(&number)).await.unwrap(), None);
}

#[tokio::test]
async fn however_much_expires_at_once_every_thread_of_it_is_closed() {
    let TestStore { store, home: _home } = TestStore::new().await;
    // More messages in one thread than one short transaction touches.
    for n in 0..520 {
        store.join_thread(join("one", message(n))).await.unwrap();
    }
    let other = ThreadFacts { day: "2026-11-03".to_owned(), ..facts() };
    store.join_thread(JoinThread { facts: other.clone(), ..join("one", message(1000)) }).await.unwrap();
    let before = store.thread_of("/messages/1000").await.unwrap().unwrap().thread_id;

    store.expire(HOUR * 24 * 30, Timestamp::now().plus(HOUR * 24 * 31)).await.unwrap();

    assert!(
        store.thread_of("/messages/0").await.unwrap().is_none()
            && store.thread_of("/messages/519").await.unwrap().is_none()
    );
    store.join_thread(JoinThread { facts: other, ..join("one", message(1001)) }).await.unwrap();
    let after = store.thread_of("/messages/1001").await.unwrap().unwrap();
    assert_ne!(after.thread_id, before, "the other thread is closed too");
    assert_eq!(after.messages.len(), 1);
    store.expire(HOUR * 24 * 30, Timestamp::now().plus(HOUR * 24 * 400)).await.unwrap();
    store.expire(HOUR * 24 * 30, Timestamp::now().plus(HOUR * 24 * 800)).await.unwrap();
    assert_eq!(store.threads(CRM, 10, None).await.unwrap().rows.len(), 0, "what was never written goes too");
}

#[tokio::test]
async fn an_erasure_finds_threads_by_what_links_say_and_tells_a_writer_who_comes_late() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let second = hookline_common::phone::Phone::parse("+12025550199").expect("a number");
    for number in [&phone(), &second] {
        store.link_person(CRM, Some("/contacts/1"), Some(number), "person 1").await.unwrap();
    }
    let of = |facts: ThreadFacts, n| JoinThread { facts, ..join("one", message(n)) };
    let by_contact = ThreadFacts { phone: None, ..facts() };
    let by_second = ThreadFacts { phone: Some(second.as_e164().to_owned()), contact_id: None, ..facts() };
    let (lease, write) = to_write(&store, of(by_contact, 1)).await;
    store.join_thread(of(by_second, 2)).await.unwrap();
    store.join_thread(of(ThreadFacts { contact_id: None, ..facts() }, 3)).await.unwrap();

    store.erase(&phone()).await.unwrap();

    for n in 1..4 {
        assert!(store.thread_message(&format!("/messages/{n}")).await.unwrap().is_none(), "{n}");
    }
    let part = WrittenPart { id: "note 1".to_owned(), hash: "h".to_owned() };
    let parts = vec![part];
    assert!(!store.thread_parts(&lease, "person 1", (0, &parts)).await.unwrap());
    let written =
        ThreadWritten { version: write.version, person_id: "person 1".to_owned(), parts, text: String::new() };
    assert!(!store.thread_written(&lease, &written).await.unwrap(), "the note has to be deleted");
}

#[tokio::test]
async fn a_choice_follows_the_person_into_whom_theirs_is_merged() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let own = "system_of_record";
    let by_phone = PersonFacts { contact_id: None, phones: vec![phone()], name: None };
    let (chosen, ..) = store.upsert_person(&by_phone).await.unwrap();
    let event = event("shared");
    store.record_events(&[(event.clone(), vec![HandlerName::LogNote])]).await.unwrap();
    let info = dead(DeadReason::AmbiguousContact, at(9));
    store.insert_dead_letter(&event, HandlerName::LogNote, &info, &[]).await.unwrap();
    let id = store.dead_letter(event.id.as_str()).await.unwrap().remove(0).id;
    store.choose_person(&id, own, &chosen.record_id, Some(&phone())).await.unwrap();

    let other = hookline_common::phone::Phone::parse("+12025550199").expect("a number");
    let contact = PersonFacts { contact_id: Some("/contacts/1".to_owned()), phones: vec![other.clone()], name: None };
    let (person, ..) = store.upsert_person(&contact).await.unwrap();
    store.upsert_person(&PersonFacts { phones: vec![other, phone()], ..contact }).await.unwrap();

    let found = store.chosen_person(own, &event.id, Some(&phone())).await.unwrap();
    assert_eq!(found, Some(person.record_id));
}
