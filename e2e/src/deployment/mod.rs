//! A deployment as on many machines, but on one: `hookline-ingest` and `hookline-worker` processes with one
//! configuration, a virtual host of a private RabbitMQ, a database of a private PostgreSQL, and the sandbox as the
//! TextUs API. Any process may be killed and started again; a proxy may stand in front of the broker, the store and the
//! API.

mod load;
mod oracle;
mod queues;
mod starting;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hookline_common::testing::nodes::{PostgresNode, RabbitNode};
use hookline_sandbox::{Sandbox, SandboxOptions, WebhookTarget};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::all_in_one::{ACCOUNT, SECOND_ACCOUNT, SECRET, TOKEN, get, started};
use crate::binaries::{HOOKLINE_INGEST, HOOKLINE_WORKER};
use crate::commands::Commands;
use crate::process::{Process, Ran, run};
use crate::sender::Sender;
use crate::wait::eventually;

pub use load::{Load, send_all};
pub use oracle::Tally;

const BROKER_USER: &str = "tester";
const BROKER_PASSWORD: &str = "synthetic-broker-password-of-all-in-one";
const STORE_PASSWORD: &str = "synthetic-store-password-of-all-in-one";
const LEDGER_KEY: &str = "synthetic-ledger-key-of-all-in-one-0123456789";
const NO_LIMIT: (u32, Duration) = (10_000_000, Duration::from_secs(300));
const LINES_SHOWN: usize = 25;
/// Maximum time for an orderly end: `shutdown_grace`, and some more for a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(40);

/// Which program a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Ingest,
    Worker,
}

/// A running process of the deployment.
pub struct Part {
    pub process: Process,
    /// An ingest's `http://127.0.0.1:…/webhooks/textus`.
    pub webhooks: Option<String>,
    /// The admin listener's origin, `http://127.0.0.1:…`.
    pub admin: String,
}

impl Part {
    /// Returns the status and body of an admin path.
    ///
    /// # Panics
    /// If nothing answers.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        get(&format!("{}{path}", self.admin)).await.expect("the admin listener answers")
    }

    /// Returns the sum of a metric over all labels.
    ///
    /// # Panics
    /// If nothing answers, or there is no such metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.admin("/metrics").await;
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let values = metrics.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        let values: Vec<f64> = values.collect();
        assert!(!values.is_empty(), "{name} is among the metrics");
        values.iter().sum()
    }
}

/// A deployment on one machine; the module describes it. Processes are kept in the order of their start; a killed one
/// leaves its place empty.
pub struct Deployment<'nodes> {
    pub sandbox: Arc<Sandbox>,
    pub sender: Sender,
    pub vhost: String,
    /// Everything that ended processes wrote.
    pub written: Vec<String>,
    /// Events that should end as dead letters.
    pub doomed: BTreeSet<String>,
    nodes: &'nodes [RabbitNode],
    brokers: Vec<SocketAddr>,
    store: String,
    api: String,
    commands: Commands,
    files: Option<u32>,
    ingests: Vec<Option<Part>>,
    workers: Vec<Option<Part>>,
    dir: TempDir,
}

impl<'nodes> Deployment<'nodes> {
    /// Creates a virtual host, a database and a sandbox; no process runs yet. `change` changes the sandbox's options
    /// before it starts.
    ///
    /// # Panics
    /// If one of them cannot be created.
    pub async fn with(nodes: &'nodes [RabbitNode], change: impl FnOnce(&mut SandboxOptions)) -> Self {
        let mut options = SandboxOptions {
            token: TOKEN.to_owned(),
            accounts: vec![ACCOUNT.to_owned(), SECOND_ACCOUNT.to_owned()],
            rate_limit: Some(NO_LIMIT),
            ..SandboxOptions::default()
        };
        change(&mut options);
        let sandbox = Arc::new(Sandbox::start(options).await.expect("the sandbox starts"));
        let vhost = nodes[0].new_vhost().await;
        let grant = format!(
            "catch rabbit_auth_backend_internal:add_user(<<\"{BROKER_USER}\">>, <<\"{BROKER_PASSWORD}\">>, <<\"e2e\">>), \
             ok = rabbit_auth_backend_internal:set_permissions(<<\"{BROKER_USER}\">>, <<\"{vhost}\">>, <<\".*\">>, \
             <<\".*\">>, <<\".*\">>, <<\"e2e\">>)."
        );
        nodes[0].ctl(&["eval", &grant]).await;
        let store = PostgresNode::shared().await.database().await;
        let dir = tempfile::tempdir().expect("a directory");
        let commands = Commands::new(dir.path(), &dir.path().join("hookline.toml"));
        let mut deployment = Self {
            api: sandbox.base_url(),
            sandbox,
            sender: Sender::default(),
            vhost,
            written: Vec::new(),
            doomed: BTreeSet::new(),
            nodes,
            brokers: nodes.iter().map(|node| SocketAddr::from((node.address(), node.port()))).collect(),
            store: String::new(),
            commands,
            files: None,
            ingests: Vec::new(),
            workers: Vec::new(),
            dir,
        };
        deployment.use_store(&store);
        deployment
    }

