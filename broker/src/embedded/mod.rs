//! The embedded broker: durable queues in one SQLite file, `<data_dir>/broker.db`, for one machine without RabbitMQ.
//! Ingest also uses it as its spool while RabbitMQ is away.
//!
//! ```text
//! publish ──▶ writer ──▶ broker.db ◀── dispatcher (reads what was leased) ──▶ buffer ──▶ consumer
//!               ▲  one connection,                                                        │
//!               │  one statement a batch                                                  │
//!               └───────────────── settle, lease: one transaction a round ◀──────────────┘
//! ```
//!
//! - **Durable**: the file has a write-ahead log with `synchronous=FULL`; `publish` and `settle` answer after the
//!   commit's `fdatasync`. An I/O error is fatal: the state is [`BrokerState::Failed`], and the process must end.
//! - **Fan-out** happens inside the storing statement: a trigger adds the queue rows from a bit mask of the enabled
//!   handlers that take the event. The message is deleted with its last queue row. Its id stays for `retention`, so
//!   that a repeat is recognised exactly.
//! - **Leases** carry a token that is unique to one handing out. A new owner voids all former leases, and those
//!   deliveries stay counted: a payload that crashes its process reaches the delivery limit.
//! - **Temporary or permanent**: while nothing can be stored (disk full, lock held) the state is
//!   [`BrokerState::NotReady`], and the writer retries by itself until it succeeds.
//! - **Erasure**: settled or removed messages are overwritten in the file. [`EmbeddedBroker::empty_log`] removes them
//!   from the write-ahead log too, which outlives a process that ends without closing.
//! - **One owner** consumes. Other processes (the command line) may write short transactions meanwhile; the owner
//!   checks for their changes four times a second.
//! - **Not promised**: order. Rows are handed out by due time, and may be settled in any order.

mod clock;
mod dispatcher;
mod due_times;
mod fault;
mod files;
mod maintenance;
mod ops;
mod publish;
mod reader;
mod round;
mod rows;
mod schema;
mod settler;
mod upkeep;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::files::forgetful_file_system;
pub use self::reader::Held;

use hookline_common::event::{Event, EventId};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::task;
use hookline_common::testing::crash_point;
use hookline_common::time::Timestamp;

use self::clock::Clock;
use self::dispatcher::{Consumer, Dispatcher};
use self::due_times::DueTimes;
use self::files::HeldFiles;
use self::ops::{EmbeddedContext, Maintenance, Op, PublishRequest};
use self::rows::MessageRow;
use self::schema::Use;
use self::writer::Writer;
use super::{
    Again, BrokerError, BrokerState, Consume, Deliveries, OtherQueue, Publish, PublishError, QueueAdmin, QueueDepth,
    Resumed, Stored,
};
use crate::delivery_buffer::DeliveryBuffer;

/// Publishes that may wait for the writer; further ones wait for a place.
const MAX_WAITING: usize = 4096;
/// How long they wait. A disk that works frees places within milliseconds.
const PLACE_WITHIN: Duration = Duration::from_secs(3);
/// How long a delivery may stay unsettled: as long as RabbitMQ waits for an acknowledgement
/// (<https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout>).
const LEASE: Duration = Duration::from_secs(30 * 60);
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a write waits for another process; enough, because the command line's transactions are short.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Created, readable by this user only, if missing.
    pub data_dir: PathBuf,
    /// The stem of the file's name, so that a spool can lie beside the broker.
    pub name: &'static str,
    /// The handlers on whose queues events are put.
    pub handlers: Vec<HandlerName>,
    /// How long an id is remembered after its event was stored.
    pub retention: Duration,
    /// Whether this process consumes and maintains the file. Only one process may do so at a time.
    pub owner: bool,
    /// How long a delivery may stay unsettled before it is handed out again.
    pub lease: Duration,
    /// How long a write waits for another process's write before it fails temporarily.
    pub busy_timeout: Duration,
}

impl EmbeddedOptions {
    /// An owner's options: `broker.db`, ids remembered for 30 days, leases of 30 minutes.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>, handlers: Vec<HandlerName>) -> Self {
        let data_dir = data_dir.into();
        Self {
            data_dir,
            name: "broker",
            handlers,
            retention: RETENTION,
            owner: true,
            lease: LEASE,
            busy_timeout: BUSY_TIMEOUT,
        }
    }

    /// Turns these options into those of a guest, such as the command line, which does not consume.
    #[must_use]
    pub fn guest(self) -> Self {
        Self { owner: false, ..self }
    }

    /// Whether the file exists already. Opening creates it.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.file().is_file()
    }

    fn file(&self) -> PathBuf {
        self.data_dir.join(format!("{}.db", self.name))
    }
}

