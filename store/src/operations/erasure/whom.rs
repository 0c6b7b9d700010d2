//! Finds the people who are meant by a number that is to be erased.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hookline_common::phone::Phone;
use hookline_common::subjects::{Subjects, contact_slug};
use hookline_common::written::{Text, Written};

use crate::Store;
use crate::db::error::StoreError;
use crate::db::row;
use crate::operations::model::RemoteNote;
use crate::threads;
use crate::threads::model::WrittenPart;

/// The people who have a number, with everything else that is theirs.
#[derive(Clone)]
pub(crate) struct Whom {
    /// The number that was asked for, and those numbers of these people that nobody else has.
    pub(crate) phones: BTreeSet<Phone>,
    /// Their contact ids, as TextUs sends them.
    pub(crate) contacts: BTreeSet<String>,
    /// The ids of their records.
    pub(crate) records: BTreeSet<String>,
    slugs: BTreeSet<String>,
    written: Arc<BTreeMap<Phone, Written>>,
}

impl Whom {
    fn new(phones: BTreeSet<Phone>, contacts: BTreeSet<String>, records: BTreeSet<String>) -> Self {
        let slugs = contacts.iter().filter_map(|id| contact_slug(id)).map(str::to_owned).collect();
        let written = phones.iter().map(|phone| (phone.clone(), Written::new(phone))).collect();
        Self { phones, contacts, records, slugs, written: Arc::new(written) }
    }

    /// Takes out numbers that are not a person's.
    pub(crate) fn leave(&mut self, phones: &BTreeSet<Phone>) {
        self.phones.retain(|phone| !phones.contains(phone));
    }

    pub(crate) fn written(&self) -> impl Iterator<Item = &Written> {
        self.written.iter().filter(|(phone, _)| self.phones.contains(*phone)).map(|(_, written)| written)
    }

    /// Returns texts of which at least one stands in every payload that names or mentions these people.
    pub(crate) fn needles(&self) -> Vec<String> {
        self.written().map(|number| number.needle().to_owned()).chain(self.slugs.iter().cloned()).collect()
    }

    pub(crate) fn is_subject(&self, subjects: &Subjects) -> bool {
        !self.phones.is_disjoint(&subjects.phones) || !self.slugs.is_disjoint(&subjects.contacts)
    }

    /// Adds those of their numbers and contacts that stand anywhere in a body without fields to its subjects.
    pub(crate) fn find_in(&self, body: &[u8], subjects: &mut Subjects) {
        let is_in = |number: &Written| number.is_in(body, Text::Plain) || number.is_in(body, Text::Json);
        let phones = self.written.iter().filter(|(phone, number)| self.phones.contains(*phone) && is_in(number));
        subjects.phones.extend(phones.map(|(phone, _)| phone.clone()));
        subjects.contacts.extend(self.slugs.iter().filter(|slug| ends_a_path(slug, body)).cloned());
    }

    /// Masks their numbers in a text. `None` means that it holds none.
    pub(crate) fn mask(&self, text: &[u8], kind: Text) -> Option<Vec<u8>> {
        let mut masked = None;
        for number in self.written() {
            masked = number.masked(masked.as_deref().unwrap_or(text), kind).or(masked);
        }
        masked
    }
}

/// Returns whether the slug stands in the body as the end of a path.
fn ends_a_path(slug: &str, body: &[u8]) -> bool {
    let slug = [b"/", slug.as_bytes()].concat();
    let goes_on = |at: usize| body.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
    body.windows(slug.len()).enumerate().any(|(at, part)| part == slug && !goes_on(at + slug.len()))
}

impl Store {
    pub(crate) async fn whom(&self, phone: &Phone) -> Result<Whom, StoreError> {
        let people = self.find_person(None, Some(phone)).await?;
        let records: BTreeSet<String> = people.iter().map(|person| person.record_id.clone()).collect();
        let mut phones = BTreeSet::from([phone.clone()]);
        for number in people.iter().flat_map(|person| &person.phones).filter_map(|number| Phone::parse(number)) {
            let holders = self.find_person(None, Some(&number)).await?;
            if holders.iter().all(|holder| records.contains(&holder.record_id)) {
                phones.insert(number);
            }
        }
        let mut contacts: BTreeSet<String> = people.into_iter().filter_map(|person| person.contact_id).collect();
        // With a system of record of the user's own, links say who has which numbers and contacts.
        for (kind, value) in self.linked_elsewhere(phone).await? {
            match kind.as_str() {
                "phone" => phones.extend(Phone::parse(&value)),
                "contact" => {
                    contacts.insert(value);
                }
                _ => {}
            }
        }
        for number in &phones {
            contacts.extend(self.linked_contacts(number).await?);
        }
        Ok(Whom::new(phones, contacts, records))
    }

