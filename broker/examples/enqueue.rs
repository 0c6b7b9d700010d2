//! Measures durable enqueues on the embedded broker: rate and latency at 1 and 64 producers, with and without consumers
//! in the same process, compared with one `fdatasync` on the same disk. Without consumers, the backlog is then drained,
//! which measures settlements a second with nothing coming in.
//!
//! `cargo run --release -p hookline-broker --features testing --example enqueue [DIR] [SECONDS]`

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookline_broker::embedded::{EmbeddedBroker, EmbeddedOptions};
use hookline_broker::{Broker, Settlement};
use hookline_common::names::{HandlerName, Queue};
use hookline_common::testing::events::an_inbound_message;
use tokio_util::sync::CancellationToken;

/// About the size of what TextUs sends for a text message.
const BODY_BYTES: usize = 1200;
const PREFETCH: u16 = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let window = Duration::from_secs(seconds);

    println!("{:<34} {:>10} {:>10} {:>10} {:>12}", "", "per s", "p50 ms", "p99 ms", "settled per s");
    for producers in [1, 64] {
        for consuming in [false, true] {
            let dir = tempfile::Builder::new().prefix("enqueue-").tempdir_in(&parent)?;
            let sync = fdatasync_p50(dir.path())?;
            let figures = measure(dir.path(), producers, consuming, window).await?;
            let title = format!("{producers} producers, {}", if consuming { "consuming" } else { "not consuming" });
            println!(
                "{title:<34} {:>10.0} {:>10.3} {:>10.3} {:>12.0}   fdatasync p50 {:.3} ms, RSS {} MiB",
                figures.per_second,
                millis(figures.p50),
                millis(figures.p99),
                figures.settled_per_second,
                millis(sync),
                resident_mib()
            );
        }
    }
    Ok(())
}

struct Figures {
    per_second: f64,
    settled_per_second: f64,
    p50: Duration,
    p99: Duration,
}

async fn measure(dir: &Path, producers: usize, consuming: bool, window: Duration) -> anyhow::Result<Figures> {
    let handlers = HandlerName::ALL.to_vec();
    let broker: Arc<dyn Broker> = EmbeddedBroker::open(EmbeddedOptions::new(dir, handlers)).await?;
    let settled = Arc::new(AtomicU64::new(0));
    if consuming {
        for handler in [HandlerName::LogNote, HandlerName::RecordHistory] {
            consume(broker.as_ref(), handler, &settled).await?;
        }
    }

    let stop = CancellationToken::new();
    let started = Instant::now();
    let tasks: Vec<_> = (0..producers).map(|_| tokio::spawn(produce(Arc::clone(&broker), stop.clone()))).collect();
    tokio::time::sleep(window).await;
    stop.cancel();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let mut settled_per_second = settled.load(Ordering::Relaxed) as f64 / elapsed;
    if !consuming {
        settled_per_second = drain(broker.as_ref(), &settled, window).await?;
    }
    broker.close().await;
    took.sort_unstable();
    Ok(Figures {
        per_second: took.len() as f64 / elapsed,
        settled_per_second,
        p50: percentile(&took, 50),
        p99: percentile(&took, 99),
    })
}

/// Consumes for a while, or until nothing is left.
async fn drain(broker: &dyn Broker, settled: &Arc<AtomicU64>, window: Duration) -> anyhow::Result<f64> {
    let waiting: u64 = broker.queues().await?.iter().map(|depth| depth.messages).sum();
    let started = Instant::now();
    for handler in [HandlerName::LogNote, HandlerName::RecordHistory] {
        consume(broker, handler, settled).await?;
    }
    while settled.load(Ordering::Relaxed) < waiting && started.elapsed() < window {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(settled.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64())
}

async fn produce(broker: Arc<dyn Broker>, stop: CancellationToken) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    while !stop.is_cancelled() {
        let mut event = an_inbound_message();
        event.body = body.clone();
        let started = Instant::now();
        broker.publish(&event).await?;
        took.push(started.elapsed());
    }
    Ok(took)
}

async fn consume(broker: &dyn Broker, handler: HandlerName, settled: &Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut deliveries = broker.consume(Queue::Work(handler), PREFETCH).await?;
    let settled = Arc::clone(settled);
    tokio::spawn(async move {
        while let Some(delivery) = deliveries.next().await {
            let settled = Arc::clone(&settled);
            tokio::spawn(async move {
                if delivery.settle(Settlement::Done).await.is_ok() {
                    settled.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    Ok(())
}

/// The median cost of one small durable write here: 8 KiB over existing bytes.
fn fdatasync_p50(dir: &Path) -> anyhow::Result<Duration> {
    const SIZE: u64 = 4 << 20;
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(dir.join("probe"))?;
    file.write_all_at(&vec![0; SIZE as usize], 0)?;
    file.sync_all()?;
    let page = [7; 8192];
    let mut took = Vec::new();
    for round in 0..300 {
        file.write_all_at(&page, round * 8192 % SIZE)?;
        let started = Instant::now();
        file.sync_data()?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(percentile(&took, 50))
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4 / 1024
}
