//! Reads a request's path and method: which call they name, in which version, and with which parameters.

use hyper::Method;

use super::object::{SalesforceEndpoint as E, SalesforceObject as Object};
use crate::route::decoded;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) endpoint: E,
    /// For example `67.0`; empty where the path names none.
    pub(crate) version: String,
    /// The decoded ids, names and values in the path, in order.
    pub(crate) ids: Vec<String>,
}

impl Route {
    /// Returns the first id in the path, or an empty text.
    pub(crate) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    /// Returns the value of the field that the path names, or an empty text.
    pub(crate) fn value(&self) -> &str {
        self.ids.get(1).map_or("", String::as_str)
    }

    /// Returns the version's number without the part behind the dot, or 0.
    pub(crate) fn major_version(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }
}

/// Why a path and method name no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    Unknown,
    /// The kind of object doesn't exist in the stand-in, as in an org where the user may not see it.
    NoObject,
    /// Has the methods that the path has.
    WrongMethod(String),
}

/// Finds the call for a percent-encoded path. A slash at the end makes no difference.
pub(crate) fn find(method: &Method, path: &str) -> Result<Route, NoRoute> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<String> = path.split('/').skip(1).map(decoded).collect::<Option<_>>().ok_or(NoRoute::Unknown)?;
    if segments.iter().any(String::is_empty) {
        return Err(NoRoute::Unknown);
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (version, calls, ids) = match segments[..] {
        ["services", "oauth2", "token"] => ("", vec![(Method::POST, E::Token)], Vec::new()),
        ["services", "data"] => ("", vec![(Method::GET, E::Versions)], Vec::new()),
        ["services", "data", version, ref rest @ ..] => {
            let version = version.strip_prefix('v').ok_or(NoRoute::Unknown)?;
            let (calls, ids) = resource(rest)?;
            (version, calls, ids)
        }
        _ => return Err(NoRoute::Unknown),
    };
    let Some((_, endpoint)) = calls.iter().find(|(allowed, _)| allowed == method) else {
        let mut allowed: Vec<&str> = calls.iter().map(|(method, _)| method.as_str()).collect();
        allowed.sort_unstable();
        return Err(NoRoute::WrongMethod(allowed.join(",")));
    };
    Ok(Route { endpoint: *endpoint, version: version.to_owned(), ids })
}

type Calls = (Vec<(Method, E)>, Vec<String>);

fn resource(rest: &[&str]) -> Result<Calls, NoRoute> {
    let get = |endpoint| (vec![(Method::GET, endpoint)], Vec::new());
    Ok(match rest {
        [] => get(E::Resources),
        ["limits"] => get(E::Limits),
        ["query"] => get(E::Query),
        ["queryAll"] => get(E::QueryAll),
        ["query" | "queryAll", locator] => (vec![(Method::GET, E::QueryMore)], vec![(*locator).to_owned()]),
        ["search"] => get(E::Search),
        ["parameterizedSearch"] => get(E::ParameterizedSearch),
        ["composite", "batch"] => (vec![(Method::POST, E::Batch)], Vec::new()),
        ["composite", "sobjects", object, field] => {
            let object = Object::named(object).ok_or(NoRoute::NoObject)?;
            (vec![(Method::PATCH, E::UpsertCollection(object))], vec![(*field).to_owned()])
        }
        ["sobjects", object, rest @ ..] => {
            let object = Object::named(object).ok_or(NoRoute::NoObject)?;
            match rest {
                [] => (vec![(Method::POST, E::Create(object))], Vec::new()),
                ["describe"] => get(E::Describe(object)),
                [id] => {
                    let calls = vec![
                        (Method::GET, E::Get(object)),
                        (Method::PATCH, E::Update(object)),
                        (Method::DELETE, E::Delete(object)),
                    ];
                    (calls, vec![(*id).to_owned()])
                }
                [field, value] => {
                    let calls = vec![(Method::GET, E::GetByKey(object)), (Method::PATCH, E::Upsert(object))];
                    (calls, vec![(*field).to_owned(), (*value).to_owned()])
                }
                _ => return Err(NoRoute::Unknown),
            }
        }
        _ => return Err(NoRoute::Unknown),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_calls_with_or_without_a_slash_at_the_end() {
        for (method, path, expected) in [
            (Method::POST, "/services/oauth2/token", Some(E::Token)),
            (Method::GET, "/services/data", Some(E::Versions)),
            (Method::GET, "/services/data/", Some(E::Versions)),
            (Method::GET, "/services/data/v67.0/query/", Some(E::Query)),
            (Method::GET, "/services/data/v67.0/query", Some(E::Query)),
            (Method::GET, "/services/data/v67.0/query/01g-2000", Some(E::QueryMore)),
            (Method::GET, "/services/data/67.0/query", None),
            (Method::PATCH, "/services/data/v67.0/sobjects/Task/K__c/a%2Fb", Some(E::Upsert(Object::Task))),
            (Method::PATCH, "/services/data/v67.0/sobjects/Task/K__c/a/b", None),
            (Method::GET, "/services/data/v67.0/sobjects/task/describe", Some(E::Describe(Object::Task))),
            (Method::GET, "/services/data/v67.0/sobjects/Case/describe", None),
        ] {
            assert_eq!(find(&method, path).ok().map(|route| route.endpoint), expected, "{method} {path}");
        }
        let wrong = find(&Method::PUT, "/services/data/v67.0/sobjects/Task/00T");
        assert_eq!(wrong, Err(NoRoute::WrongMethod("DELETE,GET,PATCH".to_owned())));
    }
}
