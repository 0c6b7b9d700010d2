//! Declares the topology on a broker, compares it with what is there, and removes what earlier versions left. Never
//! deletes a queue.
//!
//! AMQP cannot read an object's arguments. So we declare each object with our arguments, and the broker answers 406 if
//! they differ. A user without the right to configure is refused even if all is well; then it is enough that the object
//! exists.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, ExchangeUnbindOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind as LapinKind};

use hookline_common::names::{HandlerName, Queue};

use crate::topology::left_over::LeftOver;
use crate::topology::rabbitmq::{
    Argument, Binding, EVENTS, Exchange, ExchangeKind, QueueDeclaration, RabbitQueue, Topology, event_bindings,
};

const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;

/// How many channels declare in parallel.
const CHANNELS: usize = 8;

/// Why the topology is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeclareError {
    /// An object is wrong; the text names it, what is wrong, and what to do.
    Mismatch(String),
    /// The connection is no longer usable.
    Connection(String),
}

/// What is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The object does not exist.
    Missing { object: String },
    /// The object differs; `words` are the broker's own: argument, expected, found.
    Other { object: String, words: String },
    /// This user may not inspect the object.
    Unknown { object: String, words: String },
    /// An earlier version declared the object, and this one does not use it.
    LeftOver { object: String },
}

impl Difference {
    /// What an operator can do about the difference.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "`hookline topology --apply` declares it",
            Self::Other { .. } => OTHER_ARGUMENTS,
            Self::Unknown { .. } => "ask with a user that may configure, read and write ^hookline\\.",
            Self::LeftOver { .. } => LEFT_OVER,
        }
    }
}

const OTHER_ARGUMENTS: &str = "arguments cannot be changed: unbind it, move out what it holds, delete it and let Hookline \
    declare it again, with the commands of docs/runbooks.md (\"Changing a queue argument\")";

const LEFT_OVER: &str = "an earlier version declared it; once none of its processes runs, `hookline topology --apply` \
    removes it, unless something that is not Hookline's is bound to it";

/// Declares everything and binds it. Objects that others refer to come first; objects of one kind are declared in
/// parallel, because a hundred round trips one after another take two minutes on a slow link.
pub(super) async fn declare(connection: &Connection, topology: &Topology) -> Result<(), DeclareError> {
    side_by_side(connection, topology.exchanges.iter().map(Object::Exchange)).await?;
    side_by_side(connection, topology.queues.iter().map(Object::Queue)).await?;
    // The history is bound first: an event that comes before another queue is bound is published anew from there.
    let history = RabbitQueue::Of(Queue::Work(HandlerName::RecordHistory));
    let (to_history, others): (Vec<_>, Vec<_>) = topology.bindings.iter().partition(|binding| binding.queue == history);
    side_by_side(connection, to_history.into_iter().map(Object::Binding)).await?;
    side_by_side(connection, others.into_iter().map(Object::Binding)).await
}

