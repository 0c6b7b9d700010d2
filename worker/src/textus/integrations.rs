//! The Integrations API: where TextUs posts webhooks, and which ones
//! (<https://apidocs.next.textus.com/docs/integrations/create>,
//! <https://apidocs.next.textus.com/docs/integrations/update/>).
//!
//! Bodies hold webhook secrets in clear, so an [`Integration`] has no `Debug`, and no part of it goes into an error.
//! Whether a PUT replaces or merges isn't documented, so each PUT sends the complete `config`, `active` and `settings`.
//!
//! These calls report only the rate limit to the gate (`Operation::stands_alone`): a token that may not see
//! integrations is valid for everything else.

use std::collections::{BTreeSet, HashSet};

use hookline_common::event::KNOWN_TYPES;
use hookline_common::names::Operation;
use hookline_common::secret::Secret;
use reqwest::Method;
use serde_json::{Map, Value, json};
use url::Url;

use super::client::TextUs;
use super::links::Collection;
use super::paths::Path;
use crate::calls::http::unreadable;
use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::destinations::segment::Segment;

/// Event types that TextUs sends if `settings` name no actions (<https://apidocs.next.textus.com/overview/webhooks/>).
const BY_DEFAULT: [&str; 2] = ["message.received", "message.delivered"];
/// Most pages of integrations. No account that people maintain has more.
const MAX_PAGES: usize = 100;
const PREFIX: &str = "/integrations/";

/// One integration, as TextUs answered it.
#[derive(Clone, PartialEq)]
pub struct Integration {
    id: Segment,
    fields: Map<String, Value>,
}

/// The integrations of an account.
pub struct Integrations {
    pub all: Vec<Integration>,
    /// Whether the list is complete, as far as the answers tell.
    pub is_whole: bool,
}

impl TextUs {
    /// `GET /{account}/integrations`, all pages.
    ///
    /// # Errors
    /// Any [`DestinationError`]; 401 and 403 may be about these calls alone.
    pub async fn integrations(&self, log: &CallLog, account: &str) -> Result<Integrations, DestinationError> {
        let mut found = Integrations { all: Vec::new(), is_whole: true };
        let mut seen = HashSet::new();
        let mut path = Path::of_account(account)?.word("integrations");
        let mut total = 0;
        // A link that was already followed would loop for ever, so what has been read is everything.
        while seen.insert(path.sent.clone()) {
            if seen.len() > MAX_PAGES {
                return Err(unreadable("its list of integrations has too many pages"));
            }
            let page: Collection<Value> = self.get_as_it_is(log, Operation::ListIntegrations, &path).await?.json()?;
            total = total.max(page.total_items.unwrap_or(0));
            for member in page.members {
                match Integration::read(member) {
                    Some(integration) if found.all.iter().any(|known| known.id == integration.id) => {}
                    Some(integration) => found.all.push(integration),
                    None => found.is_whole = false,
                }
            }
            let Some(next) = page.next else { break };
            path = Path::of_next(&next, self.base())?;
        }
        found.is_whole &= u64::try_from(found.all.len()).unwrap_or(u64::MAX) >= total;
        Ok(found)
    }

    /// `POST /{account}/integrations`. Creates another integration on each call, so look first. If the answer can't be
    /// read, [`DestinationError::may_have_taken_effect`] says so.
    ///
    /// # Errors
    /// Any [`DestinationError`].
    pub async fn create_integration(
        &self,
        log: &CallLog,
        account: &str,
        url: &Url,
        event_types: &[&str],
    ) -> Result<Integration, DestinationError> {
        let path = Path::of_account(account)?.word("integrations");
        let actions: Map<String, Value> =
            KNOWN_TYPES.iter().map(|known| ((*known).to_owned(), json!(event_types.contains(known)))).collect();
        let body = json!({
            "@type": "Integration",
            "@context": "/contexts/Integration.jsonld",
            "active": true,
            "provider": "webhook",
            "config": { "baseUrl": url.as_str() },
            "settings": { "actions": actions },
        });
        let call = self.call_with(Operation::CreateIntegration, Method::POST, &path, &body, Vec::new())?;
        let made: Value = self.write_as_it_is(log, call).await?.json()?;
        Integration::read(made).ok_or_else(|| unreadable("its body names no integration"))
    }

    /// `PUT /integrations/{id}` with a complete object. Returns `None` if the PUT succeeded but the answer doesn't show
    /// the integration.
    ///
    /// # Errors
    /// Any [`DestinationError`].
    pub async fn update_integration(
        &self,
        log: &CallLog,
        integration: &Integration,
        change: &Change<'_>,
    ) -> Result<Option<Integration>, DestinationError> {
        let path = Path::root().word("integrations").segment(&integration.id);
        let body = integration.complete(change);
        let private = integration.secrets();
        let call = self.call_with(Operation::UpdateIntegration, Method::PUT, &path, &body, private)?;
        let answer = self.write_as_it_is(log, call).await?;
        Ok(answer.json::<Value>().ok().and_then(Integration::read).filter(|shown| shown.id == integration.id))
    }
}

