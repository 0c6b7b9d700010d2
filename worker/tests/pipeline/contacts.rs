//! A contact is POSTed once per account, whatever repeats, echoes or gets lost.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::event::EventId;
use hookline_common::names::HandlerName::{CreateContact, SyncContact};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EchoTiming, EffectKind, Endpoint, Fault, FaultRule, Related};
use hookline_store::model::Payload;
use serde_json::{Value, json};

use crate::helpers::{ACCOUNT, CALL_TIMEOUT, SECOND, Setup, TestPipeline, ending, eventually, someone};

const CREATED: &str = "contact.created";

fn posts(pipeline: &TestPipeline, account: &str, phone: &str) -> usize {
    pipeline.sandbox.effect_count(EffectKind::ContactCreated, account, phone)
}

/// Asserts that no echo created a contact of its own or was given up.
async fn assert_echoes_are_harmless(pipeline: &TestPipeline, sent: &[&EventId], case: &str) {
    for echo in pipeline.echoes(sent) {
        let end = ending(&pipeline.settled(&echo).await, CreateContact);
        assert!(["skipped: echo", "skipped: already_done", "done"].contains(&end.as_str()), "{case}: {end}");
    }
}

#[tokio::test]
async fn a_new_contact_makes_one_post_per_account_however_its_echoes_come() {
    let both = || vec![ACCOUNT.to_owned(), SECOND.to_owned()];
    for (timing, accounts) in [
        (EchoTiming::AfterAnswer, vec![SECOND.to_owned()]),
        (EchoTiming::BeforeAnswer, vec![SECOND.to_owned()]),
        (EchoTiming::AfterAnswer, both()),
        (EchoTiming::BeforeAnswer, both()),
    ] {
        let case = format!("{timing:?} {accounts:?}");
        let pipeline = TestPipeline::with(|Setup { settings, sandbox }| {
            settings.handlers.create_contact.accounts.clone_from(&accounts);
            sandbox.echo_timing = timing;
        })
        .await;
        let person = someone();

        let id = pipeline.send_sample(CREATED, &person).await;
        pipeline.quiet().await;

        for account in &accounts {
            assert_eq!(posts(&pipeline, account, &person.phone), 1, "{case} {account}");
        }
        assert_eq!(pipeline.effects(EffectKind::ContactCreated).len(), accounts.len(), "{case}");
        assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done", "{case}");
        assert_eq!(pipeline.echoes(&[&id]).len(), accounts.len(), "{case}");
        assert_echoes_are_harmless(&pipeline, &[&id], &case).await;
        let people = pipeline.people().await;
        assert_eq!(people.len(), 1, "{case}: {people:?}");
        assert_eq!(people[0].phone.as_deref(), Some(person.phone.as_str()), "{case}");
    }
}

#[tokio::test]
async fn a_contact_that_the_account_has_is_found_and_not_posted() {
    for (related, has_conversation) in
        [(Related::Embedded, true), (Related::Embedded, false), (Related::Links, true), (Related::Links, false)]
    {
        let case = format!("{related:?} {has_conversation}");
        let pipeline = TestPipeline::with(|setup| setup.sandbox.related = related).await;
        let person = someone();
        pipeline.sandbox.add_contact(ACCOUNT, &person.contact_name, &person.phone);
        if has_conversation {
            pipeline.sandbox.add_conversation(ACCOUNT, &person.phone);
        }

        let id = pipeline.send_sample(CREATED, &person).await;
        pipeline.quiet().await;

        assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "skipped: already_done", "{case}");
        assert_eq!(pipeline.effects(EffectKind::ContactCreated), [], "{case}");
    }
}

