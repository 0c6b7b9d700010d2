//! Whom `trigger` signs for, and with which secret.

use hookline_e2e::{ACCOUNT, AllInOne, Process, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_is_posted_to_with_a_configured_secret_only_with_yes() {
    let mut all_in_one = AllInOne::start().await;
    // Nobody listens there: what matters is whether it is tried.
    let elsewhere = "http://192.0.2.1:9/webhooks/textus";
    for arguments in [&["--url", elsewhere][..], &["--url", elsewhere, "--secret", SECRET]] {
        let refused = all_in_one.cli(&[&["trigger", "contact.opted_out"], arguments].concat()).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains("--yes") && refused.stderr.contains("192.0.2.1"), "{refused:?}");
    }
    all_in_one.set("HOOKLINE__INGEST__LISTEN", "192.0.2.1:9");
    let refused = all_in_one.cli(&["trigger", "contact.opted_out"]).await;
    assert_eq!(refused.code, Some(2), "the configured listener is another machine's too: {refused:?}");

    let here = all_in_one.cli(&["trigger", "contact.opted_out", "--url", "http://127.0.0.1:9/webhooks/textus"]).await;
    assert_eq!(here.code, Some(1), "loopback is tried: {here:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_dev_listens_its_own_secret_signs_whatever_is_configured() {
    let all_in_one = AllInOne::start().await;
    let mut dev = Process::start(all_in_one.command(&["dev"]));
    let url = dev
        .line("the URL", |line| {
            line.split_whitespace().find(|word| word.ends_with("/webhooks/textus")).map(str::to_owned)
        })
        .await;

    for arguments in [&["--url", &url][..], &["--dev"]] {
        let sent = all_in_one.cli(&[&["trigger", "contact.opted_out"], arguments].concat()).await;
        assert_eq!(sent.code, Some(0), "{arguments:?} {sent:?}");
    }
    let refused = all_in_one.cli(&["trigger", "contact.opted_out", "--url", &url, "--secret", SECRET]).await;
    assert_eq!(refused.code, Some(1), "a production's secret is not `dev`'s: {refused:?}");

    dev.terminate();
    dev.ended(std::time::Duration::from_secs(40)).await;
    let nobody = all_in_one.cli(&["trigger", "contact.opted_out", "--dev"]).await;
    assert_eq!(nobody.code, Some(2), "{ACCOUNT}: {nobody:?}");
}
