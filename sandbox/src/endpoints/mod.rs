//! One function per endpoint, in the file of its resource. Each takes a call that has passed the general checks.

mod contact_body;
mod contacts;
mod conversations;
mod integrations;
mod opt_outs;
mod pages;

use crate::answer::Answer;
use crate::route::Endpoint;
use crate::state::{Call, State};

pub(crate) fn answer(state: &mut State, call: &Call<'_>) -> Answer {
    match call.route.endpoint {
        Endpoint::PutOptOut => opt_outs::put(state, call),
        Endpoint::GetOptOut => opt_outs::get(state, call),
        Endpoint::ListOptOuts => opt_outs::list(state, call),
        Endpoint::CreateContact => contacts::create(state, call),
        Endpoint::ListContacts => contacts::list(state, call),
        Endpoint::GetContact => contacts::get(state, call),
        Endpoint::UpdateContact => contacts::update(state, call),
        Endpoint::ListPhones => contacts::phones(state, call),
        Endpoint::ListNotes => contacts::notes(state, call),
        Endpoint::CreateNote => contacts::create_note(state, call),
        Endpoint::FindContactPhones => contacts::find_phones(state, call),
        Endpoint::ListConversations => conversations::of_contact(state, call),
        Endpoint::FindConversation => conversations::with_phone(state, call),
        Endpoint::GetConversation => conversations::get(state, call),
        Endpoint::GetMessage => conversations::message(state, call),
        Endpoint::ListIntegrations => integrations::list(state, call),
        Endpoint::CreateIntegration => integrations::create(state, call),
        Endpoint::UpdateIntegration => integrations::update(state, call),
    }
}
