//! The options with which the receiver starts. All but the address can be changed later with
//! [`crate::Receiver::configure`].

use std::net::SocketAddr;
use std::time::Duration;

/// How the receiver behaves. `Default` takes every correct document, on a free loopback port.
#[derive(Clone)]
pub struct ReceiverOptions {
    /// The address to listen on; port 0 means any free port.
    pub listen: SocketAddr,
    /// The path that takes documents; any other is answered 404.
    pub path: String,
    /// Secrets (`whsec_…`); a signature by any of them is accepted.
    pub secrets: Vec<String>,
    /// How far `webhook-timestamp` may be from the clock, either way.
    pub tolerance: Duration,
    /// Whether `people.find` is answered with people; if not, with `{}`.
    pub knows_people: bool,
    /// Whether `person.upserted` is answered with the person's id; if not, with `{}`.
    pub tells_ids: bool,
    /// Whether a document that was taken before is answered 409, not 200 with the same body as before.
    pub conflict_on_repeat: bool,
    /// Answers every document with this status, for example 410, 429 or 307, and takes none.
    pub status: Option<u16>,
    /// The `Retry-After` that goes with `status`.
    pub retry_after: Option<String>,
    /// The `Location` that goes with `status`.
    pub location: Option<String>,
    /// Time between a document and its answer, in addition to any fault. The document is taken before this time.
    pub latency: Duration,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            path: "/hookline".to_owned(),
            secrets: vec![SECRET.to_owned()],
            tolerance: Duration::from_secs(300),
            knows_people: true,
            tells_ids: true,
            conflict_on_repeat: false,
            status: None,
            retry_after: None,
            location: None,
            latency: Duration::ZERO,
        }
    }
}

/// The secret that the receiver has by default: 24 bytes of the alphabet.
pub const SECRET: &str = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4";

impl std::fmt::Debug for ReceiverOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiverOptions")
            .field("listen", &self.listen)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
