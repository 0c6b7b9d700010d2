//! Faults of a part of the API, by path, number, account, share and count, and several at once.

use std::time::{Duration, Instant};

use hookline_sandbox::{Direction, Endpoint, Fault, FaultRule, Method};
use serde_json::json;

use crate::helpers::{ACCOUNT, Api, answer};

const SECOND: &str = "harbor_second";

async fn with_two_accounts() -> Api {
    Api::with(|options| options.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()]).await
}

async fn put(api: &Api, account: &str, phone: &str) -> u16 {
    answer(api.request(Method::PUT, &format!("/{account}/opt_outs/{phone}"))).await.0
}

#[tokio::test]
async fn a_pattern_picks_paths_and_a_method_narrows_it() {
    let api = with_two_accounts().await;
    api.sandbox.fault(FaultRule::new(Fault::status(500)).path("/*/opt_outs/*").method(Method::GET));
    api.sandbox.fault(FaultRule::new(Fault::status(423)).path("*/opt_outs/%2B*"));

    assert_eq!(put(&api, SECOND, "2025550147").await, 201);
    assert_eq!(put(&api, SECOND, "%2B6561234567").await, 423);
    assert_eq!(api.get(&format!("/{SECOND}/opt_outs/2025550147")).await.0, 500);
    assert_eq!(api.get(&format!("/{SECOND}/opt_outs/%2B6561234567")).await.0, 500, "the first rule decides");
    assert_eq!(api.get(&format!("/{SECOND}/opt_outs")).await.0, 200);
}

#[tokio::test]
async fn a_number_is_found_in_whatever_form_it_is_named() {
    let api = Api::start().await;
    let text = api.sandbox.add_message(ACCOUNT, "+12025550147", Direction::In, "Hi");
    let contact = api.sandbox.add_contact_with_phones(ACCOUNT, "Ilse Quillon", &["+12025550199", "+12025550147"]);
    api.sandbox.fault(FaultRule::new(Fault::status(503)).phone("+12025550147"));

    assert_eq!(put(&api, ACCOUNT, "2025550147").await, 503);
    assert_eq!(put(&api, ACCOUNT, "%2B12025550147").await, 503);
    for path in [
        format!("/{ACCOUNT}/conversations/%2B12025550147"),
        format!("/{ACCOUNT}/contact_phones?q=2025550147"),
        format!("/{ACCOUNT}/opt_outs?exact[]=2025550147"),
        text.message,
        text.conversation,
        contact,
    ] {
        assert_eq!(api.get(&path).await.0, 503, "{path}");
    }
    let body = json!({ "name": "A", "phones": [{ "number": "(202) 555-0147", "type": "Work" }] });
    assert_eq!(answer(api.post(&format!("/{ACCOUNT}/contacts"), &body)).await.0, 503);

    assert_eq!(put(&api, ACCOUNT, "2025550148").await, 201);
    assert_eq!(api.get(&format!("/{ACCOUNT}/contact_phones?q=2025550148")).await.0, 200);
}

#[tokio::test]
async fn numbers_with_the_same_digits_are_two() {
    let api = Api::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(421)).phone("+6561234567"));

    assert_eq!(put(&api, ACCOUNT, "6561234567").await, 201);
    assert_eq!(put(&api, ACCOUNT, "%2B6561234567").await, 421);
}

#[tokio::test]
async fn an_account_is_found_by_path_and_by_what_belongs_to_it() {
    let api = with_two_accounts().await;
    let of_first = api.sandbox.add_message(ACCOUNT, "+12025550147", Direction::In, "Hi");
    let of_second = api.sandbox.add_message(SECOND, "+12025550147", Direction::In, "Hi");
    api.sandbox.fault(FaultRule::new(Fault::status(422)).account(SECOND));

    assert_eq!((put(&api, ACCOUNT, "2025550147").await, put(&api, SECOND, "2025550147").await), (201, 422));
    assert_eq!((api.get(&of_first.message).await.0, api.get(&of_second.message).await.0), (200, 422));
}

#[tokio::test]
async fn calls_are_counted_from_one_to_another() {
    let api = Api::start().await;
    api.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).calls(2..=3));

    let mut statuses = Vec::new();
    for _ in 0..5 {
        api.get(&format!("/{ACCOUNT}/contacts")).await;
        statuses.push(put(&api, ACCOUNT, "2025550147").await);
    }
    assert_eq!(statuses, [201, 503, 503, 201, 201]);
}

#[tokio::test]
async fn a_share_of_calls_is_the_same_for_the_same_seed() {
    let statuses = async |seed| {
        let api = Api::start().await;
        api.sandbox.fault(FaultRule::new(Fault::status(503)).share(0.4, seed));
        let mut statuses = Vec::new();
        for _ in 0..60 {
            statuses.push(put(&api, ACCOUNT, "2025550147").await);
        }
        statuses
    };
    let first = statuses(11).await;

    assert_eq!(first, statuses(11).await);
    assert_ne!(first, statuses(12).await);
    let failed = first.iter().filter(|status| **status == 503).count();
    assert!((10..40).contains(&failed), "{failed} of 60");
}

#[tokio::test]
async fn delays_and_compression_come_besides_another_fault() {
    let api = Api::start().await;
    let pause = Duration::from_millis(150);
    api.sandbox.fault(FaultRule::new(Fault::Delay(pause)));
    api.sandbox.fault(FaultRule::new(Fault::status(503)).times(1));
    api.sandbox.fault(FaultRule::new(Fault::status(500)).times(1));
    api.sandbox.fault(FaultRule::new(Fault::Delay(pause)).on(Endpoint::PutOptOut));

    for expected in [503, 500, 201] {
        let started = Instant::now();
        assert_eq!(put(&api, ACCOUNT, "2025550147").await, expected);
        assert!(started.elapsed() >= 2 * pause, "both delays, and one status of those that match");
    }
    assert_eq!(api.sandbox.effects().len(), 1);
}

#[tokio::test]
async fn one_rule_can_be_taken_away() {
    let api = Api::start().await;
    let first = api.sandbox.fault(FaultRule::new(Fault::status(503)));
    api.sandbox.fault(FaultRule::new(Fault::status(500)));

    assert_eq!(put(&api, ACCOUNT, "2025550147").await, 503);
    api.sandbox.remove_fault(first);
    api.sandbox.remove_fault(first);
    assert_eq!(put(&api, ACCOUNT, "2025550147").await, 500);
}
