//! What each document does, and which are refused for their form.

use hookline_sandbox::receiver::{DocumentType, Person};
use serde_json::{Value, json};

use super::{Endpoint, a_question, a_thread, an_opt_out, an_upsert, document, sam};

#[tokio::test]
async fn a_thread_is_upserted_and_every_document_kept() {
    let endpoint = Endpoint::start().await;

    assert_eq!(endpoint.post(&a_thread("d1", "one")).await, (200, json!({})));
    assert_eq!(endpoint.post(&a_thread("d2", "one and two")).await.0, 200);

    let threads = endpoint.receiver.threads();
    assert_eq!((threads.len(), threads[0].text.as_str(), threads[0].writes), (1, "one and two", 2));
    assert_eq!((threads[0].thread_id.as_str(), &threads[0].data["person"]["id"]), ("t1", &json!("p1")));
    let documents = endpoint.receiver.documents();
    assert_eq!(documents.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["d1", "d2"]);
    assert!(documents.iter().all(|one| one.kind == DocumentType::ThreadWritten && one.times == 1));
    assert_eq!(endpoint.receiver.requests_to(DocumentType::ThreadWritten), 2);
    endpoint.assert_proper();
}

#[tokio::test]
async fn a_repeat_has_no_second_effect() {
    let endpoint = Endpoint::start().await;
    let upsert = an_upsert("d1", "c1", "+14155550123");
    let first = endpoint.post(&upsert).await;
    assert_eq!(endpoint.post(&a_thread("d2", "one")).await.0, 200);
    assert_eq!(endpoint.post(&a_thread("d3", "two")).await.0, 200);

    assert_eq!(endpoint.post(&upsert).await, first);
    assert_eq!(endpoint.post(&a_thread("d2", "one")).await.0, 200);

    assert_eq!(endpoint.receiver.threads()[0].text, "two", "a late repeat overwrites nothing");
    assert_eq!((endpoint.receiver.people().len(), endpoint.receiver.documents()[0].times), (1, 2));
    endpoint.receiver.configure(|options| options.conflict_on_repeat = true);
    assert_eq!(endpoint.post(&upsert).await.0, 409);
    assert_eq!(endpoint.post(&a_thread("d4", "three")).await.0, 200);
    endpoint.assert_proper();
}

#[tokio::test]
async fn people_are_found_by_contact_or_else_by_number() {
    let endpoint = Endpoint::start().await;
    let person = |id: &str, contact_id: Option<&str>, phones: &[&str]| Person {
        id: id.to_owned(),
        contact_id: contact_id.map(str::to_owned),
        phones: phones.iter().map(|phone| (*phone).to_owned()).collect(),
        name: None,
    };
    endpoint.receiver.add_person(person("p1", Some("c1"), &["+14155550123"]));
    endpoint.receiver.add_person(person("p2", None, &["+14155550199", "+14155550123"]));
    let ids = |body: &Value| -> Vec<String> {
        let people = body["people"].as_array().expect("people");
        people.iter().filter_map(|one| one["id"].as_str()).map(str::to_owned).collect()
    };

    for (number, contact_id, phone, expected) in [
        (1, Some("c1"), Some("+14155550199"), vec!["p1"]),
        (2, Some("c9"), Some("+14155550199"), vec!["p2"]),
        (3, None, Some("+14155550123"), vec!["p1", "p2"]),
        (4, Some("c9"), None, vec![]),
    ] {
        let (status, body) = endpoint.post(&a_question(&format!("d{number}"), contact_id, phone)).await;
        assert_eq!((status, ids(&body)), (200, expected.into_iter().map(str::to_owned).collect()), "{number}");
    }
    let found = endpoint.post(&a_question("d2", Some("c9"), Some("+14155550199"))).await.1;
    let phones = json!(["+14155550199", "+14155550123"]);
    assert_eq!(found["people"][0], json!({ "id": "p2", "phones": phones, "name": null }));

    endpoint.receiver.remove_person("p2");
    let again = endpoint.post(&a_question("d2", Some("c9"), Some("+14155550199"))).await.1;
    assert_eq!(again, json!({ "people": [] }), "a repeated question is answered anew");
    endpoint.receiver.configure(|options| options.knows_people = false);
    assert_eq!(endpoint.post(&a_question("d5", Some("c1"), None)).await, (200, json!({})));
    endpoint.assert_proper();
}

#[tokio::test]
async fn an_upserted_person_keeps_its_id_and_gathers_numbers() {
    let endpoint = Endpoint::start().await;

    let (_, first) = endpoint.post(&an_upsert("d1", "c1", "+14155550123")).await;
    let (_, second) = endpoint.post(&an_upsert("d2", "c1", "+14155550199")).await;
    let (_, other) = endpoint.post(&an_upsert("d3", "c2", "+14155550123")).await;

    assert_eq!((&first["person"]["id"], first["person"]["id"].is_string()), (&second["person"]["id"], true));
    assert_ne!(first, other, "one number does not make one person");
    let people = endpoint.receiver.people();
    assert_eq!(people[0].phones, ["+14155550123", "+14155550199"]);
    let renamed = json!({ "id": people[0].id, "contact_id": null, "phones": [], "name": "Sam" });
    assert_eq!(endpoint.post(&document("person.upserted", "d4", json!({ "person": renamed }))).await.0, 200);
    let people = endpoint.receiver.people();
    assert_eq!(
        (people.len(), people[0].name.as_deref(), people[0].contact_id.as_deref()),
        (2, Some("Sam"), Some("c1"))
    );
    endpoint.receiver.configure(|options| options.tells_ids = false);
    assert_eq!(endpoint.post(&an_upsert("d5", "c3", "+14155550111")).await, (200, json!({})));
    endpoint.assert_proper();
}