#[tokio::test]
async fn a_post_that_took_effect_and_got_no_answer_leaves_one_contact() {
    for fault in [
        Fault::EffectThenReset,
        Fault::EffectThenHang(Duration::from_secs(2)),
        Fault::EffectThenStatus(502),
        Fault::TruncatedBody,
        Fault::GarbageBody,
    ] {
        for timing in [EchoTiming::AfterAnswer, EchoTiming::BeforeAnswer] {
            let case = format!("{fault:?} {timing:?}");
            let pipeline = TestPipeline::with(|Setup { settings, sandbox }| {
                settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
                sandbox.echo_timing = timing;
            })
            .await;
            pipeline.sandbox.fault(FaultRule::new(fault.clone()).on(Endpoint::CreateContact).times(1));
            let person = someone();

            let id = pipeline.send_sample(CREATED, &person).await;
            pipeline.quiet().await;

            assert_eq!(posts(&pipeline, SECOND, &person.phone), 1, "{case}");
            assert_eq!(pipeline.asked(Endpoint::CreateContact).len(), 1, "{case}");
            let end = ending(&pipeline.settled(&id).await, CreateContact);
            // If the echo looked first, the event's own attempt finds the contact there.
            assert!(["done", "skipped: already_done"].contains(&end.as_str()), "{case}: {end}");
            for echo in pipeline.echoes(&[&id]) {
                assert_eq!(ending(&pipeline.settled(&echo).await, CreateContact), "skipped: echo", "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_post_that_was_lost_on_its_way_is_made_after_looking() {
    let pipeline = TestPipeline::start().await;
    pipeline.sandbox.fault(FaultRule::new(Fault::Reset).on(Endpoint::CreateContact).times(2));
    let person = someone();

    let id = pipeline.send_sample(CREATED, &person).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done");
    assert_eq!(posts(&pipeline, ACCOUNT, &person.phone), 1);
    let calls: Vec<_> = pipeline.sandbox.requests().into_iter().filter_map(|request| request.endpoint).collect();
    let own_calls = calls.iter().take_while(|endpoint| **endpoint != Endpoint::CreateContact).count();
    assert!(own_calls > 0, "looked before the first POST: {calls:?}");
    for pair in calls.windows(2) {
        assert_ne!(pair, [Endpoint::CreateContact, Endpoint::CreateContact], "looked between two POSTs");
    }
}

#[tokio::test]
async fn several_events_about_one_phone_at_once_make_one_post() {
    let pipeline = TestPipeline::with(|Setup { settings, sandbox }| {
        settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
        // Long enough for all of them to run at the same time.
        sandbox.latency = Duration::from_millis(60);
    })
    .await;
    let person = someone();
    // Three accounts may each learn of the same person: separate contacts, one phone.
    let contacts: Vec<SampleFacts> = (0..12)
        .map(|_| SampleFacts { contact_id: SampleFacts::random(ACCOUNT).contact_id, ..person.clone() })
        .collect();

    let ids = join_all(contacts.iter().map(|facts| pipeline.send_sample(CREATED, facts))).await;
    pipeline.quiet().await;

    assert_eq!(posts(&pipeline, SECOND, &person.phone), 1);
    let mut done = 0;
    for id in &ids {
        match ending(&pipeline.settled(id).await, CreateContact).as_str() {
            "done" => done += 1,
            "skipped: already_done" | "skipped: duplicate" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(done, 1);
}

#[tokio::test]
async fn a_repeat_of_the_same_contact_with_a_new_delivery_id_changes_nothing() {
    let pipeline = TestPipeline::start().await;
    let person = someone();

    pipeline.send_sample(CREATED, &person).await;
    pipeline.quiet().await;
    let repeat = pipeline.send_sample(CREATED, &person).await;
    pipeline.quiet().await;

    assert_eq!(posts(&pipeline, ACCOUNT, &person.phone), 1);
    let row = pipeline.settled(&repeat).await;
    assert_eq!(ending(&row, CreateContact), "skipped: already_done");
    assert_eq!(ending(&row, SyncContact), "skipped: duplicate");
    assert_eq!(pipeline.people().await.len(), 1);
}

#[tokio::test]
async fn a_look_up_that_fails_is_tried_again_and_never_followed_by_a_blind_post() {
    for endpoint in [Endpoint::FindConversation, Endpoint::FindContactPhones] {
        let pipeline = TestPipeline::start().await;
        let person = someone();
        pipeline.sandbox.add_contact(ACCOUNT, &person.contact_name, &person.phone);
        pipeline.sandbox.fault(FaultRule::new(Fault::status(503)).on(endpoint).times(3));

        let id = pipeline.send_sample(CREATED, &person).await;
        pipeline.quiet().await;

        assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "skipped: already_done", "{endpoint:?}");
        assert_eq!(pipeline.asked(Endpoint::CreateContact), [], "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_refusal_because_the_phone_is_taken_means_that_the_contact_is_there() {
    let pipeline = TestPipeline::with(|setup| setup.sandbox.unique_phones = true).await;
    let person = someone();
    // The look-up misses the contact once, like a search index that lags behind.
    let missed = Fault::Status { status: 404, headers: Vec::new(), body: None };
    pipeline.sandbox.fault(FaultRule::new(missed).on(Endpoint::FindConversation).times(1));
    let empty = r#"{"@type":"hydra:Collection","members":[],"totalItems":0}"#.to_owned();
    let empty = Fault::Status { status: 200, headers: Vec::new(), body: Some(empty) };
    pipeline.sandbox.fault(FaultRule::new(empty).on(Endpoint::FindContactPhones).times(1));
    pipeline.sandbox.add_contact(ACCOUNT, &person.contact_name, &person.phone);

    let id = pipeline.send_sample(CREATED, &person).await;
    pipeline.quiet().await;

    assert_eq!(pipeline.asked(Endpoint::CreateContact).len(), 1);
    assert_eq!(pipeline.effects(EffectKind::ContactCreated), []);
    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "skipped: already_done");
}

#[tokio::test]
async fn a_contact_that_the_event_only_links_to_is_fetched() {
    for related in [Related::Embedded, Related::Links] {
        let pipeline = TestPipeline::with(|Setup { settings, sandbox }| {
            settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
            sandbox.related = related;
        })
        .await;
        let person = someone();
        let mut body = sample(CREATED, &person);
        pipeline.sandbox.learn(&body).unwrap();
        body["contact"] = body["contact"]["id"].clone();

        let id = pipeline.send(&body).await;
        pipeline.quiet().await;

        assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done", "{related:?}");
        assert_eq!(posts(&pipeline, SECOND, &person.phone), 1, "{related:?}");
        assert_eq!(pipeline.people().await.len(), 1, "{related:?}");
    }
}

/// Returns a created contact with these numbers.
pub(crate) fn with_numbers(person: &SampleFacts, numbers: &[&str]) -> Value {
    let mut body = sample(CREATED, person);
    let members: Vec<Value> = numbers.iter().map(|number| json!({"phoneNumber": number, "type": "Mobile"})).collect();
    body["contact"]["phones"] = json!({"members": members, "totalItems": members.len()});
    body
}

#[tokio::test]
async fn numbers_with_an_extension_are_posted_like_the_others() {
    let pipeline = TestPipeline::start().await;

    let id = pipeline.send(&with_numbers(&someone(), &["(303) 555-0160 ext. 12", "(303) 555-0161"])).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done");
    // The echo shows what was posted.
    let [echo] = pipeline.echoes(&[&id]).try_into().expect("one POST");
    let Payload::Here(echo) = pipeline.store.event_payload(&echo).await.unwrap() else { panic!("the echo is kept") };
    let echo: Value = serde_json::from_slice(&echo.body).unwrap();
    let members = echo["contact"]["phones"]["members"].as_array().unwrap();
    let numbers: Vec<_> = members.iter().map(|phone| phone["phoneNumber"].clone()).collect();
    assert_eq!(numbers, ["+13035550160", "+13035550161"]);
    assert_eq!(pipeline.people().await[0].phones, ["+13035550160", "+13035550161"]);
}

#[tokio::test]
async fn a_contact_that_the_account_has_under_its_second_number_is_found_and_not_posted() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
    })
    .await;
    let person = someone();
    pipeline.sandbox.add_contact(SECOND, &person.contact_name, &person.phone);

    let id = pipeline.send(&with_numbers(&person, &["(303) 555-0160", &person.phone])).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "skipped: already_done");
    assert_eq!(pipeline.effects(EffectKind::ContactCreated), []);
}

#[tokio::test]
async fn contacts_that_share_numbers_in_any_order_at_once_make_one_post() {
    let pipeline = TestPipeline::with(|Setup { settings, sandbox }| {
        settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
        // Long enough for all of them to run at the same time.
        sandbox.latency = Duration::from_millis(60);
    })
    .await;
    let numbers = ["+13035550160", "+13035550161", "+13035550162"];
    let bodies: Vec<Value> = (0..9)
        .map(|i| {
            let mut order = numbers;
            order.rotate_left(i % 3);
            with_numbers(&someone(), &order)
        })
        .collect();

    join_all(bodies.iter().map(|body| pipeline.send(body))).await;
    pipeline.quiet().await;

    assert_eq!(pipeline.effects(EffectKind::ContactCreated).len(), 1);
}

#[tokio::test]
async fn a_contact_that_shares_any_number_with_a_post_in_doubt_waits_for_its_outcome() {
    let timeout = Duration::from_secs(2);
    let pipeline = TestPipeline::with(|Setup { settings, .. }| {
        settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
        settings.textus.timeout = timeout;
    })
    .await;
    // After the client has stopped waiting, and before the outcome counts as settled.
    let late = Fault::LateEffect(timeout + timeout / 2);
    pipeline.sandbox.fault(FaultRule::new(late).on(Endpoint::CreateContact).times(1));
    let numbers = ["+13035550160", "+13035550161"];

    let first = pipeline.send(&with_numbers(&someone(), &numbers)).await;
    eventually("the POST is under way", async || !pipeline.asked(Endpoint::CreateContact).is_empty()).await;
    let second = pipeline.send(&with_numbers(&someone(), &numbers[1..])).await;
    eventually("it is carried out", async || pipeline.asked(Endpoint::CreateContact)[0].effect).await;
    pipeline.quiet().await;

    assert_eq!(pipeline.effects(EffectKind::ContactCreated).len(), 1);
    // The first to look finds the contact, which may be the echo or the other contact's event.
    let end = ending(&pipeline.settled(&first).await, CreateContact);
    assert!(["done", "skipped: already_done"].contains(&end.as_str()), "{end}");
    assert_eq!(ending(&pipeline.settled(&second).await, CreateContact), "skipped: already_done");
}

#[tokio::test]
async fn look_ups_that_outlast_the_locks_make_no_second_contact() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.create_contact.accounts = vec![SECOND.to_owned()];
    })
    .await;
    // Together, the look-ups take longer than the locks last (three time-outs and five seconds). Each takes less than a
    // time-out.
    let numbers: Vec<String> = (60..70).map(|n| format!("+130355501{n}")).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    for endpoint in [Endpoint::FindConversation, Endpoint::FindContactPhones] {
        pipeline.sandbox.fault(FaultRule::new(Fault::Delay(CALL_TIMEOUT * 5 / 7)).on(endpoint));
    }

    let first = pipeline.send(&with_numbers(&someone(), &numbers)).await;
    // Continue once the first event has looked up the number that both have.
    let looked = |number: &str| {
        let asked = pipeline.asked(Endpoint::FindContactPhones);
        asked.iter().any(|request| request.phone.as_deref() == Some(number))
    };
    eventually("the shared number is looked up", async || looked(numbers[1])).await;
    let second = pipeline.send(&with_numbers(&someone(), &numbers[1..2])).await;
    pipeline.quiet().await;

    assert_eq!(pipeline.effects(EffectKind::ContactCreated).len(), 1);
    assert_eq!(ending(&pipeline.settled(&first).await, CreateContact), "done");
    assert_eq!(ending(&pipeline.settled(&second).await, CreateContact), "skipped: already_done");
}

