//! `hookline webhooks disable`: switches off the integrations that post here. The API offers no call that deletes an
//! integration.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use hookline_worker::textus::integrations::{Change, Integration};

use super::textus::Desk;
use super::{EndpointArgs, list, unknown};
use crate::open::wrong_usage;
use crate::output;

#[derive(Args, Clone, Debug)]
pub(crate) struct DisableArgs {
    /// Disable only these of the integrations that post here: /integrations/…
    #[arg(value_name = "INTEGRATION")]
    integrations: Vec<String>,
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(config: Option<&Path>, args: &DisableArgs) -> anyhow::Result<ExitCode> {
    if !args.yes && !io::stdin().is_terminal() {
        return Err(wrong_usage(
            "nobody can be asked here: give --yes to have TextUs send nothing to this endpoint any more",
        ));
    }
    let desk = Desk::open(config, &args.endpoint).await?;
    let listed = desk.list().await.map_err(|error| unknown(&error))?;
    let ours = desk.judge(&listed).map_err(|error| unknown(&error))?.ours;
    let chosen = chosen(&ours, &args.integrations)?;
    for one in chosen {
        let url = list::shown(one.url().as_ref(), true);
        if !one.is_active() {
            output::print_line(&format!("{} is not active already; it would post to {url}.", one.id()))?;
            continue;
        }
        if !args.yes && !agreed(&format!("Switch {} off, so that TextUs sends nothing to {url}?", one.id()))? {
            bail!("{} stays as it is", one.id());
        }
        switch_off(&desk, one).await?;
        output::print_line(&format!(
            "{} is switched off: TextUs sends nothing to {url}. `hookline webhooks register` switches it on again.",
            one.id()
        ))?;
    }
    desk.close().await;
    Ok(ExitCode::SUCCESS)
}

fn chosen<'a>(ours: &'a [Integration], named: &[String]) -> anyhow::Result<Vec<&'a Integration>> {
    let is_it = |one: &Integration, name: &str| one.id() == name || one.id().rsplit('/').next() == Some(name);
    if let Some(stranger) = named.iter().find(|name| !ours.iter().any(|one| is_it(one, name))) {
        bail!(
            "{stranger} is not one of the integrations that post to this endpoint; `hookline webhooks list` shows them all"
        );
    }
    if ours.is_empty() {
        bail!("no integration posts to this endpoint; `hookline webhooks list` shows them all");
    }
    Ok(ours.iter().filter(|one| named.is_empty() || named.iter().any(|name| is_it(one, name))).collect())
}

async fn switch_off(desk: &Desk, one: &Integration) -> anyhow::Result<()> {
    let answered = desk.textus.update_integration(&desk.log, one, &Change::SwitchOff).await;
    let after = match answered {
        Ok(Some(after)) => Some(after),
        Err(error) if !error.may_have_taken_effect() => bail!("{} is not switched off: {error}", one.id()),
        // The call may have taken effect without an answer.
        Ok(None) | Err(_) => {
            let listed = desk.list().await.map_err(|error| unknown(&error))?;
            listed.all.into_iter().find(|listed| listed.id() == one.id())
        }
    };
    if after.is_none_or(|after| after.is_active()) {
        bail!(
            "{} is still active after it was switched off; look at `hookline webhooks list`, and try again",
            one.id()
        );
    }
    Ok(())
}

fn agreed(question: &str) -> anyhow::Result<bool> {
    output::hint(&format!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
