//! Consumes one queue on its own channel, and buffers the deliveries until the worker takes them.
//!
//! - Each consumer has at most `prefetch` deliveries outstanding; RabbitMQ hands out the next one when one is
//!   acknowledged.
//! - Deliveries that were not taken when the consumer or the broker closes are given back through the shortest delay.
//!   Closing the channel, or a nack before RabbitMQ 4.3, would count towards the delivery limit, and twenty restarts
//!   would turn harmless deliveries into dead letters.
//! - A consumer ends if the broker cancels it, or if it gets nothing while its queue has messages; the worker then
//!   consumes again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as Message;
use lapin::options::{BasicCancelOptions, BasicQosOptions};
use lapin::{Channel, Connection, Consumer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use hookline_common::names::{HandlerName, Queue};
use hookline_common::time::Timestamp;

use super::declare::{self, Reopening};
use super::link;
use super::message::{self, Read};
use super::publisher::{Outgoing, Publisher};
use super::settler::{Handle, RabbitSettler};
use crate::delivery_buffer::DeliveryBuffer;
use crate::topology::rabbitmq::{DELAY, delay_key};
use crate::topology::{DELIVERY_LIMIT, Tier, takes};
use crate::{DeadLetterInfo, Delivery, DeliveryParts, Settlement, Settler as _};

/// How long a consumer may get nothing while its queue has ready messages, before we take it for dead.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a message that a newer program wrote waits: that program's workers may be up by then.
const NEWER_WAITS: Duration = Duration::from_secs(30);
/// How long we wait for the broker to confirm a cancel.
const CANCEL: Duration = Duration::from_secs(5);
/// How long we wait for the broker to answer a request.
const ASK: Duration = Duration::from_secs(1);

/// The outstanding deliveries of a consumer, as the rest of the broker sees them.
pub(super) struct Outstanding {
    pub(super) queue: Queue,
    channel: Channel,
    prefetch: u16,
    out: Weak<()>,
}

impl Outstanding {
    pub(super) fn is_over(&self) -> bool {
        self.out.strong_count() == 0
    }

    /// How many deliveries were handed out and not settled, including those still on their way here.
    pub(super) async fn held(queue: Queue, all: Vec<Arc<Self>>) -> u64 {
        let mut held = 0;
        for consuming in all.iter().filter(|consuming| consuming.queue == queue) {
            // The broker's answer comes after everything that it sent on this channel before.
            let asked = consuming.channel.basic_qos(consuming.prefetch, BasicQosOptions { global: false });
            let _ = tokio::time::timeout(ASK, asked).await;
            held += u64::try_from(consuming.out.strong_count().saturating_sub(1)).unwrap_or(u64::MAX);
        }
        held
    }
}

/// The broker's end of a consumer: runs until it is stopped, the broker closes, or the consumer ends.
pub(super) struct QueueConsumer {
    pub(super) queue: Queue,
    pub(super) handlers: Vec<HandlerName>,
    pub(super) connection: Arc<Connection>,
    pub(super) channel: Channel,
    pub(super) publisher: Publisher,
    pub(super) prefetch: u16,
    pub(super) buffer: Arc<DeliveryBuffer>,
    /// Cancelled when the broker closes: every delivery is given back.
    pub(super) closing: CancellationToken,
    /// Cancelled when the broker object was dropped or has ended.
    pub(super) gone: CancellationToken,
    /// Cloned once per outstanding delivery, so that its count tells how many there are.
    pub(super) out: Arc<()>,
}

/// Why a consumer ended.
enum End {
    /// The consumer is no longer wanted: it was asked to end, or the broker forgot it.
    Asked,
    /// The broker cancelled the consumer; buffered deliveries can still be settled.
    Cancelled,
    /// The consumer's channel is gone, and the buffered deliveries with it.
    Lost,
    /// The broker object was dropped or has ended.
    Gone,
}

impl QueueConsumer {
    pub(super) fn outstanding(&self) -> Outstanding {
        Outstanding {
            queue: self.queue,
            channel: self.channel.clone(),
            prefetch: self.prefetch,
            out: Arc::downgrade(&self.out),
        }
    }

    pub(super) async fn run(self, mut consumer: Consumer) {
        let end = self.receive(&mut consumer).await;
        match end {
            End::Asked => self.cancel(&mut consumer).await,
            End::Cancelled => {
                tracing::warn!(queue = self.queue.name(), "consumer.cancelled: by the broker; consuming again");
            }
            // The broker hands out again everything that was on the channel.
            End::Lost => self.buffer.forget(),
            End::Gone => {}
        }
        self.buffer.end(self.closing.is_cancelled()).await;
    }

    async fn receive(&self, consumer: &mut Consumer) -> End {
        let mut heard = Instant::now();
        loop {
            let silent_at = heard + SILENCE;
            tokio::select! {
                biased;
                () = self.gone.cancelled() => return End::Gone,
                () = self.closing.cancelled() => return End::Asked,
                () = self.buffer.stopped().cancelled() => return End::Asked,
                came = consumer.next() => match came {
                    Some(Ok(message)) => self.took(message),
                    Some(Err(error)) => {
                        tracing::debug!(queue = self.queue.name(), %error, "consumer.lost");
                        return End::Lost;
                    }
                    None => return End::Cancelled,
                },
                () = tokio::time::sleep_until(silent_at) => {
                    if !self.connection.status().connected() {
                        return End::Lost;
                    }
                    let is_forgotten = tokio::select! {
                        biased;
                        () = self.gone.cancelled() => return End::Gone,
                        () = self.closing.cancelled() => return End::Asked,
                        () = self.buffer.stopped().cancelled() => return End::Asked,
                        is_forgotten = self.is_forgotten() => is_forgotten,
                    };
                    if is_forgotten {
                        tracing::error!(queue = self.queue.name(),
                            "consumer.silent: its queue has messages and hands out none; consuming again");
                        return End::Asked;
                    }
                }
            }
            heard = Instant::now();
        }
    }

    /// Whether the broker forgot this consumer: its queue has messages, the consumer has room, and yet nothing comes.
    async fn is_forgotten(&self) -> bool {
        let out = Arc::strong_count(&self.out).saturating_sub(1);
        if out >= usize::from(self.prefetch) {
            return false;
        }
        let looking = async {
            let mut channel = Reopening::new(&self.connection);
            let depth = declare::depth(&mut channel, &self.queue.name()).await;
            channel.close().await;
            depth
        };
        matches!(link::answered(&self.connection, looking).await, Ok(Ok(Some((ready, _)))) if ready > 0)
    }

    async fn cancel(&self, consumer: &mut Consumer) {
        let cancelled = self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        // The outcome does not matter: what the broker sent before is here by then, or comes again.
        let _ = tokio::time::timeout(CANCEL, cancelled).await;
        while let Some(Some(Ok(message))) = consumer.next().now_or_never() {
            self.took(message);
        }
    }

    fn took(&self, mut message: Message) {
        let handle = Handle {
            acker: message.acker.clone(),
            _channel: self.channel.clone(),
            publisher: self.publisher.clone(),
            stop: self.gone.clone(),
            out: Arc::clone(&self.out),
        };
        if let Some(wait) = self.must_wait(&message) {
            self.wait_on(handle, message, wait);
            return;
        }
        let Read { event, mut state } = message::read(&mut message, self.queue);
        let event = Arc::new(event);
        let first_attempt_at = state.first_attempt_at.unwrap_or_else(Timestamp::now);
        state.first_attempt_at = Some(first_attempt_at);
        let parts = DeliveryParts {
            queue: self.queue,
            attempt: state.attempt,
            first_attempt_at,
            redeliveries: state.returned,
            again: state.again,
            copy: Some(state.copy.unwrap_or(Timestamp::from_millis(0))),
            last: state.last.clone(),
            dead: state.dead.clone(),
            routed_to: self.handlers.iter().copied().filter(|name| takes(*name, &event.event_type)).collect(),
            event: Arc::clone(&event),
        };
        let attempts = state.attempt;
        let settler = Box::new(RabbitSettler { handle, event, queue: self.queue, state });
        // RabbitMQ gives up what one message holds. A delivery that was parked in between is given up here.
        if matches!(self.queue, Queue::Work(_)) && parts.redeliveries > DELIVERY_LIMIT {
            tokio::spawn(settler.settle(Settlement::DeadLetter(DeadLetterInfo::delivery_limit(attempts))));
            return;
        }
        self.buffer.put(Delivery::new(parts, settler), None);
    }

    /// How long the message must wait in another tier before its handler may have it.
    fn must_wait(&self, message: &Message) -> Option<Duration> {
        if matches!(self.queue, Queue::Dead(_)) {
            return None;
        }
        if message::is_newer(&message.properties) {
            return Some(NEWER_WAITS);
        }
        let left = message::not_before(&message.properties)?.since(Timestamp::now());
        (!left.is_zero()).then_some(left)
    }

    /// Moves the message unchanged into a tier, including headers that this program does not know.
    fn wait_on(&self, handle: Handle, message: Message, wait: Duration) {
        let routing_key = delay_key(Tier::towards(wait), self.queue.handler());
        let properties = message::again(&message.properties);
        let body = bytes::Bytes::from(message.data);
        let queue = self.queue;
        tokio::spawn(async move {
            let outgoing = Outgoing { exchange: DELAY, routing_key, properties, body };
            if let Err(error) = handle.replace(outgoing, None).await {
                tracing::debug!(queue = queue.name(), %error, "delivery.not_settled: it is handed out again");
            }
        });
    }
}
