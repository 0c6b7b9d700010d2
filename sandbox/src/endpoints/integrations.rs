//! The Integrations API. <https://apidocs.next.textus.com/docs/integrations/create>,
//! <https://apidocs.next.textus.com/docs/integrations/update/>

use serde_json::{Map, Value, json};

use super::pages;
use crate::answer::Answer;
use crate::integration::{ACTIONS, FILTERED, Integration};
use crate::ledger::EffectKind;
use crate::options::IntegrationUpdates;
use crate::state::{Call, State};

pub(super) fn list(state: &State, call: &Call<'_>) -> Answer {
    if !state.is_primary(call.account()) {
        return Answer::absent();
    }
    let hides = state.options.hides_webhook_secrets;
    let members = state.integrations.iter().map(|integration| integration.shown(hides)).collect();
    pages::page(state, call, members)
}

/// Creates another integration each time, because no uniqueness is documented.
pub(super) fn create(state: &mut State, call: &Call<'_>) -> Answer {
    if !state.is_primary(call.account()) {
        return Answer::absent();
    }
    let body = match IntegrationBody::read(&call.body, true) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let settings = body.settings.unwrap_or_else(|| json!({}));
    let integration =
        Integration::new(call.account(), body.active.unwrap_or(true), &body.config.unwrap_or_default(), &settings);
    state.record_effect(call, call.account(), EffectKind::IntegrationCreated, integration.id());
    let shown = integration.shown(state.options.hides_webhook_secrets);
    state.integrations.push(integration);
    Answer::resource(201, shown)
}

/// Updates an integration. Whether the API merges or replaces is not documented. Replacing is harder on a client:
/// fields that it leaves out are lost, except for the secrets, which survive in the vendor's example.
pub(super) fn update(state: &mut State, call: &Call<'_>) -> Answer {
    let updates = state.options.integration_updates;
    let Some(place) = state.integrations.iter().position(|one| one.slug == call.route.parameter) else {
        return Answer::absent();
    };
    let body = match IntegrationBody::read(&call.body, false) {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let integration = &mut state.integrations[place];
    let old = integration.body.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut config = match updates {
        IntegrationUpdates::Replace => {
            let secrets = |(key, _): &(&String, &Value)| ["webhookSecret", "clientSecret"].contains(&key.as_str());
            old.iter().filter(secrets).map(|(key, value)| (key.clone(), value.clone())).collect()
        }
        IntegrationUpdates::Merge => old,
    };
    config.extend(body.config.unwrap_or_default());
    let settings = match updates {
        IntegrationUpdates::Replace => body.settings.unwrap_or_else(|| json!({})),
        IntegrationUpdates::Merge => {
            let mut settings = integration.body.get("settings").cloned().unwrap_or_else(|| json!({}));
            merge(&mut settings, body.settings.unwrap_or_else(|| json!({})));
            settings
        }
    };
    let active = match updates {
        IntegrationUpdates::Replace => json!(body.active.unwrap_or(false)),
        IntegrationUpdates::Merge => body.active.map_or_else(|| integration.body["active"].clone(), Value::Bool),
    };
    integration.body.insert("config".to_owned(), config.into());
    integration.body.insert("settings".to_owned(), settings);
    integration.body.insert("active".to_owned(), active);
    let integration = integration.clone();
    state.record_effect(call, &integration.account, EffectKind::IntegrationUpdated, integration.id());
    Answer::resource(200, integration.shown(state.options.hides_webhook_secrets))
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// The fields of an integration's body; `None` for each field that the body leaves out.
struct IntegrationBody {
    active: Option<bool>,
    config: Option<Map<String, Value>>,
    settings: Option<Value>,
}

impl IntegrationBody {
    fn read(body: &Value, is_new: bool) -> Result<Self, Answer> {
        let improper = |what: &str| Err(Answer::improper(400, what));
        let Some(fields) = body.as_object() else { return improper("the body must be an object") };
        let known = ["@type", "@context", "active", "provider", "config", "settings"];
        if fields.keys().any(|key| !known.contains(&key.as_str())) {
            return improper("an integration has active, provider, config and settings only");
        }
        if body.to_string().contains(FILTERED) {
            return improper("a secret that was not told must not be sent back");
        }
        if fields.get("provider").is_some_and(|provider| provider != "webhook")
            || (is_new && !fields.contains_key("provider"))
        {
            return improper("provider must be webhook");
        }
        let active = match fields.get("active") {
            None => None,
            Some(Value::Bool(active)) => Some(*active),
            Some(_) => return improper("active must be a boolean"),
        };
        let config = match fields.get("config") {
            None => None,
            Some(Value::Object(config)) => Some(config.clone()),
            Some(_) => return improper("config must be an object"),
        };
        let url = config.as_ref().and_then(|config| config.get("baseUrl")).and_then(Value::as_str);
        let is_url = |url: &str| url.starts_with("https://") || url.starts_with("http://127.0.0.1:");
        if !url.is_some_and(is_url) {
            return Err(Answer::invalid("Validation failed: Base url must be an https URL"));
        }
        Ok(Self { active, config, settings: settings(fields.get("settings"))? })
    }
}

fn settings(given: Option<&Value>) -> Result<Option<Value>, Answer> {
    let Some(settings) = given else { return Ok(None) };
    let Some(fields) = settings.as_object() else { return Err(Answer::improper(400, "settings must be an object")) };
    let Some(actions) = fields.get("actions") else { return Ok(Some(settings.clone())) };
    let Some(actions) = actions.as_object() else {
        return Err(Answer::improper(400, "settings.actions must be a map of action to boolean"));
    };
    let is_known = |name: &str| ACTIONS.iter().any(|(action, _)| *action == name.replace('-', "_"));
    if !actions.iter().all(|(name, on)| is_known(name) && on.is_boolean()) {
        return Err(Answer::improper(400, "settings.actions must be a map of known actions to booleans"));
    }
    Ok(Some(settings.clone()))
}
