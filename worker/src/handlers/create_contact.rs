//! Creates the contact in every configured TextUs account: looks it up, POSTs it if it isn't there, stores its id, and
//! recognises the webhook that the POST triggers.
//!
//! POST has no idempotency and no uniqueness rule (<https://apidocs.next.textus.com/docs/contacts/create-contact/>). So
//! writes are serialised per account and phone, and an unknown outcome is looked up before another POST. A contact with
//! several numbers locks all of them ([`ContactLocks`]), and counts as present if the account has a contact under any
//! of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hookline_common::names::{DeadReason, Destination, HandlerName, OperationClass, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::settings::Settings;
use hookline_common::time::Timestamp;
use hookline_store::model::ContactLink;
use hookline_store::{Store, StoreError};

use super::contact_locks::ContactLocks;
use super::contact_lookup::{self, Found};
use super::effects::{Before, Effects, Once, OurClaim, WriteError, Written};
use super::{Clients, Targets, soon};
use crate::delivery::handler::{Attempt, Failure, Handler, HandlerError, Outcome};
use crate::destinations::error::DestinationError;
use crate::gate::Gate;
use crate::textus::client::{NewContact, TextUs};
use crate::textus::payload::{self, ContactPayload, Numbers, Payload, PhonesRef, Unreadable};

const NAME: HandlerName = HandlerName::CreateContact;
const NOT_KNOWN_YET: &str = "the outcome of an earlier POST is not known yet";

pub(super) struct CreateContact {
    store: Store,
    textus: TextUs,
    gate: Arc<Gate>,
    accounts: Vec<String>,
    effects: Effects,
}

/// What a contact's event says about it, or the API if the event holds only links.
pub(super) struct Details {
    pub(super) name: Option<String>,
    pub(super) numbers: Numbers,
    data: serde_json::Value,
}

impl Details {
    /// Returns a remark about numbers that can't be read.
    pub(super) fn remark(&self) -> Option<String> {
        let unreadable = self.numbers.unreadable;
        (unreadable > 0).then(|| format!("{unreadable} of the contact's phone numbers cannot be read"))
    }
}

/// The outcome for one target account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Created,
    AlreadyThere,
    Echo,
}

impl CreateContact {
    pub(super) fn new(settings: &Settings, clients: &Clients) -> Self {
        Self {
            store: clients.store.clone(),
            textus: clients.textus.clone(),
            gate: Arc::clone(&clients.textus_gate),
            accounts: settings.handlers.create_contact.accounts.clone(),
            effects: Effects::by_calls(clients.store.clone(), NAME, settings.textus.timeout),
        }
    }

    async fn create_in(
        &self,
        attempt: &Attempt<'_>,
        account: &str,
        contact: &Contact<'_>,
    ) -> Result<Target, HandlerError> {
        // An echo that overtakes the answer to our POST waits here until the answer is stored.
        let locks = ContactLocks::new(&self.store, (account, attempt.owner), self.effects.lease, contact.phones);
        let links = locks.take().await?;
        let result = self.create_locked(attempt, account, contact, &links, &locks).await;
        match &result {
            Err(WriteError::InDoubt(_)) => locks.keep(self.effects.settle_after).await?,
            Ok(_) | Err(WriteError::NotMade(_)) => locks.give_back().await?,
        }
        Ok(result?)
    }

