//! The admin listener of `hookline-ingest`, `hookline run` and `hookline dev`: liveness, readiness, metrics. Apart
//! from the webhook listener, so that a flood there doesn't hide how the process is, and strangers don't see it.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::{App, HttpServer, web};
use anyhow::Context;
use hookline_common::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::routes::health::{self, Health};

/// Says why the process is not ready; nothing: it is. Asked at each `GET /readyz`, so it must be quick.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Requests still open when the process ends are scrapes: they needn't be waited for long.
const SHUTDOWN_SECONDS: u64 = 1;

/// Bound, and serving from [`AdminServer::run`] on.
pub struct AdminServer {
    server: Server,
    local_addr: SocketAddr,
}

impl AdminServer {
    /// Binds `addr`; port 0 means any.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn bind(addr: SocketAddr, metrics: Arc<Metrics>, readiness: Readiness) -> anyhow::Result<Self> {
        let health = web::Data::new(Health { metrics, readiness });
        let factory = move || App::new().app_data(health.clone()).default_service(web::to(health::answer));
        let server = HttpServer::new(factory)
            .workers(1)
            .disable_signals()
            .shutdown_timeout(SHUTDOWN_SECONDS)
            .bind(addr)
            .with_context(|| format!("[admin] listen: cannot listen on {addr}; choose another address or port"))?;
        let local_addr = app::bound_to(&server.addrs())?;
        Ok(Self { server: server.run(), local_addr })
    }

    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until cancelled. Cancel it after the app: while that drains, `/readyz` has something to say.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        app::serve(self.server, shutdown.cancelled()).await.context("the admin listener failed")
    }
}
