//! The daily allocation, and what each answer tells of it.

use reqwest::{Method, Response};
use serde_json::json;

use super::{Crm, code};
use crate::helpers::answer;

async fn get(crm: &Crm) -> Response {
    crm.request(Method::GET, "/sobjects/Task/00T5e0000000001EAA").send().await.expect("an answer")
}

fn usage(answer: &Response) -> Option<&str> {
    answer.headers().get("Sforce-Limit-Info").and_then(|value| value.to_str().ok())
}

#[tokio::test]
async fn each_answer_tells_the_usage() {
    let crm = Crm::with(|options| options.daily_limit = 5_000).await;

    assert_eq!(usage(&get(&crm).await), Some("api-usage=1/5000"));
    assert_eq!(usage(&get(&crm).await), Some("api-usage=2/5000"));
    let (_, limits) = crm.get("/limits").await;
    assert_eq!(limits["DailyApiRequests"], json!({ "Max": 5_000, "Remaining": 4_997 }));

    let versions = crm.bare(Method::GET, "/services/data/").send().await.expect("an answer");
    assert_eq!(usage(&versions), None);
    crm.new_token().await;
    let refused = crm.bare(Method::GET, "/services/data/v67.0/limits").bearer_auth("another").send().await;
    assert_eq!(usage(&refused.expect("an answer")), None);
    assert_eq!(crm.salesforce.daily_usage(), 3, "tokens and refused sessions don't count");
}

#[tokio::test]
async fn the_end_of_the_allocation_refuses_every_call() {
    let crm = Crm::with(|options| options.daily_limit = 5_000).await;
    crm.salesforce.set_daily_usage(4_999);
    assert_eq!(usage(&get(&crm).await), Some("api-usage=5000/5000"));

    let refused = get(&crm).await;
    assert_eq!(usage(&refused), Some("api-usage=5000/5000"));
    assert!(refused.headers().get("Retry-After").is_none());
    assert_eq!(code(&crm.get("/limits").await), (403, "REQUEST_LIMIT_EXCEEDED"));
    assert_eq!(code(&crm.upsert("k", json!({})).await), (403, "REQUEST_LIMIT_EXCEEDED"));
    assert!(crm.salesforce.tasks().is_empty());
    assert_eq!(answer(crm.bare(Method::GET, "/services/data/")).await.0, 200);

    crm.salesforce.set_daily_usage(0);
    assert_eq!(crm.upsert("k", json!({})).await.0, 201);
}
