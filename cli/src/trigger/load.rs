//! Posts bodies with a fixed number of workers on keep-alive connections, at a steady rate if requested.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hookline_sandbox::samples::SIGNATURE_HEADER;
use indicatif::ProgressBar;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::bodies::{Bodies, Post};
use super::summary::{Answer, Summary};

/// Maximum wait for an answer. Ingest gives up on a request after 10 s, so no answer comes later than this.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Plan {
    pub(super) url: Url,
    pub(super) bodies: Bodies,
    pub(super) count: u64,
    pub(super) concurrency: usize,
    /// Posts per second; `None` means as fast as the answers come.
    pub(super) rate: Option<f64>,
}

/// State shared by the workers.
struct Sending {
    plan: Plan,
    client: reqwest::Client,
    next: AtomicU64,
    answered: AtomicBool,
    started: Instant,
    bar: ProgressBar,
}

#[derive(Deserialize)]
struct Accepted {
    event_id: String,
}

/// Sends all posts.
///
/// # Errors
/// Fails when nothing listens at the URL from the start.
pub(super) async fn send(plan: Plan, bar: ProgressBar) -> anyhow::Result<Summary> {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .pool_max_idle_per_host(plan.concurrency)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .no_proxy()
        .build()
        .context("cannot set up an HTTP client")?;
    let concurrency = plan.concurrency;
    let shared = Arc::new(Sending {
        plan,
        client,
        next: AtomicU64::new(0),
        answered: AtomicBool::new(false),
        started: Instant::now(),
        bar,
    });
    let workers: Vec<_> = (0..concurrency).map(|_| tokio::spawn(worker(Arc::clone(&shared)))).collect();
    let mut summary = Summary::default();
    let mut outcome = Ok(());
    for worker in workers {
        match worker.await? {
            Ok(seen) => summary.merge(seen),
            Err(error) => outcome = Err(error),
        }
    }
    shared.bar.finish_and_clear();
    summary.elapsed = shared.started.elapsed();
    outcome.map(|()| summary)
}

async fn worker(shared: Arc<Sending>) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    loop {
        let index = shared.next.fetch_add(1, Ordering::Relaxed);
        if index >= shared.plan.count {
            return Ok(summary);
        }
        if let Some(rate) = shared.plan.rate {
            tokio::time::sleep_until(shared.started + Duration::from_secs_f64(index as f64 / rate)).await;
        }
        let post = shared.plan.bodies.post(index);
        let repeat = post.repeat;
        let answer = match shared.post(post).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() && !shared.answered.load(Ordering::Relaxed) => {
                // Nothing has ever answered here, so the other posts would fail in the same way.
                shared.next.store(shared.plan.count, Ordering::Relaxed);
                anyhow::bail!(
                    "nothing answers at {}: start `hookline dev` or `hookline run` in another terminal, or give --url",
                    shared.plan.url
                );
            }
            // The server answered before. This may be a restart, or an outage that is being tested, so the remaining
            // posts are still sent.
            Err(_) => Answer { status: None, event_id: None, took: Duration::ZERO },
        };
        summary.add(answer, repeat);
        shared.bar.inc(1);
    }
}

impl Sending {
    async fn post(&self, post: Post) -> reqwest::Result<Answer> {
        let started = Instant::now();
        let answer = self
            .client
            .post(self.plan.url.clone())
            .header(SIGNATURE_HEADER, post.signature)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(post.body)
            .send()
            .await?;
        self.answered.store(true, Ordering::Relaxed);
        let status = answer.status().as_u16();
        let body = answer.bytes().await?;
        let event_id = serde_json::from_slice::<Accepted>(&body).ok().map(|accepted| accepted.event_id);
        Ok(Answer { status: Some(status), event_id, took: started.elapsed() })
    }
}
