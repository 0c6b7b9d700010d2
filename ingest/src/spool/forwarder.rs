//! Republishes what the spool holds, oldest first, for as long as it takes.
//!
//! Few in flight beside new events: a spool that is worked off must not take their places. What RabbitMQ refuses while
//! it is ready (one queue at its length limit, say) is put off and holds up nothing behind it; when RabbitMQ itself is
//! in trouble, everything in hand goes back as it was and a new round begins later.

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

/// A quarter of what the publisher lets be in flight: the rest is for new events.
const IN_FLIGHT: usize = 64;
/// So that the next ones are at hand while the former are being settled.
const PREFETCH: u16 = 128;
/// Those that 20 ended processes had in hand: forwarded like the others.
const PREFETCH_DEAD: u16 = 16;
/// Before a round after one that came to nothing: doubled each time, with full jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Before an event that RabbitMQ refused is tried again.
const PUT_OFF: Duration = Duration::from_secs(5);
/// So many refused in a row: it is not about the single event.
const REFUSED_IN_A_ROW: u32 = 64;
/// Before asking again a publisher that is busy with new events.
const BUSY: Duration = Duration::from_millis(20);
/// With nothing to forward for this long, the account is compared with the file.
const QUIET: Duration = Duration::from_secs(30);

/// How a round ended.
enum Round {
    /// RabbitMQ went away or refuses everything; whether it took anything before.
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

/// Forwards until `stop`; then finishes what is in flight and gives back the rest.
pub(super) async fn run(spool: Arc<Spool>, remote: Arc<dyn Publish>, stop: CancellationToken) {
    let mut state = remote.state();
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            open = became(&mut state, true) => if !open { return },
        }
        match round(&spool, remote.as_ref(), &mut state, &stop).await {
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

/// Forwards until RabbitMQ is in trouble or `stop`.
async fn round(
    spool: &Spool,
    remote: &dyn Publish,
    state: &mut watch::Receiver<BrokerState>,
    stop: &CancellationToken,
) -> Result<Round, BrokerError> {
    let mut work = spool.broker.consume(Queue::Work(QUEUE_OF), PREFETCH).await?;
    let mut dead = spool.broker.consume(Queue::Dead(QUEUE_OF), PREFETCH_DEAD).await?;
    let mut in_flight = FuturesUnordered::new();
    let mut refused_in_a_row = 0;
    let mut took_some = false;
    let end = loop {
        let has_room = in_flight.len() < IN_FLIGHT;
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
    // What is on its way is answered within the publisher's deadline, and settled.
    while in_flight.next().await.is_some() {}
    let (work, dead) = (work.drain().await, dead.drain().await);
    for delivery in work.into_iter().chain(dead) {
        settle(delivery, Settlement::Release).await;
    }
    Ok(end)
}

/// Waits until RabbitMQ is ready, or is not; `false` where it was closed for good.
async fn became(state: &mut watch::Receiver<BrokerState>, ready: bool) -> bool {
    state.wait_for(|state| (*state == BrokerState::Ready) == ready).await.is_ok()
}

/// `None` when the spool was closed.
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
            // Last on purpose: dying before this line forwards it again, dying after an early one would lose it.
            if settle(delivery, Settlement::Done).await == Some(Settled::Confirmed) {
                spool.account.left(&event);
            }
            Forwarded::Done
        }
        Err(PublishError::Unavailable(why)) if *remote.state().borrow() == BrokerState::Ready => {
            tracing::debug!(event.id = event.id.as_str(), why, "spool.put_off");
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

/// Where the spool cannot be asked, its state says so, and the event is forwarded again.
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
