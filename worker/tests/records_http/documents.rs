//! What the documents state, and that they are what the published schema says.

use hookline_common::note_text::MessageOutcome;
use hookline_sandbox::DocumentType;
use hookline_store::model::PersonFacts;
use hookline_worker::records::http::HttpRecords;
use hookline_worker::records::{OptOutFlag, Person, PersonId, SystemOfRecord as _};
use serde_json::{Value, json};

use crate::helpers::{
    CONTACT, NAME, PHONE, TEXT, TestRecords, a_message, a_picture, a_thread, an_opt_out, at, facts, http_settings,
    phone, sam, textus_own,
};

/// Returns the whole document that the receiver took last.
fn last(records: &TestRecords) -> Value {
    let document = records.receiver.documents().pop().expect("a document");
    let kind = match document.kind {
        DocumentType::PeopleFind => "people.find",
        DocumentType::PersonUpserted => "person.upserted",
        DocumentType::ThreadWritten => "thread.written",
        DocumentType::OptOutChanged => "opt_out.changed",
    };
    let timestamp = format!("{:.3}", document.timestamp);
    json!({ "type": kind, "id": document.id, "timestamp": timestamp, "data": document.data })
}

#[tokio::test]
async fn a_thread_states_its_messages_its_person_and_its_text() {
    let records = TestRecords::start().await;
    let mut thread = a_thread();
    let mut answer = a_message("/messages/b");
    (answer.is_inbound, answer.outcome, answer.author) =
        (false, MessageOutcome::Delivered, Some("Jo Recruiter".to_owned()));
    (answer.media, answer.body) = (vec![a_picture()], String::new());
    (answer.occurred_at, answer.event_time) = (at("2026-11-02T15:05:00.5Z"), at("2026-11-02T15:05:01Z"));
    thread.messages.push(answer);

    assert_eq!(records.connector.write(&sam(), &thread, TEXT).await.unwrap(), "thread_0011");

    let document = last(&records);
    assert_eq!(document["timestamp"], "2026-11-02T15:05:00.500Z", "the newest message, not the clock");
    let expected = json!({
        "thread_id": "thread_0011",
        "person": { "id": "p1", "contact_id": CONTACT, "phones": [PHONE], "name": null },
        "account": "acme",
        "business_number": "+12025550100",
        "day": "2026-11-02",
        "text": TEXT,
        "messages": [
            {
                "message_id": "/messages/a", "direction": "inbound", "outcome": "received",
                "body": "Lilac wallpaper", "author": null, "media": [], "occurred_at": "2026-11-02T15:04:05.000Z",
            },
            {
                "message_id": "/messages/b", "direction": "outbound", "outcome": "delivered",
                "body": "", "author": "Jo Recruiter",
                "media": [{ "type": "image/jpeg", "url": "https://media.example/1.jpg" }],
                "occurred_at": "2026-11-02T15:05:00.500Z",
            },
        ],
        "author": "Jo Recruiter",
    });
    assert_eq!(document["data"], expected);
    records.assert_proper();
}

#[tokio::test]
async fn a_person_of_textus_alone_has_no_id() {
    let records = TestRecords::start().await;
    let thread = hookline_store::model::Thread { contact_id: None, ..a_thread() };

    records.connector.write(&textus_own(), &thread, TEXT).await.unwrap();

    let person = json!({ "id": null, "contact_id": CONTACT, "phones": [PHONE], "name": null });
    assert_eq!(last(&records)["data"]["person"], person);
    records.assert_proper();
}

/// A link spares the look-up at the second write, and then nothing is known but the id.
#[tokio::test]
async fn what_a_look_up_knew_of_a_person_changes_no_thread() {
    let records = TestRecords::start().await;
    let known = Person { name: Some(NAME.to_owned()), ..sam() };
    let linked = Person { contact_id: None, phones: Vec::new(), ..sam() };

    for person in [known, linked] {
        records.connector.write(&person, &a_thread(), TEXT).await.unwrap();
    }

    let documents = records.receiver.documents();
    assert_eq!((documents.len(), documents[0].times), (1, 2));
}

#[tokio::test]
async fn another_text_person_or_message_is_another_document_of_the_same_thread() {
    let records = TestRecords::start().await;
    let mut longer = a_thread();
    longer.messages.push(a_message("/messages/b"));

    records.connector.write(&sam(), &a_thread(), TEXT).await.unwrap();
    records.connector.write(&sam(), &a_thread(), "another text").await.unwrap();
    records.connector.write(&textus_own(), &a_thread(), "another text").await.unwrap();
    records.connector.write(&sam(), &longer, TEXT).await.unwrap();

    assert_eq!(records.receiver.documents().len(), 4);
    let threads = records.receiver.threads();
    assert_eq!((threads.len(), threads[0].writes, threads[0].text.as_str()), (1, 4, TEXT));
    records.assert_proper();
}

