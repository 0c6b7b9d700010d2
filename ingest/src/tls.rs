//! TLS for the webhook listener: builds a rustls configuration (`ring`, TLS 1.2 and 1.3) from PEM files.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Reads the certificate chain and the key.
///
/// # Errors
/// The error names the setting, the file and what to give instead.
pub(crate) fn server_config(cert: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let chain = read_chain(cert)?;
    let private_key = PrivateKeyDer::from_pem_file(key).with_context(|| {
        format!("[ingest] tls.key {}: no private key can be read; give its unencrypted PEM file", key.display())
    })?;
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("TLS cannot be set up")?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .with_context(|| {
            format!(
                "[ingest] tls: {} and {} cannot be used together; give a certificate and the key it was made for",
                cert.display(),
                key.display()
            )
        })
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let remedy = "give a PEM file with the certificate first and its intermediates after it";
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("[ingest] tls.cert {}: cannot be read; {remedy}", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "[ingest] tls.cert {}: holds no certificate; {remedy}", path.display());
    Ok(chain)
}
