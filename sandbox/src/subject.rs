//! Determines the account and the phone numbers that a request is about, in whatever form it names them.

use bytes::Bytes;
use hyper::http::request::Parts;
use serde_json::Value;

use crate::phone::{self, Number};
use crate::route::{self, Endpoint, Route};
use crate::world::World;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The account in the path, or that of the message, conversation or contact that the path names.
    pub(crate) account: Option<String>,
    /// Numbers in E.164, the most likely reading first.
    pub(crate) phones: Vec<String>,
}

impl Subject {
    /// Reads the subject of a request. `body` is empty if it has not been read yet.
    pub(crate) fn of(world: &World, head: &Parts, route: Option<&Route>, body: &Bytes) -> Self {
        let Some(route) = route else { return Self::default() };
        let mut subject = Self { account: route.account.clone(), phones: Vec::new() };
        subject.read_path(world, route);
        for (name, value) in route::query_pairs(head.uri.query().unwrap_or_default()).into_iter().flatten() {
            if name == "q" || name == "exact[]" {
                subject.phones.extend(readings(&value));
            }
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let numbers = body["phones"].as_array().into_iter().flatten().filter_map(|phone| phone["number"].as_str());
        subject.phones.extend(numbers.filter_map(Number::parse).map(|number| number.e164));
        subject
    }

    fn read_path(&mut self, world: &World, route: &Route) {
        match route.endpoint {
            Endpoint::PutOptOut | Endpoint::GetOptOut => self.phones.extend(phone::in_opt_out_path(route)),
            Endpoint::FindConversation => self.phones.extend(Number::parse(&route.parameter).map(|one| one.e164)),
            Endpoint::GetMessage
            | Endpoint::GetConversation
            | Endpoint::GetContact
            | Endpoint::UpdateContact
            | Endpoint::ListPhones
            | Endpoint::ListConversations
            | Endpoint::ListNotes
            | Endpoint::CreateNote => self.read_id(world, &route.parameter),
            Endpoint::ListOptOuts
            | Endpoint::CreateContact
            | Endpoint::ListContacts
            | Endpoint::FindContactPhones
            | Endpoint::ListIntegrations
            | Endpoint::CreateIntegration
            | Endpoint::UpdateIntegration => {}
        }
    }

    fn read_id(&mut self, world: &World, slug: &str) {
        let of_message = || world.message(slug).map(|message| message.conversation.as_str());
        if let Some(conversation) = world.conversation(of_message().unwrap_or(slug)) {
            self.account = Some(conversation.account.clone());
            self.phones.push(conversation.phone.clone());
        } else if let Some(contact) = world.contact(slug) {
            self.account = Some(contact.account.clone());
            self.phones.extend(contact.phones.iter().map(|phone| phone.number.clone()));
        }
    }
}

/// Returns the numbers that a search text can mean: ten digits are a +1 number, and any digits may be a foreign one.
fn readings(text: &str) -> Vec<String> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let abroad = format!("+{digits}");
    let national = Number::parse(text).map(|number| number.e164).filter(|number| *number != abroad);
    national.into_iter().chain(phone::is_e164(&abroad).then_some(abroad)).collect()
}
