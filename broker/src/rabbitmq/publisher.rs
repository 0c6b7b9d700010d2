//! Publishes messages and finds out what became of each: [`Published`] has four answers, and a fifth for messages that
//! were never sent.
//!
//! One task owns the publishing channel. If tasks share a channel, lapin 4 assigns confirms to the wrong messages,
//! because it takes a delivery tag under one lock and queues the frames under another; refused messages were reported
//! as stored. Here only this task queues frames, in order, by polling each send once.
//!
//! ```text
//! callers ──▶ queue (bounded) ──▶ task: takes what waits, no timer ──▶ the channel ──▶ confirms, as they come
//! ```
//!
//! - **Returns are matched by message id.** lapin keeps returned messages in a queue and attaches the first of them to
//!   whichever confirm it resolves next, even if that confirm is for another message. So we take all confirms that have
//!   arrived before we answer any, and a return marks the requests that wait under its id. A confirm that came with
//!   another message's return is held until lapin's queue was seen empty: until a later confirm comes without a return,
//!   or no confirm is left.
//! - If every publish is refused for a while, the supervisor makes a new connection. On RabbitMQ 3.10, a channel that
//!   meets a queue just after its leader's node died keeps asking the dead node, and refuses as long as it is open.
//! - A publish without an answer in time is **unknown**: it may still arrive. If no confirm at all comes for that time,
//!   we give up the connection, and everything in flight on it is unknown. On a link that is slow but works, callers
//!   that can wait (forwarding, retries) wait: giving up would only send everything again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use hookline_common::testing::crash_point;

use crate::metrics::{BrokerMetrics, PublishOutcome};

/// Publishes that may be in flight. More would only add latency; beyond this limit a caller waits for a place.
pub(super) const MAX_IN_FLIGHT: usize = 256;
/// How long a caller waits for a place. A broker that works frees one within milliseconds.
const PLACE_WITHIN: Duration = Duration::from_secs(3);
/// How long every publish on one channel may be refused before we make a new connection. A full queue refuses as well;
/// on a new channel it simply refuses again.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Messages that may be unconfirmed. The number includes late ones whose callers were answered: they are still in
/// flight.
const MAX_UNCONFIRMED: usize = 2 * MAX_IN_FLIGHT;
/// Messages taken at a time; confirms are processed in between.
const BATCH: usize = 64;
/// How long we wait for a confirm. A quorum queue commits within milliseconds; one that lost its leader elects another
/// within seconds.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// The same for callers that can wait, as long as other messages are confirmed.
const CONFIRM_AT_LAST: Duration = Duration::from_secs(30);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every queue that takes the message has it on disk.
    Stored,
    /// A queue refused the message, and has not stored it.
    Rejected,
    /// The message reached no queue.
    Unroutable,
    /// No answer came: the message may be stored, or may still arrive.
    Unknown,
    /// The message was not sent; the text says why.
    NotSent(String),
}

/// A message to publish.
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
    within: Duration,
    reply: oneshot::Sender<Published>,
}

impl Request {
    pub(super) fn answer(self, answer: Published) {
        // Sending fails if the caller was cancelled; then nobody needs the answer.
        let _ = self.reply.send(answer);
    }
}

/// Hands messages to the publishing task. Clones share the limit on publishes in flight.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    in_flight: Arc<AtomicUsize>,
    places: Arc<Semaphore>,
    metrics: Arc<BrokerMetrics>,
}

struct InFlight<'a>(&'a Publisher);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.in_flight.dec();
    }
}

