//! Builds a worker from the settings and runs it: one consumer per enabled handler, the movers of dead letters and the
//! housekeeping. `hookline-worker`, `hookline run`, `hookline dev` and the tests all start here.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use hookline_broker::{Broker, BrokerState};
use hookline_common::names::{Destination, HandlerName};
use hookline_common::service::reload::LiveSettings;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::service::telemetry::progress::ProgressFeed;
use hookline_common::settings::Settings;
use hookline_store::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::background::{dead_letters, flag_checks, housekeeping, presence, subscription, unsent};
use crate::delivery::consume::{self, Context};
use crate::delivery::{pauses, undelivered};
use crate::gate::{CheckResult, Gate};
use crate::handlers::flag_opt_out::FlagOptOut;
use crate::handlers::{self, Clients, record_history};
use crate::records::{self, SystemOfRecord};
use crate::textus::client::TextUs;
use crate::textus::limits;

/// A worker that is ready to run.
pub struct WorkerApp {
    context: Arc<Context>,
    clients: Clients,
    handlers: Vec<HandlerName>,
}

/// Reports whether a worker's queues are being consumed and its store answers, for `/readyz`.
#[derive(Clone)]
pub struct WorkerReadiness {
    broker: watch::Receiver<BrokerState>,
    store_away: watch::Receiver<Option<String>>,
}

impl WorkerReadiness {
    /// Returns why the worker isn't ready; empty when it is ready.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let BrokerState::NotReady(reason) | BrokerState::Failed(reason) = &*self.broker.borrow() {
            reasons.push(format!("queues are not consumed: {reason}"));
        }
        if let Some(reason) = &*self.store_away.borrow() {
            reasons.push(format!("queues are not consumed: {reason}"));
        }
        reasons
    }
}

impl WorkerApp {
    /// Builds the clients and handlers. `only` limits which of the enabled handlers run.
    ///
    /// # Errors
    /// When a client can't be built from the settings.
    pub fn new(
        settings: &Settings,
        broker: Arc<dyn Broker>,
        store: Store,
        metrics: Arc<Metrics>,
        progress: ProgressFeed,
        only: Option<&[HandlerName]>,
    ) -> anyhow::Result<Self> {
        let textus_gate = Arc::new(Gate::new(
            Destination::TextUs,
            store.clone(),
            Arc::clone(&metrics),
            limits::rules(&settings.textus),
        ));
        let textus = TextUs::new(&settings.textus, Arc::clone(&textus_gate), Arc::clone(&metrics))
            .context("building the client for the TextUs API")?;
        let records = records::open(settings, &store, &metrics).context("opening the system of record")?;
        let clients = Clients { store: store.clone(), textus, textus_gate, records, metrics: Arc::clone(&metrics) };
        let handlers = settings
            .handlers
            .enabled()
            .into_iter()
            .filter(|handler| only.is_none_or(|only| only.contains(handler)))
            .collect();
        let worker_id = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let context = Arc::new(Context::new(settings.clone(), broker, store, metrics, progress, worker_id));
        Ok(Self { context, clients, handlers })
    }

    #[must_use]
    pub fn readiness(&self) -> WorkerReadiness {
        WorkerReadiness { broker: self.context.broker.state(), store_away: self.context.store_away() }
    }

