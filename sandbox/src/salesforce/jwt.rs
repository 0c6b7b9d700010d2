//! Checks the assertion of the JWT bearer flow: signature, issuer, audience, end and user, each refusal as the vendor
//! words it. <https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm>

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::error;
use super::org::Org;
use crate::answer::Answer;

pub(crate) fn check(org: &Org, assertion: &str) -> Result<(), Answer> {
    let refused = |description: &str| error::no_token("invalid_grant", description);
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(|| refused("invalid assertion"))?;
    let (header, claims) = signed.split_once('.').ok_or_else(|| refused("invalid assertion"))?;
    let (Some(header), Some(claims), Ok(signature)) = (part(header), part(claims), URL_SAFE_NO_PAD.decode(signature))
    else {
        return Err(refused("invalid assertion"));
    };
    if header["alg"] != "RS256" {
        return Err(refused("algorithm not supported"));
    }
    if claims["iss"] != org.options.client_id.as_str() {
        return Err(error::no_token("invalid_client_id", "client identifier invalid"));
    }
    let key = org.options.public_key.as_deref().and_then(rsa_key).ok_or_else(|| refused("invalid assertion"))?;
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    key.verify(signed.as_bytes(), &signature).map_err(|_| refused("invalid assertion"))?;

    let audience = claims["aud"].as_str().unwrap_or_default();
    if audience != org.base_url && !org.options.audiences.iter().any(|known| known == audience) {
        return Err(refused("audience is invalid"));
    }
    // An end in milliseconds is thousands of years ahead, which the vendor words in the same way as one in the past.
    let ahead = claims["exp"].as_i64().map(|end| end.saturating_sub(Timestamp::now().as_second()));
    let longest = i64::try_from(org.options.longest_assertion.as_secs()).unwrap_or(i64::MAX);
    if !ahead.is_some_and(|ahead| (0..=longest).contains(&ahead)) {
        return Err(refused("expired authorization code"));
    }
    if claims["sub"] != org.options.username.as_str() || !org.options.is_approved {
        return Err(refused("user hasn't approved this consumer"));
    }
    Ok(())
}

fn part(encoded: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// Returns the RSA key of a certificate or a public key in PEM, in the form that ring takes.
fn rsa_key(pem: &str) -> Option<Vec<u8>> {
    if let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) {
        let (_, certificate) = X509Certificate::from_der(&certificate).ok()?;
        return Some(certificate.public_key().subject_public_key.data.to_vec());
    }
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(&info).ok()?;
    Some(info.subject_public_key.data.to_vec())
}