impl Publisher {
    pub(super) fn new(metrics: Arc<BrokerMetrics>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, waiting) = mpsc::channel(MAX_IN_FLIGHT);
        let places = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        (Self { requests, in_flight: Arc::default(), places, metrics }, waiting)
    }

    /// Publishes and waits for the answer; `None` if no place became free in time, and nothing was sent.
    pub async fn try_publish(&self, outgoing: Outgoing) -> Option<Published> {
        let place = tokio::time::timeout(PLACE_WITHIN, self.places.acquire()).await;
        let _place = place.ok()?.ok()?;
        let in_flight = self.enter();
        Some(self.send(outgoing, CONFIRM_WITHIN, in_flight).await)
    }

    /// Publishes behind the messages that came before, and waits for the answer, longer than `try_publish` on a slow
    /// link.
    pub async fn publish(&self, outgoing: Outgoing) -> Published {
        let in_flight = self.enter();
        self.send(outgoing, CONFIRM_AT_LAST, in_flight).await
    }

    /// How many publishes wait or are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.metrics.in_flight.inc();
        InFlight(self)
    }

    async fn send(&self, outgoing: Outgoing, within: Duration, _in_flight: InFlight<'_>) -> Published {
        // lapin's own conversion panics beyond 255 bytes.
        let Ok(routing_key) = ShortString::try_new(outgoing.routing_key.as_str()) else {
            return Published::NotSent("its routing key is over 255 bytes".to_owned());
        };
        let exchange = outgoing.exchange;
        let (reply, answer) = oneshot::channel();
        let request = Request { outgoing, routing_key, within, reply };
        let answer = match self.requests.send(request).await {
            // The reply is gone if the task was dropped while the message was in flight.
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
    /// No publisher is left, or the task was asked to end; every message it took was answered.
    Asked,
    /// A message had no answer in time.
    Unconfirmed,
    /// Every publish was refused for a while.
    Refused,
    /// The connection or the channel broke.
    Broken(String),
}

type Confirms = FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<Confirmation>)>>;

/// A message that was sent and not answered yet.
struct Waiting {
    id: Option<ShortString>,
    deadline: Instant,
    was_returned: bool,
    /// The answer, if its confirm came with another message's return: lapin may still hold this message's own return.
    held: Option<Published>,
    reply: oneshot::Sender<Published>,
}

/// The state of publishing on one connection.
pub(super) struct Publishing {
    channel: Channel,
    confirms: Confirms,
    /// Keyed by send number, so in the order of sending.
    waiting: BTreeMap<u64, Waiting>,
    sent: u64,
    /// When the last confirm came, or when a message was sent while no confirm was pending.
    progress: Instant,
    /// Since when every publish has been refused.
    refused_since: Option<Instant>,
    stopping: bool,
}

