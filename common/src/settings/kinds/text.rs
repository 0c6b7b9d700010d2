//! Names, addresses, paths, URLs and secrets.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value as Json, json};
use url::{Host, Url};

use super::{Kind, Scalar, Wrong};
use crate::event::SourceName;
use crate::secret::Secret;
use crate::signing_key::signing_key;

/// An address to listen on.
pub(in super::super) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn wanted(&self) -> String {
        "an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"; port 0 means any free one".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<SocketAddr, Wrong> {
        let address = scalar.text().and_then(|text| text.trim().parse().ok());
        address.ok_or_else(|| Wrong::not("an address", self))
    }

    fn show(&self, value: &SocketAddr) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": ":\\d{1,5}$" })
    }
}

pub(in super::super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn wanted(&self) -> String {
        "a path, absolute or from the current directory".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<PathBuf, Wrong> {
        let path = scalar.text().ok_or_else(|| Wrong::not("a path", self))?;
        if path.trim().is_empty() { Err(Wrong::empty(self)) } else { Ok(PathBuf::from(path)) }
    }

    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// The name of a source.
pub(in super::super) struct Slug;

impl Kind for Slug {
    type Value = SourceName;

    fn wanted(&self) -> String {
        "1 to 64 characters out of a to z, 0 to 9, \"_\" and \"-\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<SourceName, Wrong> {
        scalar.text().and_then(SourceName::new).ok_or_else(|| Wrong::not("a source's name", self))
    }

    fn show(&self, value: &SourceName) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[a-z0-9_-]{1,64}$" })
    }
}

/// `{your-account-name}`: one segment of the API's paths
/// (<https://apidocs.next.textus.com/docs/accounts/index>).
pub(in super::super) struct Account;

impl Kind for Account {
    type Value = String;

    fn wanted(&self) -> String {
        "the account's name alone, as in https://next.textus.com/NAME/…: no \"/\", \"?\", \"#\", \"..\" or space"
            .to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let name = scalar.text().ok_or_else(|| Wrong::not("an account's name", self))?.trim();
        let forbidden = |c: char| matches!(c, '/' | '\\' | '?' | '#') || c.is_whitespace() || c.is_control();
        if name.is_empty() {
            Err(Wrong::empty(self))
        } else if name == "." || name.contains("..") || name.contains(forbidden) {
            Err(Wrong::not("an account's name", self))
        } else {
            Ok(name.to_owned())
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[^/\\\\?#\\s]+$" })
    }
}

/// A keyword: a text that consists of it alone is an opt-out.
pub(in super::super) struct KeywordText;

impl KeywordText {
    const MAX_CHARS: usize = 64;
}

impl Kind for KeywordText {
    type Value = String;

    fn wanted(&self) -> String {
        format!("a word or a few, 1 to {} characters with a letter or digit among them", Self::MAX_CHARS)
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<String, Wrong> {
        let word = scalar.text().ok_or_else(|| Wrong::not("a text", self))?.trim();
        if word.is_empty() {
            Err(Wrong::empty(self))
        } else if word.chars().count() > Self::MAX_CHARS {
            Err(Wrong::new(format!("longer than {} characters", Self::MAX_CHARS), format!("write {}", self.wanted())))
        } else if word.contains(char::is_control) || !word.contains(char::is_alphanumeric) {
            Err(Wrong::not("a keyword", self))
        } else {
            Ok(word.to_owned())
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": Self::MAX_CHARS })
    }
}

pub(in super::super) struct SecretText;

impl Kind for SecretText {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        "\"env:NAME\" or \"file:PATH\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a text", self))?;
        if text.trim().is_empty() {
            return Err(Wrong::new("empty", "set it: an empty secret protects nothing"));
        }
        if let Some(what) = around(text) {
            return Err(Wrong::new(
                format!("a secret with {what} around it"),
                "take them out: they would be part of it",
            ));
        }
        Ok(Secret::new(text))
    }

    fn show(&self, value: &Secret) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// Returns what stands around a secret that is no part of it, as people copy or save it.
fn around(text: &str) -> Option<&'static str> {
    let is_in = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if text.starts_with('\u{feff}') {
        Some("a byte order mark")
    } else if text.starts_with(['\n', '\r']) || text.ends_with(['\n', '\r']) {
        Some("line breaks")
    } else if text.trim() != text {
        Some("blanks")
    } else if is_in('"') || is_in('\'') {
        Some("quotes")
    } else {
        None
    }
}

/// The token of an API, which goes into a header.
pub(in super::super) struct TokenText;

impl Kind for TokenText {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        SecretText.wanted()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let token = SecretText.parse(scalar)?;
        if token.expose().chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Ok(token);
        }
        Err(Wrong::new(
            "a token with characters that a header cannot hold",
            "copy it again: letters, digits and signs of ASCII",
        ))
    }

    fn show(&self, value: &Secret) -> String {
        SecretText.show(value)
    }

    fn schema(&self) -> Json {
        SecretText.schema()
    }
}

