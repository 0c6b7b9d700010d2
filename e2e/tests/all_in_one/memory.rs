//! Memory that strangers take: bounded while they are here, and given back when they have gone.

use std::time::Duration;

use futures::future::join_all;
use hookline_e2e::{ACCOUNT, AllInOne, eventually};
use hookline_sandbox::samples::{SampleFacts, sample};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const STRANGERS: usize = 400;
const BODY: usize = 1 << 20;
const MIB: u64 = 1 << 20;

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Sends all of a body but its last byte, again and again, until it is aborted.
async fn stranger(address: String) {
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
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_large_bodies_shut_nobody_out_and_their_memory_is_given_back() {
    let all_in_one = AllInOne::start().await;
    let running = all_in_one.run().await;
    let pid = running.process.id();
    let before = resident(pid);
    let address = running.webhooks.trim_start_matches("http://").trim_end_matches("/webhooks/textus").to_owned();
    let strangers: Vec<_> = (0..STRANGERS).map(|_| tokio::spawn(stranger(address.clone()))).collect();
    eventually("they take memory", async || (resident(pid) > before + 16 * MIB).then_some(())).await;

    for _ in 0..30 {
        let body = sample("contact.opted_out", &SampleFacts::random(ACCOUNT)).to_string();
        let answer = all_in_one.sender.post(body.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
    join_all(strangers).await;

    eventually("what they took is given back", async || (resident(pid) < before + 50 * MIB).then_some(())).await;
    assert_eq!(running.stop().await.code, Some(0));
}
