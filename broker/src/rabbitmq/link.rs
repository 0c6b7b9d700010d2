//! Makes one connection to the broker: to one of several addresses in random order, with TLS if the address asks for
//! it, with our heartbeat and timeouts.

use std::pin::pin;
use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::types::{LongString, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use rand::seq::SliceRandom as _;

use super::RabbitOptions;
use super::handshake::Handshake;

/// A peer that is gone is noticed after twice this time. Without this setting lapin uses the broker's 60 s.
const HEARTBEAT_SECONDS: u16 = 10;
/// The frame size. lapin keeps two buffers of 32 frames per connection and fills them in turn: at the broker's 128 KiB
/// per frame they take 8 MiB of memory. A longer message takes several frames.
const FRAME_BYTES: u32 = 32 * 1024;
/// How long the handshake of AMQP and TLS may take, including the TCP connection.
const HANDSHAKE: Duration = Duration::from_secs(10);
const CLOSE: Duration = Duration::from_secs(2);
/// How often the connection's state is checked while we await an answer.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Connects to the first address that answers. The error holds no address, because an address may hold a password.
pub(super) async fn connect(options: &RabbitOptions, name: &str) -> Result<Connection, String> {
    let mut order: Vec<usize> = (0..options.urls.len()).collect();
    order.shuffle(&mut rand::rng());
    let mut whys = Vec::new();
    for index in order {
        match one(options, index, name).await {
            Ok(connection) => return Ok(connection),
            Err(why) if options.urls.len() == 1 => whys.push(why),
            Err(why) => whys.push(format!("address {}: {why}", index + 1)),
        }
    }
    Err(whys.join("; "))
}

async fn one(options: &RabbitOptions, index: usize, name: &str) -> Result<Connection, String> {
    let url = options.urls.get(index).ok_or("no address is configured")?;
    let mut uri: AMQPUri = url.expose().parse().map_err(|_| "its URL is not one of AMQP".to_owned())?;
    uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
    uri.query.frame_max.get_or_insert(FRAME_BYTES);
    let properties = ConnectionProperties::default()
        .with_connection_name(LongString::from(name))
        .with_client_property("product".into(), LongString::from("hookline"))
        .with_client_property("version".into(), LongString::from(env!("CARGO_PKG_VERSION")));
    let tls = OwnedTLSConfig { identity: None, cert_chain: options.ca_pem.clone() };
    let runtime = lapin::runtime::default_runtime().map_err(|error| error.to_string())?;
    let handshake = Handshake::default();
    let opener = handshake.opener();
    let open = async move |uri: AMQPUri, _runtime| Ok(opener.open(&uri, &tls, HANDSHAKE).await?);
    let connecting = Connection::connector(uri, runtime, open, properties);
    match tokio::time::timeout(HANDSHAKE, connecting).await {
        Ok(Ok(connection)) => {
            handshake.succeeded();
            Ok(connection)
        }
        Ok(Err(error)) => Err(refused(&error.to_string())),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// How RabbitMQ refuses a connection beyond a limit of the virtual host, the user or the node
/// (<https://github.com/rabbitmq/rabbitmq-server>: `rabbit_reader:is_over_vhost_connection_limit` and its neighbours).
const CONNECTION_LIMIT: &str = "connection limit";

fn refused(words: &str) -> String {
    if words.contains(CONNECTION_LIMIT) {
        format!(
            "no more connections are allowed ({words}); raise `max-connections` (`rabbitmqctl set_vhost_limits` or \
             `set_user_limits`): ingest opens 3, a worker 4, a command up to 4"
        )
    } else {
        words.to_owned()
    }
}

/// Closes the connection, but waits only briefly: while the broker blocks a connection, not even its close is written.
pub(super) async fn close(connection: &Connection, code: u16, why: &'static str) {
    let text = ShortString::try_new(why).unwrap_or_default();
    // The outcome does not matter: the connection ends when it is dropped.
    let _ = tokio::time::timeout(CLOSE, connection.close(code, text)).await;
}

/// Awaits a request on a connection. lapin may never answer a request that was made just as the connection ended: the
/// request stays in a queue that nobody reads any more.
///
/// # Errors
/// If the connection is gone and no answer came.
pub(super) async fn answered<T>(connection: &Connection, asked: impl Future<Output = T>) -> Result<T, String> {
    answered_unless(|| !connection.status().connected(), asked).await.ok_or_else(|| "the connection is gone".to_owned())
}

/// Like [`answered`], with another check of whether the connection is gone; `None` if it is.
pub(super) async fn answered_unless<T>(is_gone: impl Fn() -> bool, asked: impl Future<Output = T>) -> Option<T> {
    let mut asked = pin!(asked);
    loop {
        match tokio::time::timeout(LOOK_EVERY, &mut asked).await {
            Ok(answer) => return Some(answer),
            Err(_) if is_gone() => return None,
            Err(_) => {}
        }
    }
}
