//! The options with which a sandbox starts. All but the address can be changed later with
//! [`crate::Sandbox::configure`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How the sandbox behaves. `Default` is the documented API on a free loopback port.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// The address to listen on; port 0 means any free port.
    pub listen: SocketAddr,
    /// The only bearer token that is accepted.
    pub token: String,
    /// Account slugs; any other account answers 404. A learnt `contact.created` belongs to the first account, because
    /// its payload names none.
    pub accounts: Vec<String>,
    /// What the token may do in an account; in an account that is not named here, everything. A message, conversation
    /// or contact of an account that is not in `accounts` answers 403, because the token may not see it.
    pub rights: HashMap<String, Rights>,
    /// Which id `GET /messages/{id}` takes, because the vendor's texts disagree.
    pub message_form: MessageForm,
    /// Requests per window and token; `None` means [`DOCUMENTED_RATE_LIMIT`].
    pub rate_limit: Option<(u32, Duration)>,
    pub retry_after_form: RetryAfterForm,
    /// Whether contacts of a conversation or a phone are answered as objects or as links.
    pub related: Related,
    /// Members per page of a paged collection.
    pub page_size: usize,
    /// Whether to refuse a contact whose phone another contact of the account has, as the retired API did. The current
    /// API documents no such rule.
    pub unique_phones: bool,
    /// Time between a request and its answer, in addition to any fault. A write takes effect before this time.
    pub latency: Duration,
    /// How far the times in answers and webhooks are ahead of the clock, for tests whose events are dated ahead.
    pub clock_ahead: Duration,
    /// Whether a write is followed by the webhook that TextUs would send about it.
    pub echoes: bool,
    pub echo_timing: EchoTiming,
    /// Whether each answer is marked as the sandbox's. A test that plays the real API turns this off.
    pub marked: bool,
    /// Where webhooks go: an integration of the primary account that exists from the start, with every event switched
    /// on. The Integrations API creates others.
    pub webhook: Option<WebhookTarget>,
    /// The account that has the integrations; `None` means the first of `accounts`. In other accounts the path doesn't
    /// exist.
    pub primary_account: Option<String>,
    pub integration_updates: IntegrationUpdates,
    /// Whether an integration's `webhookSecret` is answered as `[FILTERED]` too.
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

/// What a token may do in one account. Other calls are answered 403 without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub reads: bool,
    pub writes: bool,
}

/// Which id `GET /messages/{id}` takes. According to the API reference it is a message id
/// (<https://apidocs.next.textus.com/docs/messages/get>); according to a help-centre recipe it is a contact id
/// (<https://docs.textus.com/en/articles/8663304-webhooks-use-cases>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    ByMessageId,
    /// Answers the newest message of that contact.
    ByContactId,
    Both,
}

/// How a 429 says when to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfterForm {
    /// Whole seconds, as documented.
    Seconds,
    HttpDate,
    Absent,
}

/// What a PUT of an integration does to the fields that it leaves out. The vendor doesn't document it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrationUpdates {
    /// These fields are lost, except for secrets.
    Replace,
    /// These fields stay as they were.
    Merge,
}

/// The form of related resources: objects or links to them. Clients must take both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Related {
    Embedded,
    Links,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoTiming {
    AfterAnswer,
    /// The echo overtakes the answer: a write is answered once its echo was accepted or given up.
    BeforeAnswer,
}

/// Where webhooks are posted, and the secret that signs them.
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
