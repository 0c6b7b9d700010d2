//! Finds out whether a receiver that refused our signature accepts it now. While it doesn't, no document goes to it but
//! this question, so that no person's change is what finds out.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::HttpRecords;
use crate::calls::log::CallLog;

/// A number of a form that is assigned to nobody. A receiver that knows people answers with none.
pub(super) const NOBODY: &str = "+15555550199";
/// How often a process looks whether the question is due.
const LOOK: Duration = Duration::from_millis(200);

/// Runs until `shutdown`. While the destination is paused for a refused signature, asks as often as the gate allows. The
/// gate reads from the answer whether the pause ends.
pub(super) async fn run(records: &HttpRecords, shutdown: CancellationToken) {
    loop {
        let wait = records.gate.check_due_in().map_or(LOOK, |due| due.min(LOOK));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if records.gate.check_due_in().is_some_and(|due| due.is_zero())
            && let Err(error) = records.check(&CallLog::default()).await
        {
            tracing::debug!(destination = %records.gate.destination(), kind = error.kind(), "credentials.checked");
        }
    }
}
