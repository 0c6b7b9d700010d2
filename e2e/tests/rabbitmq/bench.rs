//! `hookline-bench` on RabbitMQ: measured beside the references, and nothing left behind.

use hookline_common::testing::nodes::{PostgresNode, RabbitNode};
use hookline_e2e::AllInOne;

#[tokio::test(flavor = "multi_thread")]
async fn bench_compares_on_rabbitmq_and_leaves_the_virtual_host_empty() {
    let node = RabbitNode::shared().await;
    let vhost = node.new_vhost().await;
    let url = node.url_of(&vhost);
    let all_in_one = AllInOne::start().await;

    let report = all_in_one
        .bench(&[
            "ingest",
            "worker",
            "--seconds",
            "1",
            "--runs",
            "1",
            "--concurrency",
            "10",
            "--broker-url",
            url.as_str(),
            "--json",
        ])
        .await
        .json();

    let programs = |pointer: &str| -> Vec<String> {
        let rows = report.pointer(pointer).and_then(|rows| rows.as_array()).expect(pointer);
        let on_rabbitmq = rows.iter().filter(|one| one["broker"] == "rabbitmq");
        on_rabbitmq.map(|one| one["program"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(programs("/ingest/measurements"), ["actix_lapin", "hookline", "actix_lapin_routed", "lapin"]);
    assert_eq!(programs("/worker/measurements"), ["lapin_reqwest", "hookline"]);
    for one in report["ingest"]["measurements"].as_array().expect("a list") {
        assert_eq!(one["median"]["failed"], 0, "{one:#}");
        assert!(one["median"]["answered"].as_u64().is_some_and(|answered| answered > 0), "{one:#}");
    }
    assert!(report["rabbitmq_version"].as_str().is_some_and(|version| version.contains('.')), "{report:#}");
    assert!(!report["left_out"].to_string().contains("--broker-url"), "{}", report["left_out"]);
    assert!(!report.to_string().contains("guest"), "no credentials");
    let queues = node.ctl(&["list_queues", "-p", &vhost, "name"]).await;
    assert!(!queues.contains("hookline."), "{queues}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bench_has_several_workers_share_a_token_and_leaves_the_virtual_host_empty() {
    let node = RabbitNode::shared().await;
    let vhost = node.new_vhost().await;
    let (url, store) = (node.url_of(&vhost), PostgresNode::shared().await.database().await);
    let all_in_one = AllInOne::start().await;

    let urls = ["--broker-url", url.as_str(), "--store-url", store.as_str()];
    let what = ["opt-outs", "isolation", "--seconds", "1", "--runs", "1"];
    let report = all_in_one.bench(&[what.as_slice(), &urls, &["--json"]].concat()).await.json();

    for one in report["opt_outs"]["measurements"].as_array().expect("a list") {
        assert_eq!((&one["broker"], &one["store"]), (&"rabbitmq".into(), &"postgresql".into()), "{one:#}");
        assert_eq!((one["workers"].as_u64(), one["missing"].as_u64()), (Some(4), Some(0)), "{one:#}");
    }
    for run in report["isolation"]["runs"].as_array().expect("a list") {
        assert!(run["healthy"]["settled"].as_u64() > Some(0), "{run:#}");
        assert!(run["hanging"]["settled"].as_u64() > Some(0), "{run:#}");
    }
    assert_eq!(report["left_out"], serde_json::json!([]));
    let queues = node.ctl(&["list_queues", "-p", &vhost, "name"]).await;
    assert!(!queues.contains("hookline."), "{queues}");
}
