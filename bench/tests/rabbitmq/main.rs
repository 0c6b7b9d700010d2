//! Where the benchmark refuses to measure, on a real broker: a deployment's virtual host is not touched.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_bench::{Options, Part, Progress, Refused};
use hookline_broker::Publish;
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_common::names::HandlerName;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::testing::events::an_inbound_message;
use hookline_common::testing::nodes::RabbitNode;

struct Silent;

impl Progress for Silent {
    fn steps(&self, _count: u64) {}
    fn begin(&self, step: &str) {
        panic!("nothing may be measured: {step}");
    }
}

fn options(url: &str) -> Options {
    Options {
        parts: vec![Part::Ingest],
        broker_urls: vec![Secret::new(url)],
        store_url: None,
        concurrencies: vec![1],
        seconds: 1,
        runs: 1,
        data_dir: PathBuf::from("/nonexistent"),
        executable: PathBuf::from("/nonexistent"),
    }
}

async fn deployment(url: &str) -> Arc<RabbitBroker> {
    let metrics = Metrics::new(Role::Ingest, &[]);
    let broker = RabbitBroker::start(RabbitOptions {
        urls: vec![Secret::new(url)],
        ca_pem: None,
        handlers: HandlerName::ALL.to_vec(),
        role: RabbitRole::Ingest,
        metrics: Arc::new(BrokerMetrics::new(&metrics)),
    });
    broker.wait_ready(Duration::from_secs(30)).await.expect("the broker is there");
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_with_a_deployments_queues_is_refused_and_left_as_it_is() {
    let node = RabbitNode::shared().await;
    let vhost = node.new_vhost().await;
    let url = node.url_of(&vhost);
    let broker = deployment(&url).await;
    let list = async || node.ctl(&["list_queues", "-p", &vhost, "name", "messages"]).await;

    let empty = hookline_bench::run(&options(&url), &Silent).await.expect_err("an empty deployment");
    broker.publish(&an_inbound_message()).await.unwrap();
    let filled = hookline_bench::run(&options(&url), &Silent).await.expect_err("a deployment with messages");

    for error in [empty, filled] {
        let refused = error.downcast_ref::<Refused>().unwrap_or_else(|| panic!("{error:#}")).to_string();
        assert!(refused.contains("hookline.") && refused.contains("--broker-url"), "{refused}");
        assert!(!refused.contains("guest:guest"), "{refused}");
    }
    let queues = list().await;
    assert!(!queues.contains("hookline.bench."), "{queues}");
    // The node counts a quorum queue's messages every few seconds only.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let queues = list().await;
        if queues.lines().any(|line| line.split_whitespace().eq(["hookline.work.log_note", "1"])) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{queues}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    broker.close().await;
}
