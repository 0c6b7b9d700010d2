//! `hookline events`: lists and shows events with every attempt and outcome, and replays events.

mod replay;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use hookline_common::event::{EventId, EventType, Keyword};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{AttemptRecord, DeliveryRow, EventFilter, EventRow, RequestRecord};
use serde_json::{Value, json};

use crate::open::{self, Place};
use crate::output::{self, JsonList, ListArgs, Listing};
use crate::table::{Table, printable};
use crate::when::when;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum EventsCommand {
    /// List events, newest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show one event with every attempt: requests, answers, timing
    Show(ShowArgs),
    /// Put events on their handlers' queues again; what is done stays done
    Replay(replay::ReplayArgs),
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct FilterArgs {
    /// Take only events received since this time: RFC 3339, or how long ago (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = when)]
    since: Option<Timestamp>,
    /// Take only events received before this time: RFC 3339, or how long ago (2h, 7d)
    #[arg(long, value_name = "TIME", value_parser = when)]
    until: Option<Timestamp>,
    /// Take only events of this type: message.received, contact.opted_out, …
    #[arg(long = "type", value_name = "EVENT_TYPE")]
    event_type: Option<String>,
}

impl FilterArgs {
    fn filter(&self) -> EventFilter {
        EventFilter {
            since: self.since,
            until: self.until,
            event_type: self.event_type.as_deref().map(|sent| EventType::new(sent).as_str().to_owned()),
        }
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ShowArgs {
    /// Event id, as `hookline events list` prints it
    id: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(place: Place<'_>, command: EventsCommand) -> anyhow::Result<ExitCode> {
    let settings = open::settings(place)?;
    let store = open::store(&settings).await?;
    match command {
        EventsCommand::List { filter, list } => {
            print_list(&store, &filter.filter(), &list).await?;
            Ok(ExitCode::SUCCESS)
        }
        EventsCommand::Show(args) => show(&store, &args).await,
        EventsCommand::Replay(args) => replay::run(&settings, &store, &args).await,
    }
}

/// Rows that are read at a time: a list of 100,000 events is never in memory as a whole.
const AT_A_TIME: u32 = 500;

async fn print_list(store: &Store, filter: &EventFilter, list: &ListArgs) -> anyhow::Result<()> {
    let mut left = list.limit;
    let mut cursor = list.cursor.clone();
    // Nothing is printed before the first page is there: a wrong cursor is told alone.
    let mut page = store.events(filter, left.min(AT_A_TIME), cursor.as_deref()).await?;
    let mut printing = if list.json { Printing::Json(JsonList::begin("events")?) } else { Printing::Table(table()) };
    loop {
        left -= u32::try_from(page.rows.len()).unwrap_or(left);
        cursor = page.next;
        match &mut printing {
            Printing::Json(json) => page.rows.iter().try_for_each(|row| json.item(&document(row, None)))?,
            Printing::Table(table) => page.rows.iter().for_each(|row| in_short(table, row)),
        }
        if left == 0 || cursor.is_none() {
            break;
        }
        page = store.events(filter, left.min(AT_A_TIME), cursor.as_deref()).await?;
    }
    match printing {
        Printing::Json(json) => json.end(cursor.as_deref()),
        Printing::Table(table) => {
            let when_empty = format!("No events yet.{}", output::try_trigger("message.received"));
            Listing { key: "events", rows: Vec::new(), table, next: cursor, when_empty }.print_table()
        }
    }
}

enum Printing {
    Json(JsonList),
    Table(Table),
}

fn table() -> Table {
    Table::new(&["RECEIVED", "EVENT", "TYPE", "DELIVERIES"])
}

fn in_short(table: &mut Table, row: &EventRow) {
    let deliveries: Vec<String> = row.deliveries.iter().map(delivery_in_short).collect();
    table.row([
        row.received_at.to_string(),
        row.event_id.to_string(),
        row.event_type.to_string(),
        deliveries.join(", "),
    ]);
}

fn delivery_in_short(delivery: &DeliveryRow) -> String {
    match &delivery.reason {
        Some(reason) => format!("{} {} ({})", delivery.handler, delivery.state, printable(reason)),
        None => format!("{} {}", delivery.handler, delivery.state),
    }
}

/// Builds an event's JSON. If `attempts` are given, each delivery gets its `attempt_log`.
fn document(row: &EventRow, attempts: Option<&[AttemptRecord]>) -> Value {
    let deliveries: Vec<Value> = row
        .deliveries
        .iter()
        .map(|delivery| {
            let mut document = json!({
                "handler": delivery.handler.as_str(),
                "state": delivery.state.as_str(),
                "reason": delivery.reason,
                "attempts": delivery.attempts,
            });
            if let Some(attempts) = attempts {
                let own = attempts.iter().filter(|attempt| attempt.handler == delivery.handler);
                document["attempt_log"] = own.map(attempt_document).collect();
            }
            document
        })
        .collect();
    json!({
        "event_id": row.event_id.as_str(),
        "source": row.source.as_str(),
        "source_event_id": row.source_event_id,
        "event_type": row.event_type.as_str(),
        "received_at": row.received_at.to_string(),
        "deliveries": deliveries,
    })
}

fn attempt_document(attempt: &AttemptRecord) -> Value {
    json!({
        "attempt": attempt.attempt,
        "started_at": attempt.started_at.to_string(),
        "duration_ms": millis(attempt),
        "verdict": attempt.verdict.as_str(),
        "detail": attempt.detail,
        "requests": attempt.requests,
    })
}

fn millis(attempt: &AttemptRecord) -> u64 {
    u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX)
}

async fn show(store: &Store, args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let found = match EventId::parse(&args.id) {
        Ok(id) => store.event(&id).await?,
        Err(_) => None,
    };
    let Some((event, attempts)) = found else { return Err(unknown(&args.id)) };
    if args.json {
        output::print_json(&document(&event, Some(&attempts)))?;
    } else {
        output::print(&in_full(&event, &attempts))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn unknown(id: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "no event {id:?} in the history; `hookline events list` shows them (one that has just arrived may take a \
         moment, or the workers are down)"
    )
}

fn in_full(event: &EventRow, attempts: &[AttemptRecord]) -> String {
    let mut text = format!(
        "event      {}\ntype       {}{}\nreceived   {}\nsource     {}\nsource id  {}\npayload    {}\n",
        event.event_id,
        printable(event.event_type.as_str()),
        match event.event_type.keyword() {
            Some(Keyword::Stop) => ", a stop word alone",
            Some(Keyword::Start) => ", START alone",
            None => "",
        },
        event.received_at,
        event.source,
        printable(event.source_event_id.as_deref().unwrap_or_default()),
        if event.has_payload { "kept" } else { "gone (retention or erasure)" },
    );
    for delivery in &event.deliveries {
        text.push_str(&format!("\n{}, attempts: {}\n", delivery_in_short(delivery), delivery.attempts));
        for attempt in attempts.iter().filter(|attempt| attempt.handler == delivery.handler) {
            let detail = attempt.detail.as_deref().map(|detail| format!(": {}", printable(detail)));
            text.push_str(&format!(
                "  {}  attempt {}  {} ms  {}{}\n",
                attempt.started_at,
                attempt.attempt,
                millis(attempt),
                attempt.verdict,
                detail.unwrap_or_default(),
            ));
            for request in &attempt.requests {
                text.push_str(&request_in_short(request));
            }
        }
    }
    text
}

fn request_in_short(request: &RequestRecord) -> String {
    let RequestRecord { method, path, status, duration_ms } = request;
    let answer = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    format!("      {method} {} → {answer}  {duration_ms} ms\n", printable(path))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hookline_common::event::SourceName;
    use hookline_common::names::{DeliveryState, HandlerName, Verdict};

    use super::*;

    #[test]
    fn each_delivery_shows_its_own_attempts() {
        let source = SourceName::new("textus").expect("a name");
        let event_id = EventId::derive(&source, Some("/integrations/a/deliveries/b"), b"");
        let delivery = |handler| DeliveryRow { handler, state: DeliveryState::Done, reason: None, attempts: 1 };
        let event = EventRow {
            event_id: event_id.clone(),
            source,
            source_event_id: None,
            event_type: EventType::new("message.received"),
            received_at: Timestamp::EPOCH,
            has_payload: true,
            deliveries: vec![delivery(HandlerName::LogNote), delivery(HandlerName::RecordHistory)],
        };
        let attempt = AttemptRecord {
            event_id,
            handler: HandlerName::LogNote,
            attempt: 1,
            started_at: Timestamp::EPOCH,
            duration: Duration::from_millis(12),
            verdict: Verdict::Done,
            detail: None,
            requests: vec![RequestRecord {
                method: "GET".to_owned(),
                path: "/messages/abc".to_owned(),
                status: Some(200),
                duration_ms: 9,
            }],
        };

        let shown = document(&event, Some(&[attempt]));

        assert_eq!(shown["deliveries"][0]["attempt_log"][0]["requests"][0]["status"], 200);
        assert_eq!(shown["deliveries"][0]["attempt_log"][0]["duration_ms"], 12);
        assert_eq!(shown["deliveries"][1]["attempt_log"], json!([]));
        assert_eq!(document(&event, None)["deliveries"][0].get("attempt_log"), None);
    }
}
