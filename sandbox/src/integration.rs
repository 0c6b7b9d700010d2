//! An integration of an account: where TextUs posts webhooks, the secret that signs them, and which events are sent.
//! <https://apidocs.next.textus.com/docs/integrations/create>

use serde_json::{Map, Value, json};

use crate::model::fresh_slug;
use crate::options::WebhookTarget;
use crate::shapes::context;

/// The slug of the integration that exists when a test or `dev` names a target for webhooks. `webhooks::INTEGRATION`
/// names it too.
pub(crate) const GIVEN: &str = "Lp4Xv9";

/// The events that TextUs can send, and whether it sends each of them by default.
/// <https://apidocs.next.textus.com/overview/webhooks/webhooks-overview>
pub(crate) const ACTIONS: [(&str, bool); 8] = [
    ("message.received", true),
    ("message.delivered", true),
    ("message.failed", false),
    ("message.unknown", false),
    ("phone_call.completed", false),
    ("contact.opted_out", false),
    ("contact.opted_in", false),
    ("contact.created", false),
];

/// Stands in an answer for a secret that the API does not reveal.
pub(crate) const FILTERED: &str = "[FILTERED]";

#[derive(Clone, Debug)]
pub(crate) struct Integration {
    pub(crate) slug: String,
    pub(crate) account: String,
    /// The body as the API keeps it, secrets included: `active`, `provider`, `config`, `settings`, `isHealthy`.
    pub(crate) body: Map<String, Value>,
}

impl Integration {
    /// Makes a new integration with a secret of its own.
    pub(crate) fn new(account: &str, active: bool, config: &Map<String, Value>, settings: &Value) -> Self {
        let mut config = config.clone();
        config.insert("webhookSecret".to_owned(), json!(fresh_secret()));
        Self::of(fresh_slug(), account, active, config, settings.clone())
    }

    /// Makes an integration that sends every event to this target.
    pub(crate) fn given(account: &str, target: &WebhookTarget) -> Self {
        let config = Map::from_iter([
            ("baseUrl".to_owned(), json!(target.url)),
            ("webhookSecret".to_owned(), json!(target.secret)),
        ]);
        let actions: Map<String, Value> =
            ACTIONS.iter().map(|(action, _)| ((*action).to_owned(), json!(true))).collect();
        Self::of(GIVEN.to_owned(), account, true, config, json!({ "actions": actions }))
    }

    fn of(slug: String, account: &str, active: bool, config: Map<String, Value>, settings: Value) -> Self {
        let body = Map::from_iter([
            ("active".to_owned(), json!(active)),
            ("provider".to_owned(), json!("webhook")),
            ("config".to_owned(), config.into()),
            ("settings".to_owned(), settings),
            ("isHealthy".to_owned(), json!(true)),
            ("ipaas".to_owned(), json!(false)),
            ("category".to_owned(), Value::Null),
        ]);
        Self { slug, account: account.to_owned(), body }
    }

    pub(crate) fn id(&self) -> String {
        format!("/integrations/{}", self.slug)
    }

    /// Returns where its webhooks go and the secret that signs them, or `None` if either is unknown.
    pub(crate) fn target(&self) -> Option<WebhookTarget> {
        let text = |key: &str| self.body.get("config")?.get(key)?.as_str().map(str::to_owned);
        Some(WebhookTarget { url: text("baseUrl")?, secret: text("webhookSecret")? })
    }

    /// Returns whether events of this kind are sent. Without a map of actions, or with an empty one, the defaults are
    /// sent.
    pub(crate) fn sends(&self, action: &str) -> bool {
        if self.body.get("active") != Some(&json!(true)) {
            return false;
        }
        let action = action.replace('-', "_");
        let actions = self.body.get("settings").and_then(|settings| settings.get("actions")).and_then(Value::as_object);
        match actions.filter(|actions| !actions.is_empty()) {
            Some(actions) => {
                actions.iter().any(|(name, on)| name.replace('-', "_") == action && *on == Value::Bool(true))
            }
            None => ACTIONS.contains(&(action.as_str(), true)),
        }
    }

    /// Returns the integration as the API answers it.
    pub(crate) fn shown(&self, hides_webhook_secret: bool) -> Value {
        let mut shown = Map::from_iter([
            ("@type".to_owned(), json!("Integration")),
            ("@context".to_owned(), json!(context("Integration"))),
            ("id".to_owned(), json!(self.id())),
        ]);
        shown.extend(self.body.clone());
        if let Some(Value::Object(config)) = shown.get_mut("config") {
            let hidden = ["clientSecret", "webhookSecret"].into_iter().take(if hides_webhook_secret { 2 } else { 1 });
            for key in hidden {
                config.entry(key).and_modify(|value| *value = json!(FILTERED));
            }
        }
        shown.into()
    }
}

/// Makes a secret as in the vendor's examples: a prefix, and letters and digits.
fn fresh_secret() -> String {
    format!("textus-{}{}{}", fresh_slug(), fresh_slug(), fresh_slug())
}
