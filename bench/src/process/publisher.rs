//! A bare lapin publisher with confirms and without HTTP, which shows the broker's own speed. It uses one task, one
//! connection and one channel.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use serde::{Deserialize, Serialize};

use super::{Questions, answer, bare, ready};
use crate::figures::{Figures, Tally};

#[derive(Serialize, Deserialize)]
pub(crate) struct PublisherSpec {
    pub(crate) urls: Vec<String>,
    pub(crate) body: String,
}

/// The question; the answer is [`Figures`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Publish {
    pub(crate) in_flight: usize,
    pub(crate) queues: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    let spec: PublisherSpec = questions.spec().await?;
    let connection = bare::connect(&spec.urls).await?;
    let channel = bare::confirming(&connection).await?;
    ready(None)?;
    while let Some(question) = questions.next::<Publish>().await? {
        answer(&publish(&channel, spec.body.as_bytes(), &question).await?)?;
    }
    Ok(())
}

async fn publish(channel: &Channel, body: &[u8], question: &Publish) -> anyhow::Result<Figures> {
    let begin = Instant::now() + question.warm_up;
    let end = begin + question.window;
    let mut tally = Tally::new()?;
    let mut pending = FuturesUnordered::new();
    let (exchange, key) = bare::route(bare::Route::Short, question.queues);
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        while pending.len() < question.in_flight {
            let (exchange, key) = (exchange.clone(), key.clone());
            let properties =
                BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
            let started = Instant::now();
            let confirm =
                channel.basic_publish(exchange, key, BasicPublishOptions::default(), body, properties).await?;
            pending.push(async move { (started, confirm.await) });
        }
        let Some((started, confirm)) = pending.next().await else { break };
        let ended = Instant::now();
        if ended < begin || ended >= end {
            continue;
        }
        match confirm {
            Ok(Confirmation::Ack(None)) => tally.answered(ended - started),
            Ok(_) | Err(_) => tally.failed(),
        }
    }
    // The queues are purged next, so no message of this measurement may arrive later.
    while pending.next().await.is_some() {}
    Ok(tally.figures(question.window))
}