/// Dropping the broker without [`Publish::close`] leaves the same state as a crash of the process.
pub struct EmbeddedBroker {
    handlers: Vec<HandlerName>,
    retention: Duration,
    context: Arc<EmbeddedContext>,
    publishes: mpsc::Sender<PublishRequest>,
    ops: mpsc::UnboundedSender<Op>,
    /// Opened by the first read.
    reader: Mutex<Option<SqliteConnection>>,
    busy_timeout: Duration,
    /// Held while the log is emptied, so that only one task does so at a time.
    erasing: Mutex<()>,
    file: PathBuf,
    owner: Option<Owner>,
}

struct Owner {
    newcomers: mpsc::UnboundedSender<Consumer>,
    closing: CancellationToken,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
    checkpointer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedBroker {
    /// Opens the file, and creates what is missing.
    ///
    /// # Errors
    /// `Owned` if another process consumes from this directory, `Open` if the file cannot be used.
    pub async fn open(options: EmbeddedOptions) -> Result<Arc<Self>, BrokerError> {
        let file = options.file();
        files::prepare(&options.data_dir, &file)?;
        let lock_file = options.data_dir.join(format!("{}.lock", options.name));
        let lock = options.owner.then(|| files::lock(&options.data_dir, &lock_file)).transpose()?;
        let failed = |cause: sqlx::Error| files::open_error(&file, &cause);
        let purpose = if options.owner { Use::OwnersWriter } else { Use::GuestsWriter };
        let mut conn = schema::connect(&file, purpose, options.busy_timeout).await.map_err(failed)?;
        schema::create(&mut conn, HandlerName::ALL.iter().map(|handler| rows::code(*handler))).await.map_err(failed)?;
        let epoch = if options.owner { maintenance::take_over(&mut conn).await.map_err(failed)? } else { 0 };

        let latest_ms = maintenance::latest_ms(&mut conn).await.map_err(failed)?;
        let held = HeldFiles::new(&file, lock.as_ref()).map_err(|cause| files::open_error(&file, &cause))?;

        let context = Arc::new(EmbeddedContext {
            clock: Clock::start(latest_ms),
            due_times: DueTimes::new(),
            state: watch::Sender::new(BrokerState::Ready),
            commits: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        let (publishes, waiting_publishes) = mpsc::channel(MAX_WAITING);
        let (ops, waiting_ops) = mpsc::unbounded_channel();
        let writer = Writer::new(conn, Arc::clone(&context), options.lease, epoch, (held, lock));
        let owner = if options.owner {
            Some(Self::start_owner(&file, &options, &context, &ops).await.map_err(failed)?)
        } else {
            None
        };
        start_writer(serving(&context, "the broker's writer", writer.run(waiting_publishes, waiting_ops)))
            .map_err(|cause| files::open_error(&file, &cause))?;
        let EmbeddedOptions { handlers, retention, busy_timeout, .. } = options;
        let (reader, erasing) = (Mutex::new(None), Mutex::new(()));
        let broker = Self { handlers, retention, context, publishes, ops, reader, busy_timeout, erasing, file, owner };
        Ok(Arc::new(broker))
    }

    /// Whether a process consumes from the broker in `data_dir` now.
    #[must_use]
    pub fn is_owned(data_dir: &Path) -> bool {
        files::is_locked(&data_dir.join("broker.lock"))
    }

    /// Whether there is a broker's file in `data_dir`.
    #[must_use]
    pub fn exists(data_dir: &Path) -> bool {
        data_dir.join("broker.db").is_file()
    }

    /// Removes settled and removed messages from the write-ahead log; `false` if readers kept the log from being
    /// emptied.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn empty_log(&self) -> Result<bool, BrokerError> {
        let _one_at_a_time = self.erasing.lock().await;
        upkeep::empty_log(&self.file).await.map_err(|error| BrokerError::Unavailable(error.to_string()))
    }

    /// Writes a consistent copy of the file to `path`, which must not exist, while other processes go on. Needs as much
    /// room as the file.
    ///
    /// # Errors
    /// If the file cannot be read, or `path` cannot be written or is not UTF-8.
    pub async fn copy_to(&self, path: &Path) -> Result<(), BrokerError> {
        let unusable = || BrokerError::Unavailable("the path of the copy is not valid UTF-8".to_owned());
        let path = path.to_str().ok_or_else(unusable)?;
        self.read(async |conn, _| sqlx::query("VACUUM INTO ?").bind(path).execute(conn).await.map(drop)).await
    }

    /// Counts what waits in all queues together. Reads every message, so call it at a start, not for a scrape.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn held(&self) -> Result<Held, BrokerError> {
        self.read(async |conn, _| reader::held(conn).await).await
    }

    /// When the oldest waiting event was received.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn oldest(&self) -> Result<Option<Timestamp>, BrokerError> {
        let clock = self.context.clock;
        self.read(async |conn, _| reader::oldest(conn, clock).await).await
    }

