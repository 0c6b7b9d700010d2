//! The calls that Hookline makes to TextUs, and what their answers mean
//! (<https://apidocs.next.textus.com/docs/opt_outs/update>,
//! <https://apidocs.next.textus.com/docs/contacts/create-contact/>,
//! <https://apidocs.next.textus.com/docs/messages/get>, <https://apidocs.next.textus.com/docs/accounts/conversation/>).
//!
//! Every call may fail with any [`DestinationError`]. A method's doc names the errors that it reads as an answer
//! instead.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use hookline_common::names::{Operation, OperationClass};
use hookline_common::phone::Phone;
use hookline_common::secret::Secret;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::TextUsSettings;
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde_json::Value;
use url::Url;

use super::limits;
use super::links::{Collection, Link};
use super::paths::Path;
use super::types::{Contact, ContactPhone, Conversation, Message, Numbers};
use crate::calls::http::{self, Answer, Call, Http, HttpOptions, unreadable};
use crate::calls::log::CallLog;
use crate::calls::world::World;
use crate::destinations::error::DestinationError;
use crate::destinations::segment::Segment;
use crate::destinations::status;
use crate::gate::Gate;

/// The media type that the API asks for (<https://apidocs.next.textus.com/overview/making_requests/>).
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.textus+jsonld");
/// Most pages of a search for one number. An answer with more isn't an answer to that search.
const MAX_PAGES: usize = 20;

/// The TextUs client. Clones share connections, the gate, and requests in flight.
#[derive(Clone)]
pub struct TextUs {
    http: Http,
    gate: Arc<Gate>,
    world: Arc<World>,
    base: Url,
    /// The account in which the token is checked.
    account: String,
    credentials: Arc<RwLock<Credentials>>,
}

#[derive(Clone)]
struct Credentials {
    /// Must not appear in an error.
    token: Secret,
    bearer: HeaderValue,
}

impl Credentials {
    fn of(settings: &TextUsSettings) -> anyhow::Result<Self> {
        let token = settings.token.clone().context("[textus] token is not set")?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .ok()
            .context("[textus] token holds characters that a header cannot")?;
        bearer.set_sensitive(true);
        Ok(Self { token, bearer })
    }
}

/// A contact to create. It has no `Debug`, because all of it is personal data.
#[derive(Clone)]
pub struct NewContact {
    /// The full name; TextUs splits it into first and last name.
    pub name: String,
    /// The phones with their types: `Mobile`, `Work`.
    pub phones: Vec<(Phone, String)>,
    /// Free-form; `null` for none.
    pub data: Value,
}

impl TextUs {
    /// Builds the client from the settings.
    ///
    /// # Errors
    /// When the token is missing or can't be sent, or the TLS set-up fails.
    pub fn new(settings: &TextUsSettings, gate: Arc<Gate>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let credentials = Arc::new(RwLock::new(Credentials::of(settings)?));
        let headers = HeaderMap::from_iter([(ACCEPT, MEDIA_TYPE)]);
        let options = HttpOptions {
            headers,
            media_type: MEDIA_TYPE,
            timeout: settings.timeout,
            max_response_bytes: settings.max_response_bytes,
            read_limits: Arc::new(limits::read),
            resolver: None,
            read_refusal: None,
            pauses_on_gone: None,
            is_final: status::is_final,
        };
        let world = Arc::new(World::new(Arc::clone(&gate)));
        let http = Http::new(options, Arc::clone(&gate), Some(Arc::clone(&world)), metrics)?;
        Ok(Self { http, gate, world, base: settings.base_url.clone(), account: settings.account.clone(), credentials })
    }

    /// Makes the client compare answers with the store without fixing the store's kind or pausing a worker. This is for
    /// a command, whose configuration may differ from the workers'.
    #[must_use]
    pub fn only_looking(self) -> Self {
        self.world.only_look();
        self
    }

    /// Uses the token from these settings from now on. Returns `false` if the token is the same as before.
    ///
    /// # Errors
    /// When the token is missing or can't be sent; the previous token then stays.
    pub fn take_token(&self, settings: &TextUsSettings) -> anyhow::Result<bool> {
        let new = Credentials::of(settings)?;
        let mut credentials = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = credentials.token != new.token;
        *credentials = new;
        Ok(is_new)
    }

