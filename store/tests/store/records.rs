use std::time::Duration;

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::model::{ConfirmedFlag, FlagConfirmation, NewNote, PersonFacts};

use crate::helpers::{TestStore, add_note, at, id_of, phone};

fn facts(contact_id: Option<&str>, phone: Option<&Phone>, name: Option<&str>) -> PersonFacts {
    PersonFacts {
        contact_id: contact_id.map(str::to_owned),
        phones: phone.cloned().into_iter().collect(),
        name: name.map(str::to_owned),
    }
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
        thread_id: None,
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
    assert_eq!(after.phones, ["+12025550100", phone().as_e164()], "the number from before is theirs still");
}

fn number(last: u32) -> Phone {
    Phone::parse(&format!("+1202555{last:04}")).expect("a number")
}

fn contact(id: &str, numbers: &[u32]) -> PersonFacts {
    PersonFacts {
        contact_id: Some(id.to_owned()),
        phones: numbers.iter().map(|last| number(*last)).collect(),
        name: None,
    }
}

fn numbers(lasts: &[u32]) -> Vec<String> {
    lasts.iter().map(|last| number(*last).as_e164().to_owned()).collect()
}

#[tokio::test]
async fn a_person_is_found_by_any_of_their_numbers_and_keeps_all_that_were_ever_told() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let person = store.upsert_person(&contact("/contacts/1", &[1001, 1002, 1001])).await.unwrap().0;
    assert_eq!(person.phones, numbers(&[1001, 1002]), "each once");

    for (told, known) in [
        (vec![1002, 1001], vec![1001, 1002]),
        (vec![1002], vec![1001, 1002]),
        (vec![1003, 1002], vec![1003, 1002, 1001]),
        (vec![], vec![1003, 1002, 1001]),
    ] {
        let (person, created, changed) = store.upsert_person(&contact("/contacts/1", &told)).await.unwrap();
        assert_eq!((person.phones, created, changed), (numbers(&known), false, told.contains(&1003)), "{told:?}");
    }

    for last in [1001, 1002, 1003] {
        let found = store.find_person(None, Some(&number(last))).await.unwrap();
        assert_eq!(found.iter().map(|found| &found.record_id).collect::<Vec<_>>(), [&person.record_id], "{last}");
    }
    let listed = store.persons(10, None).await.unwrap().rows;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].phone.as_deref(), listed[0].phones.len()), (Some(number(1003).as_e164()), 3));
}

#[tokio::test]
async fn who_was_known_by_one_number_alone_becomes_one_with_the_contact_that_has_it() {
    let TestStore { store, home: _home } = TestStore::new().await;
    for last in [1001, 1002] {
        let (person, ..) = store.upsert_person(&facts(None, Some(&number(last)), None)).await.unwrap();
        let note = NewNote { phone: None, ..note(&format!("/messages/{last}"), "hello") };
        add_note(&store, &person.record_id, &note).await;
    }
    store.upsert_person(&contact("/contacts/2", &[1002])).await.unwrap();
    store.upsert_person(&facts(None, Some(&number(1003)), Some("Ada"))).await.unwrap();

    let (person, created, changed) = store.upsert_person(&contact("/contacts/1", &[1001, 1002, 1003])).await.unwrap();

    assert_eq!((created, changed), (false, true));
    assert_eq!((person.phones, person.name.as_deref()), (numbers(&[1001, 1002, 1003]), Some("Ada")));
    let people = store.persons(10, None).await.unwrap().rows;
    assert_eq!(people.len(), 2, "someone with another contact id is another person");
    let notes = store.notes(10, None).await.unwrap().rows;
    assert!(notes.iter().all(|note| people.iter().any(|person| person.record_id == note.person_id)), "{notes:?}");
    assert_eq!(store.find_person(None, Some(&number(1002))).await.unwrap().len(), 2, "shared by two contacts");
}

