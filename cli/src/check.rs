//! `hookline check`: reports every problem of the configuration at once; with `--connect` it also tries what the
//! configuration names.

mod connect;
mod hubspot;
mod salesforce;

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use hookline_common::service::telemetry::logging;
use hookline_common::settings::{Loaded, Needs, OnBrokerOutage, Settings, SystemOfRecordKind, load};
use hookline_worker::records;
use serde_json::{Value, json};

use self::connect::Finding;
use crate::output;
use crate::table::Table;

/// The documented exit code for a wrong configuration.
const WRONG_CONFIGURATION: u8 = 2;

#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArgs {
    /// Also try the data directory, broker, topology, store, TextUs token, webhook subscription and system of record
    #[arg(long)]
    connect: bool,
    /// Make the properties that HubSpot lacks; the token needs the scope crm.schemas.contacts.write for that
    #[arg(long, requires = "connect")]
    create_properties: bool,
    /// Print one JSON document, with the resolved settings and masked secrets
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(config: Option<&Path>, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    // Checks what `hookline run` needs, so that a configuration that passes here starts there.
    let loaded = match load(config, Needs::RUN) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            if args.json {
                output::print_json(&json!({ "ok": false, "problems": lines, "warnings": [], "checks": [] }))?;
            } else {
                output::print_problems(&lines);
            }
            return Ok(ExitCode::from(WRONG_CONFIGURATION));
        }
    };
    logging::init(loaded.settings.log.format, "error");
    let findings =
        if args.connect { connect::try_all(&loaded.settings, args.create_properties).await } else { Vec::new() };
    let ok = findings.iter().all(|finding| !finding.is_failure());
    if args.json {
        output::print_json(&document(&loaded, &findings, ok))?;
    } else {
        print(&loaded, &findings, args.connect)?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn document(loaded: &Loaded, findings: &[Finding], ok: bool) -> Value {
    let settings: serde_json::Map<String, Value> =
        loaded.settings.describe().into_iter().map(|(key, value)| (key, value.into())).collect();
    json!({
        "ok": ok,
        "problems": [],
        "warnings": loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "checks": findings.iter().map(Finding::document).collect::<Vec<_>>(),
        "settings": settings,
    })
}

fn print(loaded: &Loaded, findings: &[Finding], connected: bool) -> anyhow::Result<()> {
    let warnings: Vec<String> = loaded.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    output::print_problems(&warnings);
    output::print_line("configuration is fine")?;
    output::print_table(&summary(loaded))?;
    if connected {
        output::print_line("")?;
        output::print(&findings.iter().map(Finding::line).collect::<String>())?;
    } else {
        output::hint("`hookline check --connect` also tries what it names; `--json` shows every key.");
    }
    Ok(())
}

fn summary(loaded: &Loaded) -> Table {
    let settings = &loaded.settings;
    let sources: Vec<&str> = settings.sources.iter().map(|source| source.name.as_str()).collect();
    let handlers: Vec<&str> = settings.handlers.enabled().iter().map(|handler| handler.as_str()).collect();
    let account = if settings.textus.account.is_empty() { "no account" } else { &settings.textus.account };
    let token = if settings.textus.token.is_some() { "token ***" } else { "no token" };
    let records = match settings.system_of_record.kind {
        SystemOfRecordKind::Builtin => "builtin".to_owned(),
        SystemOfRecordKind::Salesforce | SystemOfRecordKind::HubSpot | SystemOfRecordKind::Http => {
            records::name(&settings.system_of_record)
        }
    };
    let file = loaded.file.as_ref().map_or_else(|| "none: defaults".to_owned(), |file| file.display().to_string());
    let mut table = Table::new(&["WHAT", "CONFIGURED"]);
    for (what, configured) in [
        ("file", file),
        ("data_dir", settings.data_dir.display().to_string()),
        ("ingest", settings.ingest.listen.to_string()),
        ("sources", sources.join(", ")),
        ("handlers", handlers.join(", ")),
        ("textus", format!("{} {account}, {token}", settings.textus.base_url)),
        ("system of record", records),
        ("broker", broker(settings)),
        ("store", if settings.store.url.is_some() { "PostgreSQL" } else { "SQLite in data_dir" }.to_owned()),
    ] {
        table.row([what.to_owned(), configured]);
    }
    table
}

/// Describes the broker without its URLs, because they contain passwords.
fn broker(settings: &Settings) -> String {
    let spool = match settings.ingest.on_broker_outage {
        OnBrokerOutage::Spool => "spool in data_dir",
        OnBrokerOutage::Reject => "reject while it is away",
    };
    match settings.broker.url.len() {
        0 => "embedded".to_owned(),
        1 => format!("RabbitMQ, {spool}"),
        urls => format!("RabbitMQ at {urls} addresses, {spool}"),
    }
}
