//! Deletes a person's notes in a system of record other than the built-in one, and lists those that stay.

use std::sync::Arc;

use anyhow::Context;
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use hookline_common::settings::Settings;
use hookline_store::Store;
use hookline_store::model::RemoteNote;
use hookline_worker::calls::log::CallLog;
use hookline_worker::records;
use serde_json::{Value, json};

use crate::output;

/// What became of the notes elsewhere.
#[derive(Default)]
pub(super) struct RemoteNotes {
    pub(super) deleted: usize,
    pub(super) tried: Vec<RemoteNote>,
    /// With the reason.
    pub(super) left: Vec<(RemoteNote, String)>,
}

impl RemoteNotes {
    pub(super) async fn delete(
        &mut self,
        settings: &Settings,
        store: &Store,
        mut notes: Vec<RemoteNote>,
    ) -> anyhow::Result<()> {
        notes.retain(|note| !self.tried.contains(note));
        if notes.is_empty() {
            return Ok(());
        }
        let metrics = Arc::new(Metrics::new(Role::Worker, &[]));
        let system = records::open(settings, store, &metrics).context("opening the system of record")?;
        if let Some(gate) = system.gate() {
            gate.refresh().await?;
        }
        for note in notes {
            self.tried.push(note.clone());
            if note.system != system.name() {
                self.left.push((note, "this system of record is not configured any more".to_owned()));
                continue;
            }
            match system.notes().delete(&CallLog::default(), &note.id).await {
                Ok(true) => self.deleted += 1,
                Ok(false) => self.left.push((note, "this system of record deletes no notes for us".to_owned())),
                Err(error) => self.left.push((note, error.to_string())),
            }
        }
        Ok(())
    }

    pub(super) fn print(&self, dry_run: bool) -> anyhow::Result<()> {
        if self.deleted > 0 {
            let words = if dry_run { "that are there" } else { "deleted" };
            output::print_line(&format!("Notes in the system of record {words}: {}.", self.deleted))?;
        }
        for (note, why) in &self.left {
            output::print_line(&format!("Left in {}: the note {}; {why}. Delete it there.", note.system, note.id))?;
        }
        Ok(())
    }

    pub(super) fn left_documents(&self) -> Vec<Value> {
        let document = |(note, why): &(RemoteNote, String)| json!({ "system": note.system, "id": note.id, "why": why });
        self.left.iter().map(document).collect()
    }
}