impl Publishing {
    /// `channel` must be in confirm mode and have no other user.
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            confirms: FuturesUnordered::new(),
            waiting: BTreeMap::new(),
            sent: 0,
            progress: Instant::now(),
            refused_since: None,
            stopping: false,
        }
    }

    /// Takes one step: sends the waiting requests, or answers confirmed messages. With `why_not`, it refuses the
    /// waiting requests for that reason. Cancel-safe.
    pub(super) async fn step(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
        stop: &CancellationToken,
        why_not: Option<&str>,
    ) -> Option<PublishingEnded> {
        if self.stopping && self.waiting.is_empty() {
            return Some(PublishingEnded::Asked);
        }
        let deadline = self.deadline();
        let may_take = !self.stopping && (self.confirms.len() < MAX_UNCONFIRMED || why_not.is_some());
        let mut taken = Vec::new();
        tokio::select! {
            biased;
            Some(first) = self.confirms.next(), if !self.confirms.is_empty() => return self.confirmed(first),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                return self.late();
            }
            () = stop.cancelled(), if !self.stopping => self.stopping = true,
            count = requests.recv_many(&mut taken, BATCH), if may_take => match why_not {
                _ if count == 0 => self.stopping = true,
                Some(why) => taken.into_iter().for_each(|request| request.answer(Published::NotSent(why.to_owned()))),
                None => {
                    for request in taken {
                        self.send(request).await;
                    }
                    crash_point("publish.sent");
                }
            },
        }
        None
    }

    /// When the first waiting message is late, or all of them are because no confirm comes.
    fn deadline(&self) -> Option<Instant> {
        let first = self.waiting.values().map(|waiting| waiting.deadline).min()?;
        Some(first.min(self.progress + CONFIRM_WITHIN))
    }

    fn late(&mut self) -> Option<PublishingEnded> {
        let now = Instant::now();
        let is_silent = now >= self.progress + CONFIRM_WITHIN;
        let late = self.waiting.extract_if(.., |_, waiting| is_silent || waiting.deadline <= now);
        for (_, waiting) in late {
            let _ = waiting.reply.send(Published::Unknown);
        }
        is_silent.then_some(PublishingEnded::Unconfirmed)
    }

    /// Sends one message. Never waits, because it polls the send only once.
    async fn send(&mut self, request: Request) {
        let Request { outgoing: Outgoing { exchange, properties, body, .. }, routing_key, within, reply } = request;
        let id = properties.message_id().clone();
        let channel = self.channel.clone();
        let exchange = ShortString::try_new(exchange).unwrap_or_default();
        let number = self.sent;
        self.sent += 1;
        // An unroutable message must come back: without an alternate exchange it would be lost.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut sending: BoxFuture<'static, _> = Box::pin(async move {
            let sent = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
            let confirmed = match sent {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            (number, confirmed)
        });
        // The first poll takes the delivery tag and queues the frames; the rest of the future awaits the confirm.
        let first = std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await;
        let now = Instant::now();
        if self.confirms.is_empty() {
            self.progress = now;
        }
        let deadline = now + within;
        self.waiting.insert(number, Waiting { id, deadline, was_returned: false, held: None, reply });
        self.confirms.push(match first {
            Poll::Ready(confirmed) => Box::pin(std::future::ready(confirmed)),
            Poll::Pending => sending,
        });
    }

    /// Answers every message that is confirmed by now.
    fn confirmed(&mut self, first: (u64, lapin::Result<Confirmation>)) -> Option<PublishingEnded> {
        self.progress = Instant::now();
        let mut confirmed = vec![first];
        while let Some(Some(next)) = self.confirms.next().now_or_never() {
            confirmed.push(next);
        }
        let mut answers = Vec::with_capacity(confirmed.len());
        for (number, confirmation) in confirmed {
            answers.push(match confirmation {
                Ok(Confirmation::Ack(message)) => (number, Published::Stored, message),
                Ok(Confirmation::Nack(message)) => (number, Published::Rejected, message),
                // The channel is not in confirm mode: we cannot believe what it says about storing.
                Ok(Confirmation::NotRequested) => {
                    debug_assert!(false, "a publishing channel must be in confirm mode");
                    return Some(PublishingEnded::Broken("the channel gives no confirms".to_owned()));
                }
                Err(error) => return Some(PublishingEnded::Broken(error.to_string())),
            });
        }
        let some_stored = answers.iter().any(|(_, answer, _)| *answer == Published::Stored);
        if some_stored {
            self.refused_since = None;
        } else {
            self.refused_since.get_or_insert(self.progress);
        }
        for message in answers.iter().filter_map(|(.., message)| message.as_deref()) {
            if !self.mark_returned(message) {
                // The matching of returns is broken, so everything else in flight is as doubtful.
                return Some(PublishingEnded::Broken("a message was returned that nobody waits for".to_owned()));
            }
        }
        if some_stored {
            crash_point("publish.confirmed");
        }
        if answers.iter().any(|(.., message)| message.is_none()) {
            self.answer_held();
        }
        for (number, answer, message) in answers {
            // The message is missing if it was late: its caller already has the answer `Unknown`.
            let Some(waiting) = self.waiting.get_mut(&number) else { continue };
            match message {
                Some(message) if *message.properties.message_id() != waiting.id => waiting.held = Some(answer),
                Some(_) | None => self.answer(number, answer),
            }
        }
        if self.confirms.is_empty() {
            self.answer_held();
        }
        let refused_for = self.refused_since.map_or(Duration::ZERO, |since| since.elapsed());
        (refused_for >= REFUSED_FOR).then_some(PublishingEnded::Refused)
    }

    fn answer(&mut self, number: u64, answer: Published) {
        let Some(waiting) = self.waiting.remove(&number) else { return };
        let reached_none = waiting.was_returned && answer == Published::Stored;
        // Sending fails if the caller was cancelled; then nobody needs the answer.
        let _ = waiting.reply.send(if reached_none { Published::Unroutable } else { answer });
    }

    /// Answers the held messages: by now all their returns are known.
    fn answer_held(&mut self) {
        let held = self.waiting.iter().filter_map(|(number, waiting)| Some((*number, waiting.held.clone()?)));
        for (number, answer) in held.collect::<Vec<_>>() {
            self.answer(number, answer);
        }
    }

    /// Marks the messages that wait under the id of a returned message; `false` if none does.
    fn mark_returned(&mut self, message: &Delivery) -> bool {
        let id = message.properties.message_id();
        let mut of_ours = 0;
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.id == *id) {
            waiting.was_returned = true;
            of_ours += 1;
        }
        tracing::error!(
            event.id = id.as_ref().map(ShortString::as_str).unwrap_or_default(),
            of_ours,
            "publish.returned: it reached no queue and counts as not stored; `hookline topology` shows what is missing"
        );
        of_ours > 0
    }
}