    async fn read<T>(
        &self,
        look: impl AsyncFnOnce(&mut SqliteConnection, &[HandlerName]) -> Result<T, sqlx::Error>,
    ) -> Result<T, BrokerError> {
        let unavailable = |error: sqlx::Error| BrokerError::Unavailable(error.to_string());
        let mut reader = self.reader.lock().await;
        if self.context.stop.is_cancelled() {
            return Err(BrokerError::Unavailable("the broker is closed".to_owned()));
        }
        let conn = match &mut *reader {
            Some(conn) => conn,
            closed @ None => {
                let conn = schema::connect(&self.file, Use::Reader, self.busy_timeout).await;
                closed.insert(conn.map_err(unavailable)?)
            }
        };
        let seen = look(conn, &self.handlers).await;
        if seen.is_err() {
            *reader = None;
        }
        seen.map_err(unavailable)
    }

    /// Forgets every id that is older than the retention and waits in no queue; returns how many. The owner does this
    /// by itself, and needs an hour for all ids.
    pub async fn forget_old_ids(&self) -> u64 {
        let mut forgotten = 0;
        for slice in 0..=u8::MAX {
            forgotten += upkeep::forget_slice(slice, self.retention, &self.ops).await;
        }
        forgotten
    }

    async fn start_owner(
        file: &Path,
        options: &EmbeddedOptions,
        context: &Arc<EmbeddedContext>,
        ops: &mpsc::UnboundedSender<Op>,
    ) -> Result<Owner, sqlx::Error> {
        let dispatcher = Dispatcher {
            reader: schema::connect(file, Use::Reader, options.busy_timeout).await?,
            ops: ops.clone(),
            context: Arc::clone(context),
            consumers: Vec::new(),
            lease: options.lease,
        };
        let (newcomers, arrivals) = mpsc::unbounded_channel();
        let closing = CancellationToken::new();
        let checkpointing = upkeep::keep_log_short(file.to_owned(), ops.clone(), Arc::clone(context));
        let checkpointer = tokio::spawn(serving(context, "the broker's checkpointer", checkpointing));
        let forgetting = upkeep::forget(options.retention, ops.clone(), Arc::clone(context));
        tokio::spawn(serving(context, "the broker's clean-up of old ids", forgetting));
        let dispatching = dispatcher.run(arrivals, closing.clone());
        let dispatcher = tokio::spawn(serving(context, "the broker's dispatcher", dispatching));
        let (dispatcher, checkpointer) = (Mutex::new(Some(dispatcher)), Mutex::new(Some(checkpointer)));
        Ok(Owner { newcomers, closing, dispatcher, checkpointer })
    }

    /// The error for a publish when the writer is gone.
    fn refusal(&self) -> PublishError {
        match &*self.context.state.borrow() {
            BrokerState::Failed(reason) => PublishError::Fatal(reason.clone()),
            BrokerState::Ready | BrokerState::NotReady(_) => {
                PublishError::Unavailable("the broker is closed".to_owned())
            }
        }
    }
}

/// Runs a task without which the broker keeps no promise: if the task panics, the broker has failed.
fn serving<T: Future<Output = ()>>(
    context: &Arc<EmbeddedContext>,
    name: &'static str,
    task: T,
) -> impl Future<Output = ()> + use<T> {
    let context = Arc::clone(context);
    task::told_if_it_panics(name, task, move |reason| context.failed(reason))
}

/// Runs the writer on its own thread. On a shared scheduler each of its wake-ups, two for every webhook that comes
/// alone, would wake idle workers as well, and the webhook would wait for them.
fn start_writer(run: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("broker-writer".to_owned()).spawn(move || runtime.block_on(run)).map(drop)
}

