//! The fields of a person that the user's templates fill when the person is created.

use std::collections::BTreeMap;

use hookline_common::names::{DeadReason, Destination};
use hookline_common::person_text::{self, PersonText};
use hookline_common::phone::Phone;
use hookline_store::model::PersonFacts;

use crate::delivery::handler::HandlerError;

/// The templates of `[system_of_record.templates] person`, by the names of fields.
#[derive(Clone, Debug, Default)]
pub(super) struct PersonFields(BTreeMap<String, String>);

impl PersonFields {
    pub(super) fn new(templates: &BTreeMap<String, String>) -> Self {
        Self(templates.clone())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the texts of the fields. A field whose text is blank is left out.
    ///
    /// # Errors
    /// When a template fails for this person. The templates were checked when the settings were loaded, so that is rare.
    pub(super) fn of(&self, facts: &PersonFacts) -> Result<BTreeMap<String, String>, HandlerError> {
        let phones = facts.phones.iter().map(Phone::as_e164).map(str::to_owned).collect();
        let person = PersonText::new(facts.name.as_deref(), phones, facts.contact_id.as_deref());
        person_text::fields(&self.0, &person).map_err(|(field, error)| HandlerError::GiveUp {
            reason: DeadReason::Rejected,
            destination: Some(Destination::SystemOfRecord),
            status: None,
            detail: format!("the template of the field {field} fails for this person: {error}; mend it and redrive"),
        })
    }
}
