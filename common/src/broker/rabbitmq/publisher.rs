//! Publishes, and knows what became of each message: [`Published`] has four answers and one for what was never sent.
//!
//! One task owns every publishing channel. Where tasks share one, lapin 4 gives confirms to the wrong messages, because
//! a delivery tag is taken under one lock and its frames are queued under another: refused messages were reported as
//! stored. Here the frames of a batch are queued by polling each send once, in order, in this task alone.
//!
//! ```text
//! callers ──▶ queue (bounded) ──▶ task: takes what waits (≤ 64, no timer) ──▶ a free channel ──▶ confirms, all of them
//! ```
//!
//! - A batch is answered when every confirm of it is in, or its deadline has passed. lapin gives a returned message to
//!   whichever confirm comes next, so **one return fails its whole batch** ([`Published::Unroutable`]), and with one
//!   batch on a channel at a time a return cannot reach another batch.
//! - A publish without an answer in time is **unknown**: it may still arrive. The connection is then given up: confirms
//!   that were not awaited stay in lapin's memory, and what else is on its way there is as doubtful.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::{BrokerMetrics, PublishOutcome};
use crate::testing::crash_point;

/// Publishes that wait or are under way. Past it only latency grows; above it a caller hears so at once.
pub(super) const MAX_IN_FLIGHT: usize = 256;
/// Messages of one batch.
const BATCH: usize = 64;
/// Until a confirm must be there. A quorum queue commits within milliseconds; one that lost its leader elects another
/// within seconds.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every queue that takes it has it on disk.
    Stored,
    /// A queue refused it: it is not stored there.
    Rejected,
    /// It, or another of its batch, reached no queue.
    Unroutable,
    /// No answer: it may be stored, or still arrive.
    Unknown,
    /// It was not sent.
    NotSent(String),
}

/// A message on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub exchange: &'static str,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Bytes,
}

pub(super) struct Request {
    outgoing: Outgoing,
    routing_key: ShortString,
    reply: oneshot::Sender<Published>,
}

impl Request {
    pub(super) fn answer(self, answer: Published) {
        // Nobody waits where the caller was cancelled.
        let _ = self.reply.send(answer);
    }
}

/// Hands messages to the task that publishes. Clones share its bound.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    in_flight: Arc<AtomicUsize>,
    metrics: Arc<BrokerMetrics>,
}

struct Place<'a>(&'a Publisher);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.in_flight.dec();
    }
}

impl Publisher {
    pub(super) fn new(metrics: Arc<BrokerMetrics>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, waiting) = mpsc::channel(MAX_IN_FLIGHT);
        (Self { requests, in_flight: Arc::default(), metrics }, waiting)
    }

    /// Publishes and waits for the answer; `None` where too many are in flight already.
    pub async fn try_publish(&self, outgoing: Outgoing) -> Option<Published> {
        let place = self.place();
        if self.in_flight.load(Ordering::Relaxed) > MAX_IN_FLIGHT {
            return None;
        }
        Some(self.send(outgoing, place).await)
    }

    /// Publishes and waits for the answer, after those that came before.
    pub async fn publish(&self, outgoing: Outgoing) -> Published {
        let place = self.place();
        self.send(outgoing, place).await
    }

    /// Publishes that wait or are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn place(&self) -> Place<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.metrics.in_flight.inc();
        Place(self)
    }

    async fn send(&self, outgoing: Outgoing, _place: Place<'_>) -> Published {
        // Beyond 255 bytes lapin's own conversion panics.
        let Ok(routing_key) = ShortString::try_new(outgoing.routing_key.as_str()) else {
            return Published::NotSent("its routing key is over 255 bytes".to_owned());
        };
        let exchange = outgoing.exchange;
        let (reply, answer) = oneshot::channel();
        let request = Request { outgoing, routing_key, reply };
        let answer = match self.requests.send(request).await {
            // Its task was dropped with the batch under way.
            Ok(()) => answer.await.unwrap_or(Published::Unknown),
            Err(_) => Published::NotSent("the broker is closed".to_owned()),
        };
        let outcome = match &answer {
            Published::Stored => PublishOutcome::Stored,
            Published::Rejected => PublishOutcome::Rejected,
            Published::Unroutable => PublishOutcome::Unroutable,
            Published::Unknown => PublishOutcome::Unknown,
            Published::NotSent(_) => return answer,
        };
        self.metrics.published(exchange, outcome);
        answer
    }
}

/// Why publishing on a connection ended.
#[derive(Debug)]
pub(super) enum PublishingEnded {
    /// Nobody is left to publish, or it was asked to end: everything taken was answered.
    Asked,
    /// A batch had no answer in time.
    Unconfirmed,
    /// The connection or a channel broke.
    Broken(String),
}

type Batches = FuturesUnordered<BoxFuture<'static, (Channel, Option<PublishingEnded>)>>;

/// Publishing on one connection.
pub(super) struct Publishing {
    free: Vec<Channel>,
    under_way: Batches,
    stopping: bool,
}

impl Publishing {
    /// Each channel is in confirm mode and has no other user.
    pub(super) fn new(channels: Vec<Channel>) -> Self {
        Self { free: channels, under_way: FuturesUnordered::new(), stopping: false }
    }

