//! Keeps webhooks durable while RabbitMQ is away: an embedded broker with one queue, and a forwarder that republishes
//! its events to RabbitMQ, oldest first and under the same event id.
//!
//! - While RabbitMQ is ready, a new event goes straight to it, even while older ones are still being forwarded. We
//!   promise no order, and a new opt-out must not wait behind an hour of notes.
//! - An event that RabbitMQ did not confirm goes into the spool, with an fsync, before the answer. RabbitMQ may have
//!   stored it all the same; a second copy is harmless, because effects are keyed.
//! - An event that waits in vain for a place at the publisher goes into the spool as well.
//! - The forwarder settles a row last. A crash between the confirm and the settlement forwards the event twice, and
//!   loses none.

mod account;
mod forwarder;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::{BrokerError, BrokerState, Publish, PublishError, Stored};
use hookline_common::event::Event;
use hookline_common::names::HandlerName;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::{OnBrokerOutage, Settings};
use hookline_common::task;
use hookline_common::time::Timestamp;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::account::Account;
pub use self::account::used_bytes;
use self::forwarder::InHand;

/// The queue in which all spooled events wait: the one of the handler that takes all event types.
const QUEUE_OF: HandlerName = HandlerName::RecordHistory;
/// How long the id of a spooled event is remembered, to recognise the sender's repeats.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);
/// How long RabbitMQ may take to store an event before the spool stores it.
pub(crate) const STORING: Duration = Duration::from_secs(5);
const TELL_OLDEST_EVERY: Duration = Duration::from_secs(5);
/// Usual time from the start to the first connection; until it has passed, a missing connection is no outage.
const CONNECTING: Duration = Duration::from_secs(3);
/// Maximum wait for each background task when closing. The forwarder's last confirms arrive within the publisher's
/// deadline; an event without one is forwarded after the next start.
const CLOSING: Duration = Duration::from_secs(5);

/// Returns how the spool in the data directory of `settings` is opened: its name, its queue and its retention.
#[must_use]
pub fn options(settings: &Settings) -> EmbeddedOptions {
    EmbeddedOptions { name: "spool", retention: REMEMBER, ..EmbeddedOptions::new(&settings.data_dir, vec![QUEUE_OF]) }
}

/// Ingest's broker when the queues are in RabbitMQ: RabbitMQ, with the spool behind it.
pub struct Spooling {
    remote: Arc<dyn Publish>,
    spool: Option<Arc<Spool>>,
    /// Whether new events may go to the spool (`on_broker_outage`).
    takes: bool,
    state: watch::Sender<BrokerState>,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Spool {
    broker: Arc<EmbeddedBroker>,
    account: Account,
}

impl Spooling {
    /// Opens the spool if `on_broker_outage` wants one, or if one from an earlier start exists and may hold events.
    ///
    /// # Errors
    /// Fails when the spool cannot be opened or belongs to another process; the error says what to do.
    pub async fn open(
        settings: &Settings,
        remote: Arc<dyn Publish>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Arc<Self>> {
        let takes = settings.ingest.on_broker_outage == OnBrokerOutage::Spool;
        let spool = open_spool(settings, takes, metrics).await?.map(Arc::new);
        let this = Arc::new(Self {
            remote,
            spool,
            takes,
            state: watch::Sender::new(BrokerState::NotReady("starting".to_owned())),
            stop: CancellationToken::new(),
            tasks: Mutex::default(),
        });
        this.state.send_replace(this.now());
        let mut tasks = this.tasks.lock().await;
        tasks.push(tokio::spawn(serving(&this, "the task that follows the spool's state", follow(Arc::clone(&this)))));
        if let Some(spool) = &this.spool {
            let (spool, remote, stop) = (Arc::clone(spool), Arc::clone(&this.remote), this.stop.clone());
            let forwarding = forwarder::run(spool, remote, InHand::of(settings.ingest.max_body_bytes), stop);
            tasks.push(tokio::spawn(serving(&this, "the spool's forwarder", forwarding)));
        }
        drop(tasks);
        Ok(this)
    }

    /// Returns RabbitMQ's own state, independent of the spool.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<BrokerState> {
        self.remote.state()
    }

