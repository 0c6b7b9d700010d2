//! The texts of one conversation and day become one note in the built-in system of record.

use hookline_common::names::HandlerName::LogNote;
use hookline_common::phone::Phone;
use hookline_common::settings::{MessageLookup, NoteForm, OnFailedMessage, OnUnknownContact, Preference};
use hookline_common::time::Timestamp;
use hookline_common::time_zone::TimeZone;
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_store::model::{PersonFacts, ThreadRow};
use serde_json::json;

use crate::helpers::{TestPipeline, ending, someone};

const RECEIVED: &str = "message.received";
const DELIVERED: &str = "message.delivered";
const FAILED: &str = "message.failed";

async fn threads(pipeline: &TestPipeline) -> Vec<ThreadRow> {
    pipeline.store.threads("system_of_record", 100, None).await.expect("the store answers").rows
}

fn at(person: &SampleFacts, time: &str, body: &str) -> SampleFacts {
    let timestamp = time.parse().expect("a time");
    SampleFacts { timestamp, body: body.to_owned(), ..person.clone() }
}

#[tokio::test]
async fn the_texts_of_a_day_are_one_note_in_the_order_of_their_times() {
    let zone = TimeZone::parse("America/Chicago").expect("a zone");
    let pipeline = TestPipeline::with(|setup| setup.settings.system_of_record.time_zone = zone).await;
    let person = someone();
    let texts = [
        (RECEIVED, "2026-11-02T15:10:00Z", "Is the job still open?"),
        (DELIVERED, "2026-11-02T15:31:00Z", "It is."),
        (FAILED, "2026-11-02T15:32:00Z", "Can you come at 3?"),
        (RECEIVED, "2026-11-03T05:59:00Z", "STOP"),
        // The next day in Chicago.
        (RECEIVED, "2026-11-03T06:00:00Z", "Good morning"),
    ];
    for (event_type, time, body) in texts.iter().rev() {
        pipeline.send_known(event_type, &at(&person, time, body)).await;
    }
    pipeline.quiet().await;

    let mut threads = threads(&pipeline).await;
    threads.sort_by(|a, b| a.day.cmp(&b.day));
    let lines = |thread: &ThreadRow| -> Vec<String> {
        thread.text.as_deref().expect("a text").lines().skip(2).map(str::to_owned).collect()
    };
    assert_eq!(threads.iter().map(|thread| thread.day.as_str()).collect::<Vec<_>>(), ["2026-11-02", "2026-11-03"]);
    let expected = [
        "09:10 Received: Is the job still open?",
        "09:31 Sent: It is.",
        "09:32 Not delivered, sent",
        "23:59 Received, opts out: STOP",
    ];
    for (line, expected) in lines(&threads[0]).iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
    assert_eq!((lines(&threads[0]).len(), lines(&threads[1])), (4, vec!["00:00 Received: Good morning".to_owned()]));
    let people = pipeline.people().await;
    let notes = pipeline.notes().await;
    assert_eq!((people.len(), notes.len()), (1, 5));
    assert!(threads.iter().all(|thread| thread.record_id.as_ref() == Some(&people[0].record_id)));
    for row in notes {
        let thread = threads.iter().find(|thread| thread.message_ids.contains(&row.note.message_id));
        assert_eq!(row.note.thread_id.as_deref(), thread.map(|thread| thread.thread_id.as_str()));
    }
}

#[tokio::test]
async fn a_text_that_was_delivered_after_all_is_not_told_as_failed() {
    for order in [[FAILED, DELIVERED], [DELIVERED, FAILED]] {
        let pipeline = TestPipeline::start().await;
        let person = someone();
        let first = sample(order[0], &person);
        let mut second = sample(order[1], &person);
        second["message"]["id"] = first["message"]["id"].clone();
        let mut ids = Vec::new();
        for body in [&first, &second] {
            pipeline.sandbox.learn(body).expect("a message");
            ids.push(pipeline.send(body).await);
            pipeline.quiet().await;
        }

        for id in ids {
            assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "done", "{order:?}");
        }
        let threads = threads(&pipeline).await;
        let text = threads[0].text.clone().expect("a text");
        assert!(!text.contains("Not delivered") && text.contains("Sent"), "{order:?} {text}");
        assert_eq!(pipeline.notes().await.len(), 1, "{order:?}");
    }
}