/// What a PUT changes. Everything else is sent back as it came.
pub enum Change<'a> {
    /// Activates the integration and switches on these event types.
    Subscribe(&'a [&'a str]),
    SwitchOff,
}

impl Integration {
    pub(crate) fn read(value: Value) -> Option<Self> {
        let Value::Object(fields) = value else { return None };
        let id = Segment::from_path(PREFIX, fields.get("id")?.as_str()?)?;
        Some(Self { id, fields })
    }

    /// Returns the id as `/integrations/{slug}`.
    #[must_use]
    pub fn id(&self) -> String {
        self.id.under(PREFIX)
    }

    /// Returns whether the integration posts webhooks and doesn't belong to another product.
    #[must_use]
    pub fn is_webhook(&self) -> bool {
        match self.fields.get("provider").and_then(Value::as_str) {
            Some(provider) => provider.eq_ignore_ascii_case("webhook"),
            None => self.url().is_some(),
        }
    }

    /// Returns the URL that the integration posts to.
    #[must_use]
    pub fn url(&self) -> Option<Url> {
        Url::parse(self.config()?.get("baseUrl")?.as_str()?.trim()).ok()
    }

    /// Returns whether the integration posts to this URL. The case of the host, a trailing slash and a query don't
    /// matter.
    #[must_use]
    pub fn posts_to(&self, url: &Url) -> bool {
        let path = |url: &Url| url.path().trim_end_matches('/').to_owned();
        self.url().is_some_and(|own| own.origin() == url.origin() && path(&own) == path(url))
    }

