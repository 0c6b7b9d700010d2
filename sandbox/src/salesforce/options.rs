//! The options with which the Salesforce stand-in starts. All but the address can be changed later with
//! [`crate::Salesforce::configure`].

use std::net::SocketAddr;
use std::time::Duration;

use super::object::SalesforceObject;

/// The public half of [`PRIVATE_KEY`], as an administrator would upload it.
const PUBLIC_KEY: &str = include_str!("keys/public.pem");

/// A synthetic key for the JWT bearer flow. [`SalesforceOptions::default`] knows its public half.
pub const PRIVATE_KEY: &str = include_str!("keys/private.pem");

/// How the stand-in behaves. `Default` is an org with one integration user, whose app may use both flows, without index
/// lag, on a free loopback port.
#[derive(Clone, Debug)]
pub struct SalesforceOptions {
    /// The address to listen on; port 0 means any free port.
    pub listen: SocketAddr,
    /// The consumer key of the only app.
    pub client_id: String,
    pub client_secret: String,
    /// Whether the app has a run-as user, without whom the client credentials flow is refused.
    pub has_run_as_user: bool,
    /// The user as whom the app acts, in either flow. The stand-in has such a user from the start.
    pub username: String,
    /// Whether an administrator has approved the app for the user, which the JWT bearer flow needs.
    pub is_approved: bool,
    /// The certificate or public key (PEM) that the app knows. `None` refuses each assertion.
    pub public_key: Option<String>,
    /// The values of `aud` that are accepted beside the stand-in's own address.
    pub audiences: Vec<String>,
    /// How far ahead the end of an assertion may lie at most. The vendor speaks of a few minutes.
    pub longest_assertion: Duration,
    /// The `instance_url` in the answers to token requests, without a slash at the end. `None` means
    /// [`crate::Salesforce::base_url`]. A call with a token to another host is then a violation.
    pub instance_url: Option<String>,
    /// How long a token is good. Answers don't tell it.
    pub token_lifetime: Option<Duration>,
    /// The number of calls for which a token is good.
    pub token_calls: Option<usize>,
    /// The versions of the API, oldest first, for example `67.0`.
    pub versions: Vec<String>,
    /// Calls in 24 hours, answered 403 with `REQUEST_LIMIT_EXCEEDED` above it.
    pub daily_limit: u64,
    /// A search finds what a client wrote only after this time; until then it goes by the former values. Queries and
    /// reads see a write at once. What a test writes itself is in the index from the start.
    pub index_lag: Duration,
    /// Records per page of a query.
    pub page_size: usize,
    pub deleted_ids: DeletedIds,
    /// Whether `TaskSubtype` can be changed. The vendor lists it as a field for creates only.
    pub task_subtype_updateable: bool,
    /// Objects that the app's user may not see; to the user they don't exist.
    pub hidden_objects: Vec<SalesforceObject>,
    /// Objects that the app's user may only read.
    pub read_only_objects: Vec<SalesforceObject>,
    /// Time between a request and its answer, in addition to any fault. A write takes effect before this time.
    pub latency: Duration,
    /// Whether a write locks its record, and that of a task its person's too, until it is answered. Another write of
    /// these is refused meanwhile with `UNABLE_TO_LOCK_ROW`, as if Salesforce had waited in vain.
    pub lock_rows: bool,
}

/// How the id of a deleted or merged record is answered. Both are reported of the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletedIds {
    /// 404 with `ENTITY_IS_DELETED` in a path, 400 with the same code as a task's `WhoId`.
    EntityIsDeleted,
    /// 404 with `NOT_FOUND` in a path, 400 with `INVALID_CROSS_REFERENCE_KEY` as a task's `WhoId`.
    NotFound,
}

impl Default for SalesforceOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            client_id: "synthetic-client-id".to_owned(),
            client_secret: "synthetic-client-secret".to_owned(),
            has_run_as_user: true,
            username: "integration@example.com".to_owned(),
            is_approved: true,
            public_key: Some(PUBLIC_KEY.to_owned()),
            audiences: vec!["https://login.salesforce.com".to_owned(), "https://test.salesforce.com".to_owned()],
            longest_assertion: Duration::from_secs(180),
            instance_url: None,
            token_lifetime: None,
            token_calls: None,
            versions: (20..=67).map(|version| format!("{version}.0")).collect(),
            daily_limit: 100_000,
            index_lag: Duration::ZERO,
            page_size: 2_000,
            deleted_ids: DeletedIds::EntityIsDeleted,
            task_subtype_updateable: false,
            hidden_objects: Vec::new(),
            read_only_objects: Vec::new(),
            latency: Duration::ZERO,
            lock_rows: true,
        }
    }
}
