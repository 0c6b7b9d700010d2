//! The checks that every request passes: path, token, version, object, media type, body.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use super::object::SalesforceEndpoint as E;
use super::org::Org;
use super::route::{self, NoRoute, Route};
use super::{composite, describe, error, oauth, query, search, sobjects};
use crate::answer::Answer;
use crate::fault_rule::AnyEndpoint;
use crate::route::query_pairs;
use crate::stand_in::{Admission, Api, JSON};
use crate::state::the_only;

const LIMIT_INFO: HeaderName = HeaderName::from_static("sforce-limit-info");
const DUPLICATE_RULES: HeaderName = HeaderName::from_static("sforce-duplicate-rule-header");

/// Maximum size of an address: <https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html>
const MAX_ADDRESS_BYTES: usize = 16_384;

/// A request that has passed the checks common to all calls.
pub(crate) struct Call {
    pub(crate) route: Route,
    pub(crate) query: Vec<(String, String)>,
    /// Empty if the call takes no body.
    pub(crate) body: Map<String, Value>,
    /// Whether the request overrides duplicate rules that allow it.
    pub(crate) allows_duplicates: bool,
}

impl Call {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the values of a parameter that may be repeated.
    pub(crate) fn queries(&self, name: &str) -> Vec<&str> {
        self.query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the path of this version's resource, for example `/services/data/v67.0/query/01g`.
    pub(crate) fn path_of(&self, resource: &str) -> String {
        format!("/services/data/v{}/{resource}", self.route.version)
    }
}

impl Api for Org {
    fn endpoint(&self, head: &Parts, _body: &Bytes) -> Option<AnyEndpoint> {
        route::find(&head.method, head.uri.path()).ok().map(|route| route.endpoint.into())
    }

    fn admit(&mut self, head: &Parts) -> Admission {
        let needs_token = route::find(&head.method, head.uri.path()).is_ok_and(|route| route.endpoint.needs_token());
        let Some(token) = bearer(&head.headers).filter(|_| needs_token) else { return Admission::default() };
        self.tokens.count(token);
        if !self.tokens.is_good(token, &self.options) {
            return Admission::default();
        }
        let is_within = self.limits.count(self.options.daily_limit);
        let usage = format!("api-usage={}/{}", self.limits.used(), self.options.daily_limit);
        Admission { refusal: (!is_within).then(error::request_limit_exceeded), headers: vec![(LIMIT_INFO, usage)] }
    }

    fn see(&mut self, head: &Parts, _body: &Bytes) -> Option<String> {
        let instance = self.options.instance_url.as_deref()?;
        let host = the_only(&head.headers, &HOST)?;
        let is_elsewhere = instance.split_once("://").is_none_or(|(_, authority)| authority != host);
        (bearer(&head.headers).is_some() && is_elsewhere)
            .then(|| "a call with a token doesn't go to the instance_url that came with the token".to_owned())
    }

    fn carry_out(&mut self, head: &Parts, body: &Bytes) -> Answer {
        self.answer(head, body).unwrap_or_else(|refusal| refusal)
    }

    fn latency(&self) -> Duration {
        self.options.latency
    }
}

impl Org {
    pub(crate) fn answer(&mut self, head: &Parts, body: &Bytes) -> Result<Answer, Answer> {
        let found = route::find(&head.method, head.uri.path());
        match found.as_ref().map(|route| route.endpoint) {
            Ok(E::Token) => return oauth::token(self, head, body),
            Ok(E::Versions) => return Ok(self.versions()),
            Ok(_) | Err(_) => {}
        }
        let call = self.check(found, head, body)?;
        match call.route.endpoint {
            E::Token | E::Versions => Err(error::absent()),
            E::Resources => Ok(resources(&call)),
            E::Limits => Ok(self.limits()),
            E::Describe(object) => Ok(describe::describe(self, object, &call)),
            E::Create(object) => sobjects::create(self, object, &call),
            E::Get(object) => sobjects::get(self, object, &call),
            E::Update(object) => sobjects::update(self, object, &call),
            E::Delete(object) => sobjects::delete(self, object, &call),
            E::GetByKey(object) => sobjects::get_by_key(self, object, &call),
            E::Upsert(object) => sobjects::upsert(self, object, &call),
            E::Query => query::query(self, &call, false),
            E::QueryAll => query::query(self, &call, true),
            E::QueryMore => query::more(self, &call),
            E::Search => search::search(self, &call),
            E::ParameterizedSearch => search::parameterized(self, &call),
            E::UpsertCollection(object) => composite::upsert(self, object, &call),
            E::Batch => composite::batch(self, &call, head),
        }
    }

