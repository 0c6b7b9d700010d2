//! The Integrations API, and that only what is subscribed is sent.

use hookline_sandbox::{EffectKind, IntegrationUpdates};
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{ACCOUNT, Api, MEDIA_TYPE, Receiver, SECRET, answer, eventually};

fn path() -> String {
    format!("/{ACCOUNT}/integrations")
}

fn body(url: &str, settings: &Value) -> Value {
    json!({ "active": true, "provider": "webhook", "config": { "baseUrl": url }, "settings": settings })
}

async fn put(api: &Api, id: &str, body: &Value) -> (u16, Value) {
    let request = api.request(Method::PUT, id).header("Content-Type", MEDIA_TYPE).body(body.to_string());
    answer(request).await
}

#[tokio::test]
async fn one_is_made_with_a_secret_of_its_own_and_listed() {
    let api = Api::start().await;

    let (status, made) =
        answer(api.post(&path(), &body("https://hooks.example.com/webhooks/textus", &json!({})))).await;

    assert_eq!(status, 201);
    assert!(made["config"]["webhookSecret"].as_str().expect("a secret").starts_with("textus-"));
    assert_eq!(
        (&made["active"], &made["isHealthy"], &made["@type"]),
        (&json!(true), &json!(true), &json!("Integration"))
    );
    let (status, listed) = api.get(&path()).await;
    assert_eq!((status, &listed["members"], &listed["totalItems"]), (200, &json!([made]), &json!(1)));
    assert_eq!(api.sandbox.effect_count(EffectKind::IntegrationCreated, ACCOUNT, made["id"].as_str().unwrap()), 1);
}

#[tokio::test]
async fn what_a_correct_client_would_not_send_is_refused() {
    let api = Api::start().await;
    let good = body("https://hooks.example.com/webhooks/textus", &json!({}));
    let without = |key: &str| {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").remove(key);
        body
    };
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    for (body, status) in [
        (without("provider"), 400),
        (without("config"), 422),
        (with("provider", json!("slack")), 400),
        (with("config", json!({ "baseUrl": "http://hooks.example.com/" })), 422),
        (with("config", json!({ "baseUrl": "https://h.example.com/", "clientSecret": "[FILTERED]" })), 400),
        (with("settings", json!({ "actions": ["contact.opted_out"] })), 400),
        (with("settings", json!({ "actions": { "contact.renamed": true } })), 400),
        (with("settings", json!({ "actions": { "contact.opted_out": "yes" } })), 400),
        (with("name", json!("ours")), 400),
    ] {
        assert_eq!(answer(api.post(&path(), &body)).await.0, status, "{body}");
    }
    assert_eq!(answer(api.request(Method::POST, &path()).body(good.to_string())).await.0, 415);
    assert_eq!(answer(api.post("/elsewhere/integrations", &good)).await.0, 404);
    assert_eq!(put(&api, "/integrations/none", &good).await.0, 404);
    assert!(api.sandbox.integrations().is_empty());

    api.sandbox.configure(|options| options.primary_account = Some("head_office".to_owned()));
    assert_eq!(api.get(&path()).await.0, 404, "not the primary account");
    assert_eq!(api.get("/head_office/integrations").await.0, 200);
    assert_eq!(api.get("/head_office/contacts").await.0, 404, "nobody texts there");
}

#[tokio::test]
async fn a_put_replaces_or_merges_and_keeps_the_secret() {
    for (updates, rest) in [(IntegrationUpdates::Replace, json!(null)), (IntegrationUpdates::Merge, json!("kept"))] {
        let api = Api::with(|options| options.integration_updates = updates).await;
        let id = api.sandbox.add_integration(json!({
            "active": true, "provider": "webhook", "isHealthy": true,
            "config": { "baseUrl": "https://a.example.com/", "webhookSecret": "textus-a", "clientSecret": "c", "x": "kept" },
            "settings": { "actions": { "message.failed": true }, "x": "kept" },
        }));

        let settings = json!({ "actions": { "contact.opted_out": true } });
        let changed =
            json!({ "active": false, "config": { "baseUrl": "https://b.example.com/" }, "settings": settings });
        let (status, answered) = put(&api, &id, &changed).await;

        assert_eq!((status, &answered["config"]["clientSecret"]), (200, &json!("[FILTERED]")));
        let kept = &api.sandbox.integrations()[0];
        assert_eq!(kept["config"]["webhookSecret"], "textus-a");
        assert_eq!(kept["config"]["clientSecret"], "c");
        assert_eq!(kept["config"]["baseUrl"], "https://b.example.com/");
        assert_eq!((&kept["config"]["x"], &kept["settings"]["x"]), (&rest, &rest), "{updates:?}");
        assert_eq!(kept["settings"]["actions"]["message.failed"] == true, updates == IntegrationUpdates::Merge);
        assert_eq!(kept["active"], false);
    }
}

#[tokio::test]
async fn the_list_has_pages_and_can_hide_secrets() {
    let api = Api::with(|options| {
        options.page_size = 2;
        options.hides_webhook_secrets = true;
    })
    .await;
    for n in 0..3 {
        answer(api.post(&path(), &body(&format!("https://h{n}.example.com/"), &json!({})))).await;
    }

    let (_, first) = api.get(&path()).await;
    let (_, second) = api.get(first["view"]["next"].as_str().expect("a next page")).await;

    assert_eq!(first["members"].as_array().map(Vec::len), Some(2));
    assert_eq!(second["members"][0]["config"]["baseUrl"], "https://h2.example.com/");
    assert_eq!(second["members"][0]["config"]["webhookSecret"], "[FILTERED]");
    assert_eq!(second["view"]["next"], Value::Null);
}

#[tokio::test]
async fn only_what_is_subscribed_is_sent() {
    let (api, receiver) = (Api::start().await, Receiver::start(0).await);
    let id = api.sandbox.add_integration(json!({
        "active": true, "provider": "webhook",
        "config": { "baseUrl": receiver.target.url, "webhookSecret": SECRET }, "settings": {},
    }));
    api.put_opt_out("2025550147").await;
    assert_eq!(api.sandbox.echo_counts(), hookline_sandbox::EchoCounts::default(), "opt-outs are off by default");

    for (settings, active) in [
        (json!({ "actions": { "contact.opted_out": true } }), false),
        (json!({ "actions": { "contact.opted_out": false, "contact.created": true } }), true),
    ] {
        api.sandbox.change_integration(&id, |body| {
            body.insert("settings".to_owned(), settings);
            body.insert("active".to_owned(), json!(active));
        });
        api.put_opt_out("2025550147").await;
        assert_eq!(api.sandbox.echo_counts(), hookline_sandbox::EchoCounts::default());
    }

    api.sandbox.change_integration(&id, |body| {
        body.insert("settings".to_owned(), json!({ "actions": { "contact.opted-out": true } }));
    });
    api.put_opt_out("2025550147").await;
    eventually("the opt-out is sent", || api.sandbox.echoes_sent() == 1).await;
    let sent = receiver.received()[0].json()["id"].as_str().expect("an id").to_owned();
    assert!(sent.starts_with(&format!("{id}/deliveries/")), "{sent}");
}
