//! The spool's file and disk: an ingest that dies while it writes, a file that was damaged, a disk that is full or fails.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hookline_common::testing::nodes::RabbitNode;
use hookline_e2e::{Deployment, Half, Load, eventually, preload, send_all};

use crate::brokers::connected;
use crate::{Fault, accepted, full, seed};

/// The directory of the first ingest.
fn data(all_in_one: &Deployment<'_>) -> PathBuf {
    all_in_one.dir().join("ingest-0")
}

/// Adds half of a frame to the log: what a crash leaves of a commit that it cut off.
fn tear(log: &Path) {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let bytes = std::fs::read(log).expect("the log of a spool that was not closed");
    let page = u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
    let frame = &bytes[HEADER..][..FRAME_HEADER + page];
    let mut file = std::fs::OpenOptions::new().append(true).open(log).expect("a log");
    file.write_all(&frame[..frame.len() / 2]).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_an_ingest_that_dies_in_a_spool_commit_opens_a_torn_log_and_forwards_all_it_answered() {
    let fault = Fault::new("F22", "ingest dies in a spool commit, torn log; then a damaged file");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), full(150, 600), full(15, 60), &all_in_one.sandbox);
    let parts = load.parts(3);
    send_all(&all_in_one.sender, parts[0]).await;
    all_in_one.stop(Half::Ingest, 0).await;
    nodes[0].stop().await;

    all_in_one.put(Half::Ingest, 0, &[("HOOKLINE_TEST_ABORT_AT", "spool.committing:10")]).await;
    let sender = all_in_one.sender.clone();
    tokio::join!(send_all(&sender, parts[1]), async {
        assert_eq!(all_in_one.dies(Half::Ingest, 0).await, None, "it is aborted in a commit");
        tear(&data(&all_in_one).join("spool.db-wal"));
        all_in_one.put(Half::Ingest, 0, &[]).await;
    });
    let spooled = all_in_one.spooled().await;

    // A file that cannot be read is told, and nothing is accepted beside it.
    all_in_one.stop(Half::Ingest, 0).await;
    let spool = data(&all_in_one).join("spool.db");
    assert!(!data(&all_in_one).join("spool.db-wal").exists(), "a closed spool has no log, which could hide the damage");
    let whole = std::fs::read(&spool).expect("a closed spool");
    let mut damaged = whole.clone();
    damaged[..16].fill(0xff);
    std::fs::write(&spool, damaged).expect("written");
    let refused = all_in_one.does_not_start(Half::Ingest, 0).await;
    std::fs::write(&spool, whole).expect("written");
    all_in_one.put(Half::Ingest, 0, &[]).await;
    nodes[0].up().await;
    let recovered = connected(&all_in_one).await;
    send_all(&all_in_one.sender, parts[2]).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert!(spooled > 0, "what it answered is in the spool");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("spool.db"), "it names the file: {}", refused.stderr);
    assert_eq!(all_in_one.sender.statuses(), [200].into(), "{:?}", all_in_one.sender.answers());
    fault.survived(tally, Some(recovered));
}

