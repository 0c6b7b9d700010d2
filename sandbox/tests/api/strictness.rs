//! Requests that don't follow the documentation are refused, and recorded as violations.

use hookline_sandbox::EffectKind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{ACCOUNT, Api, MEDIA_TYPE, answer, fixture};

fn last_violation(api: &Api) -> String {
    api.sandbox.violations().last().map(|violation| violation.what.clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_missing_or_wrong_token_is_401_without_a_body() {
    let api = Api::start().await;
    let path = format!("/{ACCOUNT}/contacts");
    for request in [
        api.bare(Method::GET, &path).header("Accept", MEDIA_TYPE),
        api.bare(Method::GET, &path).header("Accept", MEDIA_TYPE).bearer_auth("another-token"),
        api.bare(Method::GET, &path).header("Accept", MEDIA_TYPE).header("Authorization", "Basic synthetic-token"),
        api.bare(Method::GET, "/no/such/path/at/all"),
    ] {
        assert_eq!(answer(request).await, (401, fixture("error.401.response.json")["response"]["body"].clone()));
    }

    api.sandbox.configure(|options| "another-token".clone_into(&mut options.token));
    let rotated = api.bare(Method::GET, &path).header("Accept", MEDIA_TYPE).bearer_auth("another-token");
    assert_eq!(answer(rotated).await.0, 200);
    assert!(api.sandbox.violations().is_empty(), "a token can be wrong without a fault in the client");
}

#[tokio::test]
async fn wrong_media_types_are_refused_and_recorded() {
    let api = Api::start().await;
    let path = format!("/{ACCOUNT}/contacts");

    let accept = api.bare(Method::GET, &path).bearer_auth("synthetic-token").header("Accept", "application/json");
    assert_eq!(answer(accept).await.0, 406);
    assert_eq!(last_violation(&api), "Accept must be application/vnd.textus+jsonld");

    let content = api.request(Method::POST, &path).header("Content-Type", "application/json").body("{}");
    assert_eq!(answer(content).await.0, 415);
    let none = api.request(Method::POST, &path).body("{}");
    assert_eq!(answer(none).await.0, 415);
    assert_eq!(api.sandbox.violations().len(), 3);
    assert!(api.sandbox.effects().is_empty());
}

#[tokio::test]
async fn unknown_paths_and_accounts_are_404_and_wrong_methods_405() {
    let api = Api::start().await;

    assert_eq!(api.get("/elsewhere/contacts").await.0, 404);
    assert_eq!(api.get(&format!("/{ACCOUNT}/opt_outs/2025550199")).await, (404, Value::Null));
    assert!(api.sandbox.violations().is_empty(), "what is absent may be asked for");

    assert_eq!(api.get("/v2/messages").await.0, 404);
    assert_eq!(last_violation(&api), "there is no such path");
    let answer = api.request(Method::DELETE, &format!("/{ACCOUNT}/opt_outs/2025550147")).send().await.expect("sent");
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["Allow"], "GET, PUT");
}

#[tokio::test]
async fn opt_out_paths_name_a_number_in_one_of_two_forms() {
    let api = Api::start().await;
    let put = async |phone: &str| answer(api.request(Method::PUT, &format!("/{ACCOUNT}/opt_outs/{phone}"))).await.0;

    for (phone, e164) in [
        ("6561234567", "+16561234567"),
        ("%2B6561234567", "+6561234567"),
        ("%2b4520123456", "+4520123456"),
        ("%2B12025550147", "+12025550147"),
    ] {
        assert_eq!(put(phone).await, 201, "{phone}");
        assert_eq!(api.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, e164), 1, "{phone}");
    }

    for digits in ["12025550147", "202555014", "20255501470", "442079460958", "4520123"] {
        assert_eq!(put(digits).await, 404, "{digits}");
    }
    assert!(api.sandbox.violations().is_empty(), "nobody documents the form of a number from abroad");
    for other in ["202-555-0147", "+12025550147", "2025%3550147", "%2B1202555014", "%2B02025550147", "81204x"] {
        assert_eq!(put(other).await, 404, "{other}");
    }
    assert_eq!(api.sandbox.violations().len(), 6);
    assert_eq!(api.sandbox.effects().len(), 4);
}