    async fn create_locked(
        &self,
        attempt: &Attempt<'_>,
        account: &str,
        contact: &Contact<'_>,
        links: &[ContactLink],
        locks: &ContactLocks<'_>,
    ) -> Result<Target, WriteError> {
        if links.iter().any(|link| link.contact_id.is_some()) {
            let is_this = |link: &ContactLink| link.contact_id.as_ref() == Some(&contact.payload.raw_id);
            let own = links.iter().any(|link| link.created_by_us && is_this(link));
            return Ok(if own { Target::Echo } else { Target::AlreadyThere });
        }
        let effect = (account, contact.phone().as_e164());
        let write = |claim| self.look_and_post(attempt, account, contact, claim, locks);
        match self.effects.once(attempt, effect, NOT_KNOWN_YET, write).await? {
            Once::Before { .. } => Ok(Target::AlreadyThere),
            Once::Now(Written { value: target, effect }) => {
                // Others look as soon as the locks are given back, so record the effect before.
                if let Some(effect) = effect {
                    self.store.note_completed(effect).await.map_err(WriteError::in_doubt)?;
                }
                Ok(target)
            }
        }
    }

    /// Waits while a POST that names one of the other numbers is unanswered: it may be about this person.
    async fn others_in_doubt(&self, attempt: &Attempt<'_>, contact: &Contact<'_>) -> Result<(), HandlerError> {
        for phone in &contact.phones[1..] {
            if self.store.contact_in_doubt(phone, &attempt.event.id).await? {
                let until = soon(Timestamp::now().plus(Duration::from_secs(1)));
                return Err(HandlerError::Wait { until, why: NOT_KNOWN_YET });
            }
        }
        Ok(())
    }

    async fn look_and_post(
        &self,
        attempt: &Attempt<'_>,
        account: &str,
        contact: &Contact<'_>,
        claim: OurClaim,
        locks: &ContactLocks<'_>,
    ) -> Result<Written<Target>, WriteError> {
        let before = claim.before;
        // A delivery whose own POST is in doubt doesn't wait for others: two that waited for each other would never
        // end.
        if before == Before::Nothing {
            self.others_in_doubt(attempt, contact).await?;
        }
        let found = match self.look(attempt, account, contact, locks).await {
            Ok(found) => found,
            // A person has looked instead.
            Err(NotLooked::Answer(error)) if before == Before::RuledOut && is_refusal(&error) => None,
            Err(NotLooked::Answer(error)) => return Err(cannot_tell(error, before).into()),
            Err(NotLooked::Locks(wait)) => return Err(wait.into()),
        };
        if let Some(found) = found {
            return Ok(self.accept(account, contact, claim, found).await?);
        }
        // The look-up was answered, so this makes no call.
        let asked = self.textus.ask_before_writing(OperationClass::ContactWrites).await;
        asked.map_err(HandlerError::textus)?;
        locks.renew().await?;
        self.effects.begin_write(&claim).await?;
        let request = NewContact {
            name: contact.details.name.clone().unwrap_or_else(|| contact.phone().as_e164().to_owned()),
            phones: contact.details.numbers.usable.clone(),
            data: contact.details.data.clone(),
        };
        let key = attempt.idempotency_key(NAME, account);
        match self.textus.create_contact(attempt.calls, account, &request, &key).await {
            Ok(created) => {
                // From here on the claim must not be released, whatever fails: it then ends as unknown, and is looked
                // up.
                let contact_id = created.raw_id();
                self.link(account, contact.phones, &contact_id, true).await.map_err(WriteError::in_doubt)?;
                Ok(claim.made(Target::Created, Some(&contact_id)))
            }
            // The retired API refused a phone that was taken. If this API does too, the contact is there.
            Err(DestinationError::Rejected { status: status @ (409 | 422), detail }) => {
                match self.look(attempt, account, contact, locks).await.map_err(HandlerError::from)? {
                    Some(found) => Ok(self.accept(account, contact, claim, found).await?),
                    None => Err(HandlerError::textus(DestinationError::Rejected { status, detail }).into()),
                }
            }
            Err(error) => Err(WriteError::of_write(HandlerError::textus(error))),
        }
    }

