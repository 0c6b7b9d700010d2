//! The virtual host of the measurements. It is checked before it is used, purged after each measurement, and left empty
//! at the end.

use std::time::Duration;

use anyhow::Context as _;
use hookline_broker::topology::rabbitmq::Topology;
use hookline_common::names::{HandlerName, Queue};
use hookline_common::secret::Secret;
use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ErrorKind, ExchangeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::process::{self, Route};
use crate::run::Refused;

/// Maximum number of queues that one of our events goes to.
const MOST_QUEUES: usize = 3;
/// AMQP's code for a queue that doesn't exist.
const NOT_FOUND: u16 = 404;

pub(crate) struct Rabbitmq {
    pub(crate) urls: Vec<String>,
    pub(crate) version: Option<String>,
    connection: Connection,
}

impl Rabbitmq {
    /// Connects, and checks whether the virtual host is free for measurements.
    ///
    /// # Errors
    /// [`Refused`] if the virtual host has consumers, or queues of Hookline that no benchmark left behind. It then
    /// belongs to a deployment, and messages that arrive meanwhile would be purged.
    pub(crate) async fn open(urls: &[Secret]) -> anyhow::Result<Self> {
        let urls: Vec<String> = urls.iter().map(|url| url.expose().to_owned()).collect();
        let connection = process::connect(&urls).await?;
        let version = match urls.first() {
            Some(url) => version_of(url).await,
            None => None,
        };
        let this = Self { urls, version, connection };
        let left_by_a_benchmark = this.look(&process::REFERENCE_WORK_QUEUE.into()).await?.is_some();
        for queue in our_queues() {
            let Some(Seen { messages, consumers }) = this.look(&queue).await? else { continue };
            if consumers > 0 || !left_by_a_benchmark {
                return Err(Refused(format!(
                    "the virtual host has the queue {queue} ({messages} messages, {consumers} consumers): it is a \
                     deployment's, and the benchmark would purge what arrives there; make one of its own \
                     (`rabbitmqctl add_vhost hookline_bench`, `rabbitmqctl set_permissions -p hookline_bench USER \
                     '.*' '.*' '.*'`) and give it with --broker-url"
                ))
                .into());
            }
        }
        this.begin_anew().await?;
        Ok(this)
    }

    /// Deletes our queues and declares the references' queues, empty, because another part enables other handlers.
    pub(crate) async fn begin_anew(&self) -> anyhow::Result<()> {
        self.clean_up().await.context("removing what was left behind")?;
        self.declare_references().await
    }

    /// Returns the state of a queue, or `None` if it doesn't exist.
    async fn look(&self, queue: &ShortString) -> anyhow::Result<Option<Seen>> {
        // The broker closes the channel if the queue doesn't exist, so each look uses a new channel.
        let channel = self.connection.create_channel().await.context("opening a channel")?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(queue.clone(), passive, FieldTable::default()).await {
            Ok(found) => {
                let seen = Seen { messages: found.message_count(), consumers: found.consumer_count() };
                // Closing keeps the number of channels small.
                let _ = channel.close(200, "looked".into()).await;
                Ok(Some(seen))
            }
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at the queue {queue}")),
        }
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        self.connection.create_channel().await.context("opening a channel")
    }

