//! The load generator: a closed loop with one keep-alive connection per request in flight, and bodies signed before the
//! clock starts. It shares the machine with the measured process, so it runs on a few threads, each with its own
//! scheduler.

mod posts;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) use self::posts::{Batch, Post, Posts};
use crate::figures::Tally;

const SIGNATURE: HeaderName = HeaderName::from_static("x-textus-signature");

/// One measurement.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) addr: SocketAddr,
    pub(crate) path: String,
    pub(crate) concurrency: usize,
    /// Time before the window, in which connections are made and caches filled.
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// Posts until the window has passed. A request counts if its answer came inside the window.
pub(crate) async fn run(load: Load, batch: Batch) -> anyhow::Result<Tally> {
    tokio::task::spawn_blocking(move || on_threads(&load, &Arc::new(batch))).await.context("the load generator")?
}

fn on_threads(load: &Load, batch: &Arc<Batch>) -> anyhow::Result<Tally> {
    let threads = std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 4).max(1));
    let threads = threads.min(load.concurrency).max(1);
    let begin = Instant::now() + load.warm_up;
    let span = Span { begin, end: begin + load.window };
    let mut tally = Tally::new()?;
    std::thread::scope(|scope| {
        let share = |thread| load.concurrency / threads + usize::from(thread < load.concurrency % threads);
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || on_one_thread(load, batch, share(thread), span))).collect();
        for thread in running {
            tally.add(&thread.join().map_err(|_| anyhow!("the load generator panicked"))??)?;
        }
        anyhow::Ok(())
    })?;
    Ok(tally)
}

#[derive(Clone, Copy)]
struct Span {
    begin: Instant,
    end: Instant,
}

fn on_one_thread(load: &Load, batch: &Arc<Batch>, connections: usize, span: Span) -> anyhow::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the load's thread")?;
    runtime.block_on(async {
        let target = Arc::new(Target::new(load)?);
        let running: Vec<_> =
            (0..connections).map(|_| tokio::spawn(connection(Arc::clone(&target), Arc::clone(batch), span))).collect();
        let mut tally = Tally::new()?;
        for connection in running {
            tally.add(&connection.await.context("a connection of the load")??)?;
        }
        Ok(tally)
    })
}

struct Target {
    addr: SocketAddr,
    uri: Uri,
    host: HeaderValue,
}

impl Target {
    fn new(load: &Load) -> anyhow::Result<Self> {
        let host = HeaderValue::from_str(&load.addr.to_string()).context("an address is a header value")?;
        Ok(Self { addr: load.addr, uri: load.path.parse().context("a path")?, host })
    }

    fn request(&self, post: Post) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(post.body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(SIGNATURE, HeaderValue::from_bytes(&post.signature).context("hexadecimal digits")?);
        Ok(request)
    }
}

/// Sends one request after the other. An answer other than 200 is a failure. A broken connection is a failure too, and
/// ends this connection's part.
async fn connection(target: Arc<Target>, batch: Arc<Batch>, span: Span) -> anyhow::Result<Tally> {
    let mut tally = Tally::new()?;
    let stream = TcpStream::connect(target.addr).await.context("connecting to what is measured")?;
    stream.set_nodelay(true).context("connecting to what is measured")?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.context("speaking HTTP")?;
    tokio::spawn(driver);
    loop {
        let request = target.request(batch.next())?;
        let started = Instant::now();
        if started >= span.end {
            return Ok(tally);
        }
        let status = match sender.send_request(request).await {
            Ok(answer) => {
                let status = answer.status();
                answer.into_body().collect().await.map(|_| status)
            }
            Err(error) => Err(error),
        };
        let ended = Instant::now();
        match status {
            Ok(StatusCode::OK) if ended < span.begin || ended >= span.end => tally.answered_outside(),
            Ok(StatusCode::OK) => tally.answered(ended - started),
            Ok(_) => tally.failed(),
            Err(_) => {
                tally.failed();
                return Ok(tally);
            }
        }
    }
}
