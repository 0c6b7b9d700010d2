//! Secrets and limits change while it runs; nothing is restarted and nothing is lost.

use std::path::PathBuf;

use hookline_e2e::{ACCOUNT, AllInOne, SECRET, TOKEN, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{EffectKind, HubSpotOptions, SalesforceOptions};

use crate::chain::systems::System;

/// Puts a secret into a file of its own and the file's name into the configuration.
fn in_a_file(all_in_one: &AllInOne, name: &str, secret: &str) -> PathBuf {
    let file = all_in_one.dir().join(name);
    std::fs::write(&file, secret).expect("written");
    edit(all_in_one, &format!("\"{secret}\""), &format!("\"file:{}\"", file.display()));
    file
}

fn edit(all_in_one: &AllInOne, from: &str, to: &str) {
    let text = std::fs::read_to_string(all_in_one.config()).expect("readable");
    assert!(text.contains(from), "{from} is in the configuration");
    std::fs::write(all_in_one.config(), text.replace(from, to)).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_and_replaced_in_its_file_loses_nothing() {
    let all_in_one = AllInOne::start().await;
    let file = in_a_file(&all_in_one, "token", TOKEN);
    // No probe finds it out by itself.
    edit(&all_in_one, "paused_probe = \"1s\"", "paused_probe = \"15m\"");
    let running = all_in_one.run().await;
    all_in_one.sandbox.configure(|sandbox| "the-next-synthetic-token".clone_into(&mut sandbox.token));
    let people = [SampleFacts::random(ACCOUNT), SampleFacts::random(ACCOUNT)];
    all_in_one.sender.send(&sample("contact.opted_out", &people[0])).await;
    is_paused(&all_in_one).await;
    all_in_one.sender.send(&sample("contact.opted_out", &people[1])).await;

    std::fs::write(&file, "the-next-synthetic-token\n").expect("written");
    all_in_one.settled().await;

    let effects = all_in_one.sandbox.effects();
    let puts = effects.iter().filter(|effect| effect.kind == EffectKind::OptOutPut).count();
    assert_eq!(puts, 2, "{effects:?}");
    assert_eq!(all_in_one.rows(&["dead-letters", "list"], "dead_letters").await.len(), 0);
    assert_eq!(running.stop().await.code, Some(0));
}

async fn is_paused(all_in_one: &AllInOne) {
    let paused =
        async || all_in_one.json(&["status"]).await["destinations"].to_string().contains("paused").then_some(());
    eventually("the destination is paused", paused).await;
}

/// Replaces the secret of a CRM in its file after the CRM has refused it.
async fn a_secret_of_a_crm_is_replaced(crm: &System, key: &str, secret: &str, use_another: impl FnOnce()) {
    let more = "[handlers.log_note]\nmessage_lookup = \"none\"\n";
    let mut all_in_one = AllInOne::with(|sandbox| sandbox.echoes = false, more).await;
    crm.take_over(&mut all_in_one);
    let file = all_in_one.dir().join("crm-secret");
    std::fs::write(&file, secret).expect("written");
    all_in_one.set(&format!("HOOKLINE__SYSTEM_OF_RECORD__{key}"), &format!("file:{}", file.display()));
    let running = all_in_one.run().await;
    use_another();
    all_in_one.sender.send(&sample("message.received", &SampleFacts::random(ACCOUNT))).await;
    is_paused(&all_in_one).await;

    std::fs::write(&file, "another-synthetic-secret\n").expect("written");
    all_in_one.settled().await;

    assert_eq!(crm.notes().len(), 1);
    assert_eq!(all_in_one.rows(&["dead-letters", "list"], "dead_letters").await.len(), 0);
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_hubspot_that_is_replaced_in_its_file_ends_the_pause() {
    let crm = System::hubspot((100, std::time::Duration::from_secs(10)), false).await;
    let System::HubSpot { crm: stand_in, .. } = &crm else { panic!("it is HubSpot") };
    let use_another = || stand_in.configure(|options| "another-synthetic-secret".clone_into(&mut options.token));
    a_secret_of_a_crm_is_replaced(&crm, "HUBSPOT__TOKEN", &HubSpotOptions::default().token, use_another).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_salesforce_that_is_replaced_in_its_file_ends_the_pause() {
    let crm = System::salesforce().await;
    let System::Salesforce(stand_in) = &crm else { panic!("it is Salesforce") };
    let use_another = || {
        stand_in.configure(|options| "another-synthetic-secret".clone_into(&mut options.client_secret));
        stand_in.revoke_tokens();
    };
    let secret = SalesforceOptions::default().client_secret;
    a_secret_of_a_crm_is_replaced(&crm, "SALESFORCE__CLIENT_SECRET", &secret, use_another).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_secret_that_is_replaced_in_its_file_counts_at_once_whatever_became_of_the_configuration() {
    let all_in_one = AllInOne::start().await;
    let file = in_a_file(&all_in_one, "secret", SECRET);
    let running = all_in_one.run().await;
    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    // Nobody has sent a signal about this edit, which is not even finished.
    edit(&all_in_one, "timeout = \"1s\"", "timeout = \"nev");

    let next = file.with_extension("next");
    std::fs::write(&next, "the-next-synthetic-webhook-secret").expect("written");
    std::fs::rename(&next, &file).expect("replaced");

    eventually("what is signed with the old one is refused", async || {
        let body = sample("contact.opted_in", &SampleFacts::random(ACCOUNT)).to_string();
        let answer = all_in_one.sender.post(body.as_bytes()).await.expect("an answer");
        (answer.status == 401).then_some(())
    })
    .await;
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_wrong_is_refused_and_the_one_from_before_goes_on() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    let text = std::fs::read_to_string(all_in_one.config()).expect("readable");

    std::fs::write(all_in_one.config(), text.replace("timeout = \"1s\"", "timeout = \"never\"")).expect("written");
    running.process.hang_up();
    let refused = |line: &String| line.contains("configuration.refused") && line.contains("timeout");
    eventually("it is refused", async || running.process.stderr().iter().any(refused).then_some(())).await;
    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;

    std::fs::write(all_in_one.config(), text.replace("shutdown_grace = \"20s\"", "shutdown_grace = \"21s\""))
        .expect("written");
    running.process.hang_up();
    let told = |line: &String| line.contains("configuration.needs_restart") && line.contains("shutdown_grace");
    eventually("what needs a restart is told", async || running.process.stderr().iter().any(told).then_some(())).await;
    all_in_one.sender.send(&sample("contact.opted_out", &SampleFacts::random(ACCOUNT))).await;
    std::fs::write(all_in_one.config(), text).expect("written");
    all_in_one.settled().await;
    assert_eq!(running.stop().await.code, Some(0));
}
