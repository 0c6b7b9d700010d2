//! TLS for the webhook listener: a rustls configuration (`ring`, TLS 1.2 and 1.3) whose certificate is read again while the
//! server runs, so that a renewed one needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use hookline_common::certificates::{CertificateError, CertificateFile, ServerCertificate, server_certificate};
use hookline_common::service::telemetry::metrics::Metrics;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// How soon a renewed certificate is noticed: as soon as a changed secret.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificate of the listener, as it was last read.
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Certificate {
    /// Reads the certificate chain and the key.
    ///
    /// # Errors
    /// The error names the setting, the file and what to give instead.
    pub(crate) fn read(cert: &Path, key: &Path, metrics: &Metrics) -> anyhow::Result<Self> {
        let made = server_certificate(cert, key).map_err(|error| anyhow::anyhow!("[ingest] {}", with_key(&error)))?;
        tell(metrics, &made);
        let current = Arc::new(Current(RwLock::new(made.certified)));
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), current })
    }

    pub(crate) fn server_config(&self) -> anyhow::Result<ServerConfig> {
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.current) as _);
        Ok(config)
    }

    /// Follows the files for ever. Files that cannot be used change nothing, and are logged once.
    pub(crate) async fn follow(self, metrics: Arc<Metrics>) {
        let mut refused = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match server_certificate(&self.cert, &self.key) {
                Ok(made) => {
                    refused = None;
                    self.take(made, &metrics);
                }
                Err(error) => {
                    let why = with_key(&error);
                    if refused.as_ref() != Some(&why) {
                        tracing::error!(why, "certificate.refused: the one from before stays in use");
                        refused = Some(why);
                    }
                }
            }
        }
    }

    fn take(&self, made: ServerCertificate, metrics: &Metrics) {
        let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
        if current.cert == made.certified.cert {
            return;
        }
        tell(metrics, &made);
        tracing::info!(not_after = %made.not_after, "certificate.changed: new connections get it");
        *current = made.certified;
    }
}

fn tell(metrics: &Metrics, made: &ServerCertificate) {
    metrics.ingest.certificate_not_after_seconds.set(made.not_after.as_millis() / 1000);
}

fn with_key(error: &CertificateError) -> String {
    let key = match error.file {
        CertificateFile::Certificate => "tls.cert",
        CertificateFile::Key => "tls.key",
    };
    format!("{key}: {error}")
}
