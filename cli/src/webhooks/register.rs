//! `hookline webhooks register`: makes TextUs send what the enabled handlers need. The command reads before it writes:
//! an integration that already posts here is completed and keeps its secret, and a new one is created only if there is
//! none.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use hookline_common::secret::Secret;
use hookline_worker::background::subscription::{self, About, Finding, Subscription};
use hookline_worker::textus::integrations::{Change, Integration};
use serde_json::json;
use url::Url;

use super::secret_file::SecretFile;
use super::textus::Desk;
use super::{EndpointArgs, finding_document, list, unknown};
use crate::open::{self, wrong_usage};
use crate::output;

/// Name of the secret's file below `data_dir`.
const SECRET_FILE: &str = "textus-webhook-secret";

#[derive(Args, Clone, Debug)]
pub(crate) struct RegisterArgs {
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Write a secret that is not configured yet to this file, which is never overwritten [default:
    /// textus-webhook-secret in data_dir]
    #[arg(long, value_name = "PATH")]
    secret_file: Option<PathBuf>,
    /// Print one JSON document instead of sentences, without the secret
    #[arg(long)]
    json: bool,
}

/// The result of the registration.
struct Registered {
    integration: Integration,
    is_new: bool,
    is_changed: bool,
    secret_file: Option<PathBuf>,
}

pub(super) async fn run(config: Option<&Path>, args: &RegisterArgs) -> anyhow::Result<ExitCode> {
    let desk = Desk::open(config, &args.endpoint).await?;
    let Some(url) = desk.url.clone() else {
        return Err(wrong_usage(
            "nobody says where TextUs reaches this endpoint: give --url https://YOUR-HOST/webhooks/textus, or set [textus] \
             webhook_url",
        ));
    };
    let secret_file = match &args.secret_file {
        Some(path) => path.clone(),
        None => desk.settings.data_dir.join(SECRET_FILE),
    };
    let registering =
        Registering { desk: &desk, url: &url, secret_file: &secret_file, is_given: args.secret_file.is_some() };
    let registered = registering.run().await?;
    // The result reports what TextUs lists now, not what we requested.
    let listed = desk.list().await.map_err(|error| unknown(&error))?;
    let found = desk.judge(&listed).map_err(|error| unknown(&error))?;
    print(&desk, &registered, &found, args.json)?;
    desk.close().await;
    Ok(if found.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Registering<'a> {
    desk: &'a Desk,
    url: &'a Url,
    secret_file: &'a Path,
    is_given: bool,
}

impl Registering<'_> {
    async fn run(&self) -> anyhow::Result<Registered> {
        let found = self.look().await?;
        match self.best(&found) {
            Some(known) => self.complete(known, &found).await,
            None => self.create().await,
        }
    }

    async fn look(&self) -> anyhow::Result<Subscription> {
        let listed = self.desk.list().await.map_err(|error| unknown(&error))?;
        self.desk.judge(&listed).map_err(|error| unknown(&error))
    }

    /// Chooses among several integrations that post here: preferably one whose secret is configured, then one that is
    /// active.
    fn best<'f>(&self, found: &'f Subscription) -> Option<&'f Integration> {
        let rank =
            |one: &&Integration| (one.secret().is_some_and(|secret| self.is_configured(&secret)), one.is_active());
        found.ours.iter().rev().max_by_key(rank)
    }

    fn is_configured(&self, secret: &Secret) -> bool {
        subscription::secrets(&self.desk.settings).contains(secret)
    }

    /// Prepares the file for a secret that is not configured yet.
    fn place(&self, known: Option<&Secret>) -> anyhow::Result<SecretFile> {
        if !self.is_given {
            open::data_dir(&self.desk.settings)?;
        }
        SecretFile::prepare(self.secret_file, known)
    }

    /// Switches on what an existing integration lacks; its secret stays.
    async fn complete(&self, known: &Integration, found: &Subscription) -> anyhow::Result<Registered> {
        let secret = known.secret().filter(|secret| !self.is_configured(secret));
        // The place is checked before anything is changed.
        let place = secret.as_ref().map(|secret| self.place(Some(secret))).transpose()?;
        let sends = known.event_types();
        let wanted = subscription::wanted(&self.desk.settings);
        // Another integration may send some of the types. Both stay on, and no type is sent more often than before.
        let missing: Vec<&str> = wanted
            .into_iter()
            .filter(|event_type| found.unsent.contains(event_type) && !sends.contains(*event_type))
            .collect();
        let is_fine = known.is_active() && missing.is_empty() && known.is_healthy() != Some(false);
        let after = if is_fine { known.clone() } else { self.subscribe(known, &missing).await? };
        if let (Some(before), Some(now)) = (known.secret(), after.secret())
            && before != now
        {
            let kept = self.place(Some(&now))?.keep(&now)?;
            bail!(
                "TextUs gave {} another secret, which is in {} now; put \"file:{}\" under [[sources]] secrets at once",
                after.id(),
                kept.display(),
                kept.display()
            );
        }
        let lost: Vec<String> = sends.difference(&after.event_types()).cloned().collect();
        if !lost.is_empty() {
            bail!("TextUs switched off {} in {}; look at `hookline webhooks list`", lost.join(", "), after.id());
        }
        let secret_file = place.zip(secret).map(|(place, secret)| place.keep(&secret)).transpose()?;
        Ok(Registered { integration: after, is_new: false, is_changed: !is_fine, secret_file })
    }

    async fn subscribe(&self, known: &Integration, missing: &[&str]) -> anyhow::Result<Integration> {
        let desk = self.desk;
        let answered = desk.textus.update_integration(&desk.log, known, &Change::Subscribe(missing)).await;
        match answered {
            Ok(Some(after)) => return Ok(after),
            Err(error) if !error.may_have_taken_effect() => bail!("{} is not changed: {error}", known.id()),
            Ok(None) | Err(_) => {}
        }
        let listed = desk.list().await.map_err(|error| unknown(&error))?;
        listed.all.into_iter().find(|listed| listed.id() == known.id()).with_context(|| {
            format!("whether {} was changed is not known: TextUs does not list it; run this command again", known.id())
        })
    }

    async fn create(&self) -> anyhow::Result<Registered> {
        let desk = self.desk;
        let place = self.place(None)?;
        let wanted = subscription::wanted(&desk.settings);
        let made = match desk.textus.create_integration(&desk.log, &desk.account, self.url, &wanted).await {
            Ok(made) => Some(made),
            Err(error) if !error.may_have_taken_effect() => bail!("no integration was made: {error}"),
            Err(error) => {
                output::hint(&format!("note: {error}; looking whether the integration was made"));
                None
            }
        };
        // The answer was lost or contains no secret; the list may contain it. We never create a second integration.
        let made = match made {
            Some(made) if made.secret().is_some() => made,
            other => {
                let found = self.look().await.context(AGAIN)?;
                found.ours.into_iter().next().or(other).context(AGAIN)?
            }
        };
        let secret_file = match made.secret() {
            Some(secret) => Some(place.keep(&secret)?),
            None => None,
        };
        Ok(Registered { integration: made, is_new: true, is_changed: true, secret_file })
    }
}

