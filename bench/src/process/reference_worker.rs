//! The worker that a careful user would write by hand: consume with lapin, call with reqwest, acknowledge. It has no
//! store, so a repeat repeats the call. Without a broker it only calls, which shows the maximum of client and API.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use futures::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Questions, bare, ready};

#[derive(Serialize, Deserialize)]
pub(crate) struct ReferenceWorkerSpec {
    /// Empty means that the worker only calls.
    pub(crate) urls: Vec<String>,
    pub(crate) api: SocketAddr,
    pub(crate) concurrency: u16,
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    let spec: ReferenceWorkerSpec = questions.spec().await?;
    let client = reqwest::Client::builder().no_proxy().build().context("setting up an HTTP client")?;
    let url = format!("http://{}/bench/opt_outs/2025550147", spec.api);
    let caller = Arc::new(Caller { client, url });
    if spec.urls.is_empty() {
        ready(None)?;
        for _ in 0..spec.concurrency {
            let caller = Arc::clone(&caller);
            tokio::spawn(async move { while caller.call().await.is_ok() {} });
        }
        questions.end().await;
        return Ok(());
    }
    let connection = bare::connect(&spec.urls).await?;
    let channel = connection.create_channel().await.context("opening a channel")?;
    // Twice the number in flight, as in our worker; a prefetch equal to that number costs 5 to 10 %.
    channel.basic_qos(spec.concurrency.saturating_mul(2), BasicQosOptions::default()).await?;
    let queue = bare::REFERENCE_WORK_QUEUE.into();
    let mut deliveries =
        channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let slots = Arc::new(Semaphore::new(usize::from(spec.concurrency)));
    ready(None)?;
    let consuming = tokio::spawn(async move {
        while let Some(Ok(delivery)) = deliveries.next().await {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let caller = Arc::clone(&caller);
            tokio::spawn(async move {
                let _slot = slot;
                if caller.call().await.is_ok() {
                    acknowledge(&delivery).await;
                }
            });
        }
    });
    questions.end().await;
    consuming.abort();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this is not the worker, it is what the worker is measured against")]
async fn acknowledge(delivery: &lapin::message::Delivery) {
    // If the channel is lost, the broker delivers the message again.
    let _ = delivery.acker.ack(BasicAckOptions::default()).await;
}

struct Caller {
    client: reqwest::Client,
    url: String,
}

impl Caller {
    async fn call(&self) -> reqwest::Result<()> {
        let answer = self.client.put(&self.url).bearer_auth("synthetic").send().await?.error_for_status()?;
        answer.bytes().await.map(drop)
    }
}
