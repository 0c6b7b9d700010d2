//! The sandbox's whole state, behind one lock. A request first passes the strict checks, then its endpoint.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use jiff::Timestamp;
use serde_json::Value;

use crate::answer::{Answer, MEDIA_TYPE};
use crate::endpoints;
use crate::fault_rule::FaultRule;
use crate::integration::{GIVEN, Integration};
use crate::ledger::{Effect, EffectKind, Ledger, Violation};
use crate::options::{Rights, SandboxOptions, WebhookTarget};
use crate::rate_limit::RateLimiter;
use crate::route::{self, Endpoint, NoRoute, Route};
use crate::sandbox::FaultId;
use crate::subject::Subject;
use crate::webhooks;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: SandboxOptions,
    pub(crate) world: World,
    /// The primary account's integrations, oldest first.
    pub(crate) integrations: Vec<Integration>,
    pub(crate) ledger: Ledger,
    pub(crate) limiter: RateLimiter,
    pub(crate) faults: Vec<(FaultId, FaultRule)>,
    /// The number of rules made so far, from which their ids are derived.
    pub(crate) rules_made: u64,
    /// Webhooks about the writes of the current request.
    pub(crate) outbox: Vec<Outgoing>,
}

/// A webhook that is to be posted.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The slug of the integration that sends it.
    pub(crate) integration: String,
    pub(crate) payload: Value,
}

/// A request that has passed the checks common to all endpoints.
pub(crate) struct Call<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) route: Route,
    pub(crate) query: Vec<(String, String)>,
    /// `Null` if the endpoint takes no body.
    pub(crate) body: Value,
}