#[tokio::test]
async fn a_person_is_told_with_what_is_known_of_them() {
    let records = TestRecords::start().await;

    records.connector.upsert().await.unwrap();

    let expected = json!({ "person": { "contact_id": CONTACT, "phones": [PHONE], "name": NAME } });
    assert_eq!(last(&records)["data"], expected);
    records.assert_proper();
}

#[tokio::test]
async fn an_opt_out_is_told_with_its_dates() {
    let records = TestRecords::start().await;

    assert!(records.connector.opt_out().await.unwrap());

    let document = last(&records);
    assert_eq!(document["timestamp"], "2026-11-02T15:04:05.000Z");
    let expected = json!({
        "person": { "id": "p1", "contact_id": CONTACT, "phones": [PHONE], "name": null },
        "phone": PHONE,
        "opted_out": true,
        "opted_out_at": "2026-11-02T15:04:05.000Z",
        "opted_in_at": null,
        "source": "TextUs",
    });
    assert_eq!(document["data"], expected);
    records.assert_proper();
}

#[tokio::test]
async fn every_document_is_one_of_the_published_schema() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/http-connector.schema.json"));
    let schema: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let records = TestRecords::start().await;
    let (connector, attempt) = (&records.connector, records.connector.attempt());

    // Each document with everything that can be absent, and without.
    let mut full = a_thread();
    full.messages[0].media = vec![a_picture(), hookline_common::note_text::Media { media_type: None, url: None }];
    full.messages[0].author = Some("Jo Recruiter".to_owned());
    let bare = hookline_store::model::Thread { phone: None, contact_id: None, business_number: None, ..a_thread() };
    let nobody = Person { contact_id: None, phones: Vec::new(), ..textus_own() };
    for (person, thread) in [(&sam(), &full), (&textus_own(), &bare), (&nobody, &bare)] {
        connector.write(person, thread, TEXT).await.unwrap();
    }
    connector.find(Some(CONTACT), None).await.unwrap();
    connector.find(None, Some(&phone())).await.unwrap();
    let anonymous = PersonFacts { contact_id: None, phones: Vec::new(), name: Some(String::new()) };
    for facts in [facts(), anonymous] {
        connector.records.upsert_person(&attempt, &facts).await.unwrap();
    }
    let templates = [("lead_source", "TextUs"), ("first", "{{ first_name }}")];
    let templates = templates.map(|(field, text)| (field.to_owned(), text.to_owned()));
    let settings = http_settings(&records.receiver.url());
    let filling = HttpRecords::new(&settings, &connector.store, &connector.metrics).unwrap();
    filling.filling(&templates.into()).upsert_person(&attempt, &facts()).await.unwrap();
    let back_in = OptOutFlag { opted_out: false, opted_in_at: Some(at("2026-11-03T00:00:00Z")), ..an_opt_out() };
    let named = Person { id: PersonId("17".to_owned()), name: Some(NAME.to_owned()), ..sam() };
    for (person, flag) in [(&named, an_opt_out()), (&nobody, back_in)] {
        connector.records.set_opt_out(&attempt, person, &phone(), &flag).await.unwrap();
    }

    records.assert_proper();
    let documents = records.receiver.documents();
    assert_eq!(documents.len(), 10);
    let filled = documents.iter().find_map(|document| document.data["person"]["fields"].as_object());
    assert_eq!(filled.unwrap()["lead_source"], "TextUs");
    // The bodies as they are on the wire have the same keys: the receiver refuses any other.
    for document in documents {
        let kind = serde_json::to_value(match document.kind {
            DocumentType::PeopleFind => "people.find",
            DocumentType::PersonUpserted => "person.upserted",
            DocumentType::ThreadWritten => "thread.written",
            DocumentType::OptOutChanged => "opt_out.changed",
        });
        let timestamp = format!("{:.3}", document.timestamp);
        let whole = json!({ "type": kind.unwrap(), "id": document.id, "timestamp": timestamp, "data": document.data });
        let errors: Vec<String> = schema.iter_errors(&whole).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{whole}");
        // The schema would not take just anything.
        for key in ["type", "id", "timestamp", "data"] {
            let mut less = whole.clone();
            less.as_object_mut().unwrap().remove(key);
            assert!(!schema.is_valid(&less), "without {key}");
        }
        for key in whole["data"].as_object().unwrap().keys() {
            let mut less = whole.clone();
            less["data"].as_object_mut().unwrap().remove(key);
            assert!(!schema.is_valid(&less), "without {key}");
        }
    }
}
