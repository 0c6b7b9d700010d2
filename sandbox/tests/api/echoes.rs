//! Writes are followed by the webhooks that TextUs would send about them.

use std::time::Instant;

use hookline_sandbox::{EchoTiming, Endpoint, Fault, FaultRule, samples};
use serde_json::json;

use crate::helpers::{ACCOUNT, Api, Receiver, SECRET, answer, eventually, fixture, shape};

#[tokio::test]
async fn a_put_is_echoed_signed_and_in_the_shape_of_the_fixture() {
    let (api, receiver) = (Api::start().await, Receiver::start(0).await);
    api.sandbox.set_webhook(receiver.target.clone());

    let (_, written) = api.put_opt_out("2025550147").await;

    eventually("the echo is counted", || api.sandbox.echoes_sent() == 1).await;
    let echo = receiver.received().remove(0);
    assert_eq!(echo.signature, samples::sign(SECRET, &echo.body));
    let echo = echo.json();
    assert_eq!(shape(&echo), shape(&fixture("contact.opted_out.json")));
    assert_eq!(echo["action"], "contact.opted_out");
    assert_eq!(echo["optOut"]["id"], written["id"]);
    assert_eq!(echo["optOut"]["phoneNumber"], "+12025550147");
    assert_eq!(echo["optOut"]["account"], format!("/accounts/{ACCOUNT}"));
}

#[tokio::test]
async fn a_repeated_put_is_echoed_again_as_another_delivery() {
    let (api, receiver) = (Api::start().await, Receiver::start(0).await);
    api.sandbox.set_webhook(receiver.target.clone());

    api.put_opt_out("2025550147").await;
    api.put_opt_out("2025550147").await;

    eventually("both echoes are there", || receiver.received().len() == 2).await;
    let ids: Vec<_> = receiver.received().iter().map(|echo| echo.json()["id"].clone()).collect();
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn a_created_contact_is_echoed_in_the_shape_of_the_fixture() {
    let (api, receiver) = (Api::start().await, Receiver::start(0).await);
    api.sandbox.set_webhook(receiver.target.clone());
    let body = json!({ "name": "Tobin Varnholt", "phones": [{ "number": "1-202-555-0147", "type": "Mobile" }] });

    let (_, contact) = answer(api.post(&format!("/{ACCOUNT}/contacts"), &body)).await;

    eventually("the echo is there", || !receiver.received().is_empty()).await;
    let echo = receiver.received().remove(0).json();
    assert_eq!(shape(&echo), shape(&fixture("contact.created.unverified.json")));
    assert_eq!(echo["contact"]["id"], contact["id"]);
}

#[tokio::test]
async fn an_echo_is_posted_until_it_is_accepted() {
    let (api, receiver) = (Api::start().await, Receiver::start(2).await);
    api.sandbox.set_webhook(receiver.target.clone());

    api.put_opt_out("2025550147").await;

    eventually("the echo is accepted", || api.sandbox.echoes_sent() == 1).await;
    let received = receiver.received();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|echo| echo.body == received[0].body), "a repeat is the same delivery");
    assert_eq!(api.sandbox.echo_counts().pending, 0);
}

#[tokio::test]
async fn an_echo_can_overtake_the_answer() {
    let (api, receiver) =
        (Api::with(|options| options.echo_timing = EchoTiming::BeforeAnswer).await, Receiver::start(0).await);
    api.sandbox.set_webhook(receiver.target.clone());

    api.put_opt_out("2025550147").await;
    let answered = Instant::now();

    assert_eq!(receiver.received().len(), 1);
    assert!(receiver.received()[0].at <= answered);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_echoed_all_the_same() {
    let (api, receiver) = (Api::start().await, Receiver::start(0).await);
    api.sandbox.set_webhook(receiver.target.clone());
    api.sandbox.fault(FaultRule::new(Fault::EffectThenReset).on(Endpoint::PutOptOut));

    api.request(reqwest::Method::PUT, &format!("/{ACCOUNT}/opt_outs/2025550147")).send().await.expect_err("no answer");

    eventually("the echo is there", || api.sandbox.echoes_sent() == 1).await;
}

#[tokio::test]
async fn no_echo_is_made_without_a_target_or_when_switched_off() {
    let (api, receiver) = (Api::start().await, Receiver::start(0).await);
    api.put_opt_out("2025550147").await;
    api.sandbox.set_webhook(receiver.target.clone());
    api.sandbox.configure(|options| options.echoes = false);
    api.put_opt_out("2025550147").await;
    assert_eq!(api.sandbox.echo_counts(), hookline_sandbox::EchoCounts::default());

    api.sandbox.configure(|options| options.echoes = true);
    api.put_opt_out("2025550147").await;
    eventually("the third is echoed", || api.sandbox.echoes_sent() == 1).await;
    assert_eq!(receiver.received().len(), 1);
}
