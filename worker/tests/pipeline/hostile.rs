//! Payloads that are signed and still not to be trusted: nothing in them steers a call.

use hookline_common::event::EventId;
use hookline_common::names::HandlerName::{CreateContact, LogNote, RecordOptOut, SyncContact};
use hookline_sandbox::samples::{SampleFacts, sample};
use serde_json::{Value, json};

use crate::helpers::{TestPipeline, ending, someone};

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
async fn bodies_of_every_wrong_shape_are_settled_and_the_worker_goes_on() {
    let pipeline = TestPipeline::with(|setup| {
        // A message that is named rightly beside the damage is asked for in vain.
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
    // Still alive, and right.
    let good = pipeline.send_known("message.received", &someone()).await;

    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&good).await, LogNote), "done");
    for id in ids {
        pipeline.settled(&id).await;
    }
}