#[tokio::test]
async fn a_later_event_of_a_contact_adds_the_numbers_that_are_new_and_makes_nothing_else() {
    let pipeline = TestPipeline::start().await;
    let person = someone();
    pipeline.send(&with_numbers(&person, &["(303) 555-0160", "(303) 555-0161"])).await;
    pipeline.quiet().await;

    for (numbers, expected, end) in [
        (vec!["(303) 555-0161"], vec!["+13035550160", "+13035550161"], "skipped: duplicate"),
        (vec!["(303) 555-0162"], vec!["+13035550162", "+13035550160", "+13035550161"], "done"),
        (vec!["(303) 555-0162"], vec!["+13035550162", "+13035550160", "+13035550161"], "skipped: duplicate"),
    ] {
        let id = pipeline.send(&with_numbers(&person, &numbers)).await;
        pipeline.quiet().await;
        assert_eq!(ending(&pipeline.settled(&id).await, SyncContact), end, "{numbers:?}");
        let people = pipeline.people().await;
        assert_eq!(people.iter().map(|person| person.phones.clone()).collect::<Vec<_>>(), [expected], "{numbers:?}");
    }
}

#[tokio::test]
async fn a_number_that_cannot_be_read_is_left_out_and_alone_makes_a_dead_letter() {
    let pipeline = TestPipeline::start().await;

    let id = pipeline.send(&with_numbers(&someone(), &["ask Anna", "(303) 555-0161"])).await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&id).await, CreateContact), "done");
    assert_eq!(posts(&pipeline, ACCOUNT, "+13035550161"), 1);

    let alone = pipeline.send(&with_numbers(&someone(), &["ask Anna"])).await;
    assert_eq!(ending(&pipeline.settled(&alone).await, CreateContact), "dead_lettered: unreadable");
    let detail = pipeline.dead_letter().await.info.detail;
    assert!(detail.contains("phone numbers") && !detail.contains("Anna"), "{detail}");
}