    /// Creates a deployment with the usual sandbox options.
    pub async fn on(nodes: &'nodes [RabbitNode]) -> Self {
        Self::with(nodes, |_options| {}).await
    }

    /// Lets the processes connect to the broker through this proxy. Call it before the first process starts.
    pub fn broker_through(&mut self, proxy: SocketAddr) {
        self.brokers = vec![proxy];
    }

    /// Lets the processes connect to the API through this proxy. Call it before the first process starts.
    pub fn api_through(&mut self, proxy: SocketAddr) {
        self.api = format!("http://{proxy}");
    }

    /// Uses this database instead. Call it before the first process starts.
    ///
    /// # Panics
    /// If the URL is not that of a private node.
    pub fn use_store(&mut self, url: &str) {
        // Plants a password that the tests search for; the server trusts everybody.
        self.store = url.replacen("hookline@", &format!("hookline:{STORE_PASSWORD}@"), 1);
        assert_ne!(self.store, url, "a private node's URL");
    }

    /// Uses SQLite in one data directory, for one ingest and one worker. Call it before the first process starts.
    pub fn use_sqlite(&mut self) {
        self.store.clear();
    }

    /// Lets the processes connect to the store through this proxy. Call it before the first process starts.
    ///
    /// # Panics
    /// If the store's URL has no port.
    pub fn store_through(&mut self, proxy: SocketAddr) {
        let (before, rest) = self.store.rsplit_once(':').expect("a port");
        let database = rest.split_once('/').map_or("", |(_, database)| database);
        self.store = format!("{before}:{}/{database}", proxy.port());
    }

    /// Limits the descriptors of every ingest started from now on.
    pub fn limit_files(&mut self, files: u32) {
        self.files = Some(files);
    }

