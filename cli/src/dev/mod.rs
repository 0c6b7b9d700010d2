//! `hookline dev`: runs Hookline on a fresh machine with nothing installed. It uses the embedded broker and SQLite in
//! its own directory and a sandbox in place of the TextUs API, and prints each event's progress.

mod demo;
mod progress;
mod record_system;
mod teaching;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use hookline_common::event::SourceName;
use hookline_common::secret::Secret;
use hookline_common::service::shutdown;
use hookline_common::service::telemetry::progress::Milestone;
use hookline_common::settings::{Settings, SourceKind, SourceSettings};
use hookline_sandbox::{Sandbox, SandboxOptions, WebhookTarget};
use hookline_store::StoreKind;
use hookline_worker::open::DEV_SECRET;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use self::progress::Progress;
pub(crate) use self::record_system::RecordSystem;
use self::record_system::StandIn;
use self::teaching::Teaching;
use crate::DevArgs;
use crate::all_in_one::AllInOne;
use crate::dev_file::{DevFile, TextUsStandIn, write_private};
use crate::healthcheck::reachable;
use crate::open::{self, Place};
use crate::output;

pub(crate) async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    // Progress goes to stdout, so the log only reports trouble.
    let loaded = open::loaded(Place { config: args.config.as_deref(), dev: true })?;
    output::print_problems(&loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>());
    let mut settings = loaded.settings;
    let shutdown = shutdown::on_signal()?;
    let sandbox = Arc::new(stand_in(&mut settings).await?);
    let records = Arc::new(StandIn::start(args.system_of_record, &mut settings).await?);
    let secret_file = webhook_secret(&mut settings)?;
    sandboxes_store(&settings).await?;

    let all_in_one = AllInOne::open(&settings, |broker| Arc::new(Teaching { broker, sandbox: Arc::clone(&sandbox) }))
        .await
        .map_err(beside_another)?;
    let source = settings.sources.first().context("a source was configured above")?;
    let secret = source.secrets.first().context("a source has a secret")?.expose().to_owned();
    let webhook_url = format!("http://{}/webhooks/{}", all_in_one.webhook_addr(), source.name);
    sandbox.set_webhook(WebhookTarget { url: webhook_url.clone(), secret: secret.clone() });
    let dev_file = DevFile {
        webhook_url: webhook_url.clone(),
        admin_url: format!("http://{}", reachable(all_in_one.admin_addr())),
        secret_file: std::path::absolute(&secret_file)?,
        textus: settings
            .textus
            .token
            .as_ref()
            .map(|token| TextUsStandIn { base_url: sandbox.base_url(), token: token.expose().to_owned() }),
        system_of_record: records.address(),
    };
    let dev_file = dev_file.write(&settings.data_dir)?;
    greet(&settings, &all_in_one, &webhook_url, &secret_file, (&sandbox, &records))?;
    let (shown, stop_showing) = (Arc::clone(&records), shutdown.clone());
    let showing = tokio::spawn(async move { shown.show_notes(&stop_showing).await });

    let feed = all_in_one.progress.listen();
    let progress = Progress::new(settings.handlers.enabled());
    let stop = shutdown.clone();
    let telling = if args.demo {
        let demo = demo::Demo { url: webhook_url, secret, account: settings.textus.account.clone() };
        tokio::spawn(async move {
            let passed = demo.run(feed, progress, &stop).await;
            stop.cancel();
            passed
        })
    } else {
        suggest(args.system_of_record)?;
        tokio::spawn(async move { report(feed, progress, &stop).await.map(|()| true) })
    };
    let served = all_in_one.run(shutdown).await;
    drop(dev_file);
    sandbox.stop().await;
    showing.await.context("showing the notes ended on its own")??;
    records.stop().await;
    let passed = telling.await.context("reporting the progress ended on its own")??;
    served?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Explains how to start `dev` beside another process. `dev` listens on the addresses configured for `run`; if those
/// are in use, only other ports help.
fn beside_another(error: anyhow::Error) -> anyhow::Error {
    let is_taken = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::AddrInUse;
    if !error.chain().filter_map(|cause| cause.downcast_ref()).any(is_taken) {
        return error;
    }
    error.context(
        "another process has a port of this configuration, `hookline run` perhaps; to start `dev` beside it: \
         HOOKLINE__INGEST__LISTEN=127.0.0.1:0 HOOKLINE__ADMIN__LISTEN=127.0.0.1:0 hookline dev",
    )
}

/// Marks the store as the sandbox's before anything is written there.
async fn sandboxes_store(settings: &Settings) -> anyhow::Result<()> {
    let store = hookline_worker::open::store(settings).await?;
    let kind = store.fix_kind(StoreKind::Sandbox).await?;
    store.close().await;
    if kind == StoreKind::Real {
        bail!(
            "the store in {} holds answers of the real API: `dev`, which plays with the sandbox, doesn't touch it; move the \
             directory away, and give `hookline run` another data_dir",
            settings.data_dir.display()
        );
    }
    Ok(())
}

