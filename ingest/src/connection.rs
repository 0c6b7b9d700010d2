//! Closes connections that hold a place without using it. actix limits the time for the first request head of a
//! connection and for an idle keep-alive. actix does not limit a second head that trickles in, nor the rest of a
//! refused body. This module limits the time between two requests, whatever arrives meanwhile.

use std::cell::Cell;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use actix_web::rt::task::JoinHandle;

use crate::portions::Portion;

struct Connection {
    /// A second handle to the socket, dropped with the connection. actix owns the connection itself, so shutting down
    /// this handle is how we end it.
    socket: std::net::TcpStream,
    /// `None` while a request is being handled.
    idle_since: Cell<Option<Instant>>,
    portion: Rc<Portion>,
    watchdog: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.watchdog.abort();
    }
}

/// Watches a new connection and closes it after `limit` without a request in hand.
pub(crate) fn watch(tcp: &TcpStream, portion: Rc<Portion>, data: &mut Extensions, limit: Duration) {
    // Without a free file descriptor the connection is served unwatched; the next `accept` waits.
    let Ok(handle) = tcp.as_fd().try_clone_to_owned() else { return };
    data.insert(Rc::new_cyclic(|this| Connection {
        socket: handle.into(),
        idle_since: Cell::new(Some(Instant::now())),
        portion,
        watchdog: actix_web::rt::spawn(close_when_idle(Weak::clone(this), limit)),
    }));
}

/// Marks the request's connection as in use until dropped.
pub(crate) struct Busy(Option<Rc<Connection>>);

impl Busy {
    pub(crate) fn mark(request: &HttpRequest) -> Self {
        let connection = request.conn_data::<Rc<Connection>>().cloned();
        if let Some(connection) = &connection {
            connection.idle_since.set(None);
            connection.portion.set_in_hand(true);
        }
        Self(connection)
    }

    /// Says that the handler took bytes of the body, so that more of it is read.
    pub(crate) fn took_bytes(&self) {
        if let Some(connection) = &self.0 {
            connection.portion.next();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.idle_since.set(Some(Instant::now()));
            connection.portion.set_in_hand(false);
        }
    }
}

async fn close_when_idle(connection: Weak<Connection>, limit: Duration) {
    let mut wait = limit;
    loop {
        tokio::time::sleep(wait).await;
        let Some(connection) = connection.upgrade() else { return };
        let idle = connection.idle_since.get().map_or(Duration::ZERO, |since| since.elapsed());
        if idle >= limit {
            // An error means that the connection is already gone.
            let _ = connection.socket.shutdown(Shutdown::Both);
            return;
        }
        wait = limit - idle;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);
    const DEADLINE: Duration = Duration::from_secs(5);

    /// Returns the server's and the client's end of a watched connection.
    async fn watched(data: &mut Extensions) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        watch(&server, Rc::default(), data, LIMIT);
        (server, client)
    }

    #[actix_web::test]
    async fn a_connection_without_a_request_is_closed_though_its_owner_keeps_it() {
        let mut data = Extensions::new();
        let (_server, mut client) = watched(&mut data).await;

        let read = timeout(DEADLINE, client.read(&mut [0; 1])).await.expect("closed in time").unwrap();

        assert_eq!(read, 0);
    }

    #[actix_web::test]
    async fn a_connection_is_left_alone_while_a_request_is_handled_and_closed_after_it() {
        let mut data = Extensions::new();
        let (_server, mut client) = watched(&mut data).await;
        let connection = data.get::<Rc<Connection>>().cloned().unwrap();
        connection.idle_since.set(None);
        let busy = Busy(Some(connection));

        assert!(timeout(LIMIT * 4, client.read(&mut [0; 1])).await.is_err(), "still open");
        drop(busy);

        let read = timeout(DEADLINE, client.read(&mut [0; 1])).await.expect("closed in time").unwrap();
        assert_eq!(read, 0);
    }
}
