//! Determines where `trigger` posts and which secret it signs with: from the arguments, else from the configuration,
//! else from a running `hookline dev`.

use anyhow::Context;
use hookline_common::secret::Secret;
use hookline_common::settings::{Loaded, Problem, Settings};
use url::{Host, Url};

use crate::dev_file::DevFile;
use crate::healthcheck::reachable;
use crate::open::{self, Place, wrong_usage};
use crate::secret;

pub(super) struct Target {
    pub(super) url: Url,
    pub(super) secret: Secret,
    /// The TextUs account that the samples name.
    pub(super) account: String,
}

/// The account that the samples name if none is configured.
const SAMPLE_ACCOUNT: &str = "acme";

/// Determines the target.
///
/// # Errors
/// Wrong usage if the URL or the secret is neither given nor configured; the error says what to give. Also wrong usage
/// if a secret that may be a production's would sign for another machine without `yes`.
pub(super) fn resolve(place: Place<'_>, url: Option<&Url>, secret: Option<&str>, yes: bool) -> anyhow::Result<Target> {
    let given = secret.map(|text| secret::given("--secret", text)).transpose()?;
    if let (Some(url), Some(secret), false) = (url, &given, place.dev) {
        may_sign_for(url, yes)?;
        return Ok(Target { url: url.clone(), secret: secret.clone(), account: SAMPLE_ACCOUNT.to_owned() });
    }
    let Loaded { settings, warnings, .. } = open::loaded(place)?;
    let dev = running_dev()?;
    let configured = if place.dev { None } else { configured(&settings) };
    let url = url.cloned().or_else(|| configured.as_ref().map(|(url, _)| url.clone()));
    let url = url.or_else(|| dev.as_ref().map(|(url, _)| url.clone()));
    let account = if settings.textus.account.is_empty() { SAMPLE_ACCOUNT } else { &settings.textus.account };
    let target = |url, secret| Target { url, secret, account: account.to_owned() };
    // If `dev` listens at the URL, its own secret is the right one, whatever is configured.
    let of_dev = |url: &Url| dev.as_ref().filter(|(of_dev, _)| place.dev || is_same_listener(of_dev, url));
    match url {
        Some(url) if given.is_none() && of_dev(&url).is_some() => {
            let (_, secret) = of_dev(&url).cloned().context("`dev` runs")?;
            Ok(target(url, secret))
        }
        Some(url) => {
            let of_source = || settings.sources.first().and_then(|source| source.secrets.first()).cloned();
            let Some(secret) = given.or_else(of_source) else { return Err(nobody_says(&warnings)) };
            may_sign_for(&url, yes)?;
            Ok(target(url, secret))
        }
        None => Err(nobody_says(&warnings)),
    }
}

/// Reports that the target is unknown, after the warnings. A source whose secret is unreadable is left out of the
/// settings, and the warnings explain that.
fn nobody_says(warnings: &[Problem]) -> anyhow::Error {
    let warnings: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
    wrong_usage(format!(
        "{warnings}nobody says where to post: the configuration has no [[sources]] with a secret at hand and a fixed \
         [ingest] listen, and no `hookline dev` runs on {}; start `hookline dev`, or give --config FILE, or --url URL \
         and --secret file:PATH",
        open::dev_dir().display()
    ))
}

/// Refuses to sign for another machine without `yes`: production would process the samples as if somebody had really
/// opted out.
fn may_sign_for(url: &Url, yes: bool) -> anyhow::Result<()> {
    if yes || is_loopback(url) {
        return Ok(());
    }
    Err(wrong_usage(format!(
        "{} is not this machine, and what is signed with its secret is worked off there like any webhook: an opt-out is \
         PUT, a note written; where that is meant, add --yes",
        url.host_str().unwrap_or("that")
    )))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

fn is_same_listener(one: &Url, other: &Url) -> bool {
    let port = |url: &Url| url.port_or_known_default();
    let is_there = one.host() == other.host() || (is_loopback(one) && is_loopback(other));
    is_there && port(one) == port(other) && one.path() == other.path()
}

/// Returns the configured target, or `None` if there is no source or ingest listens on port 0.
fn configured(settings: &Settings) -> Option<(Url, Secret)> {
    let source = settings.sources.first()?;
    let listen = reachable(settings.ingest.listen);
    if listen.port() == 0 {
        return None;
    }
    let scheme = if settings.ingest.tls.files().is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{listen}/webhooks/{}", source.name).parse().ok()?;
    Some((url, source.secrets.first()?.clone()))
}

/// Returns the webhook URL and the secret of a `dev` that runs in this directory.
fn running_dev() -> anyhow::Result<Option<(Url, Secret)>> {
    let Some(dev) = DevFile::of_running()? else { return Ok(None) };
    let secret = secret::in_file(&open::dev_dir().join(dev.secret_file))?;
    Ok(Some((dev.webhook_url.parse().context("the webhook_url that `hookline dev` told")?, secret)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    #[test]
    fn another_machine_is_signed_for_with_yes_only() {
        for here in [
            "http://127.0.0.1:8080/webhooks/textus",
            "http://127.9.0.1/",
            "https://localhost/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]/",
            "http://a.localhost/",
            "http://LOCALHOST./",
        ] {
            assert!(may_sign_for(&url(here), false).is_ok(), "{here}");
        }
        for there in [
            "https://hooks.example.com/webhooks/textus",
            "http://10.0.0.5:8080/",
            "http://0.0.0.0:8080/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://[2001:db8::1]/",
            "http://ingest:8080/",
        ] {
            let refused = may_sign_for(&url(there), false).expect_err(there);
            assert!(refused.is::<crate::open::WrongUsage>() && refused.to_string().contains("--yes"), "{there}");
            assert!(may_sign_for(&url(there), true).is_ok(), "{there}");
        }
    }

    #[test]
    fn a_listener_on_loopback_is_known_by_each_of_its_names() {
        let dev = url("http://127.0.0.1:8080/webhooks/textus");
        assert!(is_same_listener(&dev, &url("http://localhost:8080/webhooks/textus")));
        for other in [
            "http://127.0.0.1:8081/webhooks/textus",
            "http://127.0.0.1:8080/webhooks/crm",
            "http://10.0.0.5:8080/webhooks/textus",
        ] {
            assert!(!is_same_listener(&dev, &url(other)), "{other}");
        }
    }
}
