//! Counts `unrecorded`: events that are accepted but not yet in the store, or explains why the number is unknown.
//!
//! An event goes from the spool into the history's queue, then to a worker, then into the store. We read these places
//! in that order, so that no event is missed on its way. The embedded broker's queue also counts the deliveries that
//! are handed out. RabbitMQ counts only ready messages, so we ask the workers how many they hold or are releasing.

use hookline_broker::QueueDepth;
use hookline_broker::embedded::Held;
use hookline_common::names::{HandlerName, Queue};
use hookline_common::settings::Settings;
use hookline_store::Store;

use super::Queues;
use crate::workers::{self, Answers};

const HISTORY_OFF: &str = "record_history is switched off";

/// The number, or why it is unknown.
pub(super) type Unrecorded = Result<u64, String>;

pub(super) async fn read(
    settings: &Settings,
    store: Option<&Store>,
    spool: &anyhow::Result<Held>,
    queues: &Result<Queues, String>,
) -> anyhow::Result<Unrecorded> {
    if !settings.handlers.record_history.basics.enabled {
        return Ok(Err(HISTORY_OFF.to_owned()));
    }
    let spooled = match spool {
        Ok(held) => held.events,
        Err(error) => return Ok(Err(format!("the spool cannot be read: {error:#}"))),
    };
    let Queues { handlers, .. } = match queues {
        Ok(queues) => queues,
        Err(why) => return Ok(Err(why.clone())),
    };
    let held = match (store, recorders(handlers)) {
        (Some(store), Some(recorders)) => match held(store, recorders).await? {
            Ok(held) => held,
            Err(why) => return Ok(Err(why)),
        },
        // The embedded broker has already counted deliveries in workers' hands. Without a store no worker has ever run.
        (None, _) | (_, None) => 0,
    };
    Ok(Ok(spooled + in_queues(handlers) + held))
}

/// Returns how many events the workers hold for the history and have not settled. `recorders` is the number of
/// consumers of the history's queue.
async fn held(store: &Store, recorders: u32) -> anyhow::Result<Unrecorded> {
    if recorders == 0 {
        return Ok(Ok(0));
    }
    let Answers { answered, silent } = workers::ask(store).await?;
    if silent > 0 {
        return Ok(Err(format!(
            "{silent} of {} workers did not say what they hold; ask again",
            answered.len() + silent
        )));
    }
    if answered.len() < usize::try_from(recorders)? {
        return Ok(Err(format!(
            "{recorders} workers record the history and {} of them could be asked; ask again",
            answered.len()
        )));
    }
    Ok(Ok(answered.iter().map(|worker| u64::try_from(worker.held_history).unwrap_or(0)).sum()))
}

/// Counts the events that the history still has to record, and its dead letters that have not been moved into the
/// store.
fn in_queues(queues: &[QueueDepth]) -> u64 {
    let history = queues.iter().filter(|depth| depth.queue.handler() == HandlerName::RecordHistory);
    history.map(|depth| depth.messages).sum()
}

/// Returns the number of consumers of the history's queue, if the broker reports it.
fn recorders(queues: &[QueueDepth]) -> Option<u32> {
    queues.iter().find(|depth| depth.queue == Queue::Work(HandlerName::RecordHistory)).and_then(|depth| depth.consumers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unrecorded_is_what_the_store_does_not_know_yet() {
        let depth = |queue, messages| QueueDepth { queue, messages, oldest: None, consumers: None };
        let queues = [
            depth(Queue::Work(HandlerName::LogNote), 7),
            depth(Queue::Work(HandlerName::RecordHistory), 3),
            depth(Queue::Dead(HandlerName::RecordHistory), 5),
        ];

        assert_eq!(in_queues(&queues), 8);
        assert_eq!(recorders(&queues), None);
    }
}
