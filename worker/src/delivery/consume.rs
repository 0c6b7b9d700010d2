//! Takes deliveries from one handler's queue and runs each attempt in its own task. A consumer holds up to twice as
//! many deliveries as may have a call in flight. While a gate of the handler is closed, it takes no work and only
//! removes erased deliveries. On shutdown it drains.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use hookline_broker::{Broker, BrokerError, Deliveries, Delivery};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::model::{Begin, Claim, Copied, Payload};
use hookline_store::{Store, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::calls::log::CallLog;
use crate::delivery::erased::Sweeps;
use crate::delivery::handler::{Attempt, Handler};
use crate::delivery::history_lag::HistoryLag;
use crate::delivery::pauses::Pauses;
use crate::delivery::settle::{self, Ended};
use crate::destinations::priority::Priority;

/// How often a log line says that a consumer waits for the broker.
const TELL_WAITING_EVERY: Duration = Duration::from_secs(60);
/// Pause before the next try to subscribe after the broker refused.
const CONSUME_AGAIN: Duration = Duration::from_secs(1);
/// How often a consumer checks a closed gate: an operator may open it early (`hookline resume`).
const LOOK_AT_GATE: Duration = Duration::from_millis(200);

/// How long a consumer keeps prefetched deliveries while its gate is closed. RabbitMQ closes a consumer's channel after
/// half an hour (<https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout>), and another worker's gate may be
/// open.
const KEEP_AT_MOST: Duration = Duration::from_secs(60);
/// How often a consumer behind a closed gate looks for erased deliveries.
const LOOK_FOR_ERASED: Duration = Duration::from_secs(1);

/// State that all consumers of a worker share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: ProgressFeed,
    /// Unique to this process, which holds claims and locks under this name.
    pub(crate) worker_id: String,
    pub(crate) pauses: Pauses,
    pub(crate) history_lag: HistoryLag,
    deliveries_taken: AtomicU64,
    /// Why the store does not answer, or `None` while it does.
    store_away: watch::Sender<Option<String>>,
    /// When a waiting consumer was last told.
    waiting_told: Mutex<Option<Instant>>,
    created: Instant,
}

impl Context {
    pub(crate) fn new(
        settings: Settings,
        broker: Arc<dyn Broker>,
        store: Store,
        metrics: Arc<Metrics>,
        progress: ProgressFeed,
        worker_id: String,
    ) -> Self {
        Self {
            settings,
            broker,
            store,
            metrics,
            progress,
            worker_id,
            pauses: Pauses::default(),
            history_lag: HistoryLag::default(),
            deliveries_taken: AtomicU64::new(0),
            store_away: watch::Sender::new(None),
            waiting_told: Mutex::default(),
            created: Instant::now(),
        }
    }

    /// Stops consumers from taking deliveries until the store answers: each would only be parked again and again.
    pub(crate) fn store_is_away(&self, error: &StoreError) {
        let was_away = self.store_away.send_replace(Some(error.to_string())).is_some();
        self.metrics.worker.store_available.set(0);
        if !was_away {
            tracing::warn!(error = %error, "store.away: deliveries wait in their queues until it answers");
        }
    }

    pub(crate) fn store_answers(&self) {
        let was_away = self.store_away.send_replace(None).is_some();
        self.metrics.worker.store_available.set(1);
        if was_away {
            tracing::info!("store.back: deliveries are taken again");
        }
    }

    /// Logs that a queue gives nothing, at most once a minute for all queues together: they wait for one broker.
    fn consumer_waits(&self, queue: Queue, error: &BrokerError) {
        let mut told = self.waiting_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|at| at.elapsed() < TELL_WAITING_EVERY) {
            return;
        }
        *told = Some(Instant::now());
        // In a deployment everything starts at the same time: a broker that is not there yet is nothing to warn of.
        if self.created.elapsed() < TELL_WAITING_EVERY {
            tracing::info!(queue = queue.name(), error = %error, "consumer.waiting: trying again every second");
        } else {
            tracing::warn!(queue = queue.name(), error = %error, "consumer.waiting: trying again every second");
        }
    }

    /// Follows why the store does not answer.
    pub(crate) fn store_away(&self) -> watch::Receiver<Option<String>> {
        self.store_away.subscribe()
    }

    pub(crate) fn next_owner(&self) -> String {
        format!("{}:{}", self.worker_id, self.deliveries_taken.fetch_add(1, Ordering::Relaxed))
    }
}