/// Starts the sandbox and points the settings at it. New contacts go to a second account, so that a newcomer sees the
/// POST; in the account that raised the event the contact already exists.
async fn stand_in(settings: &mut Settings) -> anyhow::Result<Sandbox> {
    let account = settings.textus.account.clone();
    let targets = &mut settings.handlers.create_contact.accounts;
    if targets.iter().all(|target| *target == account) {
        *targets = vec![account.clone(), format!("{account}_second")];
    }
    let mut accounts = vec![account];
    for target in targets.iter().chain(&settings.handlers.record_opt_out.accounts) {
        if !accounts.contains(target) {
            accounts.push(target.clone());
        }
    }
    let token = format!("sandbox-{}", hex::encode(rand::random::<[u8; 12]>()));
    let options =
        SandboxOptions { listen: settings.sandbox.listen, token: token.clone(), accounts, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.context("[sandbox] listen: starting the sandbox")?;
    settings.textus.base_url = sandbox.base_url().parse().context("the sandbox's address")?;
    settings.textus.token = Some(Secret::new(token));
    // The sandbox posts to this process, wherever the configuration lets TextUs post.
    settings.textus.primary_account = None;
    settings.textus.webhook_url = None;
    Ok(sandbox)
}

/// Configures the source of the webhooks, with a secret of its own that stays the same from run to run.
fn webhook_secret(settings: &mut Settings) -> anyhow::Result<PathBuf> {
    open::data_dir(settings)?;
    let path = settings.data_dir.join(DEV_SECRET);
    let secret = match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => {
            let made = format!("textus-{}", hex::encode(rand::random::<[u8; 24]>()));
            write_private(&path, &made)?;
            made
        }
    };
    let name = SourceName::new("textus").context("a source name")?;
    settings.sources = vec![SourceSettings { name, kind: SourceKind::TextUs, secrets: vec![Secret::new(secret)] }];
    Ok(path)
}

fn greet(
    settings: &Settings,
    all_in_one: &AllInOne,
    webhook_url: &str,
    secret_file: &Path,
    (sandbox, records): (&Sandbox, &StandIn),
) -> anyhow::Result<()> {
    let admin = all_in_one.admin_addr();
    output::print_line(&format!(
        "Hookline is up, with a sandbox standing in for the TextUs API.\n\
         \n\
         \x20 webhooks   {webhook_url}\n\
         \x20 secret     in {}\n\
         \x20 TextUs     {} (sandbox; accounts {})\n\
         {}\
         \x20 health     http://{admin}/readyz\n\
         \x20 metrics    http://{admin}/metrics\n\
         \x20 data       {}\n",
        secret_file.display(),
        sandbox.base_url(),
        settings.handlers.create_contact.accounts.join(", "),
        records.line(),
        settings.data_dir.display(),
    ))
}

fn suggest(records: RecordSystem) -> anyhow::Result<()> {
    // Uses the path of the running program, so that the commands work whether or not it is on the PATH.
    let this = std::env::current_exe().map_or_else(|_| "hookline".to_owned(), |path| path.display().to_string());
    let (list, holds) = match records {
        RecordSystem::Builtin => ("notes  ", "what the built-in system of record holds"),
        RecordSystem::Hubspot | RecordSystem::Salesforce | RecordSystem::Http => {
            ("threads", "what was written to the system of record")
        }
    };
    output::print_line(&format!(
        "Now, in another terminal in this directory:\n\
         \n\
         \x20 {this} trigger message.received --dev     a text comes in: a note is attached\n\
         \x20 {this} trigger contact.opted_out --dev    someone opts out: the opt-out is PUT, and proved\n\
         \x20 {this} trigger contact.created --dev      a contact is created: it is POSTed to the second account\n\
         \x20 {this} records {list} --dev              {holds}\n\
         \x20 {this} status --dev                       what became of everything\n\
         \n\
         All of it is in {}, which `hookline run` never uses. Each event's journey appears here. Ctrl-C stops.\n",
        open::dev_dir().display()
    ))
}

/// Prints the progress of events until `stop`.
async fn report(
    mut feed: broadcast::Receiver<Milestone>,
    mut progress: Progress,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    while let Some(milestone) = next(&mut feed, stop).await {
        for line in progress.take(milestone) {
            output::print_line(&line)?;
        }
    }
    Ok(())
}

/// Returns the next milestone, or `None` on `stop` and at the end of the feed.
async fn next(feed: &mut broadcast::Receiver<Milestone>, stop: &CancellationToken) -> Option<Milestone> {
    loop {
        let milestone = tokio::select! {
            () = stop.cancelled() => return None,
            milestone = feed.recv() => milestone,
        };
        match milestone {
            Ok(milestone) => return Some(milestone),
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(missed)) => {
                output::hint(&format!("({missed} steps are not shown: they came faster than they can be printed)"));
            }
        }
    }
}
