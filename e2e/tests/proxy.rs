//! The fault proxy does what it says, to both ends.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookline_e2e::{Direction, Proxy, Toxics, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a server has seen of all its connections.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    reads: usize,
    ends: Vec<Option<ErrorKind>>,
}

/// Sends back what it gets.
async fn echo() -> (SocketAddr, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback works");
    let address = listener.local_addr().expect("loopback works");
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&shared);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                let end = loop {
                    match stream.read(&mut buffer).await {
                        Ok(0) => break None,
                        Ok(read) => {
                            {
                                let mut seen = seen.lock().expect("no panic");
                                seen.bytes.extend_from_slice(&buffer[..read]);
                                seen.reads += 1;
                            }
                            // A client that has gone is seen by the next read.
                            let _ = stream.write_all(&buffer[..read]).await;
                        }
                        Err(error) => break Some(error.kind()),
                    }
                };
                seen.lock().expect("no panic").ends.push(end);
            });
        }
    });
    (address, seen)
}

async fn through() -> (Proxy, TcpStream, Arc<Mutex<Seen>>) {
    let (server, seen) = echo().await;
    let proxy = Proxy::start(server, 1).await.expect("loopback works");
    let client = TcpStream::connect(proxy.address()).await.expect("loopback works");
    (proxy, client, seen)
}

async fn round_trip(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = client.split();
    let mut back = vec![0; bytes.len()];
    let (sent, read) = tokio::join!(to.write_all(bytes), from.read_exact(&mut back));
    sent.expect("sent");
    read.expect("read");
    back
}

fn some_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| u8::try_from(index % 251).expect("small")).collect()
}

#[tokio::test]
async fn bytes_and_ends_pass_and_connections_are_counted() {
    let (proxy, mut client, seen) = through().await;
    let bytes = some_bytes(1_000_000);

    assert_eq!(round_trip(&mut client, &bytes).await, bytes);
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    client.shutdown().await.unwrap();

    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the server's end comes back");
    assert_eq!(seen.lock().unwrap().ends, [None]);
    eventually("it is closed", async || (proxy.open() == 0).then_some(())).await;
}

#[tokio::test]
async fn latency_is_added_and_keeps_the_order() {
    let (proxy, mut client, _) = through().await;
    let slow = Toxics { latency: Duration::from_millis(150), jitter: Duration::from_millis(50), ..Toxics::default() };
    proxy.set_both(&slow);
    let bytes = some_bytes(200_000);

    let began = Instant::now();
    let back = round_trip(&mut client, &bytes).await;

    assert_eq!(back, bytes);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}

#[tokio::test]
async fn bandwidth_bounds_one_direction() {
    let (proxy, mut client, _) = through().await;
    proxy.set(Direction::Down, Toxics { bytes_per_second: Some(64 * 1024), ..Toxics::default() });
    let bytes = some_bytes(32 * 1024);

    let began = Instant::now();
    let back = round_trip(&mut client, &bytes).await;

    assert_eq!(back, bytes);
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_black_hole_takes_all_and_gives_it_back_when_it_is_lifted() {
    let (proxy, mut client, seen) = through().await;
    proxy.set(Direction::Down, Toxics { blackhole: true, ..Toxics::default() });

    client.write_all(b"asked").await.unwrap();
    eventually("the server was asked", async || (seen.lock().unwrap().bytes == b"asked").then_some(())).await;
    let mut back = [0; 5];
    let early = tokio::time::timeout(Duration::from_millis(100), client.read_exact(&mut back)).await;
    assert!(early.is_err(), "nothing comes back");
    proxy.heal();

    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"asked");
}

#[tokio::test]
async fn a_reset_is_an_error_to_both_and_the_next_connection_is_well() {
    let (proxy, mut client, seen) = through().await;
    round_trip(&mut client, b"open").await;

    proxy.reset();

    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    eventually("the server saw it", async || {
        (seen.lock().unwrap().ends == [Some(ErrorKind::ConnectionReset)]).then_some(())
    })
    .await;
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut again, b"again").await, b"again");
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn slices_arrive_whole() {
    let (proxy, mut client, seen) = through().await;
    proxy.set(Direction::Up, Toxics { slicer: true, ..Toxics::default() });
    let bytes = some_bytes(20_000);

    assert_eq!(round_trip(&mut client, &bytes).await, bytes);

    assert!(seen.lock().unwrap().reads > 10, "in pieces");
}

#[tokio::test]
async fn a_connection_ends_at_its_limit() {
    let (proxy, mut client, seen) = through().await;
    proxy.set(Direction::Up, Toxics { limit_data: Some(1000), ..Toxics::default() });

    client.write_all(&some_bytes(5000)).await.unwrap();
    let mut back = Vec::new();
    let end = client.read_to_end(&mut back).await;

    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    eventually("the server saw it", async || (!seen.lock().unwrap().ends.is_empty()).then_some(())).await;
    assert_eq!(seen.lock().unwrap().bytes, some_bytes(1000));
}

#[tokio::test]
async fn who_is_refused_does_not_reach_the_server() {
    let (proxy, mut client, seen) = through().await;
    round_trip(&mut client, b"let in").await;
    proxy.refuse(true);

    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    let end = refused.read(&mut [0]).await;

    assert!(end.is_err(), "reset");
    assert_eq!(round_trip(&mut client, b"still").await, b"still", "open ones go on");
    assert_eq!(seen.lock().unwrap().bytes, b"let instill");
    proxy.heal();
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(round_trip(&mut again, b"again").await, b"again");
}
