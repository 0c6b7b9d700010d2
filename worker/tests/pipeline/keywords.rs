//! A text that consists only of a stop word is an opt-out. One that asks for texts again changes no state.

use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::names::HandlerName::{FlagOptOut, LogNote, RecordOptOut};
use hookline_common::secret::Secret;
use hookline_common::settings::MessageLookup;
use hookline_common::testing::nodes::RabbitNode;
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};
use hookline_store::model::LedgerKind::{PutAnswered, PutSent, Received, Skipped};
use serde_json::{Value, json};

use crate::helpers::{ACCOUNT, SECOND, TestPipeline, ending, eventually, now, someone};

const OUT: &str = "contact.opted_out";
const IN: &str = "contact.opted_in";

/// Starts a pipeline without look-ups, so that only opt-out calls are made.
async fn pipeline(rabbit: bool) -> TestPipeline {
    let url = if rabbit { Some(RabbitNode::shared().await.vhost().await) } else { None };
    TestPipeline::with(|setup| {
        setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
        setup.settings.handlers.record_opt_out.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()];
        setup.sandbox.echoes = false;
        setup.settings.broker.url = url.into_iter().map(Secret::new).collect();
    })
    .await
}

fn text(person: &SampleFacts, body: &str) -> Value {
    sample("message.received", &SampleFacts { body: body.to_owned(), ..person.clone() })
}

fn moved(person: &SampleFacts, seconds: i64) -> SampleFacts {
    let at = person.timestamp + jiff::SignedDuration::from_secs(seconds);
    SampleFacts { timestamp: at, ..person.clone() }
}

fn puts(pipeline: &TestPipeline, person: &SampleFacts) -> [usize; 2] {
    [ACCOUNT, SECOND].map(|account| pipeline.sandbox.effect_count(EffectKind::OptOutPut, account, &person.phone))
}

async fn end(pipeline: &TestPipeline, id: &EventId) -> String {
    ending(&pipeline.settled(id).await, RecordOptOut)
}

async fn is_opted_out(pipeline: &TestPipeline) -> bool {
    pipeline.store.opt_outs(10, None).await.expect("the store answers").rows.iter().any(|row| row.opted_out)
}

#[tokio::test]
async fn a_stop_word_alone_is_put_flagged_and_noted_on_both_brokers() {
    for rabbit in [false, true] {
        let pipeline = pipeline(rabbit).await;
        let person = someone();
        let hello = pipeline.send(&text(&person, "I stop by at noon")).await;
        pipeline.quiet().await;

        let stop = pipeline.send(&text(&person, " Stop. ")).await;
        pipeline.quiet().await;

        let row = pipeline.settled(&stop).await;
        assert_eq!(row.event_type.as_str(), "message.received");
        let ends = [RecordOptOut, FlagOptOut, LogNote].map(|handler| ending(&row, handler));
        assert_eq!(ends, ["done", "done", "done"], "rabbit: {rabbit}");
        assert_eq!(puts(&pipeline, &person), [1, 1]);
        assert!(pipeline.flags().await.iter().all(|flag| flag.opted_out && flag.phone == person.phone));
        let hello = pipeline.settled(&hello).await;
        assert_eq!(hello.deliveries.len(), 2, "a note and the history: {hello:?}");

        let evidence = pipeline.evidence(&person.phone).await;
        let kinds: Vec<_> = evidence.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Received, PutSent, PutAnswered, PutSent, PutAnswered]);
        assert_eq!(evidence[0].method.as_deref(), Some("keyword"));
        assert_eq!(evidence[0].account, ACCOUNT);
        assert_eq!(pipeline.store.verify(None).await.expect("asked").broken, None);
    }
}

#[tokio::test]
async fn a_stop_word_and_the_opt_out_that_textus_makes_of_it_are_put_once_in_either_order_and_at_once() {
    for order in 0..3 {
        let pipeline = pipeline(false).await;
        let person = someone();
        let opted_out = sample(OUT, &moved(&person, 1));
        let said = text(&person, "STOP");

        let (word, event) = match order {
            0 => {
                let word = pipeline.send(&said).await;
                pipeline.quiet().await;
                (word, pipeline.send(&opted_out).await)
            }
            1 => {
                let event = pipeline.send(&opted_out).await;
                pipeline.quiet().await;
                (pipeline.send(&said).await, event)
            }
            _ => tokio::join!(pipeline.send(&said), pipeline.send(&opted_out)),
        };
        pipeline.quiet().await;

        assert_eq!(puts(&pipeline, &person), [1, 1], "order {order}");
        let ends = [end(&pipeline, &word).await, end(&pipeline, &event).await];
        match order {
            0 => assert_eq!(ends, ["done", "skipped: echo"]),
            1 => assert_eq!(ends, ["skipped: already_done", "done"]),
            _ => assert!(ends.iter().any(|end| end == "done"), "{ends:?}"),
        }
        let evidence = pipeline.evidence(&person.phone).await;
        let mut received: Vec<_> = evidence.iter().filter(|entry| entry.kind == Received).collect();
        received.sort_by_key(|entry| entry.method.clone());
        let methods: Vec<_> = received.iter().map(|entry| entry.method.as_deref()).collect();
        assert_eq!(methods, [Some("keyword"), Some("webhook")], "both are in the ledger: order {order}");
    }
}

