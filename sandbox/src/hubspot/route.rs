//! Reads a request's path and method: which call they name, in which version, and with which parameters.

use hyper::Method;

use super::object::{HubSpotEndpoint as E, HubSpotObject as Object};
use crate::route::decoded;

/// The version of the API that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Numbered,
    Dated(String),
}

impl Version {
    /// Returns whether batches are answered 207 where some inputs failed. Version 2026-09 declares no 207.
    pub(crate) fn has_multi_status(&self) -> bool {
        match self {
            Self::Numbered => true,
            Self::Dated(date) => date.as_str() < "2026-09",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) endpoint: E,
    pub(crate) version: Version,
    /// The decoded ids or names in the path, in order.
    pub(crate) ids: Vec<String>,
}

impl Route {
    /// Returns the first id in the path, or an empty text.
    pub(crate) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    /// Returns the second id in the path, or an empty text.
    pub(crate) fn other_id(&self) -> &str {
        self.ids.get(1).map_or("", String::as_str)
    }
}

/// Why a path and method name no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    Unknown,
    WrongMethod,
}

/// Finds the call for a percent-encoded path.
pub(crate) fn find(method: &Method, path: &str) -> Result<Route, NoRoute> {
    let segments: Vec<String> = path.split('/').skip(1).map(decoded).collect::<Option<_>>().ok_or(NoRoute::Unknown)?;
    if segments.iter().any(String::is_empty) {
        return Err(NoRoute::Unknown);
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (version, calls, ids) = match segments[..] {
        ["crm", "properties", date, ref rest @ ..] if is_date(date) => {
            let (calls, ids) = properties(rest).ok_or(NoRoute::Unknown)?;
            (Version::Dated(date.to_owned()), calls, ids)
        }
        ["crm", "v3", "properties", ref rest @ ..] => {
            let (calls, ids) = properties(rest).ok_or(NoRoute::Unknown)?;
            (Version::Numbered, calls, ids)
        }
        ["crm", "objects", date, ref rest @ ..] if is_date(date) => {
            let (calls, ids) = associations(rest).or_else(|| objects(rest)).ok_or(NoRoute::Unknown)?;
            (Version::Dated(date.to_owned()), calls, ids)
        }
        ["crm", "owners", date] if is_date(date) => (Version::Dated(date.to_owned()), owners(), Vec::new()),
        ["crm", "v3", "owners"] => (Version::Numbered, owners(), Vec::new()),
        ["crm", "v3", "objects", ref rest @ ..] => {
            let (calls, ids) = objects(rest).ok_or(NoRoute::Unknown)?;
            (Version::Numbered, calls, ids)
        }
        ["crm", "v4", "objects", ref rest @ ..] => {
            let (calls, ids) = associations(rest).ok_or(NoRoute::Unknown)?;
            (Version::Numbered, calls, ids)
        }
        _ => return Err(NoRoute::Unknown),
    };
    let (_, endpoint) = calls.into_iter().find(|(allowed, _)| allowed == method).ok_or(NoRoute::WrongMethod)?;
    Ok(Route { endpoint, version, ids })
}

type Calls = (Vec<(Method, E)>, Vec<String>);

fn objects(rest: &[&str]) -> Option<Calls> {
    let object = Object::named(rest.first()?)?;
    let found = match rest[1..] {
        [] => (vec![(Method::POST, E::Create(object))], Vec::new()),
        ["search"] => (vec![(Method::POST, E::Search(object))], Vec::new()),
        ["batch", "read"] => (vec![(Method::POST, E::BatchRead(object))], Vec::new()),
        ["batch", "upsert"] => (vec![(Method::POST, E::BatchUpsert(object))], Vec::new()),
        [id] => {
            let calls = vec![
                (Method::GET, E::Get(object)),
                (Method::PATCH, E::Update(object)),
                (Method::DELETE, E::Archive(object)),
            ];
            (calls, vec![id.to_owned()])
        }
        _ => return None,
    };
    Some(found)
}

fn owners() -> Vec<(Method, E)> {
    vec![(Method::GET, E::ListOwners)]
}

fn properties(rest: &[&str]) -> Option<Calls> {
    let object = Object::named(rest.first()?)?;
    let found = match rest[1..] {
        [] => {
            let calls = vec![(Method::GET, E::ListProperties(object)), (Method::POST, E::CreateProperty(object))];
            (calls, Vec::new())
        }
        ["groups"] => (vec![(Method::GET, E::ListGroups(object)), (Method::POST, E::CreateGroup(object))], Vec::new()),
        [name] => (vec![(Method::GET, E::GetProperty(object))], vec![name.to_owned()]),
        _ => return None,
    };
    Some(found)
}

fn associations(rest: &[&str]) -> Option<Calls> {
    let from = Object::named(rest.first()?)?;
    let (calls, ids) = match rest[1..] {
        [id, "associations", "default", to, other] => {
            let to = Object::named(to)?;
            (vec![(Method::PUT, E::Associate { from, to })], vec![id, other])
        }
        [id, "associations", to] => {
            let to = Object::named(to)?;
            (vec![(Method::GET, E::ListAssociations { from, to })], vec![id])
        }
        [id, "associations", to, other] => {
            let to = Object::named(to)?;
            let calls = vec![(Method::PUT, E::Label { from, to }), (Method::DELETE, E::Dissociate { from, to })];
            (calls, vec![id, other])
        }
        _ => return None,
    };
    Some((calls, ids.into_iter().map(str::to_owned).collect()))
}

/// Returns whether a path segment is a version such as `2026-09`.
fn is_date(segment: &str) -> bool {
    segment.len() == 7
        && segment.bytes().enumerate().all(|(at, byte)| if at == 4 { byte == b'-' } else { byte.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_own_paths() {
        for (method, path, expected) in [
            (Method::POST, "/crm/v3/objects/contacts", Some(E::Create(Object::Contact))),
            (Method::POST, "/crm/objects/2026-09/notes", Some(E::Create(Object::Note))),
            (Method::POST, "/crm/objects/2026-09/0-18", Some(E::Create(Object::Communication))),
            (Method::POST, "/crm/v4/objects/contacts", None),
            (Method::GET, "/crm/v3/properties/notes", Some(E::ListProperties(Object::Note))),
            (Method::GET, "/crm/properties/2026-09/notes", Some(E::ListProperties(Object::Note))),
            (Method::GET, "/crm/properties/september/notes", None),
            (Method::GET, "/crm/v3/owners", Some(E::ListOwners)),
            (Method::GET, "/crm/owners/2026-09", Some(E::ListOwners)),
            (Method::GET, "/crm/owners/v3", None),
            (
                Method::PUT,
                "/crm/v4/objects/notes/1/associations/default/contacts/2",
                Some(E::Associate { from: Object::Note, to: Object::Contact }),
            ),
            (
                Method::GET,
                "/crm/objects/2026-09/contacts/1/associations/communications",
                Some(E::ListAssociations { from: Object::Contact, to: Object::Communication }),
            ),
            (Method::GET, "/crm/v3/objects/contacts/1/associations/notes", None),
            (Method::GET, "/crm/v3/objects/contacts/", None),
        ] {
            assert_eq!(find(&method, path).ok().map(|route| route.endpoint), expected, "{method} {path}");
        }
        assert_eq!(find(&Method::PUT, "/crm/v3/objects/contacts/1"), Err(NoRoute::WrongMethod));
    }
}
