//! The TextUs client of these commands. If a store exists, calls pass the gate that the workers share, so a pause and a
//! `Retry-After` bind them too. Before the first `hookline run` there is no store, and these commands create none.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hookline_common::names::Destination;
use hookline_common::service::telemetry::logging;
use hookline_common::service::telemetry::metrics::{self, Metrics};
use hookline_common::settings::{Needs, Role, Settings, load, takes_posts_to, webhook_url};
use hookline_store::Store;
use hookline_worker::background::subscription::{self, NotKnown, Subscription};
use hookline_worker::calls::log::CallLog;
use hookline_worker::gate::Gate;
use hookline_worker::textus::client::TextUs;
use hookline_worker::textus::integrations::Integrations;
use hookline_worker::textus::limits;
use url::Url;

use super::EndpointArgs;
use crate::open::{self, StoreForCalls, wrong_usage};
use crate::output;

/// These commands need the token and the sources' names; unreadable secrets of the sources are tolerated.
const NEEDS: Needs = Needs { ingest: false, worker: true, role: Role::Command, certificates: false };

/// The settings, the client and the account that these commands work with.
pub(super) struct Desk {
    pub(super) settings: Settings,
    pub(super) textus: TextUs,
    pub(super) log: CallLog,
    pub(super) account: String,
    /// The URL at which TextUs reaches this endpoint, if known.
    pub(super) url: Option<Url>,
    gate: Arc<Gate>,
    /// Kept open as long as the gate needs its files.
    _store: StoreForCalls,
}

impl Desk {
    pub(super) async fn open(config: Option<&Path>, args: &EndpointArgs) -> anyhow::Result<Self> {
        let loaded = load(config, NEEDS).map_err(|problems| wrong_usage(problems.to_string()))?;
        logging::init(loaded.settings.log.format, "warn");
        let settings = loaded.settings;
        let account = args.account.clone().unwrap_or_else(|| settings.textus.primary_account().to_owned());
        if account.is_empty() {
            return Err(wrong_usage(
                "nobody names the account: set [textus] account or primary_account, or give --account",
            ));
        }
        if settings.textus.token.is_none() {
            return Err(wrong_usage("textus.token is missing: add token = \"env:TEXTUS_API_TOKEN\" below [textus]"));
        }
        let url = match &args.url {
            Some(text) => Some(given_url(&settings, text)?),
            None => settings.textus.webhook_url.clone(),
        };
        let store = store(&settings).await?;
        let (textus, gate) = client(&settings, store.store.clone()).await?;
        Ok(Self { settings, textus, log: CallLog::default(), account, url, gate, _store: store })
    }

    /// Lists the account's integrations.
    pub(super) async fn list(&self) -> Result<Integrations, NotKnown> {
        subscription::list(&self.textus, &self.log, &self.account).await
    }

    pub(super) fn judge(&self, listed: &Integrations) -> Result<Subscription, NotKnown> {
        subscription::judge(&self.settings, self.url.as_ref(), listed)
    }

    /// Passes the rate limit that the answers reported to the workers.
    pub(super) async fn close(self) {
        if let Err(error) = self.gate.exchange().await {
            tracing::debug!(%error, "gate.not_told: the store does not answer");
        }
    }
}

/// Reads the state of the subscription, for `check --connect`.
pub(crate) async fn subscription(settings: &Settings, store: Store) -> anyhow::Result<Result<Subscription, NotKnown>> {
    let (textus, gate) = client(settings, store).await?;
    let textus = textus.only_looking();
    let listed = subscription::list(&textus, &CallLog::default(), settings.textus.primary_account()).await;
    gate.exchange().await?;
    Ok(listed.and_then(|listed| subscription::judge(settings, settings.textus.webhook_url.as_ref(), &listed)))
}

async fn client(settings: &Settings, store: Store) -> anyhow::Result<(TextUs, Arc<Gate>)> {
    let metrics = Arc::new(Metrics::new(metrics::Role::Worker, &[]));
    let rows = store.gates().await.context("cannot read the store")?;
    let gate = Arc::new(Gate::new(Destination::TextUs, store, Arc::clone(&metrics), limits::rules(&settings.textus)));
    // A `Retry-After` and an operator's pause bind these calls. Refused credentials are left for the workers to
    // discover.
    gate.follow(&rows);
    let textus = TextUs::new(&settings.textus, Arc::clone(&gate), metrics).context("cannot build the client")?;
    Ok((textus, gate))
}

/// Opens the workers' store, or else a temporary one that ends with this command.
async fn store(settings: &Settings) -> anyhow::Result<StoreForCalls> {
    match open::store_or_none(settings).await {
        Ok(Some(store)) => return Ok(store.into()),
        Ok(None) => {}
        Err(error) => output::hint(&format!(
            "note: {error:#}; the calls are made without knowing of a pause or of the rate limit"
        )),
    }
    StoreForCalls::new().await
}

/// Parses a URL from the command line. TextUs must be able to post to it, and a source must listen at its path.
fn given_url(settings: &Settings, text: &str) -> anyhow::Result<Url> {
    let url = webhook_url(text).map_err(|what| {
        wrong_usage(format!("--url is {what}; give one such as https://hooks.example.com/webhooks/textus"))
    })?;
    let names: Vec<String> = settings.source_names().map(|name| format!("/webhooks/{name}")).collect();
    if names.is_empty() {
        return Err(wrong_usage(
            "the configuration has no source that takes webhooks; add [[sources]] with name = \"textus\" and the file in \
             which the secret will be: secrets = [\"file:PATH\"]",
        ));
    }
    if !settings.source_names().any(|name| takes_posts_to(name, &url)) {
        return Err(wrong_usage(format!("--url ends in no source's path; let it end in {}", names.join(" or "))));
    }
    Ok(url)
}