    /// Returns what the account has under the first number that finds a contact, and that number.
    async fn look<'c>(
        &self,
        attempt: &Attempt<'_>,
        account: &str,
        contact: &Contact<'c>,
        locks: &ContactLocks<'_>,
    ) -> Result<Option<(&'c Phone, Found)>, NotLooked> {
        for (place, phone) in contact.phones.iter().enumerate() {
            if place > 0 {
                locks.renew().await.map_err(NotLooked::Locks)?;
            }
            match contact_lookup::by_phone(&self.textus, attempt.calls, account, phone).await? {
                Found::Nobody => {}
                found @ (Found::One { .. } | Found::Several) => return Ok(Some((phone, found))),
            }
        }
        Ok(None)
    }

    /// Settles the effect with the contact that a look-up found.
    async fn accept(
        &self,
        account: &str,
        contact: &Contact<'_>,
        claim: OurClaim,
        (phone, found): (&Phone, Found),
    ) -> Result<Written<Target>, StoreError> {
        // Several contacts share the phone. The contact is there, but nothing here can say which one it is.
        let Some((contact_id, _)) = found.one() else { return Ok(claim.made(Target::AlreadyThere, None)) };
        let is_this = contact_id == contact.payload.raw_id;
        // Before the POST whose answer was lost, no contact was there. So a contact found now is the POST's effect. The
        // one exception: this event's own POST can't have created the contact that this event is about.
        let target = match claim.before {
            Before::Unknown if is_this => Target::Echo,
            Before::OwnUnknown if is_this => Target::AlreadyThere,
            Before::Unknown | Before::OwnUnknown => Target::Created,
            Before::Nothing | Before::RuledOut => Target::AlreadyThere,
        };
        // A contact that we POSTed has all the numbers.
        let created_by_us = target != Target::AlreadyThere;
        let phones = if created_by_us { contact.phones } else { std::slice::from_ref(phone) };
        self.link(account, phones, &contact_id, created_by_us).await?;
        Ok(claim.made(target, Some(&contact_id)))
    }

    /// Stores the contact's id before the effect is completed: nobody looks again afterwards, and the echo guard needs
    /// the id.
    async fn link(
        &self,
        account: &str,
        phones: &[Phone],
        contact_id: &str,
        created_by_us: bool,
    ) -> Result<(), StoreError> {
        for phone in phones {
            let link = ContactLink {
                account: account.to_owned(),
                phone: phone.clone(),
                contact_id: Some(contact_id.to_owned()),
                person_id: None,
                created_by_us,
            };
            self.store.save_link(&link).await?;
        }
        Ok(())
    }
}

/// A contact that is about to be created in an account.
struct Contact<'a> {
    payload: &'a ContactPayload,
    details: &'a Details,
    /// All numbers of the contact, at least one.
    phones: &'a [Phone],
}

impl<'a> Contact<'a> {
    /// The number that represents the contact in effect keys.
    fn phone(&self) -> &'a Phone {
        &self.phones[0]
    }
}

/// Why a look-up of all numbers has no result.
enum NotLooked {
    Answer(DestinationError),
    /// Another delivery has taken the locks.
    Locks(HandlerError),
}

impl From<DestinationError> for NotLooked {
    fn from(error: DestinationError) -> Self {
        Self::Answer(error)
    }
}

impl From<NotLooked> for HandlerError {
    fn from(error: NotLooked) -> Self {
        match error {
            NotLooked::Answer(error) => Self::textus(error),
            NotLooked::Locks(wait) => wait,
        }
    }
}

/// Turns a failed look-up into the attempt's error. A look-up that is refused for good says nothing about a POST whose
/// answer was lost, so a person has to look.
fn cannot_tell(error: DestinationError, before: Before) -> HandlerError {
    if matches!(before, Before::Unknown | Before::OwnUnknown) && is_refusal(&error) {
        return HandlerError::GiveUp {
            reason: DeadReason::OutcomeUnknown,
            destination: Some(Destination::TextUs),
            status: error.status(),
            detail: format!(
                "a POST of this contact got no answer, and the look-up was refused ({}); look in TextUs, then \
                 `hookline dead-letters resolve` with --done or --write-again",
                error.detail()
            ),
        };
    }
    HandlerError::textus(error)
}

