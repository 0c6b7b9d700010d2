//! The handle of a running sandbox: start, seed, set faults, query what happened, stop.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::echo::EchoCounts;
use crate::fault_rule::FaultRule;
use crate::integration::Integration;
use crate::ledger::{Effect, EffectKind, RecordedRequest, Violation};
use crate::model::{Contact, Direction, Message, fresh_slug, slug_of};
use crate::options::{SandboxOptions, WebhookTarget};
use crate::phone::Number;
use crate::server::{self, SandboxState};
use crate::shapes;
use crate::state::State;
use crate::world::mobile;

/// A running sandbox of the TextUs API. It ends with [`Sandbox::stop`], or when it is dropped.
pub struct Sandbox {
    shared: Arc<SandboxState>,
    addr: SocketAddr,
}

/// The id of a rule that was added, for [`Sandbox::remove_fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(pub(crate) u64);

/// The ids of a seeded message, as the API writes them: `/messages/{slug}` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageIds {
    pub message: String,
    pub conversation: String,
    /// The account's first contact with that phone.
    pub contact: Option<String>,
}

impl Sandbox {
    /// Listens and serves on the caller's tokio runtime.
    ///
    /// # Errors
    /// Fails when the address cannot be bound.
    pub async fn start(options: SandboxOptions) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(options.listen).await.context("binding the sandbox's listener")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(SandboxState::new(State::new(options), crate::post::client()?));
        shared.life.tasks.spawn(server::run(listener, Arc::clone(&shared)));
        Ok(Self { shared, addr })
    }

    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns `http://127.0.0.1:{port}`, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Closes the listener and every connection, and waits until all are gone. Echoes that are not yet accepted are
    /// given up.
    pub async fn stop(&self) {
        self.shared.life.end().await;
    }

    /// Changes how the sandbox behaves from the next request on; the address stays.
    pub fn configure(&self, change: impl FnOnce(&mut SandboxOptions)) {
        change(&mut self.shared.state().options);
    }

    /// Sets where webhooks go from now on: to one integration, with every event switched on.
    pub fn set_webhook(&self, target: WebhookTarget) {
        let mut state = self.shared.state();
        state.send_all_to(&target);
        state.options.webhook = Some(target);
    }

    /// Returns the integrations as the API keeps them, secrets included, oldest first.
    #[must_use]
    pub fn integrations(&self) -> Vec<Value> {
        let state = self.shared.state();
        let body = |integration: &Integration| {
            let mut body = integration.body.clone();
            body.insert("id".to_owned(), json!(integration.id()));
            Value::Object(body)
        };
        state.integrations.iter().map(body).collect()
    }

    /// Adds an integration as if made by hand, and returns its id. `body` has `active`, `provider`, `config` and so on,
    /// in any shape.
    pub fn add_integration(&self, body: Value) -> String {
        let mut state = self.shared.state();
        let account = state.primary_account().to_owned();
        let body = body.as_object().cloned().unwrap_or_default();
        let integration = Integration { slug: fresh_slug(), account, body };
        let id = integration.id();
        state.integrations.push(integration);
        id
    }

    /// Changes one integration without any client's involvement.
    pub fn change_integration(&self, id: &str, change: impl FnOnce(&mut Map<String, Value>)) {
        let mut state = self.shared.state();
        if let Some(integration) = state.integrations.iter_mut().find(|one| one.slug == slug_of(id)) {
            change(&mut integration.body);
        }
    }

    /// Adds a rule after the existing ones; [`FaultRule`] describes how they combine.
    pub fn fault(&self, rule: FaultRule) -> FaultId {
        let mut state = self.shared.state();
        state.rules_made += 1;
        let id = FaultId(state.rules_made);
        state.faults.push((id, rule));
        id
    }

    /// Removes a rule, if it exists.
    pub fn remove_fault(&self, id: FaultId) {
        self.shared.state().faults.retain(|(other, _)| *other != id);
    }

    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Adds a contact without an effect and without an echo, and returns its id.
    ///
    /// # Panics
    /// If `phone` is no phone number.
    pub fn add_contact(&self, account: &str, name: &str, phone: &str) -> String {
        self.add_contact_with_phones(account, name, &[phone])
    }

    /// Like [`Self::add_contact`], with several numbers or none.
    ///
    /// # Panics
    /// If one of them is no phone number.
    pub fn add_contact_with_phones(&self, account: &str, name: &str, phones: &[&str]) -> String {
        let contact = Contact {
            slug: fresh_slug(),
            account: account.to_owned(),
            name: Some(name.to_owned()),
            phones: phones.iter().map(|phone| mobile(&e164(phone))).collect(),
            data: json!({}),
            notes: Vec::new(),
            created_at: Timestamp::now(),
        };
        let id = format!("/contacts/{}", contact.slug);
        self.shared.state().world.put_contact(contact);
        id
    }

    /// Opens an account's conversation with a phone if there is none, and returns its id.
    ///
    /// # Panics
    /// If `phone` is no phone number.
    pub fn add_conversation(&self, account: &str, phone: &str) -> String {
        let mut state = self.shared.state();
        format!("/conversations/{}", state.world.open_conversation(account, &e164(phone), None, None).slug)
    }

    /// Makes this contact the `assignedContact` of the account's conversation with a phone, and opens the conversation
    /// if necessary.
    ///
    /// # Panics
    /// If `phone` is no phone number.
    pub fn assign_contact(&self, account: &str, phone: &str, contact: &str) {
        let mut state = self.shared.state();
        let conversation = state.world.open_conversation(account, &e164(phone), None, None);
        conversation.assigned_contact = Some(slug_of(contact).to_owned());
    }

    /// Adds a text as the newest of its conversation, and opens the conversation if necessary.
    ///
    /// # Panics
    /// If `phone` is no phone number.
    pub fn add_message(&self, account: &str, phone: &str, direction: Direction, body: &str) -> MessageIds {
        self.add_message_with_attachments(account, phone, direction, body, 0)
    }

    /// Like [`Self::add_message`], with this number of attachments.
    ///
    /// # Panics
    /// If `phone` is no phone number.
    pub fn add_message_with_attachments(
        &self,
        account: &str,
        phone: &str,
        direction: Direction,
        body: &str,
        attachments: usize,
    ) -> MessageIds {
        let mut state = self.shared.state();
        let phone = e164(phone);
        let conversation = state.world.open_conversation(account, &phone, None, None).slug.clone();
        let message = Message {
            slug: fresh_slug(),
            conversation: conversation.clone(),
            direction,
            body: body.to_owned(),
            state: match direction {
                Direction::In => "received".to_owned(),
                Direction::Out => "delivered".to_owned(),
            },
            attachments: (0..attachments).map(|_| shapes::attachment(&fresh_slug())).collect(),
            at: Timestamp::now(),
        };
        let contact =
            state.world.contacts_with_phone(account, &phone).first().map(|one| format!("/contacts/{}", one.slug));
        let ids = MessageIds {
            message: format!("/messages/{}", message.slug),
            conversation: format!("/conversations/{conversation}"),
            contact,
        };
        state.world.put_message(message);
        ids
    }

    /// Adds the message, conversation, contact or opt-out that a webhook body names, with its ids, without an effect
    /// and without an echo.
    ///
    /// # Errors
    /// Fails when the body does not have a shape that TextUs sends.
    pub fn learn(&self, payload: &Value) -> anyhow::Result<()> {
        let mut state = self.shared.state();
        let first_account = state.options.accounts.first().cloned().unwrap_or_default();
        state.world.learn(&first_account, payload)
    }

    /// Returns every write that took effect, in order.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        self.shared.state().ledger.effects.clone()
    }

    /// Returns how many writes of this kind took effect in an account. [`Effect::key`] describes the key.
    #[must_use]
    pub fn effect_count(&self, kind: EffectKind, account: &str, key: &str) -> usize {
        let is_it = |effect: &&Effect| effect.kind == kind && effect.account == account && effect.key == key;
        self.shared.state().ledger.effects.iter().filter(is_it).count()
    }

    /// Returns the newest million requests, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.state().ledger.requests()
    }

    pub fn clear_requests(&self) {
        self.shared.state().ledger.clear_requests();
    }

    /// Returns the requests that a correct client would not have sent; a test asserts that there are none.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.state().ledger.violations.clone()
    }

    /// Returns how many echoes were answered 2xx.
    #[must_use]
    pub fn echoes_sent(&self) -> u64 {
        self.echo_counts().sent
    }

    #[must_use]
    pub fn echo_counts(&self) -> EchoCounts {
        *self.shared.echo_counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.life.stop.cancel();
    }
}

fn e164(phone: &str) -> String {
    Number::parse(phone).expect("a seeded phone is a phone number").e164
}
