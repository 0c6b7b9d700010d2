//! Turns a settlement into a message and an acknowledgement, in that order: the next message is confirmed before the
//! delivery is acknowledged. lapin writes acks ahead of waiting publishes, so we await the confirm.
//!
//! We retry the publish until the message is stored, for as long as the delivery is ours. If the channel closed, the
//! broker would hand the delivery out again; until then no other consumer has it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::{Acker, Channel};
use tokio_util::sync::CancellationToken;

use hookline_common::backoff::full_jitter;
use hookline_common::event::Event;
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::crash_point;
use hookline_common::time::Timestamp;

use super::link;
use super::message::{self, DeliveryState};
use super::publisher::{Outgoing, Published, Publisher};
use crate::topology::Tier;
use crate::topology::rabbitmq::{DEAD, DELAY, delay_key};
use crate::{BrokerError, Settled, Settlement, Settler, Spends};

const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How long a dead letter that cannot be moved waits in this process at most: no delay queue leads back to a dead
/// queue.
const DEAD_WAITS_AT_MOST: Duration = Duration::from_secs(30);
/// When a released delivery is in its queue again: the shortest tier, plus time for the broker.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// The means to settle one message with the broker.
pub(super) struct Handle {
    pub(super) acker: Acker,
    /// Kept so that the channel stays open as long as one of its deliveries is unsettled.
    pub(super) _channel: Channel,
    pub(super) publisher: Publisher,
    pub(super) stop: CancellationToken,
    /// A clone of the consumer's counter of outstanding deliveries.
    pub(super) out: Arc<()>,
}

impl Handle {
    /// Publishes until the message is stored, then acknowledges. Passes the crash point `point` between the two.
    pub(super) async fn replace(
        &self,
        outgoing: Outgoing,
        point: Option<&'static str>,
    ) -> Result<Settled, BrokerError> {
        let mut tries = 0;
        loop {
            if !self.acker.usable() {
                return Ok(Settled::Lost);
            }
            let answer = self.publisher.publish(outgoing.clone()).await;
            if answer == Published::Stored {
                break;
            }
            if self.stop.is_cancelled() {
                return Err(BrokerError::Unavailable("the broker is closed".to_owned()));
            }
            if tries == 0 {
                tracing::warn!(answer = ?answer, "delivery.kept: its next message is not stored yet, trying again");
            }
            tries += 1;
            tokio::time::sleep(full_jitter(AGAIN_FIRST, 2.0, AGAIN_MAX, tries)).await;
        }
        if let Some(point) = point {
            crash_point(point);
        }
        self.ack().await
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that acknowledges")]
    pub(super) async fn ack(&self) -> Result<Settled, BrokerError> {
        self.answered(self.acker.ack(BasicAckOptions::default())).await
    }

    /// Puts the delivery back into its queue. A reject counts towards the delivery limit on every version of RabbitMQ;
    /// a nack does so only before 4.3.
    #[expect(clippy::disallowed_methods, reason = "the one place that rejects")]
    async fn requeue(&self) -> Result<Settled, BrokerError> {
        self.answered(self.acker.reject(BasicRejectOptions { requeue: true })).await
    }

    /// Awaits an ack or a reject. The broker answers neither; lapin says whether it was written.
    async fn answered(&self, asked: impl Future<Output = lapin::Result<bool>>) -> Result<Settled, BrokerError> {
        match link::answered_unless(|| self.acker.poisoned(), asked).await {
            Some(Ok(true)) => Ok(Settled::Confirmed),
            Some(Ok(false)) | None => Ok(Settled::Lost),
            Some(Err(error)) => Err(BrokerError::Unavailable(error.to_string())),
        }
    }
}

/// Chooses the delay queue for a wait. A retry may come late, and a delivery that waits for a pause or the store checks
/// again anyway: one round in a tier costs least. A delivery that an open breaker or a spent budget holds has a time at
/// which it may continue, and a longer tier would make it late by minutes.
fn tier_of(wait: Duration, spends: Spends) -> Tier {
    match spends {
        Spends::Attempt | Spends::Nothing => Tier::for_delay(wait),
        Spends::Age => Tier::towards(wait),
    }
}

pub(super) struct RabbitSettler {
    pub(super) handle: Handle,
    pub(super) event: Arc<Event>,
    pub(super) queue: Queue,
    /// The state with which the delivery was handed out.
    pub(super) state: DeliveryState,
}

impl RabbitSettler {
    async fn settle_work(self, handler: HandlerName, settlement: Settlement) -> Result<Settled, BrokerError> {
        let is_release = settlement == Settlement::Release;
        let (exchange, key, state, point) = match settlement {
            Settlement::Done => return self.handle.ack().await,
            Settlement::Release => (DELAY, delay_key(Tier::SHORTEST, handler), self.released(), None),
            Settlement::Park { until, spends, ref last } => {
                let wait = until.since(Timestamp::now());
                let mut state = match spends {
                    Spends::Attempt => self.next_attempt(),
                    Spends::Age => self.state.clone(),
                    Spends::Nothing => self.held(wait),
                };
                state.last = last.clone().or(state.last);
                let tier = tier_of(wait, spends);
                state.not_before = (wait > tier.time()).then_some(until);
                (DELAY, delay_key(tier, handler), state, Some("retry.confirmed"))
            }
            Settlement::DeadLetter(info) => {
                let (attempt, dead) = (info.attempts.max(1), Some(info));
                let state = DeliveryState { attempt, returned: 0, dead, ..self.state.clone() };
                (DEAD, handler.as_str().to_owned(), state, Some("dead.confirmed"))
            }
        };
        let outgoing = Outgoing {
            exchange,
            routing_key: key,
            properties: message::properties(&self.event, &state),
            body: self.event.body.clone(),
        };
        let settled = self.handle.replace(outgoing, point).await;
        if is_release {
            let out = Arc::clone(&self.handle.out);
            tokio::spawn(async move {
                tokio::time::sleep(BACK_WITHIN).await;
                drop(out);
            });
        }
        settled
    }