fn is_refusal(error: &DestinationError) -> bool {
    matches!(
        error,
        DestinationError::Rejected { .. } | DestinationError::NotFound { .. } | DestinationError::Forbidden { .. }
    )
}

/// Reads the body of a `contact.created` event.
pub(super) fn contact_payload(attempt: &Attempt<'_>) -> Result<ContactPayload, HandlerError> {
    match payload::read(attempt.event)? {
        Payload::Contact(payload) => Ok(payload),
        Payload::OptOut(_) | Payload::Message(_) => Err(Unreadable::new("the event is not a contact").into()),
    }
}

/// Returns the name, phones and data from the payload or, if that holds only links, from the API.
pub(super) async fn details_of(
    textus: &TextUs,
    attempt: &Attempt<'_>,
    payload: &ContactPayload,
) -> Result<Details, HandlerError> {
    let mut details = Details { name: payload.name.clone(), numbers: Numbers::default(), data: payload.data.clone() };
    let mut phones = payload.phones.clone();
    if phones == PhonesRef::None && payload.is_link {
        let contact = textus.contact(attempt.calls, &payload.id).await.map_err(HandlerError::textus)?;
        let Some(contact) = contact else {
            return Err(HandlerError::GiveUp {
                reason: DeadReason::NotFound,
                destination: Some(Destination::TextUs),
                status: Some(404),
                detail: "TextUs does not know the contact that the event names".to_owned(),
            });
        };
        phones = contact.phones();
        details.data = contact.data.clone();
        details.name = contact.name;
    }
    details.numbers = match phones {
        PhonesRef::Known(numbers) => numbers,
        PhonesRef::Link => textus.contact_phone_list(attempt.calls, &payload.id).await.map_err(HandlerError::textus)?,
        PhonesRef::None => Numbers::default(),
    };
    if details.numbers.unreadable > 0 {
        tracing::warn!(event.id = %attempt.event.id, contact.id = %payload.raw_id, numbers = details.numbers.unreadable,
            "contact.number_unreadable: it is left out; correct it in TextUs");
    }
    Ok(details)
}

#[async_trait]
impl Handler for CreateContact {
    fn name(&self) -> HandlerName {
        NAME
    }

    fn gates(&self) -> Vec<(Arc<Gate>, &'static [OperationClass])> {
        vec![(Arc::clone(&self.gate), &[OperationClass::Reads, OperationClass::ContactWrites])]
    }

    async fn handle(&self, attempt: &Attempt<'_>) -> Result<Outcome, Failure> {
        let payload = contact_payload(attempt)?;
        if self.store.created_by_us(&payload.raw_id).await? {
            return Ok(Outcome::skipped(SkipReason::Echo));
        }
        let details = details_of(&self.textus, attempt, &payload).await?;
        let phones: Vec<Phone> = details.numbers.usable.iter().map(|(phone, _)| phone.clone()).collect();
        if phones.is_empty() {
            return Err(Unreadable::new(if details.numbers.unreadable > 0 {
                "none of the contact's phone numbers can be read"
            } else {
                "the contact has no phone number to look it up by"
            })
            .into());
        }
        let contact = Contact { payload: &payload, details: &details, phones: &phones };

        let mut targets = Targets::default();
        for account in &self.accounts {
            // The effect is already recorded.
            targets.add(self.create_in(attempt, account, &contact).await.map(Written::nothing))?;
        }
        let (targets, _) = targets.all()?;
        let outcome = if targets.contains(&Target::Created) {
            Outcome::done()
        } else if targets.contains(&Target::Echo) {
            Outcome::skipped(SkipReason::Echo)
        } else {
            Outcome::skipped(SkipReason::AlreadyDone)
        };
        Ok(outcome.with_remarks(details.remark()))
    }
}
