//! Republishes the spool's events to RabbitMQ, oldest first, for as long as it takes.
//!
//! Only a few events are in flight at once, so that draining the spool does not take the places of new events. If
//! RabbitMQ refuses an event while it is ready (because one queue is at its length limit, say), the event is put off
//! and holds up nothing behind it. If RabbitMQ itself is in trouble, all events in hand are released unchanged and a
//! new round begins later.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use hookline_broker::{
    BrokerError, BrokerState, Consume, Deliveries, Delivery, Publish, PublishError, Settled, Settlement, Spends,
};
use hookline_common::names::Queue;
use hookline_common::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{QUEUE_OF, Spool};

/// Maximum forwarded events in flight: a quarter of the publisher's limit. The rest is for new events.
const IN_FLIGHT: usize = 64;
/// Maximum prefetch of the work queue, so that the next events are at hand while the previous ones are being settled.
const PREFETCH: u16 = 128;
/// Bodies that are in hand at most, however long each is.
const IN_HAND_BYTES: usize = 32 << 20;
/// So many are in hand even if each body has the greatest size.
const LEAST_IN_HAND: usize = 4;
/// Prefetch of the dead-letter queue. Its events were in hand when a process ended 20 times; they are forwarded like
/// the others.
const PREFETCH_DEAD: u16 = 4;
/// Pause after a failed round. It is doubled after each round that forwarded nothing, and has full jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Minimum delay before an event that RabbitMQ refused is tried again.
const PUT_OFF: Duration = Duration::from_secs(5);
/// Number of refusals in a row after which the cause is not the single event.
const REFUSED_IN_A_ROW: u32 = 64;
/// Pause before the forwarder asks a publisher again that is busy with new events.
const BUSY: Duration = Duration::from_millis(20);
/// After this long with nothing to forward, the account is compared with the file.
const QUIET: Duration = Duration::from_secs(30);

/// How a round ended.
enum Round {
    /// RabbitMQ went away or refuses everything. `took_some` says whether it accepted anything before.
    Trouble {
        took_some: bool,
    },
    Stopped,
}

/// What became of one event.
enum Forwarded {
    Done,
    PutOff,
    Trouble,
}

/// How many events are in hand at a time.
#[derive(Clone, Copy)]
pub(super) struct InHand {
    prefetch: u16,
    in_flight: usize,
}

impl InHand {
    pub(super) fn of(max_body_bytes: usize) -> Self {
        let most = (IN_HAND_BYTES / max_body_bytes.max(1)).max(LEAST_IN_HAND);
        Self { prefetch: PREFETCH.min(u16::try_from(most).unwrap_or(u16::MAX)), in_flight: IN_FLIGHT.min(most) }
    }
}

