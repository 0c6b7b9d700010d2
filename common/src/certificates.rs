//! Certificates and keys in PEM files: what is wrong with them, said with the file and what to give instead.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::time::Timestamp;

/// A certificate chain with its key, for a listener.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    pub certified: Arc<CertifiedKey>,
    /// From when, and until when, clients take it.
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Which of the two files is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFile {
    Certificate,
    Key,
}

/// What is wrong with a file, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateError {
    pub file: CertificateFile,
    pub what: String,
    pub remedy: &'static str,
}

impl std::fmt::Display for CertificateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl std::error::Error for CertificateError {}

const CHAIN: &str = "give a PEM file with the certificate first and its intermediates after it";
const KEY: &str = "give the unencrypted PEM file of the certificate's private key";
const PAIR: &str = "give a certificate and the key that it was made for";
const AUTHORITIES: &str = "give a PEM file with the certificates that sign the server's";

/// Reads the certificate chain and the key of a listener, and whether they belong together. Does not look at the time.
///
/// # Errors
/// Where a file cannot be read or used, or the two do not belong together.
pub fn server_certificate(certificate: &Path, key: &Path) -> Result<ServerCertificate, CertificateError> {
    let of_certificate = |what: String| CertificateError { file: CertificateFile::Certificate, what, remedy: CHAIN };
    let of_key = |what: String, remedy| CertificateError { file: CertificateFile::Key, what, remedy };
    let chain = chain(certificate).map_err(of_certificate)?;
    let leaf =
        chain.first().ok_or_else(|| of_certificate(format!("{} holds no certificate", certificate.display())))?;
    let (not_before, not_after) =
        validity(leaf).ok_or_else(|| of_certificate(format!("{} holds no certificate", certificate.display())))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| of_key(format!("{} holds no private key ({})", key.display(), words(&error)), KEY))?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&private)
        .map_err(|_| of_key(format!("{} holds a key of a kind that is not supported", key.display()), KEY))?;
    let certified = CertifiedKey::new(chain, signing);
    // `Unknown` means that the kind of key does not tell.
    if matches!(certified.keys_match(), Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch))) {
        return Err(of_key(format!("{} and {} do not belong together", certificate.display(), key.display()), PAIR));
    }
    Ok(ServerCertificate { certified: Arc::new(certified), not_before, not_after })
}

/// Reads the certificates that sign a server's, and returns how many there are.
///
/// # Errors
/// Where the file cannot be read or holds none.
pub fn authorities(file: &Path) -> Result<usize, CertificateError> {
    let wrong = |what: String| CertificateError { file: CertificateFile::Certificate, what, remedy: AUTHORITIES };
    let certificates = chain(file).map_err(wrong)?;
    if certificates.is_empty() || certificates.iter().any(|certificate| validity(certificate).is_none()) {
        return Err(wrong(format!("{} holds no certificate", file.display())));
    }
    Ok(certificates.len())
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{} cannot be read ({})", file.display(), words(&error)))
}

/// The error without anything of the file's content.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others, also those of later versions")]
fn words(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.kind().to_string(),
        rustls::pki_types::pem::Error::NoItemsFound => "nothing of that kind is in it".to_owned(),
        _ => "it is not PEM".to_owned(),
    }
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1000));
    Some((at(parsed.validity().not_before), at(parsed.validity().not_after)))
}