    fn check(&self, found: Result<Route, NoRoute>, head: &Parts, body: &Bytes) -> Result<Call, Answer> {
        if head.uri.path_and_query().is_some_and(|address| address.as_str().len() > MAX_ADDRESS_BYTES) {
            return Err(error::improper(414, "URI_TOO_LONG", "the address has more than 16,384 bytes"));
        }
        match bearer(&head.headers) {
            None => {
                let message = "a call of data needs an Authorization header with a bearer token";
                return Err(error::violating(error::invalid_session(), message));
            }
            Some(token) if !self.tokens.is_good(token, &self.options) => return Err(error::invalid_session()),
            Some(_) => {}
        }
        let route = found.map_err(|reason| match reason {
            NoRoute::Unknown => error::violating(error::absent(), "there is no such path"),
            NoRoute::NoObject => error::absent(),
            NoRoute::WrongMethod(allowed) => {
                let message = format!("HTTP Method '{}' not allowed. Allowed are {allowed}", head.method);
                error::improper(405, "METHOD_NOT_ALLOWED", message)
            }
        })?;
        let is_hidden = route.endpoint.object().is_some_and(|object| self.is_hidden(object));
        if is_hidden || !self.options.versions.contains(&route.version) {
            return Err(error::absent());
        }
        let query = query_pairs(head.uri.query().unwrap_or_default())
            .ok_or_else(|| error::improper(400, "MALFORMED_QUERY", "the query is not percent-encoded UTF-8"))?;
        let body = if route.endpoint.takes_json() { read_body(&head.headers, body)? } else { Map::new() };
        let allows_duplicates = the_only(&head.headers, &DUPLICATE_RULES)
            .is_some_and(|value| value.split(';').any(|part| part.trim().eq_ignore_ascii_case("allowSave=true")));
        Ok(Call { route, query, body, allows_duplicates })
    }

    fn versions(&self) -> Answer {
        let seasons = ["Winter", "Spring", "Summer"];
        let version = |version: &String| {
            let number = version.split('.').next().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
            // Version 67 is Summer '26; there are three releases a year.
            let label = format!("{} '{:02}", seasons[(number + 1) % 3], (number + 13) / 3);
            json!({ "label": label, "url": format!("/services/data/v{version}"), "version": version })
        };
        error::answer(200, self.options.versions.iter().map(version).collect())
    }

    fn limits(&self) -> Answer {
        let (max, used) = (self.options.daily_limit, self.limits.used());
        error::answer(200, json!({ "DailyApiRequests": { "Max": max, "Remaining": max.saturating_sub(used) } }))
    }
}

fn resources(call: &Call) -> Answer {
    let names = ["limits", "parameterizedSearch", "query", "queryAll", "search", "sobjects"];
    let paths = names.into_iter().map(|name| (name.to_owned(), json!(call.path_of(name))));
    error::answer(200, Value::Object(paths.collect()))
}

fn read_body(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, Answer> {
    let media_type = the_only(headers, &CONTENT_TYPE).and_then(|value| value.split(';').next()).map(str::trim);
    if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(JSON)) {
        return Err(error::improper(415, "UNSUPPORTED_MEDIA_TYPE", format!("Content-Type must be {JSON}")));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) | Err(_) => Err(error::improper(400, "JSON_PARSER_ERROR", "the body is no JSON object")),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = the_only(headers, &AUTHORIZATION)?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("OAuth "))
}