/// Subscribes to a queue and retries until the broker accepts; `None` on `shutdown`.
pub(crate) async fn consume(
    context: &Context,
    queue: Queue,
    prefetch: u16,
    shutdown: &CancellationToken,
) -> Option<Deliveries> {
    loop {
        match context.broker.consume(queue, prefetch).await {
            Ok(deliveries) => return Some(deliveries),
            Err(error) => context.consumer_waits(queue, &error),
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(CONSUME_AGAIN) => {}
        }
    }
}

/// Gives back every delivery that was prefetched and has not begun.
pub(crate) async fn give_back(context: &Context, deliveries: Deliveries) {
    // Release them together: on RabbitMQ each release is a publish, and they share their confirms.
    let held = deliveries.drain().await;
    futures::future::join_all(held.into_iter().map(|delivery| settle::release(context, delivery))).await;
}

/// Runs a handler's consumer until `shutdown`. Returns when every attempt that has begun is settled. After
/// `shutdown_grace`, attempts that still run are cut off, and the broker delivers them again.
pub(crate) async fn run(context: Arc<Context>, handler: Arc<dyn Handler>, shutdown: CancellationToken) {
    let name = handler.name();
    let concurrency = context.settings.handlers.basics(name).concurrency;
    // `concurrency` limits calls. An attempt's store work before and after its call overlaps with the calls of others.
    let in_hand = concurrency.saturating_mul(2);
    let slots = Arc::new(Semaphore::new(usize::from(in_hand)));
    let calls = Arc::new(Semaphore::new(usize::from(concurrency)));
    let attempts = TaskTracker::new();
    let cut_off = CancellationToken::new();
    let mut sweeps = Sweeps::default();
    while let Some(mut deliveries) = consume(&context, Queue::Work(name), in_hand, &shutdown).await {
        loop {
            let Some(slot) = free_slot(&context, handler.as_ref(), &slots, &mut sweeps, &shutdown).await else { break };
            let delivery = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                delivery = deliveries.next() => delivery,
            };
            let Some(delivery) = delivery else { break };
            let calls = Arc::clone(&calls);
            attempts.spawn(attempt(Arc::clone(&context), Arc::clone(&handler), delivery, slot, calls, cut_off.clone()));
        }
        give_back(&context, deliveries).await;
        // Don't subscribe yet: this worker would hold deliveries again that its closed gate keeps from being done.
        while !may_go(&context, handler.as_ref(), &shutdown, LOOK_FOR_ERASED).await && !shutdown.is_cancelled() {
            if sweeps.are_due(&context, name).await {
                sweeps.sweep(&context, name, &shutdown).await;
            }
        }
        if shutdown.is_cancelled() {
            break;
        }
    }
    attempts.close();
    if tokio::time::timeout(context.settings.shutdown_grace, attempts.wait()).await.is_err() {
        tracing::warn!(handler = %name, "shutdown_grace passed: what still ran is delivered again");
        cut_off.cancel();
        attempts.wait().await;
    }
}

/// Waits for a free slot, the store and open gates. Returns `None` on shutdown, when the store is away or a gate is
/// closed for so long that prefetched deliveries should be given back, or when a sweep for erased deliveries is due.
async fn free_slot(
    context: &Context,
    handler: &dyn Handler,
    slots: &Arc<Semaphore>,
    sweeps: &mut Sweeps,
    shutdown: &CancellationToken,
) -> Option<OwnedSemaphorePermit> {
    let slot = tokio::select! {
        () = shutdown.cancelled() => return None,
        slot = Arc::clone(slots).acquire_owned() => slot.ok()?,
    };
    let since = Instant::now();
    while !may_go(context, handler, shutdown, LOOK_FOR_ERASED).await {
        let is_over = shutdown.is_cancelled() || since.elapsed() >= KEEP_AT_MOST;
        if is_over || sweeps.are_due(context, handler.name()).await {
            // The caller sweeps the queue next.
            sweeps.now();
            return None;
        }
    }
    (!shutdown.is_cancelled()).then_some(slot)
}

