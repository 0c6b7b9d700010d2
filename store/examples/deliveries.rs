//! Measures how many deliveries a second the store allows a worker. Each delivery makes the writes of one effect around
//! a call of 50 ms that is only simulated.
//!
//! `cargo run --release -p hookline-store --example deliveries -- URL [IN_FLIGHT] [SECONDS] [PROCESSES]`: `URL` is
//! `postgres://…` of a database that may be filled, or a directory for SQLite. Each of the `PROCESSES` has connections
//! of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::names::{HandlerName, Verdict};
use hookline_common::secret::Secret;
use hookline_common::time::Timestamp;
use hookline_store::model::{AttemptRecord, Claim, ClaimRequest, Ending};
use hookline_store::{Location, Store, StoreOptions};

const HANDLER: HandlerName = HandlerName::LogNote;
const CALL: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().ok_or("which database?")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (in_flight, seconds, processes) = (number(100)?, number(10)?, number(1)?);
    let location = if place.contains("://") {
        Location::Postgres { url: Secret::new(place), connections: 5 }
    } else {
        Location::Sqlite(place.into())
    };
    let source = SourceName::new("bench").ok_or("a name")?;
    let ended = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let clock = Instant::now();
    let mut tasks = Vec::new();
    for process in 0..processes {
        let options = StoreOptions { location: location.clone(), ledger_key: Secret::new("a key for measuring only") };
        let store = Store::open(options).await?;
        for task in 0..in_flight {
            let (store, source, ended) = (store.clone(), source.clone(), Arc::clone(&ended));
            tasks.push(tokio::spawn(async move {
                let mut n = 0_u64;
                while Instant::now() < until {
                    let name = format!("{} {process} {task} {n}", std::process::id());
                    deliver(&store, &event(&source, &name)).await?;
                    ended.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            }));
        }
    }
    for task in tasks {
        task.await??;
    }
    let took = clock.elapsed().as_secs_f64();
    let done = ended.load(Ordering::Relaxed);
    let limit = (processes * in_flight) as f64 / CALL.as_secs_f64();
    println!("{done} deliveries in {took:.1} s: {:.0}/s; concurrency ÷ latency is {limit:.0}/s", done as f64 / took);
    Ok(())
}

async fn deliver(store: &Store, event: &Event) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    store.begin(event, HANDLER, 1, None).await?;
    let request = ClaimRequest {
        handler: HANDLER,
        target: "acme",
        effect_key: event.id.as_str(),
        event_id: &event.id,
        owner: event.id.as_str(),
        lease: Duration::from_secs(30),
        settle_after: Duration::from_secs(10),
    };
    let Claim::Fresh(token) = store.claim(&request).await? else { return Err("the effect is not fresh".into()) };
    if !store.still_mine(&token, Duration::from_secs(30)).await? {
        return Err("the claim was lost".into());
    }
    tokio::time::sleep(CALL).await;
    store.effect_done(&token, Some("remote")).await?;
    let record = AttemptRecord {
        event_id: event.id.clone(),
        handler: HANDLER,
        attempt: 1,
        started_at: Timestamp::now(),
        duration: CALL,
        verdict: Verdict::Done,
        detail: None,
        requests: Vec::new(),
    };
    store.finish(&record, Ending::Done, &[]).await?;
    Ok(())
}

fn event(source: &SourceName, name: &str) -> Event {
    Event {
        id: EventId::derive(source, Some(name), b""),
        source: source.clone(),
        source_event_id: Some(name.to_owned()),
        event_type: EventType::new("message.received"),
        received_at: Timestamp::now(),
        content_type: None,
        request_id: None,
        traceparent: None,
        body: Bytes::from_static(b"{}"),
    }
}
