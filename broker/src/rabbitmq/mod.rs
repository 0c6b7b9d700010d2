//! The broker for many machines: RabbitMQ, 3.10 and 4.x.
//!
//! ```text
//! publish, park, dead-letter ──▶ Publisher ──▶ publishing connection ──▶ RabbitMQ        (one per class of work)
//!                                                        ▲                  │
//!                                                   supervisor              │
//!                                                        ▼                  ▼
//! worker ◀── DeliveryBuffer ◀── QueueConsumer ◀── consuming connection ◀── RabbitMQ
//!    └── ack, last ──────────────────────────────────────▲
//! ```
//!
//! - `supervisor` keeps the connections up, declares the topology and reports the state ([`BrokerState`]).
//! - `publisher` finds out for each message whether it is stored, refused, unroutable, or unknown.
//! - `consumer` hands out deliveries. `settler` settles them: it publishes the next state, awaits its confirm, and
//!   acknowledges.
//! - **Not promised**: order beyond the order of first deliveries, and exact recognition of a sender's repeats.
//!
//! docs/decisions/0005-rabbitmq.md gives the reasons for each part.

mod consumer;
mod context;
mod declare;
mod handshake;
mod link;
mod message;
mod publisher;
mod publishers;
mod recent;
mod settler;
mod supervisor;
mod unrouted;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ErrorKind};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

pub use self::declare::Difference;
pub use self::publisher::{Outgoing, Published, Publisher};
pub use self::unrouted::Unrouted;

use hookline_common::event::{Event, EventId};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::secret::Secret;
use hookline_common::settings::Settings;
use hookline_common::task;
use hookline_common::time::Timestamp;

use self::consumer::{Outstanding, QueueConsumer};
use self::context::{Link, RabbitContext};
use self::declare::{DeclareError, Reopening};
use self::message::DeliveryState;
use self::publishers::Publishers;
use self::recent::Recent;
use super::{
    Again, BrokerError, BrokerState, Consume, Deliveries, OtherQueue, Publish, PublishError, QueueAdmin, QueueDepth,
    Resumed, Stored,
};
use crate::delivery_buffer::DeliveryBuffer;
use crate::metrics::BrokerMetrics;
use crate::topology::rabbitmq::{EVENTS, RabbitQueue, Topology, WORK};
use crate::topology::{Tier, WorkClass};

/// How long a request waits for the consuming connection to come up.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);
/// How long closing waits for consumers to give back what they hold.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(10);
/// How long ending waits for each connection's task.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// What a process does with RabbitMQ. Ingest and worker declare the topology when they connect, and again every 30 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RabbitRole {
    /// Publishes only.
    Ingest,
    /// Publishes and consumes.
    Worker,
    /// Runs one command: connects like a worker, but declares nothing unless asked.
    Command,
}

impl RabbitRole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Worker => "worker",
            Self::Command => "command",
        }
    }
}

#[derive(Clone, Debug)]
pub struct RabbitOptions {
    /// `amqp://` or `amqps://` URLs, tried in random order.
    pub urls: Vec<Secret>,
    /// Certificates that sign the broker's certificate, as PEM, in addition to the system's.
    pub ca_pem: Option<String>,
    /// The handlers that are switched on; the topology has their queues.
    pub handlers: Vec<HandlerName>,
    pub role: RabbitRole,
    pub metrics: Arc<BrokerMetrics>,
}

impl RabbitOptions {
    /// Builds the options from the settings; `ca_pem` is the content of the file `[broker] ca`.
    #[must_use]
    pub fn new(settings: &Settings, ca_pem: Option<String>, role: RabbitRole, metrics: Arc<BrokerMetrics>) -> Self {
        Self { urls: settings.broker.url.clone(), ca_pem, handlers: settings.handlers.enabled(), role, metrics }
    }
}

