//! Reads a webhook that someone else made up, and adds the resources that it mentions to the sandbox.

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::{Contact, ContactPhone, Direction, Message, fresh_slug, slug_of};
use crate::world::World;

impl World {
    /// Adds the contacts, the conversation, the message or the opt-out that a webhook names, with the ids it gives.
    /// `fallback` is the account for `contact.created`, which names none.
    pub(crate) fn learn(&mut self, fallback: &str, payload: &Value) -> anyhow::Result<()> {
        let action = text(payload, "/action").context("a webhook has an action")?.replace('-', "_");
        if let Some(contact) = payload.get("contact").filter(|contact| contact.is_object()) {
            self.learn_contact(fallback, contact)?;
        }
        if payload.get("optOut").is_some() {
            let account = slug_of(text(payload, "/optOut/account").context("an opt-out has an account")?).to_owned();
            let phone = text(payload, "/optOut/phoneNumber").context("an opt-out has a phone")?;
            match action.as_str() {
                "contact.opted_out" => {
                    let id = text(payload, "/optOut/id").unwrap_or(phone);
                    self.opt_out_now(&account, phone, slug_of(id));
                }
                "contact.opted_in" => self.opt_in(&account, phone),
                _ => bail!("an optOut belongs to contact.opted_out or contact.opted_in"),
            }
        }
        if payload.get("conversation").is_some() {
            self.learn_conversation(payload)?;
        }
        Ok(())
    }

    fn learn_conversation(&mut self, payload: &Value) -> anyhow::Result<()> {
        let slug = slug_of(text(payload, "/conversation/id").context("a conversation has an id")?);
        let account = slug_of(text(payload, "/conversation/account").context("a conversation has an account")?);
        let phone = text(payload, "/conversation/phoneNumber").context("a conversation has a phone")?;
        let account_phone = text(payload, "/conversation/accountPhoneNumber");
        let known = self.open_conversation(account, phone, Some(slug), account_phone).slug.clone();
        if known != slug {
            self.rename_conversation(&known, slug);
        }
        let associated = payload.pointer("/conversation/associatedContacts/members").and_then(Value::as_array);
        for contact in associated.into_iter().flatten() {
            self.learn_contact(account, contact)?;
        }
        if let Some(assigned) = payload.pointer("/conversation/assignedContact").filter(|one| !one.is_null()) {
            if assigned.is_object() {
                self.learn_contact(account, assigned)?;
            }
            let id = assigned.as_str().or_else(|| text(assigned, "/id")).context("an assigned contact has an id")?;
            self.open_conversation(account, phone, None, None).assigned_contact = Some(slug_of(id).to_owned());
        }
        if let Some(message) = payload.get("message") {
            self.learn_message(slug, message)?;
        }
        Ok(())
    }

    fn learn_message(&mut self, conversation: &str, message: &Value) -> anyhow::Result<()> {
        let id = text(message, "/id").context("a message has an id")?;
        let attachments = message.pointer("/attachments/members").and_then(Value::as_array);
        let incoming = text(message, "/direction").is_some_and(|direction| direction.starts_with("in"));
        self.put_message(Message {
            slug: slug_of(id).to_owned(),
            conversation: conversation.to_owned(),
            direction: if incoming { Direction::In } else { Direction::Out },
            body: text(message, "/body").unwrap_or_default().to_owned(),
            state: text(message, "/deliveryState").unwrap_or("unknown").to_owned(),
            attachments: attachments.into_iter().flatten().cloned().collect(),
            at: time(message, "/displayTimestamp"),
        });
        Ok(())
    }

    /// Adds a contact. A known contact stays as it is, because the API's own record is newer than any webhook.
    fn learn_contact(&mut self, account: &str, contact: &Value) -> anyhow::Result<()> {
        let slug = slug_of(text(contact, "/id").context("a contact has an id")?);
        if self.contact(slug).is_some() {
            return Ok(());
        }
        let members = contact.pointer("/phones/members").and_then(Value::as_array);
        let phone = |phone: &Value| {
            Some(ContactPhone {
                slug: text(phone, "/id").map_or_else(fresh_slug, |id| slug_of(id).to_owned()),
                number: text(phone, "/phoneNumber")?.to_owned(),
                extension: text(phone, "/extension").map(str::to_owned),
                kind: text(phone, "/type").unwrap_or("Mobile").to_owned(),
            })
        };
        self.put_contact(Contact {
            slug: slug.to_owned(),
            account: account.to_owned(),
            name: text(contact, "/name").map(str::to_owned),
            phones: members.into_iter().flatten().filter_map(phone).collect(),
            data: contact.get("data").filter(|data| data.is_object()).cloned().unwrap_or_else(|| json!({})),
            notes: Vec::new(),
            created_at: time(contact, "/createdAt"),
        });
        Ok(())
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// Reads a time; a missing or unreadable time becomes the current time.
fn time(value: &Value, pointer: &str) -> Timestamp {
    text(value, pointer).and_then(|text| text.parse().ok()).unwrap_or_else(Timestamp::now)
}