/// A file system of its own; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// # Errors
    /// Says why this machine has none.
    fn at(path: &Path, megabytes: u32) -> Result<Self, String> {
        std::fs::create_dir_all(path).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=0700"), "tmpfs"]).arg(path);
        match mount.output() {
            Ok(ran) if ran.status.success() => Ok(Self(path.to_owned())),
            Ok(ran) => Err(format!("no file system: {}", String::from_utf8_lossy(&ran.stderr).trim())),
            Err(error) => Err(format!("no file system: {error}")),
        }
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = std::fs::File::create(&ballast).expect("a file");
        for size in [64 * 1024, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was just killed may still have files there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

const FULL: Duration = Duration::from_secs(5);

/// Waits until nothing was accepted for [`FULL`] while webhooks were refused, and returns how many were until then. A full
/// disk refuses large webhooks first: a small one may still fit, and SQLite's log may begin anew in the room it has.
async fn stops(all_in_one: &Deployment<'_>) -> usize {
    let stand = || (all_in_one.sender.accepted().len(), all_in_one.sender.answers().get(&503).copied());
    eventually("no webhook is accepted any more", async || {
        let (accepted, refused) = stand();
        tokio::time::sleep(FULL).await;
        let after = stand();
        (after.0 == accepted && after.1 > refused).then_some(accepted)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn f23_with_the_spools_disk_full_webhooks_get_503_until_there_is_room() {
    let fault = Fault::new("F23", "spool disk full for 5 s, broker away");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    let disk = match SmallDisk::at(&data(&all_in_one), 8) {
        Ok(disk) => disk,
        Err(why) => return fault.not_run(&why),
    };
    all_in_one.start(1, 1, "").await;
    let load = Load::mixed(seed(), full(150, 600), full(15, 60), &all_in_one.sandbox);
    let parts = load.parts(2);
    nodes[0].stop().await;
    send_all(&all_in_one.sender, parts[0]).await;

    let ballast = disk.fill();
    let (recovered, ()) = tokio::join!(
        async {
            let stored = stops(&all_in_one).await;
            let (ready, why) = all_in_one.part(Half::Ingest, 0).admin("/readyz").await;
            assert_eq!(ready, 503, "{why}");
            std::fs::remove_file(ballast).expect("there is room again");
            let room = std::time::Instant::now();
            accepted(&all_in_one, stored + 1).await;
            room.elapsed()
        },
        send_all(&all_in_one.sender, parts[1])
    );
    eventually("it is ready again", async || {
        (all_in_one.part(Half::Ingest, 0).admin("/readyz").await.0 == 200).then_some(())
    })
    .await;
    nodes[0].up().await;
    connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    assert!(all_in_one.sender.statuses().is_subset(&[200, 503].into()), "{:?}", all_in_one.sender.answers());
    assert_eq!(all_in_one.sender.codes(), ["not_durable".to_owned()].into());
    drop(disk);
    fault.survived(tally, Some(recovered));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full lane: scripts/faults"]
async fn f23_an_ingest_whose_disk_fails_to_sync_ends_and_has_answered_nothing_that_is_lost() {
    let fault = Fault::new("F23", "fsync of the spool fails with EIO, broker away");
    let nodes = [RabbitNode::start().await];
    let mut all_in_one = Deployment::on(&nodes).await;
    all_in_one.start(0, 1, "").await;
    let (library, fails) = (preload("failing_sync"), all_in_one.dir().join("sync-fails"));
    let preloaded = [("LD_PRELOAD", library.as_str()), ("SYNC_FAILS", fails.to_str().expect("a text"))];
    all_in_one.add(Half::Ingest, &preloaded).await;
    let load = Load::mixed(seed(), full(100, 600), full(10, 60), &all_in_one.sandbox);
    let parts = load.parts(2);
    nodes[0].stop().await;
    send_all(&all_in_one.sender, parts[0]).await;

    let sender = all_in_one.sender.clone();
    tokio::join!(send_all(&sender, parts[1]), async {
        std::fs::write(&fails, "").expect("written");
        let code = all_in_one.dies(Half::Ingest, 0).await;
        assert_eq!(code, Some(1), "it ends by itself: the disk cannot be trusted");
        std::fs::remove_file(&fails).expect("the disk is well");
        all_in_one.put(Half::Ingest, 0, &[]).await;
    });
    nodes[0].up().await;
    let recovered = connected(&all_in_one).await;
    let tally = all_in_one.holds(&load, 0).await;

    let told = all_in_one.written.iter().flat_map(|text| text.lines()).any(|line| line.contains("disk I/O error"));
    assert!(told, "it says why");
    assert!(all_in_one.sender.statuses().is_subset(&[200, 503].into()), "{:?}", all_in_one.sender.answers());
    fault.survived(tally, Some(recovered));
}