/// Forwards until `stop`, then finishes the events in flight and releases the rest.
pub(super) async fn run(spool: Arc<Spool>, remote: Arc<dyn Publish>, in_hand: InHand, stop: CancellationToken) {
    let mut state = remote.state();
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            open = became(&mut state, true) => if !open { return },
        }
        match round(&spool, remote.as_ref(), in_hand, &mut state, &stop).await {
            Ok(Round::Stopped) => return,
            Ok(Round::Trouble { took_some: true }) => pause = FIRST_PAUSE,
            Ok(Round::Trouble { took_some: false }) => {}
            Err(error) => tracing::warn!(error = %error, "spool.waiting: it cannot be read; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.mul_f64(rand::random::<f64>())) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Forwards until RabbitMQ is in trouble or `stop` is cancelled.
async fn round(
    spool: &Spool,
    remote: &dyn Publish,
    in_hand: InHand,
    state: &mut watch::Receiver<BrokerState>,
    stop: &CancellationToken,
) -> Result<Round, BrokerError> {
    let mut work = spool.broker.consume(Queue::Work(QUEUE_OF), in_hand.prefetch).await?;
    let mut dead = spool.broker.consume(Queue::Dead(QUEUE_OF), PREFETCH_DEAD).await?;
    let mut in_flight = FuturesUnordered::new();
    let mut refused_in_a_row = 0;
    let mut took_some = false;
    let end = loop {
        let has_room = in_flight.len() < in_hand.in_flight;
        tokio::select! {
            () = stop.cancelled() => break Round::Stopped,
            open = became(state, false) => break if open { Round::Trouble { took_some } } else { Round::Stopped },
            Some(forwarded) = in_flight.next() => match forwarded {
                Forwarded::Done => (took_some, refused_in_a_row) = (true, 0),
                Forwarded::PutOff if refused_in_a_row < REFUSED_IN_A_ROW => refused_in_a_row += 1,
                Forwarded::PutOff | Forwarded::Trouble => break Round::Trouble { took_some },
            },
            next = next_of(&mut work, &mut dead), if has_room => match next {
                Some(delivery) => in_flight.push(forward(spool, remote, delivery, stop)),
                None => break Round::Stopped,
            },
            () = tokio::time::sleep(QUIET), if in_flight.is_empty() => compare(spool).await,
        }
    };
    // Events in flight are answered within the publisher's deadline, and then settled.
    while in_flight.next().await.is_some() {}
    let (work, dead) = (work.drain().await, dead.drain().await);
    for delivery in work.into_iter().chain(dead) {
        settle(delivery, Settlement::Release).await;
    }
    Ok(end)
}

/// Waits until RabbitMQ is ready (`ready`) or is not (`!ready`); returns `false` if it was closed for good.
async fn became(state: &mut watch::Receiver<BrokerState>, ready: bool) -> bool {
    state.wait_for(|state| (*state == BrokerState::Ready) == ready).await.is_ok()
}

/// Returns the next delivery, dead letters first, or `None` when the spool was closed.
async fn next_of(work: &mut Deliveries, dead: &mut Deliveries) -> Option<Delivery> {
    tokio::select! {
        biased;
        delivery = dead.next() => delivery,
        delivery = work.next() => delivery,
    }
}

async fn forward(spool: &Spool, remote: &dyn Publish, delivery: Delivery, stop: &CancellationToken) -> Forwarded {
    let event = Arc::clone(&delivery.event);
    let published = loop {
        match remote.publish_patiently(&event).await {
            Err(PublishError::Overloaded) if !stop.is_cancelled() => tokio::time::sleep(BUSY).await,
            published => break published,
        }
    };
    match published {
        Ok(_) => {
            // Settling comes last on purpose. A crash before this line forwards the event again; settling earlier could
            // lose it.
            if settle(delivery, Settlement::Done).await == Some(Settled::Confirmed) {
                spool.account.left(&event);
            }
            Forwarded::Done
        }
        // RabbitMQ is there: one queue refuses, or does not confirm, and what goes elsewhere must not wait for it.
        Err(error @ (PublishError::Unavailable(_) | PublishError::Unknown))
            if *remote.state().borrow() == BrokerState::Ready =>
        {
            tracing::debug!(event.id = event.id.as_str(), %error, "spool.put_off");
            let until = Timestamp::now().plus(PUT_OFF.mul_f64(1.0 + rand::random::<f64>()));
            settle(delivery, Settlement::Park { until, spends: Spends::Nothing, last: None }).await;
            Forwarded::PutOff
        }
        Err(
            PublishError::Unavailable(_) | PublishError::Unknown | PublishError::Overloaded | PublishError::Fatal(_),
        ) => {
            settle(delivery, Settlement::Release).await;
            Forwarded::Trouble
        }
    }
}

/// Settles the delivery; returns `None` if the spool failed. In that case the spool's state reports the failure, and
/// the event is forwarded again.
async fn settle(delivery: Delivery, settlement: Settlement) -> Option<Settled> {
    match delivery.settle(settlement).await {
        Ok(settled) => Some(settled),
        Err(error) => {
            tracing::debug!(error = %error, "the spool could not be told what became of an event");
            None
        }
    }
}

async fn compare(spool: &Spool) {
    if spool.account.events() == 0 {
        return;
    }
    spool.account.recount(async || spool.broker.held().await.ok()).await;
}