    /// Returns whether the integration is active. It counts as active if the answer doesn't say.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.fields.get("active").is_none_or(|active| is_on(active) || active.is_null())
    }

    /// Returns whether the integration is healthy; `None` if TextUs doesn't say.
    #[must_use]
    pub fn is_healthy(&self) -> Option<bool> {
        self.fields.get("isHealthy").and_then(Value::as_bool)
    }

    /// Returns the secret that signs the webhooks; `None` if the answer hides it.
    #[must_use]
    pub fn secret(&self) -> Option<Secret> {
        let secret = self.config()?.get("webhookSecret")?.as_str()?;
        (!secret.trim().is_empty() && !is_filtered(secret)).then(|| Secret::new(secret))
    }

    /// Returns the event types that are switched on, in the normalised spelling, whether or not the integration is
    /// active.
    #[must_use]
    pub fn event_types(&self) -> BTreeSet<String> {
        match self.actions() {
            Some(actions) => actions.iter().filter(|(_, on)| is_on(on)).map(|(action, _)| normalised(action)).collect(),
            None => BY_DEFAULT.iter().map(|action| (*action).to_owned()).collect(),
        }
    }

    fn config(&self) -> Option<&Map<String, Value>> {
        self.fields.get("config")?.as_object()
    }

    /// Returns the map of actions. `None` if it is missing or empty; the defaults apply then.
    fn actions(&self) -> Option<Map<String, Value>> {
        let actions = match self.fields.get("settings")?.get("actions")? {
            Value::Object(actions) => actions.clone(),
            Value::Array(names) => {
                names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), json!(true))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
        (!actions.is_empty()).then_some(actions)
    }

    /// Returns the body of a PUT: everything that the answer held, except the secrets that it hid.
    fn complete(&self, change: &Change<'_>) -> Value {
        let mut config = Value::Object(self.config().cloned().unwrap_or_default());
        without_filtered(&mut config);
        let mut settings = self.fields.get("settings").and_then(Value::as_object).cloned().unwrap_or_default();
        let active = match change {
            Change::SwitchOff => false,
            Change::Subscribe(event_types) => {
                settings.insert("actions".to_owned(), self.actions_with(event_types).into());
                true
            }
        };
        json!({ "config": config, "active": active, "settings": settings })
    }

    /// Returns the actions with these event types switched on, and none switched off.
    fn actions_with(&self, event_types: &[&str]) -> Map<String, Value> {
        let defaults = || BY_DEFAULT.iter().map(|action| ((*action).to_owned(), json!(true))).collect();
        let mut actions = self.actions().unwrap_or_else(defaults);
        let on = self.event_types();
        for event_type in event_types.iter().filter(|event_type| !on.contains(**event_type)) {
            // Keep the spelling that the answer used.
            let known = actions.keys().find(|action| normalised(action) == **event_type).cloned();
            actions.insert(known.unwrap_or_else(|| (*event_type).to_owned()), json!(true));
        }
        actions
    }

    /// Returns texts that must not appear in an error.
    fn secrets(&self) -> Vec<String> {
        fn collect(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::String(text) => found.push(text.clone()),
                Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
                Value::Object(fields) => fields.values().for_each(|value| collect(value, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        let mut found = Vec::new();
        for (_, value) in self.config().into_iter().flatten().filter(|(key, _)| *key != "baseUrl") {
            collect(value, &mut found);
        }
        found
    }
}

/// Reads a boolean, or the way a form writes one.
fn is_on(value: &Value) -> bool {
    match value {
        Value::Bool(on) => *on,
        Value::String(text) => text == "true" || text == "1",
        Value::Number(number) => number.as_i64() == Some(1),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Unifies spellings: the vendor writes both `contact.opted_out` and `contact.opted-out`.
fn normalised(action: &str) -> String {
    action.trim().replace('-', "_")
}

/// Recognises a hidden value such as `[FILTERED]`. Sent back, it would be taken for the secret itself.
fn is_filtered(text: &str) -> bool {
    let text = text.trim();
    text.eq_ignore_ascii_case("[filtered]") || (text.len() > 2 && text.bytes().all(|byte| byte == b'*'))
}

fn without_filtered(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.as_str().is_some_and(is_filtered));
            fields.values_mut().for_each(without_filtered);
        }
        Value::Array(items) => items.iter_mut().for_each(without_filtered),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integration(mut fields: Value) -> Integration {
        fields["id"] = json!("/integrations/Lp4Xv9");
        Integration::read(fields).unwrap()
    }

    #[test]
    fn what_is_sent_is_read_in_every_shape_that_the_vendor_shows() {
        let defaults = ["message.delivered", "message.received"];
        for (settings, expected) in [
            (json!({}), &defaults[..]),
            (json!(null), &defaults),
            (json!({ "actions": {} }), &defaults),
            (json!({ "actions": null }), &defaults),
            (json!({ "other": true }), &defaults),
            (json!({ "actions": { "contact.opted-out": true } }), &["contact.opted_out"]),
            (json!({ "actions": { "contact.opted_out": true, "message.received": false } }), &["contact.opted_out"]),
            (json!({ "actions": { "contact.opted_out": false } }), &[]),
            (json!({ "actions": { "contact.opted_out": "true", "message.failed": null } }), &["contact.opted_out"]),
            (json!({ "actions": ["contact.created"] }), &["contact.created"]),
        ] {
            let found = integration(json!({ "settings": settings })).event_types();
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{settings}");
        }
        assert_eq!(integration(json!({})).event_types().len(), 2, "settings left out");
    }

    #[test]
    fn a_put_holds_everything_but_hidden_secrets_and_switches_nothing_off() {
        let known = integration(json!({
            "active": false,
            "config": {
                "baseUrl": "https://H.example.com/webhooks/textus/", "webhookSecret": "textus-a",
                "clientSecret": "[FILTERED]", "nested": { "key": "[FILTERED]", "kept": 1 },
            },
            "settings": { "actions": { "contact.opted-out": false, "message.failed": true, "new.thing": false }, "x": 1 },
        }));

        let put = known.complete(&Change::Subscribe(&["contact.opted_out", "contact.opted_in"]));

        assert_eq!(
            put,
            json!({
                "active": true,
                "config": {
                    "baseUrl": "https://H.example.com/webhooks/textus/", "webhookSecret": "textus-a", "nested": { "kept": 1 },
                },
                "settings": {
                    "actions": {
                        "contact.opted-out": true, "message.failed": true, "new.thing": false, "contact.opted_in": true,
                    },
                    "x": 1,
                },
            })
        );
        let off = known.complete(&Change::SwitchOff);
        assert_eq!((&off["active"], &off["settings"]["actions"]["message.failed"]), (&json!(false), &json!(true)));
    }

    #[test]
    fn defaults_stay_on_where_a_map_comes_into_being() {
        for settings in [json!({}), json!({ "actions": {} }), json!(null)] {
            let put = integration(json!({ "settings": settings })).complete(&Change::Subscribe(&["contact.created"]));
            assert_eq!(
                put["settings"]["actions"],
                json!({ "message.received": true, "message.delivered": true, "contact.created": true })
            );
        }
    }

    #[test]
    fn a_url_is_the_same_in_every_spelling_of_it() {
        let ours = Url::parse("https://hooks.example.com/webhooks/textus").unwrap();
        for (url, same) in [
            ("https://hooks.example.com/webhooks/textus", true),
            ("https://HOOKS.example.com/webhooks/textus/", true),
            (" HTTPS://hooks.example.com:443/webhooks/textus?x=1 ", true),
            ("https://hooks.example.com/webhooks/TextUs", false),
            ("https://hooks.example.com/webhooks/textus2", false),
            ("http://hooks.example.com/webhooks/textus", false),
            ("https://hooks.example.com:8443/webhooks/textus", false),
            ("https://other.example.com/webhooks/textus", false),
            ("no url", false),
        ] {
            assert_eq!(integration(json!({ "config": { "baseUrl": url } })).posts_to(&ours), same, "{url}");
        }
    }

    #[test]
    fn a_hidden_secret_is_none() {
        for (secret, shown) in [
            (json!("textus-a"), true),
            (json!("[FILTERED]"), false),
            (json!("****"), false),
            (json!(""), false),
            (json!(null), false),
        ] {
            assert_eq!(
                integration(json!({ "config": { "webhookSecret": secret } })).secret().is_some(),
                shown,
                "{secret}"
            );
        }
    }
}
