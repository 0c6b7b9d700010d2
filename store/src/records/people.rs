//! The people of the built-in system of record, each with all their numbers.
//!
//! Numbers are added and never removed: a number that a contact no longer has may still send a STOP, and the history
//! still names it. Several people may share a number; a search by the number alone finds all of them.
//!
//! Earlier versions know one number per person, in `records_people.phone`; the other numbers are in `records_phones`. A
//! person's numbers are those of both tables.

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::Store;
use crate::db::dialect::{self, Connection, DbRow};
use crate::db::error::StoreError;
use crate::db::page::{Page, page, position, rows_to_read};
use crate::db::row::{self, clean, maybe_clean};
use crate::records::model::{PersonFacts, PersonRow};

impl Store {
    /// Returns the person with this contact id or, if there is none, everyone with this phone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find_person(
        &self,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Vec<PersonRow>, StoreError> {
        let mut reader = self.db.reader().await?;
        let found = find_person(&mut reader.connection, contact_id, phone.map(Phone::as_e164), "");
        let found = self.db.within(found).await?;
        reader.give_back();
        Ok(found)
    }

    /// Creates or completes the person whom these facts describe. Looks first by contact id, then by any of the phones
    /// for a person without another contact id. People known only by one of the phones turn out to be that person, and
    /// are merged into one. Facts that are not given stay as they are. Returns the person, whether it was created, and
    /// whether anything changed.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn upsert_person(&self, facts: &PersonFacts) -> Result<(PersonRow, bool, bool), StoreError> {
        self.db
            .write(clean_facts(facts), |connection, facts| {
                Box::pin(async move {
                    // A new person has no row to lock yet: two events of one person would create two.
                    let contact = facts.contact_id.iter().map(|id| format!("person by contact {id}"));
                    let phones = facts.phones.iter().map(|phone| format!("person by phone {}", phone.as_e164()));
                    dialect::lock_names(connection, &contact.chain(phones).collect::<Vec<_>>()).await?;
                    let mut same = find_same(connection, facts).await?.into_iter();
                    match same.next() {
                        Some(person) => complete_person(connection, person, same.collect(), facts).await,
                        None => Ok((make_person(connection, facts).await?, true, true)),
                    }
                })
            })
            .await
    }

    /// Returns a page of people, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn persons(&self, limit: u32, cursor: Option<&str>) -> Result<Page<PersonRow>, StoreError> {
        let (created_ms, record_id): (i64, String) = position(cursor, (i64::MAX, String::new()))?;
        let rows = self
            .db
            .rows(
                sqlx::query(
                    "SELECT p.record_id, p.contact_id, p.phone, p.name, p.created_ms, n.phone AS another
                     FROM (SELECT record_id, contact_id, phone, name, created_ms FROM records_people
                           WHERE (created_ms, record_id) < ($1, $2)
                           ORDER BY created_ms DESC, record_id DESC LIMIT $3) p
                     LEFT JOIN records_phones n ON n.record_id = p.record_id
                     ORDER BY p.created_ms DESC, p.record_id DESC, n.position, n.phone",
                )
                .bind(created_ms)
                .bind(record_id)
                .bind(rows_to_read(limit)),
            )
            .await?;
        let mut people: Vec<PersonRow> = Vec::new();
        for row in &rows {
            let record_id = row::text(row, "record_id")?;
            if people.last().is_none_or(|last| last.record_id != record_id) {
                people.push(person_row(row)?);
            }
            if let (Some(person), Some(phone)) = (people.last_mut(), row::maybe_text(row, "another")?) {
                add_phone(person, phone);
            }
        }
        Ok(page(people, limit, |person| (person.created_at.as_millis(), person.record_id.clone())))
    }
}

/// Makes the texts storable and removes repeated phones.
fn clean_facts(facts: &PersonFacts) -> PersonFacts {
    let mut phones: Vec<Phone> = Vec::with_capacity(facts.phones.len());
    for phone in &facts.phones {
        if !phones.contains(phone) {
            phones.push(phone.clone());
        }
    }
    PersonFacts {
        contact_id: maybe_clean(facts.contact_id.as_deref()),
        phones,
        name: maybe_clean(facts.name.as_deref()),
    }
}