#[tokio::test]
async fn failed_texts_can_be_left_out_and_each_text_can_have_a_note_of_its_own() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.system_of_record.on_failed_message = OnFailedMessage::Skip;
        setup.settings.system_of_record.notes = NoteForm::Message;
    })
    .await;
    let person = someone();

    let failed = pipeline.send_known(FAILED, &person).await;
    for body in ["one", "two"] {
        pipeline.send_known(RECEIVED, &SampleFacts { body: body.to_owned(), ..person.clone() }).await;
    }
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&failed).await, LogNote), "skipped: no_action");
    let threads = threads(&pipeline).await;
    assert_eq!(threads.iter().map(|thread| thread.message_ids.len()).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn a_picture_without_words_is_a_note_that_says_so() {
    let pipeline = TestPipeline::start().await;
    let person = SampleFacts { body: String::new(), attachments: 2, ..someone() };
    let mut body = sample(RECEIVED, &person);
    body["message"]["attachments"]["members"][0] =
        json!({ "contentType": "image/png", "url": "https://media.example/1.png" });
    body["message"]["attachments"]["members"][1] = json!("/attachments/x");
    pipeline.sandbox.learn(&body).expect("a message");

    pipeline.send(&body).await;
    pipeline.quiet().await;

    let text = threads(&pipeline).await.remove(0).text.expect("a text");
    assert!(text.ends_with("Received: [picture https://media.example/1.png] [file]"), "{text}");
}

#[tokio::test]
async fn an_operator_chooses_among_people_who_share_a_number_once_or_for_good() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.log_note.on_unknown_contact = Some(OnUnknownContact::DeadLetter);
        setup.settings.handlers.log_note.message_lookup = MessageLookup::Message;
    })
    .await;
    let texter = SampleFacts { embed_contact: false, ..someone() };
    let phone = Phone::parse(&texter.phone).expect("a number");
    let mut people = Vec::new();
    for contact in ["/contacts/a", "/contacts/b"] {
        let facts = PersonFacts { contact_id: Some(contact.to_owned()), phones: vec![phone.clone()], name: None };
        people.push(pipeline.store.upsert_person(&facts).await.expect("the store answers").0.record_id);
    }
    // An assigned contact would settle it.
    let send = async || {
        let body = sample(RECEIVED, &texter);
        pipeline.sandbox.learn(&body).expect("a message");
        let mut body = body;
        body["conversation"]["assignedContact"] = json!(null);
        pipeline.send(&body).await
    };
    let first = send().await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&first).await, LogNote), "dead_lettered: ambiguous_contact");

    let dead = pipeline.dead_letter().await;
    assert!(pipeline.store.choose_person(&dead.id, "system_of_record", &people[1], None).await.expect("an answer"));
    pipeline.redrive(&dead.id).await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&first).await, LogNote), "done");
    assert_eq!(pipeline.notes().await[0].person_id, people[1]);

    let second = send().await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&second).await, LogNote), "dead_lettered: ambiguous_contact");
    let dead = pipeline.dead_letter().await;
    let chosen = pipeline.store.choose_person(&dead.id, "system_of_record", &people[0], Some(&phone)).await;
    assert!(chosen.expect("an answer"));
    pipeline.redrive(&dead.id).await;
    let third = send().await;
    pipeline.quiet().await;
    for id in [second, third] {
        assert_eq!(ending(&pipeline.settled(&id).await, LogNote), "done");
    }
}