    /// Returns the combined state of RabbitMQ and the spool.
    fn now(&self) -> BrokerState {
        if let Some(spool) = &self.spool
            && let BrokerState::Failed(why) = &*spool.broker.state().borrow()
        {
            return BrokerState::Failed(format!("the spool: {why}"));
        }
        if let BrokerState::Failed(why) = &*self.remote.state().borrow() {
            return BrokerState::Failed(why.clone());
        }
        let Some(away) = why_not(&self.remote.state().borrow()) else { return BrokerState::Ready };
        match self.spool.as_ref().filter(|_| self.takes).map(|spool| spool.why_not()) {
            Some(None) => BrokerState::Ready,
            Some(Some(why)) => BrokerState::NotReady(format!("{away}; and the spool: {why}")),
            None => BrokerState::NotReady(away),
        }
    }

    /// Runs `publish`, and spools the event if RabbitMQ is away or doesn't confirm. While RabbitMQ is away, `publish`
    /// is not even started.
    async fn publish_or_spool(
        &self,
        event: &Event,
        publish: impl Future<Output = Result<Stored, PublishError>> + Send,
    ) -> Result<Stored, PublishError> {
        let away = why_not(&self.remote.state().borrow());
        let error = match away {
            Some(why) => PublishError::Unavailable(why),
            None => match publish.await {
                Err(error @ (PublishError::Unavailable(_) | PublishError::Unknown | PublishError::Overloaded)) => error,
                settled @ (Ok(_) | Err(PublishError::Fatal(_))) => return settled,
            },
        };
        self.spool(event, error).await
    }

    /// Stores the event in the spool, or returns `error` if new events may not go there.
    async fn spool(&self, event: &Event, error: PublishError) -> Result<Stored, PublishError> {
        let Some(spool) = self.spool.as_ref().filter(|_| self.takes) else { return Err(error) };
        let (spool, event) = (Arc::clone(spool), event.clone());
        // Storing runs in its own task. If the sender disconnects meanwhile, the account must not count bytes that are
        // not there.
        let stored = tokio::spawn(async move { spool.store(&event).await }).await;
        stored.unwrap_or(Err(PublishError::Unknown))
    }
}

#[async_trait]
impl Publish for Spooling {
    async fn publish(&self, event: &Event) -> Result<Stored, PublishError> {
        let publishing = tokio::time::timeout(STORING, self.remote.publish(event));
        self.publish_or_spool(event, async { publishing.await.unwrap_or(Err(PublishError::Unknown)) }).await
    }

    async fn publish_patiently(&self, event: &Event) -> Result<Stored, PublishError> {
        self.publish_or_spool(event, self.remote.publish_patiently(event)).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    /// Returns what an operator should know although webhooks are made durable.
    fn degraded(&self) -> Vec<String> {
        let mut degraded = self.remote.degraded();
        let Some(spool) = &self.spool else { return degraded };
        let waiting = spool.account.events();
        let away = why_not(&self.remote.state().borrow());
        match (away, spool.why_not(), waiting) {
            (Some(why), None, _) if self.takes => {
                degraded.push(format!("{why}; webhooks go to the spool, where {waiting} events wait"));
            }
            (None, Some(why), _) if self.takes => degraded.push(format!("the spool takes no events: {why}")),
            (None, _, 1..) => degraded.push(format!("{waiting} events wait in the spool to be forwarded to RabbitMQ")),
            (Some(_) | None, _, _) => {}
        }
        degraded
    }

    /// Stops the forwarder. Events in flight are confirmed and settled; the others stay in the spool.
    async fn close(&self) {
        self.stop.cancel();
        for mut task in self.tasks.lock().await.drain(..) {
            if tokio::time::timeout(CLOSING, &mut task).await.is_err() {
                task.abort();
            }
        }
        if let Some(spool) = &self.spool {
            spool.broker.close().await;
        }
        self.remote.close().await;
    }
}

impl Drop for Spooling {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Spool {
    async fn store(&self, event: &Event) -> Result<Stored, PublishError> {
        let Some(place) = self.account.reserve(event).await else {
            return Err(PublishError::Unavailable(self.account.full()));
        };
        let stored = self.broker.publish(event).await?;
        if !stored.duplicate {
            place.keep();
        }
        Ok(stored)
    }