/// Dropping the broker without [`Publish::close`] leaves the same state as a crash of the process.
pub struct RabbitBroker {
    context: Arc<RabbitContext>,
    publishers: Publishers,
    recent: Recent,
    consumer_tasks: TaskTracker,
    consumers: Mutex<Vec<Arc<Outstanding>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl RabbitBroker {
    /// Starts connecting and keeps trying for ever; [`Publish::state`] reports the outcome. Must be called in a tokio
    /// runtime.
    #[must_use]
    pub fn start(options: RabbitOptions) -> Arc<Self> {
        let (publishers, requests) = Publishers::new(&options.metrics);
        let consumes = options.role != RabbitRole::Ingest;
        let context = Arc::new(RabbitContext::new(options));
        let mut tasks = Vec::new();
        for (class, requests) in requests {
            let publishing = supervisor::publish(Arc::clone(&context), class, requests);
            tasks.push(tokio::spawn(serving(&context, "a publishing connection's task", publishing)));
        }
        if consumes {
            let consuming = supervisor::consume(Arc::clone(&context));
            tasks.push(tokio::spawn(serving(&context, "the consuming connection's task", consuming)));
        }
        let tasks = Mutex::new(tasks);
        let (recent, consumer_tasks, consumers) = (Recent::default(), TaskTracker::new(), Mutex::default());
        Arc::new(Self { context, publishers, recent, consumer_tasks, consumers, tasks })
    }

    /// Waits until the broker is ready.
    ///
    /// # Errors
    /// If the broker is not ready `within` this time; the error says why.
    pub async fn wait_ready(&self, within: Duration) -> Result<(), BrokerError> {
        let mut state = self.context.state.subscribe();
        let ready = state.wait_for(|state| *state == BrokerState::Ready);
        if matches!(tokio::time::timeout(within, ready).await, Ok(Ok(_))) {
            return Ok(());
        }
        let why = match &*self.context.state.borrow() {
            BrokerState::NotReady(why) | BrokerState::Failed(why) => why.clone(),
            BrokerState::Ready => return Ok(()),
        };
        Err(BrokerError::Unavailable(why))
    }

    /// The publisher for messages other than events: it returns an answer for each message.
    #[must_use]
    pub fn publisher(&self, class: WorkClass) -> &Publisher {
        self.publishers.of(class)
    }

    /// How the broker's exchanges and queues differ from what they must be. AMQP offers no way to ask for bindings.
    ///
    /// # Errors
    /// If the broker is not available.
    pub async fn differences(&self) -> Result<Vec<Difference>, BrokerError> {
        let connection = self.connection().await?;
        let topology = Topology::of(&self.context.options.handlers);
        asked(&connection, declare::compare(&connection, &topology)).await?.map_err(unavailable)
    }

    /// Declares what is missing, binds everything, unbinds the queues of switched-off handlers from `hookline.events`,
    /// and removes the exchanges that earlier versions left. Deletes no queue.
    ///
    /// # Errors
    /// If an object exists with other arguments, or the broker is not available.
    pub async fn apply_topology(&self) -> Result<(), BrokerError> {
        let connection = self.connection().await?;
        let enabled = &self.context.options.handlers;
        let topology = Topology::of(enabled);
        asked(&connection, declare::declare(&connection, &topology)).await?.map_err(unavailable)?;
        let off: Vec<HandlerName> = HandlerName::ALL.iter().copied().filter(|name| !enabled.contains(name)).collect();
        asked(&connection, declare::unbind(&connection, &off)).await?.map_err(unavailable)?;
        asked(&connection, declare::remove_left_overs(&connection)).await?.map_err(unavailable)
    }

    /// The messages that no queue took, oldest first, up to `limit`; they stay in `hookline.unrouted`.
    ///
    /// # Errors
    /// If the broker is not available.
    pub async fn unrouted(&self, limit: usize) -> Result<Vec<Unrouted>, BrokerError> {
        let connection = self.connection().await?;
        asked(&connection, unrouted::list(&connection, limit)).await?
    }

    /// Sends up to `most` messages that no queue took to where they were going: an event to its handlers, a retry or a
    /// dead letter with the state in its headers. Effects that handlers have done stay done.
    ///
    /// # Errors
    /// If a message is not stored: this message, and those behind it, stay where they are.
    pub async fn redrive_unrouted(&self, most: usize) -> Result<usize, BrokerError> {
        let connection = self.connection().await?;
        // One by one, whatever the class: an operator waits for the answer.
        let publisher = self.publishers.of(WorkClass::Others);
        asked(&connection, unrouted::redrive(&connection, publisher, most)).await?
    }

    /// Permanently removes up to `most` messages that no queue took, and returns them.
    ///
    /// # Errors
    /// If the broker is not available.
    pub async fn discard_unrouted(&self, most: usize) -> Result<Vec<Unrouted>, BrokerError> {
        let connection = self.connection().await?;
        asked(&connection, unrouted::discard(&connection, most)).await?
    }

    /// Ends as a crash of the process would: nothing is given back, and connections are cut.
    pub async fn abandon(&self) {
        self.context.stop.cancel();
        for task in self.tasks.lock().await.drain(..) {
            // An error means that the task panicked: it has ended all the same.
            let _ = tokio::time::timeout(ENDED_WITHIN, task).await;
        }
    }

    fn publisher_of(&self, event: &Event) -> &Publisher {
        self.publishers.of(WorkClass::of_event(&event.event_type))
    }

    async fn connection(&self) -> Result<Arc<Connection>, BrokerError> {
        let mut consuming = self.context.consuming.subscribe();
        let connected = consuming.wait_for(Option::is_some);
        if let Ok(Ok(connection)) = tokio::time::timeout(CONNECTED_WITHIN, connected).await
            && let Some(connection) = &*connection
        {
            return Ok(Arc::clone(connection));
        }
        Err(BrokerError::Unavailable(self.context.why_not(Link::Consume)))
    }

    /// How many messages are ready in each of these queues, by name, and how many consumers it has; zeros if it is
    /// missing.
    async fn depths<Q>(&self, queues: Vec<(Q, String)>) -> Result<Vec<(Q, (u32, u32))>, BrokerError> {
        let connection = self.connection().await?;
        let looking = async {
            let mut channel = Reopening::new(&connection);
            let mut found = Vec::with_capacity(queues.len());
            for (queue, name) in queues {
                found.push((queue, declare::depth(&mut channel, &name).await?.unwrap_or_default()));
            }
            channel.close().await;
            Ok(found)
        };
        asked(&connection, looking).await?.map_err(unavailable)
    }

    /// Maps an answer to a result; `None` means that too many publishes are in flight.
    fn stored(&self, answer: Option<Published>) -> Result<(), PublishError> {
        match answer {
            Some(Published::Stored) => Ok(()),
            Some(Published::Rejected) => Err(PublishError::Unavailable(
                "a queue refused it: look for a length limit in the policies on hookline.*".to_owned(),
            )),
            Some(Published::Unroutable) => {
                self.context.declare_now.notify_one();
                Err(PublishError::Unavailable("no queue took it: `hookline topology` shows what is missing".to_owned()))
            }
            Some(Published::Unknown) => Err(PublishError::Unknown),
            Some(Published::NotSent(why)) => Err(PublishError::Unavailable(why)),
            None => Err(PublishError::Overloaded),
        }
    }
}

/// Runs a task without which the broker keeps no promise: if the task panics, the broker has failed.
fn serving<T: Future<Output = ()>>(
    context: &Arc<RabbitContext>,
    name: &'static str,
    task: T,
) -> impl Future<Output = ()> + use<T> {
    let context = Arc::clone(context);
    task::told_if_it_panics(name, task, move |reason| context.failed(reason))
}

/// The message for an event that arrived.
fn new(event: &Event) -> Outgoing {
    Outgoing {
        exchange: EVENTS,
        routing_key: events_key(event),
        properties: message::properties(event, &DeliveryState::new()),
        body: event.body.clone(),
    }
}

/// The message for a delivery to one handler.
fn to_work(handler: HandlerName, event: &Event, state: &DeliveryState) -> Outgoing {
    Outgoing {
        exchange: WORK,
        routing_key: handler.as_str().to_owned(),
        properties: message::properties(event, state),
        body: event.body.clone(),
    }
}

/// The routing key of an event on `hookline.events`.
fn events_key(event: &Event) -> String {
    format!("{}.{}", event.source, event.event_type.routing_words())
}

/// See [`link::answered`].
async fn asked<T>(connection: &Connection, asked: impl Future<Output = T>) -> Result<T, BrokerError> {
    link::answered(connection, asked).await.map_err(BrokerError::Unavailable)
}

fn unavailable(error: DeclareError) -> BrokerError {
    match error {
        DeclareError::Mismatch(words) | DeclareError::Connection(words) => BrokerError::Unavailable(words),
    }
}

#[async_trait]
impl Publish for RabbitBroker {
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError> {
        let duplicate = self.recent.holds(&event.id);
        self.stored(self.publisher_of(event).try_publish(new(event)).await)?;
        self.recent.add(&event.id);
        Ok(Stored { duplicate })
    }

    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError> {
        let duplicate = self.recent.holds(&event.id);
        self.stored(Some(self.publisher_of(event).publish(new(event)).await))?;
        self.recent.add(&event.id);
        Ok(Stored { duplicate })
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.context.state.subscribe()
    }

