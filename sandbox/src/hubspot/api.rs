//! The checks that every request passes: token, path, version, scopes, media type, body.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use serde_json::Value;

use super::account::Account;
use super::object::HubSpotEndpoint;
use super::route::{self, NoRoute, Route, Version};
use super::{associations, batch, error, objects, owners, properties, search};
use crate::answer::Answer;
use crate::fault_rule::AnyEndpoint;
use crate::route::query_pairs;
use crate::stand_in::{Admission, Api, JSON};
use crate::state::the_only;

/// A request that has passed the checks common to all calls.
pub(crate) struct Call {
    pub(crate) route: Route,
    query: Vec<(String, String)>,
    /// `Null` if the call takes no body.
    pub(crate) body: Value,
}

impl Call {
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Refuses parameters that the call doesn't have, which the vendor ignores.
    pub(crate) fn takes_only(&self, names: &[&str]) -> Result<(), Answer> {
        match self.query.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, _)) => Err(error::improper(400, format!("the call has no parameter {name}"))),
            None => Ok(()),
        }
    }

    /// Returns the names that `properties` lists, or `None` if it is absent.
    pub(crate) fn asked_properties(&self) -> Option<Vec<String>> {
        let lists: Vec<&str> =
            self.query.iter().filter(|(key, _)| key == "properties").map(|(_, value)| value.as_str()).collect();
        let names = |list: &&str| list.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
        (!lists.is_empty()).then(|| lists.iter().flat_map(names).collect())
    }
}

impl Api for Account {
    fn endpoint(&self, head: &Parts, _body: &Bytes) -> Option<AnyEndpoint> {
        route::find(&head.method, head.uri.path()).ok().map(|route| route.endpoint.into())
    }

    fn admit(&mut self, head: &Parts) -> Admission {
        if !self.is_authorized(&head.headers) {
            return Admission::default();
        }
        let endpoint = route::find(&head.method, head.uri.path()).ok().map(|route| route.endpoint);
        let is_search = matches!(endpoint, Some(HubSpotEndpoint::Search(_)));
        let refusal = self.limits.count(&self.options, is_search).err().map(error::rate_limited);
        let headers = if is_search { Vec::new() } else { self.limits.headers(&self.options) };
        Admission { refusal, headers }
    }

    fn carry_out(&mut self, head: &Parts, body: &Bytes) -> Answer {
        let answered = self.check(head, body).and_then(|call| match call.route.endpoint {
            HubSpotEndpoint::Create(object) => objects::create(self, object, &call),
            HubSpotEndpoint::Get(object) => objects::get(self, object, &call),
            HubSpotEndpoint::Update(object) => objects::update(self, object, &call),
            HubSpotEndpoint::Archive(object) => objects::archive(self, object, &call),
            HubSpotEndpoint::BatchRead(object) => batch::read(self, object, &call),
            HubSpotEndpoint::BatchUpsert(object) => batch::upsert(self, object, &call),
            HubSpotEndpoint::Search(object) => search::search(self, object, &call),
            HubSpotEndpoint::ListProperties(object) => properties::list(self, object, &call),
            HubSpotEndpoint::CreateProperty(object) => properties::create(self, object, &call),
            HubSpotEndpoint::GetProperty(object) => properties::get(self, object, &call),
            HubSpotEndpoint::ListGroups(object) => Ok(properties::groups(self, object)),
            HubSpotEndpoint::CreateGroup(object) => properties::create_group(self, object, &call),
            HubSpotEndpoint::Associate { from, to } => associations::associate(self, (from, to), &call),
            HubSpotEndpoint::ListAssociations { from, to } => associations::list(self, (from, to), &call),
            HubSpotEndpoint::Label { from, to } => associations::label(self, (from, to), &call),
            HubSpotEndpoint::Dissociate { from, to } => associations::dissociate(self, (from, to), &call),
            HubSpotEndpoint::ListOwners => owners::list(self, &call),
        });
        answered.unwrap_or_else(|refusal| refusal)
    }

    fn latency(&self) -> Duration {
        self.options.latency
    }
}

impl Account {
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        the_only(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "))
            == Some(self.options.token.as_str())
    }

    fn check(&self, head: &Parts, body: &Bytes) -> Result<Call, Answer> {
        if !self.is_authorized(&head.headers) {
            return Err(error::unauthorized());
        }
        let route = route::find(&head.method, head.uri.path()).map_err(|reason| match reason {
            NoRoute::Unknown => error::improper(404, "there is no such path"),
            NoRoute::WrongMethod => error::improper(405, "the path has no such method"),
        })?;
        if !self.has_version(&route.version) {
            return Err(error::absent());
        }
        let scopes = route.endpoint.scopes();
        if !scopes.iter().any(|scope| self.options.scopes.iter().any(|granted| granted == scope)) {
            return Err(error::missing_scopes(scopes));
        }
        let query = query_pairs(head.uri.query().unwrap_or_default())
            .ok_or_else(|| error::improper(400, "the query is not percent-encoded UTF-8"))?;
        let body = if route.endpoint.takes_body() {
            if !is_json(&head.headers) {
                return Err(error::improper(415, format!("Content-Type must be {JSON}")));
            }
            serde_json::from_slice(body).map_err(|_| error::improper(400, "the body is not JSON"))?
        } else if body.is_empty() {
            Value::Null
        } else {
            return Err(error::improper(400, "this call takes no body"));
        };
        Ok(Call { route, query, body })
    }

    fn has_version(&self, version: &Version) -> bool {
        match version {
            Version::Numbered => self.options.numbered_versions,
            Version::Dated(date) => self.options.dated_versions.contains(date),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = the_only(headers, &CONTENT_TYPE).and_then(|value| value.split(';').next()).map(str::trim);
    media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(JSON))
}
