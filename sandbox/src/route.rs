//! Reads a request's path and method: which endpoint they name, and with which parameters.

use hyper::Method;
use percent_encoding::percent_decode_str;

/// The calls that the sandbox answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `PUT /{account}/opt_outs/{ten digits}`
    PutOptOut,
    /// `GET /{account}/opt_outs/{ten digits}`
    GetOptOut,
    /// `GET /{account}/opt_outs{?q,exact[]}`
    ListOptOuts,
    /// `POST /{account}/contacts`
    CreateContact,
    /// `GET /{account}/contacts`
    ListContacts,
    /// `GET /contacts/{contact}`
    GetContact,
    /// `PUT /contacts/{contact}`
    UpdateContact,
    /// `GET /contacts/{contact}/phones`
    ListPhones,
    /// `GET /contacts/{contact}/conversations`
    ListConversations,
    /// `GET /contacts/{contact}/notes`
    ListNotes,
    /// `POST /contacts/{contact}/notes`
    CreateNote,
    /// `GET /{account}/contact_phones{?q}`
    FindContactPhones,
    /// `GET /{account}/conversations/{E.164, the plus as %2B}`
    FindConversation,
    /// `GET /conversations/{conversation}`
    GetConversation,
    /// `GET /messages/{message id or contact id}`
    GetMessage,
    /// `GET /{primary account}/integrations`
    ListIntegrations,
    /// `POST /{primary account}/integrations`
    CreateIntegration,
    /// `PUT /integrations/{integration}`
    UpdateIntegration,
}

impl Endpoint {
    /// Returns whether a request of this kind has a body; the others must have none.
    pub(crate) fn takes_body(self) -> bool {
        match self {
            Self::CreateContact
            | Self::UpdateContact
            | Self::CreateNote
            | Self::CreateIntegration
            | Self::UpdateIntegration => true,
            Self::PutOptOut
            | Self::GetOptOut
            | Self::ListOptOuts
            | Self::ListContacts
            | Self::GetContact
            | Self::ListPhones
            | Self::ListConversations
            | Self::ListNotes
            | Self::FindContactPhones
            | Self::FindConversation
            | Self::GetConversation
            | Self::GetMessage
            | Self::ListIntegrations => false,
        }
    }
}

/// A request whose path and method name an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) endpoint: Endpoint,
    /// The account segment, if the path starts with one.
    pub(crate) account: Option<String>,
    /// The last parameter, decoded: a phone, a contact, a conversation or a message. It is empty if there is none.
    pub(crate) parameter: String,
    /// The last parameter as it was sent.
    pub(crate) raw_parameter: String,
}

/// Why a path and method name no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    BadEncoding,
    Unknown,
    /// The path exists, but only for these methods.
    WrongMethod(&'static str),
}

/// Finds the endpoint for a percent-encoded path.
pub(crate) fn find(method: &Method, path: &str) -> Result<Route, NoRoute> {
    use Endpoint as E;

    let raw: Vec<&str> = path.strip_prefix('/').unwrap_or_default().split('/').collect();
    let segments: Vec<String> =
        raw.iter().map(|segment| decoded(segment)).collect::<Option<_>>().ok_or(NoRoute::BadEncoding)?;
    if segments.iter().any(String::is_empty) {
        return Err(NoRoute::Unknown);
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (account, index, methods): (_, _, &[(Method, E)]) = match segments[..] {
        ["messages", _] => (None, 1, &[(Method::GET, E::GetMessage)]),
        ["conversations", _] => (None, 1, &[(Method::GET, E::GetConversation)]),
        ["contacts", _] => (None, 1, &[(Method::GET, E::GetContact), (Method::PUT, E::UpdateContact)]),
        ["contacts", _, "phones"] => (None, 1, &[(Method::GET, E::ListPhones)]),
        ["contacts", _, "conversations"] => (None, 1, &[(Method::GET, E::ListConversations)]),
        ["contacts", _, "notes"] => (None, 1, &[(Method::GET, E::ListNotes), (Method::POST, E::CreateNote)]),
        ["integrations", _] => (None, 1, &[(Method::PUT, E::UpdateIntegration)]),
        [account, "integrations"] => {
            (Some(account), 2, &[(Method::GET, E::ListIntegrations), (Method::POST, E::CreateIntegration)])
        }
        [account, "opt_outs"] => (Some(account), 2, &[(Method::GET, E::ListOptOuts)]),
        [account, "opt_outs", _] => (Some(account), 2, &[(Method::GET, E::GetOptOut), (Method::PUT, E::PutOptOut)]),
        [account, "contacts"] => {
            (Some(account), 2, &[(Method::GET, E::ListContacts), (Method::POST, E::CreateContact)])
        }
        [account, "contact_phones"] => (Some(account), 2, &[(Method::GET, E::FindContactPhones)]),
        [account, "conversations", _] => (Some(account), 2, &[(Method::GET, E::FindConversation)]),
        _ => return Err(NoRoute::Unknown),
    };
    let Some((_, endpoint)) = methods.iter().find(|(allowed, _)| allowed == method) else {
        return Err(NoRoute::WrongMethod(match methods {
            [(Method::GET, _), (Method::PUT, _)] => "GET, PUT",
            [(Method::GET, _), (Method::POST, _)] => "GET, POST",
            [(Method::PUT, _)] => "PUT",
            _ => "GET",
        }));
    };
    Ok(Route {
        endpoint: *endpoint,
        account: account.map(str::to_owned),
        parameter: segments.get(index).copied().unwrap_or_default().to_owned(),
        raw_parameter: raw.get(index).copied().unwrap_or_default().to_owned(),
    })
}

/// Returns the decoded pairs of a query string, or `None` if one cannot be decoded.
pub(crate) fn query_pairs(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?))
        })
        .collect()
}

/// Decodes strictly: the decoder alone would accept a `%` that no two hexadecimal digits follow.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let well_formed = text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    });
    if !well_formed {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_one_by_one() {
        let route = find(&Method::GET, "/sanford%2Ellc/conversations/%2B12025550147").expect("a route");
        assert_eq!(route.account.as_deref(), Some("sanford.llc"));
        assert_eq!(route.parameter, "+12025550147");
        assert_eq!(route.raw_parameter, "%2B12025550147");

        let sly = find(&Method::GET, "/messages/a%2F..%2Fb").expect("a route");
        assert_eq!((sly.endpoint, sly.parameter.as_str()), (Endpoint::GetMessage, "a/../b"));
    }

    #[test]
    fn what_is_no_endpoint_says_why() {
        assert_eq!(find(&Method::GET, "/messages/%zz"), Err(NoRoute::BadEncoding));
        assert_eq!(find(&Method::GET, "/messages/a/"), Err(NoRoute::Unknown));
        assert_eq!(find(&Method::GET, "/"), Err(NoRoute::Unknown));
        assert_eq!(find(&Method::DELETE, "/acme/opt_outs/2025550147"), Err(NoRoute::WrongMethod("GET, PUT")));
        assert_eq!(find(&Method::POST, "/messages/a"), Err(NoRoute::WrongMethod("GET")));
    }

    #[test]
    fn a_query_is_read_as_a_form() {
        let pairs = query_pairs("q=Marisol+E%26k&exact%5B%5D=1").expect("readable");
        assert_eq!(pairs[0], ("q".to_owned(), "Marisol E&k".to_owned()));
        assert_eq!(pairs[1].0, "exact[]");
        assert_eq!(query_pairs("q=%f"), None);
    }
}
