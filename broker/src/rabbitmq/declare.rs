//! Declares the topology on a broker, or compares it with what is there. Never deletes anything.
//!
//! AMQP tells no arguments: an object is declared with ours, and the broker answers 406 where they differ. A user
//! without the right to configure is refused even where all is well; then it is enough that the object is there.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind as LapinKind};

use hookline_common::names::HandlerName;

use crate::topology::rabbitmq::{
    Argument, Binding, Exchange, ExchangeKind, QueueDeclaration, Target, Topology, event_bindings,
};

const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;

/// Channels that declare at once.
const CHANNELS: usize = 8;

/// Why the topology is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeclareError {
    /// With the object, what is wrong with it, and what to do.
    Mismatch(String),
    /// The connection is no use any more.
    Connection(String),
}

/// What is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing { object: String },
    /// It is there, and is another; with the broker's own words: argument, expected, found.
    Other { object: String, words: String },
    /// This user may not look.
    Unknown { object: String, words: String },
}

impl Difference {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "`hookline topology --apply` declares it",
            Self::Other { .. } => OTHER_ARGUMENTS,
            Self::Unknown { .. } => "ask with a user that may configure, read and write ^hookline\\.",
        }
    }
}

const OTHER_ARGUMENTS: &str = "arguments cannot be changed: take what it holds out through a shovel or by letting the \
    workers drain it, delete it by hand, and let Hookline declare it again; see docs/runbooks.md";

/// Declares everything and binds it: what others name first, and what is alike side by side, because a hundred round
/// trips one after another are two minutes on a slow link.
pub(super) async fn declare(connection: &Connection, topology: &Topology) -> Result<(), DeclareError> {
    side_by_side(connection, topology.exchanges.iter().map(Object::Exchange)).await?;
    side_by_side(connection, topology.queues.iter().map(Object::Queue)).await?;
    // No event reaches a guard that has no queue yet.
    let (to_queues, to_exchanges): (Vec<_>, Vec<_>) =
        topology.bindings.iter().partition(|binding| matches!(binding.target, Target::Queue(_)));
    side_by_side(connection, to_queues.into_iter().map(Object::Binding)).await?;
    side_by_side(connection, to_exchanges.into_iter().map(Object::Binding)).await
}

#[derive(Clone, Copy)]
enum Object<'a> {
    Exchange(&'a Exchange),
    Queue(&'a QueueDeclaration),
    Binding(&'a Binding),
}

/// Shares the objects out to a few channels.
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

/// Takes the guards of these handlers from `hookline.events`, so that their queues do not grow; a guard that is not
/// there is none to take.
pub(super) async fn unbind(connection: &Connection, handlers: &[HandlerName]) -> Result<(), DeclareError> {
    let mut channel = Reopening::new(connection);
    for binding in handlers.iter().flat_map(|handler| event_bindings(*handler)) {
        let open = channel.get().await?;
        let (target, source, key) = (short(&binding.target.name()), short(&binding.source), short(&binding.key));
        let unbound =
            open.exchange_unbind(target, source, key, ExchangeUnbindOptions::default(), FieldTable::default()).await;
        match unbound.map_err(Refusal::of) {
            Ok(()) | Err(Refusal::Soft { code: NOT_FOUND, .. }) => {}
            Err(refusal) => return Err(refusal.at(&format!("unbinding {}", binding.target.name()))),
        }
    }
    channel.close().await;
    Ok(())
}

/// Compares without changing anything. Bindings cannot be asked for over AMQP.
pub(super) async fn compare(connection: &Connection, topology: &Topology) -> Result<Vec<Difference>, DeclareError> {
    let mut channel = Reopening::new(connection);
    let mut differences = Vec::new();
    for exchange in &topology.exchanges {
        let object = format!("exchange {}", exchange.name);
        let there = channel.get().await?.exchange_declare(
            short(&exchange.name),
            kind(exchange.kind),
            ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() },
            FieldTable::default(),
        );
        let found = there.await.map_err(Refusal::of);
        let same = match found {
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
    channel.close().await;
    Ok(differences)
}

const PASSIVE: QueueDeclareOptions =
    QueueDeclareOptions { passive: true, durable: false, exclusive: false, auto_delete: false, nowait: false };

/// How many messages are ready in a queue, and its consumers; `None` where there is no such queue.
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
            let there = channel.get().await?.exchange_declare(
                short(&exchange.name),
                kind(exchange.kind),
                ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() },
                FieldTable::default(),
            );
            there.await.map_err(|error| Refusal::of(error).at(&object))
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
    let (source, key) = (short(&binding.source), short(&binding.key));
    let name = short(&binding.target.name());
    let open = channel.get().await?;
    let bound = match &binding.target {
        Target::Queue(_) => {
            open.queue_bind(name, source, key, QueueBindOptions::default(), FieldTable::default()).await
        }
        Target::Exchange(_) => {
            open.exchange_bind(name, source, key, ExchangeBindOptions::default(), FieldTable::default()).await
        }
    };
    match bound.map_err(Refusal::of) {
        // Who may not bind may not look either: an operator binds.
        Ok(()) | Err(Refusal::Soft { code: ACCESS_REFUSED, .. }) => Ok(()),
        Err(refusal) => Err(refusal.at(&format!("binding {} to {}", binding.target.name(), binding.source))),
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
    let declared = open.exchange_declare(short(&exchange.name), kind(exchange.kind), options, arguments).await;
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

/// Names of ours are far below 255 bytes.
fn short(name: &str) -> ShortString {
    ShortString::try_new(name).unwrap_or_default()
}

/// A "no" of the broker's to one request.
enum Refusal {
    /// The channel is closed, the connection is not.
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
            Self::Soft { code: PRECONDITION_FAILED, words } => {
                DeclareError::Mismatch(format!("{object} is not as it must be ({words}); {OTHER_ARGUMENTS}"))
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
            Self::Soft { code: PRECONDITION_FAILED, words } => Ok(Difference::Other { object, words }),
            Self::Soft { words, .. } => Ok(Difference::Unknown { object, words }),
            Self::Hard(words) => Err(DeclareError::Connection(words)),
        }
    }
}

/// A channel that is opened again after the broker has closed it for a refused request.
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
            // It ends with its last handle all the same.
            let _ = channel.close(200, "done".into()).await;
        }
    }
}
