//! How a token is asked for: by client credentials, or by a JWT that the user's private key signs
//! (<https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm>,
//! <https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm>), what a refusal means, and to
//! which hosts a token may be sent.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hookline_common::private_address::names_loopback;
use hookline_common::secret::Secret;
use hookline_common::settings::SalesforceSettings;
use hookline_common::time::Timestamp;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::calls::http::{Refusal, unreadable};
use crate::destinations::error::DestinationError;
use crate::destinations::limits::Limits;
use crate::destinations::pause_reason as reason;

pub(super) const PATH: &str = "/services/oauth2/token";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How far ahead an assertion ends. Salesforce takes three minutes at least.
const ASSERTION_SECONDS: i64 = 120;
/// The hosts of the vendor's clouds, by how their names end
/// (<https://help.salesforce.com/s/articleView?id=xcloud.domain_name_url_formats.htm>).
const VENDOR_HOSTS: [&str; 5] =
    [".salesforce.com", ".force.com", ".salesforce.mil", ".cloudforce.com", ".sfcrmproducts.cn"];

/// What shows Salesforce who asks for a token.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    client_id: Secret,
    grant: Grant,
}

#[derive(Clone, PartialEq, Eq)]
enum Grant {
    ClientSecret(Secret),
    Key { key: Secret, username: String, audience: String },
}

/// The body of a request for a token, and the texts in it that must not appear in an error.
pub(super) struct Form {
    pub(super) body: String,
    pub(super) private: Vec<String>,
}

impl Credentials {
    /// # Errors
    /// When a key is missing, or the private key is none that can sign.
    pub(super) fn of(settings: &SalesforceSettings, base: &Url) -> anyhow::Result<Self> {
        const TABLE: &str = "[system_of_record.salesforce]";
        let client_id = settings.client_id.clone().with_context(|| format!("{TABLE} client_id is not set"))?;
        let grant = match (&settings.jwt_key, &settings.client_secret) {
            (Some(key), _) => {
                signer(key).with_context(|| format!("{TABLE} jwt_key cannot be used"))?;
                let username = settings.username.clone().with_context(|| format!("{TABLE} username is not set"))?;
                Grant::Key { key: key.clone(), username, audience: audience(settings, base) }
            }
            (None, Some(secret)) => Grant::ClientSecret(secret.clone()),
            (None, None) => anyhow::bail!("{TABLE} client_secret is not set"),
        };
        Ok(Self { client_id, grant })
    }

    /// Returns the request's body.
    ///
    /// # Errors
    /// When the assertion cannot be signed.
    pub(super) fn form(&self, now: Timestamp) -> Result<Form, DestinationError> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let mut private = vec![self.client_id.expose().to_owned()];
        match &self.grant {
            Grant::ClientSecret(secret) => {
                form.append_pair("grant_type", "client_credentials");
                form.append_pair("client_id", self.client_id.expose());
                form.append_pair("client_secret", secret.expose());
                private.push(secret.expose().to_owned());
            }
            Grant::Key { key, username, audience } => {
                let claims = json!({
                    "iss": self.client_id.expose(),
                    "sub": username,
                    "aud": audience,
                    "exp": now.as_millis() / 1_000 + ASSERTION_SECONDS,
                });
                let assertion = sign(key, &claims.to_string()).map_err(|error| unreadable(&format!("{error:#}")))?;
                form.append_pair("grant_type", JWT_BEARER);
                form.append_pair("assertion", &assertion);
                private.extend([assertion, username.clone()]);
            }
        }
        Ok(Form { body: form.finish(), private })
    }
}

/// Returns the login host that an assertion is for. A sandbox has a name with `--`, and most of them `.sandbox.`.
fn audience(settings: &SalesforceSettings, base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    let is_sandbox = host.contains("--") || host.contains(".sandbox.") || host == "test.salesforce.com";
    let default = if is_sandbox { "https://test.salesforce.com" } else { "https://login.salesforce.com" };
    let given = settings.audience.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    given.unwrap_or_else(|| default.to_owned())
}

fn signer(key: &Secret) -> anyhow::Result<KeyPair> {
    let der = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).ok().context("it is no private key in PEM")?;
    let pair = if let PrivateKeyDer::Pkcs1(der) = &der {
        KeyPair::from_der(der.secret_pkcs1_der())
    } else {
        KeyPair::from_pkcs8(der.secret_der())
    };
    pair.ok().context("it is no RSA key of 2048 to 4096 bits")
}

fn sign(key: &Secret, claims: &str) -> anyhow::Result<String> {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(br#"{"alg":"RS256"}"#), encode(claims.as_bytes()));
    let pair = signer(key)?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .ok()
        .context("the assertion cannot be signed")?;
    Ok(format!("{signed}.{}", encode(&signature)))
}

/// The answer with a token. There is no `expires_in`: how long a token is good follows from the org's settings.
#[derive(Deserialize)]
pub(super) struct Issued {
    pub(super) access_token: String,
    pub(super) instance_url: String,
    /// The user, as a URL that ends with the user's id.
    #[serde(default)]
    pub(super) id: String,
}

/// Returns where calls with the token go.
///
/// # Errors
/// When it is a place to which a token must not be sent.
pub(super) fn instance(url: &str, base: &Url) -> Result<Url, &'static str> {
    let url = Url::parse(url).map_err(|_no_url| "it names an instance_url that is no URL")?;
    let is_bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    let is_loopback = names_loopback(&url) && names_loopback(base);
    let host = url.host_str().unwrap_or_default();
    let is_vendors = VENDOR_HOSTS.iter().any(|end| host.ends_with(end)) && url.port().is_none();
    let is_own = url.host_str() == base.host_str() && url.port() == base.port();
    let is_sealed = url.scheme() == "https" && (is_vendors || is_own);
    if is_bare && (is_sealed || is_loopback) { Ok(url) } else { Err("its instance_url is no host of Salesforce's") }
}

