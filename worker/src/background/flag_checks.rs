//! Searches the people of an opt-out again, at the times that the system of record asks for: the index of a CRM does not
//! have a fresh record at once.

use std::sync::Arc;
use std::time::Duration;

use hookline_common::event::EventId;
use hookline_store::StoreError;
use hookline_store::model::Payload;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::calls::log::CallLog;
use crate::delivery::consume::Context;
use crate::delivery::handler::Attempt;
use crate::handlers::flag_opt_out::FlagOptOut;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long nobody else takes a search; also when one that failed is tried again.
const LEASE: Duration = Duration::from_mins(2);
/// Searches that are taken at once. A CRM allows few a second.
const TOGETHER: u32 = 10;

/// Makes the searches that are due, until `shutdown`. `times` are those after an opt-out's first search.
pub(crate) async fn run(
    context: Arc<Context>,
    handler: FlagOptOut,
    times: &'static [Duration],
    shutdown: CancellationToken,
) {
    let mut ticker = tokio::time::interval(LOOK_EVERY);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let searching = async {
        loop {
            ticker.tick().await;
            if let Err(error) = search_due(&context, &handler, times).await {
                tracing::debug!(error = %error, "opt_outs.not_searched_again: trying again");
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = searching => {}
    }
}

async fn search_due(context: &Context, handler: &FlagOptOut, times: &[Duration]) -> Result<(), StoreError> {
    for (event_id, step) in context.store.take_flag_checks(LEASE, TOGETHER).await? {
        let next = match search(context, handler, &event_id).await? {
            Searched::Made => {
                let times = times.get(step).zip(times.get(step + 1));
                times.map(|(this, next)| next.saturating_sub(*this))
            }
            Searched::NothingLeft => None,
            Searched::Failed => continue,
        };
        context.store.flag_checked(&event_id, next).await?;
    }
    Ok(())
}

enum Searched {
    Made,
    /// The payload was erased or has expired.
    NothingLeft,
    /// The search is taken again after its lease.
    Failed,
}

async fn search(context: &Context, handler: &FlagOptOut, event_id: &EventId) -> Result<Searched, StoreError> {
    let event = match context.store.event_payload(event_id).await? {
        Payload::Here(event) => event,
        // The history may not have the event yet.
        Payload::Unknown => return Ok(Searched::Failed),
        Payload::Gone => return Ok(Searched::NothingLeft),
    };
    let calls = CallLog::about(event.body.clone());
    let owner = context.next_owner();
    let attempt = Attempt { event: &event, owner: &owner, calls: &calls, first_claim: None };
    match handler.search_again(&attempt).await {
        Ok(remarks) => {
            if !remarks.is_empty() {
                tracing::info!(event_id = %event_id, records = remarks.len(), "opt_out.flagged_later");
            }
            Ok(Searched::Made)
        }
        // The delivery is the dead letter. Others who have the number may be found at the next time.
        Err(error) if error.is_final() => {
            tracing::warn!(event_id = %event_id, kind = error.kind(), "opt_out.not_flagged_later");
            Ok(Searched::Made)
        }
        Err(error) => {
            tracing::debug!(event_id = %event_id, kind = error.kind(), "opt_out.not_searched_again");
            Ok(Searched::Failed)
        }
    }
}