    /// Returns contacts and numbers of whom this number is linked with in other systems of record. A person who was found
    /// by a number that several share is not taken for its only holder.
    async fn linked_elsewhere(&self, phone: &Phone) -> Result<Vec<(String, String)>, StoreError> {
        let select = sqlx::query(
            "SELECT DISTINCT o.kind, o.value FROM person_links l
             JOIN person_links o ON o.system = l.system AND o.person_id = l.person_id
             WHERE l.kind = 'phone' AND l.value = $1 AND l.person_id <> ''",
        );
        let rows = self.db.rows(select.bind(phone.as_e164())).await?;
        rows.iter().map(|row| Ok((row::text(row, "kind")?, row::text(row, "value")?))).collect()
    }

    async fn linked_contacts(&self, phone: &Phone) -> Result<Vec<String>, StoreError> {
        let select = sqlx::query(
            "SELECT contact_id FROM contact_links WHERE phone = $1 AND contact_id IS NOT NULL
             UNION SELECT contact_id FROM threads WHERE phone = $1 AND contact_id IS NOT NULL",
        );
        let rows = self.db.rows(select.bind(phone.as_e164())).await?;
        rows.iter().map(|row| row::text(row, "contact_id")).collect()
    }

    /// Returns those of their numbers that are an account's own, as far as the notes of texts tell.
    pub(crate) async fn business_numbers_of_notes(&self, whom: &Whom) -> Result<BTreeSet<Phone>, StoreError> {
        let mut business = BTreeSet::new();
        for phone in &whom.phones {
            let select = sqlx::query(
                "SELECT 1 FROM records_notes WHERE business_number = $1
                 UNION ALL SELECT 1 FROM threads WHERE business_number = $1 LIMIT 1",
            );
            if self.db.row(select.bind(phone.as_e164())).await?.is_some() {
                business.insert(phone.clone());
            }
        }
        Ok(business)
    }

    /// Returns the notes that systems of record other than the built-in one have of them.
    pub(crate) async fn remote_notes_of(&self, whom: &Whom) -> Result<Vec<RemoteNote>, StoreError> {
        let phones = whom.phones.iter().map(|phone| phone.as_e164().to_owned());
        // A thread may name both the number and the contact.
        let mut notes: Vec<RemoteNote> = Vec::new();
        for value in phones.chain(whom.contacts.iter().cloned()) {
            let select = sqlx::query(
                "SELECT system, parts FROM thread_writes WHERE system <> 'system_of_record'
                 AND thread_id IN (SELECT thread_id FROM threads WHERE phone = $1 OR contact_id = $1)",
            );
            for row in &self.db.rows(select.bind(value)).await? {
                let system = row::text(row, "system")?;
                let parts = threads::parts(row)?;
                let found = parts
                    .into_iter()
                    .filter(WrittenPart::is_there)
                    .map(|part| RemoteNote { system: system.clone(), id: part.id });
                let found: Vec<RemoteNote> = found.filter(|note| !notes.contains(note)).collect();
                notes.extend(found);
            }
        }
        Ok(notes)
    }

    /// Returns the keys of their threads' messages and writes.
    pub(crate) async fn thread_keys_of(&self, whom: &Whom) -> Result<BTreeSet<String>, StoreError> {
        let phones = whom.phones.iter().map(|phone| phone.as_e164().to_owned());
        let mut keys = BTreeSet::new();
        for value in phones.chain(whom.contacts.iter().cloned()) {
            let select = sqlx::query(
                "SELECT m.message_id AS id FROM thread_messages m JOIN threads t ON t.thread_id = m.thread_id
                 WHERE t.phone = $1 OR t.contact_id = $1
                 UNION SELECT w.write_id FROM thread_writes w JOIN threads t ON t.thread_id = w.thread_id
                 WHERE t.phone = $1 OR t.contact_id = $1",
            );
            for row in &self.db.rows(select.bind(value)).await? {
                keys.insert(row::text(row, "id")?);
            }
        }
        Ok(keys)
    }

    /// Returns the keys of their notes and contact links.
    pub(crate) async fn records_of(&self, whom: &Whom) -> Result<[BTreeSet<String>; 2], StoreError> {
        let (mut notes, mut links) = (BTreeSet::new(), BTreeSet::new());
        let asked = [
            ("SELECT note_id AS id FROM records_notes WHERE person_id = $1", &whom.records, true),
            ("SELECT note_id AS id FROM records_notes WHERE contact_id = $1", &whom.contacts, true),
            ("SELECT account || ' ' || phone AS id FROM contact_links WHERE contact_id = $1", &whom.contacts, false),
        ];
        let phones: BTreeSet<String> = whom.phones.iter().map(|phone| phone.as_e164().to_owned()).collect();
        let by_phone = [
            ("SELECT note_id AS id FROM records_notes WHERE phone = $1", &phones, true),
            ("SELECT account || ' ' || phone AS id FROM contact_links WHERE phone = $1", &phones, false),
        ];
        for (statement, values, is_note) in asked.into_iter().chain(by_phone) {
            for value in values {
                let rows = self.db.rows(sqlx::query(statement).bind(value.as_str())).await?;
                for row in &rows {
                    let id = row::text(row, "id")?;
                    if is_note {
                        notes.insert(id)
                    } else {
                        links.insert(id)
                    };
                }
            }
        }
        Ok([notes, links])
    }
}
