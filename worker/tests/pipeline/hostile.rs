//! Payloads that are signed and still can't be trusted: nothing in them steers a call.

use hookline_common::event::EventId;
use hookline_common::names::DeadReason;
use hookline_common::names::HandlerName::{CreateContact, LogNote, RecordHistory, RecordOptOut, SyncContact};
use hookline_common::secret::Secret;
use hookline_common::testing::nodes::RabbitNode;
use hookline_sandbox::samples::{SampleFacts, sample};
use serde_json::{Value, json};

use crate::helpers::{TestPipeline, ending, eventually, someone};

/// Ids that would lead a careless client to another resource.
const SLY: [&str; 12] = [
    "../../x",
    "..",
    ".",
    "a/b",
    "?x",
    "a?x=1",
    "a#b",
    "a\\b",
    "/contacts/../messages/x",
    "/contacts/",
    "",
    "a\r\nX-Evil: 1",
];

async fn all_unreadable(
    pipeline: &TestPipeline,
    ids: &[(EventId, String)],
    handlers: &[hookline_common::names::HandlerName],
) {
    pipeline.quiet().await;
    for (id, case) in ids {
        let row = pipeline.settled(id).await;
        for handler in handlers {
            assert_eq!(ending(&row, *handler), "dead_lettered: unreadable", "{handler} {case}");
        }
    }
    assert_eq!(pipeline.sandbox.requests(), [], "nothing was called");
    for dead in pipeline.dead_letters().await {
        assert!(!dead.info.detail.contains("Evil"), "{}", dead.info.detail);
    }
}

#[tokio::test]
async fn a_message_id_that_is_no_single_segment_is_unreadable_and_nothing_is_called() {
    let pipeline = TestPipeline::start().await;
    let mut ids = Vec::new();
    for sly in SLY {
        for id in [json!(sly), json!(format!("/messages/{sly}"))] {
            let mut body = sample("message.received", &someone());
            body["message"]["id"] = id.clone();
            ids.push((pipeline.send(&body).await, id.to_string()));
        }
    }

    all_unreadable(&pipeline, &ids, &[LogNote]).await;
}

#[tokio::test]
async fn a_contact_id_in_a_message_that_is_no_single_segment_is_unreadable_and_nothing_is_called() {
    let pipeline = TestPipeline::start().await;
    let mut ids = Vec::new();
    for sly in SLY.iter().filter(|sly| !sly.is_empty()) {
        let mut body = sample("message.received", &SampleFacts { embed_contact: true, ..someone() });
        body["conversation"]["assignedContact"] = json!(format!("/contacts/{sly}"));
        ids.push((pipeline.send(&body).await, format!("assigned {sly}")));
        let mut body = sample("message.received", &someone());
        body["conversation"]["account"] = json!(format!("/accounts/{sly}"));
        ids.push((pipeline.send(&body).await, format!("account {sly}")));
    }

    all_unreadable(&pipeline, &ids, &[LogNote]).await;
}

#[tokio::test]
async fn a_contact_id_that_is_no_single_segment_is_unreadable_and_nothing_is_called() {
    let pipeline = TestPipeline::start().await;
    let mut ids = Vec::new();
    for sly in SLY {
        let mut body = sample("contact.created", &someone());
        body["contact"]["id"] = json!(format!("/contacts/{sly}"));
        ids.push((pipeline.send(&body).await, sly.to_owned()));
        body["contact"] = json!(format!("/contacts/{sly}"));
        body["id"] = json!(format!("/integrations/x/deliveries/{}", ids.len()));
        ids.push((pipeline.send(&body).await, format!("link {sly}")));
    }

    all_unreadable(&pipeline, &ids, &[CreateContact, SyncContact]).await;
}

