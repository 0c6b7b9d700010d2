//! RabbitMQ without plugins, with the `advanced.config` that we ship.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::island::{self, Island};
use super::ports::{free_port, free_ports};
use super::root::{Server, folder, root};
use super::{PATH, tail, wait_for};

const SHIPPED: &str = include_str!("../../../../deploy/rabbitmq/advanced.config");
/// How many distribution ports rabbitmqctl may use: it is an Erlang node too, and several may run at a time.
const CTL_PORTS: u16 = 40;

/// A node with its data in its own folder. Killed when dropped.
pub struct RabbitNode {
    name: String,
    port: u16,
    distribution: u16,
    server: Server,
    vhosts: AtomicU32,
    /// Its own network; without one it is on loopback, as the others are.
    island: Option<Island>,
}

impl RabbitNode {
    /// Starts a new node and waits until it is up.
    ///
    /// # Panics
    /// If the node does not boot; the message has the end of its log.
    pub async fn start() -> Self {
        let node = Self::make(&[new_name()], Vec::new()).remove(0);
        node.up().await;
        node
    }

    /// The node that the tests of this process share.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<RabbitNode> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// Starts three nodes in one cluster, with no queue declared yet.
    ///
    /// # Panics
    /// If the nodes do not boot or do not find each other.
    pub async fn cluster() -> [Self; 3] {
        Self::join(Self::make(&[new_name(), new_name(), new_name()], Vec::new())).await
    }

    /// Like [`Self::cluster`], with a network for each node, so that [`Self::part_from`] can part them. A node that sees
    /// no majority pauses.
    ///
    /// # Errors
    /// Says why this machine cannot have such networks.
    ///
    /// # Panics
    /// If the nodes do not boot or do not find each other.
    pub async fn cluster_apart() -> Result<[Self; 3], String> {
        if let Some(why) = island::unavailable() {
            return Err(why);
        }
        let names = [new_name(), new_name(), new_name()];
        let islands = Island::group(&names, epmd_of_ours().port).await;
        Ok(Self::join(Self::make(&names, islands)).await)
    }

    async fn join(nodes: Vec<Self>) -> [Self; 3] {
        futures::future::join_all(nodes.iter().map(Self::up)).await;
        for node in &nodes {
            let joined = node.ctl(&["eval", "length(rabbit_nodes:all_running())."]).await;
            assert_eq!(joined.trim(), "3", "{} sees the cluster", node.name);
        }
        nodes.try_into().unwrap_or_else(|_| unreachable!("three were made"))
    }

    fn make(names: &[String], islands: Vec<Island>) -> Vec<Self> {
        let make = |(name, island): (&String, Option<Island>)| {
            let server = Server::new(folder(&format!("rabbit-{name}")));
            let (port, distribution) = (free_port(), free_port());
            Self { name: name.clone(), port, distribution, server, vhosts: AtomicU32::new(0), island }
        };
        let islands = islands.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let nodes: Vec<Self> = names.iter().zip(islands).map(make).collect();
        let all: Vec<String> = nodes.iter().map(Self::name).collect();
        for node in &nodes {
            let mut conf = format!(
                "listeners.tcp.1 = {}:{}\nloopback_users.guest = true\nvm_memory_high_watermark.relative = 0.4\n\
                 disk_free_limit.absolute = 500MB\nlog.console = false\nlog.file.level = warning\n",
                node.address(),
                node.port
            );
            if names.len() > 1 {
                conf.push_str("cluster_formation.peer_discovery_backend = classic_config\n");
                for (name, number) in all.iter().zip(1..) {
                    conf.push_str(&format!("cluster_formation.classic_config.nodes.{number} = {name}\n"));
                }
            }
            if node.island.is_some() {
                conf.push_str("cluster_partition_handling = pause_minority\n");
            }
            node.write("rabbitmq.conf", &conf);
            node.write("advanced.config", SHIPPED);
            node.write("enabled_plugins", "[].");
        }
        nodes
    }