/// Waits until the store answers and the gates are open. Returns `false` on shutdown, or if that takes longer than
/// `within`.
async fn may_go(context: &Context, handler: &dyn Handler, shutdown: &CancellationToken, within: Duration) -> bool {
    let since = Instant::now();
    let closed_for = || {
        if context.store_away.borrow().is_some() {
            return Some(LOOK_AT_GATE);
        }
        let priority = Priority::from(handler.name());
        let wait = handler.gates().iter().filter_map(|(gate, classes)| gate.no_room_for(priority, classes)).max()?;
        Some(wait.clamp(Duration::from_millis(5), LOOK_AT_GATE))
    };
    while let Some(wait) = closed_for() {
        if since.elapsed() >= within {
            return false;
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(wait) => {}
        }
    }
    true
}

async fn attempt(
    context: Arc<Context>,
    handler: Arc<dyn Handler>,
    delivery: Delivery,
    _slot: OwnedSemaphorePermit,
    calls: Arc<Semaphore>,
    cut_off: CancellationToken,
) {
    let name = handler.name();
    let in_flight = context.metrics.worker.in_flight(name);
    in_flight.inc();
    tokio::select! {
        () = cut_off.cancelled() => {}
        () = make_attempt(&context, handler.as_ref(), delivery, calls) => {}
    }
    in_flight.dec();
}

async fn make_attempt(context: &Context, handler: &dyn Handler, delivery: Delivery, in_flight: Arc<Semaphore>) {
    let name = handler.name();
    let event = Arc::clone(&delivery.event);
    let owner = context.next_owner();
    let calls = CallLog::about(event.body.clone()).within(in_flight, name.into());
    let mut attempt = Attempt { event: &event, owner: &owner, calls: &calls, first_claim: None };
    let copy = Copied { attempt: delivery.attempt, again: delivery.again, copy: delivery.copy };
    let masked;
    match begin(context, handler, &attempt, copy).await {
        Ok((Begin::Go, claim)) => attempt.first_claim = claim,
        Ok((Begin::GoMasked, claim)) => {
            attempt.first_claim = claim;
            match context.store.event_payload(&event.id).await {
                Ok(Payload::Here(event)) => {
                    masked = event;
                    attempt.event = &masked;
                }
                // The payload is only missing if the event's retention has ended.
                Ok(Payload::Gone | Payload::Unknown) => {}
                Err(_away) => return settle::hold(context, delivery).await,
            }
        }
        Ok((Begin::AlreadySettled(_) | Begin::StaleCopy, _)) => {
            return settle::drop_copy(context, name, delivery).await;
        }
        Err(error) => {
            tracing::warn!(handler = %name, event.id = %event.id, error = %error, "delivery.held: the store is away");
            if error.is_unavailable() {
                context.store_is_away(&error);
            }
            return settle::hold(context, delivery).await;
        }
    }
    let started_at = Timestamp::now();
    let clock = Instant::now();
    match AssertUnwindSafe(handler.handle(&attempt)).catch_unwind().await {
        Ok(result) => {
            let ended = Ended { started_at, took: clock.elapsed(), requests: calls.records(), result };
            settle::settle(context, name, delivery, ended).await;
        }
        Err(_panic) => panicked(context, name, delivery, &owner).await,
    }
}

async fn begin(
    context: &Context,
    handler: &dyn Handler,
    attempt: &Attempt<'_>,
    copy: Copied,
) -> Result<(Begin, Option<Claim>), StoreError> {
    // A panic here occurs again in the attempt itself, where it is counted and logged.
    let claim = std::panic::catch_unwind(AssertUnwindSafe(|| handler.first_claim(attempt.event, attempt.owner)))
        .unwrap_or(None);
    context.store.begin_claiming(attempt.event, handler.name(), copy, claim.as_ref()).await
}

/// A panic is a bug in Hookline. The delivery stays unsettled, which counts towards the delivery limit: a payload that
/// always panics ends there, and one that met a passing fault succeeds next time.
async fn panicked(context: &Context, handler: HandlerName, delivery: Delivery, owner: &str) {
    context.metrics.worker.panics.with_label_values(&[handler.as_str()]).inc();
    tracing::error!(event.id = %delivery.event.id, handler = %handler, redeliveries = delivery.redeliveries,
        "delivery.panicked: it is tried again, and dead-lettered at the delivery limit; please report this");
    // The next attempt has another owner and would wait for these claims.
    if let Err(error) = context.store.end_claims_of(owner).await {
        tracing::warn!(event.id = %delivery.event.id, error = %error, "claims.kept: they end with their lease");
    }
    drop(delivery);
}
