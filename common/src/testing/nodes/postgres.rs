//! PostgreSQL. `fsync` stays on, because tests of durability rely on it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::ports::free_port;
use super::root::{Server, folder};
use super::{PATH, tail, wait_for};

/// A server with its data in its own folder. Ended when dropped.
pub struct PostgresNode {
    port: u16,
    server: Server,
    databases: AtomicU32,
}

impl PostgresNode {
    /// Starts a new server and waits until it is up.
    ///
    /// # Panics
    /// If the server does not start; the message has the end of its log.
    pub async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let folder = folder(&format!("postgres-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let node = Self { port: free_port(), server: Server::new(folder), databases: AtomicU32::new(0) };
        node.make().await;
        node.up().await;
        node
    }

    /// The server that the tests of this process share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PostgresNode> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    async fn make(&self) {
        let data = self.data();
        let mut owned = std::process::Command::new("install");
        owned.arg("-d").arg(&data);
        if is_root() {
            owned.args(["-o", USER, "-g", GROUP]);
        }
        assert!(owned.status().expect("install runs").success(), "{} cannot be made", data.display());
        let mut initdb = as_user(&[&bin().join("initdb").display().to_string()]);
        initdb.extend(
            ["-U", "hookline", "-A", "trust", "-E", "UTF8", "--no-instructions", "--no-sync", "-D"].map(str::to_owned),
        );
        initdb.push(data.display().to_string());
        let mut command = Command::new(&initdb[0]);
        command.args(&initdb[1..]).current_dir("/").env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
        let ran = command.kill_on_drop(true).output().await.expect("initdb runs");
        assert!(ran.status.success(), "initdb: {}", String::from_utf8_lossy(&ran.stderr));
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The `postgres://…` URL of the server's database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://hookline@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates a database for one test; returns its `postgres://…` URL.
    ///
    /// # Panics
    /// If the server is down.
    pub async fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let url = url::Url::parse(&self.url()).expect("a URL");
        let mut connection = sqlx::postgres::PgConnectOptions::from_url(&url).expect("options").connect().await;
        let connection = connection.as_mut().expect("the server is there");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"));
        connection.execute(sqlx::raw_sql(create)).await.expect("a new database");
        self.url_of(&name)
    }

    /// Starts the server with the data and port that it had before.
    ///
    /// # Panics
    /// If the server runs already, or does not start; the message has the end of its log.
    pub async fn up(&self) {
        let mut postgres = as_user(&[&bin().join("postgres").display().to_string()]);
        let data = self.data();
        postgres.extend(["-D".to_owned(), data.display().to_string(), "-p".to_owned(), self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"] {
            postgres.extend(["-c".to_owned(), setting.to_owned()]);
        }
        self.server.start(&postgres, []);
        // After a kill, the old server's children hold its shared memory until they notice, so we retry.
        let status = data.join("postmaster.pid");
        let started = wait_for(|| {
            if !self.server.runs() {
                if !self.log().contains("shared memory") {
                    return Some(false);
                }
                self.server.start(&postgres, []);
            }
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let mut lines = status.lines();
            // The file of a killed server says "ready" too.
            let is_its = lines.next().and_then(|pid| pid.parse().ok()) == self.server.pid();
            (is_its && lines.nth(6).is_some_and(|state| state.trim() == "ready")).then_some(true)
        });
        assert_eq!(started.await, Some(true), "PostgreSQL did not start:\n{}", self.log());
    }

    /// Crashes the server: SIGKILL of the first process; the others notice and end.
    pub async fn kill(&self) {
        self.server.end(Signal::KILL).await;
    }

    /// Stops the server fast and cleanly.
    pub async fn stop(&self) {
        self.server.end(Signal::INT).await;
    }

    fn data(&self) -> PathBuf {
        self.server.folder().join("data")
    }

    fn log(&self) -> String {
        tail(&self.server.folder().join("console.log"))
    }
}

impl Drop for PostgresNode {
    fn drop(&mut self) {
        self.server.discard(Signal::QUIT);
    }
}

/// The user of the server and initdb, which refuse to run as root.
const USER: &str = "nobody";
const GROUP: &str = "nogroup";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_user(command: &[&str]) -> Vec<String> {
    let change = ["setpriv", "--reuid", USER, "--regid", GROUP, "--clear-groups"];
    let change = if is_root() { &change[..] } else { &[] };
    change.iter().chain(command).map(|&word| word.to_owned()).collect()
}

/// The folder of the newest version; Debian keeps versions apart.
fn bin() -> PathBuf {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| version(path));
    newest.expect("PostgreSQL is not installed; ./scripts/test installs Debian's postgresql").join("bin")
}
