//! Opens the socket of a connection to the broker, and closes it when the handshake is given up. lapin waits for the
//! peer's answer in a thread of its own, without end: without this, each handshake with a peer that says nothing would
//! leave a thread and a descriptor behind.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_compat::Compat;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};

/// One handshake. Dropping it closes its socket, unless the handshake has succeeded.
#[derive(Default)]
pub(super) struct Handshake {
    socket: Arc<Mutex<Socket>>,
}

/// The part of a handshake that opens the socket, for lapin's thread.
#[derive(Clone)]
pub(super) struct SocketOpener {
    socket: Arc<Mutex<Socket>>,
}

#[derive(Default)]
enum Socket {
    #[default]
    NotOpen,
    /// Another descriptor of the socket that lapin holds.
    Open(TcpStream),
    /// The handshake has succeeded or was given up.
    Over,
}

impl Handshake {
    pub(super) fn opener(&self) -> SocketOpener {
        SocketOpener { socket: Arc::clone(&self.socket) }
    }

    pub(super) fn succeeded(self) {
        *lock(&self.socket) = Socket::Over;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Socket::Open(socket) = std::mem::replace(&mut *lock(&self.socket), Socket::Over) {
            // An error means that the peer has closed the socket already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl SocketOpener {
    /// Opens the socket, with TLS if the address asks for it, within `limit`.
    pub(super) async fn open(
        &self,
        uri: &AMQPUri,
        tls: &OwnedTLSConfig,
        limit: Duration,
    ) -> io::Result<AsyncTcpStream<Compat<tokio::net::TcpStream>>> {
        let opened = tokio::time::timeout(limit, self.open_without_limit(uri, tls)).await;
        opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn open_without_limit(
        &self,
        uri: &AMQPUri,
        tls: &OwnedTLSConfig,
    ) -> io::Result<AsyncTcpStream<Compat<tokio::net::TcpStream>>> {
        let host = uri.authority.host.as_str();
        let socket = tokio::net::TcpStream::connect((host, uri.authority.port)).await?;
        self.watch(&socket)?;
        let plain = AsyncTcpStream::Plain(Compat::new(socket));
        match uri.scheme {
            AMQPScheme::AMQP => Ok(plain),
            AMQPScheme::AMQPS => plain.into_tls(host, tls.as_ref()).await,
        }
    }

    fn watch(&self, socket: &tokio::net::TcpStream) -> io::Result<()> {
        let mut watched = lock(&self.socket);
        if let Socket::Over = *watched {
            return Err(io::ErrorKind::TimedOut.into());
        }
        *watched = Socket::Open(socket.as_fd().try_clone_to_owned()?.into());
        Ok(())
    }
}

fn lock(socket: &Mutex<Socket>) -> MutexGuard<'_, Socket> {
    // Each change is one assignment, so the value is consistent even if the lock is poisoned.
    socket.lock().unwrap_or_else(PoisonError::into_inner)
}
