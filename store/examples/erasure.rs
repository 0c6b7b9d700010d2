//! Measures how long an erasure takes that masks a number in many texts among many more.
//!
//! `cargo run -p hookline-store --example erasure -- URL [ATTEMPTS] [MENTIONS]`: `URL` is `postgres://…` of a database
//! that may be filled, or a directory for SQLite. `MENTIONS` of the `ATTEMPTS` contain the number.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hookline_common::event::{EventId, SourceName};
use hookline_common::names::{HandlerName, Verdict};
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::time::Timestamp;
use hookline_store::model::AttemptRecord;
use hookline_store::{Location, Store, StoreOptions};

/// Writes under way at once; they share commits.
const AT_ONCE: usize = 256;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().ok_or("which database?")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (attempts, mentions) = (number(100_000)?, number(1_000)?);
    let location = if place.contains("://") {
        Location::Postgres { url: Secret::new(place), connections: 5 }
    } else {
        Location::Sqlite(place.into())
    };
    let store = Store::open(StoreOptions { location, ledger_key: Secret::new("a key for measuring only") }).await?;
    let source = SourceName::new("bench").ok_or("a name")?;
    let phone = Phone::parse("+12025550147").ok_or("a number")?;
    let every = attempts.checked_div(mentions).unwrap_or(u64::MAX).max(1);

    stream::iter(0..attempts)
        .map(|n| {
            let (store, name) = (&store, format!("{} {n}", std::process::id()));
            let told = if n % every == 0 { phone.as_e164() } else { "this number" };
            let record = AttemptRecord {
                event_id: EventId::derive(&source, Some(&name), b""),
                handler: HandlerName::LogNote,
                attempt: 1,
                started_at: Timestamp::now(),
                duration: Duration::from_millis(50),
                verdict: Verdict::Parked,
                detail: Some(format!("the destination does not know {told}")),
                requests: Vec::new(),
            };
            async move { store.log_attempt(&record, &[]).await }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;

    let clock = Instant::now();
    let erased = store.erase(&phone).await?;
    println!("{} of {attempts} texts are masked in {:.2} s", erased.masked, clock.elapsed().as_secs_f64());
    Ok(())
}
