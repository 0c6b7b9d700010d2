//! Accepts connections and serves HTTP/1.1 on them. We use hyper directly because its connections can be dropped
//! without an answer.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::reply::Response;

/// What a server's tasks share: the call to stop, and the count of those that still run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Life {
    /// Closes the listener and every connection, and waits until all are gone.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What a fault does to the connection instead of an answer from hyper; both end the connection.
#[derive(Debug)]
pub(crate) enum Instead {
    Reset,
    Raw(Bytes),
}

impl std::fmt::Display for Instead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ended by a fault")
    }
}

impl std::error::Error for Instead {}

/// Accepts connections until the server is stopped, and answers each request with `respond`.
pub(crate) async fn run<F, A>(listener: TcpListener, life: Life, respond: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Result<Response, Instead>> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = life.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                life.tasks.spawn(connection(stream, life.stop.clone(), respond.clone()));
            }
            // For example without free descriptors, the next accept would fail again at once.
            Err(error) => {
                tracing::debug!(%error, "sandbox accepted no connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection<F, A>(stream: TcpStream, stop: CancellationToken, respond: F)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Result<Response, Instead>>,
{
    // Without this, small answers in several writes would wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(respond);
    let mut http = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        () = stop.cancelled() => return,
        ended = &mut http => ended,
    };
    let Err(error) = ended else { return };
    let Some(instead) = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Instead>()) else {
        return;
    };
    let mut stream = http.into_parts().io.into_inner();
    match instead {
        // A linger of zero makes the close a reset, which no client can mistake for the end of an answer.
        Instead::Reset => drop(stream.set_zero_linger()),
        Instead::Raw(bytes) => {
            // A client that has disconnected misses the bytes.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
        }
    }
}