pub(crate) async fn find_person(
    connection: &mut Connection,
    contact_id: Option<&str>,
    phone: Option<&str>,
    lock: &'static str,
) -> Result<Vec<PersonRow>, StoreError> {
    if let Some(contact_id) = contact_id {
        let found = select_people(connection, "contact_id = $1", clean(contact_id).as_ref(), lock).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    match phone {
        Some(phone) => {
            // With OR in place of UNION, PostgreSQL reads all people.
            let by_phone = "record_id IN (SELECT record_id FROM records_people WHERE phone = $1
                            UNION SELECT record_id FROM records_phones WHERE phone = $1)";
            select_people(connection, by_phone, phone, lock).await
        }
        None => Ok(Vec::new()),
    }
}

/// Returns the people, oldest first.
async fn select_people(
    connection: &mut Connection,
    which: &'static str,
    value: &str,
    lock: &'static str,
) -> Result<Vec<PersonRow>, StoreError> {
    let statement = format!(
        "SELECT record_id, contact_id, phone, name, created_ms FROM records_people WHERE {which}
         ORDER BY created_ms, record_id {lock}"
    );
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(value).fetch_all(&mut *connection).await?;
    let mut people = rows.iter().map(person_row).collect::<Result<Vec<_>, _>>()?;
    for person in &mut people {
        let others = sqlx::query("SELECT phone FROM records_phones WHERE record_id = $1 ORDER BY position, phone")
            .bind(person.record_id.as_str())
            .fetch_all(&mut *connection)
            .await?;
        for row in &others {
            add_phone(person, row::text(row, "phone")?);
        }
    }
    Ok(people)
}

/// Returns everyone whom these facts may be about. The first is the one to complete.
async fn find_same(connection: &mut Connection, facts: &PersonFacts) -> Result<Vec<PersonRow>, StoreError> {
    let lock = dialect::for_update(connection);
    let mut same = find_person(connection, facts.contact_id.as_deref(), None, lock).await?;
    for phone in &facts.phones {
        for person in find_person(connection, None, Some(phone.as_e164()), lock).await? {
            // A phone can be shared: a person with another contact id is another person.
            let may_be =
                facts.contact_id.is_none() || person.contact_id.is_none() || person.contact_id == facts.contact_id;
            if may_be && same.iter().all(|known| known.record_id != person.record_id) {
                same.push(person);
            }
        }
    }
    Ok(same)
}