    /// `GET /messages/{slug}`. The slug is a message's or, according to the help centre, a contact's. The answer is one
    /// message or the first page of a collection. Returns an empty list for a 404.
    pub async fn get_message(&self, log: &CallLog, slug: &Segment) -> Result<Vec<Message>, DestinationError> {
        let path = Path::root().word("messages").segment(slug);
        let Some(answer) = known(self.get(log, Operation::GetMessage, &path).await)? else { return Ok(Vec::new()) };
        // A collection can't be read as a message, because it has no message's id.
        if let Ok(messages) = answer.clone().json::<Collection<Message>>() {
            return Ok(messages.members);
        }
        Ok(vec![answer.object()?])
    }

    /// `GET /{account}/conversations/{E.164}`. Returns `None` for a 404 and for a conversation with another number.
    pub async fn conversation(
        &self,
        log: &CallLog,
        account: &str,
        phone: &Phone,
    ) -> Result<Option<Conversation>, DestinationError> {
        let path = Path::of_account(account)?.word("conversations").phone(phone.as_e164(), phone);
        let Some(answer) = known(self.get(log, Operation::GetConversation, &path).await)? else { return Ok(None) };
        let conversation: Conversation = answer.object()?;
        Ok(Some(conversation).filter(|conversation| conversation.phone().is_none_or(|other| other == *phone)))
    }

    /// `GET /{account}/contact_phones?q={digits}`, all pages. Returns the entries with exactly this number.
    pub async fn contact_phones(
        &self,
        log: &CallLog,
        account: &str,
        phone: &Phone,
    ) -> Result<Vec<ContactPhone>, DestinationError> {
        let first =
            Path::of_account(account)?.word("contact_phones").query("q", phone.search_digits(), &phone.masked());
        let mut found = self.pages(log, Operation::FindContactPhones, first).await?;
        found.retain(|entry| entry.phone().as_ref() == Some(phone));
        Ok(found)
    }

    /// `GET /contacts/{slug}`. Returns `None` for a 404.
    pub async fn contact(&self, log: &CallLog, slug: &Segment) -> Result<Option<Contact>, DestinationError> {
        let path = Path::root().word("contacts").segment(slug);
        match known(self.get(log, Operation::GetContact, &path).await)? {
            Some(answer) => answer.object().map(Some),
            None => Ok(None),
        }
    }

    /// `GET /contacts/{slug}/phones`, for a contact that gives its phones as a link. Returns no numbers for a 404.
    pub async fn contact_phone_list(&self, log: &CallLog, slug: &Segment) -> Result<Numbers, DestinationError> {
        let first = Path::root().word("contacts").segment(slug).word("phones");
        match self.pages(log, Operation::GetContact, first).await {
            Ok(phones) => Ok(Numbers::of(&phones)),
            Err(DestinationError::NotFound { .. }) => Ok(Numbers::default()),
            Err(error) => Err(error),
        }
    }

    /// `POST /{account}/contacts`. Creates another contact on each call, so look first. TextUs doesn't honour
    /// `idempotency_key` yet; it is sent for the day that it does.
    pub async fn create_contact(
        &self,
        log: &CallLog,
        account: &str,
        contact: &NewContact,
        idempotency_key: &str,
    ) -> Result<Contact, DestinationError> {
        let path = Path::of_account(account)?.word("contacts");
        let mut call = self.call(Operation::CreateContact, Method::POST, &path)?;
        call.body = Some(contact.to_json().to_string().into());
        call.idempotency_key = Some(idempotency_key.to_owned());
        call.private.push(contact.name.clone());
        call.private.extend(texts_in(&contact.data));
        let created: Contact = self.make(log, call).await?.object()?;
        if created.segment().is_none() {
            return Err(unreadable("its body names no contact"));
        }
        Ok(created)
    }

    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Makes a GET and returns a 403 as `Forbidden`, without finding out whether it is about the token.
    pub(super) async fn get_as_it_is(
        &self,
        log: &CallLog,
        operation: Operation,
        path: &Path,
    ) -> Result<Answer, DestinationError> {
        self.get_as(log, operation, operation.class(), path).await
    }

