//! Runs `hookline` with one configuration, as an operator types it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::process::Command;

use crate::binaries::{HOOKLINE, HOOKLINE_BENCH, binary};
use crate::process::{Ran, run_within};
use crate::wait::DEADLINE;

const ALL: &str = "100000";

pub(crate) struct Commands {
    dir: PathBuf,
    config: PathBuf,
    environment: Vec<(String, String)>,
}

impl Commands {
    pub(crate) fn new(dir: &Path, config: &Path) -> Self {
        Self { dir: dir.to_owned(), config: config.to_owned(), environment: Vec::new() }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.of(HOOKLINE, arguments)
    }

    /// Prepares another of our binaries.
    pub(crate) fn of(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(name));
        command.current_dir(&self.dir).env_clear().envs(self.environment.iter().cloned());
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    pub(crate) async fn cli(&self, arguments: &[&str]) -> Ran {
        run_within(self.command(arguments), DEADLINE).await
    }

    pub(crate) async fn bench(&self, arguments: &[&str]) -> Ran {
        // A benchmark takes a minute by itself.
        run_within(self.of(HOOKLINE_BENCH, arguments), DEADLINE * 4).await
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        self.cli(&[arguments, &["--json"]].concat()).await.json()
    }

    pub(crate) async fn rows(&self, list: &[&str], key: &str) -> Vec<Value> {
        let page = self.json(&[list, &["--limit", ALL]].concat()).await;
        assert_eq!(page["next"], Value::Null, "all on one page");
        page[key].as_array().expect("a list").clone()
    }
}
