//! Owners of notes: HubSpot's users
//! (<https://developers.hubspot.com/docs/api-reference/latest/crm/owners/guide>). A token that may not look for them, and an
//! owner whom HubSpot refuses, keep no note from being written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::HubSpot;
use super::client::{Page, Request};
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::records::NotePart;

pub(super) const OWNER: &str = "hubspot_owner_id";
/// No user has this address.
const NOBODY: &str = "nobody@hookline.invalid";
/// How long an owner who was refused is not tried again.
const REFUSED_FOR: Duration = Duration::from_hours(1);

/// The ids of owners whom HubSpot refused, and when.
#[derive(Default)]
pub(super) struct RefusedOwners(Mutex<HashMap<String, Instant>>);

impl RefusedOwners {
    fn has(&self, owner: &str) -> bool {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(owner).is_some_and(|at| at.elapsed() < REFUSED_FOR)
    }

    fn add(&self, owner: &str) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, at| at.elapsed() < REFUSED_FOR);
        refused.insert(owner.to_owned(), Instant::now());
    }
}

#[derive(Deserialize)]
struct Owner {
    /// The id that a record is assigned by; `userId` is another.
    id: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    archived: bool,
}

impl HubSpot {
    /// Returns the id of the owner with this e-mail address.
    pub(super) async fn owner(&self, log: &CallLog, email: &str) -> Result<Option<String>, DestinationError> {
        let answer = match self.client.make(log, Request::of_owners(email)).await {
            Ok(answer) => answer,
            Err(DestinationError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let page: Page<Owner> = answer.object()?;
        let has_it = |owner: &&Owner| owner.email.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(email));
        Ok(page.results.iter().filter(|owner| !owner.archived).find(has_it).map(|owner| owner.id.clone()))
    }

    /// Finds out whether the token may look for owners.
    ///
    /// # Errors
    /// Any [`DestinationError`]; a missing scope is an answer.
    pub async fn may_read_owners(&self, log: &CallLog) -> Result<bool, DestinationError> {
        match self.owner(log, NOBODY).await {
            Ok(_) => Ok(true),
            Err(DestinationError::Forbidden { .. } | DestinationError::CredentialsRefused { status: 403, .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the tries of one write of a note.
    pub(super) fn tries<'a>(&'a self, part: &NotePart<'a>) -> Tries<'a> {
        let owner = part.owner.filter(|owner| !self.refused_owners.has(owner));
        Tries { refused: &self.refused_owners, part: NotePart { owner, ..*part }, refusal: None }
    }
}

/// A write is tried with the note's owner and, if HubSpot refuses it, without: a user may be deactivated, or `authors`
/// may name an id that nobody has. A refusal did nothing, so the second try is no repeat.
pub(super) struct Tries<'a> {
    refused: &'a RefusedOwners,
    /// What to write now.
    pub(super) part: NotePart<'a>,
    /// The owner with whom the write was refused, and why.
    refusal: Option<(&'a str, String)>,
}

impl Tries<'_> {
    /// Whether this is the result of the write. If not, the part has no owner any more.
    pub(super) fn end_with<T>(&mut self, result: &Result<T, DestinationError>) -> bool {
        match (result, self.part.owner, &self.refusal) {
            (Err(error @ DestinationError::Rejected { status: 400, .. }), Some(owner), _) => {
                self.refusal = Some((owner, error.detail()));
                self.part.owner = None;
                false
            }
            (Ok(_), None, Some((owner, detail))) => {
                self.refused.add(owner);
                tracing::warn!(
                    owner,
                    detail,
                    "hubspot.owner_refused: notes are written without this owner for an hour; look \
                    in HubSpot whether the user is active, and at [system_of_record] authors"
                );
                true
            }
            // A second refusal is about something else.
            (Ok(_) | Err(_), _, _) => true,
        }
    }
}