    /// Sets a variable (`HOOKLINE__…`) for every process and command from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.commands.set(name, value);
    }

    /// Writes the configuration, with `more` at its end, and starts processes.
    ///
    /// # Panics
    /// If one does not start.
    pub async fn start(&mut self, ingests: usize, workers: usize, more: &str) {
        std::fs::write(self.commands.config(), self.configuration(more)).expect("written");
        for _ in 0..workers {
            self.add(Half::Worker, &[]).await;
        }
        for _ in 0..ingests {
            self.add(Half::Ingest, &[]).await;
        }
        self.topology_is_kept().await;
    }

    /// Waits until all processes are connected, then makes RabbitMQ write the directory of its quorum queues. RabbitMQ
    /// 3.10 writes that directory half a second after the last queue was declared. A node that is killed earlier
    /// forgets what such a queue held, and the queue never has a leader again. That fault is not ours to test.
    async fn topology_is_kept(&self) {
        eventually("all are connected", async || {
            for part in self.parts(Half::Ingest).chain(self.parts(Half::Worker)) {
                if part.metric("hookline_broker_connected").await < 1.0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        for node in self.nodes {
            node.ctl(&["eval", "dets:sync(ra_directory_reverse)."]).await;
        }
    }

    /// Starts one more process, with these additional variables, and returns its place.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add(&mut self, half: Half, environment: &[(&str, &str)]) -> usize {
        let places = self.places(half);
        places.push(None);
        let place = places.len() - 1;
        self.put(half, place, environment).await;
        place
    }

    /// Starts one more worker for these handlers only, and returns its place.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn add_worker_of(&mut self, handlers: &[&str]) -> usize {
        self.workers.push(None);
        let place = self.workers.len() - 1;
        self.put_worker_of(place, handlers, &[]).await;
        place
    }

    /// Starts a worker for these handlers only at the place of one that ended, with these additional variables.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn put_worker_of(&mut self, place: usize, handlers: &[&str], environment: &[(&str, &str)]) {
        self.put_with(Half::Worker, place, &["--handlers", &handlers.join(",")], environment).await;
    }

    /// Starts a process at the place of one that was killed or stopped.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn put(&mut self, half: Half, place: usize, environment: &[(&str, &str)]) {
        self.put_with(half, place, &[], environment).await;
    }

    /// Starts a process that is expected to refuse and end, and returns how it ended.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn does_not_start(&mut self, half: Half, place: usize) -> Ran {
        let ended = run(self.command(half, place, &[], &[])).await;
        self.keep(&ended);
        ended
    }

    async fn put_with(&mut self, half: Half, place: usize, arguments: &[&str], environment: &[(&str, &str)]) {
        let mut process = Process::start(self.command(half, place, arguments, environment));
        let started = process.line("hookline.started", started).await;
        let text = |key: &str| started[key].as_str().map(str::to_owned);
        let admin = format!("http://{}", text("admin").expect("the admin listener's address"));
        let webhooks = text("webhooks").map(|address| format!("http://{address}/webhooks/textus"));
        self.places(half)[place] = Some(Part { process, webhooks, admin });
        if half == Half::Ingest {
            self.point_senders();
        }
    }

    fn command(&self, half: Half, place: usize, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let (name, data) = match half {
            Half::Ingest => (HOOKLINE_INGEST, format!("ingest-{place}")),
            Half::Worker => (HOOKLINE_WORKER, format!("worker-{place}")),
        };
        let mut command = self.commands.of(name, arguments);
        if !self.store.is_empty() {
            command.env("HOOKLINE__DATA_DIR", self.dir.path().join(data));
        }
        command.envs(environment.iter().copied());
        if let Some(files) = self.files.filter(|_| half == Half::Ingest) {
            command = starting::limited(&command, files);
        }
        command
    }

    /// Kills a process with `kill -9`.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill(&mut self, half: Half, place: usize) {
        let part = self.take(half, place);
        let ended = part.process.kill().await;
        self.keep(&ended);
    }

    /// Sends SIGTERM to a process and returns its exit code.
    ///
    /// # Panics
    /// If it does not end within its grace.
    pub async fn stop(&mut self, half: Half, place: usize) -> Option<i32> {
        let part = self.take(half, place);
        part.process.terminate();
        self.ended(part, ENDS_WITHIN).await
    }

    /// Waits until a process ends by itself, at a crash point, and returns its exit code.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn dies(&mut self, half: Half, place: usize) -> Option<i32> {
        let part = self.take(half, place);
        self.ended(part, crate::DEADLINE).await
    }

    async fn ended(&mut self, part: Part, within: Duration) -> Option<i32> {
        let ended = part.process.ended(within).await;
        self.keep(&ended);
        ended.code
    }

    fn keep(&mut self, ended: &Ran) {
        self.written.extend([ended.stdout.clone(), ended.stderr.clone()]);
    }

    /// Returns a running process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn part(&self, half: Half, place: usize) -> &Part {
        let places = match half {
            Half::Ingest => &self.ingests,
            Half::Worker => &self.workers,
        };
        places[place].as_ref().expect("it runs")
    }

    /// Returns the running processes.
    pub fn parts(&self, half: Half) -> impl Iterator<Item = &Part> {
        let places = match half {
            Half::Ingest => &self.ingests,
            Half::Worker => &self.workers,
        };
        places.iter().flatten()
    }

    /// Runs `hookline` to its end.
    pub async fn cli(&self, arguments: &[&str]) -> Ran {
        self.commands.cli(arguments).await
    }

    /// Writes a program that runs `hookline` with this deployment's configuration.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_command(&self, directory: &Path) {
        let path = directory.join("hookline");
        let program = crate::binaries::binary(crate::binaries::HOOKLINE);
        let text = format!(
            "#!/bin/sh\nexec env -i {} --config '{}' \"$@\"\n",
            program.display(),
            self.commands.config().display()
        );
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our own file");
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

    /// Runs `rabbitmqctl` in this deployment's virtual host, at a running node.
    ///
    /// # Panics
    /// If it fails, or no node runs.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        self.node().ctl(arguments).await
    }

    fn node(&self) -> &RabbitNode {
        self.nodes.iter().find(|node| node.runs()).expect("a node runs")
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn places(&mut self, half: Half) -> &mut Vec<Option<Part>> {
        match half {
            Half::Ingest => &mut self.ingests,
            Half::Worker => &mut self.workers,
        }
    }

    fn take(&mut self, half: Half, place: usize) -> Part {
        let part = self.places(half)[place].take().expect("it runs");
        if half == Half::Ingest {
            self.point_senders();
        }
        part
    }

    fn point_senders(&self) {
        let urls: Vec<String> = self.parts(Half::Ingest).filter_map(|part| part.webhooks.clone()).collect();
        // With no ingest running, posts go on to the previous address, because a sender does not know.
        if let Some(first) = urls.first() {
            self.sandbox.set_webhook(WebhookTarget { url: first.clone(), secret: SECRET.to_owned() });
            self.sender.goes_to_all(&urls);
        }
    }
}

/// Prints the last output of each process if the test fails.
impl Drop for Deployment<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in self.nodes {
            eprintln!("{}, its log's end:\n{}", node.name(), node.log());
        }
        for (half, places) in [("ingest", &self.ingests), ("worker", &self.workers)] {
            for (place, part) in places.iter().enumerate() {
                let lines = part.as_ref().map(|part| part.process.stderr()).unwrap_or_default();
                eprintln!("{half} {place}, its last lines of {}:", lines.len());
                lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).for_each(|line| eprintln!("  {line}"));
            }
        }
    }
}
