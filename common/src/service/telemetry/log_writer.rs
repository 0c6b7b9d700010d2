//! Writes log lines to stderr in a thread of their own. Whoever reads stderr may stall (a log driver, journald), and a
//! process that waited for it would stand still in the middle of a delivery, holding its locks. So a line goes into a
//! bounded buffer, and where that is full the line is dropped and counted.

use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use super::metrics::LOG_LINES_DROPPED;

/// Lines that may wait for the reader; a line has a few hundred bytes.
const MAX_LINES: usize = 4096;
/// How long the end of a process waits for the reader to take the next line.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);
const FLUSH_LOOK_EVERY: Duration = Duration::from_millis(5);

static WRITER: LazyLock<LogWriter> = LazyLock::new(LogWriter::start);
/// Lines that wait or are being written.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// Takes one formatted line at each `write`. Clones share the buffer.
#[derive(Clone)]
pub(super) struct LogWriter {
    /// `None` if the thread could not be started; then lines are written by the caller.
    lines: Option<SyncSender<Vec<u8>>>,
}

impl LogWriter {
    pub(super) fn shared() -> Self {
        WRITER.clone()
    }

    fn start() -> Self {
        let (lines, waiting) = sync_channel(MAX_LINES);
        let started = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_all(&waiting));
        Self { lines: started.is_ok().then_some(lines) }
    }
}

fn write_all(lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        // A closed stderr must not end the process.
        let _ = std::io::stderr().write_all(&line);
        WAITING.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let Some(lines) = &self.lines else { return std::io::stderr().write(line) };
        WAITING.fetch_add(1, Ordering::AcqRel);
        if lines.try_send(line.to_vec()).is_err() {
            WAITING.fetch_sub(1, Ordering::AcqRel);
            LOG_LINES_DROPPED.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Waits until the lines so far are written; gives up where the reader takes none for a second. Call it before the
/// process ends.
pub fn flush() {
    let (mut waiting, mut progress) = (WAITING.load(Ordering::Acquire), Instant::now());
    while waiting > 0 && progress.elapsed() < FLUSH_WITHIN {
        std::thread::sleep(FLUSH_LOOK_EVERY);
        let now = WAITING.load(Ordering::Acquire);
        if now < waiting {
            progress = Instant::now();
        }
        waiting = now;
    }
}
