//! Data that the sandbox gets outside the API, and what it remembers of them.

use hookline_sandbox::{Endpoint, SampleFacts, samples};
use serde_json::{Value, json};

use crate::helpers::{ACCOUNT, Api, fixture};

#[tokio::test]
async fn a_learnt_message_is_answered_with_the_ids_of_its_webhook() {
    let api = Api::start().await;
    let webhook = fixture("message.received.embedded_contact.json");

    api.sandbox.learn(&webhook).expect("a webhook");

    let (status, message) = api.get("/messages/Gd6LpU").await;
    assert_eq!(status, 200);
    for key in ["id", "body", "direction", "deliveryState", "displayTimestamp", "conversation"] {
        assert_eq!(message[key], webhook["message"][key], "{key}");
    }
    let (_, conversation) = api.get(&format!("/{ACCOUNT}/conversations/%2B12025550147")).await;
    assert_eq!(conversation["id"], "/conversations/Tq7WmZ");
    assert_eq!(conversation["associatedContacts"]["members"][0]["id"], "/contacts/Bn3RkQ8");
    assert_eq!(api.get(&format!("/{ACCOUNT}/contact_phones?q=Marisol")).await.1["totalItems"], 1);
    assert!(api.sandbox.effects().is_empty());
}

#[tokio::test]
async fn a_conversation_takes_the_id_that_a_webhook_gives_it() {
    let api = Api::start().await;
    let webhook = fixture("message.received.json");
    let old = api.sandbox.add_message(ACCOUNT, "+12025550147", hookline_sandbox::Direction::Out, "before");

    api.sandbox.learn(&webhook).expect("a webhook");

    assert_eq!(api.get("/conversations/Tq7WmZ").await.0, 200);
    assert_eq!(api.get(&old.conversation).await.0, 404);
    assert_eq!(api.get(&old.message).await.1["conversation"], "/conversations/Tq7WmZ");
}

#[tokio::test]
async fn every_sample_can_be_learnt() {
    let api = Api::start().await;
    for embed_contact in [false, true] {
        let facts = SampleFacts { embed_contact, ..SampleFacts::random(ACCOUNT) };
        for event_type in samples::EVENT_TYPES {
            let sample = samples::sample(event_type, &facts);
            api.sandbox.learn(&sample).expect(event_type);
            let id = sample["message"]["id"].as_str().or(sample["contact"]["id"].as_str());
            if let Some(id) = id {
                assert_eq!(api.get(id).await.0, 200, "{event_type}");
            }
        }
    }
    assert!(api.sandbox.learn(&json!({ "no": "action" })).is_err());
}

#[tokio::test]
async fn learnt_opt_outs_and_opt_ins_change_what_is_answered() {
    let api = Api::start().await;
    let path = format!("/{ACCOUNT}/opt_outs/2025550147");

    api.sandbox.learn(&fixture("contact.opted_out.json")).expect("a webhook");
    assert_eq!(api.get(&path).await.0, 200);

    api.sandbox.learn(&fixture("contact.opted_in.json")).expect("a webhook");
    assert_eq!(api.get(&path).await, (404, Value::Null));
}

#[tokio::test]
async fn requests_are_remembered_until_cleared() {
    let api = Api::start().await;
    let body = json!({ "name": "Kofi Tazewell" });
    let request = api.post(&format!("/{ACCOUNT}/contacts"), &body).header("Idempotency-Key", "evt_1/create/1");
    request.send().await.expect("an answer");

    let requests = api.sandbox.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].endpoint, Some(Endpoint::CreateContact));
    assert_eq!(requests[0].status, Some(200));
    assert_eq!(requests[0].idempotency_key.as_deref(), Some("evt_1/create/1"));
    assert_eq!(requests[0].path, format!("/{ACCOUNT}/contacts"));

    api.sandbox.clear_requests();
    api.get("/messages/absent1").await;
    assert_eq!(api.sandbox.requests().len(), 1);
    assert_eq!(api.sandbox.requests()[0].status, Some(404));
}
