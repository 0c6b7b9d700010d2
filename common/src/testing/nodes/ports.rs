//! Free ports, for servers that must be given theirs.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// The range is below the ephemeral ports: there an outgoing connection may take a port between its choice and its use,
/// or while a killed node is down.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that nothing listens on and that this process never handed out before.
pub(super) fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` consecutive free ports.
pub(super) fn free_ports(count: u16) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let first = rand::random_range(RANGE.start..RANGE.end - count);
        let ports = first..first + count;
        let free = |port| !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if ports.clone().all(free) {
            given.extend(ports);
            return first;
        }
    }
}