/// A private key in PEM.
pub(in super::super) struct PrivateKeyText;

impl Kind for PrivateKeyText {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        "\"file:PATH\", the path of a private RSA key in PEM".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a text", self))?.trim();
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(Wrong::new("a key with a passphrase", "take the passphrase off: openssl rsa -in KEY -out NEW"));
        }
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(_key) => Ok(Secret::new(text)),
            Err(_) => Err(Wrong::not("a private key in PEM", self)),
        }
    }

    fn show(&self, value: &Secret) -> String {
        SecretText.show(value)
    }

    fn schema(&self) -> Json {
        SecretText.schema()
    }
}

/// A secret that signs what we send by Standard Webhooks.
pub(in super::super) struct SigningSecret;

impl Kind for SigningSecret {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        SecretText.wanted()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let secret = SecretText.parse(scalar)?;
        match signing_key(secret.expose()) {
            Ok(_key) => Ok(secret),
            Err(no_key) => Err(Wrong::new(
                no_key.to_string(),
                "make one: echo whsec_$(openssl rand -base64 32), and give it to the receiver too",
            )),
        }
    }

    fn show(&self, value: &Secret) -> String {
        SecretText.show(value)
    }

    fn schema(&self) -> Json {
        SecretText.schema()
    }
}

/// The URL of a REST API. Problems hide it, because people put tokens into URLs.
pub(in super::super) struct BaseUrl;

impl Kind for BaseUrl {
    type Value = Url;
    const HIDDEN: bool = true;

