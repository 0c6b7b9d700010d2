//! Webhook bodies as TextUs sends them (fixtures), and as it should not.

use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_worker::textus::payload::{
    self, ContactPayload, ContactRef, Direction, MessagePayload, Numbers, OptOutPayload, Payload, PhonesRef, Segment,
    Unreadable,
};
use serde_json::{Value, json};

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/textus/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON")
}

fn event(body: &Value) -> Event {
    let action = body["action"].as_str().unwrap_or_default();
    raw_event(action, body.to_string().into())
}

fn raw_event(action: &str, body: Bytes) -> Event {
    let source = SourceName::new("textus").expect("a name");
    Event {
        id: EventId::derive(&source, None, &body),
        source,
        source_event_id: None,
        event_type: EventType::new(action),
        received_at: Timestamp::now(),
        content_type: None,
        request_id: None,
        traceparent: None,
        body,
    }
}

fn opt_out(body: &Value) -> OptOutPayload {
    match payload::read(&event(body)).expect("readable") {
        Payload::OptOut(payload) => payload,
        Payload::Message(_) | Payload::Contact(_) => panic!("{body}"),
    }
}

fn message(body: &Value) -> MessagePayload {
    match payload::read(&event(body)).expect("readable") {
        Payload::Message(payload) => payload,
        Payload::OptOut(_) | Payload::Contact(_) => panic!("{body}"),
    }
}

fn contact(body: &Value) -> ContactPayload {
    match payload::read(&event(body)).expect("readable") {
        Payload::Contact(payload) => payload,
        Payload::OptOut(_) | Payload::Message(_) => panic!("{body}"),
    }
}

fn refused(body: &Value) -> Unreadable {
    match payload::read(&event(body)) {
        Ok(read) => panic!("{body} was read as {read:?}"),
        Err(unreadable) => unreadable,
    }
}

/// Returns the fixture with one value replaced.
fn with(name: &str, pointer: &str, value: Value) -> Value {
    let mut body = fixture(name);
    *body.pointer_mut(pointer).unwrap_or_else(|| panic!("{name} has no {pointer}")) = value;
    body
}

fn phone() -> Phone {
    Phone::parse("+12025550147").expect("a phone number")
}

#[test]
fn opt_outs_and_opt_ins_are_read_in_both_spellings() {
    for (name, opted_out, at) in [
        ("contact.opted_out", true, "2025-03-05T09:01:33.482Z"),
        ("contact.opted-out.hyphen", true, "2025-03-05T11:12:58.730Z"),
        ("contact.opted_in", false, "2025-03-06T17:45:10.006Z"),
    ] {
        let read = opt_out(&fixture(name));
        assert_eq!(read.account.as_deref(), Some("harbor_staffing"), "{name}");
        assert_eq!((read.phone, read.opted_out, read.disagrees), (phone(), opted_out, false), "{name}");
        assert_eq!(read.event_time, Timestamp::parse(at), "{name}");
    }
}

#[test]
fn where_action_and_type_disagree_the_person_stays_opted_out() {
    for (name, kind, opted_out, disagrees) in [
        ("contact.opted_in", "opt-out", true, true),
        ("contact.opted_out", "opt_in", true, true),
        ("contact.opted_in", "OPTED_IN", false, false),
        ("contact.opted_in", "something", false, false),
    ] {
        let read = opt_out(&with(name, "/optOut/type", json!(kind)));
        assert_eq!((read.opted_out, read.disagrees), (opted_out, disagrees), "{name} {kind}");
    }
}

#[test]
fn an_opt_out_is_read_from_as_little_as_names_account_and_phone() {
    let object = with("contact.opted_out", "/optOut/account", json!({"id": "/accounts/sanford.llc", "name": "x"}));
    assert_eq!(opt_out(&object).account.as_deref(), Some("sanford.llc"));
    let from_id = with("contact.opted_out", "/optOut/account", Value::Null);
    assert_eq!(opt_out(&from_id).account.as_deref(), Some("harbor_staffing"));
    let mut as_the_api_says = with("contact.opted_out", "/optOut/id", json!("Kd82nQ"));
    as_the_api_says["optOut"].as_object_mut().unwrap().remove("account");
    for (originating, account) in [
        (json!({"id": "/accounts/sanford.llc", "name": "x"}), Some("sanford.llc")),
        (json!("/accounts/sanford.llc"), Some("sanford.llc")),
        (json!(7), None),
        (Value::Null, None),
    ] {
        as_the_api_says["optOut"]["originatingAccount"] = originating.clone();
        let read = opt_out(&as_the_api_says);
        assert_eq!((read.account.as_deref(), read.phone), (account, phone()), "{originating}");
        assert_eq!(read.number_in_id, None, "{originating}");
    }
    let ten_digits = with("contact.opted_out", "/optOut/phoneNumber", json!("(202) 555-0147"));
    assert_eq!(opt_out(&ten_digits).phone, phone());
    let abroad = with("contact.opted_out", "/optOut/phoneNumber", json!("(+65) 6123 4567"));
    assert_eq!(opt_out(&abroad).phone.as_e164(), "+6561234567");
    for (id, number) in [
        ("/acme/opt_outs/2025550147", Some("2025550147")),
        ("/acme/opt_outs/+6561234567", Some("+6561234567")),
        ("/acme/opt_outs/", None),
        ("/acme/opt_outs/a/b", None),
        ("2025550147", None),
    ] {
        let read = opt_out(&with("contact.opted_out", "/optOut/id", json!(id)));
        assert_eq!(read.number_in_id.as_ref().map(Segment::as_str), number, "{id}");
        assert!(!format!("{read:?}").contains("5550147"), "{read:?}");
    }
    let timeless = with("contact.opted_out", "/timestamp", json!("yesterday"));
    assert_eq!(opt_out(&timeless).event_time, None);
}