    fn next_attempt(&self) -> DeliveryState {
        // An attempt that came to its own end shows that the delivery does not end its process.
        DeliveryState { attempt: self.state.attempt.saturating_add(1), returned: 0, ..self.state.clone() }
    }

    /// The state as it was handed out; a first attempt that was not made begins anew.
    fn released(&self) -> DeliveryState {
        self.held(Duration::ZERO)
    }

    /// The state after a wait without an attempt, which does not age a delivery.
    fn held(&self, wait: Duration) -> DeliveryState {
        let first = self.state.first_attempt_at.filter(|_| self.state.attempt > 1);
        DeliveryState { first_attempt_at: first.map(|at| at.plus(wait)), ..self.state.clone() }
    }

    /// Settles a dead letter, which stays in its queue until the store takes it. Handing it out again costs it nothing
    /// there.
    async fn settle_dead(self, settlement: Settlement) -> Result<Settled, BrokerError> {
        match settlement {
            Settlement::Done => self.handle.ack().await,
            Settlement::Release | Settlement::DeadLetter(_) => self.handle.requeue().await,
            Settlement::Park { until, .. } => {
                let wait = until.since(Timestamp::now()).min(DEAD_WAITS_AT_MOST);
                let stop = self.handle.stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(wait) => drop(self.handle.requeue().await),
                    }
                });
                Ok(Settled::Confirmed)
            }
        }
    }
}

#[async_trait]
impl Settler for RabbitSettler {
    async fn settle(self: Box<Self>, settlement: Settlement) -> Result<Settled, BrokerError> {
        match self.queue {
            Queue::Work(handler) => self.settle_work(handler, settlement).await,
            Queue::Dead(_) => self.settle_dead(settlement).await,
        }
    }

    async fn give_back(self: Box<Self>) {
        // If the publish fails, the broker hands the delivery out again when its channel closes.
        let _ = self.settle(Settlement::Release).await;
    }

    fn abandon(self: Box<Self>) {
        if !self.handle.acker.usable() {
            return;
        }
        // Without a runtime the process is ending; its connection ends with it, which also returns the delivery.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(self.handle.requeue().await) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gate_holds_is_not_late_by_the_next_longer_tier() {
        let held = Duration::from_secs(301);
        assert_eq!(tier_of(held, Spends::Age).name(), "5m");
        assert_eq!(tier_of(held, Spends::Attempt).name(), "10m");
        assert_eq!(tier_of(held, Spends::Nothing).name(), "10m");
    }
}
