//! How tokens end, and the list of versions, which needs none.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{Crm, code};
use crate::helpers::answer;

#[tokio::test]
async fn a_call_without_a_good_token_is_refused() {
    let crm = Crm::start().await;
    let limits = |token: &str| crm.bare(Method::GET, "/services/data/v67.0/limits").header("Authorization", token);

    let none = answer(crm.bare(Method::GET, "/services/data/v67.0/limits")).await;
    assert_eq!(code(&none), (401, "INVALID_SESSION_ID"));
    for token in ["Bearer another", "Bearer ", "Basic abc"] {
        assert_eq!(code(&answer(limits(token)).await), (401, "INVALID_SESSION_ID"), "{token}");
    }
    assert_eq!(crm.violations().len(), 3, "a token that isn't good any more is nobody's fault");
}

#[tokio::test]
async fn revoked_tokens_are_refused_until_there_is_a_new_one() {
    let crm = Crm::start().await;
    let second = crm.new_token().await;
    assert_eq!(crm.get("/limits").await.0, 200);

    crm.salesforce.revoke_token(&crm.token);
    let refused = crm.get("/limits").await;
    let other = answer(crm.bare(Method::GET, "/services/data/v67.0/limits").bearer_auth(&second)).await;

    assert_eq!(refused.1, json!([{ "message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID" }]));
    assert_eq!((refused.0, other.0), (401, 200));
    crm.salesforce.revoke_tokens();
    assert_eq!(answer(crm.bare(Method::GET, "/services/data/v67.0/limits").bearer_auth(&second)).await.0, 401);
    let third = crm.new_token().await;
    assert_eq!(answer(crm.bare(Method::GET, "/services/data/v67.0/limits").bearer_auth(&third)).await.0, 200);
    crm.assert_proper();
}

#[tokio::test]
async fn a_token_is_good_for_some_calls_or_some_time() {
    let crm = Crm::with(|options| options.token_calls = Some(2)).await;
    let statuses = [crm.get("/limits").await.0, crm.get("/limits").await.0, crm.get("/limits").await.0];
    assert_eq!(statuses, [200, 200, 401]);

    let crm = Crm::start().await;
    assert_eq!(crm.get("/limits").await.0, 200);
    crm.salesforce.configure(|options| options.token_lifetime = Some(Duration::ZERO));
    assert_eq!(crm.get("/limits").await.0, 401);
}

#[tokio::test]
async fn the_versions_are_listed_for_everybody_and_no_other_one_works() {
    let crm = Crm::with(|options| options.versions = vec!["66.0".to_owned(), "67.0".to_owned()]).await;

    for path in ["/services/data/", "/services/data"] {
        let (status, versions) = answer(crm.bare(Method::GET, path)).await;

        assert_eq!(status, 200);
        assert_eq!(
            versions,
            json!([
                { "label": "Spring '26", "url": "/services/data/v66.0", "version": "66.0" },
                { "label": "Summer '26", "url": "/services/data/v67.0", "version": "67.0" },
            ])
        );
    }
    for path in ["/services/data/v68.0/limits", "/services/data/v67/limits"] {
        assert_eq!(code(&answer(crm.bare(Method::GET, path).bearer_auth(&crm.token)).await), (404, "NOT_FOUND"));
    }
    let (status, resources) = crm.get("/").await;
    assert_eq!((status, &resources["query"]), (200, &json!("/services/data/v67.0/query")));
    crm.assert_proper();
}

#[tokio::test]
async fn the_instance_may_have_another_address() {
    let crm = Crm::start().await;
    let elsewhere = crm.salesforce.base_url().replace("127.0.0.1", "localhost");
    crm.salesforce.configure(|options| options.instance_url = Some(elsewhere.clone()));

    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "synthetic-client-id"),
        ("client_secret", "synthetic-client-secret"),
    ];
    assert_eq!(crm.post_form(&form).await.1["instance_url"], elsewhere);
    assert_eq!(answer(crm.bare(Method::GET, "/services/data/")).await.0, 200);
    crm.assert_proper();
    assert_eq!(crm.get("/limits").await.0, 200);
    assert_eq!(crm.violations().len(), 1);
}
