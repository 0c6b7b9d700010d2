//! `hookline dev --demo`: sends one signed webhook of each type, one after the other, until everything is settled,
//! including the webhooks that our own calls cause.

use std::time::Duration;

use anyhow::{Context, bail};
use hookline_common::event::EventId;
use hookline_common::names::Verdict;
use hookline_common::service::telemetry::progress::Milestone;
use hookline_sandbox::samples::{self, SampleFacts};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::next;
use super::progress::Progress;
use crate::output;

/// Maximum duration of the demo. It usually takes about a second; a machine that needs longer than this has a problem.
const DEADLINE: Duration = Duration::from_secs(55);
/// An echo follows our call immediately, so after this long without one no more will come.
const QUIET: Duration = Duration::from_millis(700);

/// The event types in the order of a typical story: someone is added, texts, is texted, and opts out.
const ORDER: [&str; 8] = [
    "contact.created",
    "message.received",
    "message.delivered",
    "message.failed",
    "message.unknown",
    "phone_call.completed",
    "contact.opted_out",
    "contact.opted_in",
];

pub(super) struct Demo {
    pub(super) url: String,
    pub(super) secret: String,
    pub(super) account: String,
}

impl Demo {
    /// Sends the samples and follows them; returns `true` if all events ended and none became a dead letter.
    pub(super) async fn run(
        &self,
        mut feed: broadcast::Receiver<Milestone>,
        mut progress: Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let deadline = Instant::now() + DEADLINE;
        match tokio::time::timeout_at(deadline, self.send_all(&mut feed, &mut progress, stop)).await {
            Ok(sent) => sent?,
            Err(_) => {
                output::hint(&format!(
                    "not settled within {} s: {} events are still on their way; `hookline status --dev` tells more",
                    DEADLINE.as_secs(),
                    progress.under_way()
                ));
                return Ok(false);
            }
        }
        sum_up(&progress)
    }

    async fn send_all(
        &self,
        feed: &mut broadcast::Receiver<Milestone>,
        progress: &mut Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let facts = SampleFacts::random(&self.account);
        for event_type in ORDER {
            let event_id = self.send(event_type, &facts).await?;
            follow(feed, progress, stop, Some(&event_id)).await?;
        }
        // Echoes of our own calls may still be arriving.
        follow(feed, progress, stop, None).await
    }

    async fn send(&self, event_type: &str, facts: &SampleFacts) -> anyhow::Result<EventId> {
        // Each event is a moment later than the previous one, as in reality: opt-outs are ordered by the event's own
        // time.
        let facts = SampleFacts { timestamp: jiff::Timestamp::now(), ..facts.clone() };
        let body = serde_json::to_vec(&samples::sample(event_type, &facts))?;
        let posted = samples::post(&self.url, &self.secret, &body)
            .await
            .with_context(|| format!("posting {event_type} to {}", self.url))?;
        if !posted.is_success() {
            bail!("{event_type} was answered {}: {}", posted.status, String::from_utf8_lossy(&posted.body));
        }
        let answer: serde_json::Value = serde_json::from_slice(&posted.body).context("reading the acknowledgement")?;
        let event_id = answer["event_id"].as_str().context("the acknowledgement names no event_id")?;
        Ok(EventId::parse(event_id)?)
    }
}

/// Prints progress until `event_id` has ended. Without an id, prints until all events have ended and no more arrive.
async fn follow(
    feed: &mut broadcast::Receiver<Milestone>,
    progress: &mut Progress,
    stop: &CancellationToken,
    event_id: Option<&EventId>,
) -> anyhow::Result<()> {
    loop {
        match event_id {
            Some(event_id) if progress.has_ended(event_id) => return Ok(()),
            Some(_) | None => {}
        }
        let quiet_enough = event_id.is_none() && progress.under_way() == 0;
        let milestone = if quiet_enough {
            match tokio::time::timeout(QUIET, next(feed, stop)).await {
                Ok(milestone) => milestone,
                Err(_) => return Ok(()),
            }
        } else {
            next(feed, stop).await
        };
        let Some(milestone) = milestone else { bail!("stopped before everything was settled") };
        for line in progress.take(milestone) {
            output::print_line(&line)?;
        }
    }
}

fn sum_up(progress: &Progress) -> anyhow::Result<bool> {
    let of = |verdict| progress.sums.get(&verdict).copied().unwrap_or_default();
    let dead = of(Verdict::DeadLettered);
    let events = progress.ended();
    output::print_line(&format!(
        "\n{events} events ({} sent, {} raised by our own calls): {} deliveries = {} done + {} skipped + {dead} dead-lettered",
        ORDER.len(),
        events.saturating_sub(ORDER.len()),
        of(Verdict::Done) + of(Verdict::Skipped) + dead,
        of(Verdict::Done),
        of(Verdict::Skipped),
    ))?;
    if dead > 0 {
        output::hint("Something was given up: `hookline dead-letters list --dev` says what and why.");
    }
    Ok(dead == 0)
}
