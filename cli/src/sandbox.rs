//! `hookline sandbox`: the stand-in for the TextUs API as a process of its own, for demonstrations and tests. It answers the
//! API's calls, posts the webhooks that TextUs would post about them, and, with `--every`, sends webhooks of its own.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hookline_common::service::shutdown;
use hookline_sandbox::samples::{SampleFacts, client, post_with, sample};
use hookline_sandbox::{Sandbox, SandboxOptions, WebhookTarget};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::open::wrong_usage;
use crate::{output, secret};

/// The types that are sent in turn: each of Hookline's jobs has one.
const TYPES: [&str; 4] = ["message.received", "message.delivered", "contact.created", "contact.opted_out"];

#[derive(Args, Clone, Debug)]
pub(crate) struct SandboxArgs {
    /// Listen on this address. The API of TextUs has no TLS here, so Hookline takes only an address on loopback
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8099")]
    listen: SocketAddr,
    /// Name of an account of the sandbox; may be given several times. New contacts go to the first
    #[arg(long, value_name = "NAME", default_value = "acme")]
    account: Vec<String>,
    /// Accept this token: text, env:NAME or file:PATH [default: one is made, and printed]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Post webhooks to this URL
    #[arg(long, value_name = "URL", requires = "webhook_secret")]
    webhook_url: Option<Url>,
    /// Sign webhooks with this secret: text, env:NAME or file:PATH
    #[arg(long, value_name = "SECRET", requires = "webhook_url")]
    webhook_secret: Option<String>,
    /// Send a sample webhook at this interval, of each type in turn: 500ms, 2s, 1m
    #[arg(long, value_name = "TIME", requires = "webhook_url", value_parser = every)]
    every: Option<Duration>,
}

fn every(text: &str) -> Result<Duration, String> {
    hookline_common::settings::parse_duration(text)
        .filter(|every| !every.is_zero())
        .ok_or_else(|| "write a time above zero with its unit, such as 500ms, 2s or 1m".to_owned())
}

pub(crate) async fn run(args: SandboxArgs) -> anyhow::Result<ExitCode> {
    let token = match &args.token {
        Some(text) => secret::given("--token", text)?.expose().to_owned(),
        None => format!("sandbox-{}", hex::encode(rand::random::<[u8; 12]>())),
    };
    let webhook = match (&args.webhook_url, &args.webhook_secret) {
        (Some(url), Some(text)) => {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(wrong_usage(format!("--webhook-url {url} is neither http:// nor https://")));
            }
            let secret = secret::given("--webhook-secret", text)?.expose().to_owned();
            Some(WebhookTarget { url: url.to_string(), secret })
        }
        _ => None,
    };
    let shutdown = shutdown::on_signal()?;
    let options = SandboxOptions {
        listen: args.listen,
        token: token.clone(),
        accounts: args.account.clone(),
        webhook: webhook.clone(),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options)
        .await
        .with_context(|| format!("--listen {}: cannot listen there; choose another address or port", args.listen))?;
    greet(&args, &sandbox, &token)?;
    let sent = match (webhook, args.every) {
        (Some(target), Some(every)) => send(&sandbox, &args.account, &target, every, &shutdown).await?,
        _ => {
            shutdown.cancelled().await;
            Sent::default()
        }
    };
    finish(&sandbox, &sent).await
}

fn greet(args: &SandboxArgs, sandbox: &Sandbox, token: &str) -> anyhow::Result<()> {
    let shown = if args.token.is_some() { "as given" } else { token };
    output::print_line(&format!(
        "The sandbox stands in for the TextUs API.\n\
         \n\
         \x20 base_url   {}\n\
         \x20 accounts   {}\n\
         \x20 token      {shown}\n\
         \x20 webhooks   {}\n",
        sandbox.base_url(),
        args.account.join(", "),
        args.webhook_url.as_ref().map_or("none", Url::as_str),
    ))
}

/// What became of the sample webhooks.
#[derive(Debug, Default)]
struct Sent {
    accepted: u64,
    refused: u64,
    unanswered: u64,
}

/// Sends sample webhooks until `shutdown`, each learnt first, so that Hookline finds its message and its contact here.
async fn send(
    sandbox: &Sandbox,
    accounts: &[String],
    target: &WebhookTarget,
    every: Duration,
    shutdown: &CancellationToken,
) -> anyhow::Result<Sent> {
    let client = client()?;
    let account = accounts.first().map_or("acme", String::as_str);
    let mut sent = Sent::default();
    let mut ticker = tokio::time::interval(every);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for event_type in TYPES.iter().cycle() {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = ticker.tick() => {}
        }
        let body = sample(event_type, &SampleFacts::random(account));
        sandbox.learn(&body)?;
        let bytes = body.to_string().into_bytes();
        let answer = tokio::select! {
            () = shutdown.cancelled() => break,
            answer = post_with(&client, &target.url, &target.secret, &bytes) => answer,
        };
        match answer {
            Ok(answer) if answer.is_success() => sent.accepted += 1,
            Ok(answer) => {
                sent.refused += 1;
                output::hint(&format!("{event_type}: answered {}", answer.status));
            }
            Err(_) => {
                sent.unanswered += 1;
                output::hint(&format!("{event_type}: nothing answered at {}", target.url));
            }
        }
    }
    Ok(sent)
}

/// Says what the sandbox saw; exit 1 if a call broke the API's rules.
async fn finish(sandbox: &Sandbox, sent: &Sent) -> anyhow::Result<ExitCode> {
    let violations = sandbox.violations();
    for violation in &violations {
        output::hint(&format!("a call broke the API's rules: {violation:?}"));
    }
    output::print_line(&format!(
        "{} webhooks accepted, {} refused, {} not answered; {} calls, {} effects",
        sent.accepted,
        sent.refused,
        sent.unanswered,
        sandbox.requests().len(),
        sandbox.effects().len()
    ))?;
    sandbox.stop().await;
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