#[tokio::test]
async fn an_opt_out_is_one_record_under_both_forms_of_its_number() {
    let api = Api::start().await;

    for asked in ["2025550147", "%2B12025550147"] {
        let (_, put) = api.put_opt_out(asked).await;
        let (status, got) = api.get(&format!("/{ACCOUNT}/opt_outs/{asked}")).await;
        let id = format!("/{ACCOUNT}/opt_outs/{}", asked.replace("%2B", "+"));
        assert_eq!((status, &put["id"], &got["id"]), (200, &json!(id), &json!(id)));
        assert_eq!(got["formattedPhoneNumber"], "2025550147");
    }
    let (_, abroad) = api.put_opt_out("%2B6561234567").await;
    assert_eq!(abroad["formattedPhoneNumber"], "+6561234567");
    assert_eq!(api.get(&format!("/{ACCOUNT}/opt_outs/6561234567")).await.0, 404, "another person's");
    assert_eq!(api.get(&format!("/{ACCOUNT}/opt_outs")).await.1["totalItems"], 2);
}

#[tokio::test]
async fn conversation_paths_name_a_number_in_the_one_documented_form() {
    let api = Api::start().await;
    for phone in ["2025550147", "+12025550147", "12025550147", "%2B1202555014", "%2B02025550147"] {
        assert_eq!(api.get(&format!("/{ACCOUNT}/conversations/{phone}")).await.0, 422, "{phone}");
    }
    assert_eq!(api.sandbox.violations().len(), 5);

    assert_eq!(api.get(&format!("/{ACCOUNT}/conversations/%2b12025550147")).await.0, 404);
    assert_eq!(api.get(&format!("/{ACCOUNT}/opt_outs/%zz")).await.0, 400);
}

#[tokio::test]
async fn bodies_of_another_structure_are_400() {
    let api = Api::start().await;
    let path = format!("/{ACCOUNT}/contacts");
    for body in [
        json!([]),
        json!({}),
        json!({ "name": 7 }),
        json!({ "name": "A", "phones": "2025550147" }),
        json!({ "name": "A", "phones": ["2025550147"] }),
        json!({ "name": "A", "phones": [{ "number": "2025550147" }] }),
        json!({ "name": "A", "data": [] }),
        json!({ "name": "A", "phoneNumber": "2025550147" }),
    ] {
        assert_eq!(answer(api.post(&path, &body)).await.0, 400, "{body}");
    }
    let no_json = api.request(Method::POST, &path).header("Content-Type", MEDIA_TYPE).body("{");
    assert_eq!(answer(no_json).await.0, 400);
    let with_body = api.request(Method::PUT, &format!("/{ACCOUNT}/opt_outs/2025550147")).body("{}");
    assert_eq!(answer(with_body).await.0, 400);
    assert_eq!(api.sandbox.violations().len(), 10);
    assert!(api.sandbox.effects().is_empty());
}

#[tokio::test]
async fn an_unusable_number_is_422_and_no_violation() {
    let api = Api::start().await;
    let exchange = fixture("error.422.response.json");

    let request = api.post(&format!("/{ACCOUNT}/contacts"), &exchange["request"]["body"]);
    let answer = request.send().await.expect("sent");

    assert_eq!(answer.status(), 422);
    assert_eq!(answer.headers()["Content-Type"], "application/json");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body, exchange["response"]["body"]);
    assert!(api.sandbox.violations().is_empty());
}

#[tokio::test]
async fn a_repeated_phone_makes_a_second_contact_unless_told_otherwise() {
    let api = Api::start().await;
    let path = format!("/{ACCOUNT}/contacts");
    let body = json!({ "name": "Tobin Varnholt", "phones": [{ "number": "+12025550147", "type": "Mobile" }] });

    let (first, second) = (answer(api.post(&path, &body)).await, answer(api.post(&path, &body)).await);
    assert_eq!((first.0, second.0), (200, 200));
    assert_ne!(first.1["id"], second.1["id"]);

    api.sandbox.configure(|options| options.unique_phones = true);
    let refused = answer(api.post(&path, &body)).await;
    assert_eq!(refused, (422, json!({ "error": "Validation failed: Phone has already been taken" })));
    assert_eq!(api.sandbox.effect_count(EffectKind::ContactCreated, ACCOUNT, "+12025550147"), 2);
}