#[tokio::test]
async fn whoever_is_left_makes_the_put_that_failed() {
    let pipeline = pipeline(false).await;
    let person = someone();
    pipeline.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).times(3));

    let word = pipeline.send(&text(&person, "STOP")).await;
    let event = pipeline.send(&sample(OUT, &moved(&person, 1))).await;
    pipeline.quiet().await;

    assert_eq!(puts(&pipeline, &person), [1, 1]);
    for id in [word, event] {
        let end = end(&pipeline, &id).await;
        assert!(["done", "skipped: echo", "skipped: already_done"].contains(&end.as_str()), "{end}");
    }
}

#[tokio::test]
async fn start_changes_no_state_and_lets_the_next_stop_be_put_again() {
    let pipeline = pipeline(false).await;
    let person = moved(&someone(), -60);

    let first = pipeline.send(&text(&person, "stop")).await;
    pipeline.quiet().await;
    let repeat = pipeline.send(&text(&moved(&person, 1), "stop")).await;
    pipeline.quiet().await;
    assert_eq!((puts(&pipeline, &person), end(&pipeline, &repeat).await.as_str()), ([1, 1], "skipped: already_done"));

    let start = pipeline.send(&text(&moved(&person, 10), "Start!")).await;
    pipeline.quiet().await;
    let row = pipeline.settled(&start).await;
    let ends = [RecordOptOut, FlagOptOut, LogNote].map(|handler| ending(&row, handler));
    assert_eq!(ends, ["skipped: no_action", "skipped: no_action", "done"]);
    assert!(is_opted_out(&pipeline).await, "no API opts a person in");
    assert!(pipeline.flags().await.iter().all(|flag| flag.opted_out));
    let evidence = pipeline.evidence(&person.phone).await;
    let last = evidence.last().expect("an entry");
    assert_eq!(
        (last.kind, last.reason.as_deref(), last.method.as_deref()),
        (Skipped, Some("no_action"), Some("keyword"))
    );
    assert_eq!(puts(&pipeline, &person), [1, 1]);

    let older = pipeline.send(&text(&moved(&person, 5), "STOP")).await;
    pipeline.quiet().await;
    assert_eq!((puts(&pipeline, &person), end(&pipeline, &older).await.as_str()), ([1, 1], "skipped: stale"));
    // TextUs's opt-out for the first text comes late, after the person has asked for texts again.
    let late = pipeline.send(&sample(OUT, &moved(&person, 2))).await;
    pipeline.quiet().await;
    assert_eq!((puts(&pipeline, &person), end(&pipeline, &late).await.as_str()), ([1, 1], "skipped: echo"));

    let newer = pipeline.send(&text(&moved(&person, 20), "STOP")).await;
    pipeline.quiet().await;
    assert_eq!((puts(&pipeline, &person), end(&pipeline, &newer).await.as_str()), ([2, 2], "done"));
    assert_eq!(end(&pipeline, &first).await, "done");
}

#[tokio::test]
async fn an_opt_out_after_start_is_put_again_however_it_is_told() {
    for word in ["START", "yes", "Unstop."] {
        let pipeline = pipeline(false).await;
        let person = moved(&someone(), -60);
        pipeline.send(&sample(OUT, &person)).await;
        pipeline.quiet().await;
        pipeline.send(&text(&moved(&person, 5), word)).await;
        pipeline.quiet().await;

        let again = pipeline.send(&sample(OUT, &moved(&person, 10))).await;
        pipeline.quiet().await;

        assert_eq!((puts(&pipeline, &person), end(&pipeline, &again).await.as_str()), ([2, 2], "done"), "{word}");
    }
}

#[tokio::test]
async fn an_opt_out_that_overtook_start_or_an_opt_in_is_put_again_on_both_brokers() {
    for rabbit in [false, true] {
        for second_is_a_text in [false, true] {
            for start_is_a_text in [false, true] {
                let pipeline = pipeline(rabbit).await;
                let person = moved(&someone(), -60);
                let start = moved(&person, 10);
                let start = if start_is_a_text { text(&start, "START") } else { sample(IN, &start) };
                let second = moved(&person, 20);
                let second = if second_is_a_text { text(&second, "STOP") } else { sample(OUT, &second) };
                pipeline.send(&text(&person, "STOP")).await;
                pipeline.quiet().await;
                let second = pipeline.send(&second).await;
                pipeline.quiet().await;
                assert_eq!(puts(&pipeline, &person), [1, 1], "taken for the same fact");

                pipeline.send(&start).await;

                eventually("both accounts have the second opt-out", async || puts(&pipeline, &person) == [2, 2]).await;
                pipeline.quiet().await;
                assert_eq!((puts(&pipeline, &person), end(&pipeline, &second).await.as_str()), ([2, 2], "done"));
                assert!(is_opted_out(&pipeline).await);
                assert_eq!(pipeline.store.verify(None).await.expect("the store answers").broken, None);
            }
        }
    }
}

