//! URLs of APIs, of RabbitMQ and of PostgreSQL.

use serde_json::{Value as Json, json};
use url::{Host, Url};

use super::{Kind, Scalar, Wrong};
use crate::secret::Secret;

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
