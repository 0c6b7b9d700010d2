//! `hookline healthcheck`: queries `/readyz`, for container images without a shell and curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use hookline_common::service::admin::INGEST_LISTEN;
use url::Url;

use crate::dev_file::DevFile;
use crate::open::{self, Place, wrong_usage};
use crate::output;

/// Maximum wait for an answer. Orchestrators give a probe a few seconds, so a later answer would be useless.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum bytes of the answer that are shown. Reasons are short; if something else answers, it need not be read to its
/// end.
const MAX_SHOWN_BYTES: usize = 2048;

#[derive(Args, Clone, Debug)]
pub(crate) struct HealthcheckArgs {
    /// URL to ask [default: /readyz of this configuration's admin listener; with --dev, of the `dev` that runs]
    url: Option<Url>,
}

pub(crate) async fn run(place: Place<'_>, args: &HealthcheckArgs) -> anyhow::Result<ExitCode> {
    let url = match &args.url {
        Some(url) => with_path(url.clone()),
        None if place.dev => match DevFile::of_running()? {
            Some(dev) => with_path(dev.admin_url.parse().context("the admin_url that `hookline dev` told")?),
            None => {
                output::print_line(&format!("not ready: no `hookline dev` runs on {}", open::dev_dir().display()))?;
                return Ok(ExitCode::FAILURE);
            }
        },
        None => configured(place)?,
    };
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("cannot set up an HTTP client")?;
    let answer = match client.get(url.clone()).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let why = if error.is_timeout() { "no answer within 3 s" } else { "nothing answers" };
            output::print_line(&format!("not ready: {why} at {url}"))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    let shown: String = body.trim().chars().take(MAX_SHOWN_BYTES).map(printable).collect();
    let ready = status == reqwest::StatusCode::OK;
    let word = if ready { "ready" } else { "not ready" };
    output::print_line(&format!("{word}: {status} {shown}"))?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the `/readyz` URL of the configured admin listener.
fn configured(place: Place<'_>) -> anyhow::Result<Url> {
    let listen = open::settings(place)?.admin.listen.unwrap_or(INGEST_LISTEN);
    if listen.port() == 0 {
        return Err(wrong_usage(
            "[admin] listen has port 0, any free port: give the URL that the service printed, \
             `hookline healthcheck http://127.0.0.1:PORT`",
        ));
    }
    Ok(format!("http://{}/readyz", reachable(listen)).parse()?)
}

fn printable(c: char) -> char {
    if c.is_control() && c != '\n' { '\u{fffd}' } else { c }
}

/// Adds `/readyz` to a URL without a path.
fn with_path(mut url: Url) -> Url {
    if url.path() == "/" {
        url.set_path("/readyz");
    }
    url
}

/// Returns an address at which the listener is reachable from this machine, because the unspecified address cannot be
/// called.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), listen.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => listen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        for (listen, expected) in
            [("0.0.0.0:9464", "127.0.0.1:9464"), ("[::]:9464", "[::1]:9464"), ("10.0.0.7:9465", "10.0.0.7:9465")]
        {
            let listen: SocketAddr = listen.parse().expect(listen);
            assert_eq!(reachable(listen).to_string(), expected);
        }
    }

    #[test]
    fn an_origin_means_its_readiness() {
        let url = |text: &str| with_path(text.parse().expect(text)).to_string();
        assert_eq!(url("http://127.0.0.1:9464"), "http://127.0.0.1:9464/readyz");
        assert_eq!(url("http://127.0.0.1:9464/livez"), "http://127.0.0.1:9464/livez");
    }
}
