//! The owner of a note in the system of record: the TextUs user who wrote the thread's first outbound text. Owners never
//! keep a note from being written.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hookline_common::settings::SystemOfRecordSettings;
use hookline_store::model::{Thread, ThreadMessage};

use crate::delivery::handler::{Attempt, HandlerError};
use crate::destinations::error::DestinationError;
use crate::records::SystemOfRecord;

/// How long an answer of the system counts. Who is not there may be added, so that is asked again sooner.
const KNOWN_FOR: Duration = Duration::from_hours(1);
const UNKNOWN_FOR: Duration = Duration::from_mins(15);
/// How long nobody asks again after an answer that a little time may cure.
const FAILED_FOR: Duration = Duration::from_secs(30);
/// How often a user without an owner is told of.
const TOLD_EVERY: Duration = Duration::from_hours(24);
/// Most users that are remembered; more than any customer has.
const MOST: usize = 10_000;

pub(super) struct Owners {
    records: Arc<dyn SystemOfRecord>,
    /// Ids of owners by e-mail address or name, in lower case.
    configured: BTreeMap<String, String>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// What the system said about an e-mail address, and until when that counts.
    asked: HashMap<String, (Said, Instant)>,
    /// When a user without an owner was last told of.
    told: HashMap<String, Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Owner(String),
    Nobody,
    /// The credentials may not ask.
    MayNot,
    Failed,
}

/// The owner of one note.
#[derive(Default)]
pub(super) struct Owner {
    pub(super) id: Option<String>,
    /// Why there is none, once a day and user.
    pub(super) remark: Option<String>,
}

impl Owners {
    pub(super) fn new(settings: &SystemOfRecordSettings, records: Arc<dyn SystemOfRecord>) -> Self {
        let configured = settings.authors.iter().map(|(user, owner)| (alike(user), owner.clone())).collect();
        Self { records, configured, memory: Mutex::default() }
    }

    /// Returns the owner of a thread's note. `authors` counts before what the system knows, and an e-mail address
    /// before a name, because two users may have one name.
    pub(super) async fn of(&self, attempt: &Attempt<'_>, thread: &Thread) -> Owner {
        if !self.records.has_owners() {
            return Owner::default();
        }
        let Some(first) = thread.messages.iter().find(|message| !message.is_inbound) else { return Owner::default() };
        let email = first.author_email.as_deref().map(alike).filter(|email| !email.is_empty());
        let name = first.author.as_deref().map(alike).filter(|name| !name.is_empty());
        let configured = [&email, &name].into_iter().flatten().find_map(|user| self.configured.get(user));
        if let Some(id) = configured {
            return Owner { id: Some(id.clone()), remark: None };
        }
        let said = match &email {
            Some(email) => self.ask(attempt, email).await,
            None => Said::Nobody,
        };
        if let Said::Owner(id) = said {
            return Owner { id: Some(id), remark: None };
        }
        // A text that an automation sent has no author.
        let Some(user) = email.as_ref().or(name.as_ref()) else { return Owner::default() };
        // A failure is over soon, and must not use up the day's remark on the user.
        let is_news = said == Said::Failed || self.is_news(user);
        let remark = is_news.then(|| remark(first, email.is_some(), &said));
        match &remark {
            Some(remark) if said == Said::Failed => tracing::info!("note.no_owner: {remark}"),
            Some(remark) => tracing::warn!("note.no_owner: {remark}"),
            None => {}
        }
        Owner { id: None, remark }
    }

    async fn ask(&self, attempt: &Attempt<'_>, email: &str) -> Said {
        let known = self.memory().asked.get(email).filter(|(_, until)| *until > Instant::now()).cloned();
        if let Some((said, _)) = known {
            return said;
        }
        let (said, lasts) = match self.records.find_owner(attempt.calls, email).await {
            Ok(Some(id)) => (Said::Owner(id), KNOWN_FOR),
            Ok(None) => (Said::Nobody, UNKNOWN_FOR),
            Err(error) if may_not(&error) => (Said::MayNot, UNKNOWN_FOR),
            Err(error) => {
                tracing::debug!(kind = error.kind(), "note.owner_unknown: the note is written without one");
                (Said::Failed, FAILED_FOR)
            }
        };
        let mut memory = self.memory();
        if memory.asked.len() >= MOST {
            memory.asked.clear();
        }
        memory.asked.insert(email.to_owned(), (said.clone(), Instant::now() + lasts));
        said
    }

    /// Whether nothing was said about this user for a day.
    fn is_news(&self, user: &str) -> bool {
        let mut memory = self.memory();
        if memory.told.get(user).is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return false;
        }
        if memory.told.len() >= MOST {
            memory.told.clear();
        }
        memory.told.insert(user.to_owned(), Instant::now());
        true
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a user as it is compared.
fn alike(user: &str) -> String {
    user.trim().to_lowercase()
}

fn may_not(error: &HandlerError) -> bool {
    match error {
        HandlerError::Destination { error, .. } => {
            matches!(
                error,
                DestinationError::CredentialsRefused { status: 403, .. } | DestinationError::Forbidden { .. }
            )
        }
        HandlerError::Store(_)
        | HandlerError::Wait { .. }
        | HandlerError::TryAgain { .. }
        | HandlerError::GiveUp { .. } => false,
    }
}

/// Names the text, not its author: remarks hold no personal data.
fn remark(first: &ThreadMessage, has_email: bool, said: &Said) -> String {
    if *said == Said::Failed {
        return format!(
            "the note has no owner yet: the system of record did not say who wrote {}, and is asked again at the note's next \
             change",
            first.message_id
        );
    }
    let why = match said {
        Said::MayNot => "the credentials may not look for users in the system of record",
        Said::Owner(_) | Said::Nobody | Said::Failed if has_email => {
            "the system of record has no user with their e-mail address"
        }
        Said::Owner(_) | Said::Nobody | Said::Failed => "TextUs does not tell their e-mail address",
    };
    format!(
        "the note has no owner: {why}, and [system_of_record] authors has no line for the user who wrote {}",
        first.message_id
    )
}