    /// The node's name in the cluster: `n1@localhost`, or `n1@n1` in a network of its own.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}@{}", self.name, self.island.as_ref().map_or("localhost", |_| &self.name))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.island.as_ref().map_or(Ipv4Addr::LOCALHOST, Island::address).into()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The `amqp://…` URL of the node's virtual host `/`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("%2f")
    }

    /// The `amqp://…` URL of a virtual host of this node's cluster.
    #[must_use]
    pub fn url_of(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@{}:{}/{vhost}", self.address(), self.port)
    }

    /// Creates a virtual host for one test; returns its `amqp://…` URL.
    pub async fn vhost(&self) -> String {
        self.url_of(&self.new_vhost().await)
    }

    /// Creates a virtual host; returns its name.
    pub async fn new_vhost(&self) -> String {
        // The name includes the node's, because the counters of two nodes in a cluster would collide.
        let vhost = format!("{}-{}", self.name, self.vhosts.fetch_add(1, Ordering::Relaxed));
        self.ctl(&["eval", &format!(
            "ok = rabbit_vhost:add(<<\"{vhost}\">>, <<\"tests\">>), ok = rabbit_auth_backend_internal:set_permissions(\
             <<\"guest\">>, <<\"{vhost}\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"tests\">>)."
        )])
        .await;
        vhost
    }

    /// Starts the node with the data and ports that it had before.
    ///
    /// # Panics
    /// If the node runs already, or does not boot; the message has the end of its log.
    pub async fn up(&self) {
        epmd().await;
        let mut command = self.inside();
        command.extend([sbin().join("rabbitmq-server").display().to_string(), "-noinput".to_owned()]);
        self.server.start(command, self.environment());
        // We wait for the log line, because the port opens before the boot has ended.
        let booted = wait_for(|| {
            let console = std::fs::read_to_string(self.server.folder().join("console.log")).unwrap_or_default();
            (console.contains(" completed with ") || !self.server.runs()).then(|| self.server.runs())
        });
        if booted.await != Some(true) {
            panic!("{} did not boot:\n{}\n{}", self.name, tail(&self.server.folder().join("console.log")), self.log());
        }
    }

    /// The end of the node's log.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.server.folder().join(format!("log/{}.log", self.name())))
    }

    /// Whether the node's process runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.server.runs()
    }

    /// Crashes the node (SIGKILL).
    pub async fn kill(&self) {
        self.server.end(Signal::KILL).await;
    }

    /// Stops the node cleanly, which informs its clients.
    pub async fn stop(&self) {
        self.server.end(Signal::TERM).await;
    }

    /// Suspends the process (SIGSTOP) until [`Self::thaw`]: connections stay open, but nothing is answered.
    pub fn freeze(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Resumes the process after [`Self::freeze`].
    pub fn thaw(&self) {
        self.server.signal(Signal::CONT);
    }

    /// Parts the node from these: nothing arrives between them, whatever is sent. Clients reach all of them.
    ///
    /// # Panics
    /// If they are not of one [`Self::cluster_apart`].
    pub async fn part_from(&self, others: &[&Self]) {
        for other in others {
            self.island().part(other.island()).await;
        }
    }

    /// Ends what [`Self::part_from`] began.
    ///
    /// # Panics
    /// If they were not parted.
    pub async fn join_with(&self, others: &[&Self]) {
        for other in others {
            self.island().join(other.island()).await;
        }
    }

    fn island(&self) -> &Island {
        self.island.as_ref().expect("a node with a network of its own")
    }

    /// Runs `rabbitmqctl` and returns what it prints.
    ///
    /// # Panics
    /// If the command fails; the message has its output.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments)
            .await
            .unwrap_or_else(|error| panic!("rabbitmqctl {arguments:?} at {}: {error}", self.name))
    }

    /// Like [`Self::ctl`].
    ///
    /// # Errors
    /// Returns the output of a command that fails.
    ///
    /// # Panics
    /// If there is no `rabbitmqctl`.
    pub async fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        epmd().await;
        let mut words = self.inside();
        words.push(sbin().join("rabbitmqctl").display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["-q", "-n", &self.name()]).args(arguments).env_clear().env("PATH", PATH);
        command.env("LC_ALL", "C.UTF-8").envs(self.erlang()).kill_on_drop(true);
        let ran = command.output().await.expect("rabbitmqctl runs");
        let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
        if ran.status.success() { Ok(stdout) } else { Err(stdout + &String::from_utf8_lossy(&ran.stderr)) }
    }

    /// Writes RabbitMQ's commands into a directory, each as a program that talks to this node.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn write_commands(&self, directory: &Path) {
        for name in ["rabbitmqctl", "rabbitmq-plugins"] {
            let environment =
                self.environment().into_iter().map(|(key, value)| format!("{key}='{value}' ")).collect::<String>();
            let (inside, program) = (self.inside().join(" "), sbin().join(name));
            let text = format!(
                "#!/bin/sh\nexec env -i PATH='{PATH}' LC_ALL=C.UTF-8 {environment}{inside} {} -n {} \"$@\"\n",
                program.display(),
                self.name()
            );
            let path = directory.join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our own file");
        }
    }

    /// The words before a command of this node.
    fn inside(&self) -> Vec<String> {
        self.island.as_ref().map_or_else(Vec::new, |island| island.inside().to_vec())
    }

    fn erlang(&self) -> Vec<(&'static str, String)> {
        let mut environment = erlang();
        environment.extend(self.island.as_ref().map(|island| ("ERL_INETRC", island.hosts().display().to_string())));
        environment
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.server.folder().join(name).display().to_string();
        let mut environment = self.erlang();
        environment.extend([
            ("RABBITMQ_NODENAME", self.name()),
            ("RABBITMQ_NODE_IP_ADDRESS", self.address().to_string()),
            ("RABBITMQ_NODE_PORT", self.port.to_string()),
            ("RABBITMQ_DIST_PORT", self.distribution.to_string()),
            ("RABBITMQ_MNESIA_BASE", path("mnesia")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", path("generated")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins")),
            // This makes the script become the node instead of watching over it, so that there is one process to end.
            ("RABBITMQ_ALLOW_INPUT", "1".to_owned()),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                // The node starts no epmd but ours, and does not spin, because other tests need the cores.
                format!("{} -start_epmd false +sbwt none +sbwtdcpu none +sbwtdio none", self.interface()),
            ),
        ]);
        environment
    }

    /// Where the node talks to its cluster. With a network of its own it notices in seconds that another one is gone, in
    /// place of a minute.
    fn interface(&self) -> String {
        let Some(island) = &self.island else { return LOOPBACK.to_owned() };
        let [a, b, c, d] = island.address().octets();
        format!("-kernel inet_dist_use_interface {{{a},{b},{c},{d}}} net_ticktime 8")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.server.folder().join(name), text).expect("written");
    }
}

