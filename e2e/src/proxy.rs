//! A TCP proxy that imitates network faults in front of a broker, a database or an API. The faults are set per
//! direction and may change while connections are open. One seed decides all jitter and slicing.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Maximum bytes of one read. The total inside the proxy is bounded by [`IN_TRANSIT`].
const CHUNK: usize = 16 * 1024;
/// Maximum bytes in transit per direction, as a network holds some data. Further data stay unread, so that a sender
/// notices a slow link.
const IN_TRANSIT: usize = 256 * 1024;
const LARGEST_SLICE: usize = 16;

/// The direction in which bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// The faults in one direction of every connection; by default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toxics {
    /// Delay of all data; their order stays.
    pub latency: Duration,
    /// Maximum additional delay, drawn for each piece.
    pub jitter: Duration,
    pub bytes_per_second: Option<u32>,
    /// While set, nothing arrives, not even an end. When it is lifted, everything that was sent arrives, as TCP would
    /// ensure.
    pub blackhole: bool,
    /// Whether data arrive in pieces of 1 to 16 bytes.
    pub slicer: bool,
    /// Number of bytes after which a connection is reset.
    pub limit_data: Option<u64>,
}

/// Listens on loopback and forwards to one server, until dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<ProxyState>,
    accepting: AbortHandle,
}

