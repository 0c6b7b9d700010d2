//! `hookline webhooks verify`: checks that TextUs sends here what the enabled handlers need.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use hookline_common::names::SubscriptionState;
use hookline_worker::background::subscription::{self, NotKnown, Subscription};
use serde_json::{Value, json};

use super::textus::Desk;
use super::{EndpointArgs, finding_document, list};
use crate::output;

#[derive(Args, Clone, Debug)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    endpoint: EndpointArgs,
    /// Print one JSON document instead of sentences
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Option<&Path>, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let desk = Desk::open(config, &args.endpoint).await?;
    let judged = desk.list().await.and_then(|listed| desk.judge(&listed));
    let is_complete = judged.as_ref().is_ok_and(|found| found.state() == SubscriptionState::Complete);
    if args.json {
        output::print_json(&document(&desk, &judged))?;
    } else {
        output::print(&lines(&desk, &judged))?;
    }
    desk.close().await;
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn document(desk: &Desk, judged: &Result<Subscription, NotKnown>) -> Value {
    match judged {
        Ok(found) => json!({
            "ok": found.state() == SubscriptionState::Complete,
            "state": found.state(),
            "needed": subscription::needed(&desk.settings),
            "missing": found.missing,
            "integrations": found.ours.iter().map(|one| json!({
                "integration": one.id(), "url": list::shown(one.url().as_ref(), true), "active": one.is_active(),
                "healthy": one.is_healthy(), "event_types": one.event_types(),
            })).collect::<Vec<_>>(),
            "findings": found.findings.iter().map(finding_document).collect::<Vec<_>>(),
        }),
        Err(error) => json!({
            "ok": false,
            "state": SubscriptionState::NotKnown,
            "needed": subscription::needed(&desk.settings),
            "missing": [],
            "integrations": [],
            "findings": [{ "what": error.to_string(), "remedy": error.remedy(), "is_failure": true }],
        }),
    }
}

fn lines(desk: &Desk, judged: &Result<Subscription, NotKnown>) -> String {
    let found = match judged {
        Ok(found) => found,
        Err(error) => return format!("not known  {error}; {}\n", error.remedy()),
    };
    let mut lines = String::new();
    for one in &found.ours {
        let sends = one.event_types().into_iter().collect::<Vec<_>>().join(", ");
        let state = if one.is_active() { "active" } else { "not active" };
        let url = list::shown(one.url().as_ref(), true);
        lines.push_str(&format!("{} ({state}) posts to {url}: {sends}\n", one.id()));
    }
    for finding in &found.findings {
        let mark = if finding.is_failure { "failed" } else { "note" };
        lines.push_str(&format!("{mark:6}  {}; {}\n", finding.what, finding.remedy));
    }
    if found.state() == SubscriptionState::Complete {
        let needed = subscription::needed(&desk.settings);
        lines.push_str(&format!("ok      TextUs sends what the enabled handlers need: {}\n", needed.join(", ")));
    }
    if subscription::secrets(&desk.settings).is_empty() {
        lines.push_str("note    the [[sources]] secrets are not at hand here, so none was compared\n");
    }
    lines
}
