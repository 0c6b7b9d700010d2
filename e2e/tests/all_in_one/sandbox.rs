//! `hookline sandbox`, the stand-in as a command, with `hookline run` behind it.

use hookline_e2e::{AllInOne, Process, SECRET, TOKEN, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_by_itself_feeds_a_pipeline_whose_calls_it_answers() {
    let mut all_in_one = AllInOne::start().await;
    // The configuration has the account and the token; only the address is the other sandbox's.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = free.local_addr().expect("bound").to_string();
    drop(free);
    all_in_one.set("HOOKLINE__TEXTUS__BASE_URL", &format!("http://{listen}"));
    let running = all_in_one.run().await;
    let (token, secret) = (format!("--token={TOKEN}"), format!("--webhook-secret={SECRET}"));
    let (listen, url) = (format!("--listen={listen}"), format!("--webhook-url={}", running.webhooks));
    let account = format!("--account={}", hookline_e2e::ACCOUNT);
    let arguments = ["sandbox", &listen, &account, &token, &url, &secret, "--every=100ms"];
    let sandbox = Process::start(all_in_one.command(&arguments));

    eventually("each job is done", async || {
        let status = all_in_one.json(&["status"]).await;
        let done = |handler: &str| {
            let handlers = status["handlers"].as_array().expect("handlers");
            handlers.iter().any(|row| row["handler"] == handler && row["done"].as_u64() >= Some(2))
        };
        (done("record_opt_out") && done("log_note") && done("sync_contact")).then_some(())
    })
    .await;

    assert_eq!(running.stop().await.code, Some(0));
    sandbox.terminate();
    let ended = sandbox.ended(std::time::Duration::from_secs(20)).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("webhooks accepted"), "{}", ended.stdout);
}