#[derive(Clone, Copy)]
enum Object<'a> {
    Exchange(&'a Exchange),
    Queue(&'a QueueDeclaration),
    Binding(&'a Binding),
}

/// Spreads the objects over a few channels.
async fn side_by_side<'a>(
    connection: &Connection,
    objects: impl Iterator<Item = Object<'a>>,
) -> Result<(), DeclareError> {
    let objects: Vec<_> = objects.collect();
    let share = objects.len().div_ceil(CHANNELS).max(1);
    let shares = objects.chunks(share).map(|share| ensure_all(connection, share.to_vec()));
    futures::future::try_join_all(shares).await.map(drop)
}

async fn ensure_all(connection: &Connection, objects: Vec<Object<'_>>) -> Result<(), DeclareError> {
    let mut channel = Reopening::new(connection);
    for object in objects {
        match object {
            Object::Exchange(exchange) => ensure_exchange(&mut channel, exchange).await?,
            Object::Queue(queue) => ensure_queue(&mut channel, queue).await?,
            Object::Binding(binding) => ensure_bound(&mut channel, binding).await?,
        }
    }
    channel.close().await;
    Ok(())
}

/// Unbinds the work queues of these handlers from `hookline.events`, so that they do not grow.
pub(super) async fn unbind(connection: &Connection, handlers: &[HandlerName]) -> Result<(), DeclareError> {
    let mut channel = Reopening::new(connection);
    for binding in handlers.iter().flat_map(|handler| event_bindings(*handler)) {
        unbind_queue(&mut channel, &binding.queue.name(), binding.source, &binding.key).await?;
    }
    channel.close().await;
    Ok(())
}

/// Removes what earlier versions declared. An exchange with a binding that Hookline did not make stays, and [`compare`]
/// names it again.
pub(super) async fn remove_left_overs(connection: &Connection) -> Result<(), DeclareError> {
    let mut channel = Reopening::new(connection);
    for left_over in LeftOver::all() {
        if is_there(&mut channel, &left_over.exchange).await?.is_ok() {
            remove_left_over(&mut channel, &left_over).await?;
        }
    }
    channel.close().await;
    Ok(())
}

/// Unbinds the exchange from its source first: if its own queue went first, its events would go to `hookline.unrouted`.
async fn remove_left_over(channel: &mut Reopening<'_>, left_over: &LeftOver) -> Result<(), DeclareError> {
    let exchange = &left_over.exchange;
    for key in &left_over.event_keys {
        let (options, arguments) = (ExchangeUnbindOptions::default(), FieldTable::default());
        let open = channel.get().await?;
        let unbound = open.exchange_unbind(short(exchange), short(EVENTS), short(key), options, arguments).await;
        unless_missing(unbound).map_err(|refusal| refusal.at(&format!("unbinding {exchange}")))?;
    }
    if let Some(queue) = &left_over.queue {
        unbind_queue(channel, queue, exchange, "").await?;
    }
    let options = ExchangeDeleteOptions { if_unused: true, nowait: false };
    let deleted = channel.get().await?.exchange_delete(short(exchange), options).await;
    match unless_missing(deleted) {
        Ok(()) => Ok(()),
        // Something that is not ours is bound to the exchange; we restore its events.
        Err(Refusal::Soft { code: PRECONDITION_FAILED, .. }) => feed(channel, left_over).await,
        Err(refusal) => Err(refusal.at(&format!("deleting exchange {exchange}"))),
    }
}

/// Binds the exchange to `hookline.events`, as the earlier version did.
async fn feed(
    channel: &mut Reopening<'_>,
    LeftOver { exchange, event_keys, .. }: &LeftOver,
) -> Result<(), DeclareError> {
    for key in event_keys {
        let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
        let open = channel.get().await?;
        let bound = open.exchange_bind(short(exchange), short(EVENTS), short(key), options, arguments).await;
        unless_missing(bound).map_err(|refusal| refusal.at(&format!("binding {exchange}")))?;
    }
    Ok(())
}

/// Unbinds a queue; a binding that does not exist is no error.
async fn unbind_queue(channel: &mut Reopening<'_>, queue: &str, source: &str, key: &str) -> Result<(), DeclareError> {
    let open = channel.get().await?;
    let unbound = open.queue_unbind(short(queue), short(source), short(key), FieldTable::default()).await;
    unless_missing(unbound).map_err(|refusal| refusal.at(&format!("unbinding {queue}")))
}

fn unless_missing(answer: lapin::Result<()>) -> Result<(), Refusal> {
    match answer.map_err(Refusal::of) {
        Err(Refusal::Soft { code: NOT_FOUND, .. }) => Ok(()),
        answer => answer,
    }
}

/// Compares without changing anything. AMQP offers no way to ask for bindings.
pub(super) async fn compare(connection: &Connection, topology: &Topology) -> Result<Vec<Difference>, DeclareError> {
    let mut channel = Reopening::new(connection);
    let mut differences = Vec::new();
    for exchange in &topology.exchanges {
        let object = format!("exchange {}", exchange.name);
        let same = match is_there(&mut channel, exchange.name).await? {
            Ok(()) => declare_exchange(&mut channel, exchange).await?,
            Err(refusal) => Err(refusal),
        };
        differences.extend(same.err().map(|refusal| refusal.difference(object)).transpose()?);
    }
    for queue in &topology.queues {
        let object = format!("queue {}", queue.queue.name());
        let there = channel.get().await?.queue_declare(short(&queue.queue.name()), PASSIVE, FieldTable::default());
        let found = there.await.map(drop).map_err(Refusal::of);
        let same = match found {
            Ok(()) => declare_queue(&mut channel, queue).await?,
            Err(refusal) => Err(refusal),
        };
        differences.extend(same.err().map(|refusal| refusal.difference(object)).transpose()?);
    }
    for LeftOver { exchange, .. } in LeftOver::all() {
        let object = format!("exchange {exchange}");
        match is_there(&mut channel, &exchange).await? {
            Ok(()) => differences.push(Difference::LeftOver { object }),
            Err(Refusal::Soft { code: NOT_FOUND, .. }) => {}
            Err(refusal) => differences.push(refusal.difference(object)?),
        }
    }
    channel.close().await;
    Ok(differences)
}

async fn is_there(channel: &mut Reopening<'_>, exchange: &str) -> Result<Result<(), Refusal>, DeclareError> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    // A passive declaration compares only the name.
    let asked =
        channel.get().await?.exchange_declare(short(exchange), LapinKind::Fanout, options, FieldTable::default());
    Ok(asked.await.map_err(Refusal::of))
}

const PASSIVE: QueueDeclareOptions =
    QueueDeclareOptions { passive: true, durable: false, exclusive: false, auto_delete: false, nowait: false };

/// How many messages are ready in a queue, and how many consumers it has; `None` if there is no such queue.
pub(super) async fn depth(channel: &mut Reopening<'_>, queue: &str) -> Result<Option<(u32, u32)>, DeclareError> {
    let asked = channel.get().await?.queue_declare(short(queue), PASSIVE, FieldTable::default()).await;
    match asked.map_err(Refusal::of) {
        Ok(found) => Ok(Some((found.message_count(), found.consumer_count()))),
        Err(Refusal::Soft { code: NOT_FOUND, .. }) => Ok(None),
        Err(refusal) => Err(refusal.at(queue)),
    }
}

async fn ensure_exchange(channel: &mut Reopening<'_>, exchange: &Exchange) -> Result<(), DeclareError> {
    let object = format!("exchange {}", exchange.name);
    match declare_exchange(channel, exchange).await? {
        Ok(()) => Ok(()),
        Err(Refusal::Soft { code: ACCESS_REFUSED, .. }) => {
            is_there(channel, exchange.name).await?.map_err(|refusal| refusal.at(&object))
        }
        Err(refusal) => Err(refusal.at(&object)),
    }
}

async fn ensure_queue(channel: &mut Reopening<'_>, queue: &QueueDeclaration) -> Result<(), DeclareError> {
    let object = format!("queue {}", queue.queue.name());
    match declare_queue(channel, queue).await? {
        Ok(()) => Ok(()),
        Err(Refusal::Soft { code: ACCESS_REFUSED, .. }) => {
            let there = channel.get().await?.queue_declare(short(&queue.queue.name()), PASSIVE, FieldTable::default());
            there.await.map(drop).map_err(|error| Refusal::of(error).at(&object))
        }
        Err(refusal) => Err(refusal.at(&object)),
    }
}

async fn ensure_bound(channel: &mut Reopening<'_>, binding: &Binding) -> Result<(), DeclareError> {
    let (name, source, key) = (short(&binding.queue.name()), short(binding.source), short(&binding.key));
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let bound = channel.get().await?.queue_bind(name, source, key, options, arguments).await;
    match bound.map_err(Refusal::of) {
        // A user who may not bind may not inspect bindings either; then an operator must bind.
        Ok(()) | Err(Refusal::Soft { code: ACCESS_REFUSED, .. }) => Ok(()),
        Err(refusal) => Err(refusal.at(&format!("binding {} to {}", binding.queue.name(), binding.source))),
    }
}

async fn declare_exchange(
    channel: &mut Reopening<'_>,
    exchange: &Exchange,
) -> Result<Result<(), Refusal>, DeclareError> {
    let mut arguments = FieldTable::default();
    if let Some(alternate) = exchange.alternate {
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(LongString::from(alternate)));
    }
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let open = channel.get().await?;
    let declared = open.exchange_declare(short(exchange.name), kind(exchange.kind), options, arguments).await;
    Ok(declared.map_err(Refusal::of))
}

