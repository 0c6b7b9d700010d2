//! Keeps the connections to the broker up, for ever: one consumes, and one per class of work publishes. Publishing and
//! consuming must be separate, because a connection that the broker blocks (an alarm of its memory or disk) writes nothing,
//! not even acks. The classes are separate, because RabbitMQ stops reading a connection while a queue that it publishes to
//! does not keep up.
//!
//! ```text
//! connect ──▶ declare the topology ──▶ channels ──▶ ready ──▶ run ──(any fault)──▶ not ready ──▶ wait, with jitter ──┐
//!    ▲───────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! lapin's own recovery stays off: it hides an outage from everything that should act on it. While there is no
//! connection, or it is blocked, publishes are refused at once, so that ingest can spool.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, Event};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use hookline_common::backoff::full_jitter;

use super::context::{Link, RabbitContext};
use super::declare::{self, DeclareError};
use super::publisher::{Published, Publishing, PublishingEnded, Request};
use super::{RabbitRole, link};
use crate::metrics::ReconnectCause;
use crate::topology::WorkClass;
use crate::topology::rabbitmq::Topology;

const AGAIN_FIRST: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(15);
/// A connection that lasted this long was a good one: the next try waits only as after a first failure.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// How often the topology is declared: what an operator deletes or unbinds by mistake is back within this time.
const DECLARE_EVERY: Duration = Duration::from_secs(30);
/// The same while an object is not as it must be.
const DECLARE_AGAIN: Duration = Duration::from_secs(10);
/// How often a connection's state is checked, in addition to its events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why there is no connection.
struct Fault {
    cause: ReconnectCause,
    words: String,
}

impl Fault {
    fn new(cause: ReconnectCause, words: impl Into<String>) -> Self {
        Self { cause, words: words.into() }
    }
}

impl From<DeclareError> for Fault {
    fn from(error: DeclareError) -> Self {
        match error {
            DeclareError::Mismatch(words) => Self::new(ReconnectCause::Topology, words),
            DeclareError::Connection(words) => Self::new(ReconnectCause::Lost, words),
        }
    }
}

/// Publishes the requests of one class until [`RabbitContext::stop`].
pub(super) async fn publish(context: Arc<RabbitContext>, class: WorkClass, mut requests: mpsc::Receiver<Request>) {
    let link = Link::Publish(class);
    let mut tries = 0;
    while !context.stop.is_cancelled() {
        let opened = refusing(&mut requests, &context, link, open_publishing(&context, link)).await;
        let fault = match opened {
            Some(Ok((connection, channel))) => {
                let since = Instant::now();
                context.up(link);
                let fault = publish_on(&context, class, &connection, channel, &mut requests).await;
                if since.elapsed() >= GOOD_AFTER {
                    tries = 0;
                }
                down(&context, link, fault.as_ref());
                refusing(&mut requests, &context, link, link::close(&connection, 200, "bye")).await;
                fault
            }
            Some(Err(fault)) => Some(fault),
            None => None,
        };
        let Some(fault) = fault else { break };
        tries += 1;
        context.faulty(link, fault.cause, &fault.words, tries);
        let wait = full_jitter(AGAIN_FIRST, 2.0, AGAIN_MAX, tries);
        // A queue that does not confirm is not there again because another class can publish.
        let heeds_others = fault.cause != ReconnectCause::Unconfirmed;
        let waiting = async {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = context.publishing_again.notified(), if heeds_others => {}
            }
        };
        refusing(&mut requests, &context, link, waiting).await;
    }
    requests.close();
    while let Ok(request) = requests.try_recv() {
        request.refuse("the broker is closed");
    }
}

/// Records that a connection is down; without a fault it was closed.
fn down(context: &RabbitContext, link: Link, fault: Option<&Fault>) {
    let (cause, why) = fault.map_or((ReconnectCause::Lost, "closed"), |fault| (fault.cause, fault.words.as_str()));
    context.down(link, cause, why);
}

/// Awaits `work`, and meanwhile refuses publishes with the current reason; `None` if the broker was stopped.
async fn refusing<T>(
    requests: &mut mpsc::Receiver<Request>,
    context: &RabbitContext,
    link: Link,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return None,
            done = &mut work => return Some(done),
            Some(request) = requests.recv() => request.refuse(&context.why_not(link)),
        }
    }
}

async fn open_publishing(context: &RabbitContext, link: Link) -> Result<(Arc<Connection>, Channel), Fault> {
    let connection = connect(context, link).await?;
    let opening = async {
        if context.options.role != RabbitRole::Command {
            declare::declare(&connection, &Topology::of(&context.options.handlers)).await?;
        }
        let channel = confirming_channel(&connection).await;
        channel.map_err(|error| Fault::new(ReconnectCause::Lost, error.to_string()))
    };
    let opened = link::answered(&connection, opening).await;
    let channel = opened.map_err(|words| Fault::new(ReconnectCause::Lost, words))??;
    Ok((Arc::new(connection), channel))
}

async fn confirming_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn connect(context: &RabbitContext, link: Link) -> Result<Connection, Fault> {
    let name = format!("hookline {} {}", context.options.role.as_str(), link.name());
    link::connect(&context.options, &name).await.map_err(|words| Fault::new(ReconnectCause::Refused, words))
}

