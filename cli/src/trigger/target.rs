//! Where `trigger` posts and what it signs with: as told, else as configured, else as a running `hookline dev` says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hookline_common::secret::Secret;
use hookline_common::settings::{Loaded, Settings};
use serde::Deserialize;
use url::Url;

use crate::healthcheck::reachable;
use crate::open::{self, wrong_usage};

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
    let secret = secret.map(read_secret).transpose()?;
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
    let secret = secret_file(&settings.data_dir.join(dev.secret_file))?;
    Ok(Some((url, secret)))
}

/// The text itself, `env:NAME` or `file:PATH`.
fn read_secret(given: &str) -> anyhow::Result<Secret> {
    let secret = if let Some(name) = given.strip_prefix("env:") {
        variable(name).ok_or_else(|| wrong_usage(format!("--secret: the variable {name} is not set")))?
    } else if let Some(path) = given.strip_prefix("file:") {
        return secret_file(Path::new(path));
    } else {
        Secret::new(given)
    };
    if secret.expose().is_empty() { Err(wrong_usage("--secret is empty")) } else { Ok(secret) }
}

#[expect(clippy::disallowed_methods, reason = "the user names the variable on the command line; it is no setting")]
fn variable(name: &str) -> Option<Secret> {
    std::env::var(name).ok().map(Secret::new)
}

fn secret_file(path: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong_usage(format!("cannot read the secret in {}: {error}", path.display())))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong_usage(format!("{} is empty: it should hold the webhook secret", path.display()))),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_text_or_a_file_without_its_last_line_end() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "textus-abc\n").expect("written");

        let from_file = read_secret(&format!("file:{}", file.path().display())).expect("readable");

        assert_eq!(from_file.expose(), "textus-abc");
        assert_eq!(read_secret("textus-abc").expect("a text").expose(), "textus-abc");
    }

    #[test]
    fn a_secret_that_is_not_there_is_wrong_usage() {
        for given in ["", "file:/nonexistent/secret", "env:HOOKLINE_NO_SUCH_VARIABLE"] {
            let error = read_secret(given).expect_err(given);
            assert!(error.is::<open::WrongUsage>(), "{given}");
        }
    }
}