#[test]
fn messages_are_read_with_what_their_conversation_tells() {
    let out = Some("/users/xR5bVk");
    for (name, slug, direction, user, at) in [
        ("message.received", "Gd6LpT", Direction::In, None, "2025-03-04T15:22:40.911Z"),
        ("message.delivered", "Hf9MzR", Direction::Out, out, "2025-03-04T15:24:12.083Z"),
        ("message.failed", "Hf9MzS", Direction::Out, out, "2025-03-04T15:39:58.402Z"),
        ("message.unknown", "Hf9MzT", Direction::Out, out, "2025-03-04T15:52:33.950Z"),
    ] {
        let read = message(&fixture(name));
        assert_eq!((read.message_id.as_str(), read.raw_message_id), (slug, format!("/messages/{slug}")), "{name}");
        assert_eq!(
            (read.direction, read.user.as_ref().and_then(|user| user.name.as_deref())),
            (Some(direction), user),
            "{name}"
        );
        assert_eq!(read.occurred_at, Timestamp::parse(at), "{name}");
        assert_eq!((read.phone, read.business_number), (Some(phone()), Phone::parse("+12025550190")), "{name}");
        assert_eq!((read.account.as_deref(), read.contact), (Some("harbor_staffing"), ContactRef::None), "{name}");
        assert!(read.body.is_some_and(|body| !body.is_empty()), "{name}");
        assert!(read.delivery_state.is_some(), "{name}");
    }
}

#[test]
fn the_contact_of_a_message_is_the_assigned_one_or_the_only_one() {
    let embedded = "message.received.embedded_contact";
    let read = message(&fixture(embedded));
    assert_eq!(read.contact.one().map(|id| id.as_str()), Some("Bn3RkQ8"));

    let second = json!({"@type": "Contact", "id": "/contacts/second"});
    let first = fixture(embedded)["conversation"]["associatedContacts"]["members"][0].clone();
    let two = with(embedded, "/conversation/associatedContacts/members", json!([first, second]));
    assert_eq!(message(&two).contact, ContactRef::Many);

    for assigned in [json!("/contacts/second"), second] {
        let mut assigned_too = two.clone();
        assigned_too["conversation"]["assignedContact"] = assigned;
        assert_eq!(message(&assigned_too).contact.one().map(|id| id.as_str()), Some("second"));
    }
}

#[test]
fn a_message_needs_nothing_but_its_id() {
    let read = message(&json!({"action": "message.received", "message": {"id": "Gd6LpT"},
                               "timestamp": "2025-03-04T15:22:41.307Z"}));
    assert_eq!(read.raw_message_id, "/messages/Gd6LpT");
    assert_eq!((read.direction, read.body, read.phone), (Some(Direction::In), None, None));
    assert_eq!(read.occurred_at, Timestamp::parse("2025-03-04T15:22:41.307Z"));

    for (sender, is_from_code) in [
        (json!("72345"), true),
        (json!(72345), true),
        (json!("MYBANK"), true),
        (json!(""), false),
        (Value::Null, false),
    ] {
        let read = message(&with("message.received", "/conversation/phoneNumber", sender.clone()));
        assert_eq!((read.phone, read.is_from_code), (None, is_from_code), "{sender}");
    }
    let as_a_number = message(&with("message.received", "/conversation/phoneNumber", json!(12_025_550_147_u64)));
    assert_eq!((as_a_number.phone, as_a_number.is_from_code), (Some(phone()), false));
}

