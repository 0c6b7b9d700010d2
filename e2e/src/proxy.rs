//! A TCP proxy that does to a connection what networks do: before a broker, a database or an API. What it does is said
//! per direction, and changed while connections are open. One seed decides all jitter and slicing.

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

/// Read at once; what is on its way inside the proxy is bounded by [`IN_TRANSIT`].
const CHUNK: usize = 16 * 1024;
/// A network holds some data. More than this waits unread, so that a sender feels a slow link.
const IN_TRANSIT: usize = 256 * 1024;
const LARGEST_SLICE: usize = 16;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connected to the server.
    Up,
    /// From the server back.
    Down,
}

/// What one direction of every connection suffers. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toxics {
    /// Everything arrives this much later, in order.
    pub latency: Duration,
    /// Up to this much more, drawn for each piece.
    pub jitter: Duration,
    pub bytes_per_second: Option<u32>,
    /// Nothing arrives, not even an end, until it is lifted; then what was sent does, as TCP would see to it.
    pub blackhole: bool,
    /// In pieces of 1 to 16 bytes.
    pub slicer: bool,
    /// A connection is reset after so many bytes.
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
    /// Counts the orders to reset.
    resets: watch::Sender<u64>,
    accepted: AtomicU64,
    open: watch::Sender<u64>,
}

impl Proxy {
    /// # Errors
    /// Where it cannot listen.
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

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for open connections too.
    pub fn set(&self, direction: Direction, toxics: Toxics) {
        self.shared.toxics(direction).send_replace(toxics);
    }

    /// The same both ways.
    pub fn set_both(&self, toxics: &Toxics) {
        self.set(Direction::Up, toxics.clone());
        self.set(Direction::Down, toxics.clone());
    }

    /// Heals the network; new connections are let in, too.
    pub fn heal(&self) {
        self.set_both(&Toxics::default());
        self.refuse(false);
    }

    /// Whether new connections are reset before a byte is read.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuse.send_replace(refuse);
    }

    /// Ends every open connection with an RST, to both sides.
    pub fn reset(&self) {
        self.shared.resets.send_modify(|resets| *resets += 1);
    }

    /// How many connections there were, refused ones too.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many are open.
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
            // Out of descriptors, for example: whoever connects waits, as with a real one.
            let Ok((client, _)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            self.open.send_modify(|open| *open += 1);
            // Subscribed here: a reset right after the connect is for this connection, too.
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
            // Slices are to arrive as slices. A socket that is gone already shows it with its first read.
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

/// Makes the coming drop send an RST.
fn reset(stream: &TcpStream) {
    // Fails where it is gone already.
    let _ = stream.set_zero_linger();
}

/// One direction of one connection.
struct Relay<'stream> {
    from: ReadHalf<'stream>,
    to: WriteHalf<'stream>,
    toxics: watch::Receiver<Toxics>,
    rng: StdRng,
    /// With the time when each may arrive. An empty piece is the end.
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

    /// Until the end was forwarded.
    ///
    /// # Errors
    /// Where a side is gone, or the limit is reached: both are to be reset.
    async fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut ended = false;
        loop {
            let toxics = self.toxics.borrow_and_update().clone();
            // A black hole's packets are still in the sender's hands.
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

    /// Writes the first of what is in transit; `true` when it was the end.
    async fn arrive(&mut self, toxics: &Toxics) -> io::Result<bool> {
        let Some((due, mut bytes)) = self.transit.pop_front() else { return Ok(false) };
        if bytes.is_empty() {
            self.to.shutdown().await?;
            return Ok(true);
        }
        let most = if toxics.slicer { self.rng.random_range(1..=LARGEST_SLICE) } else { bytes.len() };
        // So that a change of the rate is felt soon.
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
        // A timer has the grain of a millisecond: too coarse for slices.
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due).await,
        None => pending().await,
    }
}
