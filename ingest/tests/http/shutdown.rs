//! Shutdown: requests in flight are finished, and no new ones are accepted.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::helpers::{Behaviour, DEADLINE, FaultyBroker, TestIngest, eventually, read_to_end, sign};

#[tokio::test]
async fn a_request_in_flight_is_answered_and_no_new_one_taken() {
    let mut ingest = TestIngest::start().await;
    let mut connection = ingest.begin(&sign(b"in flight"), "in flight".len()).await;
    let mut idle = ingest.connect().await;
    assert_eq!(ingest.send_signed(b"before").await.status, 200);

    ingest.shutdown.cancel();
    eventually("no new connection", async || TcpStream::connect(ingest.addr).await.is_err()).await;
    connection.write_all(b"in flight").await.unwrap();
    let answer = read_to_end(&mut connection).await;

    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(read_to_end(&mut idle).await, "", "an idle connection is closed");
    tokio::time::timeout(DEADLINE, ingest.ended()).await.expect("ends").expect("in order");
    assert_eq!(ingest.stored().await.len(), 2);
}

#[tokio::test]
async fn what_does_not_finish_is_cut_off_after_the_grace() {
    let broker = FaultyBroker::new(Behaviour::Hang);
    let mut ingest = TestIngest::with_broker(broker.clone(), |settings| {
        settings.shutdown_grace = Duration::from_secs(1);
        settings.ingest.request_timeout = Duration::from_secs(60);
    })
    .await;
    let mut connection = ingest.connect().await;
    let request = format!(
        "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\nx-textus-signature: {}\r\ncontent-length: 2\r\n\r\n{{}}",
        sign(b"{}")
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    eventually("the broker is asked", async || broker.asked() == 1).await;

    let started = Instant::now();
    ingest.shutdown.cancel();
    tokio::time::timeout(DEADLINE, ingest.ended()).await.expect("ends").expect("in order");

    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