#[test]
fn a_created_contact_is_read_in_all_its_possible_forms() {
    let name = "contact.created.unverified";
    let known = PhonesRef::Known(Numbers { usable: vec![(phone(), "Mobile".to_owned())], unreadable: 0 });
    let read = contact(&fixture(name));
    assert_eq!((read.id.as_str(), read.raw_id.as_str(), read.is_link), ("Bn3RkQ8", "/contacts/Bn3RkQ8", false));
    assert_eq!((read.name.as_deref(), &read.phones), (Some("Marisol Ektberg"), &known));
    assert_eq!(read.data, json!({}));

    let read = contact(&with(name, "/contact", json!("/contacts/Bn3RkQ8")));
    assert_eq!((read.raw_id.as_str(), read.is_link), ("/contacts/Bn3RkQ8", true));
    assert_eq!((read.phones, read.name), (PhonesRef::None, None));

    let read = contact(&with(name, "/contact/phones", json!("/contacts/Bn3RkQ8/phones")));
    assert_eq!((read.phones, read.is_link), (PhonesRef::Link, false));

    let mut top_level = fixture(name)["contact"].clone();
    top_level["action"] = json!("contact.created");
    let read = contact(&top_level);
    assert_eq!((read.raw_id.as_str(), &read.phones), ("/contacts/Bn3RkQ8", &known));
}

#[test]
fn nothing_in_a_payload_steers_a_call() {
    for id in ["", "/", "..", "../../acme/opt_outs/2025550147", "a/b", "a?x=1", "a#b", "https://evil.example/a", "a\nb"]
    {
        for (name, pointer, prefix) in [
            ("message.received", "/message/id", "/messages/"),
            ("message.received", "/conversation/account", "/accounts/"),
            ("message.received", "/conversation/assignedContact", "/contacts/"),
            ("message.received.embedded_contact", "/conversation/associatedContacts/members/0/id", "/contacts/"),
            ("contact.created.unverified", "/contact/id", "/contacts/"),
            ("contact.opted_out", "/optOut/account", "/accounts/"),
        ] {
            let unreadable = refused(&with(name, pointer, json!(format!("{prefix}{id}"))));
            let told = unreadable.to_string();
            assert!(id.len() < 4 || !told.contains(id), "{told}");
        }
    }
}

#[test]
fn what_nobody_needs_makes_nothing_unreadable() {
    let received = fixture("message.received").to_string();
    let cut = received.replacen("\"body\":\"", "\"body\":\"See you \\ud83d \\u0000", 1);
    let read = match payload::read(&raw_event("message.received", cut.into())).expect("readable") {
        Payload::Message(read) => read,
        Payload::OptOut(_) | Payload::Contact(_) => panic!("a message"),
    };
    assert!(read.body.is_some_and(|body| body.starts_with("See you \u{fffd} \0")));

    for pointer in [
        "/message/body",
        "/message/direction",
        "/message/displayTimestamp",
        "/message/sender",
        "/conversation/id",
        "/conversation/account",
        "/conversation/accountPhoneNumber",
        "/timestamp",
    ] {
        for wrong in [json!(7), json!([1]), json!({"a": "b"}), json!(true), Value::Null] {
            let mut body = fixture("message.received");
            if let Some(value) = body.pointer_mut(pointer) {
                *value = wrong.clone();
            }
            assert_eq!(message(&body).phone, Some(phone()), "{pointer} {wrong}");
        }
    }
    for pointer in ["/timestamp", "/optOut/id", "/optOut/type", "/optOut/account", "/optOut/createdAt", "/optOut/user"]
    {
        for wrong in [json!(7), json!([1]), json!(true), Value::Null] {
            let mut body = fixture("contact.opted_out");
            if let Some(value) = body.pointer_mut(pointer) {
                *value = wrong.clone();
            }
            assert_eq!((opt_out(&body).phone, opt_out(&body).opted_out), (phone(), true), "{pointer} {wrong}");
        }
    }
}

#[test]
fn what_is_missing_is_said_and_what_is_there_is_not() {
    for (body, says) in [
        (json!({"action": "contact.opted_out"}), "optOut"),
        (with("contact.opted_out", "/optOut/phoneNumber", json!("secret-canary@example.com")), "phoneNumber"),
        (with("contact.opted_out", "/optOut/phoneNumber", Value::Null), "phoneNumber"),
        (json!({"action": "message.received"}), "message"),
        (json!({"action": "message.received", "message": "/messages/Gd6LpT"}), "message"),
        (json!({"action": "message.received", "message": ["/messages/Gd6LpT"]}), "message"),
        (json!({"action": "message.received", "message": {"body": "+15550001234"}}), "message"),
        (json!({"action": "contact.created"}), "contact"),
        (json!({"action": "contact.created", "contact": 7, "id": "/contacts/a"}), "contact"),
        (fixture("phone_call.completed.unverified"), "event type"),
        (json!({"action": "deal.won"}), "event type"),
        (json!(null), "event type"),
    ] {
        let told = refused(&body).to_string();
        assert!(told.contains(says), "{body}: {told}");
        assert!(!told.contains("15550001234") && !told.contains("canary"), "{told}");
    }
    for bytes in [&b""[..], b"not json", b"\xff\xfe", b"{\"action\":"] {
        let told = payload::read(&raw_event("message.received", Bytes::from_static(bytes))).unwrap_err().to_string();
        assert!(told.contains("not JSON"), "{told}");
    }
}
