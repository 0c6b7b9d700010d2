//! Sample webhooks of every event type, in the shapes that TextUs sends. Numbers are fictional (555-01xx) and names
//! invented.

use jiff::Timestamp;
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

pub use crate::post::{Posted, client, post, post_with};
pub use crate::webhooks::{SIGNATURE_HEADER, sign};

use crate::model::{Contact, Conversation, Direction, Message, OptOut, fresh_slug};
use crate::world::{ACCOUNT_PHONE, mobile};
use crate::{shapes, webhooks};

/// The event types that TextUs documents. <https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>
pub const EVENT_TYPES: [&str; 8] = [
    "message.received",
    "message.delivered",
    "message.failed",
    "message.unknown",
    "phone_call.completed",
    "contact.opted_out",
    "contact.opted_in",
    "contact.created",
];

/// The people and contents of a sample. Samples with the same facts are about the same person and conversation;
/// delivery, message and opt-out ids are new in each.
#[derive(Clone, Debug)]
pub struct SampleFacts {
    /// The account's slug.
    pub account: String,
    /// The business number, in E.164.
    pub account_phone: String,
    /// The person's number, in E.164.
    pub phone: String,
    pub contact_name: String,
    /// The last segment of the contact's id.
    pub contact_id: String,
    /// Whether message and call events contain the contact, or only a link that has to be looked up.
    pub embed_contact: bool,
    /// The last segment of the conversation's id.
    pub conversation_id: String,
    /// The text of message events.
    pub body: String,
    /// The number of attachments of message events.
    pub attachments: usize,
    /// The contact's other numbers, in E.164.
    pub more_phones: Vec<String>,
    pub timestamp: Timestamp,
}

impl SampleFacts {
    /// Invents a new person in this account, at the current time. The contact is not embedded.
    #[must_use]
    pub fn random(account: &str) -> Self {
        let mut random = rand::rng();
        let mut pick = |from: &[&'static str]| from.choose(&mut random).copied().unwrap_or_default();
        Self {
            account: account.to_owned(),
            account_phone: ACCOUNT_PHONE.to_owned(),
            contact_name: format!("{} {}", pick(&FIRST_NAMES), pick(&LAST_NAMES)),
            body: pick(&TEXTS).to_owned(),
            phone: fictional_phone(),
            contact_id: fresh_slug(),
            embed_contact: false,
            conversation_id: fresh_slug(),
            attachments: 0,
            more_phones: Vec::new(),
            timestamp: Timestamp::now(),
        }
    }
}

/// Returns the webhook body of an event type. The hyphen spelling of the help centre (`contact.opted-out`) is kept as
/// given. A type that TextUs does not document gets the bare envelope.
#[must_use]
pub fn sample(event_type: &str, facts: &SampleFacts) -> Value {
    let at = facts.timestamp;
    let contact = contact(facts);
    let embedded = [&contact];
    let contacts = facts.embed_contact.then_some(&embedded[..]);
    let conversation = conversation(facts);
    let message = |direction, state| message(facts, direction, state);
    match event_type.replace('-', "_").as_str() {
        "message.received" => {
            webhooks::message(event_type, &conversation, &message(Direction::In, "received"), contacts, at)
        }
        "message.delivered" => {
            let text = message(Direction::Out, "delivered");
            let mut value = webhooks::message(event_type, &conversation, &text, contacts, at);
            // The vendor's example of this type has another time format than the rest.
            value["timestamp"] = json!(shapes::micros_with_offset(at));
            value
        }
        "message.failed" => {
            webhooks::message(event_type, &conversation, &message(Direction::Out, "failed"), contacts, at)
        }
        "message.unknown" => {
            webhooks::message(event_type, &conversation, &message(Direction::Out, "unknown"), contacts, at)
        }
        "phone_call.completed" => webhooks::phone_call(event_type, &conversation, contacts, at),
        "contact.opted_out" => webhooks::opt_out(event_type, "opt-out", &opt_out(facts), at),
        "contact.opted_in" => webhooks::opt_out(event_type, "opt-in", &opt_out(facts), at),
        "contact.created" => webhooks::contact_created(event_type, &contact, at),
        _ => webhooks::envelope("WebhookDelivery", event_type, at),
    }
}

/// Returns a sample about a new person in the account `acme`.
#[must_use]
pub fn fresh(event_type: &str) -> Value {
    sample(event_type, &SampleFacts::random("acme"))
}

fn contact(facts: &SampleFacts) -> Contact {
    Contact {
        slug: facts.contact_id.clone(),
        account: facts.account.clone(),
        name: Some(facts.contact_name.clone()),
        phones: std::iter::once(&facts.phone).chain(&facts.more_phones).map(|phone| mobile(phone)).collect(),
        data: json!({}),
        notes: Vec::new(),
        created_at: facts.timestamp,
    }
}

fn conversation(facts: &SampleFacts) -> Conversation {
    Conversation {
        slug: facts.conversation_id.clone(),
        account: facts.account.clone(),
        phone: facts.phone.clone(),
        account_phone: facts.account_phone.clone(),
        assigned_contact: None,
        messages: Vec::new(),
    }
}

fn message(facts: &SampleFacts, direction: Direction, state: &str) -> Message {
    Message {
        slug: fresh_slug(),
        conversation: facts.conversation_id.clone(),
        direction,
        body: facts.body.clone(),
        state: state.to_owned(),
        attachments: (0..facts.attachments).map(|_| shapes::attachment(&fresh_slug())).collect(),
        at: facts.timestamp,
    }
}

fn opt_out(facts: &SampleFacts) -> OptOut {
    OptOut {
        account: facts.account.clone(),
        phone: facts.phone.clone(),
        slug: rand::rng().random_range(100_000..10_000_000_u32).to_string(),
        created_at: facts.timestamp,
    }
}

/// Returns a number of the form `+1 NXX 555 01XX`, which is reserved for fiction in every area code and thus belongs to
/// nobody.
fn fictional_phone() -> String {
    let mut random = rand::rng();
    // The middle digit of an area code is never 9, and N11 codes are services.
    let area = loop {
        let (first, middle, last) =
            (random.random_range(2..=9), random.random_range(0..=8), random.random_range(0..=9));
        if (middle, last) != (1, 1) {
            break first * 100 + middle * 10 + last;
        }
    };
    format!("+1{area}55501{:02}", random.random_range(0..100))
}

const FIRST_NAMES: [&str; 8] = ["Marisol", "Tobin", "Anneke", "Rahul", "Ilse", "Kofi", "Brigid", "Mateus"];
const LAST_NAMES: [&str; 8] =
    ["Ektberg", "Varnholt", "Quillon", "Brandvoll", "Ostrander", "Fennimore", "Tazewell", "Mirkwood"];
const TEXTS: [&str; 5] = [
    "Running ten minutes behind for the site visit.",
    "Parked by the loading dock now.",
    "Can we move tomorrow to half past nine?",
    "Badge photo is on its way.",
    "Thanks, see you on Monday.",
];