    /// Consumes until `shutdown`, then drains: attempts in flight get `shutdown_grace` to finish, and deliveries that
    /// have not begun are given back.
    ///
    /// # Errors
    /// When a handler cannot be built from the settings, or a part of the worker panics.
    pub async fn run(self, live: Option<LiveSettings>, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut gates = vec![Arc::clone(&self.clients.textus_gate)];
        gates.extend(self.clients.records.gate().cloned());
        // Refresh before the first call: another process or an operator may have closed the gate.
        for gate in &gates {
            if let Err(error) = gate.refresh().await {
                tracing::warn!(error = %error, "gates.unread: the store is away, and nothing is called until it is back");
            }
        }
        let ended = CancellationToken::new();
        let mut presence = tokio::spawn(presence::run(Arc::clone(&self.context), gates.clone(), ended.clone()));
        // The guard stops the presence task however this function is left.
        let ended = ended.drop_guard();
        let mut parts = JoinSet::new();
        for gate in gates {
            parts.spawn(gate.watch(shutdown.clone()));
        }
        for name in &self.handlers {
            match handlers::build(*name, &self.context.settings, &self.clients)? {
                Some(handler) => parts.spawn(consume::run(Arc::clone(&self.context), handler, shutdown.clone())),
                None => parts.spawn(record_history::run(Arc::clone(&self.context), shutdown.clone())),
            };
        }
        for name in &self.handlers {
            parts.spawn(dead_letters::run(Arc::clone(&self.context), *name, shutdown.clone()));
        }
        parts.spawn(housekeeping::run(Arc::clone(&self.context), shutdown.clone()));
        parts.spawn(housekeeping::run_retention(Arc::clone(&self.context), shutdown.clone()));
        parts.spawn(undelivered::run(Arc::clone(&self.context), shutdown.clone()));
        parts.spawn(pauses::run(Arc::clone(&self.context), shutdown.clone()));
        parts.spawn(unsent::run(Arc::clone(&self.context), shutdown.clone()));
        let again = self.clients.records.search_again_after();
        if self.handlers.contains(&HandlerName::FlagOptOut) && !again.is_empty() {
            let handler = FlagOptOut::new(&self.context.settings, &self.clients);
            parts.spawn(flag_checks::run(Arc::clone(&self.context), handler, again, shutdown.clone()));
        }
        parts.spawn(self.clients.textus.clone().check_refused_token(shutdown.clone()));
        parts.spawn(subscription::run(
            self.context.settings.clone(),
            live.clone(),
            self.clients.textus.clone(),
            Arc::clone(&self.context.metrics),
            shutdown.clone(),
        ));
        let (records, until) = (Arc::clone(&self.clients.records), shutdown.clone());
        parts.spawn(async move { records.watch(until).await });
        if let Some(live) = live {
            let (textus, gate) = (self.clients.textus.clone(), Arc::clone(&self.clients.textus_gate));
            parts.spawn(follow(live, textus, gate, Arc::clone(&self.clients.records), shutdown.clone()));
        }
        tracing::info!(handlers = ?self.handlers.iter().map(|name| name.as_str()).collect::<Vec<_>>(), "worker.started");

        let served = tokio::select! {
            served = all_end(&mut parts) => served,
            // Who cannot read the gates must not call, and nobody else does the presence's work.
            gone = &mut presence => gone.context("the worker's presence ended on its own"),
            why = failed(self.context.broker.state(), self.context.store.failure()) => Err(anyhow!(why)),
        };
        if served.is_err() {
            shutdown.cancel();
            return served;
        }
        drop(ended);
        presence.await.context("the worker's presence ended on its own")
    }
}

/// Waits until every part has ended.
///
/// # Errors
/// As soon as a part panics.
async fn all_end(parts: &mut JoinSet<()>) -> anyhow::Result<()> {
    while let Some(ended) = parts.join_next().await {
        ended.context("a part of the worker ended on its own")?;
    }
    Ok(())
}

/// Returns why the broker or the store has failed for good, once one has.
async fn failed(mut broker: watch::Receiver<BrokerState>, mut store: watch::Receiver<Option<String>>) -> String {
    let broker_failed = async {
        let state = broker.wait_for(|state| matches!(state, BrokerState::Failed(_))).await;
        state.ok().and_then(|state| match &*state {
            BrokerState::Failed(why) => Some(format!("the queues have failed: {why}")),
            BrokerState::Ready | BrokerState::NotReady(_) => None,
        })
    };
    let store_failed = async {
        let why = store.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).map(|why| format!("the store has failed: {why}"))
    };
    // `None` means that it was closed without a failure.
    tokio::select! {
        Some(why) = broker_failed => why,
        Some(why) = store_failed => why,
        else => std::future::pending().await,
    }
}

/// Applies changed settings while the worker runs.
async fn follow(
    mut live: LiveSettings,
    textus: TextUs,
    gate: Arc<Gate>,
    records: Arc<dyn SystemOfRecord>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = live.changed() => if changed.is_err() {
                return shutdown.cancelled().await;
            }
        }
        let settings = Arc::clone(&live.borrow_and_update());
        gate.go_by(limits::rules(&settings.textus));
        follow_credentials(&gate, textus.take_token(&settings.textus));
        if let Some(gate) = records.gate() {
            follow_credentials(gate, records.take_credentials(&settings));
        }
    }
}

/// Lets refused credentials be checked at once if there are others now.
fn follow_credentials(gate: &Gate, taken: anyhow::Result<bool>) {
    match taken {
        Ok(true) => {
            tracing::info!(destination = %gate.destination(), "credentials.changed: calls are made with the new ones");
            gate.check_ended(CheckResult::Changed);
        }
        Ok(false) => {}
        Err(error) => tracing::error!(destination = %gate.destination(), error = %error,
            "credentials.refused: those from before stay in use"),
    }
}