#[async_trait]
impl Publish for EmbeddedBroker {
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError> {
        let (reply, stored) = oneshot::channel();
        let message = MessageRow::new(event, &self.handlers);
        match self.publishes.send_timeout(PublishRequest { message, reply }, PLACE_WITHIN).await {
            Ok(()) => crash_point("publish.sent"),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(PublishError::Overloaded),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(self.refusal()),
        }
        stored.await.unwrap_or(Err(PublishError::Unknown))
    }

    /// Same as `publish`: waiting longer helps nothing between this process and its file.
    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError> {
        self.publish(event).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.context.state.subscribe()
    }

    fn degraded(&self) -> Vec<String> {
        Vec::new()
    }

    /// Ends the tasks and closes every connection. The last one to close moves the write-ahead log into the file and
    /// removes the log, so no connection may outlive this call.
    async fn close(&self) {
        if let Some(owner) = &self.owner {
            owner.closing.cancel();
            // A dispatcher that panicked leaves its deliveries to be delivered again.
            ended(&owner.dispatcher).await;
        }
        let (reply, closed) = oneshot::channel();
        if self.ops.send(Op::Close { reply }).is_ok() {
            // No answer means that the writer was already gone.
            let _ = closed.await;
        }
        self.context.stop.cancel();
        if let Some(reader) = self.reader.lock().await.take() {
            drop(reader.close().await);
        }
        if let Some(owner) = &self.owner {
            ended(&owner.checkpointer).await;
        }
    }
}

/// Waits until a task has ended, whether or not it panicked.
async fn ended(task: &Mutex<Option<JoinHandle<()>>>) {
    if let Some(task) = task.lock().await.take() {
        let _ = task.await;
    }
}

#[async_trait]
impl Consume for EmbeddedBroker {
    async fn consume(&self, queue: Queue, prefetch: u16) -> Result<Deliveries, BrokerError> {
        let Some(owner) = &self.owner else {
            return Err(BrokerError::Owned("this process did not open the queues to consume them".to_owned()));
        };
        let buffer = Arc::new(DeliveryBuffer::default());
        let places = Arc::new(Semaphore::new(usize::from(prefetch.max(1))));
        let consumer = Consumer { queue, places, buffer: Arc::clone(&buffer) };
        owner.newcomers.send(consumer).map_err(|_| settler::closed())?;
        let (stopped, context) = (buffer.stopped().clone(), Arc::clone(&self.context));
        tokio::spawn(async move {
            stopped.cancelled().await;
            context.due_times.wake();
        });
        Ok(Deliveries::new(buffer))
    }

    /// Always 0: the queues' own counts include these deliveries.
    async fn held(&self, _queue: Queue) -> u64 {
        0
    }
}

#[async_trait]
impl QueueAdmin for EmbeddedBroker {
    async fn publish_again(&self, handler: HandlerName, event: &Event, why: Again) -> Result<(), PublishError> {
        let (reply, stored) = oneshot::channel();
        let message = MessageRow::new(event, &self.handlers);
        let again = Op::Maintenance(Maintenance::PublishAgain { message, handler, why, reply });
        self.ops.send(again).map_err(|_| self.refusal())?;
        stored.await.unwrap_or(Err(PublishError::Unknown))
    }

    async fn publish_anew(&self, handler: HandlerName, event: &Event, from: Resumed) -> Result<(), PublishError> {
        let (reply, stored) = oneshot::channel();
        let message = MessageRow::new(event, &self.handlers);
        let anew = Op::Maintenance(Maintenance::PublishAnew { message, handler, from, reply });
        self.ops.send(anew).map_err(|_| self.refusal())?;
        stored.await.unwrap_or(Err(PublishError::Unknown))
    }

    async fn queues(&self) -> Result<Vec<QueueDepth>, BrokerError> {
        let clock = self.context.clock;
        self.read(async |conn, handlers| reader::depths(conn, handlers, clock).await).await
    }

    async fn other_queues(&self) -> Result<Vec<OtherQueue>, BrokerError> {
        Ok(Vec::new())
    }

    async fn remove(&self, event_id: &EventId, handler: HandlerName) -> Result<bool, BrokerError> {
        let (reply, removed) = oneshot::channel();
        let remove = Op::Maintenance(Maintenance::Remove { event_id: rows::id_bytes(event_id), handler, reply });
        self.ops.send(remove).map_err(|_| settler::closed())?;
        removed.await.unwrap_or_else(|_| Err(settler::closed()))
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.context.stop.cancel();
    }
}
