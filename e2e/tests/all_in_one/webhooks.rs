//! `hookline webhooks`, `check --connect` and the worker's look, against integrations in every state.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hookline_e2e::{ACCOUNT, AllInOne, Ran, SECRET, TOKEN, eventually};
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule, IntegrationUpdates, SandboxOptions};
use serde_json::{Value, json};

const URL: &str = "https://hooks.example.com/webhooks/textus";
const NEEDED: [&str; 5] =
    ["contact.created", "contact.opted_in", "contact.opted_out", "message.delivered", "message.received"];

async fn all_in_one(change: impl FnOnce(&mut SandboxOptions)) -> AllInOne {
    let more = |options: &mut SandboxOptions| {
        options.webhook = None;
        change(options);
    };
    AllInOne::with(more, "").await
}

fn secret_file(all_in_one: &AllInOne) -> PathBuf {
    all_in_one.dir().join("data/textus-webhook-secret")
}

/// What is there before, as a person made it in the web app, with the configured secret.
fn by_hand(url: &str, settings: &Value) -> Value {
    json!({
        "active": true, "provider": "webhook", "isHealthy": true,
        "config": { "baseUrl": url, "webhookSecret": SECRET, "clientSecret": "textus-client" },
        "settings": settings,
    })
}

async fn register(all_in_one: &AllInOne) -> Ran {
    all_in_one.cli(&["webhooks", "register", "--url", URL]).await
}

async fn verify(all_in_one: &AllInOne) -> Ran {
    all_in_one.cli(&["webhooks", "verify", "--url", URL]).await
}

fn calls(all_in_one: &AllInOne, endpoint: Endpoint) -> usize {
    all_in_one.sandbox.requests().iter().filter(|request| request.endpoint == Some(endpoint)).count()
}

