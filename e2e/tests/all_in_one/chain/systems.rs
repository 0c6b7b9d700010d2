//! The two stand-ins for systems of record, behind the same questions.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_e2e::AllInOne;
use hookline_sandbox::hubspot::{HubSpotEndpoint as H, HubSpotObject, throttled};
use hookline_sandbox::salesforce::{
    Salesforce, SalesforceEndpoint as S, SalesforceObject, SalesforceOptions, SalesforceRecord, lock_row,
    server_unavailable,
};
use hookline_sandbox::{
    AnyEndpoint, ApiRequest, Fault, FaultId, FaultRule, HubSpot, HubSpotOptions, HubSpotRecord, Method,
};
use serde_json::json;

use super::history::{ThreadKey, contact, phone, typed};

/// How far the index of searches is behind.
const INDEX_LAG: Duration = Duration::from_secs(3);
const TEXTS: HubSpotObject = HubSpotObject::Communication;

/// A system of record other than the built-in one.
pub(crate) enum System {
    /// `by_key` says whether its notes have a key, so that a lost answer leaves no doubt.
    HubSpot {
        crm: HubSpot,
        by_key: bool,
    },
    Salesforce(Salesforce),
}

/// A note as the system has it.
pub(crate) struct Shown {
    /// The id of the record on whose timeline it stands.
    pub(crate) whose: String,
    pub(crate) thread: ThreadKey,
    pub(crate) texts: Vec<String>,
}

/// The records of people who were there before.
#[derive(Default)]
pub(crate) struct Known {
    /// Those that get their person's notes.
    pub(crate) records: BTreeSet<String>,
    /// Second records with a number, which TextUs does not name.
    pub(crate) twins: BTreeSet<String>,
}

/// How a person is known before the back-fill.
enum Before {
    /// By the contact's id, and a second record has the number.
    Twice,
    ByContact,
    ByNumber,
    Nobody,
}

/// Whether texts tell the person's contact, and not only the number.
pub(crate) fn is_named(person: usize) -> bool {
    person % 4 != 3
}

fn before(person: usize) -> Before {
    match person % 3 {
        0 if is_named(person) && person.is_multiple_of(2) => Before::Twice,
        0 if is_named(person) => Before::ByContact,
        0 | 1 => Before::ByNumber,
        _ => Before::Nobody,
    }
}

pub(crate) async fn hubspot(options: HubSpotOptions) -> HubSpot {
    let crm = HubSpot::start(options).await.expect("the stand-in starts");
    crm.add_hookline_properties("textus_contact_id", "sms_opted_out");
    crm
}

pub(crate) fn to_hubspot(all_in_one: &mut AllInOne, crm: &HubSpot, token: &str) {
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__KIND", "hubspot");
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__HUBSPOT__BASE_URL", &crm.base_url());
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__HUBSPOT__TOKEN", token);
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__HUBSPOT__TIMEOUT", "2s");
    all_in_one.set("HOOKLINE__SYSTEM_OF_RECORD__UPDATE_EVERY", "1s");
}

/// Adds what the package of deploy/salesforce adds to an org.
pub(crate) fn install(crm: &Salesforce) {
    crm.add_hookline_fields("TextUs_Thread_Key__c", "TextUs_Contact_Id__c", "SMS_Opted_Out__c");
}

impl System {
    pub(crate) async fn hubspot(rate_limit: (u32, Duration), by_key: bool) -> Self {
        let crm = hubspot(HubSpotOptions {
            rate_limit,
            index_lag: INDEX_LAG,
            unique_properties_on_engagements: by_key,
            ..HubSpotOptions::default()
        })
        .await;
        if by_key {
            crm.add_property(TEXTS, "textus_thread_key", true);
        }
        Self::HubSpot { crm, by_key }
    }

    pub(crate) async fn salesforce() -> Self {
        let options = SalesforceOptions { index_lag: INDEX_LAG, ..SalesforceOptions::default() };
        let crm = Salesforce::start(options).await.expect("the stand-in starts");
        install(&crm);
        Self::Salesforce(crm)
    }