async fn make_person(connection: &mut Connection, facts: &PersonFacts) -> Result<PersonRow, StoreError> {
    let phones: Vec<String> = facts.phones.iter().map(|phone| phone.as_e164().to_owned()).collect();
    let person = PersonRow {
        record_id: format!("person_{:016x}", rand::random::<u64>()),
        contact_id: facts.contact_id.clone(),
        phone: phones.first().cloned(),
        phones,
        name: facts.name.clone(),
        created_at: Timestamp::now(),
    };
    sqlx::query(
        "INSERT INTO records_people (record_id, contact_id, phone, name, created_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(person.record_id.as_str())
    .bind(person.contact_id.as_deref())
    .bind(person.phone.as_deref())
    .bind(person.name.as_deref())
    .bind(person.created_at.as_millis())
    .execute(&mut *connection)
    .await?;
    write_phones(connection, &person).await?;
    Ok(person)
}

/// Completes `before` with the facts. `others` are the people who may be the same person.
async fn complete_person(
    connection: &mut Connection,
    before: PersonRow,
    others: Vec<PersonRow>,
    facts: &PersonFacts,
) -> Result<(PersonRow, bool, bool), StoreError> {
    // Only a contact proves that two numbers belong to one person. A person with a contact id of their own stays a
    // separate person.
    let merged: Vec<PersonRow> =
        others.into_iter().filter(|other| facts.contact_id.is_some() && other.contact_id.is_none()).collect();
    let mut phones: Vec<String> = Vec::new();
    // The contact's order applies if the contact has a new number.
    let told = facts.phones.iter().map(|phone| phone.as_e164().to_owned());
    let news = facts.phones.iter().any(|phone| !before.phones.iter().any(|known| known == phone.as_e164()));
    let of_merged = merged.iter().flat_map(|other| other.phones.iter().cloned());
    for phone in told.filter(|_| news).chain(before.phones.iter().cloned()).chain(of_merged) {
        if !phones.contains(&phone) {
            phones.push(phone);
        }
    }
    let name = facts.name.clone().or_else(|| before.name.clone());
    let person = PersonRow {
        contact_id: before.contact_id.clone().or_else(|| facts.contact_id.clone()),
        phone: phones.first().cloned(),
        phones,
        name: name.or_else(|| merged.iter().find_map(|other| other.name.clone())),
        ..before.clone()
    };
    for other in &merged {
        merge(connection, other, &person).await?;
    }
    let changed = person != before;
    if changed {
        sqlx::query("UPDATE records_people SET contact_id = $2, phone = $3, name = $4 WHERE record_id = $1")
            .bind(person.record_id.as_str())
            .bind(person.contact_id.as_deref())
            .bind(person.phone.as_deref())
            .bind(person.name.as_deref())
            .execute(&mut *connection)
            .await?;
        write_phones(connection, &person).await?;
    }
    Ok((person, false, changed || !merged.is_empty()))
}

/// Moves notes and links from `other`, who turns out to be `person`, and removes `other`.
async fn merge(connection: &mut Connection, other: &PersonRow, person: &PersonRow) -> Result<(), StoreError> {
    for statement in [
        "UPDATE records_notes SET person_id = $2 WHERE person_id = $1",
        "UPDATE contact_links SET person_id = $2 WHERE person_id = $1",
        "UPDATE thread_writes SET person_id = $2 WHERE person_id = $1 AND system = 'system_of_record'",
        "UPDATE person_links SET person_id = $2 WHERE person_id = $1 AND system = 'system_of_record'",
    ] {
        sqlx::query(statement)
            .bind(other.record_id.as_str())
            .bind(person.record_id.as_str())
            .execute(&mut *connection)
            .await?;
    }
    remove_person(connection, &other.record_id).await?;
    Ok(())
}

/// Removes a person but not their notes. Returns how many people were removed.
pub(crate) async fn remove_person(connection: &mut Connection, record_id: &str) -> Result<u64, StoreError> {
    sqlx::query("DELETE FROM records_phones WHERE record_id = $1").bind(record_id).execute(&mut *connection).await?;
    let done =
        sqlx::query("DELETE FROM records_people WHERE record_id = $1").bind(record_id).execute(connection).await?;
    Ok(done.rows_affected())
}

async fn write_phones(connection: &mut Connection, person: &PersonRow) -> Result<(), StoreError> {
    for (position, phone) in (0_i64..).zip(&person.phones) {
        sqlx::query(
            "INSERT INTO records_phones (record_id, phone, position) VALUES ($1, $2, $3)
             ON CONFLICT (record_id, phone) DO UPDATE SET position = excluded.position",
        )
        .bind(person.record_id.as_str())
        .bind(phone.as_str())
        .bind(position)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Reads a person with the first number only.
fn person_row(row: &DbRow) -> Result<PersonRow, StoreError> {
    let phone = row::maybe_text(row, "phone")?;
    Ok(PersonRow {
        record_id: row::text(row, "record_id")?,
        contact_id: row::maybe_text(row, "contact_id")?,
        phones: phone.clone().into_iter().collect(),
        phone,
        name: row::maybe_text(row, "name")?,
        created_at: row::time(row, "created_ms")?,
    })
}

fn add_phone(person: &mut PersonRow, phone: String) {
    if !person.phones.contains(&phone) {
        person.phone.get_or_insert_with(|| phone.clone());
        person.phones.push(phone);
    }
}
