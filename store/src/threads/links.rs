//! Who a contact or a number is in a system of record, so that a known person needs no search.

use hookline_common::event::EventId;
use hookline_common::phone::Phone;

use crate::Store;
use crate::db::dialect::Connection;
use crate::db::error::StoreError;
use crate::db::row::{self, clean};
use crate::operations::audit;

impl Store {
    /// Returns the person linked with this contact, else with this number. A number that was linked with two people is a
    /// link to neither.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn linked_person(
        &self,
        system: &str,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
    ) -> Result<Option<String>, StoreError> {
        let select = sqlx::query(
            "SELECT person_id FROM person_links
             WHERE system = $1 AND person_id <> '' AND ((kind = 'contact' AND value = $2) OR (kind = 'phone' AND value = $3))
             ORDER BY kind LIMIT 1",
        );
        let contact_id = contact_id.map(clean);
        let select = select.bind(system).bind(contact_id.as_deref()).bind(phone.map(Phone::as_e164));
        self.db.row(select).await?.map(|row| row::text(&row, "person_id")).transpose()
    }

    /// Returns the person whom an operator chose for this event, else for this number
    /// (`dead-letters resolve --person`).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn chosen_person(
        &self,
        system: &str,
        event_id: &EventId,
        phone: Option<&Phone>,
    ) -> Result<Option<String>, StoreError> {
        let select = sqlx::query(
            "SELECT person_id FROM person_links WHERE system = $1 AND chosen = 1
             AND ((kind = 'event' AND value = $2) OR (kind = 'phone' AND value = $3)) ORDER BY kind LIMIT 1",
        );
        let select = select.bind(system).bind(event_id.as_str()).bind(phone.map(Phone::as_e164));
        self.db.row(select).await?.map(|row| row::text(&row, "person_id")).transpose()
    }

    /// Records an operator's choice of the person of an event that was given up as `ambiguous_contact`; with `phone`, also
    /// of every later event with this number. Returns `false` if there is no such dead letter.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn choose_person(
        &self,
        dead_letter: &str,
        system: &str,
        person_id: &str,
        phone: Option<&Phone>,
    ) -> Result<bool, StoreError> {
        let phone = phone.map(|phone| phone.as_e164().to_owned());
        let arguments = (dead_letter.to_owned(), system.to_owned(), person_id.to_owned(), phone);
        self.db
            .write(arguments, |connection, (dead_letter, system, person_id, phone)| {
                Box::pin(async move {
                    let row = sqlx::query(
                        "SELECT event_id FROM dead_letters
                         WHERE id = $1 AND state = 'dead' AND reason = 'ambiguous_contact'",
                    )
                    .bind(dead_letter.as_str())
                    .fetch_optional(&mut *connection)
                    .await?;
                    let Some(row) = row else { return Ok(false) };
                    save(connection, system, ("event", &row::text(&row, "event_id")?), person_id, true).await?;
                    if let Some(phone) = phone {
                        save(connection, system, ("phone", phone), person_id, true).await?;
                    }
                    audit::note(connection, "resolve_person", dead_letter, None).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Links a contact and a number with a person. A link that an operator chose stays.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn link_person(
        &self,
        system: &str,
        contact_id: Option<&str>,
        phone: Option<&Phone>,
        person_id: &str,
    ) -> Result<(), StoreError> {
        let contact = contact_id.map(|id| ("contact", clean(id).into_owned()));
        let links = contact.into_iter().chain(phone.map(|phone| ("phone", phone.as_e164().to_owned()))).collect();
        let arguments: (String, Vec<(&'static str, String)>, String) = (system.to_owned(), links, person_id.to_owned());
        self.db
            .write(arguments, |connection, (system, links, person_id)| {
                Box::pin(async move {
                    for (kind, value) in links {
                        save(connection, system, (kind, value), person_id, false).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Removes all links with a person whom the system does not have any more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn unlink_person(&self, system: &str, person_id: &str) -> Result<(), StoreError> {
        self.db
            .write((system.to_owned(), person_id.to_owned()), |connection, (system, person_id)| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM person_links WHERE system = $1 AND person_id = $2")
                        .bind(system.as_str())
                        .bind(person_id.as_str())
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}

async fn save(
    connection: &mut Connection,
    system: &str,
    (kind, value): (&str, &str),
    person_id: &str,
    is_chosen: bool,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO person_links (system, kind, value, person_id, chosen) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (system, kind, value) DO UPDATE SET chosen = excluded.chosen,
             person_id = CASE WHEN excluded.chosen = 1 OR person_links.kind <> 'phone'
                                OR person_links.person_id = excluded.person_id
                              THEN excluded.person_id ELSE '' END
         WHERE person_links.chosen = 0 OR excluded.chosen = 1",
    )
    .bind(system)
    .bind(kind)
    .bind(value)
    .bind(person_id)
    .bind(i64::from(is_chosen))
    .execute(connection)
    .await?;
    Ok(())
}