    /// Declares the references' queues, first the one that marks the virtual host as the benchmark's.
    async fn declare_references(&self) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let names = process::reference_queues(MOST_QUEUES);
        for queue in std::iter::once(process::REFERENCE_WORK_QUEUE.into()).chain(names) {
            channel
                .queue_declare(queue, durable, process::work_queue_arguments())
                .await
                .context("declaring a queue")?;
        }
        for queues in 2..=MOST_QUEUES {
            let (exchange, _) = process::route(Route::Short, queues);
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel
                .exchange_declare(exchange.clone(), ExchangeKind::Fanout, durable, FieldTable::default())
                .await
                .context("declaring an exchange")?;
            for queue in process::reference_queues(queues) {
                let options = QueueBindOptions::default();
                channel.queue_bind(queue, exchange.clone(), "".into(), options, FieldTable::default()).await?;
            }
        }
        Ok(())
    }

    async fn delete(
        &self,
        queues: impl Iterator<Item = ShortString>,
        exchanges: impl Iterator<Item = ShortString>,
    ) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        for queue in queues {
            channel.queue_delete(queue, QueueDeleteOptions::default()).await.context("deleting a queue")?;
        }
        for exchange in exchanges {
            channel
                .exchange_delete(exchange, ExchangeDeleteOptions::default())
                .await
                .context("deleting an exchange")?;
        }
        Ok(())
    }

    /// Empties the queues that the references' messages and our events with these handlers go to, and returns how many
    /// messages were there.
    pub(crate) async fn purge(&self, handlers: &[HandlerName]) -> anyhow::Result<u64> {
        let ours = handlers.iter().map(|handler| Queue::Work(*handler).name().into());
        let theirs = process::reference_queues(MOST_QUEUES).into_iter().chain([process::REFERENCE_WORK_QUEUE.into()]);
        let channel = self.channel().await?;
        let mut purged = 0;
        for queue in ours.chain(theirs) {
            let count = channel.queue_purge(queue, QueuePurgeOptions::default()).await.context("purging a queue")?;
            purged += u64::from(count);
        }
        let _ = channel.close(200, "purged".into()).await;
        Ok(purged)
    }

    /// Fills the reference worker's queue.
    pub(crate) async fn fill_reference(&self, bodies: &[bytes::Bytes]) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.context("confirm mode")?;
        for chunk in bodies.chunks(256) {
            let mut confirms = Vec::with_capacity(chunk.len());
            for body in chunk {
                let properties = BasicProperties::default().with_delivery_mode(2);
                let queue = process::REFERENCE_WORK_QUEUE.into();
                confirms.push(
                    channel.basic_publish("".into(), queue, BasicPublishOptions::default(), body, properties).await?,
                );
            }
            for confirm in confirms {
                confirm.await.context("filling a queue")?;
            }
        }
        let _ = channel.close(200, "filled".into()).await;
        Ok(())
    }

    /// Deletes everything. The reference worker's queue is deleted last, because it marks the virtual host as the
    /// benchmark's.
    pub(crate) async fn clean_up(&self) -> anyhow::Result<()> {
        self.delete(our_queues(), our_exchanges()).await?;
        let exchanges = (2..=MOST_QUEUES).map(|queues| process::route(Route::Short, queues).0);
        self.delete(process::reference_queues(MOST_QUEUES).into_iter(), exchanges).await?;
        self.delete(std::iter::once(process::REFERENCE_WORK_QUEUE.into()), std::iter::empty()).await
    }
}

struct Seen {
    messages: u32,
    consumers: u32,
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND)
}

fn our_queues() -> impl Iterator<Item = ShortString> {
    Topology::of(HandlerName::ALL).queues.into_iter().map(|queue| queue.queue.name().into())
}

/// Deleting an exchange also deletes its bindings, so any order works.
fn our_exchanges() -> impl Iterator<Item = ShortString> {
    Topology::of(HandlerName::ALL).exchanges.into_iter().map(|exchange| exchange.name.into())
}

/// Returns the version that a broker announces in its first frame, before any login. `None` over TLS.
async fn version_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "amqp")?;
    let ask = async {
        let mut stream = TcpStream::connect((url.host_str()?, url.port().unwrap_or(5672))).await.ok()?;
        stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
        // A frame's type, channel and length.
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]).min(64 * 1024);
        let mut frame = vec![0; usize::try_from(length).ok()?];
        stream.read_exact(&mut frame).await.ok()?;
        version_in(&frame)
    };
    tokio::time::timeout(Duration::from_secs(5), ask).await.ok().flatten()
}

/// Finds the long string under `version` in the table of server properties.
fn version_in(frame: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = frame.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?);
    let text = frame.get(at + 4..)?.get(..usize::try_from(length).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_the_first_frame() {
        let frame = b"\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x20\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\xce";

        assert_eq!(version_in(frame).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(b"\x07versionS\x00\x00\x00\xff3"), None);
    }
}