    /// Does the same, but counts the call towards this class of operation.
    pub(super) async fn get_as(
        &self,
        log: &CallLog,
        operation: Operation,
        class: OperationClass,
        path: &Path,
    ) -> Result<Answer, DestinationError> {
        let call = Call { class, ..self.call(operation, Method::GET, path)? };
        self.http.get(log, call).await
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Builds a call with a JSON body. The `private` texts in it must not appear in an error.
    pub(super) fn call_with(
        &self,
        operation: Operation,
        method: Method,
        path: &Path,
        body: &Value,
        private: Vec<String>,
    ) -> Result<Call, DestinationError> {
        let mut call = self.call(operation, method, path)?;
        call.body = Some(body.to_string().into());
        call.private.extend(private);
        Ok(call)
    }

    /// Makes a write and returns a 403 as `Forbidden`, without finding out whether it is about the token.
    pub(super) async fn write_as_it_is(&self, log: &CallLog, call: Call) -> Result<Answer, DestinationError> {
        self.http.write(log, call).await
    }

    /// Fetches all pages of a collection of phones.
    async fn pages(
        &self,
        log: &CallLog,
        operation: Operation,
        first: Path,
    ) -> Result<Vec<ContactPhone>, DestinationError> {
        let mut phones = Vec::new();
        let mut seen = HashSet::new();
        let mut path = first;
        // A link that was already followed would loop for ever, so what has been read is everything.
        while seen.insert(path.sent.clone()) {
            if seen.len() > MAX_PAGES {
                return Err(unreadable("its list has too many pages to be the answer to this call"));
            }
            let page: Collection<Link<ContactPhone>> = self.get(log, operation, &path).await?.json()?;
            for member in page.members {
                let Link::Here(phone) = member else {
                    // Skipping the entry could hide the contact that is looked for, and lead to a second one.
                    return Err(unreadable("its list holds an entry without a number"));
                };
                phones.push(phone);
            }
            let Some(next) = page.next else { break };
            path = Path::of_next(&next, &self.base)?;
        }
        Ok(phones)
    }

    pub(super) async fn get(
        &self,
        log: &CallLog,
        operation: Operation,
        path: &Path,
    ) -> Result<Answer, DestinationError> {
        let answer = self.get_as_it_is(log, operation, path).await;
        self.judged(log, answer).await
    }

    /// Makes a write without a body.
    pub(super) async fn write(
        &self,
        log: &CallLog,
        operation: Operation,
        method: Method,
        path: &Path,
    ) -> Result<Answer, DestinationError> {
        let call = self.call(operation, method, path)?;
        self.make(log, call).await
    }

    async fn make(&self, log: &CallLog, call: Call) -> Result<Answer, DestinationError> {
        let answer = self.write_as_it_is(log, call).await;
        self.judged(log, answer).await
    }

    fn call(&self, operation: Operation, method: Method, path: &Path) -> Result<Call, DestinationError> {
        let Credentials { token, bearer } = self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Call {
            operation,
            class: operation.class(),
            credentials: http::Credentials::Bearer(bearer),
            method,
            url: path.url(&self.base)?,
            shown: path.shown.clone(),
            body: None,
            idempotency_key: None,
            private: vec![token.expose().to_owned()],
            search: None,
            last_look: None,
        })
    }
}

impl NewContact {
    fn to_json(&self) -> Value {
        let phones: Vec<Value> = self
            .phones
            .iter()
            .map(|(phone, kind)| serde_json::json!({"number": phone.dashed(), "type": kind}))
            .collect();
        let mut body = serde_json::json!({"name": self.name, "phones": phones});
        // TextUs refuses the whole contact if `data` isn't an object.
        if self.data.is_object() {
            body["data"] = self.data.clone();
        }
        body
    }
}

/// Reads a 404 as "not there".
fn known(result: Result<Answer, DestinationError>) -> Result<Option<Answer>, DestinationError> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(DestinationError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns every text in a free-form value.
fn texts_in(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts_in).collect(),
        Value::Object(fields) => fields.values().flat_map(texts_in).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}