    fn wanted(&self) -> String {
        "a URL such as \"https://next.textus.com\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Url, Wrong> {
        let url = scalar.text().and_then(|text| Url::parse(text.trim()).ok());
        let mut url = url.ok_or_else(|| Wrong::not("a URL", self))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Wrong::not("a URL of an API", self));
        }
        if url.scheme() == "http" && !on_loopback(&url) {
            return Err(Wrong::new(
                "plain http, which would show the token to the network",
                "use https; plain http is for loopback only, such as \"http://127.0.0.1:9000\"",
            ));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Wrong::new(
                "a URL with credentials",
                "take them out; the token has a key of its own, textus.token",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Wrong::new("a URL with a query or fragment", "write only scheme, host, port and path"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(url)
    }

    fn show(&self, value: &Url) -> String {
        value.as_str().trim_end_matches('/').to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^https?://[^?#@]+$" })
    }
}

/// A URL to which something is posted, with an example.
pub(in super::super) struct PostUrl(pub(in super::super) &'static str);

impl Kind for PostUrl {
    type Value = Url;
    const HIDDEN: bool = true;

    fn wanted(&self) -> String {
        format!("a URL such as {:?}; plain http is for loopback only, such as \"http://127.0.0.1:9000\"", self.0)
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Url, Wrong> {
        let text = scalar.text().ok_or_else(|| Wrong::not("a URL", self))?;
        webhook_url(text).map_err(|what| Wrong::new(what, format!("write {}", self.wanted())))
    }

    fn show(&self, value: &Url) -> String {
        value.as_str().to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^https?://[^?#@]+$" })
    }
}

/// Reads a URL to which TextUs can post webhooks, and removes the slash at its end.
///
/// # Errors
/// Says what is wrong with the text.
pub fn webhook_url(text: &str) -> Result<Url, &'static str> {
    let mut url = Url::parse(text.trim()).map_err(|_no_url| "not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("not a URL of the web");
    }
    if url.scheme() == "http" && !on_loopback(&url) {
        return Err("plain http, which would show messages and numbers to the network");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a URL with a query or fragment");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

fn on_loopback(url: &Url) -> bool {
    match url.host() {
        // The crate `url` reads an IPv4 address as a name if it does not know the scheme.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The URL of RabbitMQ. The whole URL is a secret, because it holds the password.
pub(in super::super) struct AmqpUrl;

impl Kind for AmqpUrl {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        "an address such as \"amqps://user:password@host/vhost\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        let url = connection_url(scalar, &["amqp", "amqps"], true);
        let url = url.ok_or_else(|| Wrong::not("an amqp:// or amqps:// URL", self))?;
        // `connection_url` has parsed the text, so parsing it again cannot fail.
        Url::parse(url.expose())
            .map_err(|_| Wrong::not("an amqp:// or amqps:// URL", self))
            .and_then(|url| usable(&url))?;
        Ok(url)
    }

    fn show(&self, value: &Secret) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^amqps?://" })
    }
}

/// Refuses a URL that the client would misread, or that RabbitMQ would refuse for a reason that is hard to find.
fn usable(url: &Url) -> Result<(), Wrong> {
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Wrong::new(
            "a URL with a query",
            "take out what begins with ?: heartbeat and time-outs are Hookline's own",
        ));
    }
    if matches!(url.host(), Some(Host::Ipv6(_))) {
        return Err(Wrong::new("a URL with an IPv6 address", "write a host name or an IPv4 address"));
    }
    match url.path().strip_prefix('/') {
        Some("") => Err(Wrong::new(
            "a URL with an empty virtual host",
            "take the last / out for the default one, or write its name behind it",
        )),
        Some(vhost) if vhost.contains('/') => Err(Wrong::new(
            "a URL whose virtual host has a / in its name",
            "write %2F for a / that belongs to the name",
        )),
        Some(_) | None if is_guest(url) && !on_loopback(url) => Err(Wrong::new(
            "a URL of the user guest, whom RabbitMQ takes from its own machine only",
            "make a user for Hookline (`rabbitmqctl add_user`) and write its name and password",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Whether the user is guest, which is also the user of a URL without one.
fn is_guest(url: &Url) -> bool {
    matches!(url.username(), "" | "guest")
}

/// The URL of PostgreSQL. The whole URL is a secret, because it holds the password.
pub(in super::super) struct PostgresUrl;

impl Kind for PostgresUrl {
    type Value = Secret;
    const SECRET: bool = true;

    fn wanted(&self) -> String {
        "an address such as \"postgres://user:password@host/database\"".to_owned()
    }

    fn parse(&self, scalar: &Scalar<'_>) -> Result<Secret, Wrong> {
        // A URL without a host means a local socket.
        connection_url(scalar, &["postgres", "postgresql"], false)
            .ok_or_else(|| Wrong::not("a postgres:// or postgresql:// URL", self))
    }

    fn show(&self, value: &Secret) -> String {
        value.to_string()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^postgres(ql)?://" })
    }
}

fn connection_url(scalar: &Scalar<'_>, schemes: &[&str], needs_host: bool) -> Option<Secret> {
    let text = scalar.text()?.trim();
    let url = Url::parse(text).ok()?;
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    (schemes.contains(&url.scheme()) && (has_host || !needs_host)).then(|| Secret::new(text))
}
