//! Network namespaces, so that a test can part the nodes of a cluster. Each node and the test process have a cable to
//! each other, which is a pair of interfaces. A namespace belongs to its epmd: when that ends, the namespace and its
//! cables are gone. Needs root.

use std::net::Ipv4Addr;
use std::sync::OnceLock;

use rustix::process::Signal;
use tokio::process::Command;

use super::root::{Server, folder, root};
use super::{PATH, tail, wait_for};

/// The first bytes of all addresses: a network for measurements, which no machine really has (RFC 2544).
const NETWORK: [u8; 2] = [198, 18];
/// The test process's end of the cable to node 1 has this plus 1 as its last byte.
const OUR_END: u8 = 100;
/// What a frame is sent to that must not arrive: a station that is on no cable.
const NO_STATION: &str = "02:00:00:00:00:0f";

/// Why no node of this machine can have a network of its own; `None` if it can.
pub(super) fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let mut tried = std::process::Command::new("unshare");
    tried.args(["--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"]).env("PATH", PATH);
    match tried.output() {
        Ok(ran) if ran.status.success() => None,
        Ok(ran) => Some(format!("no network namespace: {}", String::from_utf8_lossy(&ran.stderr).trim())),
        Err(error) => Some(format!("no network namespace: {error}")),
    }
}

/// A node's network, with an epmd.
pub(super) struct Island {
    /// The node's number in its cluster, from 1.
    number: u8,
    epmd: Server,
}

impl Island {
    /// Makes a namespace for each of these nodes, and all cables.
    pub(super) async fn group(names: &[String], epmd_port: u16) -> Vec<Self> {
        let mut islands = Vec::new();
        for (name, number) in names.iter().zip(1..) {
            let epmd = Server::new(folder(&format!("epmd-{name}")));
            let start = format!("ip link set lo up && exec epmd -port {epmd_port}");
            let home = [("HOME", root().join("home").display().to_string())];
            epmd.start(["unshare", "--net", "sh", "-c", &start], home);
            islands.push(Self { number, epmd });
        }
        let hosts: String = islands
            .iter()
            .zip(names)
            .map(|(island, name)| {
                let [a, b, c, d] = island.address().octets();
                format!("{{host, {{{a},{b},{c},{d}}}, [\"{name}\"]}}.\n")
            })
            .collect();
        for (index, island) in islands.iter().enumerate() {
            std::fs::write(island.hosts(), format!("{{lookup, [file, native]}}.\n{hosts}")).expect("written");
            // epmd listens only after the shell has left our own network.
            let runs = wait_for(|| std::fs::read(island.proc("comm")).ok().filter(|name| name == b"epmd\n"));
            assert!(runs.await.is_some(), "no epmd: {}", tail(&island.epmd.folder().join("console.log")));
            island.ip(&format!("addr add {}/32 dev lo", island.address())).await;
            island.connect_us().await;
            for other in &islands[..index] {
                island.connect(other).await;
            }
        }
        islands
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        address(self.number)
    }

    /// The file that tells Erlang the nodes' names.
    pub(super) fn hosts(&self) -> std::path::PathBuf {
        self.epmd.folder().join("inetrc")
    }

    /// The words before a command that runs it in here.
    pub(super) fn inside(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net={}", self.proc("ns/net"))]
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.epmd.pid().expect("it runs"))
    }

    async fn connect_us(&self) {
        let (ours, its) = (address(OUR_END + self.number), self.address());
        let (cable, pid) = (format!("hookline{}-{}", third(), self.number), self.epmd.pid().expect("it runs"));
        run(&[], &format!("link add {cable} type veth peer name us netns {pid}")).await;
        run(&[], &format!("addr add {ours}/32 dev {cable}")).await;
        run(&[], &format!("link set {cable} up")).await;
        self.ip("link set us up").await;
        run(&[], &format!("route add {its}/32 dev {cable} src {ours}")).await;
        self.ip(&format!("route add {ours}/32 dev us src {its}")).await;
    }

    async fn connect(&self, other: &Self) {
        let pid = other.epmd.pid().expect("it runs");
        self.ip(&format!("link add {} type veth peer name {} netns {pid}", other.cable(), self.cable())).await;
        for (one, two) in [(self, other), (other, self)] {
            one.ip(&format!("link set {} up", two.cable())).await;
            one.ip(&format!("route add {}/32 dev {} src {}", two.address(), two.cable(), one.address())).await;
        }
    }

    /// The name of a cable to this node, at another one.
    fn cable(&self) -> String {
        format!("node{}", self.number)
    }

    /// From now on nothing arrives between the two, and nobody is told: no interface goes down, no connection ends.
    pub(super) async fn part(&self, other: &Self) {
        for (one, two) in [(self, other), (other, self)] {
            let lost = format!("neigh replace {} lladdr {NO_STATION} dev {} nud permanent", two.address(), two.cable());
            one.ip(&lost).await;
        }
    }

    pub(super) async fn join(&self, other: &Self) {
        for (one, two) in [(self, other), (other, self)] {
            one.ip(&format!("neigh del {} dev {}", two.address(), two.cable())).await;
        }
    }

    async fn ip(&self, arguments: &str) {
        run(&self.inside(), arguments).await;
    }

    pub(super) fn discard(&self) {
        self.epmd.discard(Signal::KILL);
    }
}

async fn run(inside: &[String], arguments: &str) {
    let words: Vec<&str> = inside.iter().map(String::as_str).chain(["ip"]).chain(arguments.split(' ')).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().env("PATH", PATH).kill_on_drop(true);
    let ran = command.output().await.expect("ip runs");
    assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(NETWORK[0], NETWORK[1], third(), last)
}

/// Drawn once, so that the networks of two test processes differ.
fn third() -> u8 {
    static THIRD: OnceLock<u8> = OnceLock::new();
    *THIRD.get_or_init(rand::random)
}