#[tokio::test]
async fn the_newest_news_about_a_number_counts() {
    let endpoint = Endpoint::start().await;

    assert_eq!(endpoint.post(&an_opt_out("d1", true)).await, (200, json!({})));
    assert!(endpoint.receiver.opt_outs()[0].opted_out);
    assert_eq!(endpoint.post(&an_opt_out("d2", false)).await.0, 200);

    let states = endpoint.receiver.opt_outs();
    assert_eq!((states.len(), states[0].opted_out), (1, false));
    assert_eq!((states[0].phone.as_deref(), &states[0].data["source"]), (Some("+14155550123"), &json!("keyword")));
    endpoint.assert_proper();
}

/// Returns a document with the value at a JSON pointer changed, or removed where there is none.
fn with(mut document: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).and_then(Value::as_object_mut).expect("the parent");
    match value {
        Some(value) => drop(parent.insert(key.to_owned(), value)),
        None => drop(parent.remove(key)),
    }
    document
}

#[tokio::test]
async fn what_is_absent_is_null_and_taken() {
    let endpoint = Endpoint::start().await;
    let mut number = 0;
    for (base, pointers) in [
        (
            a_thread("d", "a"),
            vec![
                "/data/author",
                "/data/business_number",
                "/data/person/id",
                "/data/person/contact_id",
                "/data/person/name",
                "/data/messages/0/body",
                "/data/messages/0/author",
                "/data/messages/0/media",
            ],
        ),
        (an_opt_out("d", true), vec!["/data/person", "/data/phone", "/data/opted_out_at", "/data/source"]),
        (an_upsert("d", "c1", "+14155550123"), vec!["/data/person/contact_id", "/data/person/name"]),
    ] {
        for pointer in pointers {
            number += 1;
            let mut document = base.clone();
            document["id"] = json!(format!("d{number}"));
            *document.pointer_mut(pointer).expect("a value") = Value::Null;
            assert_eq!(endpoint.post(&document).await.0, 200, "{pointer}");
        }
    }
    endpoint.assert_proper();
}

#[tokio::test]
async fn what_is_not_exactly_a_document_is_refused() {
    let endpoint = Endpoint::start().await;
    let (thread, opt_out) = (a_thread("d", "a"), an_opt_out("d", true));
    let (question, upsert) = (a_question("d", Some("c1"), None), an_upsert("d", "c1", "+14155550123"));
    let refused = [
        with(thread.clone(), "/type", Some(json!("thread.deleted"))),
        with(thread.clone(), "/timestamp", Some(json!("2026-11-02"))),
        with(thread.clone(), "/timestamp", None),
        with(thread.clone(), "/version", Some(json!(1))),
        with(thread.clone(), "/data", Some(json!(null))),
        with(thread.clone(), "/data/thread_id", Some(json!(null))),
        with(thread.clone(), "/data/person", Some(json!(null))),
        with(thread.clone(), "/data/person/phones", Some(json!(["4155550123"]))),
        with(thread.clone(), "/data/person/phones", Some(json!(null))),
        with(thread.clone(), "/data/person/id", None),
        with(thread.clone(), "/data/business_number", Some(json!("2025550100"))),
        with(thread.clone(), "/data/day", Some(json!("2 November"))),
        with(thread.clone(), "/data/text", Some(json!(""))),
        with(thread.clone(), "/data/messages", Some(json!([]))),
        with(thread.clone(), "/data/author", None),
        with(thread, "/data/note", Some(json!("a"))),
        with(opt_out.clone(), "/data/opted_out", Some(json!(null))),
        with(opt_out.clone(), "/data/opted_in_at", None),
        with(opt_out.clone(), "/data/opted_in_at", Some(json!(1_793_631_845))),
        with(opt_out, "/data/phone", Some(json!("14155550123"))),
        with(question.clone(), "/data/contact_id", Some(json!(null))),
        with(question, "/data/phone", None),
        with(upsert.clone(), "/data/person/name", None),
        with(upsert, "/data/person/email", Some(json!("sam@example.com"))),
    ];
    for (number, mut document) in refused.into_iter().enumerate() {
        document["id"] = json!(format!("d{number}"));
        let (status, refusal) = endpoint.post(&document).await;
        assert_eq!(status, 400, "{number} {document} {refusal}");
        assert_eq!(endpoint.violations().len(), number + 1);
    }
    for (key, value) in [("direction", json!("received")), ("occurred_at", json!(null)), ("media", json!("a.png"))] {
        let mut document = a_thread(key, "a");
        document["data"]["messages"][0][key] = value;
        assert_eq!(endpoint.post(&document).await.0, 400, "{key}");
    }
    assert!(endpoint.receiver.documents().is_empty());
    assert_eq!(sam()["id"], "p1");
}