    fn degraded(&self) -> Vec<String> {
        self.context.degraded()
    }

    async fn close(&self) {
        self.context.closing.cancel();
        self.consumer_tasks.close();
        if tokio::time::timeout(GIVEN_BACK_WITHIN, self.consumer_tasks.wait()).await.is_err() {
            tracing::warn!("not everything could be given back: it is handed out again, and counted as such");
        }
        self.abandon().await;
    }
}

#[async_trait]
impl Consume for RabbitBroker {
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Deliveries, BrokerError> {
        let connection = self.connection().await?;
        let prefetch = prefetch.max(1);
        let failed = |error: lapin::Error| {
            if matches!(error.kind(), ErrorKind::ProtocolError(protocol) if protocol.get_id() == 404) {
                self.context.declare_now.notify_one();
            }
            BrokerError::Unavailable(error.to_string())
        };
        let opening = async {
            let channel = connection.create_channel().await?;
            // The limit is per consumer: RabbitMQ's quorum queues support no other.
            channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
            let name = ShortString::try_new(queue.name()).unwrap_or_default();
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let consumer = channel.basic_consume(name, ShortString::default(), options, arguments).await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = asked(&connection, opening).await?.map_err(failed)?;
        let buffer = Arc::new(DeliveryBuffer::default());
        let consuming = QueueConsumer {
            queue,
            handlers: self.context.options.handlers.clone(),
            connection,
            channel,
            publisher: self.publishers.of(WorkClass::of_handler(queue.handler())).clone(),
            prefetch,
            buffer: Arc::clone(&buffer),
            closing: self.context.closing.clone(),
            gone: self.context.stop.clone(),
            out: Arc::new(()),
        };
        {
            let mut consumers = self.consumers.lock().await;
            consumers.retain(|consuming| !consuming.is_over());
            consumers.push(Arc::new(consuming.outstanding()));
        }
        self.consumer_tasks.spawn(serving(&self.context, "a consumer's task", consuming.run(consumer)));
        Ok(Deliveries::new(buffer))
    }

    async fn held(&self, queue: Queue) -> u64 {
        let consumers = self.consumers.lock().await.clone();
        Outstanding::held(queue, consumers).await
    }
}

#[async_trait]
impl QueueAdmin for RabbitBroker {
    async fn publish_again(&self, handler: HandlerName, event: &Event, why: Again) -> Result<(), PublishError> {
        let state = DeliveryState { again: Some(why), copy: Some(Timestamp::now()), ..DeliveryState::new() };
        let publisher = self.publishers.of(WorkClass::of_handler(handler));
        self.stored(publisher.try_publish(to_work(handler, event, &state)).await)
    }

