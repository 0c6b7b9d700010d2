//! What the sandbox knows of a person, as plain data. Only [`crate::shapes`] turns it into JSON.

use jiff::Timestamp;
use rand::RngExt as _;
use serde_json::Value;

/// A person in one account. `slug` is the last segment of the vendor's id.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    pub(crate) slug: String,
    pub(crate) account: String,
    pub(crate) name: Option<String>,
    pub(crate) phones: Vec<ContactPhone>,
    pub(crate) data: Value,
    pub(crate) notes: Vec<Note>,
    pub(crate) created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct ContactPhone {
    pub(crate) slug: String,
    /// The number in E.164.
    pub(crate) number: String,
    pub(crate) extension: Option<String>,
    pub(crate) kind: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) slug: String,
    pub(crate) content: String,
    pub(crate) created_at: Timestamp,
}

/// The texts between one account and one phone number.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) slug: String,
    pub(crate) account: String,
    pub(crate) phone: String,
    pub(crate) account_phone: String,
    pub(crate) assigned_contact: Option<String>,
    /// The messages' slugs, oldest first.
    pub(crate) messages: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) slug: String,
    pub(crate) conversation: String,
    pub(crate) direction: Direction,
    pub(crate) body: String,
    /// One of the vendor's delivery states: `received`, `delivered`, `failed`, `unknown`.
    pub(crate) state: String,
    pub(crate) attachments: Vec<Value>,
    pub(crate) at: Timestamp,
}

/// The direction of a text, seen from the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

#[derive(Clone, Debug)]
pub(crate) struct OptOut {
    pub(crate) account: String,
    /// The number in E.164.
    pub(crate) phone: String,
    /// The last segment of the id: the number as a request wrote it, or the id that a webhook used.
    pub(crate) slug: String,
    pub(crate) created_at: Timestamp,
}

/// Makes a new id in the vendor's style, from letters and digits. It has eight characters where the vendor's examples
/// have six or seven, so that long runs don't meet the same id twice.
pub(crate) fn fresh_slug() -> String {
    let mut random = rand::rng();
    (0..8).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect()
}

/// Makes a new delivery id as opt-out webhooks have it: a version 4 UUID.
pub(crate) fn fresh_uuid() -> String {
    let random: u128 = rand::rng().random();
    let bits = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Returns the last segment of an id: `Bn3RkQ8` for `/contacts/Bn3RkQ8`.
pub(crate) fn slug_of(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}
