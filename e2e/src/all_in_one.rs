//! A directory with a configuration, a sandbox of TextUs, and the `hookline` that runs in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookline_sandbox::{Sandbox, SandboxOptions, WebhookTarget};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::accounts::Accounts;
use crate::commands::Commands;
use crate::process::{Process, Ran};
use crate::sender::Sender;
use crate::wait::eventually;

pub const ACCOUNT: &str = "acme";
pub const SECOND_ACCOUNT: &str = "acme_second";
pub const SECRET: &str = "textus-synthetic-secret-of-all-in-one";
pub const TOKEN: &str = "synthetic-token-of-all-in-one";
/// Where webhooks go before their receiver runs.
const NOBODY: &str = "http://127.0.0.1:9/webhooks/textus";
/// A rate limit that no test reaches; a test about the vendor's quota sets its own.
const NO_LIMIT: (u32, Duration) = (1_000_000, Duration::from_secs(300));

pub struct AllInOne {
    pub sandbox: Arc<Sandbox>,
    pub sender: Sender,
    commands: Commands,
    dir: TempDir,
}

/// A running `hookline run`.
pub struct Running {
    pub process: Process,
    /// The webhook URL, `http://127.0.0.1:…/webhooks/textus`.
    pub webhooks: String,
    /// The admin listener's origin, `http://127.0.0.1:…`.
    pub admin: String,
}

impl AllInOne {
    /// Creates an all-in-one Hookline with the tests' defaults.
    pub async fn start() -> Self {
        Self::with(|_options| {}, "").await
    }

    /// Creates an all-in-one Hookline. `change` changes the sandbox's options before it starts; `more` is added at the end
    /// of the configuration.
    ///
    /// # Panics
    /// If the directory or the sandbox cannot be created.
    pub async fn with(change: impl FnOnce(&mut SandboxOptions), more: &str) -> Self {
        let mut options = SandboxOptions {
            token: TOKEN.to_owned(),
            accounts: vec![ACCOUNT.to_owned(), SECOND_ACCOUNT.to_owned()],
            rate_limit: Some(NO_LIMIT),
            // The subscription exists before anything runs; nobody listens at its address yet.
            webhook: Some(WebhookTarget { url: NOBODY.to_owned(), secret: SECRET.to_owned() }),
            ..SandboxOptions::default()
        };
        change(&mut options);
        let sandbox = Arc::new(Sandbox::start(options).await.expect("the sandbox starts"));
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("hookline.toml");
        std::fs::write(&config, configuration(dir.path(), &sandbox.base_url(), more)).expect("written");
        let commands = Commands::new(dir.path(), &config);
        Self { sandbox, sender: Sender::default(), commands, dir }
    }

    /// Sets a variable for every process from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.commands.set(name, value);
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    #[must_use]
    pub fn config(&self) -> &Path {
        self.commands.config()
    }

    /// Prepares a `hookline` command that inherits no environment variables from the test run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.commands.command(arguments)
    }

    /// Like [`Self::command`], for another of our programs.
    #[must_use]
    pub fn program(&self, name: &str, arguments: &[&str]) -> Command {
        self.commands.of(name, arguments)
    }

    /// Runs one command to its end.
    pub async fn cli(&self, arguments: &[&str]) -> Ran {
        self.commands.cli(arguments).await
    }

    /// Runs `hookline-bench` and returns how it ended.
    pub async fn bench(&self, arguments: &[&str]) -> Ran {
        self.commands.bench(arguments).await
    }

    /// Returns the JSON document that a command prints.
    ///
    /// # Panics
    /// If the command fails.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        self.commands.json(arguments).await
    }

    /// Returns all rows of a list.
    ///
    /// # Panics
    /// If the command fails, or there are more rows than one page holds.
    pub async fn rows(&self, list: &[&str], key: &str) -> Vec<Value> {
        self.commands.rows(list, key).await
    }

    /// Starts `hookline run`, and directs the sender and the echoes there from now on.
    pub async fn run(&self) -> Running {
        let mut process = Process::start(self.command(&["run"]));
        let (webhooks, admin) = process.line("hookline.started", listeners).await;
        let webhooks = format!("http://{webhooks}/webhooks/textus");
        self.sender.goes_to(&webhooks);
        self.sandbox.set_webhook(WebhookTarget { url: webhooks.clone(), secret: SECRET.to_owned() });
        Running { process, webhooks, admin: format!("http://{admin}") }
    }

    /// Waits until every accepted event is recorded and settled, echoes included, and accounts for all.
    pub async fn settled(&self) -> Accounts {
        eventually("everything is settled", async || {
            let sent_before = self.sandbox.echo_counts();
            let status = self.json(&["status"]).await;
            let handlers = status["handlers"].as_array().expect("handlers");
            let waits = handlers.iter().any(|handler| handler["waiting"] != 0);
            // A replay of a settled event waits only in its work queue until it begins.
            let is_work =
                |queue: &Value| queue["queue"].as_str().is_some_and(|name| name.starts_with("hookline.work."));
            let queues = status["queues"].as_array().expect("queues");
            let queued = queues.iter().any(|queue| is_work(queue) && queue["messages"] != 0);
            // An echo is pending before its write is answered, so with nothing waiting no new echo can begin.
            let echoes = self.sandbox.echo_counts();
            (status["unrecorded"] == 0 && !waits && !queued && echoes.pending == 0 && echoes == sent_before)
                .then_some(())
        })
        .await;
        Accounts::read(&self.commands).await
    }
}

impl Running {
    /// Returns the status and body of an admin path.
    ///
    /// # Panics
    /// If nothing answers.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        get(&format!("{}{path}", self.admin)).await.expect("the admin listener answers")
    }

    /// Sends SIGTERM and returns how the process ended.
    pub async fn stop(self) -> Ran {
        self.process.terminate();
        self.process.ended(Duration::from_secs(40)).await
    }
}

/// Returns the status and body of a URL.
///
/// # Errors
/// Fails when nothing answers.
pub(crate) async fn get(url: &str) -> Result<(u16, String), reqwest::Error> {
    let client = hookline_sandbox::samples::client().expect("a client");
    let answer = client.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Returns the addresses in the log line of a started process.
fn listeners(line: &str) -> Option<(String, String)> {
    let started = started(line)?;
    let text = |key: &str| started[key].as_str().map(str::to_owned);
    Some((text("webhooks")?, text("admin")?))
}

/// Parses the log line that reports that a process has started.
pub(crate) fn started(line: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "hookline.started").then_some(line)
}

/// The configuration. Its times are short, so that tests that wait for them end; everything else is as shipped.
fn configuration(dir: &Path, textus: &str, more: &str) -> String {
    let retry = |handler: &str| format!("[handlers.{handler}.retry]\ninitial = \"50ms\"\nmax = \"500ms\"\n");
    let handlers = ["record_opt_out", "flag_opt_out", "log_note", "create_contact", "sync_contact"];
    let retries: String = handlers.iter().map(|handler| retry(handler)).collect();
    format!(
        "data_dir = \"{data}\"\n\
         shutdown_grace = \"20s\"\n\
         [ingest]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nformat = \"json\"\n\
         [[sources]]\nname = \"textus\"\nkind = \"textus\"\nsecrets = [\"{SECRET}\"]\n\
         [textus]\nbase_url = \"{textus}\"\naccount = \"{ACCOUNT}\"\ntoken = \"{TOKEN}\"\n\
         timeout = \"1s\"\npaused_probe = \"1s\"\n\
         {retries}{more}",
        data = dir.join("data").display(),
    )
}