#[tokio::test]
async fn an_opt_out_of_what_is_no_phone_or_account_is_unreadable_and_nothing_is_called() {
    let pipeline = TestPipeline::start().await;
    let mut ids = Vec::new();
    let phones: [Value; 8] = [
        json!("../../x"),
        json!("+1202555014/../x"),
        json!("2025550147?x=1"),
        json!("hello"),
        json!(""),
        Value::Null,
        json!(2_025_550_147_u64),
        json!({"phone": "+12025550147"}),
    ];
    for phone in phones {
        let mut body = sample("contact.opted_out", &someone());
        body["optOut"]["phoneNumber"] = phone.clone();
        ids.push((pipeline.send(&body).await, phone.to_string()));
    }
    for account in ["/accounts/../x", "/accounts/a/b", "a?b"] {
        let mut body = sample("contact.opted_out", &someone());
        body["optOut"]["account"] = json!(account);
        ids.push((pipeline.send(&body).await, account.to_owned()));
    }

    all_unreadable(&pipeline, &ids, &[RecordOptOut]).await;
}

#[tokio::test]
async fn what_is_no_json_is_a_dead_letter_of_the_history_and_an_unknown_type_is_not() {
    for rabbit in [false, true] {
        let url = if rabbit { Some(RabbitNode::shared().await.vhost().await) } else { None };
        let pipeline =
            TestPipeline::with(|setup| setup.settings.broker.url = url.into_iter().map(Secret::new).collect()).await;
        let unknown = pipeline.send(&json!({"id": "/d/1", "action": "deal.won"})).await;
        let unparsed = pipeline.send_bytes("hello").await;
        pipeline.quiet().await;

        assert_eq!(ending(&pipeline.settled(&unknown).await, RecordHistory), "done", "{rabbit}");
        let row = pipeline.settled(&unparsed).await;
        assert_eq!(row.event_type.as_str(), "unparsed", "it is in the history all the same");
        assert_eq!((row.deliveries.len(), ending(&row, RecordHistory).as_str()), (1, "dead_lettered: unreadable"));
        let dead = pipeline.dead_letter().await;
        assert_eq!((dead.handler, dead.info.reason), (RecordHistory, DeadReason::Unreadable));
        assert!(dead.info.detail.contains("discard"), "{}", dead.info.detail);

        // Sending it again and redriving it change nothing: a person can only look at it.
        assert_eq!(pipeline.send_bytes("hello").await, unparsed);
        pipeline.redrive(&dead.id).await;
        eventually("it comes back", async || {
            pipeline.event(&unparsed).await.is_some_and(|row| ending(&row, RecordHistory) != "waiting")
        })
        .await;
        pipeline.quiet().await;
        let again = pipeline.dead_letter().await;
        assert_eq!((again.id.as_str(), again.event_id), (dead.id.as_str(), unparsed.clone()));

        assert!(pipeline.store.discard(&dead.id, "seen to").await.expect("asked"));
        assert_eq!(pipeline.send_bytes("hello").await, unparsed);
        let later = pipeline.send(&json!({"id": "/d/2", "action": "deal.won"})).await;
        pipeline.settled(&later).await;
        pipeline.quiet().await;
        assert_eq!(ending(&pipeline.settled(&unparsed).await, RecordHistory), "discarded: seen to");
    }
}

#[tokio::test]
async fn bodies_of_every_wrong_shape_are_settled_and_the_worker_goes_on() {
    let pipeline = TestPipeline::with(|setup| {
        // A message that is named correctly next to the damage is looked up in vain.
        setup.settings.handlers.log_note.not_found_grace = std::time::Duration::from_millis(50);
    })
    .await;
    let mut ids = Vec::new();
    for action in ["message.received", "contact.opted_out", "contact.created"] {
        for field in ["message", "conversation", "optOut", "contact"] {
            for wrong in
                [Value::Null, json!([]), json!(7), json!("text"), json!({}), json!({"id": [1]}), json!({"id": {}})]
            {
                let mut body = sample(action, &someone());
                if body.get(field).is_some() {
                    body[field] = wrong;
                    ids.push(pipeline.send(&body).await);
                }
            }
        }
    }
    // The worker is still alive and works correctly.
    let good = pipeline.send_known("message.received", &someone()).await;

    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&good).await, LogNote), "done");
    for id in ids {
        pipeline.settled(&id).await;
    }
}
