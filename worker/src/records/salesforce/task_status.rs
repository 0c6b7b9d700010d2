//! The status of a task that is done. It is called `Completed` unless the org renamed it
//! (<https://developer.salesforce.com/docs/platform/object-reference/references/standard-objects/object-taskstatus.html>).

use std::sync::{PoisonError, RwLock};

use hookline_common::names::{Operation, OperationClass};

use super::errors::not_made;
use super::{Failure, Salesforce, soql};
use crate::calls::log::CallLog;

const USUAL: &str = "Completed";

/// What this process knows of the org's statuses.
#[derive(Default)]
pub(super) struct DoneStatus(RwLock<Option<String>>);

impl Salesforce {
    /// Returns the status of a task that is done. Asks Salesforce once for each process.
    pub(super) async fn done_status(&self, log: &CallLog) -> Result<String, Failure> {
        if let Some(known) = self.done_status.0.read().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(known);
        }
        let status = self.read_done_status(log).await?;
        *self.done_status.0.write().unwrap_or_else(PoisonError::into_inner) = Some(status.clone());
        Ok(status)
    }

    /// Reads the statuses again, since Salesforce refused one. Returns the other one, if there is one.
    pub(super) async fn other_done_status(&self, log: &CallLog, refused: &str) -> Result<Option<String>, Failure> {
        let status = self.read_done_status(log).await?;
        *self.done_status.0.write().unwrap_or_else(PoisonError::into_inner) = Some(status.clone());
        Ok((status != refused).then_some(status))
    }

    async fn read_done_status(&self, log: &CallLog) -> Result<String, Failure> {
        let fields = ["Id", "ApiName", "IsClosed"];
        let request = soql::query(Operation::ReadSetUp, &fields, "TaskStatus", "IsClosed = true")
            .in_class(OperationClass::ContactWrites);
        match self.client.query(log, request).await {
            Ok(found) => {
                let found = found.unwrap_or_default();
                let closed: Vec<&str> = found
                    .iter()
                    .filter(|status| status.is_set("IsClosed"))
                    .filter_map(|status| status.get("ApiName"))
                    .collect();
                let usual = closed.iter().find(|name| **name == USUAL).or(closed.first());
                Ok((*usual.unwrap_or(&USUAL)).to_owned())
            }
            // Not every user may see the statuses.
            Err(failure) if failure.is_refusal() => Ok(USUAL.to_owned()),
            Err(failure) => Err(not_made(failure.error).into()),
        }
    }
}
