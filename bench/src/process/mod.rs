//! The measured processes, from the inside. Each reads its specification from the first line of its stdin, answers one
//! line when it is ready, then answers questions, and ends when stdin closes.

mod api;
mod bare;
mod ingest;
mod limit;
mod publisher;
mod reference_ingest;
mod reference_worker;
mod worker;

use std::fmt;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::logging;
use hookline_common::settings::Settings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub(crate) use api::{ApiQuestion, ApiSpec, Snapshot};
pub(crate) use bare::{
    EVENT_TYPES, REFERENCE_WORK_QUEUE, Route, connect, event_type, reference_queues, route, work_queue_arguments,
};
pub(crate) use ingest::IngestSpec;
pub(crate) use limit::{ApiCall, Caller, LimitSpec, Other};
pub(crate) use publisher::{Publish, PublisherSpec};
pub(crate) use reference_ingest::ReferenceIngestSpec;
pub(crate) use reference_worker::ReferenceWorkerSpec;
pub(crate) use worker::{
    PublishEvents, Published, Settled, WorkerQuestion, WorkerSpec, open_broker, settings as worker_settings,
};

/// The kind of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ingest,
    Worker,
    ReferenceIngest,
    ReferenceWorker,
    Publisher,
    Api,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Ingest, Self::Worker, Self::ReferenceIngest, Self::ReferenceWorker, Self::Publisher, Self::Api];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Worker => "worker",
            Self::ReferenceIngest => "reference-ingest",
            Self::ReferenceWorker => "reference-worker",
            Self::Publisher => "publisher",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| "no process of the benchmark".to_owned())
    }
}

/// The first answer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) listening: Option<SocketAddr>,
}

/// The broker of one of our processes. The URLs may contain passwords, so they are only passed on stdin, and there is
/// no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct BrokerSpec {
    /// Empty means the embedded broker in `data_dir`.
    pub(crate) urls: Vec<String>,
    /// Also the directory of the spool and of SQLite.
    pub(crate) data_dir: PathBuf,
}

impl BrokerSpec {
    /// Returns settings for this broker; everything else is as shipped.
    fn settings(&self) -> Settings {
        let mut settings = Settings::defaults();
        settings.data_dir.clone_from(&self.data_dir);
        settings.broker.url = self.urls.iter().map(|url| Secret::new(url.as_str())).collect();
        settings
    }
}

/// Runs a process of this kind until stdin closes.
///
/// # Errors
/// Fails when the process cannot run as specified; the benchmark notices that it ended.
pub async fn run(kind: Kind) -> anyhow::Result<()> {
    logging::init(None, "warn");
    let mut questions = Questions::of_stdin();
    let result = match kind {
        Kind::Ingest => ingest::run(&mut questions).await,
        Kind::Worker => worker::run(&mut questions).await,
        Kind::ReferenceIngest => reference_ingest::run(&mut questions).await,
        Kind::ReferenceWorker => reference_worker::run(&mut questions).await,
        Kind::Publisher => publisher::run(&mut questions).await,
        Kind::Api => api::run(&mut questions).await,
    };
    result.with_context(|| format!("process {kind}"))
}

/// The lines of stdin. A separate thread reads them, because a blocked read must not keep the process from ending.
pub(crate) struct Questions(mpsc::UnboundedReceiver<String>);

impl Questions {
    fn of_stdin() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// Reads the process's specification.
    async fn spec<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        self.next().await?.context("this command is for `hookline-bench`, which writes to its stdin")
    }

    /// Returns the next question, or `None` when stdin is closed.
    async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        // A line may contain a password, so errors don't show it.
        let read = |line: String| serde_json::from_str(&line).map_err(|_| anyhow::anyhow!("a line could not be read"));
        self.0.recv().await.map(read).transpose()
    }

    /// Waits until stdin is closed.
    async fn end(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}

fn answer(answer: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, answer).context("writing an answer")?;
    stdout.write_all(b"\n").and_then(|()| stdout.flush()).context("writing an answer")
}

fn ready(listening: Option<SocketAddr>) -> anyhow::Result<()> {
    answer(&Ready { listening })
}