async fn declare_queue(
    channel: &mut Reopening<'_>,
    queue: &QueueDeclaration,
) -> Result<Result<(), Refusal>, DeclareError> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from("quorum")));
    for (name, value) in &queue.arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(LongString::from(*text)),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
        };
        arguments.insert((*name).into(), value);
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.get().await?.queue_declare(short(&queue.queue.name()), options, arguments).await;
    Ok(declared.map(drop).map_err(Refusal::of))
}

fn kind(kind: ExchangeKind) -> LapinKind {
    match kind {
        ExchangeKind::Topic => LapinKind::Topic,
        ExchangeKind::Fanout => LapinKind::Fanout,
    }
}

/// Our names are far below the limit of 255 bytes.
fn short(name: &str) -> ShortString {
    ShortString::try_new(name).unwrap_or_default()
}

/// How RabbitMQ says that an argument differs, and that `max-queues` of a virtual host is reached
/// (<https://github.com/rabbitmq/rabbitmq-server>: `rabbit_misc:assert_field_equivalence`, `rabbit_amqqueue`).
const OTHER_ARGUMENT: &str = "inequivalent arg";
const QUEUE_LIMIT: &str = "queue limit";

fn names_an_argument(words: &str) -> bool {
    words.contains(OTHER_ARGUMENT)
}

