//! The token endpoint: client credentials and JWT bearer.
//! <https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm>
//! <https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_jwt_flow.htm>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use hyper::http::request::Parts;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

use super::org::Org;
use super::{error, jwt};
use crate::answer::Answer;
use crate::route::query_pairs;
use crate::state::the_only;

const FORM: &str = "application/x-www-form-urlencoded";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(crate) fn token(org: &mut Org, head: &Parts, body: &Bytes) -> Result<Answer, Answer> {
    if head.uri.query().is_some() {
        let refusal = error::no_token("invalid_request", "parameters belong in the body");
        return Err(error::violating(refusal, "secrets of a token request stand in its address"));
    }
    let form = form_of(&head.headers, body)?;
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let is_jwt = match value("grant_type") {
        Some("client_credentials") => {
            check_client(org, &head.headers, &form)?;
            false
        }
        Some(JWT_BEARER) => {
            let assertion = value("assertion").ok_or_else(|| error::no_token("invalid_request", "assertion required"));
            jwt::check(org, assertion?)?;
            true
        }
        _ => return Err(error::no_token("unsupported_grant_type", "grant type not supported")),
    };
    Ok(issue(org, is_jwt))
}

fn form_of(headers: &HeaderMap, body: &Bytes) -> Result<Vec<(String, String)>, Answer> {
    let media_type = the_only(headers, &CONTENT_TYPE).and_then(|value| value.split(';').next()).map(str::trim);
    let form = std::str::from_utf8(body).ok().and_then(query_pairs);
    match form.filter(|_| media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(FORM))) {
        Some(form) => Ok(form),
        None => {
            let refusal = error::no_token("unsupported_grant_type", "grant type not supported");
            Err(error::violating(refusal, format!("a token request is a form ({FORM})")))
        }
    }
}

/// Checks the client's id and secret, which stand in the form or in a header of basic authentication.
fn check_client(org: &Org, headers: &HeaderMap, form: &[(String, String)]) -> Result<(), Answer> {
    let value = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let (id, secret) = basic(headers).map_or_else(
        || (value("client_id").unwrap_or_default(), value("client_secret").unwrap_or_default()),
        |(id, secret)| (id, secret),
    );
    if id != org.options.client_id {
        return Err(error::no_token("invalid_client_id", "client identifier invalid"));
    }
    if secret != org.options.client_secret {
        return Err(error::no_token("invalid_client", "invalid client credentials"));
    }
    if !org.options.has_run_as_user {
        return Err(error::no_token("invalid_grant", "no client credentials user enabled"));
    }
    Ok(())
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = the_only(headers, &AUTHORIZATION)?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    text.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
}

/// Answers with a new token. There is no `expires_in` and no refresh token, and with JWT bearer no `issued_at` either.
fn issue(org: &mut Org, is_jwt: bool) -> Answer {
    let token = org.tokens.issue();
    let id = format!("https://login.salesforce.com/id/00D5e000000KxYzEAK/{}", org.run_as);
    let mut body = json!({
        "access_token": token,
        "instance_url": org.instance_url(),
        "id": id,
        "token_type": "Bearer",
        "scope": "api",
    });
    if !is_jwt {
        let issued_at = Timestamp::now().as_millisecond().to_string();
        body["signature"] = signature(&org.options.client_secret, &format!("{id}{issued_at}"));
        body["issued_at"] = json!(issued_at);
        body["token_format"] = json!("opaque");
    }
    Answer { headers: vec![(CACHE_CONTROL, "no-store".to_owned())], ..error::answer(200, body) }
}

fn signature(secret: &str, text: &str) -> Value {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mut mac| {
        mac.update(text.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    });
    json!(mac.unwrap_or_default())
}