/// Publishes on one connection until it fails; `None` if it was asked to end and has answered every request it took.
async fn publish_on(
    context: &RabbitContext,
    class: WorkClass,
    connection: &Connection,
    channel: Channel,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<Fault> {
    let mut publishing = Publishing::new(channel);
    let mut events = pin!(connection.events_listener());
    let link = Link::Publish(class);
    let mut upkeep = pin!(keep_declared(context, class, connection));
    let mut look = ticker(LOOK_EVERY);
    // Whether some publishes had no answer while the connection was blocked.
    let mut doubted = false;
    loop {
        let blocked = connection.status().blocked();
        context.blocked(link, blocked);
        let why_not = blocked.then(|| context.why_not(link));
        if doubted && !blocked {
            return Some(Fault::new(ReconnectCause::Unconfirmed, "it was blocked, and what was sent then is unknown"));
        }
        tokio::select! {
            biased;
            ended = publishing.step(requests, &context.stop, why_not.as_deref()) => match ended {
                None => {}
                Some(PublishingEnded::Asked) => return None,
                Some(PublishingEnded::Unconfirmed) if connection.status().blocked() => doubted = true,
                Some(PublishingEnded::Unconfirmed) => {
                    return Some(Fault::new(ReconnectCause::Unconfirmed, "a publish was not confirmed in time"));
                }
                Some(PublishingEnded::Refused) => {
                    let words = "every publish was refused: a queue is full, or this channel does not know its leader";
                    return Some(Fault::new(ReconnectCause::Unconfirmed, words));
                }
                Some(PublishingEnded::Broken(words)) => return Some(Fault::new(ReconnectCause::Lost, words)),
            },
            event = events.next() => if let Some(words) = lost(event, connection) {
                return Some(Fault::new(ReconnectCause::Lost, words));
            },
            fault = &mut upkeep => return Some(fault),
            _ = look.tick() => if let Some(words) = lost(None, connection) {
                return Some(Fault::new(ReconnectCause::Lost, words));
            },
        }
    }
}

/// Why the connection is gone, if it is. An error event alone does not prove that: lapin reports errors of channels
/// here too, such as the broker's refusal when we ask about a missing queue.
fn lost(event: Option<Event>, connection: &Connection) -> Option<String> {
    let connected = connection.status().connected();
    match event {
        Some(Event::Error(error)) if !connected => return Some(error.to_string()),
        Some(Event::ConnectionBlocked(reason)) => tracing::warn!(reason, "broker.blocked: RabbitMQ takes no publishes"),
        Some(Event::ConnectionUnblocked) => tracing::info!("broker.unblocked"),
        Some(_) | None => {}
    }
    (!connected).then(|| "the connection is gone".to_owned())
}

/// Declares everything again and again, on the connection of one class; ends only with a fault.
async fn keep_declared(context: &RabbitContext, class: WorkClass, connection: &Connection) -> Fault {
    if context.options.role == RabbitRole::Command || class != WorkClass::OptOuts {
        return std::future::pending().await;
    }
    let topology = Topology::of(&context.options.handlers);
    let mut pause = DECLARE_EVERY;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.declare_now.notified() => {}
        }
        if connection.status().blocked() {
            continue;
        }
        pause = DECLARE_EVERY;
        match declare::declare(connection, &topology).await {
            Ok(()) => context.mismatch(None),
            // Ingest goes on: the confirms say what is stored, and what one queue misses the history brings back.
            Err(DeclareError::Mismatch(words)) if context.options.role == RabbitRole::Ingest => {
                tracing::warn!(why = words, "broker.topology: an exchange or queue is not as it must be");
            }
            Err(DeclareError::Mismatch(words)) => {
                context.mismatch(Some(words));
                pause = DECLARE_AGAIN;
            }
            Err(DeclareError::Connection(words)) => return Fault::new(ReconnectCause::Lost, words),
        }
    }
}

/// Keeps the consuming connection up until [`RabbitContext::stop`].
pub(super) async fn consume(context: Arc<RabbitContext>) {
    let mut tries = 0;
    while !context.stop.is_cancelled() {
        let connected = tokio::select! {
            () = context.stop.cancelled() => break,
            connected = connect(&context, Link::Consume) => connected,
        };
        let fault = match connected {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let since = Instant::now();
                context.consuming.send_replace(Some(Arc::clone(&connection)));
                context.up(Link::Consume);
                let fault = until_lost(&context, &connection, connection.events_listener()).await;
                if since.elapsed() >= GOOD_AFTER {
                    tries = 0;
                }
                context.consuming.send_replace(None);
                down(&context, Link::Consume, fault.as_ref());
                link::close(&connection, 200, "bye").await;
                fault
            }
            Err(fault) => Some(fault),
        };
        let Some(fault) = fault else { break };
        tries += 1;
        context.faulty(Link::Consume, fault.cause, &fault.words, tries);
        tokio::select! {
            () = context.stop.cancelled() => {}
            () = tokio::time::sleep(full_jitter(AGAIN_FIRST, 2.0, AGAIN_MAX, tries)) => {}
        }
    }
}

/// Waits until the connection is lost; `None` if the broker was asked to end.
async fn until_lost(
    context: &RabbitContext,
    connection: &Connection,
    events: impl Stream<Item = Event>,
) -> Option<Fault> {
    let mut events = pin!(events);
    let mut look = ticker(LOOK_EVERY);
    loop {
        let event = tokio::select! {
            () = context.stop.cancelled() => return None,
            event = events.next() => event,
            _ = look.tick() => None,
        };
        context.blocked(Link::Consume, connection.status().blocked());
        if let Some(words) = lost(event, connection) {
            return Some(Fault::new(ReconnectCause::Lost, words));
        }
    }
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(every);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

impl Request {
    fn refuse(self, why: &str) {
        self.answer(Published::NotSent(why.to_owned()));
    }
}
