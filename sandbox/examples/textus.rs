//! The sandbox as a process of its own, for scripts that run the services by hand. SIGTERM ends it.
//!
//! ```text
//! cargo run -p hookline-sandbox --example textus -- 127.0.0.1:8090 TOKEN_FILE WEBHOOK_URL WEBHOOK_SECRET_FILE
//! ```
//!
//! The process prints its address and, when it ends, the requests that broke the API's rules, one line each. It exits
//! with 1 if there were any.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use hookline_sandbox::{Sandbox, SandboxOptions, WebhookTarget};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, token_file, url, secret_file] = arguments.as_slice() else {
        bail!("usage: textus LISTEN TOKEN_FILE WEBHOOK_URL WEBHOOK_SECRET_FILE");
    };
    let read = |file: &String| {
        std::fs::read_to_string(file).map(|text| text.trim_end().to_owned()).with_context(|| format!("reading {file}"))
    };
    let mut ended = signal(SignalKind::terminate())?;
    // The install fails only when a provider is already installed, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sandbox = Sandbox::start(SandboxOptions {
        listen: listen.parse().context("LISTEN is not an address")?,
        token: read(token_file)?,
        rate_limit: Some((1_000_000, Duration::from_secs(300))),
        webhook: Some(WebhookTarget { url: url.clone(), secret: read(secret_file)? }),
        ..SandboxOptions::default()
    })
    .await?;
    println!("{}", sandbox.base_url());

    ended.recv().await;
    let violations = sandbox.violations();
    for violation in &violations {
        println!("violation: {violation:?}");
    }
    sandbox.stop().await;
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
