//! Sample webhooks have the shapes of the fixtures, are signed as documented, and are about nobody real.

use hookline_sandbox::{SampleFacts, samples};

use crate::helpers::{Receiver, SECRET, eventually, fixture, shape};

#[test]
fn every_sample_has_the_shape_of_its_fixture() {
    let mut facts = SampleFacts::random("acme");
    for (event_type, name) in [
        ("message.received", "message.received.json"),
        ("message.delivered", "message.delivered.json"),
        ("message.failed", "message.failed.json"),
        ("message.unknown", "message.unknown.json"),
        ("phone_call.completed", "phone_call.completed.unverified.json"),
        ("contact.opted_out", "contact.opted_out.json"),
        ("contact.opted_in", "contact.opted_in.json"),
        ("contact.created", "contact.created.unverified.json"),
    ] {
        assert!(samples::EVENT_TYPES.contains(&event_type));
        let (sample, fixture) = (samples::sample(event_type, &facts), fixture(name));
        assert_eq!(shape(&sample), shape(&fixture), "{event_type}");
        let pointers = ["/@type", "/action", "/message/direction", "/message/deliveryState", "/optOut/type"];
        for pointer in pointers {
            assert_eq!(sample.pointer(pointer), fixture.pointer(pointer), "{event_type} {pointer}");
        }
    }
    facts.embed_contact = true;
    let embedded = samples::sample("message.received", &facts);
    assert_eq!(shape(&embedded), shape(&fixture("message.received.embedded_contact.json")));
}

#[test]
fn samples_of_the_same_facts_share_the_person_and_no_delivery() {
    let facts = SampleFacts::random("acme");
    let (first, second) = (samples::sample("message.received", &facts), samples::sample("message.received", &facts));

    assert_eq!(first["conversation"], second["conversation"]);
    assert_ne!(first["id"], second["id"]);
    assert_ne!(first["message"]["id"], second["message"]["id"]);
}

#[test]
fn the_hyphen_spelling_is_kept_and_an_unknown_type_gets_the_envelope() {
    let hyphen = samples::fresh("contact.opted-out");
    assert_eq!((&hyphen["action"], &hyphen["optOut"]["type"]), (&"contact.opted-out".into(), &"opt-out".into()));

    let unknown = samples::fresh("deal.won");
    assert_eq!(unknown["action"], "deal.won");
    assert!(unknown["id"].is_string() && unknown.get("message").is_none());
}

#[test]
fn random_phones_are_fictional_ones() {
    for _ in 0..1_000 {
        let phone = SampleFacts::random("acme").phone;
        assert!(phone.len() == 12 && phone.starts_with("+1") && &phone[5..10] == "55501", "{phone}");
    }
}

#[test]
fn signatures_are_those_of_the_fixtures() {
    let vectors = fixture("signatures.json");
    for name in ["contact.opted_out.json", "message.received.json"] {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).expect("the fixture");
        let secret = vectors["webhookSecret"].as_str().expect("a secret");
        assert_eq!(vectors["signatures"][name], samples::sign(secret, &bytes), "{name}");
    }
}

#[tokio::test]
async fn a_post_is_signed_over_exactly_its_bytes() {
    let receiver = Receiver::start(0).await;
    let bytes = samples::fresh("message.received").to_string();

    let posted = samples::post(&receiver.target.url, SECRET, bytes.as_bytes()).await.expect("an answer");

    assert!(posted.is_success());
    eventually("the post is there", || !receiver.received().is_empty()).await;
    let received = receiver.received().remove(0);
    assert_eq!(received.body, bytes.as_bytes());
    assert_eq!(received.signature, samples::sign(SECRET, bytes.as_bytes()));
}
