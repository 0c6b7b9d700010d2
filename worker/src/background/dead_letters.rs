//! Moves dead letters from the dead queues into the store's `dead_letters`, and finishes redrives that a crash
//! interrupted. Listing, searching and discarding are then SQL and can't harm a message.

use std::sync::Arc;

use hookline_broker::{Again, Broker, DeadLetterInfo, Delivery};
use hookline_common::names::{DeadReason, HandlerName, Queue};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use tokio_util::sync::CancellationToken;

use crate::delivery::consume::{self, Context};
use crate::delivery::patience::{Patience, store_is_back};
use crate::delivery::settle;

const PREFETCH: u16 = 16;

/// Moves one handler's dead letters until `shutdown`.
pub(crate) async fn run(context: Arc<Context>, handler: HandlerName, shutdown: CancellationToken) {
    while let Some(mut deliveries) = consume::consume(&context, Queue::Dead(handler), PREFETCH, &shutdown).await {
        let mut store_is_away = false;
        while !store_is_away {
            let delivery = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                delivery = deliveries.next() => delivery,
            };
            let Some(delivery) = delivery else { break };
            store_is_away = !move_to_store(&context, handler, delivery, &shutdown).await;
        }
        consume::give_back(&context, deliveries).await;
        if shutdown.is_cancelled() {
            return;
        }
        store_is_back(&context, &shutdown).await;
    }
}

/// Moves one dead letter. Returns `false` if the store stayed away and the delivery was given back.
async fn move_to_store(
    context: &Context,
    handler: HandlerName,
    delivery: Delivery,
    shutdown: &CancellationToken,
) -> bool {
    let info = delivery.dead.clone().unwrap_or_else(|| DeadLetterInfo {
        reason: DeadReason::DeliveryLimit,
        destination: None,
        status: None,
        detail: "handed out too often without being settled".to_owned(),
        attempts: delivery.attempt,
        dead_lettered_at: Timestamp::now(),
    });
    let patience = Patience::new(context, shutdown);
    let moved = loop {
        match context.store.insert_dead_letter(&delivery.event, handler, &info, &delivery.routed_to).await {
            Err(error) if patience.again(&error).await => {}
            outcome => break outcome,
        }
    };
    match moved {
        Ok(()) => {
            context.metrics.worker.dead_letter(handler, info.reason);
            context.metrics.worker.settled(handler, delivery.age(Timestamp::now()));
            settle::done(delivery).await;
            true
        }
        Err(error) if error.is_unavailable() => {
            tracing::warn!(handler = %handler, event.id = %delivery.event.id, error = %error,
                "dead_letter.given_back: the store is away");
            settle::release(context, delivery).await;
            false
        }
        Err(error) => {
            tracing::warn!(handler = %handler, event.id = %delivery.event.id, error = %error,
                "dead_letter.held: the store refuses it; please report this");
            settle::hold(context, delivery).await;
            true
        }
    }
}

/// Puts one dead letter back on its handler's queue in three steps: mark, publish, remove. A crash at any line is
/// harmless: [`resume`] finds the mark again, and a second publish meets the first one or a finished delivery. Returns
/// `Ok(false)` if there is no such dead letter.
///
/// # Errors
/// When the store or the broker can't be reached.
pub async fn redrive(store: &Store, broker: &dyn Broker, id: &str) -> anyhow::Result<bool> {
    let Some((event, handler)) = store.mark_redriving(id).await? else { return Ok(false) };
    broker.publish_again(handler, &event, Again::Redrive).await?;
    store.redriven(id).await?;
    Ok(true)
}

/// Finishes the redrives that were marked and not removed. Returns how many there were.
///
/// # Errors
/// Same as [`redrive`].
pub async fn resume(store: &Store, broker: &dyn Broker) -> anyhow::Result<usize> {
    let unfinished = store.redriving().await?;
    for id in &unfinished {
        redrive(store, broker, id).await?;
    }
    Ok(unfinished.len())
}
