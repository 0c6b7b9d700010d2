//! Memory that strangers take: bounded while they are here, and given back when they have gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use hookline_e2e::{ACCOUNT, AllInOne, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const STRANGERS: usize = 400;
const BODY: usize = 1 << 20;
const MIB: u64 = 1 << 20;
/// What so many may take together: the half of `max_buffered_bytes` that is for large bodies, 32 MiB, and some 48 KiB for
/// each connection. Of these there may be more than twice as many as strangers, because what they still send is read for a
/// second after the answer: 99 MiB were seen. Unless connections were read in portions, 170 MiB were taken.
const MOST: u64 = 128 * MIB;

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Sends all of a body but its last byte, again and again, until it is aborted; counts how often it was turned away.
async fn stranger(address: String, turned_away: Arc<AtomicUsize>) {
    let head = format!("POST /webhooks/textus HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n");
    let body = vec![b'x'; BODY - 1];
    loop {
        if let Ok(mut stream) = TcpStream::connect(&address).await
            && stream.write_all(head.as_bytes()).await.is_ok()
            && stream.write_all(&body).await.is_ok()
        {
            // Ends when the connection is closed from the other side.
            let _ = stream.read(&mut [0; 512]).await;
        }
        turned_away.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Notes the most memory that a process has, until it is aborted.
async fn watch(pid: u32, most: Arc<AtomicU64>) {
    loop {
        most.fetch_max(resident(pid), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_large_bodies_take_little_memory_shut_nobody_out_and_it_is_given_back() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    let pid = running.process.id();
    let before = resident(pid);
    let address = running.webhooks.trim_start_matches("http://").trim_end_matches("/webhooks/textus").to_owned();
    let (turned_away, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
    let stranger = || tokio::spawn(stranger(address.clone(), Arc::clone(&turned_away)));
    let mut strangers: Vec<_> = (0..STRANGERS).map(|_| stranger()).collect();
    strangers.push(tokio::spawn(watch(pid, Arc::clone(&most))));

    for _ in 0..30 {
        let body = sample("contact.opted_out", &SampleFacts::random(ACCOUNT)).to_string();
        let answer = all_in_one.sender.post(body.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let all_came = async || (turned_away.load(Ordering::Relaxed) > 4 * STRANGERS).then_some(());
    eventually("each was turned away several times", all_came).await;
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
    join_all(strangers).await;

    let took = most.load(Ordering::Relaxed).saturating_sub(before);
    assert!(took < MOST, "{} MiB above the {} MiB before", took / MIB, before / MIB);
    eventually("what they took is given back", async || (resident(pid) < before + 50 * MIB).then_some(())).await;
    assert_eq!(running.stop().await.code, Some(0));
}
