//! The admin listener keeps answering probes, whoever else holds connections to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hookline_common::service::admin::{AdminServer, ReadinessReport};
use hookline_common::service::telemetry::metrics::{Metrics, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Far below the time after which the listener ends an idle connection by itself.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

async fn listener() -> (SocketAddr, tokio_util::sync::DropGuard) {
    let metrics = Arc::new(Metrics::new(Role::Ingest, &["textus"]));
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let admin = AdminServer::bind(any_port, metrics, Arc::new(ReadinessReport::default)).expect("a port");
    let (addr, stop) = (admin.local_addr(), CancellationToken::new());
    tokio::spawn(admin.run(stop.clone()));
    (addr, stop.drop_guard())
}

/// Sends one request and reads until the listener closes the connection.
async fn get(addr: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(addr).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: hookline\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn idle_connections_keep_no_probe_waiting() {
    let (addr, _stop) = listener().await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(addr).await.expect("a connection"));
    }

    let answer = tokio::time::timeout(PROBE_TIMEOUT, get(addr, "/livez")).await.expect("answered at once");

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_connection_serves_one_request() {
    let (addr, _stop) = listener().await;

    let answer = tokio::time::timeout(PROBE_TIMEOUT, get(addr, "/readyz")).await.expect("the connection is closed");

    assert!(answer.contains("connection: close") && answer.ends_with(r#"{"status":"ready"}"#), "{answer}");
}
