//! Answers have exactly the keys, nesting and kinds of value of the fixtures.

use hookline_sandbox::samples::sample;
use hookline_sandbox::{Direction, MessageForm, Related, SampleFacts};
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{ACCOUNT, Api, MEDIA_TYPE, answer, fixture, shape};

const PHONE: &str = "+12025550147";

/// Asserts that an answer has the status and shape of a recorded exchange.
fn assert_like(name: &str, (status, body): &(u16, Value)) {
    let expected = &fixture(name)["response"];
    assert_eq!(json!(status), expected["status"], "{name}");
    assert_eq!(shape(body), shape(&expected["body"]), "{name}");
}

#[tokio::test]
async fn opt_outs_are_answered_as_in_the_fixtures() {
    let api = Api::start().await;

    let put = api.put_opt_out("2025550147").await;
    assert_like("opt_out.put.201.response.json", &put);
    let got = api.get(&format!("/{ACCOUNT}/opt_outs/2025550147")).await;
    assert_like("opt_out.get.200.response.json", &got);
    assert_eq!(got.1["id"], format!("/{ACCOUNT}/opt_outs/2025550147"), "the number as it was asked for");
    assert_eq!(got.1["originatingAccount"]["name"], "Harbor Staffing");

    assert_eq!(api.put_opt_out("2025550147").await, put, "a repeat is answered like the first");
}

#[tokio::test]
async fn contacts_and_notes_are_answered_as_in_the_fixtures() {
    let api = Api::start().await;
    let exchange = fixture("contact.post.200.response.json");

    let created = answer(api.post(&format!("/{ACCOUNT}/contacts"), &exchange["request"]["body"])).await;
    assert_like("contact.post.200.response.json", &created);
    let expected = &exchange["response"]["body"];
    for pointer in ["/name", "/firstName", "/lastName", "/data", "/phones/members/1/phoneNumber"] {
        assert_eq!(created.1.pointer(pointer), expected.pointer(pointer), "{pointer}");
    }
    assert_eq!(created.1["phones"]["members"][1]["extension"], "318");

    let id = created.1["id"].as_str().expect("an id");
    assert_eq!(api.get(id).await, created);
    assert_eq!(api.get(&format!("{id}/phones")).await, (200, created.1["phones"].clone()));
    let content = json!({ "content": "SMS in: arriving late." });
    let noted = answer(api.post(&format!("{id}/notes"), &content)).await;
    assert_like("contact_note.post.201.response.json", &noted);
    assert_like("contact_notes.list.200.response.json", &api.get(&format!("{id}/notes")).await);
}

#[tokio::test]
async fn a_contact_can_be_changed_and_is_found_by_its_new_phone() {
    let api = Api::start().await;
    let id = api.sandbox.add_contact(ACCOUNT, "Ilse Quillon", PHONE);
    let body = json!({ "name": "Ilse Fennimore", "phones": [{ "number": "1-202-555-0188", "type": "Work" }] });

    let put = api.request(Method::PUT, &id).header("Content-Type", MEDIA_TYPE).body(body.to_string());
    let (status, contact) = answer(put).await;

    assert_eq!((status, &contact["lastName"]), (200, &json!("Fennimore")));
    let total = async |q: &str| api.get(&format!("/{ACCOUNT}/contact_phones?q={q}")).await.1["totalItems"].clone();
    assert_eq!(total("2025550188").await, 1);
    assert_eq!(total("2025550147").await, 0);
}

#[tokio::test]
async fn searches_conversations_and_messages_are_answered_as_in_the_fixtures() {
    let api = Api::start().await;
    let contact = api.sandbox.add_contact(ACCOUNT, "Marisol Ektberg", PHONE);
    let out = api.sandbox.add_message(ACCOUNT, PHONE, Direction::Out, "Thanks <b> & bye");
    let inbound = api.sandbox.add_message(ACCOUNT, PHONE, Direction::In, "On my way.");

    let found = api.get(&format!("/{ACCOUNT}/contact_phones?q=2025550147")).await;
    assert_like("contact_phones.search.200.response.json", &found);
    assert_eq!(found.1["id"], format!("/{ACCOUNT}/contact_phones?q=2025550147"));
    assert_eq!(found.1["members"][0]["contact"]["id"], json!(contact));

    let conversation = api.get(&format!("/{ACCOUNT}/conversations/%2B12025550147")).await;
    assert_like("conversation.get.200.response.json", &conversation);
    assert_eq!(api.get(&out.conversation).await, conversation);
    assert_eq!(api.get(&format!("{contact}/conversations")).await.1["members"][0], conversation.1);

    let read = api.get(&out.message).await;
    assert_like("message.get.200.response.json", &read);
    assert_eq!(read.1["formattedBody"], "<div>Thanks &lt;b&gt; &amp; bye</div>");
    let read = api.get(&inbound.message).await;
    assert_like("message.get.inbound.200.response.json", &read);
    assert_eq!((&read.1["body"], inbound.contact), (&json!("On my way."), Some(contact)));
    assert!(api.sandbox.violations().is_empty());
}

