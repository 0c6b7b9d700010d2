//! Publishes, and knows what became of each message: [`Published`] has four answers and one for what was never sent.
//!
//! One task owns the publishing channel. Where tasks share one, lapin 4 gives confirms to the wrong messages, because a
//! delivery tag is taken under one lock and its frames are queued under another: refused messages were reported as
//! stored. Here the frames are queued by polling each send once, in order, in this task alone.
//!
//! ```text
//! callers ──▶ queue (bounded) ──▶ task: takes what waits, no timer ──▶ the channel ──▶ confirms, as they come
//! ```
//!
//! - **Returns are matched by message id.** lapin keeps returned messages in a queue and gives the first of it to whichever
//!   confirm is resolved next, whatever message that is of. So all confirms that are in are taken before any of them is
//!   answered, a return marks whoever waits under its id, and a confirm that came with another's return is answered
//!   once that queue was seen empty: by a later confirm that came with none, or because none is left.
//! - Where everything is refused for a while the connection is made anew: a channel of RabbitMQ 3.10 that meets a queue
//!   just after its leader's node died keeps asking the dead node, and refuses for as long as it is open.
//! - A publish without an answer in time is **unknown**: it may still arrive. Where no confirm at all comes for that
//!   time, the connection is given up, and all that is on its way there is unknown. On a link that is slow and works,
//!   whoever can wait (forwarding, retries) waits: giving up would only send everything again.

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
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use hookline_common::testing::crash_point;

use crate::metrics::{BrokerMetrics, PublishOutcome};

/// Publishes that wait or are under way. Past it only latency grows; above it a caller hears so at once.
pub(super) const MAX_IN_FLIGHT: usize = 256;
/// How long everything may be refused on one channel. A queue that is full refuses as well, which a new channel tells
/// again.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Sent and not confirmed, callers or not: those that were late are still on their way.
const MAX_UNCONFIRMED: usize = 2 * MAX_IN_FLIGHT;
/// Messages taken at a time, so that confirms are looked at in between.
const BATCH: usize = 64;
/// Until a confirm must be there. A quorum queue commits within milliseconds; one that lost its leader elects another
/// within seconds.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// The same for who can wait, where others are confirmed.
const CONFIRM_AT_LAST: Duration = Duration::from_secs(30);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every queue that takes it has it on disk.
    Stored,
    /// A queue refused it: it is not stored there.
    Rejected,
    /// It reached no queue.
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
    within: Duration,
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
        (Self { requests, in_flight: Arc::default(), metrics }, waiting)
    }

    /// Publishes and waits for the answer; `None` where too many are in flight already.
    pub async fn try_publish(&self, outgoing: Outgoing) -> Option<Published> {
        let in_flight = self.enter();
        if self.in_flight.load(Ordering::Relaxed) > MAX_IN_FLIGHT {
            return None;
        }
        Some(self.send(outgoing, CONFIRM_WITHIN, in_flight).await)
    }

    /// Publishes and waits for the answer, after those that came before, and longer where the link is slow.
    pub async fn publish(&self, outgoing: Outgoing) -> Published {
        let in_flight = self.enter();
        self.send(outgoing, CONFIRM_AT_LAST, in_flight).await
    }

    /// Publishes that wait or are under way.
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
        // Beyond 255 bytes lapin's own conversion panics.
        let Ok(routing_key) = ShortString::try_new(outgoing.routing_key.as_str()) else {
            return Published::NotSent("its routing key is over 255 bytes".to_owned());
        };
        let exchange = outgoing.exchange;
        let (reply, answer) = oneshot::channel();
        let request = Request { outgoing, routing_key, within, reply };
        let answer = match self.requests.send(request).await {
            // Its task was dropped with it under way.
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
    /// A message had no answer in time.
    Unconfirmed,
    /// Everything was refused for a while.
    Refused,
    /// The connection or the channel broke.
    Broken(String),
}

type Confirms = FuturesUnordered<BoxFuture<'static, (u64, lapin::Result<Confirmation>)>>;

/// Sent, and not answered yet.
struct Waiting {
    id: Option<ShortString>,
    deadline: Instant,
    was_returned: bool,
    /// Its confirm came with another's return: its own may still be with lapin.
    held: Option<Published>,
    reply: oneshot::Sender<Published>,
}

/// Publishing on one connection.
pub(super) struct Publishing {
    channel: Channel,
    confirms: Confirms,
    /// In the order in which they were sent.
    waiting: BTreeMap<u64, Waiting>,
    sent: u64,
    /// When a confirm came last, or something was sent while none was awaited.
    progress: Instant,
    /// Since when everything was refused.
    refused_since: Option<Instant>,
    stopping: bool,
}

impl Publishing {
    /// The channel is in confirm mode and has no other user.
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

    /// Takes one step: sends what waits, or answers what was confirmed; with a reason why not, what waits is refused.
    /// Cancelling it loses nothing.
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

    /// When the first of those that wait is late, or all of them.
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

    /// Never waits: a first poll, and no more.
    async fn send(&mut self, request: Request) {
        let Request { outgoing: Outgoing { exchange, properties, body, .. }, routing_key, within, reply } = request;
        let id = properties.message_id().clone();
        let channel = self.channel.clone();
        let exchange = ShortString::try_new(exchange).unwrap_or_default();
        let number = self.sent;
        self.sent += 1;
        // Whatever is unroutable must come back: without an alternate exchange behind it, it would be gone.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut sending: BoxFuture<'static, _> = Box::pin(async move {
            let sent = channel.basic_publish(exchange, routing_key, options, &body, properties).await;
            let confirmed = match sent {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            (number, confirmed)
        });
        // It takes the delivery tag and queues the frames; what is left is to hear what became of it.
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

    /// Answers what is confirmed by now.
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
                // The channel is not in confirm mode: nothing it says of storing can be believed.
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
                // The pairing is off: what else is on its way is as doubtful.
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
            // Missing where its time was over.
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
        // Nobody waits where the caller was cancelled.
        let _ = waiting.reply.send(if reached_none { Published::Unroutable } else { answer });
    }

    /// Every return of theirs is known by now.
    fn answer_held(&mut self) {
        let held = self.waiting.iter().filter_map(|(number, waiting)| Some((*number, waiting.held.clone()?)));
        for (number, answer) in held.collect::<Vec<_>>() {
            self.answer(number, answer);
        }
    }

    /// Marks whoever waits under the id of a returned message; `false`: nobody does.
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