    /// Makes this the system of record of every process that starts from now on.
    pub(crate) fn take_over(&self, all_in_one: &mut AllInOne) {
        match self {
            Self::HubSpot { crm, .. } => to_hubspot(all_in_one, crm, &HubSpotOptions::default().token),
            Self::Salesforce(crm) => {
                let options = SalesforceOptions::default();
                for (key, value) in [
                    ("KIND", "salesforce"),
                    ("SALESFORCE__BASE_URL", &crm.base_url()),
                    ("SALESFORCE__CLIENT_ID", &options.client_id),
                    ("SALESFORCE__CLIENT_SECRET", &options.client_secret),
                    ("SALESFORCE__TIMEOUT", "2s"),
                ] {
                    all_in_one.set(&format!("HOOKLINE__SYSTEM_OF_RECORD__{key}"), value);
                }
            }
        }
        all_in_one.set("HOOKLINE__HANDLERS__LOG_NOTE__ON_UNKNOWN_CONTACT", "create");
    }

    /// Adds the records of two thirds of the people.
    pub(crate) fn add_people(&self, people: usize) -> Known {
        let mut known = Known::default();
        for person in 0..people {
            let is_linked = match before(person) {
                Before::Twice => {
                    known.twins.insert(self.add_person(person, false));
                    true
                }
                Before::ByContact => true,
                Before::ByNumber => false,
                Before::Nobody => continue,
            };
            known.records.insert(self.add_person(person, is_linked));
        }
        known
    }

    /// Adds a record by hand: with the contact's id, or with the number alone as a person types it.
    fn add_person(&self, person: usize, is_linked: bool) -> String {
        match (self, is_linked) {
            (Self::HubSpot { crm, .. }, true) => crm.add_contact(&[
                ("lastname", "Doe"),
                ("phone", &phone(person)),
                ("textus_contact_id", &contact(person)),
            ]),
            (Self::HubSpot { crm, .. }, false) => crm.add_contact(&[("lastname", "Doe"), ("phone", &typed(person))]),
            (Self::Salesforce(crm), true) => crm.add_contact(json!({
                "LastName": "Doe", "MobilePhone": phone(person), "TextUs_Contact_Id__c": contact(person),
            })),
            (Self::Salesforce(crm), false) => {
                crm.add_lead(json!({ "LastName": "Roe", "Company": "A", "Phone": typed(person) }))
            }
        }
    }

    /// Returns all records of people.
    pub(crate) fn people(&self) -> Vec<PersonRecord> {
        match self {
            Self::HubSpot { crm, .. } => {
                let record = |record: HubSpotRecord| PersonRecord {
                    number: number(&[record.get("phone"), record.get("mobilephone")]),
                    is_opted_out: record.get("sms_opted_out") == "true",
                    id: record.id,
                };
                crm.contacts().into_iter().map(record).collect()
            }
            Self::Salesforce(crm) => {
                let record = |record: SalesforceRecord| PersonRecord {
                    number: number(&[record.get("MobilePhone"), record.get("Phone")]),
                    is_opted_out: record.is_checked("SMS_Opted_Out__c"),
                    id: record.id,
                };
                crm.contacts().into_iter().chain(crm.leads()).map(record).collect()
            }
        }
    }

    /// Returns all notes. Each is on one timeline, and complete as the system understands it.
    pub(crate) fn notes(&self) -> Vec<Shown> {
        match self {
            Self::HubSpot { crm, .. } => {
                let shown = |note: HubSpotRecord| {
                    let [whose] = note.contacts.as_slice() else { panic!("on one contact: {note:?}") };
                    shown(whose, note.get("hs_communication_body").split("<br>"))
                };
                crm.communications().into_iter().map(shown).collect()
            }
            Self::Salesforce(crm) => {
                let shown = |task: SalesforceRecord| {
                    assert_eq!(task.get("Status"), "Completed");
                    let shown = shown(task.who(), task.get("Description").lines());
                    assert_eq!(task.get("ActivityDate"), shown.thread.1);
                    shown
                };
                crm.tasks().into_iter().map(shown).collect()
            }
        }
    }

    /// Asserts that nothing was asked that the API forbids, and that no note is on nobody's timeline.
    pub(crate) fn is_clean(&self) {
        let (violations, orphans) = match self {
            Self::HubSpot { crm, .. } => (crm.violations(), crm.orphans()),
            Self::Salesforce(crm) => (crm.violations(), crm.orphans()),
        };
        assert_eq!((violations, orphans), (Vec::new(), Vec::new()));
    }

    pub(crate) fn requests(&self) -> Vec<ApiRequest> {
        match self {
            Self::HubSpot { crm, .. } => crm.requests(),
            Self::Salesforce(crm) => crm.requests(),
        }
    }

