//! `unrecorded`: events accepted and not yet in the store, or why that cannot be said.
//!
//! An event goes from the spool into the history's queue, from there into a worker's hand, and from there into the
//! store; what is looked at is looked at in that order, so that none is missed on its way. On the embedded broker the
//! queue counts what is handed out as well. RabbitMQ tells only what is ready: what workers hold, and
//! what they are giving back, they are asked.

use hookline_broker::QueueDepth;
use hookline_broker::embedded::Held;
use hookline_common::names::{HandlerName, Queue};
use hookline_common::settings::Settings;
use hookline_store::Store;

use super::Queues;
use crate::workers::{self, Answers};

const HISTORY_OFF: &str = "record_history is switched off";

/// A number, or why there is none.
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
        // The embedded broker has counted it already, and where there is no store there was no worker.
        (None, _) | (_, None) => 0,
    };
    Ok(Ok(spooled + in_queues(handlers) + held))
}

/// What workers hold of the history's and have not settled; `recorders` consumers there are.
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

/// What the history still has to record, and what it gave up and has not been moved into the store either.
fn in_queues(queues: &[QueueDepth]) -> u64 {
    let history = queues.iter().filter(|depth| depth.queue.handler() == HandlerName::RecordHistory);
    history.map(|depth| depth.messages).sum()
}

/// How many consumers of the history's queue there are, where the broker tells.
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
