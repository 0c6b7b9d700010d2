use hookline_common::phone::Phone;
use hookline_store::model::{NewNote, PersonFacts};

use crate::helpers::{TestStore, at, id_of, phone};

fn facts(contact_id: Option<&str>, phone: Option<&Phone>, name: Option<&str>) -> PersonFacts {
    PersonFacts { contact_id: contact_id.map(str::to_owned), phone: phone.cloned(), name: name.map(str::to_owned) }
}

fn note(message_id: &str, body: &str) -> NewNote {
    NewNote {
        message_id: message_id.to_owned(),
        event_id: id_of(message_id),
        contact_id: Some("/contacts/1".to_owned()),
        phone: Some(phone().as_e164().to_owned()),
        direction: "in".to_owned(),
        body: body.to_owned(),
        occurred_at: at(0),
        business_number: None,
        user: Some("Sam".to_owned()),
    }
}

#[tokio::test]
async fn a_person_known_by_phone_gets_the_contact_id_and_stays_one_person() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (by_phone, created, changed) = store.upsert_person(&facts(None, Some(&phone()), None)).await.unwrap();
    assert!(created && changed);

    let merged = facts(Some("/contacts/1"), Some(&phone()), Some("Ada"));
    let (person, created, changed) = store.upsert_person(&merged).await.unwrap();
    let (_, created_again, changed_again) = store.upsert_person(&merged).await.unwrap();

    assert_eq!(person.record_id, by_phone.record_id);
    assert_eq!((created, changed), (false, true));
    assert_eq!((created_again, changed_again), (false, false));
    assert_eq!(store.find_person(Some("/contacts/1"), None).await.unwrap(), std::slice::from_ref(&person));
    assert_eq!(store.find_person(Some("/contacts/unknown"), Some(&phone())).await.unwrap(), [person]);
}

#[tokio::test]
async fn another_contact_with_the_same_phone_is_another_person() {
    let TestStore { store, home: _home } = TestStore::new().await;
    store.upsert_person(&facts(Some("/contacts/1"), Some(&phone()), None)).await.unwrap();

    let (_, created, _) = store.upsert_person(&facts(Some("/contacts/2"), Some(&phone()), None)).await.unwrap();

    assert!(created);
    assert_eq!(store.find_person(None, Some(&phone())).await.unwrap().len(), 2, "ambiguous by phone");
    assert_eq!(store.find_person(Some("/contacts/2"), Some(&phone())).await.unwrap().len(), 1, "clear by contact");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_meet_a_stranger_at_once_make_one_person() {
    let test = TestStore::new().await;
    let other = test.other().await;

    for i in 0..30 {
        let number = Phone::parse(&format!("+1202555{:04}", 1000 + i)).unwrap();
        let stranger = facts(None, Some(&number), None);
        let (left, right) = tokio::join!(test.store.upsert_person(&stranger), other.upsert_person(&stranger));

        let ((left, left_created, _), (right, right_created, _)) = (left.unwrap(), right.unwrap());
        assert_eq!(left.record_id, right.record_id);
        assert!(left_created != right_created);
    }
}

#[tokio::test]
async fn a_known_contact_with_a_new_phone_is_the_same_person() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let new_phone = Phone::parse("+12025550100").unwrap();
    let (before, ..) = store.upsert_person(&facts(Some("/contacts/1"), Some(&phone()), Some("Ada"))).await.unwrap();

    let (after, created, changed) =
        store.upsert_person(&facts(Some("/contacts/1"), Some(&new_phone), None)).await.unwrap();

    assert_eq!((created, changed), (false, true));
    assert_eq!((after.record_id, after.name.as_deref()), (before.record_id, Some("Ada")));
    assert_eq!(after.phone.as_deref(), Some("+12025550100"));
}

#[tokio::test]
async fn a_message_is_one_note_whoever_writes_it_second() {
    let test = TestStore::new().await;
    let other = test.other().await;
    let (person, ..) = test.store.upsert_person(&facts(None, Some(&phone()), None)).await.unwrap();

    let (first, created) = test.store.add_note(&person.record_id, &note("/messages/1", "hello")).await.unwrap();
    let (second, created_again) = other.add_note("person_x", &note("/messages/1", "bye")).await.unwrap();

    assert!(created && !created_again);
    assert_eq!(second, first);
    assert_eq!(test.store.note_by_message("/messages/1").await.unwrap(), Some(first));
    assert_eq!(test.store.note_by_message("/messages/2").await.unwrap(), None);
}

#[tokio::test]
async fn a_flag_follows_event_time_and_a_tie_ends_opted_out() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let steps = [
        (true, 10, true, true),
        (true, 20, false, true),
        (false, 15, false, true),
        (false, 20, false, true),
        (false, 30, true, false),
        (true, 30, true, true),
        (true, 5, false, true),
    ];

    for (opted_out, seconds, changes, state_after) in steps {
        let changed = store.set_opt_flag(&phone(), opted_out, at(seconds)).await.unwrap();
        let flag = store.opt_flags(10, None).await.unwrap().rows.remove(0);
        assert_eq!((changed, flag.opted_out), (changes, state_after), "{opted_out} at {seconds}");
    }
    assert_eq!(store.opt_flags(10, None).await.unwrap().rows[0].event_time, at(30));
}

#[tokio::test]
async fn lists_come_in_pages_that_hold_each_row_once() {
    let TestStore { store, home: _home } = TestStore::new().await;
    for i in 0..5 {
        let number = Phone::parse(&format!("+1202555010{i}")).unwrap();
        store.upsert_person(&facts(None, Some(&number), None)).await.unwrap();
        store.add_note("person_1", &note(&format!("/messages/{i}"), "hello")).await.unwrap();
        store.set_opt_flag(&number, true, at(i)).await.unwrap();
    }

    let (mut people, mut notes, mut flags) = (Vec::new(), Vec::new(), Vec::new());
    let (mut people_at, mut notes_at, mut flags_at) = (None, None, None);
    for last in [false, false, true] {
        let page = store.persons(2, people_at.as_deref()).await.unwrap();
        people.extend(page.rows.into_iter().map(|person| person.record_id));
        people_at = page.next;
        let page = store.notes(2, notes_at.as_deref()).await.unwrap();
        notes.extend(page.rows.into_iter().map(|note| note.note_id));
        notes_at = page.next;
        let page = store.opt_flags(2, flags_at.as_deref()).await.unwrap();
        flags.extend(page.rows.into_iter().map(|flag| flag.phone));
        flags_at = page.next;
        assert_eq!([people_at.is_none(), notes_at.is_none(), flags_at.is_none()], [last; 3]);
    }

    for mut ids in [people, notes, flags] {
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }
    assert!(store.notes(2, Some("nonsense")).await.is_err());
}