    /// Returns how many calls were made that write. One about a record that cannot exist only looks at the token.
    pub(crate) fn writes(&self) -> usize {
        let is_write = |request: &&ApiRequest| match request.endpoint {
            Some(AnyEndpoint::HubSpot(H::Search(_) | H::BatchRead(_)) | AnyEndpoint::Salesforce(S::Token)) => false,
            Some(_) | None => request.method != Method::GET && request.status != Some(404),
        };
        self.requests().iter().filter(is_write).count()
    }

    /// Returns the call that writes a new note.
    pub(crate) fn note_call(&self) -> AnyEndpoint {
        match self {
            Self::HubSpot { by_key: true, .. } => H::BatchUpsert(TEXTS).into(),
            Self::HubSpot { by_key: false, .. } => H::Create(TEXTS).into(),
            Self::Salesforce(_) => S::Upsert(SalesforceObject::Task).into(),
        }
    }

    /// Returns the call that creates a person.
    pub(crate) fn person_call(&self) -> AnyEndpoint {
        match self {
            Self::HubSpot { .. } => H::BatchUpsert(HubSpotObject::Contact).into(),
            Self::Salesforce(_) => S::Upsert(SalesforceObject::Contact).into(),
        }
    }

    pub(crate) fn fault(&self, rule: FaultRule) -> FaultId {
        match self {
            Self::HubSpot { crm, .. } => crm.fault(rule),
            Self::Salesforce(crm) => crm.fault(rule),
        }
    }

    pub(crate) fn remove_fault(&self, id: FaultId) {
        match self {
            Self::HubSpot { crm, .. } => crm.remove_fault(id),
            Self::Salesforce(crm) => crm.remove_fault(id),
        }
    }

    /// Makes so many calls fail in each of the ways that this system knows. Only with `doubts` does it stay open whether a
    /// note was written.
    pub(crate) fn fails(&self, times: usize, doubts: bool) {
        let (notes, people) = (self.note_call(), self.person_call());
        let (clear, doubtful): (Vec<(Fault, AnyEndpoint)>, _) = match self {
            Self::HubSpot { .. } => (
                vec![
                    (Fault::EffectThenReset, people),
                    (throttled("SECONDLY"), notes),
                    (throttled("SECONDLY"), H::Search(HubSpotObject::Contact).into()),
                    (Fault::status(502), H::BatchRead(HubSpotObject::Contact).into()),
                ],
                vec![
                    (Fault::EffectThenReset, notes),
                    (Fault::EffectThenReset, H::Update(TEXTS).into()),
                    (Fault::Reset, notes),
                ],
            ),
            Self::Salesforce(_) => (
                vec![
                    (Fault::EffectThenReset, people),
                    (lock_row(), people),
                    (lock_row(), notes),
                    (Fault::Reset, S::Query.into()),
                ],
                vec![(Fault::EffectThenReset, notes), (Fault::Reset, notes), (server_unavailable(), notes)],
            ),
        };
        let meant = clear.into_iter().chain(doubtful.into_iter().filter(|_| doubts));
        for (number, (fault, call)) in meant.enumerate() {
            // Not one after the other, which would look like an outage.
            for time in 0..times {
                let call_number = 3 + 2 * number + 20 * time;
                self.fault(FaultRule::new(fault.clone()).on(call).calls(call_number..=call_number));
            }
        }
    }
}

/// A record of a person.
pub(crate) struct PersonRecord {
    pub(crate) id: String,
    /// The digits of the number, without a country.
    pub(crate) number: String,
    pub(crate) is_opted_out: bool,
}

/// Returns the ten digits of the first of these numbers that is there.
fn number(numbers: &[&str]) -> String {
    let number = numbers.iter().find(|number| !number.is_empty()).copied().unwrap_or_default();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    digits[digits.len().saturating_sub(10)..].to_owned()
}

/// Reads a note of the default template: a heading with number and day, then a line for each text.
fn shown<'a>(whose: &str, lines: impl Iterator<Item = &'a str>) -> Shown {
    let mut lines = lines.map(|line| line.replace("<strong>", "").replace("</strong>", ""));
    let heading = lines.next().unwrap_or_default();
    let (_, rest) = heading.split_once("Texts with ").expect("a heading");
    let phone = rest.split([' ', ',']).next().unwrap_or_default().to_owned();
    let day = rest.rsplit(", ").next().unwrap_or_default().to_owned();
    let texts = lines.filter_map(|line| Some(line.split_once(": ")?.1.to_owned())).collect();
    Shown { whose: whose.to_owned(), thread: (phone, day), texts }
}