/// The body of a refused request for a token.
#[derive(Default, Deserialize)]
#[serde(default)]
struct NoToken {
    error: String,
    error_description: String,
}

/// Reads why there is no token. Everything but a refusal by name is a passing fault.
pub(super) fn read_refusal(status: u16, body: &[u8], _limits: &mut Limits) -> Refusal {
    let NoToken { error, error_description } = serde_json::from_slice(body).unwrap_or_default();
    if status >= 500 || error.is_empty() {
        return Refusal::AsItsStatus;
    }
    reason_of(&error, &error_description.to_lowercase()).map_or(Refusal::Passing, Refusal::Stops)
}

/// Returns an administrator's words for a refusal; `None` where asking again may help.
fn reason_of(error: &str, description: &str) -> Option<&'static str> {
    let says = |words: &str| description.contains(words);
    Some(match error {
        "invalid_client_id" => reason::SALESFORCE_CLIENT_UNKNOWN,
        "invalid_client" | "invalid_app_access" | "inactive_user" if says("inactive user") => {
            reason::SALESFORCE_USER_INACTIVE
        }
        "invalid_client" => reason::SALESFORCE_SECRET_REFUSED,
        "invalid_app_access" => reason::SALESFORCE_NOT_APPROVED,
        "inactive_user" => reason::SALESFORCE_USER_INACTIVE,
        "invalid_grant" if says("client credentials user") => reason::SALESFORCE_NO_RUN_AS_USER,
        "invalid_grant" if says("approved") => reason::SALESFORCE_NOT_APPROVED,
        "invalid_grant" if says("audience") => reason::SALESFORCE_AUDIENCE,
        "invalid_grant" if says("expired authorization code") => reason::SALESFORCE_ASSERTION_TIME,
        "invalid_grant" if says("inactive") || says("frozen") || says("locked") => reason::SALESFORCE_USER_INACTIVE,
        "invalid_grant" if says("rate exceeded") || says("retry your request") => return None,
        "invalid_grant" => reason::SALESFORCE_GRANT_REFUSED,
        "unsupported_grant_type" | "unauthorized_client" => reason::SALESFORCE_FLOW_OFF,
        "temporarily_unavailable" | "server_error" | "unknown_error" | "rate_limit_exceeded" => return None,
        _ => reason::SALESFORCE_NO_TOKEN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_salesforce_or_the_configured_host_alone() {
        let base: Url = "https://acme.my.salesforce.com".parse().unwrap();
        for good in [
            "https://acme.my.salesforce.com",
            "https://acme--uat.sandbox.my.salesforce.com/",
            "https://na1.salesforce.com",
            "https://acme.my.salesforce.mil",
            "https://acme.my.sfcrmproducts.cn",
        ] {
            assert!(instance(good, &base).is_ok(), "{good}");
        }
        for bad in [
            "http://acme.my.salesforce.com",
            "https://acme.my.salesforce.com.evil.example",
            "https://evilsalesforce.com",
            "https://salesforce.com@evil.example",
            "https://user:word@acme.my.salesforce.com",
            "https://acme.my.salesforce.com:8443",
            "https://acme.my.salesforce.com/elsewhere",
            "https://127.0.0.1",
            "http://127.0.0.1:8080",
            "acme.my.salesforce.com",
            "",
        ] {
            assert!(instance(bad, &base).is_err(), "{bad}");
        }
        let own: Url = "https://proxy.acme.example:8443".parse().unwrap();
        assert!(instance("https://proxy.acme.example:8443", &own).is_ok());
        assert!(instance("https://proxy.acme.example", &own).is_err());
        let loopback: Url = "http://127.0.0.1:9000".parse().unwrap();
        assert!(instance("http://127.0.0.1:9001", &loopback).is_ok());
    }

    #[test]
    fn each_refusal_has_words_and_passing_ones_have_none() {
        for (error, description, expected) in [
            ("invalid_client_id", "client identifier invalid", Some(reason::SALESFORCE_CLIENT_UNKNOWN)),
            ("invalid_client", "invalid client credentials", Some(reason::SALESFORCE_SECRET_REFUSED)),
            ("invalid_grant", "no client credentials user enabled", Some(reason::SALESFORCE_NO_RUN_AS_USER)),
            ("invalid_grant", "user hasn't approved this consumer", Some(reason::SALESFORCE_NOT_APPROVED)),
            ("invalid_grant", "audience is invalid", Some(reason::SALESFORCE_AUDIENCE)),
            ("invalid_grant", "expired authorization code", Some(reason::SALESFORCE_ASSERTION_TIME)),
            ("invalid_grant", "inactive user", Some(reason::SALESFORCE_USER_INACTIVE)),
            ("invalid_grant", "something else", Some(reason::SALESFORCE_GRANT_REFUSED)),
            ("invalid_grant", "login rate exceeded", None),
            ("unknown_error", "retry your request", None),
            ("a_new_one", "", Some(reason::SALESFORCE_NO_TOKEN)),
        ] {
            assert_eq!(reason_of(error, description), expected, "{error} {description}");
        }
        let refusal = |status, body: &str| read_refusal(status, body.as_bytes(), &mut Limits::default());
        assert_eq!(refusal(400, "<html>"), Refusal::AsItsStatus);
        assert_eq!(refusal(503, r#"{"error":"invalid_grant"}"#), Refusal::AsItsStatus);
    }
}