impl Drop for RabbitNode {
    fn drop(&mut self) {
        self.server.discard(Signal::KILL);
        if let Some(island) = &self.island {
            island.discard();
        }
    }
}

const LOOPBACK: &str = "-kernel inet_dist_use_interface {127,0,0,1}";

/// A name that is unique in this process, whose nodes share an epmd.
fn new_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("n{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Debian's `/usr/sbin/rabbitmq-server` changes user and folder and drops the environment; the one in this folder does
/// not.
fn sbin() -> PathBuf {
    let servers = std::fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten().flatten();
    let mut sbins: Vec<PathBuf> =
        servers.map(|server| server.path().join("sbin")).filter(|sbin| sbin.is_dir()).collect();
    sbins.sort();
    sbins.pop().expect("RabbitMQ is not installed; ./scripts/test installs Debian's rabbitmq-server")
}

struct Epmd {
    port: u16,
    ctl: u16,
    server: Server,
}

/// Our own epmd, which ends with us and shares no names with a system node.
fn epmd_of_ours() -> &'static Epmd {
    static EPMD: std::sync::OnceLock<Epmd> = std::sync::OnceLock::new();
    EPMD.get_or_init(|| {
        let home = folder("home");
        // We write the cookie before the first node: nodes that boot side by side would each make one.
        let cookie = home.join(".erlang.cookie");
        std::fs::write(&cookie, format!("{:032X}", rand::random::<u128>())).expect("written");
        let only_ours = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(&cookie, only_ours).expect("our own file");
        let epmd = Epmd { port: free_port(), ctl: free_ports(CTL_PORTS), server: Server::new(folder("epmd")) };
        let port = epmd.port.to_string();
        epmd.server.start(["epmd", "-address", "127.0.0.1", "-port", &port], [("HOME", home.display().to_string())]);
        epmd
    })
}

async fn epmd() {
    let epmd = epmd_of_ours();
    let up = wait_for(|| std::net::TcpStream::connect(("127.0.0.1", epmd.port)).ok()).await;
    assert!(up.is_some(), "epmd did not start: {}", tail(&epmd.server.folder().join("console.log")));
}

/// The environment that nodes and rabbitmqctl share.
fn erlang() -> Vec<(&'static str, String)> {
    let epmd = epmd_of_ours();
    vec![
        ("HOME", root().join("home").display().to_string()),
        // The machine's own file would override ours.
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        // A rabbitmqctl that is killed leaves no file where the tests run.
        ("ERL_CRASH_DUMP_SECONDS", "0".to_owned()),
        ("ERL_EPMD_PORT", epmd.port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_CTL_DIST_PORT_MIN", epmd.ctl.to_string()),
        ("RABBITMQ_CTL_DIST_PORT_MAX", (epmd.ctl + CTL_PORTS - 1).to_string()),
        ("RABBITMQ_CTL_ERL_ARGS", LOOPBACK.to_owned()),
    ]
}
