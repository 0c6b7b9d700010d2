//! The record of requests shows what was carried out, for whom, and what was answered.

use hookline_sandbox::{Direction, EffectKind, Fault, FaultRule, Method, RecordedRequest};
use jiff::Timestamp;
use serde_json::json;

use crate::helpers::{ACCOUNT, Api};

fn last(api: &Api) -> RecordedRequest {
    api.sandbox.requests().pop().expect("a request")
}

#[tokio::test]
async fn a_put_that_was_carried_out_and_answered_says_so() {
    let api = Api::start().await;
    let before = Timestamp::now();

    api.put_opt_out("%2B6561234567").await;

    let put = last(&api);
    assert_eq!((put.account.as_deref(), put.phone.as_deref()), (Some(ACCOUNT), Some("+6561234567")));
    assert_eq!((put.effect, put.status, put.genuine), (true, Some(201), true));
    assert!(before <= put.at && put.at <= put.answered_at.expect("an answer"));
    assert_eq!(api.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, "+6561234567"), 1);
}

#[tokio::test]
async fn what_a_fault_answered_is_not_the_apis_own() {
    let other = Fault::opt_out_of(ACCOUNT, "+12025550148");
    for (fault, effect, status, genuine) in [
        (Fault::maintenance_page(), false, Some(200), false),
        (other, false, Some(200), false),
        (Fault::status(201), false, Some(201), false),
        (Fault::EffectThenStatus(201), true, Some(201), false),
        (Fault::EffectThenReset, true, None, false),
        (Fault::Reset, false, None, false),
        (Fault::LoneSurrogate, true, Some(201), false),
        (Fault::Gzip, true, Some(201), false),
        (Fault::Interim(103), true, Some(201), true),
        (Fault::Slow(std::time::Duration::from_millis(1)), true, Some(201), true),
    ] {
        let api = Api::start().await;
        api.sandbox.fault(FaultRule::new(fault.clone()));

        let path = format!("/{ACCOUNT}/opt_outs/2025550147");
        let _ = api.request(Method::PUT, &path).send().await;

        let put = last(&api);
        assert_eq!((put.effect, put.status, put.genuine), (effect, status, genuine), "{fault:?}");
        assert_eq!(put.answered_at.is_some(), status.is_some(), "{fault:?}");
    }
}

#[tokio::test]
async fn reads_are_recorded_with_the_number_that_they_are_about() {
    let api = Api::start().await;
    let text = api.sandbox.add_message(ACCOUNT, "+442079460958", Direction::In, "Hi");
    for (path, phone) in [
        (text.message.clone(), Some("+442079460958")),
        (text.conversation.clone(), Some("+442079460958")),
        (format!("/{ACCOUNT}/conversations/%2B6561234567"), Some("+6561234567")),
        (format!("/{ACCOUNT}/contact_phones?q=6561234567"), Some("+16561234567")),
        (format!("/{ACCOUNT}/opt_outs?exact%5B%5D=442079460958"), Some("+442079460958")),
        (format!("/{ACCOUNT}/contact_phones?q=Marisol"), None),
        (format!("/{ACCOUNT}/contacts"), None),
    ] {
        api.get(&path).await;
        let read = last(&api);
        assert_eq!((read.account.as_deref(), read.phone.as_deref()), (Some(ACCOUNT), phone), "{path}");
        assert!(!read.effect && read.genuine, "{path}");
    }
}

#[tokio::test]
async fn a_request_that_a_rule_finds_by_its_body_is_recorded_once() {
    let api = Api::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(409)).phone("+12025550147"));
    let body = json!({ "name": "A", "phones": [{ "number": "1-202-555-0147", "type": "Mobile" }] });

    let answer = api.post(&format!("/{ACCOUNT}/contacts"), &body).send().await.expect("an answer");

    assert_eq!(answer.status(), 409);
    assert_eq!(api.sandbox.requests().len(), 1);
    assert!(api.sandbox.effects().is_empty());
}
