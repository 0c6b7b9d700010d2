//! Everything that the sandbox knows, indexed as its endpoints need it.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::model::{Contact, ContactPhone, Conversation, Message, OptOut, fresh_slug};

/// The business number of conversations that are created without one.
pub(crate) const ACCOUNT_PHONE: &str = "+12025550190";

#[derive(Debug, Default)]
pub(crate) struct World {
    contacts: HashMap<String, Contact>,
    /// The contacts' slugs in order of creation, per account.
    contact_order: HashMap<String, Vec<String>>,
    contacts_by_phone: HashMap<(String, String), Vec<String>>,
    conversations: HashMap<String, Conversation>,
    conversations_by_phone: HashMap<(String, String), String>,
    messages: HashMap<String, Message>,
    opt_outs: BTreeMap<(String, String), OptOut>,
}

impl World {
    pub(crate) fn contact(&self, slug: &str) -> Option<&Contact> {
        self.contacts.get(slug)
    }

    pub(crate) fn contact_mut(&mut self, slug: &str) -> Option<&mut Contact> {
        self.contacts.get_mut(slug)
    }

    /// Adds a contact, or replaces the one with this slug.
    pub(crate) fn put_contact(&mut self, contact: Contact) {
        if self.contacts.contains_key(&contact.slug) {
            self.unindex_phones(&contact.slug);
        } else {
            self.contact_order.entry(contact.account.clone()).or_default().push(contact.slug.clone());
        }
        for phone in &contact.phones {
            let slugs = self.contacts_by_phone.entry((contact.account.clone(), phone.number.clone())).or_default();
            if !slugs.contains(&contact.slug) {
                slugs.push(contact.slug.clone());
            }
        }
        self.contacts.insert(contact.slug.clone(), contact);
    }

    fn unindex_phones(&mut self, slug: &str) {
        let Some(contact) = self.contacts.get(slug) else { return };
        for phone in &contact.phones {
            if let Some(slugs) = self.contacts_by_phone.get_mut(&(contact.account.clone(), phone.number.clone())) {
                slugs.retain(|one| one != slug);
            }
        }
    }

    /// Returns the contacts of an account, oldest first.
    pub(crate) fn contacts_of<'a>(&'a self, account: &str) -> impl Iterator<Item = &'a Contact> {
        self.contact_order.get(account).into_iter().flatten().filter_map(|slug| self.contacts.get(slug))
    }

    /// Returns the contacts of an account that have this number (E.164).
    pub(crate) fn contacts_with_phone(&self, account: &str, phone: &str) -> Vec<&Contact> {
        let slugs = self.contacts_by_phone.get(&(account.to_owned(), phone.to_owned()));
        slugs.into_iter().flatten().filter_map(|slug| self.contacts.get(slug)).collect()
    }

    pub(crate) fn conversation(&self, slug: &str) -> Option<&Conversation> {
        self.conversations.get(slug)
    }

    pub(crate) fn conversation_with(&self, account: &str, phone: &str) -> Option<&Conversation> {
        let slug = self.conversations_by_phone.get(&(account.to_owned(), phone.to_owned()))?;
        self.conversations.get(slug)
    }

    /// Returns the conversation of an account with a number, and creates it if necessary; `slug` names a new one.
    pub(crate) fn open_conversation(
        &mut self,
        account: &str,
        phone: &str,
        slug: Option<&str>,
        account_phone: Option<&str>,
    ) -> &mut Conversation {
        let slug = self
            .conversations_by_phone
            .entry((account.to_owned(), phone.to_owned()))
            .or_insert_with(|| slug.map_or_else(fresh_slug, str::to_owned))
            .clone();
        self.conversations.entry(slug.clone()).or_insert_with(|| Conversation {
            slug,
            account: account.to_owned(),
            phone: phone.to_owned(),
            account_phone: account_phone.unwrap_or(ACCOUNT_PHONE).to_owned(),
            assigned_contact: None,
            messages: Vec::new(),
        })
    }

    /// Gives a conversation the id that a webhook used.
    pub(crate) fn rename_conversation(&mut self, old: &str, new: &str) {
        let Some(mut conversation) = self.conversations.remove(old) else { return };
        for slug in &conversation.messages {
            if let Some(message) = self.messages.get_mut(slug) {
                message.conversation = new.to_owned();
            }
        }
        new.clone_into(&mut conversation.slug);
        let key = (conversation.account.clone(), conversation.phone.clone());
        self.conversations_by_phone.insert(key, new.to_owned());
        self.conversations.insert(new.to_owned(), conversation);
    }

    /// Returns the conversations that this contact's numbers have in its account.
    pub(crate) fn conversations_of(&self, contact: &Contact) -> Vec<&Conversation> {
        contact.phones.iter().filter_map(|phone| self.conversation_with(&contact.account, &phone.number)).collect()
    }

    pub(crate) fn message(&self, slug: &str) -> Option<&Message> {
        self.messages.get(slug)
    }

    /// Adds a message to its conversation, or replaces the one with this slug.
    pub(crate) fn put_message(&mut self, message: Message) {
        if let Some(conversation) = self.conversations.get_mut(&message.conversation)
            && !conversation.messages.contains(&message.slug)
        {
            let messages = &self.messages;
            let later = |slug: &String| messages.get(slug).is_some_and(|other| other.at > message.at);
            let place = conversation.messages.iter().position(later).unwrap_or(conversation.messages.len());
            conversation.messages.insert(place, message.slug.clone());
        }
        self.messages.insert(message.slug.clone(), message);
    }

    pub(crate) fn newest_message(&self, conversation: &Conversation) -> Option<&Message> {
        self.messages.get(conversation.messages.last()?)
    }

    /// Returns the newest message in any of this contact's conversations.
    pub(crate) fn newest_message_of(&self, contact: &Contact) -> Option<&Message> {
        self.conversations_of(contact)
            .into_iter()
            .filter_map(|conversation| self.newest_message(conversation))
            .max_by_key(|message| message.at)
    }

    pub(crate) fn opt_out(&self, account: &str, phone: &str) -> Option<&OptOut> {
        self.opt_outs.get(&(account.to_owned(), phone.to_owned()))
    }

    /// Opts a number out. A number that is already opted out keeps its record and gets this slug.
    pub(crate) fn opt_out_now(&mut self, account: &str, phone: &str, slug: &str) -> &OptOut {
        let opt_out = self.opt_outs.entry((account.to_owned(), phone.to_owned())).or_insert_with(|| OptOut {
            account: account.to_owned(),
            phone: phone.to_owned(),
            slug: String::new(),
            created_at: Timestamp::now(),
        });
        slug.clone_into(&mut opt_out.slug);
        opt_out
    }

    /// Does what a contact's START does; the API has no call for it.
    pub(crate) fn opt_in(&mut self, account: &str, phone: &str) {
        self.opt_outs.remove(&(account.to_owned(), phone.to_owned()));
    }

    /// Returns the opt-outs of an account, ordered by number.
    pub(crate) fn opt_outs_of<'a>(&'a self, account: &'a str) -> impl Iterator<Item = &'a OptOut> {
        self.opt_outs.values().filter(move |opt_out| opt_out.account == account)
    }
}

/// Makes a contact's phone of the usual kind.
pub(crate) fn mobile(number: &str) -> ContactPhone {
    ContactPhone { slug: fresh_slug(), number: number.to_owned(), extension: None, kind: "Mobile".to_owned() }
}