struct ProxyState {
    upstream: SocketAddr,
    seed: u64,
    up: watch::Sender<Toxics>,
    down: watch::Sender<Toxics>,
    refuse: watch::Sender<bool>,
    /// Counts the resets ordered so far.
    resets: watch::Sender<u64>,
    accepted: AtomicU64,
    open: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`.
    ///
    /// # Errors
    /// Fails when it cannot listen.
    pub async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(ProxyState {
            upstream,
            seed,
            up: watch::Sender::default(),
            down: watch::Sender::default(),
            refuse: watch::Sender::default(),
            resets: watch::Sender::default(),
            accepted: AtomicU64::new(0),
            open: watch::Sender::default(),
        });
        let accepting = tokio::spawn(Arc::clone(&shared).accept(listener)).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Returns the address to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the faults of a direction from now on, for open connections too.
    pub fn set(&self, direction: Direction, toxics: Toxics) {
        self.shared.toxics(direction).send_replace(toxics);
    }

    /// Sets the same faults in both directions.
    pub fn set_both(&self, toxics: &Toxics) {
        self.set(Direction::Up, toxics.clone());
        self.set(Direction::Down, toxics.clone());
    }

    /// Heals the network; new connections are accepted again.
    pub fn heal(&self) {
        self.set_both(&Toxics::default());
        self.refuse(false);
    }

    /// Sets whether new connections are reset before a byte is read.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuse.send_replace(refuse);
    }

    /// Ends every open connection with an RST to both sides.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// Returns how many connections there were, refused ones included.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        *self.shared.open.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

impl ProxyState {
    fn toxics(&self, direction: Direction) -> &watch::Sender<Toxics> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            // For example without free descriptors, a client waits, as with a real server.
            let Ok((client, _)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            self.open.send_modify(|open| *open += 1);
            // Subscribed here, so that a reset right after the connect reaches this connection too.
            let resets = self.resets.subscribe();
            let shared = Arc::clone(&self);
            tokio::spawn(async move {
                shared.serve(client, number, resets).await;
                shared.open.send_modify(|open| *open -= 1);
            });
        }
    }

    async fn serve(&self, client: TcpStream, number: u64, mut resets: watch::Receiver<u64>) {
        if *self.refuse.borrow() {
            return reset(&client);
        }
        let Ok(server) = TcpStream::connect(self.upstream).await else { return reset(&client) };
        let (mut client, mut server) = (client, server);
        for stream in [&client, &server] {
            // Slices must arrive as slices. A socket that is already gone shows it with its first read.
            let _ = stream.set_nodelay(true);
        }
        let whole = {
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            let rng = |way| StdRng::seed_from_u64(self.seed ^ (number * 2 + way));
            let up = Relay::new(from_client, to_server, self.up.subscribe(), rng(0)).run();
            let down = Relay::new(from_server, to_client, self.down.subscribe(), rng(1)).run();
            tokio::select! {
                both = async { tokio::try_join!(up, down) } => both.is_ok(),
                _ = resets.changed() => false,
            }
        };
        if !whole {
            reset(&client);
            reset(&server);
        }
    }
}

/// Makes the following drop send an RST.
fn reset(stream: &TcpStream) {
    // This fails if the socket is already gone.
    let _ = stream.set_zero_linger();
}

/// One direction of one connection.
struct Relay<'stream> {
    from: ReadHalf<'stream>,
    to: WriteHalf<'stream>,
    toxics: watch::Receiver<Toxics>,
    rng: StdRng,
    /// Pieces with the time from which each may arrive. An empty piece marks the end.
    transit: VecDeque<(Instant, Vec<u8>)>,
    in_transit: usize,
    forwarded: u64,
    last_due: Instant,
}

impl<'stream> Relay<'stream> {
    fn new(from: ReadHalf<'stream>, to: WriteHalf<'stream>, toxics: watch::Receiver<Toxics>, rng: StdRng) -> Self {
        let transit = VecDeque::new();
        Self { from, to, toxics, rng, transit, in_transit: 0, forwarded: 0, last_due: Instant::now() }
    }

    /// Relays until the end was forwarded.
    ///
    /// # Errors
    /// Fails when a side is gone or the limit is reached; both sides must then be reset.
    async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut ended = false;
        loop {
            let toxics = self.toxics.borrow_and_update().clone();
            // While the black hole is set, the sender keeps its packets.
            let reads = !ended && !toxics.blackhole && self.in_transit < IN_TRANSIT;
            let due = self.transit.front().filter(|_| !toxics.blackhole).map(|(due, _)| *due);
            tokio::select! {
                biased;
                changed = self.toxics.changed() => {
                    if changed.is_err() {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                }
                () = at(due) => {
                    if self.arrive(&toxics).await? {
                        return Ok(());
                    }
                }
                read = self.from.read(&mut buffer), if reads => {
                    let read = read?;
                    ended = read == 0;
                    self.depart(&buffer[..read], &toxics);
                }
            }
        }
    }

    fn depart(&mut self, bytes: &[u8], toxics: &Toxics) {
        let jitter = self.rng.random_range(0.0..=1.0);
        // TCP keeps the order.
        self.last_due = self.last_due.max(Instant::now() + toxics.latency + toxics.jitter.mul_f64(jitter));
        self.in_transit += bytes.len();
        self.transit.push_back((self.last_due, bytes.to_vec()));
    }

    /// Writes the first piece in transit; returns `true` if it was the end.
    async fn arrive(&mut self, toxics: &Toxics) -> io::Result<bool> {
        let Some((due, mut bytes)) = self.transit.pop_front() else { return Ok(false) };
        if bytes.is_empty() {
            self.to.shutdown().await?;
            return Ok(true);
        }
        let most = if toxics.slicer { self.rng.random_range(1..=LARGEST_SLICE) } else { bytes.len() };
        // Small pieces make a change of the rate take effect soon.
        let most = toxics.bytes_per_second.map_or(most, |rate| most.min((rate / 20).max(1) as usize));
        let left = toxics.limit_data.map_or(u64::MAX, |limit| limit.saturating_sub(self.forwarded));
        let most = most.min(usize::try_from(left).unwrap_or(usize::MAX)).min(bytes.len());
        let rest = bytes.split_off(most);
        self.to.write_all(&bytes).await?;
        self.forwarded += bytes.len() as u64;
        self.in_transit -= bytes.len();
        if toxics.limit_data.is_some_and(|limit| self.forwarded >= limit) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let takes = toxics
            .bytes_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate.max(1))));
        let next = due.max(Instant::now()) + takes;
        if rest.is_empty() {
            if let Some((due, _)) = self.transit.front_mut() {
                *due = next.max(*due);
            } else {
                self.last_due = next;
            }
        } else {
            self.transit.push_front((next, rest));
        }
        Ok(false)
    }
}

async fn at(due: Option<Instant>) {
    match due {
        // A timer has a resolution of a millisecond, which is too coarse for slices.
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due).await,
        None => pending().await,
    }
}
