//! The three limits, and what an answer tells of them.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::Crm;

const LONG: Duration = Duration::from_secs(3_600);

async fn get(crm: &Crm) -> Response {
    crm.request(Method::GET, "/crm/v3/objects/contacts/1").send().await.expect("an answer")
}

async fn search(crm: &Crm) -> Response {
    let filter = json!({ "propertyName": "lastname", "operator": "EQ", "value": "Doe" });
    let body = json!({ "filterGroups": [{ "filters": [filter] }] });
    crm.request(Method::POST, "/crm/v3/objects/contacts/search").json(&body).send().await.expect("an answer")
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

async fn policy(answer: Response) -> Value {
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().get("Retry-After").is_none());
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!((&body["status"], &body["errorType"]), (&json!("error"), &json!("RATE_LIMIT")));
    body["policyName"].clone()
}

#[tokio::test]
async fn answers_tell_both_limits_and_searches_none() {
    let crm = Crm::start().await;

    let first = get(&crm).await;
    let found = search(&crm).await;
    let later = get(&crm).await;

    assert_eq!(header(&first, "X-HubSpot-RateLimit-Max"), Some("190"));
    assert_eq!(header(&first, "X-HubSpot-RateLimit-Remaining"), Some("189"));
    assert_eq!(header(&first, "X-HubSpot-RateLimit-Interval-Milliseconds"), Some("10000"));
    assert_eq!(header(&first, "X-HubSpot-RateLimit-Daily"), Some("625000"));
    assert_eq!(header(&later, "X-HubSpot-RateLimit-Daily-Remaining"), Some("624997"));
    assert_eq!(found.status(), 200);
    assert!(found.headers().keys().all(|name| !name.as_str().starts_with("x-hubspot-ratelimit")));
    crm.hubspot.configure(|options| options.daily_headers = false);
    assert_eq!(header(&get(&crm).await, "X-HubSpot-RateLimit-Daily"), None);
}

#[tokio::test]
async fn the_rolling_limit_refuses_until_requests_are_old_enough() {
    let crm = Crm::with(|options| options.rate_limit = (2, LONG)).await;
    get(&crm).await;
    get(&crm).await;

    let refused = get(&crm).await;

    assert_eq!(header(&refused, "X-HubSpot-RateLimit-Remaining"), Some("0"));
    assert_eq!(policy(refused).await, "TEN_SECONDLY_ROLLING");
    crm.hubspot.configure(|options| options.rate_limit = (2, Duration::ZERO));
    assert_eq!(get(&crm).await.status(), 404, "the others are over");
    let unknown = crm.bare(Method::GET, "/crm/v3/objects/contacts/1").send().await.expect("an answer");
    assert_eq!(unknown.status(), 401);
}

#[tokio::test]
async fn searches_have_a_limit_that_other_apps_share() {
    let crm = Crm::with(|options| options.search_limit = (5, LONG)).await;
    crm.hubspot.spend_searches(3);
    for _ in 0..2 {
        assert_eq!(search(&crm).await.status(), 200);
    }

    let refused = search(&crm).await;

    assert!(header(&refused, "X-HubSpot-RateLimit-Max").is_none());
    assert_eq!(policy(refused).await, "SECONDLY");
    assert_eq!(get(&crm).await.status(), 404, "other calls have their own limit");
    crm.hubspot.configure(|options| options.search_limit = (5, Duration::ZERO));
    assert_eq!(search(&crm).await.status(), 200);
}

#[tokio::test]
async fn the_daily_limit_refuses_until_midnight() {
    let crm = Crm::with(|options| options.daily_limit = 2).await;
    get(&crm).await;
    search(&crm).await;
    assert_eq!(policy(get(&crm).await).await, "DAILY");

    crm.hubspot.new_day();

    assert_eq!(get(&crm).await.status(), 404);
}