    /// Takes one step: sends a batch where something waits, or ends one; with a reason why not, what waits is refused.
    /// Cancelling it loses nothing.
    pub(super) async fn step(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        stop: &CancellationToken,
        why_not: Option<&str>,
    ) -> Option<PublishingEnded> {
        if self.stopping && self.under_way.is_empty() {
            return Some(PublishingEnded::Asked);
        }
        let may_take = !self.stopping && (!self.free.is_empty() || why_not.is_some());
        let mut taken = Vec::new();
        tokio::select! {
            biased;
            Some((channel, ended)) = self.under_way.next(), if !self.under_way.is_empty() => {
                if ended.is_none() {
                    self.free.push(channel);
                }
                return ended;
            }
            () = stop.cancelled(), if !self.stopping => self.stopping = true,
            count = requests.recv_many(&mut taken, BATCH), if may_take => match why_not {
                _ if count == 0 => self.stopping = true,
                Some(why) => taken.into_iter().for_each(|request| request.answer(Published::NotSent(why.to_owned()))),
                None => if let Some(channel) = self.free.pop() {
                    self.under_way.push(Box::pin(batch(channel, taken)));
                },
            },
        }
        None
    }
}

/// Sends a batch, waits for its confirms and answers each. `None`: the channel may be used again.
async fn batch(channel: Channel, requests: Vec<Request>) -> (Channel, Option<PublishingEnded>) {
    let count = requests.len();
    let mut replies = Vec::with_capacity(count);
    let mut messages = Vec::with_capacity(count);
    for Request { outgoing, routing_key, reply } in requests {
        replies.push(reply);
        messages.push((outgoing, routing_key));
    }
    let ids: Vec<Option<ShortString>> =
        messages.iter().map(|(outgoing, _)| outgoing.properties.message_id().clone()).collect();
    let confirmed = tokio::time::timeout(CONFIRM_WITHIN, send(&channel, messages)).await;
    let (answers, ended) = match confirmed {
        Err(_elapsed) => (vec![Published::Unknown; count], Some(PublishingEnded::Unconfirmed)),
        Ok(Err(error)) => (vec![Published::Unknown; count], Some(PublishingEnded::Broken(error.to_string()))),
        Ok(Ok(confirmations)) => judge(&ids, confirmations),
    };
    if answers.contains(&Published::Stored) {
        crash_point("publish.confirmed");
    }
    for (reply, answer) in replies.into_iter().zip(answers) {
        // Nobody waits where the caller was cancelled.
        let _ = reply.send(answer);
    }
    (channel, ended)
}

async fn send(channel: &Channel, messages: Vec<(Outgoing, ShortString)>) -> lapin::Result<Vec<Confirmation>> {
    // Whatever is unroutable must come back: without an alternate exchange behind it, it would be gone.
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut sends = Vec::with_capacity(messages.len());
    for (Outgoing { exchange, properties, body, .. }, routing_key) in messages {
        let exchange = ShortString::try_new(exchange).unwrap_or_default();
        let mut send =
            Box::pin(async move { channel.basic_publish(exchange, routing_key, options, &body, properties).await });
        // The first poll takes the delivery tag and queues the frames; what is left is to hear that they are written.
        let first = std::future::poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await;
        sends.push((send, first));
    }
    crash_point("publish.sent");
    let mut confirms: Vec<PublisherConfirm> = Vec::with_capacity(sends.len());
    for (send, first) in sends {
        confirms.push(match first {
            Poll::Ready(sent) => sent?,
            Poll::Pending => send.await?,
        });
    }
    let mut confirmations = Vec::with_capacity(confirms.len());
    for confirm in confirms {
        confirmations.push(confirm.await?);
    }
    Ok(confirmations)
}

/// The answers of a batch whose confirms are all in.
fn judge(ids: &[Option<ShortString>], confirmations: Vec<Confirmation>) -> (Vec<Published>, Option<PublishingEnded>) {
    let mut answers = Vec::with_capacity(confirmations.len());
    let mut returned = Vec::new();
    for confirmation in confirmations {
        let (answer, message) = match confirmation {
            Confirmation::Ack(message) => (Published::Stored, message),
            Confirmation::Nack(message) => (Published::Rejected, message),
            // The channel is not in confirm mode: nothing it says of storing can be believed.
            Confirmation::NotRequested => {
                debug_assert!(false, "a publishing channel must be in confirm mode");
                let why = "the channel gives no confirms".to_owned();
                return (vec![Published::Unknown; ids.len()], Some(PublishingEnded::Broken(why)));
            }
        };
        answers.push(answer);
        returned.extend(message);
    }
    let Some(first) = returned.first() else { return (answers, None) };
    let id = first.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
    let ours = ids.iter().flatten().any(|sent| sent.as_str() == id);
    tracing::error!(
        event.id = id,
        of_this_batch = ours,
        count = returned.len(),
        batch = ids.len(),
        "publish.returned: a message reached no queue; its batch counts as not stored. `hookline topology` shows what is missing"
    );
    for answer in &mut answers {
        if *answer == Published::Stored {
            *answer = Published::Unroutable;
        }
    }
    // A return that belongs to none of these would mean that the pairing is off: start anew.
    let ended = (!ours).then(|| PublishingEnded::Broken("a message was returned that is not of its batch".to_owned()));
    (answers, ended)
}
