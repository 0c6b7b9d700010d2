//! Serves the webhooks' routes on the listener, as `actix_web::HttpServer` would, but reads connections in portions
//! (`portions.rs`): `HttpServer` takes sockets alone, and nothing around them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection;
use crate::portions::Portioned;
use crate::routes::webhooks::{self, AppState};

/// How long an idle connection is kept. This is longer than the usual 60 s of load balancers, so that the load balancer
/// closes the connection. If we closed it, a request could arrive on a connection that is just being closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long the rest of a refused body is read and thrown away, so that its sender sees the answer.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum TLS handshakes in progress per worker thread. The handshake is the most expensive part of a connection.
const MAX_HANDSHAKES: usize = 256;
/// Connections that may wait until they are accepted. The standard library asks for 128, which a burst overflows.
const BACKLOG: i32 = 1024;

/// How the routes are served.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) state: web::Data<AppState>,
    pub(crate) request_timeout: Duration,
    /// Worker threads.
    pub(crate) workers: usize,
    /// Per worker thread.
    pub(crate) max_connections: usize,
    /// In whole seconds, as actix counts.
    pub(crate) shutdown_timeout: u64,
}

/// Listens on `addr`; port 0 means any free port.
pub(crate) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

impl Serving {
    /// Returns the server, which serves once it is polled.
    pub(crate) fn on(self, listener: TcpListener, tls: Option<ServerConfig>) -> io::Result<Server> {
        actix_tls::accept::max_concurrent_tls_connect(MAX_HANDSHAKES);
        let server = Server::build()
            .workers(self.workers)
            .max_concurrent_connections(self.max_connections)
            .shutdown_timeout(self.shutdown_timeout)
            .disable_signals();
        let stopping = server.graceful_shutdown_signal();
        let server = match tls {
            None => server.listen("webhooks", listener, move || {
                fn_service(accepted)
                    .and_then(fn_service(|io: TcpStream| async { Ok(portioned(io, |tcp| tcp)) }))
                    .and_then(self.http(stopping.clone(), |io| io))
            }),
            Some(mut config) => {
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                server.listen("webhooks", listener, move || {
                    let http = self.http(stopping.clone(), |io: &TlsStream<TcpStream>| io.get_ref().0);
                    fn_service(accepted)
                        .map_err(TlsError::Service)
                        .and_then(Acceptor::new(config.clone()).map_err(TlsError::into_service_error))
                        .and_then(fn_service(|io: TlsStream<TcpStream>| async {
                            Ok(portioned(io, |io| io.get_ref().0))
                        }))
                        .and_then(http.map_err(TlsError::Service))
                })
            }
        };
        Ok(server?.run())
    }

    /// Serves the routes on connections of one type; `tcp` returns the socket of one.
    fn http<T: AsyncRead + AsyncWrite + Unpin + 'static>(
        &self,
        stopping: GracefulShutdownSignal,
        tcp: fn(&T) -> &TcpStream,
    ) -> impl ServiceFactory<Connected<T>, Config = (), Response = (), Error = DispatchError, InitError = ()> + use<T>
    {
        let app = App::new()
            .app_data(self.state.clone())
            .service(web::resource("/webhooks/{source}").to(webhooks::receive))
            .default_service(web::to(webhooks::not_found));
        let between_requests = KEEP_ALIVE + self.request_timeout;
        HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(self.request_timeout)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .on_connect_ext(move |io: &Portioned<T>, data| {
                connection::watch(tcp(io.get_ref()), io.portion(), data, between_requests);
            })
            .h1(map_config(app, |_| AppConfig::default()))
    }
}

/// A connection with the address of its peer.
type Connected<T> = (Portioned<T>, Option<SocketAddr>);

async fn accepted(tcp: TcpStream) -> Result<TcpStream, DispatchError> {
    // An answer is one small segment; without this it could wait for the acknowledgement of the one before.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn portioned<T>(io: T, tcp: fn(&T) -> &TcpStream) -> Connected<T> {
    let peer = tcp(&io).peer_addr().ok();
    (Portioned::new(io), peer)
}