#[tokio::test]
async fn an_old_stop_word_that_comes_or_is_replayed_never_overrides_newer_news() {
    let pipeline = pipeline(false).await;
    let person = moved(&someone(), -60);
    let stop = text(&person, "STOP");
    pipeline.send(&stop).await;
    pipeline.quiet().await;
    pipeline.send(&sample(IN, &moved(&person, 10))).await;
    pipeline.quiet().await;

    let mut again = stop.clone();
    again["id"] = json!("/integrations/x/deliveries/another");
    let repeat = pipeline.send(&again).await;
    pipeline.quiet().await;
    let id = pipeline.send(&stop).await;
    let event = match pipeline.store.event_payload(&id).await.expect("asked") {
        hookline_store::model::Payload::Here(event) => event,
        gone @ (hookline_store::model::Payload::Unknown | hookline_store::model::Payload::Gone) => panic!("{gone:?}"),
    };
    assert!(event.event_type.keyword().is_some(), "the history keeps what it is");
    pipeline.broker.publish_again(RecordOptOut, &event, hookline_broker::Again::Replay).await.expect("stored");
    pipeline.quiet().await;

    assert_eq!((puts(&pipeline, &person), end(&pipeline, &repeat).await.as_str()), ([1, 1], "skipped: stale"));
    assert!(!is_opted_out(&pipeline).await);
}

#[tokio::test]
async fn a_stop_word_needs_a_number_and_nothing_else() {
    let pipeline = pipeline(false).await;
    let mut bare = text(&someone(), "STOP");
    let person = SampleFacts { phone: bare["conversation"]["phoneNumber"].as_str().unwrap().to_owned(), ..someone() };
    bare["message"] = json!({"body": "STOP", "id": 7});
    bare["conversation"] = json!({"phoneNumber": person.phone, "account": "/accounts/../x"});
    bare["timestamp"] = json!(["when"]);
    let bare = pipeline.send(&bare).await;
    let mut cut = text(&someone(), "STOP").to_string();
    cut.insert_str(1, "\"note\":\"\\ud83d\",");
    let cut = pipeline.send_bytes(&cut).await;
    let mut nobodys = Vec::new();
    for (sender, expected) in [
        (json!("72975"), "skipped: no_action"),
        (json!(72975), "skipped: no_action"),
        (json!("MYBANK"), "skipped: no_action"),
        (json!("442079460958"), "dead_lettered: unknown_contact"),
        // Ten digits without a plus, from any country.
        (json!(6_561_234_567_i64), "dead_lettered: unknown_contact"),
        (json!(""), "dead_lettered: unknown_contact"),
        (Value::Null, "dead_lettered: unknown_contact"),
    ] {
        let mut body = text(&someone(), "STOP");
        body["conversation"]["phoneNumber"] = sender.clone();
        nobodys.push((pipeline.send(&body).await, sender, expected));
    }
    pipeline.quiet().await;

    assert_eq!(puts(&pipeline, &person), [1, 1]);
    assert_eq!((end(&pipeline, &bare).await.as_str(), end(&pipeline, &cut).await.as_str()), ("done", "done"));
    for (id, sender, expected) in nobodys {
        assert_eq!(end(&pipeline, &id).await, expected, "{sender}");
    }
    assert_eq!(pipeline.effects(EffectKind::OptOutPut).len(), 4);
}

#[tokio::test]
async fn a_redriven_stop_word_is_still_one() {
    let pipeline = pipeline(false).await;
    let person = someone();
    pipeline.sandbox.fault(FaultRule::new(Fault::status(400)).on(Endpoint::PutOptOut).times(2));
    let id = pipeline.send(&text(&person, "STOP")).await;
    let dead = pipeline.dead_letter().await;
    assert_eq!(puts(&pipeline, &person), [0, 0]);

    pipeline.redrive(&dead.id).await;
    eventually("the PUTs", async || puts(&pipeline, &person) == [1, 1]).await;
    pipeline.quiet().await;

    assert_eq!(end(&pipeline, &id).await, "done");
}

#[tokio::test]
async fn what_is_unsent_counts_stop_words_and_no_start() {
    let pipeline = pipeline(false).await;
    pipeline.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut));
    let person = someone();
    let stop = pipeline.send(&text(&person, "STOP")).await;
    let start = pipeline.send(&text(&someone(), "START")).await;
    pipeline.settled(&start).await;
    eventually("a PUT that failed", async || !pipeline.asked(Endpoint::PutOptOut).is_empty()).await;

    let unsent = || async { pipeline.store.unsent(&[], Duration::ZERO, 10, None).await.expect("asked").rows };
    let found: Vec<_> = unsent().await.into_iter().map(|unsent| unsent.event_id).collect();
    assert_eq!(found, [stop]);

    pipeline.send(&text(&now(&person), "START")).await;
    eventually("an older stop word that is not to be sent", async || unsent().await.is_empty()).await;
}
