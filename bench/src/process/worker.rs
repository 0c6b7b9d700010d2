//! `hookline-worker` as it ships, with only the measured handlers enabled.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hookline_broker::Broker;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::metrics::BrokerMetrics;
use hookline_broker::rabbitmq::{RabbitBroker, RabbitOptions, RabbitRole};
use hookline_common::event::Event;
use hookline_common::names::{HandlerName, Verdict};
use hookline_common::secret::Secret;
use hookline_common::service::admin::AdminServer;
use hookline_common::service::broker_ca;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::service::telemetry::progress::{Milestone, ProgressFeed};
use hookline_common::settings::{HandlerBasics, HandlersSettings, MessageLookup, Settings};
use hookline_worker::service::WorkerService;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::ingest::TO_BE_READY;
use super::{BrokerSpec, Questions, answer, ready};
use crate::{clock, samples};

/// One key for all runs, because a store keeps the key it was created with.
const LEDGER_KEY: &str = "the benchmark's ledger proves nothing to anyone";

#[derive(Serialize, Deserialize)]
pub(crate) struct WorkerSpec {
    pub(crate) broker: BrokerSpec,
    /// URL of PostgreSQL; `None` means SQLite in the broker's `data_dir`. The URL may contain a password, so it is only
    /// passed on stdin, and there is no `Debug`.
    pub(crate) store_url: Option<String>,
    /// Address of the API.
    pub(crate) api: SocketAddr,
    /// A new account for each run, because opt-outs of an earlier run have already been PUT.
    pub(crate) account: String,
    pub(crate) handlers: Vec<HandlerName>,
    /// `None` means as shipped.
    pub(crate) concurrency: Option<u16>,
    /// Timeout of a call to the API; `None` means as shipped.
    pub(crate) timeout: Option<Duration>,
    /// Window of the API's rate limit; `None` means as shipped.
    pub(crate) rate_limit_window: Option<Duration>,
    /// The handler whose settled deliveries are recorded.
    pub(crate) watched: Option<HandlerName>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum WorkerQuestion {
    /// The answer is [`Published`].
    Publish(PublishEvents),
    /// Asks for every [`Settled`] of the watched handler since the previous request.
    Settled,
}

/// Events that the worker publishes itself, as `hookline run` does, because no other process can publish to the
/// embedded broker.
#[derive(Serialize, Deserialize)]
pub(crate) struct PublishEvents {
    /// Event types and bodies.
    events: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Published {
    /// When publishing began, on the clock that the processes share.
    pub(crate) at_us: u64,
}

/// A delivery that ended well.
#[derive(Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) event_id: String,
    pub(crate) at_us: u64,
}

impl PublishEvents {
    pub(crate) fn of(events: &[&Event]) -> Self {
        let text =
            |event: &&Event| (event.event_type.as_str().to_owned(), String::from_utf8_lossy(&event.body).into_owned());
        Self { events: events.iter().map(text).collect() }
    }

    async fn done_on(self, broker: &dyn Broker) -> anyhow::Result<Published> {
        let at_us = clock::now_us();
        for (event_type, body) in self.events {
            broker.publish(&samples::event(&event_type, body)?).await.context("publishing")?;
        }
        Ok(Published { at_us })
    }
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    let spec: WorkerSpec = questions.spec().await?;
    let progress = ProgressFeed::default();
    let settled = Arc::new(Mutex::new(Vec::new()));
    if let Some(handler) = spec.watched {
        tokio::spawn(note_settled(progress.listen(), handler, Arc::clone(&settled)));
    }
    let settings = settings(spec)?;
    let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
    let broker = open_broker(&settings, &metrics).await?;
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let worker = WorkerService::open(&settings, Arc::clone(&broker), Arc::clone(&metrics), progress, None).await?;
    let admin = AdminServer::bind(any_port, metrics, Arc::new(worker.standing()))?;

