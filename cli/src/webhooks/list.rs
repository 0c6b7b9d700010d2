//! `hookline webhooks list`: lists the account's integrations and what they send.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use hookline_common::secret::Secret;
use hookline_common::settings::takes_posts_to;
use hookline_worker::background::subscription;
use hookline_worker::textus::integrations::Integration;
use serde_json::{Value, json};
use url::Url;

use super::textus::Desk;
use super::{EndpointArgs, unknown};
use crate::output::{ListArgs, Listing};
use crate::table::{Table, or_dash};

#[derive(Args, Clone, Debug)]
pub(crate) struct ListCommand {
    #[command(flatten)]
    endpoint: EndpointArgs,
    #[command(flatten)]
    list: ListArgs,
}

pub(super) async fn run(config: Option<&Path>, args: &ListCommand) -> anyhow::Result<ExitCode> {
    let desk = Desk::open(config, &args.endpoint).await?;
    let listed = desk.list().await.map_err(|error| unknown(&error))?;
    let webhooks: Vec<&Integration> = listed.all.iter().filter(|one| one.is_webhook()).collect();
    let from = args.list.cursor.as_ref().and_then(|cursor| webhooks.iter().position(|one| one.id() == *cursor));
    let from = from.map_or(0, |place| place + 1);
    let limit = usize::try_from(args.list.limit).unwrap_or(usize::MAX);
    let page: Vec<&Integration> = webhooks.iter().skip(from).take(limit).copied().collect();
    let is_more = webhooks.len() > from + page.len();
    let secrets = subscription::secrets(&desk.settings);
    let mut table = Table::new(&["INTEGRATION", "OURS", "ACTIVE", "HEALTHY", "SECRET", "URL", "SENDS"]);
    let mut rows = Vec::new();
    for one in &page {
        let is_ours = is_ours(&desk, one);
        let (url, secret) = (shown(one.url().as_ref(), is_ours), secret(one, is_ours, &secrets));
        let sends: Vec<String> = one.event_types().into_iter().collect();
        table.row([
            one.id(),
            yes(is_ours),
            yes(one.is_active()),
            or_dash(one.is_healthy().map(yes)),
            secret.to_owned(),
            url.clone(),
            sends.join(", "),
        ]);
        rows.push(json!({
            "integration": one.id(), "ours": is_ours, "url": url, "active": one.is_active(),
            "healthy": one.is_healthy(), "secret": secret, "event_types": sends,
        }));
    }
    let next = page.last().filter(|_| is_more).map(|last| last.id());
    desk.close().await;
    Listing {
        key: "webhooks",
        rows,
        table,
        next,
        when_empty: "No webhooks. `hookline webhooks register` makes one.".to_owned(),
    }
    .print(args.list.json)?;
    Ok(ExitCode::SUCCESS)
}

fn is_ours(desk: &Desk, one: &Integration) -> bool {
    match &desk.url {
        Some(url) => one.posts_to(url),
        None => one.url().is_some_and(|url| desk.settings.source_names().any(|name| takes_posts_to(name, &url))),
    }
}

/// Formats an integration's URL. For other products' URLs the path is left out, because such paths are often secrets.
pub(super) fn shown(url: Option<&Url>, is_ours: bool) -> String {
    match url {
        Some(url) if is_ours => {
            let mut url = url.clone();
            url.set_query(None);
            url.set_fragment(None);
            // Neither call fails for a URL that has a host.
            let _ = (url.set_username(""), url.set_password(None));
            url.to_string()
        }
        Some(url) => format!("{}/…", url.origin().ascii_serialization()),
        None => String::new(),
    }
}

fn secret(one: &Integration, is_ours: bool, secrets: &[Secret]) -> &'static str {
    match one.secret() {
        None => "not told",
        Some(_) if !is_ours => "another's",
        Some(_) if secrets.is_empty() => "not compared",
        Some(secret) if secrets.contains(&secret) => "configured",
        Some(_) => "not configured",
    }
}

fn yes(is_so: bool) -> String {
    Value::Bool(is_so).to_string()
}
