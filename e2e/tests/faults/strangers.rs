//! Clients that are slow, send too much or go away in the middle, beside genuine webhooks.

use std::time::Duration;

use futures::future::join_all;
use hookline_e2e::{ACCOUNT, Deployment, Half, Load, SECRET, send_all};
use hookline_sandbox::samples::{SIGNATURE_HEADER, SampleFacts, sample, sign};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Fault, full, seed, shared_node};

/// `[ingest] request_timeout`; by default 10 s.
const TIMEOUT: Duration = Duration::from_secs(2);
const DRIP: Duration = Duration::from_millis(100);
const BODY_LIMIT: usize = 1024 * 1024;

/// What a client does; all but the first begin with a proper head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    DripsHead,
    DripsBody,
    AnnouncesTooMuch,
    SendsTooMuch,
    GoesAway,
}

const ALL: [Stranger; 5] =
    [Stranger::DripsHead, Stranger::DripsBody, Stranger::AnnouncesTooMuch, Stranger::SendsTooMuch, Stranger::GoesAway];

impl Stranger {
    /// Returns the status that it is answered with, if any.
    async fn comes(self, address: &str) -> Option<u16> {
        let body = sample("contact.opted_out", &SampleFacts::random(ACCOUNT)).to_string();
        // The signature is right: only its slowness or size keeps it out.
        let signed = format!("{SIGNATURE_HEADER}: {}\r\n", sign(SECRET, body.as_bytes()));
        let head = |length: &str| format!("POST /webhooks/textus HTTP/1.1\r\nhost: x\r\n{signed}{length}\r\n\r\n");
        let length = format!("content-length: {}", body.len());
        let mut connection = TcpStream::connect(address).await.ok()?;
        match self {
            Self::DripsHead => drip(&mut connection, head(&length).as_bytes()).await,
            Self::DripsBody => {
                connection.write_all(head(&length).as_bytes()).await.ok()?;
                drip(&mut connection, body.as_bytes()).await;
            }
            Self::AnnouncesTooMuch => {
                let length = format!("content-length: {}", BODY_LIMIT + 1);
                connection.write_all(head(&length).as_bytes()).await.ok()?;
            }
            Self::SendsTooMuch => {
                connection.write_all(head("transfer-encoding: chunked").as_bytes()).await.ok()?;
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
                for _ in 0..BODY_LIMIT / 0x1_0000 + 1 {
                    if connection.write_all(chunk.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
            Self::GoesAway => {
                connection.write_all(head(&length).as_bytes()).await.ok()?;
                connection.write_all(&body.as_bytes()[..body.len() / 2]).await.ok()?;
                return None;
            }
        }
        let mut answer = Vec::new();
        // A reset may follow the answer.
        let _ = tokio::time::timeout(TIMEOUT * 5, connection.read_to_end(&mut answer)).await.expect("it is closed");
        let answer = String::from_utf8_lossy(&answer);
        answer.split(' ').nth(1)?.parse().ok()
    }

    fn may_get(self, status: Option<u16>) -> bool {
        match self {
            Self::DripsHead | Self::DripsBody => status == Some(408),
            Self::AnnouncesTooMuch => status == Some(413),
            // Bodies that are not stored yet have a budget (503). Who still writes may not hear it.
            Self::SendsTooMuch => matches!(status, Some(413 | 503) | None),
            Self::GoesAway => status.is_none(),
        }
    }
}

/// Writes byte by byte, until all is written or nobody reads any more.
async fn drip(connection: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        let mut peek = [0];
        let answered = tokio::time::timeout(DRIP, connection.peek(&mut peek)).await.is_ok();
        if answered || connection.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f34_slow_large_and_broken_requests_are_refused_and_genuine_webhooks_are_not() {
    let fault = Fault::new("F34", "slow-loris head and body, oversize, abort mid-body, beside genuine webhooks");
    let mut all_in_one = Deployment::on(shared_node().await).await;
    all_in_one.set("HOOKLINE__INGEST__REQUEST_TIMEOUT", &format!("{}s", TIMEOUT.as_secs()));
    all_in_one.start(1, 1, "").await;
    let (rounds, each) = (full(2, 10), full(20, 60));
    let load = Load::mixed(seed(), full(200, 2000), full(20, 200), &all_in_one.sandbox);
    let webhooks = all_in_one.part(Half::Ingest, 0).webhooks.clone().expect("an ingest has one");
    let address = webhooks.trim_start_matches("http://").split('/').next().expect("an address");

    for part in load.parts(rounds) {
        let strangers = ALL.iter().flat_map(|stranger| std::iter::repeat_n(*stranger, each));
        let strangers = join_all(strangers.map(async |stranger| (stranger, stranger.comes(address).await)));
        let (answers, ()) = tokio::join!(strangers, send_all(&all_in_one.sender, part));
        for (stranger, status) in answers {
            assert!(stranger.may_get(status), "{stranger:?} got {status:?}");
        }
    }
    // Nothing of theirs was stored: only what was sent is accounted for.
    let tally = all_in_one.holds(&load, 0).await;

    assert_eq!(all_in_one.sender.statuses(), [200].into(), "every genuine webhook is answered 200");
    assert_eq!(all_in_one.sender.unanswered(), 0);
    fault.survived(tally, None);
}