impl Call<'_> {
    /// Returns the account in the path, or an empty text if the path has none.
    pub(crate) fn account(&self) -> &str {
        self.route.account.as_deref().unwrap_or_default()
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl State {
    pub(crate) fn new(options: SandboxOptions) -> Self {
        let given = options.webhook.clone();
        let mut state = Self {
            options,
            world: World::default(),
            integrations: Vec::new(),
            ledger: Ledger::default(),
            limiter: RateLimiter::default(),
            faults: Vec::new(),
            rules_made: 0,
            outbox: Vec::new(),
        };
        if let Some(target) = given {
            state.send_all_to(&target);
        }
        state
    }

    /// Creates or replaces the integration that has every event switched on.
    pub(crate) fn send_all_to(&mut self, target: &WebhookTarget) {
        let given = Integration::given(self.primary_account(), target);
        match self.integrations.iter_mut().find(|one| one.slug == GIVEN) {
            Some(known) => *known = given,
            None => self.integrations.push(given),
        }
    }

    pub(crate) fn primary_account(&self) -> &str {
        let first = || self.options.accounts.first().map_or("", String::as_str);
        self.options.primary_account.as_deref().unwrap_or_else(first)
    }

    pub(crate) fn is_primary(&self, account: &str) -> bool {
        self.primary_account() == account
    }

    pub(crate) fn is_authorized(&self, headers: &HeaderMap) -> bool {
        the_only(headers, &header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "))
            == Some(self.options.token.as_str())
    }

    /// Returns the time that the sandbox reports.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now() + self.options.clock_ahead
    }

    /// Carries a request out, and records it as a violation if a correct client would not have sent it.
    pub(crate) fn carry_out(&mut self, head: &Parts, body: &Bytes) -> Answer {
        let answer = match self.check(head, body) {
            Ok(call) => endpoints::answer(self, &call),
            Err(refusal) => refusal,
        };
        if let Some(what) = &answer.violation {
            self.ledger.violations.push(Violation {
                at: Timestamp::now(),
                method: head.method.clone(),
                path: sent_path(head),
                what: what.clone(),
            });
        }
        answer
    }

    fn check<'a>(&self, head: &'a Parts, body: &Bytes) -> Result<Call<'a>, Answer> {
        if !self.is_authorized(&head.headers) {
            return Err(Answer::bare(401));
        }
        let route = route::find(&head.method, head.uri.path()).map_err(|reason| match reason {
            NoRoute::BadEncoding => Answer::improper(400, "the path is not percent-encoded UTF-8"),
            NoRoute::Unknown => Answer::improper(404, "there is no such path"),
            NoRoute::WrongMethod(allow) => Answer::wrong_method(allow),
        })?;
        if !is_media_type(&head.headers, &header::ACCEPT) {
            return Err(Answer::improper(406, format!("Accept must be {MEDIA_TYPE}")));
        }
        let query = route::query_pairs(head.uri.query().unwrap_or_default())
            .ok_or_else(|| Answer::improper(400, "the query is not percent-encoded UTF-8"))?;
        let body = if route.endpoint.takes_body() {
            if !is_media_type(&head.headers, &header::CONTENT_TYPE) {
                return Err(Answer::improper(415, format!("Content-Type must be {MEDIA_TYPE}")));
            }
            serde_json::from_slice(body).map_err(|_| Answer::improper(400, "the body is not JSON"))?
        } else if body.is_empty() {
            Value::Null
        } else {
            return Err(Answer::improper(400, "this call takes no body"));
        };
        if route.account.as_ref().is_some_and(|account| !self.knows(account, route.endpoint)) {
            return Err(Answer::absent());
        }
        if !self.is_allowed(head, &route) {
            return Err(Answer::bare(403));
        }
        Ok(Call { head, route, query, body })
    }

    /// Returns whether the token has the right to this call in the account that the call is about.
    fn is_allowed(&self, head: &Parts, route: &Route) -> bool {
        let Some(account) = Subject::of(&self.world, head, Some(route), &Bytes::new()).account else { return true };
        let rights = self.options.rights.get(&account).copied().unwrap_or(Rights { reads: true, writes: true });
        let has_right = if head.method == Method::GET { rights.reads } else { rights.writes };
        has_right && self.knows(&account, route.endpoint)
    }

    /// Returns whether the endpoint exists in this account. The primary account has integrations, even if it is none of
    /// the accounts that text.
    fn knows(&self, account: &str, endpoint: Endpoint) -> bool {
        let of_integrations = matches!(endpoint, Endpoint::ListIntegrations | Endpoint::CreateIntegration);
        self.options.accounts.iter().any(|known| known == account) || (of_integrations && self.is_primary(account))
    }

    /// Records a write that took effect.
    pub(crate) fn record_effect(&mut self, call: &Call<'_>, account: &str, kind: EffectKind, key: String) {
        self.ledger.effects.push(Effect {
            at: Timestamp::now(),
            method: call.head.method.clone(),
            path: sent_path(call.head),
            account: account.to_owned(),
            kind,
            key,
        });
    }

    /// Queues the webhooks about a write, one for each integration that sends events of this kind.
    pub(crate) fn echo(&mut self, action: &str, payload: impl Fn() -> Value) {
        if !self.options.echoes {
            return;
        }
        let senders = self.integrations.iter().filter(|integration| integration.sends(action));
        let webhooks = senders.map(|sender| Outgoing {
            integration: sender.slug.clone(),
            payload: webhooks::sent_by(payload(), &sender.id()),
        });
        self.outbox.extend(webhooks.collect::<Vec<_>>());
    }

    /// Returns where an integration's webhooks go now.
    pub(crate) fn target(&self, integration: &str) -> Option<WebhookTarget> {
        self.integrations.iter().find(|one| one.slug == integration)?.target()
    }
}

/// Returns the path and the query as they were sent.
pub(crate) fn sent_path(head: &Parts) -> String {
    head.uri.path_and_query().map_or_else(|| head.uri.path().to_owned(), ToString::to_string)
}

fn is_media_type(headers: &HeaderMap, name: &HeaderName) -> bool {
    the_only(headers, name).is_some_and(|value| value.eq_ignore_ascii_case(MEDIA_TYPE))
}

/// Returns the value of a header that occurs exactly once.
pub(crate) fn the_only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()
}
