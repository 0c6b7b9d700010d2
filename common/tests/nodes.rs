//! Private nodes end with the test process that started them, even if that process can run no more code.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookline_common::testing::nodes::{PostgresNode, RabbitNode, root};

/// The code of the other process; not a test of its own.
#[tokio::test]
#[ignore = "run by nodes_and_their_folder_end_with_a_killed_process"]
async fn holds_nodes() {
    let (rabbit, postgres) = tokio::join!(RabbitNode::start(), PostgresNode::start());
    rabbit.vhost().await;
    postgres.database().await;
    println!("\nnodes in {}", root().display());
    std::future::pending::<()>().await;
}

#[test]
fn nodes_and_their_folder_end_with_a_killed_process() {
    let mut other = Command::new(std::env::current_exe().unwrap());
    other.args(["--exact", "holds_nodes", "--ignored", "--nocapture"]).stdout(Stdio::piped());
    let mut other = other.spawn().unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines().map(Result::unwrap);
    let folder = lines.find_map(|line| line.strip_prefix("nodes in ").map(PathBuf::from)).expect("nodes start");
    let pids = pids(&folder);
    assert_eq!(pids.len(), 3, "RabbitMQ, PostgreSQL and epmd run");

    other.kill().unwrap();
    other.wait().unwrap();

    let deadline = Instant::now() + Duration::from_secs(60);
    while folder.exists() || pids.iter().any(|pid| Path::new("/proc").join(pid).exists()) {
        assert!(Instant::now() < deadline, "still there: {} or one of {pids:?}", folder.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pids(folder: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    folders.filter_map(|folder| Some(std::fs::read_to_string(folder.join("pid")).ok()?.trim().to_owned())).collect()
}