    /// Returns why the spool accepts no events now, or `None` if it does.
    fn why_not(&self) -> Option<String> {
        why_not(&self.broker.state().borrow()).or_else(|| self.account.is_full().then(|| self.account.full()))
    }
}

/// Runs a task without which events in the spool would wait for ever: if the task panics, the broker has failed.
fn serving<T: Future<Output = ()>>(
    spooling: &Arc<Spooling>,
    name: &'static str,
    task: T,
) -> impl Future<Output = ()> + use<T> {
    // The task must not keep the spool alive.
    let spooling = Arc::downgrade(spooling);
    task::told_if_it_panics(name, task, move |reason| {
        if let Some(spooling) = spooling.upgrade() {
            spooling.state.send_replace(BrokerState::Failed(reason));
        }
    })
}

fn why_not(state: &BrokerState) -> Option<String> {
    match state {
        BrokerState::Ready => None,
        BrokerState::NotReady(why) | BrokerState::Failed(why) => Some(why.clone()),
    }
}

async fn open_spool(settings: &Settings, takes: bool, metrics: Arc<Metrics>) -> anyhow::Result<Option<Spool>> {
    let options = options(settings);
    if !takes && !options.exists() {
        return Ok(None);
    }
    let opened = EmbeddedBroker::open(options).await;
    let broker = match opened {
        // A process that needs no spool may share the directory with one that has a spool.
        Err(BrokerError::Owned(_)) if !takes => return Ok(None),
        Err(error @ BrokerError::Owned(_)) => {
            return Err(error).context(
                "cannot open the spool: several hookline-ingest processes need a data_dir each, or [ingest] \
                 on_broker_outage = \"reject\"",
            );
        }
        Err(error @ (BrokerError::Open { .. } | BrokerError::Unavailable(_))) => {
            return Err(error).context(
                "cannot open the spool: set data_dir to where this user may write, or [ingest] on_broker_outage = \
                 \"reject\"",
            );
        }
        Ok(broker) => broker,
    };
    let held = broker.held().await.context("cannot read the spool")?;
    if held.events > 0 {
        tracing::info!(events = held.events, "spool.found: events of an earlier start wait to be forwarded");
    }
    let account = Account::new(held, settings.ingest.spool_max_bytes, metrics);
    Ok(Some(Spool { broker, account }))
}

/// Keeps the state up to date and reports the age of the oldest event, until the broker is closed or dropped.
async fn follow(spooling: Arc<Spooling>) {
    let mut remote = spooling.remote.state();
    let spool = spooling.spool.clone();
    // Without a spool, our own state stands in for the spool's; it changes only when RabbitMQ's does.
    let mut local = spool.as_ref().map_or_else(|| spooling.state.subscribe(), |spool| spool.broker.state());
    let stop = spooling.stop.clone();
    let weak = Arc::downgrade(&spooling);
    drop(spooling);
    let mut oldest = tokio::time::interval(TELL_OLDEST_EVERY);
    let started = Instant::now();
    let (mut was_away, mut has_been_ready) = (false, false);
    loop {
        let Some(spooling) = weak.upgrade() else { return };
        let now = spooling.now();
        spooling.state.send_if_modified(|state| {
            let changed = *state != now && !matches!(state, BrokerState::Failed(_));
            changed.then(|| *state = now).is_some()
        });
        let ready = *remote.borrow_and_update() == BrokerState::Ready;
        has_been_ready |= ready;
        // The first connection takes a moment; that is no outage.
        let is_away = spooling.takes && !ready && (has_been_ready || started.elapsed() >= CONNECTING);
        report_change(&spooling, was_away, is_away);
        was_away = is_away;
        drop(spooling);
        let account_changed = async {
            match &spool {
                Some(spool) => spool.account.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = remote.changed() => if changed.is_err() { return },
            changed = local.changed() => if changed.is_err() { return },
            () = account_changed => {}
            _ = oldest.tick() => if let Some(spool) = &spool { report_oldest(spool).await },
        }
    }
}

/// Logs one line each time webhooks switch between RabbitMQ and the spool.
fn report_change(spooling: &Spooling, was_away: bool, is_away: bool) {
    let waiting = spooling.spool.as_ref().map_or(0, |spool| spool.account.events());
    match (was_away, is_away) {
        (false, true) => tracing::warn!("spool.taking: RabbitMQ is away, webhooks are kept on local disk"),
        (true, false) => tracing::info!(waiting, "spool.forwarding: RabbitMQ is back"),
        (true, true) | (false, false) => {}
    }
}

async fn report_oldest(spool: &Spool) {
    let oldest = if spool.account.events() == 0 { Ok(None) } else { spool.broker.oldest().await };
    match oldest {
        Ok(oldest) => spool.account.report_oldest(oldest.map(|oldest| Timestamp::now().since(oldest))),
        Err(error) => tracing::debug!(error = %error, "the spool's oldest event could not be asked"),
    }
}