#[tokio::test]
async fn contacts_can_have_several_numbers_and_messages_attachments() {
    let api = Api::start().await;
    let contact = api.sandbox.add_contact_with_phones(ACCOUNT, "Marisol Ektberg", &[PHONE, "+442079460958"]);
    let text = api.sandbox.add_message_with_attachments(ACCOUNT, "+442079460958", Direction::In, "Look", 2);

    for number in ["2025550147", "442079460958"] {
        let (_, found) = api.get(&format!("/{ACCOUNT}/contact_phones?q={number}")).await;
        assert_eq!(found["members"][0]["contact"]["id"], json!(contact), "{number}");
    }
    assert_eq!(text.contact, Some(contact));
    let (_, read) = api.get(&text.message).await;
    assert_eq!((&read["attachments"]["totalItems"], &read["body"]), (&json!(2), &json!("Look")));

    let facts =
        SampleFacts { attachments: 1, more_phones: vec!["+442079460959".to_owned()], ..SampleFacts::random(ACCOUNT) };
    let (message, created) = (sample("message.received", &facts), sample("contact.created", &facts));
    api.sandbox.learn(&message).expect("a webhook");
    api.sandbox.learn(&created).expect("a webhook");
    let (_, read) = api.get(message["message"]["id"].as_str().expect("an id")).await;
    assert_eq!(read["attachments"], message["message"]["attachments"]);
    let (_, phones) = api.get(&format!("/contacts/{}/phones", facts.contact_id)).await;
    assert_eq!(phones["members"][1]["phoneNumber"], "+442079460959");
}

#[tokio::test]
async fn related_contacts_can_be_links() {
    let api = Api::with(|options| options.related = Related::Links).await;
    let contact = api.sandbox.add_contact(ACCOUNT, "Marisol Ektberg", PHONE);
    api.sandbox.assign_contact(ACCOUNT, PHONE, &contact);

    let (_, conversation) = api.get(&format!("/{ACCOUNT}/conversations/%2B12025550147")).await;
    let (_, found) = api.get(&format!("/{ACCOUNT}/contact_phones?q=Marisol")).await;
    assert_eq!(conversation["assignedContact"], json!(contact));
    assert!(conversation["associatedContacts"].is_string());
    assert_eq!(found["members"][0]["contact"], json!(contact));
    assert_eq!(api.get(&contact).await.1["phones"], json!(format!("{contact}/phones")));

    api.sandbox.configure(|options| options.related = Related::Embedded);
    let (_, conversation) = api.get(&format!("/{ACCOUNT}/conversations/%2B12025550147")).await;
    assert_eq!(conversation["assignedContact"]["id"], json!(contact));
}

#[tokio::test]
async fn messages_are_read_by_the_ids_that_the_options_allow() {
    let api = Api::start().await;
    let contact = api.sandbox.add_contact(ACCOUNT, "Marisol Ektberg", PHONE);
    api.sandbox.add_message(ACCOUNT, PHONE, Direction::In, "older");
    let newest = api.sandbox.add_message(ACCOUNT, PHONE, Direction::In, "newer");
    let by_contact = contact.replace("/contacts/", "/messages/");

    for (form, by_message_status, by_contact_status) in
        [(MessageForm::ByMessageId, 200, 404), (MessageForm::ByContactId, 404, 200), (MessageForm::Both, 200, 200)]
    {
        api.sandbox.configure(|options| options.message_form = form);
        for (path, expected) in [(&newest.message, by_message_status), (&by_contact, by_contact_status)] {
            let (status, body) = api.get(path).await;
            assert_eq!(status, expected, "{form:?}");
            assert!(status == 404 || body["id"] == json!(newest.message), "{form:?}");
        }
    }
}

#[tokio::test]
async fn collections_are_paged_by_following_next() {
    let api = Api::with(|options| options.page_size = 2).await;
    for _ in 0..5 {
        api.sandbox.add_contact(ACCOUNT, "Tobin Varnholt", PHONE);
        api.sandbox.add_contact(ACCOUNT, "Kofi Tazewell", "+12025550148");
    }
    for (first, total) in [
        (format!("/{ACCOUNT}/contact_phones?q=%2B12025550147"), 5_usize),
        (format!("/{ACCOUNT}/contact_phones?q=tobin+varn"), 5),
        (format!("/{ACCOUNT}/contacts"), 10),
    ] {
        let (mut next, mut seen, mut pages) = (Some(first.clone()), std::collections::BTreeSet::new(), 0);
        while let Some(path) = next {
            let (status, page) = api.get(&path).await;
            assert_eq!((status, &page["totalItems"], &page["view"]["first"]), (200, &json!(total), &json!(first)));
            seen.extend(page["members"].as_array().expect("members").iter().map(|one| one["id"].to_string()));
            next = page["view"]["next"].as_str().map(str::to_owned);
            pages += 1;
        }
        assert_eq!((seen.len(), pages), (total, total.div_ceil(2)), "{first}");
    }
    assert!(api.sandbox.violations().is_empty());
}

#[tokio::test]
async fn opt_outs_are_listed_by_part_and_by_whole_number() {
    let api = Api::start().await;
    for phone in ["2025550147", "2025550148", "3125550147"] {
        api.put_opt_out(phone).await;
    }
    let total = async |query: &str| {
        let (status, body) = api.get(&format!("/{ACCOUNT}/opt_outs{query}")).await;
        (status, body["totalItems"].clone())
    };

    assert_eq!(total("").await, (200, json!(3)));
    assert_eq!(total("?q=50147").await, (200, json!(2)));
    assert_eq!(total("?exact%5B%5D=2025550148&exact[]=3125550147").await, (200, json!(2)));
    assert_eq!(total("?q=47").await.0, 422);
}
