//! Where `trigger` posts and what it signs with: as told, else as configured, else as a running `hookline dev` says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hookline_common::secret::Secret;
use hookline_common::settings::{Loaded, Settings};
use serde::Deserialize;
use url::Url;

use crate::healthcheck::reachable;
use crate::open::{self, wrong_usage};
use crate::secret;

pub(super) struct Target {
    pub(super) url: Url,
    pub(super) secret: Secret,
    /// The TextUs account that samples speak of.
    pub(super) account: String,
}

/// What samples say where no account is configured.
const SAMPLE_ACCOUNT: &str = "acme";

/// What `hookline dev` leaves in its data directory while it runs.
#[derive(Deserialize)]
struct DevFile {
    webhook_url: String,
    /// Relative to the data directory, or absolute.
    secret_file: PathBuf,
}

/// # Errors
/// Wrong usage, telling what to give, where URL or secret are neither given nor configured.
pub(super) fn resolve(config: Option<&Path>, url: Option<&Url>, secret: Option<&str>) -> anyhow::Result<Target> {
    let secret = secret.map(|text| secret::given("--secret", text)).transpose()?;
    if let (Some(url), Some(secret)) = (url, &secret) {
        return Ok(Target { url: url.clone(), secret: secret.clone(), account: SAMPLE_ACCOUNT.to_owned() });
    }
    let Loaded { settings, warnings, .. } = open::loaded(config)?;
    let configured = configured(&settings);
    // Asked only for what the configuration leaves open: no source at all, or any free port.
    let dev = if configured.is_some() { None } else { dev_file(&settings)? };
    let url = url.cloned().or_else(|| configured.as_ref().map(|(url, _)| url.clone()));
    let url = url.or_else(|| dev.as_ref().map(|(url, _)| url.clone()));
    let secret = secret.or_else(|| settings.sources.first().and_then(|source| source.secrets.first()).cloned());
    let secret = secret.or_else(|| dev.map(|(_, secret)| secret));
    let account = if settings.textus.account.is_empty() { SAMPLE_ACCOUNT } else { &settings.textus.account };
    match (url, secret) {
        (Some(url), Some(secret)) => Ok(Target { url, secret, account: account.to_owned() }),
        _ => {
            // A source whose secret is out of reach is left out of the settings: that is why, then.
            let warnings: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
            Err(wrong_usage(format!(
                "{warnings}nobody says where to post: the configuration has no [[sources]] with a secret at hand and \
                 a fixed [ingest] listen, and no `hookline dev` runs on {}; start `hookline dev`, or give --config \
                 FILE, or --url URL and --secret file:PATH",
                settings.data_dir.display()
            )))
        }
    }
}

/// `None` where there is no source, or ingest listens on any free port.
fn configured(settings: &Settings) -> Option<(Url, Secret)> {
    let source = settings.sources.first()?;
    let listen = reachable(settings.ingest.listen);
    if listen.port() == 0 {
        return None;
    }
    let scheme = if settings.ingest.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{listen}/webhooks/{}", source.name).parse().ok()?;
    Some((url, source.secrets.first()?.clone()))
}

fn dev_file(settings: &Settings) -> anyhow::Result<Option<(Url, Secret)>> {
    let path = settings.data_dir.join("dev.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let not_ours = || format!("{} is not what `hookline dev` writes; start it again", path.display());
    let dev: DevFile = serde_json::from_str(&text).with_context(not_ours)?;
    let url = dev.webhook_url.parse().with_context(not_ours)?;
    let secret = secret::in_file(&settings.data_dir.join(dev.secret_file))?;
    Ok(Some((url, secret)))
}