/// The broker's refusal of one request.
enum Refusal {
    /// The broker closed the channel, but not the connection.
    Soft {
        code: u16,
        words: String,
    },
    Hard(String),
}

impl Refusal {
    fn of(error: lapin::Error) -> Self {
        if let ErrorKind::ProtocolError(protocol) = error.kind()
            && error.is_amqp_soft_error()
        {
            return Self::Soft { code: protocol.get_id(), words: protocol.get_message().to_string() };
        }
        Self::Hard(error.to_string())
    }

    fn at(self, object: &str) -> DeclareError {
        match self {
            Self::Soft { code: PRECONDITION_FAILED, words } if names_an_argument(&words) => {
                DeclareError::Mismatch(format!("{object} is not as it must be ({words}); {OTHER_ARGUMENTS}"))
            }
            Self::Soft { code: PRECONDITION_FAILED, words } if words.contains(QUEUE_LIMIT) => {
                let needed = Topology::of(HandlerName::ALL).queues.len();
                DeclareError::Mismatch(format!(
                    "{object}: the virtual host allows no more queues ({words}), and {needed} are needed; raise its limit \
                     `max-queues` (`rabbitmqctl set_vhost_limits`)"
                ))
            }
            Self::Soft { code: ACCESS_REFUSED, words } => DeclareError::Mismatch(format!(
                "{object}: this user may not ({words}); give it the rights that docs/deploy.md lists"
            )),
            Self::Soft { code: NOT_FOUND, words } => DeclareError::Mismatch(format!(
                "{object} is missing ({words}); `hookline topology --apply` with a user that may configure declares it"
            )),
            Self::Soft { code, words } => DeclareError::Mismatch(format!("{object}: refused with {code} ({words})")),
            Self::Hard(words) => DeclareError::Connection(words),
        }
    }

    fn difference(self, object: String) -> Result<Difference, DeclareError> {
        match self {
            Self::Soft { code: NOT_FOUND, .. } => Ok(Difference::Missing { object }),
            Self::Soft { code: PRECONDITION_FAILED, words } if names_an_argument(&words) => {
                Ok(Difference::Other { object, words })
            }
            Self::Soft { words, .. } => Ok(Difference::Unknown { object, words }),
            Self::Hard(words) => Err(DeclareError::Connection(words)),
        }
    }
}

/// A channel that is reopened after the broker closed it because of a refused request.
pub(super) struct Reopening<'a> {
    connection: &'a Connection,
    channel: Option<Channel>,
}

impl<'a> Reopening<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        Self { connection, channel: None }
    }

    async fn get(&mut self) -> Result<&Channel, DeclareError> {
        if self.channel.as_ref().is_none_or(|channel| !channel.status().connected()) {
            let opened = self.connection.create_channel().await;
            self.channel = Some(opened.map_err(|error| DeclareError::Connection(error.to_string()))?);
        }
        self.channel.as_ref().ok_or_else(|| DeclareError::Connection("no channel".to_owned()))
    }

    pub(super) async fn close(self) {
        if let Some(channel) = self.channel {
            // An error does not matter: the channel ends with its last handle anyway.
            let _ = channel.close(200, "done".into()).await;
        }
    }
}