    let shutdown = CancellationToken::new();
    let admin = tokio::spawn(admin.run(shutdown.clone()));
    let working = tokio::spawn(worker.run(shutdown.clone()));
    ready(None)?;
    while let Some(question) = questions.next().await? {
        match question {
            WorkerQuestion::Publish(publish) => answer(&publish.done_on(broker.as_ref()).await?)?,
            WorkerQuestion::Settled => {
                answer(&std::mem::take(&mut *settled.lock().unwrap_or_else(PoisonError::into_inner)))?;
            }
        }
    }
    shutdown.cancel();
    working.await.context("the worker ended on its own")??;
    admin.await.context("the admin listener ended on its own")??;
    broker.close().await;
    Ok(())
}

async fn note_settled(
    mut progress: broadcast::Receiver<Milestone>,
    watched: HandlerName,
    settled: Arc<Mutex<Vec<Settled>>>,
) {
    loop {
        match progress.recv().await {
            Ok(Milestone::Settled { event_id, handler, verdict: Verdict::Done | Verdict::Skipped, .. })
                if handler == watched =>
            {
                let one = Settled { event_id: event_id.to_string(), at_us: clock::now_us() };
                settled.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            }
            // Milestones that were missed are missing in the figures, which report that.
            Ok(Milestone::Settled { .. } | Milestone::Accepted { .. })
            | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Opens the broker that a worker consumes from, with only the measured handlers. Filling the queues beforehand uses it
/// too.
pub(crate) async fn open_broker(settings: &Settings, metrics: &Metrics) -> anyhow::Result<Arc<dyn Broker>> {
    if settings.broker.url.is_empty() {
        let options = EmbeddedOptions::new(&settings.data_dir, settings.handlers.enabled());
        return Ok(EmbeddedBroker::open(options).await?);
    }
    let broker = RabbitBroker::start(RabbitOptions::new(
        settings,
        broker_ca(settings)?,
        RabbitRole::Worker,
        Arc::new(BrokerMetrics::new(metrics)),
    ));
    broker.wait_ready(TO_BE_READY).await?;
    Ok(broker)
}

pub(crate) fn settings(spec: WorkerSpec) -> anyhow::Result<Settings> {
    let WorkerSpec { broker, store_url, api, account, handlers, concurrency, timeout, rate_limit_window, watched: _ } =
        spec;
    let mut settings = broker.settings();
    settings.store.url = store_url.map(Secret::new);
    settings.store.ledger_key = Some(Secret::new(LEDGER_KEY));
    settings.textus.base_url = format!("http://{api}").parse().context("the API's address")?;
    settings.textus.account.clone_from(&account);
    settings.textus.token = Some(Secret::new("synthetic-token-of-the-benchmark"));
    // Calls are counted, so the check of the webhook subscription is switched off; the benchmark has no subscription.
    settings.textus.webhook_check_every = Duration::ZERO;
    settings.textus.timeout = timeout.unwrap_or(settings.textus.timeout);
    settings.textus.rate_limit_window = rate_limit_window.unwrap_or(settings.textus.rate_limit_window);
    settings.handlers.record_opt_out.accounts = vec![account];
    // The form is fixed, so that the worker need not find out which one the API answers, and a note is one call.
    settings.handlers.log_note.message_lookup = MessageLookup::Message;
    for name in HandlerName::ALL {
        let basics = basics(&mut settings.handlers, *name);
        basics.enabled = handlers.contains(name);
        basics.concurrency = concurrency.unwrap_or(basics.concurrency);
    }
    Ok(settings)
}

fn basics(handlers: &mut HandlersSettings, name: HandlerName) -> &mut HandlerBasics {
    match name {
        HandlerName::RecordOptOut => &mut handlers.record_opt_out.basics,
        HandlerName::FlagOptOut => &mut handlers.flag_opt_out.basics,
        HandlerName::LogNote => &mut handlers.log_note.basics,
        HandlerName::CreateContact => &mut handlers.create_contact.basics,
        HandlerName::SyncContact => &mut handlers.sync_contact.basics,
        HandlerName::RecordHistory => &mut handlers.record_history.basics,
    }
}
