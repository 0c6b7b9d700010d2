//! What a stand-in is told when it starts. Everything but the address can be changed later with
//! [`crate::Sandbox::configure`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How the stand-in behaves; `Default` is the documented API on a free loopback port.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Port 0 means any free port.
    pub listen: SocketAddr,
    /// The one bearer token that is accepted.
    pub token: String,
    /// Account slugs; any other account answers 404. The first is the one to which a learnt `contact.created`
    /// belongs, as that payload names none.
    pub accounts: Vec<String>,
    /// What the token may do in an account; everything in one that is not named here. A message, conversation or
    /// contact of an account that is not in `accounts` answers 403: the token may not see it.
    pub rights: HashMap<String, Rights>,
    /// Which id `GET /messages/{id}` takes: the vendor's texts disagree.
    pub message_form: MessageForm,
    /// Requests per window and token; `None`: [`DOCUMENTED_RATE_LIMIT`].
    pub rate_limit: Option<(u32, Duration)>,
    pub retry_after_form: RetryAfterForm,
    /// Whether contacts of a conversation or a phone are answered as objects or as links.
    pub related: Related,
    /// Members per page of a paged collection.
    pub page_size: usize,
    /// Refuse a contact whose phone another contact of the account has, as the retired API did. The current one
    /// documents no such rule.
    pub unique_phones: bool,
    /// Time between a request and its answer, besides any fault. An effect is made before it.
    pub latency: Duration,
    /// How far the stand-in's clock is ahead in what it tells of times: for tests whose events are dated ahead.
    pub clock_ahead: Duration,
    /// Whether a write is followed by the webhook that TextUs would send about it.
    pub echoes: bool,
    pub echo_timing: EchoTiming,
    /// Whether each answer says that it is the sandbox's: a test that plays the real API turns it off.
    pub marked: bool,
    /// Where webhooks go: an integration of the primary account that is there from the start, with every event
    /// switched on. Others are made by the Integrations API.
    pub webhook: Option<WebhookTarget>,
    /// The account whose integrations there are; `None`: the first of `accounts`. In another the path is not there.
    pub primary_account: Option<String>,
    pub integration_updates: IntegrationUpdates,
    /// Answer `[FILTERED]` for an integration's `webhookSecret` too.
    pub hides_webhook_secrets: bool,
}

/// 1,000 requests in 5 minutes per token. <https://apidocs.next.textus.com/overview/rate_limiting>
pub const DOCUMENTED_RATE_LIMIT: (u32, Duration) = (1_000, Duration::from_secs(300));

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: "synthetic-token".to_owned(),
            accounts: vec!["acme".to_owned()],
            rights: HashMap::new(),
            message_form: MessageForm::ByMessageId,
            rate_limit: None,
            retry_after_form: RetryAfterForm::Seconds,
            related: Related::Embedded,
            page_size: 25,
            unique_phones: false,
            latency: Duration::ZERO,
            clock_ahead: Duration::ZERO,
            echoes: true,
            echo_timing: EchoTiming::AfterAnswer,
            marked: true,
            webhook: None,
            primary_account: None,
            integration_updates: IntegrationUpdates::Replace,
            hides_webhook_secrets: false,
        }
    }
}

/// What a token may do in one account; what it may not is answered 403 without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub reads: bool,
    pub writes: bool,
}

/// The API reference says that `GET /messages/{id}` takes a message id
/// (<https://apidocs.next.textus.com/docs/messages/get>), a help-centre recipe that it takes a contact id
/// (<https://docs.textus.com/en/articles/8663304-webhooks-use-cases>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    ByMessageId,
    /// Answers the newest message of that contact.
    ByContactId,
    Both,
}

/// How a 429 says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfterForm {
    /// Whole seconds, as documented.
    Seconds,
    HttpDate,
    Absent,
}

/// What a PUT of an integration does to what it leaves out: nobody documents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrationUpdates {
    /// Lost, but for secrets.
    Replace,
    /// Stays as it was.
    Merge,
}

/// Related resources may be objects or links to them, and clients must take both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Related {
    Embedded,
    Links,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoTiming {
    AfterAnswer,
    /// The echo overtakes the answer: the write is answered once the echo was accepted, or its sender gave up.
    BeforeAnswer,
}

/// Where webhooks are posted and what they are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    pub url: String,
    pub secret: String,
}

impl std::fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookTarget").field("url", &self.url).finish_non_exhaustive()
    }
}