#[track_caller]
fn tells_no_secret(ran: &Ran, secrets: &[&str]) {
    for secret in secrets.iter().chain(&[SECRET, TOKEN, "textus-client"]) {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{secret}: {ran:?}");
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the file").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_makes_one_whose_secret_is_in_a_file_and_nowhere_else() {
    let mut all_in_one = all_in_one(|_options| {}).await;
    all_in_one.set("RUST_LOG", "trace");
    assert_eq!(verify(&all_in_one).await.code, Some(1));

    let ran = register(&all_in_one).await;

    assert_eq!(ran.code, Some(0), "{ran:?}");
    let made = all_in_one.sandbox.integrations().remove(0);
    let secret = made["config"]["webhookSecret"].as_str().expect("a secret").to_owned();
    assert_eq!(std::fs::read_to_string(secret_file(&all_in_one)).expect("a file"), format!("{secret}\n"));
    assert_eq!(mode(&secret_file(&all_in_one)), 0o600);
    assert!(ran.stdout.contains("file:"), "what to put into the configuration: {ran:?}");
    let on = made["settings"]["actions"].as_object().expect("a map").iter().filter(|(_, on)| **on == json!(true));
    let mut wanted = [&NEEDED[..], &["message.failed"]].concat();
    wanted.sort_unstable();
    assert_eq!(on.map(|(action, _)| action.as_str()).collect::<Vec<_>>(), wanted);
    assert_eq!((&made["config"]["baseUrl"], &made["active"]), (&json!(URL), &json!(true)));

    let unverified = verify(&all_in_one).await;
    assert_eq!(unverified.code, Some(1), "the secret is not configured yet: {unverified:?}");
    let again = register(&all_in_one).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(all_in_one.sandbox.integrations().len(), 1);
    assert_eq!(calls(&all_in_one, Endpoint::UpdateIntegration), 0, "complete already");
    let config = std::fs::read_to_string(all_in_one.config()).expect("the configuration");
    let file = format!("secrets = [\"file:{}\"]", secret_file(&all_in_one).display());
    std::fs::write(all_in_one.config(), config.replace(&format!("secrets = [\"{SECRET}\"]"), &file)).expect("written");
    let verified = verify(&all_in_one).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let listed = all_in_one.cli(&["webhooks", "list"]).await;
    for ran in [&ran, &unverified, &again, &verified, &listed] {
        tells_no_secret(ran, &[&secret]);
    }
    assert!(!all_in_one.dir().join("data/store.db").exists(), "no store is made for it");
    assert_eq!(all_in_one.sandbox.violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_completed_and_nothing_is_switched_off_or_rotated() {
    let url = "https://HOOKS.example.com/webhooks/textus/";
    for updates in [IntegrationUpdates::Replace, IntegrationUpdates::Merge] {
        for (settings, also_on) in [
            (json!({}), &[][..]),
            (json!(null), &[]),
            (json!({ "actions": {} }), &[]),
            (json!({ "actions": { "contact.opted-out": false, "message.failed": true } }), &["message.failed"]),
            (
                json!({ "actions": { "phone_call.completed": true, "message.received": false } }),
                &["phone_call.completed"],
            ),
        ] {
            let all_in_one = all_in_one(|options| options.integration_updates = updates).await;
            let others = all_in_one.sandbox.add_integration(by_hand("https://zap.example.com/hooks/x", &json!({})));
            let ours = all_in_one.sandbox.add_integration(by_hand(url, &settings));
            let before = all_in_one.sandbox.integrations();

            let ran = register(&all_in_one).await;

            assert_eq!(ran.code, Some(0), "{settings}: {ran:?}");
            tells_no_secret(&ran, &[]);
            let after = all_in_one.sandbox.integrations();
            assert_eq!(after.len(), 2);
            assert_eq!((&after[0], &after[0]["id"]), (&before[0], &json!(others)), "another's is left alone");
            assert_eq!((&after[1]["config"], &after[1]["id"]), (&before[1]["config"], &json!(ours)));
            let actions = after[1]["settings"]["actions"].as_object().expect("a map");
            for event_type in NEEDED.iter().chain(also_on) {
                let is_on =
                    actions.iter().any(|(name, on)| name.replace('-', "_") == *event_type && *on == json!(true));
                assert!(is_on, "{event_type} of {settings}");
            }
            assert!(!secret_file(&all_in_one).exists(), "the secret is configured");
            assert_eq!(verify(&all_in_one).await.code, Some(0));
            assert_eq!(all_in_one.sandbox.violations(), []);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_check_say_what_is_missing_inactive_unhealthy_or_refused() {
    let all_in_one = all_in_one(|_options| {}).await;
    let all: serde_json::Map<String, Value> = NEEDED.iter().map(|action| ((*action).to_owned(), json!(true))).collect();
    let complete = by_hand(URL, &json!({ "actions": all }));
    let id = all_in_one.sandbox.add_integration(complete.clone());
    assert_eq!(verify(&all_in_one).await.code, Some(0));
    assert_eq!(all_in_one.cli(&["check", "--connect"]).await.code, Some(0));

    for (path, value, word) in [
        ("/settings/actions/contact.opted_out", json!(false), "does not send contact.opted_out"),
        ("/settings", json!({}), "does not send contact.created, contact.opted_in, contact.opted_out"),
        ("/active", json!(false), "is not active"),
        ("/isHealthy", json!(false), "unhealthy"),
        ("/config/webhookSecret", json!("textus-another"), "refused with 401"),
        ("/config/baseUrl", json!("https://hooks.example.com/elsewhere"), "no integration of the account"),
    ] {
        let mut changed = complete.clone();
        *changed.pointer_mut(path).expect("a place") = value;
        all_in_one.sandbox.change_integration(&id, |body| *body = changed.as_object().expect("an object").clone());
        for command in [&["webhooks", "verify", "--url", URL][..], &["check", "--connect"]] {
            let ran = all_in_one.cli(command).await;
            assert_eq!(ran.code, Some(1), "{path}: {ran:?}");
            assert!(ran.stdout.contains(word) && ran.stdout.contains("hookline webhooks register"), "{path}: {ran:?}");
            tells_no_secret(&ran, &["textus-another"]);
        }
    }

    for absent in ["isHealthy", "provider"] {
        let mut changed = complete.clone();
        changed.as_object_mut().expect("an object").remove(absent);
        all_in_one.sandbox.change_integration(&id, |body| *body = changed.as_object().expect("an object").clone());
        assert_eq!(verify(&all_in_one).await.code, Some(0), "{absent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_second_one_and_loses_no_secret() {
    for fault in [Fault::EffectThenReset, Fault::EffectThenStatus(502), Fault::TruncatedBody, Fault::GarbageBody] {
        let all_in_one = all_in_one(|_options| {}).await;
        all_in_one.sandbox.fault(FaultRule::new(fault.clone()).on(Endpoint::CreateIntegration).times(1));

        let ran = register(&all_in_one).await;

        assert_eq!(ran.code, Some(0), "{fault:?}: {ran:?}");
        let made = all_in_one.sandbox.integrations();
        assert_eq!(made.len(), 1, "{fault:?}");
        let secret = made[0]["config"]["webhookSecret"].as_str().expect("a secret");
        assert_eq!(std::fs::read_to_string(secret_file(&all_in_one)).expect("a file").trim(), secret);
        tells_no_secret(&ran, &[secret]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_a_change_is_looked_up() {
    for fault in [Fault::EffectThenReset, Fault::EffectThenStatus(502), Fault::GarbageBody] {
        let all_in_one = all_in_one(|_options| {}).await;
        all_in_one.sandbox.add_integration(by_hand(URL, &json!({})));
        all_in_one.sandbox.fault(FaultRule::new(fault.clone()).on(Endpoint::UpdateIntegration).times(1));
        let ran = register(&all_in_one).await;
        assert_eq!(ran.code, Some(0), "{fault:?}: {ran:?}");
        assert_eq!(calls(&all_in_one, Endpoint::UpdateIntegration), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_there_is_not_overwritten_and_nothing_is_made() {
    let all_in_one = all_in_one(|_options| {}).await;
    std::fs::create_dir_all(all_in_one.dir().join("data")).expect("a directory");
    std::fs::write(secret_file(&all_in_one), "textus-older\n").expect("written");

    let ran = register(&all_in_one).await;

    assert_eq!(ran.code, Some(1), "{ran:?}");
    tells_no_secret(&ran, &["textus-older"]);
    assert_eq!(std::fs::read_to_string(secret_file(&all_in_one)).expect("a file"), "textus-older\n");
    assert!(all_in_one.sandbox.integrations().is_empty());
    let other = all_in_one.dir().join("other-secret");
    let other = other.to_str().expect("a path");
    let ran = all_in_one.cli(&["webhooks", "register", "--url", URL, "--secret-file", other]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(mode(Path::new(other)), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_hidden_is_said_to_be_and_never_sent_back() {
    let all_in_one = all_in_one(|options| options.hides_webhook_secrets = true).await;

    let made = register(&all_in_one).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.stdout.contains("does not tell its secret"), "{made:?}");
    assert!(!secret_file(&all_in_one).exists());
    let id = all_in_one.sandbox.integrations()[0]["id"].as_str().expect("an id").to_owned();
    all_in_one.sandbox.change_integration(&id, |body| drop(body.insert("settings".to_owned(), json!({}))));
    let secret = all_in_one.sandbox.integrations()[0]["config"]["webhookSecret"].clone();

    assert_eq!(register(&all_in_one).await.code, Some(0));
    assert_eq!(all_in_one.sandbox.integrations()[0]["config"]["webhookSecret"], secret, "kept");
    assert_eq!(verify(&all_in_one).await.code, Some(0));
    assert_eq!(all_in_one.sandbox.violations(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn disable_switches_off_what_posts_here_and_asks_first() {
    let all_in_one = all_in_one(|_options| {}).await;
    all_in_one.sandbox.add_integration(by_hand("https://zap.example.com/hooks/hush-hush", &json!({})));
    let settings = json!({ "actions": { "message.failed": true } });
    let ours = all_in_one.sandbox.add_integration(by_hand(URL, &settings));
    let before = all_in_one.sandbox.integrations();

    assert_eq!(all_in_one.cli(&["webhooks", "disable", "--url", URL]).await.code, Some(2), "nobody can be asked");
    let stranger = before[0]["id"].as_str().expect("an id");
    assert_eq!(all_in_one.cli(&["webhooks", "disable", stranger, "--url", URL, "--yes"]).await.code, Some(1));
    assert_eq!(all_in_one.sandbox.integrations(), before);

    let ran = all_in_one.cli(&["webhooks", "disable", "--url", URL, "--yes"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let after = all_in_one.sandbox.integrations();
    assert_eq!((&after[0], &after[1]["active"]), (&before[0], &json!(false)));
    assert_eq!((&after[1]["config"], &after[1]["settings"]), (&before[1]["config"], &settings));

    let listed = all_in_one.json(&["webhooks", "list", "--url", URL]).await;
    let rows = listed["webhooks"].as_array().expect("rows");
    assert_eq!((rows.len(), &rows[1]["integration"], &rows[1]["active"]), (2, &json!(ours), &json!(false)));
    assert!(!listed.to_string().contains("hush-hush"), "another's path may be a secret: {listed}");
    let page = all_in_one.json(&["webhooks", "list", "--url", URL, "--limit", "1"]).await;
    let next = page["next"].as_str().expect("there is more");
    let rest = all_in_one.json(&["webhooks", "list", "--url", URL, "--cursor", next]).await;
    assert_eq!((&rest["webhooks"][0]["integration"], &rest["next"]), (&json!(ours), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_pages_are_read_and_a_list_that_goes_round_ends() {
    let all_in_one = all_in_one(|options| options.page_size = 2).await;
    for n in 0..4 {
        all_in_one.sandbox.add_integration(by_hand(&format!("https://zap.example.com/{n}"), &json!({})));
    }
    all_in_one.sandbox.add_integration(by_hand(URL, &json!({})));
    assert_eq!(register(&all_in_one).await.code, Some(0));
    assert_eq!(all_in_one.sandbox.integrations().len(), 5, "it was found on the third page");

    let member = json!({ "id": "/integrations/aaa", "provider": "webhook", "active": true, "config": { "baseUrl": URL },
        "settings": {} });
    let round = json!({ "members": [member], "totalItems": 1, "view": { "next": format!("/{ACCOUNT}/integrations") } });
    all_in_one.sandbox.fault(
        FaultRule::new(Fault::Status { status: 200, headers: Vec::new(), body: Some(round.to_string()) })
            .on(Endpoint::ListIntegrations),
    );
    let ran = verify(&all_in_one).await;
    assert!(ran.stdout.contains("/integrations/aaa (active)"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_see_integrations_is_not_known_and_stops_nothing() {
    let all_in_one = all_in_one(|_options| {}).await;
    for status in [401, 403, 404] {
        let fault = all_in_one.sandbox.fault(FaultRule::new(Fault::status(status)).on(Endpoint::ListIntegrations));
        let ran = verify(&all_in_one).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stdout.contains("may not see") && ran.stdout.contains("primary_account"), "{ran:?}");
        let checked = all_in_one.cli(&["check", "--connect"]).await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.stdout.contains("not checked  webhook subscription"), "{checked:?}");
        assert_eq!(register(&all_in_one).await.code, Some(1));
        all_in_one.sandbox.remove_fault(fault);
    }
    assert_eq!(calls(&all_in_one, Endpoint::CreateIntegration), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_a_refusal_tell_no_secret() {
    let all_in_one = all_in_one(|_options| {}).await;
    all_in_one.sandbox.add_integration(by_hand(URL, &json!({})));
    let words = json!({ "error": format!("config {SECRET} and textus-client of {TOKEN} are wrong") });
    all_in_one.sandbox.fault(
        FaultRule::new(Fault::Status { status: 422, headers: Vec::new(), body: Some(words.to_string()) })
            .on(Endpoint::UpdateIntegration),
    );
    let ran = register(&all_in_one).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("422"), "{ran:?}");
    tells_no_secret(&ran, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_told_before_any_call() {
    let all_in_one = all_in_one(|_options| {}).await;
    for url in [
        "hooks.example.com/webhooks/textus",
        "http://hooks.example.com/webhooks/textus",
        "https://user:word@hooks.example.com/webhooks/textus",
        "https://hooks.example.com/webhooks/textus?key=1",
        "https://hooks.example.com/webhooks/other",
        "https://hooks.example.com/",
        "ftp://hooks.example.com/webhooks/textus",
    ] {
        let ran = all_in_one.cli(&["webhooks", "register", "--url", url]).await;
        assert_eq!(ran.code, Some(2), "{url}: {ran:?}");
    }
    assert_eq!(all_in_one.cli(&["webhooks", "register"]).await.code, Some(2), "nobody says where");
    assert!(all_in_one.sandbox.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_account_is_asked_where_it_is_another() {
    let all_in_one = AllInOne::with(
        |options| {
            options.webhook = None;
            options.primary_account = Some("head_office".to_owned());
        },
        "",
    )
    .await;
    assert_eq!(register(&all_in_one).await.code, Some(1));

    let ran = all_in_one.cli(&["webhooks", "register", "--url", URL, "--account", "head_office"]).await;

    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(all_in_one.sandbox.effects()[0].kind, EffectKind::IntegrationCreated);
    assert_eq!(all_in_one.sandbox.effects()[0].account, "head_office");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_post_here_are_told_and_one_is_enough() {
    let all_in_one = all_in_one(|_options| {}).await;
    let unknown =
        json!({ "active": true, "provider": "webhook", "config": { "baseUrl": URL, "webhookSecret": "textus-b" } });
    all_in_one.sandbox.add_integration(unknown);
    let configured = all_in_one.sandbox.add_integration(by_hand(URL, &json!({})));

    let ran = register(&all_in_one).await;

    assert!(
        ran.stdout.starts_with(&format!("{configured} is completed")),
        "the one whose secret is configured: {ran:?}"
    );
    assert_eq!(all_in_one.sandbox.effects().len(), 1);
    assert!(verify(&all_in_one).await.stdout.contains("each event comes several times"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_tells_what_is_missing_until_it_is_mended() {
    let mut all_in_one = AllInOne::start().await;
    all_in_one.set("HOOKLINE__TEXTUS__WEBHOOK_CHECK_EVERY", "1s");
    let running = all_in_one.run().await;
    let id = all_in_one.sandbox.integrations()[0]["id"].as_str().expect("an id").to_owned();
    let shows = async |line: &str| {
        eventually(line, async || running.admin("/metrics").await.1.lines().any(|shown| shown == line).then_some(()))
            .await;
    };
    shows("hookline_webhook_subscription{state=\"complete\"} 1").await;

    all_in_one.sandbox.change_integration(&id, |body| {
        body["settings"]["actions"]["contact.opted_out"] = json!(false);
    });
    shows("hookline_webhook_subscription{state=\"incomplete\"} 1").await;
    shows("hookline_webhook_subscription_missing{event_type=\"contact.opted_out\"} 1").await;
    shows("hookline_webhook_subscription_missing{event_type=\"contact.opted_in\"} 0").await;
    // A list that cannot be had says nothing else.
    let away = all_in_one.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::ListIntegrations));
    let asked = calls(&all_in_one, Endpoint::ListIntegrations);
    eventually("two looks in vain", async || {
        (calls(&all_in_one, Endpoint::ListIntegrations) >= asked + 2).then_some(())
    })
    .await;
    shows("hookline_webhook_subscription_missing{event_type=\"contact.opted_out\"} 1").await;
    all_in_one.sandbox.remove_fault(away);
    all_in_one.sandbox.fault(FaultRule::new(Fault::status(403)).on(Endpoint::ListIntegrations));
    shows("hookline_webhook_subscription{state=\"not_known\"} 1").await;
    shows("hookline_webhook_subscription_missing{event_type=\"contact.opted_out\"} 0").await;
    shows("hookline_destination_state{destination=\"textus\",state=\"closed\"} 1").await;
    all_in_one.sandbox.clear_faults();
    all_in_one.sandbox.change_integration(&id, |body| drop(body.insert("isHealthy".to_owned(), json!(false))));
    all_in_one.sandbox.change_integration(&id, |body| {
        body["settings"]["actions"]["contact.opted_out"] = json!(true);
    });
    shows("hookline_webhook_subscription{state=\"unhealthy\"} 1").await;

    let ended = running.stop().await;
    for told in ["webhooks.subscribed", "webhooks.not_subscribed", "webhooks.not_known", "webhooks.unhealthy"] {
        let times = ended.stderr.lines().filter(|line| line.contains(&format!("\"{told}:"))).count();
        assert_eq!(times, 1, "{told} is told once: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains(SECRET));
}