const AGAIN: &str = "whether the integration was made is not known; run this command again in a minute: it looks before it \
                     makes one";

fn print(desk: &Desk, done: &Registered, found: &Subscription, as_json: bool) -> anyhow::Result<()> {
    let id = done.integration.id();
    let shown = found.ours.iter().find(|one| one.id() == id).unwrap_or(&done.integration);
    let sends: Vec<String> = shown.event_types().into_iter().collect();
    let url = list::shown(shown.url().as_ref(), true);
    // A new secret's file is printed anyway, so the finding that the secret is not configured is left out.
    let is_news = |finding: &&Finding| done.secret_file.is_none() || finding.about != About::Secret;
    let findings = found.findings.iter().filter(is_news);
    if as_json {
        return output::print_json(&json!({
            "integration": id,
            "url": url,
            "created": done.is_new,
            "changed": done.is_changed,
            "event_types": sends,
            "missing": found.missing,
            "secret_file": done.secret_file.as_ref().map(|path| path.display().to_string()),
            "findings": findings.map(finding_document).collect::<Vec<_>>(),
        }));
    }
    let what = match (done.is_new, done.is_changed) {
        (true, _) => "is made",
        (false, true) => "is completed, and keeps its secret",
        (false, false) => "is complete already: nothing was changed",
    };
    output::print_line(&format!("{id} {what}. TextUs sends to {url}: {}.", sends.join(", ")))?;
    match &done.secret_file {
        Some(path) => output::print_line(&format!(
            "Its secret is in {0}, which only this user can read. In the configuration, add it to the secrets of the \
             [[sources]] that is named \"{1}\" (a comma between two):\n\n\x20 secrets = [\"file:{0}\"]\n\n\
             then restart Hookline, or send it SIGHUP.",
            path.display(),
            desk.settings.source_names().next().map_or("textus", |name| name.as_str()),
        ))?,
        None if done.integration.secret().is_none() => output::print_line(
            "TextUs does not tell its secret: find `config.webhookSecret` in TextUs under Settings > Account Settings > \
             Integrations > Webhooks, and name it under [[sources]] secrets.",
        )?,
        None => {}
    }
    for finding in findings {
        output::print_line(&format!("note: {}; {}", finding.what, finding.remedy))?;
    }
    Ok(())
}
