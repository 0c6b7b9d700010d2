//! `hookline.unrouted`: messages that no queue took, because a queue or a binding was missing. An operator inspects
//! them, and redrives them once the topology is repaired.

use bytes::Bytes;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{Channel, Connection};

use hookline_common::event::Event;
use hookline_common::names::Queue;

use super::events_key;
use super::message::{self, DeliveryState};
use super::publisher::{Outgoing, Published, Publisher};
use crate::BrokerError;
use crate::topology::rabbitmq::{DEAD, DELAY, EVENTS, RabbitQueue, WORK};

/// One message that no queue took.
#[derive(Clone, Debug)]
pub struct Unrouted {
    pub event: Event,
    /// The exchange that could not route the message.
    pub exchange: String,
    pub routing_key: String,
}

/// Reads up to `limit` messages, oldest first; they stay where they are.
pub(super) async fn list(connection: &Connection, limit: usize) -> Result<Vec<Unrouted>, BrokerError> {
    let channel = open(connection).await?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(mut got) = get(&channel).await?
    {
        found.push(unrouted(&mut got));
    }
    // Closing returns every message that we got and did not acknowledge; the queue has no delivery limit to reach.
    channel.close(200, "looked".into()).await.map_err(unavailable)?;
    Ok(found)
}

/// Sends up to `most` messages to where they were going, and acknowledges each when it is stored; returns how many.
pub(super) async fn redrive(connection: &Connection, publisher: &Publisher, most: usize) -> Result<usize, BrokerError> {
    let channel = open(connection).await?;
    let mut redriven = 0;
    while redriven < most
        && let Some(mut got) = get(&channel).await?
    {
        let answer = publisher.publish(anew(&mut got)).await;
        if answer != Published::Stored {
            return Err(BrokerError::Unavailable(format!("it was not stored again: {answer:?}")));
        }
        ack(&got).await?;
        redriven += 1;
    }
    Ok(redriven)
}

/// Permanently removes up to `most` messages; returns them.
pub(super) async fn discard(connection: &Connection, most: usize) -> Result<Vec<Unrouted>, BrokerError> {
    let channel = open(connection).await?;
    let mut discarded = Vec::new();
    while discarded.len() < most
        && let Some(mut got) = get(&channel).await?
    {
        discarded.push(unrouted(&mut got));
        ack(&got).await?;
    }
    Ok(discarded)
}

/// The message to send on to its original target. If we made it an event, a retry would begin at attempt 1 and be
/// dropped as a stale copy of itself, and a dead letter would be retried although nobody asked.
fn anew(got: &mut BasicGetMessage) -> Outgoing {
    let ours = [EVENTS, WORK, DELAY, DEAD].into_iter().find(|exchange| got.delivery.exchange.as_str() == *exchange);
    match ours {
        // We send it unchanged, because a newer program may have written it.
        Some(exchange) => Outgoing {
            exchange,
            routing_key: got.delivery.routing_key.to_string(),
            properties: message::again(&got.delivery.properties),
            body: Bytes::from(std::mem::take(&mut got.delivery.data)),
        },
        // Somebody put the message there by hand.
        None => {
            let Unrouted { event, .. } = unrouted(got);
            Outgoing {
                exchange: EVENTS,
                routing_key: events_key(&event),
                properties: message::properties(&event, &DeliveryState::new()),
                body: event.body.clone(),
            }
        }
    }
}

async fn open(connection: &Connection) -> Result<Channel, BrokerError> {
    connection.create_channel().await.map_err(unavailable)
}

async fn get(channel: &Channel) -> Result<Option<BasicGetMessage>, BrokerError> {
    let name = RabbitQueue::Unrouted.name();
    let name = lapin::types::ShortString::try_new(name).unwrap_or_default();
    channel.basic_get(name, BasicGetOptions::default()).await.map_err(unavailable)
}

#[expect(clippy::disallowed_methods, reason = "no delivery of a handler: an operator's command takes it out")]
async fn ack(got: &BasicGetMessage) -> Result<(), BrokerError> {
    got.delivery.acker.ack(BasicAckOptions::default()).await.map(drop).map_err(unavailable)
}

fn unrouted(got: &mut BasicGetMessage) -> Unrouted {
    let (exchange, routing_key) = (got.delivery.exchange.to_string(), got.delivery.routing_key.to_string());
    // The message belongs to no handler yet, so we read it as any work queue's.
    let queue = Queue::Work(hookline_common::names::HandlerName::RecordHistory);
    let event = message::read(&mut got.delivery, queue).event;
    Unrouted { event, exchange, routing_key }
}

fn unavailable(error: lapin::Error) -> BrokerError {
    BrokerError::Unavailable(error.to_string())
}