    async fn publish_anew(&self, handler: HandlerName, event: &Event, from: Resumed) -> Result<(), PublishError> {
        let Resumed { attempt, first_attempt_at, copy } = from;
        let state = DeliveryState { attempt, first_attempt_at, copy: Some(copy), ..DeliveryState::new() };
        let publisher = self.publishers.of(WorkClass::of_handler(handler));
        self.stored(publisher.try_publish(to_work(handler, event, &state)).await)
    }

    async fn queues(&self) -> Result<Vec<QueueDepth>, BrokerError> {
        let handlers = self.context.options.handlers.iter();
        let queues = handlers.flat_map(|handler| [Queue::Work(*handler), Queue::Dead(*handler)]);
        let found = self.depths(queues.map(|queue| (queue, queue.name())).collect()).await?;
        let depth = |(queue, (messages, consumers)): (Queue, (u32, u32))| QueueDepth {
            queue,
            messages: u64::from(messages),
            oldest: None,
            consumers: Some(consumers),
        };
        Ok(found.into_iter().map(depth).collect())
    }

    async fn other_queues(&self) -> Result<Vec<OtherQueue>, BrokerError> {
        let delays = Tier::ALL.iter().map(|tier| RabbitQueue::Delay(*tier));
        let names = delays.chain([RabbitQueue::Unrouted]).map(|queue| queue.name());
        let found = self.depths(names.map(|name| (name.clone(), name)).collect()).await?;
        Ok(found.into_iter().map(|(name, (ready, _))| OtherQueue { name, messages: u64::from(ready) }).collect())
    }

    async fn remove(&self, _event_id: &EventId, _handler: HandlerName) -> Result<bool, BrokerError> {
        Ok(false)
    }
}

impl Drop for RabbitBroker {
    fn drop(&mut self) {
        self.context.stop.cancel();
    }
}