#[tokio::test]
async fn a_thread_is_the_same_whatever_came_first_and_however_often() {
    let mut texts = Vec::new();
    for round in 0..3_u32 {
        let pipeline = TestPipeline::start().await;
        let person = SampleFacts {
            phone: "+12025550147".to_owned(),
            contact_id: "Vx9kQ2".to_owned(),
            account_phone: "+12025550100".to_owned(),
            ..someone()
        };
        let start: Timestamp = Timestamp::parse("2026-11-02T15:00:00Z").expect("a time");
        let mut bodies: Vec<_> = (0..12_u32)
            .map(|n| {
                let time = start.plus(std::time::Duration::from_secs(u64::from(n / 2))).to_string();
                let mut body = sample(RECEIVED, &at(&person, &time, &format!("text {n}")));
                body["message"]["id"] = json!(format!("/messages/m{n}"));
                body
            })
            .collect();
        bodies.rotate_left(usize::try_from(round * 5).expect("a small number"));
        if round == 2 {
            bodies.reverse();
        }
        for body in bodies.iter().chain(&bodies[..3]) {
            pipeline.sandbox.learn(body).expect("a message");
            pipeline.send(body).await;
        }
        pipeline.quiet().await;
        let mut threads = threads(&pipeline).await;
        assert_eq!(threads.len(), 1);
        texts.push((threads[0].thread_id.clone(), threads.remove(0).text));
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
}

#[tokio::test]
async fn a_later_copy_of_a_message_counts_whichever_comes_first() {
    let mut texts = Vec::new();
    for is_reversed in [false, true] {
        let pipeline = TestPipeline::with(|setup| {
            setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
        })
        .await;
        let person = SampleFacts { phone: "+12025550147".to_owned(), ..someone() };
        let copy = |time: &str, body: &str| {
            let mut copy = sample(RECEIVED, &at(&person, "2026-11-02T15:00:00Z", body));
            copy["message"]["id"] = json!("/messages/m1");
            copy["timestamp"] = json!(time);
            copy
        };
        let mut copies = vec![copy("2026-11-02T15:00:01Z", "Cal me"), copy("2026-11-02T15:00:09Z", "Call me")];
        if is_reversed {
            copies.reverse();
        }
        let mut ids = Vec::new();
        for copy in &copies {
            ids.push(pipeline.send(copy).await);
            pipeline.quiet().await;
        }

        assert_eq!(ending(&pipeline.settled(&ids[0]).await, LogNote), "done");
        assert_eq!(ending(&pipeline.settled(&ids[1]).await, LogNote), "skipped: duplicate");
        let text = threads(&pipeline).await.remove(0).text.expect("a text");
        assert!(text.ends_with("Received: Call me"), "{text}");
        texts.push(text.lines().last().expect("a line").to_owned());
    }
    assert_eq!(texts[0], texts[1]);
}

#[tokio::test]
async fn a_later_webhook_changes_nothing_of_a_message_that_was_fetched() {
    let pipeline = TestPipeline::start().await;
    let person = SampleFacts { body: "Call me".to_owned(), ..someone() };
    let first = sample(RECEIVED, &person);
    pipeline.sandbox.learn(&first).expect("a message");
    let mut later = sample(RECEIVED, &SampleFacts { body: "Call".to_owned(), ..person });
    later["message"]["id"] = first["message"]["id"].clone();
    later["timestamp"] = json!("2099-01-01T00:00:00Z");

    for body in [&first, &later] {
        pipeline.send(body).await;
        pipeline.quiet().await;
    }

    let text = threads(&pipeline).await.remove(0).text.expect("a text");
    assert!(text.ends_with("Received: Call me"), "{text}");
}

#[tokio::test]
async fn the_first_rule_that_leaves_one_person_decides_among_those_who_share_a_number() {
    for (prefer, whose) in [
        (vec![Preference::Owner, Preference::Oldest], Some(0)),
        (vec![Preference::Newest], Some(1)),
        (vec![Preference::Owner], None),
    ] {
        let pipeline = TestPipeline::with(|setup| {
            setup.settings.system_of_record.prefer = prefer.clone();
            setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
        })
        .await;
        let texter = SampleFacts { embed_contact: false, ..someone() };
        let mut people = Vec::new();
        for contact in ["/contacts/a", "/contacts/b"] {
            let phones = vec![Phone::parse(&texter.phone).expect("a number")];
            let facts = PersonFacts { contact_id: Some(contact.to_owned()), phones, name: None };
            people.push(pipeline.store.upsert_person(&facts).await.expect("the store answers").0.record_id);
            // The times of two people must differ.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mut body = sample(RECEIVED, &texter);
        body["conversation"]["assignedContact"] = json!(null);
        pipeline.send(&body).await;
        pipeline.quiet().await;

        let notes = pipeline.notes().await;
        let owner = notes.first().map(|note| note.person_id.clone());
        assert_eq!(owner, whose.map(|index: usize| people[index].clone()), "{prefer:?}");
    }
}