#[tokio::test]
async fn people_from_before_the_upgrade_keep_their_number_also_what_the_older_version_writes_beside_this_one() {
    let test = TestStore::new().await;
    for statement in [
        "DROP TABLE records_phones",
        "DROP INDEX deliveries_erased",
        "ALTER TABLE deliveries DROP COLUMN erased_copy",
        "ALTER TABLE deliveries DROP COLUMN masked",
        "DELETE FROM _sqlx_migrations WHERE version = 9",
        "INSERT INTO records_people (record_id, contact_id, phone, created_ms)
         VALUES ('person_1', '/contacts/1', '+12025551001', 1), ('person_2', '/contacts/2', NULL, 2)",
    ] {
        test.execute(statement).await;
    }

    let store = test.open(crate::database::KEY).await.unwrap();
    test.execute("UPDATE records_people SET phone = '+12025551002' WHERE record_id = 'person_1'").await;

    let people = store.persons(10, None).await.unwrap().rows;
    assert_eq!(people.iter().map(|person| person.phones.clone()).collect::<Vec<_>>(), [vec![], numbers(&[1002, 1001])]);
    for last in [1001, 1002] {
        assert_eq!(store.find_person(None, Some(&number(last))).await.unwrap().len(), 1, "{last}");
    }
}

#[tokio::test]
async fn a_message_is_one_note_whoever_writes_it_second() {
    let test = TestStore::new().await;
    let other = test.other().await;
    let (person, ..) = test.store.upsert_person(&facts(None, Some(&phone()), None)).await.unwrap();

    add_note(&test.store, &person.record_id, &note("/messages/1", "hello")).await;
    add_note(&other, "person_x", &note("/messages/1", "bye")).await;

    let notes = test.store.notes(10, None).await.unwrap().rows;
    assert_eq!(notes.len(), 1);
    assert_eq!((notes[0].person_id.as_str(), notes[0].note.body.as_str()), (person.record_id.as_str(), "hello"));
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
        add_note(&store, "person_1", &note(&format!("/messages/{i}"), "hello")).await;
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

#[tokio::test]
async fn what_is_confirmed_of_a_flag_is_that_of_the_newest_news() {
    let test = TestStore::new().await;
    let (store, number) = (&test.store, phone());
    let flag = |record: &str, opted_out, at: i64| ConfirmedFlag {
        system: "hubspot api.hubapi.com".to_owned(),
        record_id: record.to_owned(),
        opted_out,
        since: Timestamp::from_millis(at),
        confirmation: FlagConfirmation::Written,
    };
    let found = ConfirmedFlag { confirmation: FlagConfirmation::Found, ..flag("1", false, 2_000) };

    for confirmed in [flag("1", true, 1_000), flag("2", true, 1_000), flag("1", false, 2_000), flag("1", true, 1_000)] {
        store.flag_confirmed(&number, confirmed).await.unwrap();
    }
    store.flag_confirmed(&Phone::parse("+14155550188").unwrap(), flag("1", true, 3_000)).await.unwrap();
    store.flag_confirmed(&number, found.clone()).await.unwrap();

    let mut rows: Vec<_> = store.confirmed_flags(&number).await.unwrap().into_iter().map(|row| row.flag).collect();
    rows.sort_by(|a, b| a.record_id.cmp(&b.record_id));
    assert_eq!(rows, [found, flag("2", true, 1_000)]);
}

#[tokio::test]
async fn people_are_searched_again_at_each_time_and_by_one_worker() {
    let test = TestStore::new().await;
    let (store, event_id, hour) = (&test.store, id_of("opt-out"), Duration::from_secs(3600));
    store.plan_flag_check(&event_id, Duration::ZERO).await.unwrap();
    store.plan_flag_check(&event_id, hour).await.unwrap();
    store.plan_flag_check(&id_of("later"), hour).await.unwrap();

    assert_eq!(store.take_flag_checks(Duration::ZERO, 10).await.unwrap(), [(event_id.clone(), 0)]);
    assert_eq!(store.take_flag_checks(hour, 10).await.unwrap(), [(event_id.clone(), 0)], "the lease has ended");
    assert_eq!(test.other().await.take_flag_checks(hour, 10).await.unwrap(), [], "it is taken");

    store.flag_checked(&event_id, Some(Duration::ZERO)).await.unwrap();
    assert_eq!(store.take_flag_checks(hour, 10).await.unwrap(), [(event_id.clone(), 1)]);
    store.flag_checked(&event_id, None).await.unwrap();
    store.plan_flag_check(&event_id, Duration::ZERO).await.unwrap();
    assert_eq!(store.take_flag_checks(hour, 10).await.unwrap(), [(event_id, 0)], "a repeat plans anew");
}
