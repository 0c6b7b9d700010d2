//! What runs and what can be reached: worker processes, broker and store.

use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::WorkerProcess;
use serde_json::{Value, json};

use super::Queues;
use crate::table::{Table, or_dash};

/// A worker that says nothing for three heartbeats has ended without saying so, or cannot reach the store.
const SILENT_AFTER: std::time::Duration = std::time::Duration::from_secs(15);
/// Ingest has no store in which it could tell that it runs.
const INGEST_NOT_ASKED: &str = "not asked: its own /readyz and /metrics tell";

/// The broker or the store.
pub(super) struct Part {
    kind: &'static str,
    version: Option<String>,
    /// Why the part cannot be asked, or `None` where it answered.
    unreachable: Option<String>,
}

pub(super) struct Parts {
    processes: Vec<WorkerProcess>,
    has_ingest_elsewhere: bool,
    pub(super) broker: Part,
    pub(super) store: Part,
    now: Timestamp,
}

impl Parts {
    /// `store` holds the store, or why it cannot be asked; `Ok(None)` where no store was made yet.
    pub(super) async fn read(
        settings: &Settings,
        store: &Result<Option<Store>, String>,
        queues: &Result<Queues, String>,
    ) -> anyhow::Result<Self> {
        let (processes, version) = match store {
            Ok(Some(store)) => (store.worker_processes().await?, Some(store.database_version().await?)),
            Ok(None) | Err(_) => (Vec::new(), None),
        };
        let is_embedded = settings.broker.url.is_empty();
        Ok(Self {
            processes,
            has_ingest_elsewhere: !is_embedded,
            broker: Part {
                kind: if is_embedded { "embedded" } else { "rabbitmq" },
                version: None,
                unreachable: queues.as_ref().err().cloned(),
            },
            store: Part {
                kind: if settings.store.url.is_some() { "postgresql" } else { "sqlite" },
                version,
                unreachable: store.as_ref().err().cloned(),
            },
            now: Timestamp::now(),
        })
    }

    /// Returns why broker and store cannot be asked, where they cannot.
    pub(super) fn unreachable(&self) -> Vec<&str> {
        [&self.broker, &self.store].into_iter().filter_map(|part| part.unreachable.as_deref()).collect()
    }

    /// The value of `processes`.
    pub(super) fn processes(&self) -> Value {
        let workers = self.processes.iter().map(|process| {
            json!({
                "kind": process.kind,
                "id": process.id,
                "version": process.version,
                "since": process.since,
                "state": self.state(process),
            })
        });
        let ingest = self.has_ingest_elsewhere.then(
            || json!({ "kind": "ingest", "id": null, "version": null, "since": null, "state": INGEST_NOT_ASKED }),
        );
        workers.chain(ingest).collect()
    }

    fn state(&self, process: &WorkerProcess) -> &'static str {
        if self.now.since(process.heartbeat_at) > SILENT_AFTER { "silent" } else { "running" }
    }

    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&["PART", "ID", "VERSION", "SINCE", "STATE"]);
        for process in &self.processes {
            table.row([
                or_dash(process.kind.as_ref()),
                process.id.clone(),
                or_dash(process.version.as_ref()),
                or_dash(process.since),
                self.state(process).to_owned(),
            ]);
        }
        if self.has_ingest_elsewhere {
            let none = String::new;
            table.row(["ingest".to_owned(), none(), none(), none(), INGEST_NOT_ASKED.to_owned()]);
        }
        for part in [&self.broker, &self.store] {
            let state = match &part.unreachable {
                None => "reachable".to_owned(),
                Some(why) => format!("unreachable: {why}"),
            };
            let version = or_dash(part.version.as_ref());
            table.row([part.kind.to_owned(), String::new(), version, String::new(), state]);
        }
        table
    }
}

impl Part {
    pub(super) fn document(&self) -> Value {
        json!({
            "kind": self.kind,
            "version": self.version,
            "state": if self.unreachable.is_none() { "reachable" } else { "unreachable" },
            "reason": self.unreachable,
        })
    }
}
