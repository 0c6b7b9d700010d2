//! Turns an answer into HTTP, intact or spoilt by a fault.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{StatusCode, http};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::gzip::gzip;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(crate) type Response = http::Response<Body>;

pub(crate) fn plain(answer: Answer) -> Response {
    let (head, body) = parts(answer);
    http::Response::from_parts(head, whole(body))
}

/// A 429 without a body, because the vendor doesn't document one.
pub(crate) fn throttled(retry_after: Option<&str>) -> Response {
    let mut response = plain(Answer::bare(StatusCode::TOO_MANY_REQUESTS.as_u16()));
    if let Some(value) = retry_after.and_then(|text| HeaderValue::from_str(text).ok()) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// A bare answer with these headers; those that HTTP does not allow are left out.
pub(crate) fn status(status: u16, headers: &[(String, String)], body: Option<String>) -> Response {
    let mut response = http::Response::new(whole(body.unwrap_or_default().into()));
    *response.status_mut() = status_code(status);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

pub(crate) fn with_body(status: u16, media_type: &str, body: Bytes) -> Response {
    let mut response = http::Response::new(whole(body));
    *response.status_mut() = status_code(status);
    if let Ok(value) = HeaderValue::try_from(media_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// The JSON escape of half a surrogate pair.
pub(crate) const LONE_SURROGATE: &[u8] = br"\ud83d";
/// The first three of an emoji's four bytes.
pub(crate) const CUT_UTF8: &[u8] = b"\xf0\x9f\x98";

/// Makes a text in the answer's JSON end in these bytes; a message's text is preferred.
pub(crate) fn ending_in(mut answer: Answer, end: &[u8]) -> Response {
    // A character that our own JSON never contains.
    const MARK: &str = "\u{e000}";
    if let Some(Value::Object(fields)) = &mut answer.body {
        let key = ["body", "name", "formattedPhoneNumber"]
            .into_iter()
            .find(|key| fields.get(*key).is_some_and(Value::is_string));
        let text = fields.entry(key.unwrap_or("comment")).or_insert_with(|| json!(""));
        *text = json!(format!("{}{MARK}", text.as_str().unwrap_or_default()));
    }
    let (head, body) = parts(answer);
    let at = body.windows(MARK.len()).position(|bytes| bytes == MARK.as_bytes());
    let body = match at {
        Some(at) => [&body[..at], end, &body[at + MARK.len()..]].concat().into(),
        None => body,
    };
    http::Response::from_parts(head, whole(body))
}

/// Compresses the body of a response; a body that breaks off becomes empty.
pub(crate) async fn compressed(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return http::Response::from_parts(head, whole(Bytes::new())) };
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    http::Response::from_parts(head, whole(gzip(&body.to_bytes()).into()))
}

pub(crate) fn garbage(media_type: &'static str) -> Response {
    with_media_type(media_type, whole(Bytes::from_static(b"<html>\xff\xfe}{ no JSON here")))
}

/// A JSON string of this many bytes, generated while it is sent.
pub(crate) fn huge(bytes: u64, media_type: &'static str) -> Response {
    const CHUNK: usize = 64 * 1024;
    let chunks = stream::unfold((bytes, true), |(left, opening)| async move {
        let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![b'x'; size];
        if opening && let Some(first) = chunk.first_mut() {
            *first = b'"';
        }
        if left == size as u64
            && let Some(last) = chunk.last_mut()
        {
            *last = b'"';
        }
        (size > 0).then(|| (Ok(Frame::data(chunk.into())), (left - size as u64, false)))
    });
    let mut response = with_media_type(media_type, StreamBody::new(chunks).boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    response
}

/// Announces the whole body, sends half of it, and breaks off.
pub(crate) fn truncated(answer: Answer) -> Response {
    // Long enough for the half to be sent before the connection is cut.
    const BEFORE_THE_CUT: Duration = Duration::from_millis(20);
    let (mut head, body) = parts(answer);
    let announced = body.len().max(2);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(announced));
    let half = body.slice(..body.len() / 2);
    let chunks = stream::unfold(Some(half), |half| async move {
        match half {
            Some(half) => Some((Ok(Frame::data(half)), None)),
            None => {
                tokio::time::sleep(BEFORE_THE_CUT).await;
                Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), None))
            }
        }
    });
    http::Response::from_parts(head, StreamBody::new(chunks).boxed_unsync())
}

pub(crate) fn dripping(answer: Answer, pause: Duration) -> Response {
    let (mut head, body) = parts(answer);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let drops = stream::unfold(body, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        Some((Ok(Frame::data(left.split_to(1))), left))
    });
    http::Response::from_parts(head, StreamBody::new(drops).boxed_unsync())
}

fn parts(answer: Answer) -> (http::response::Parts, Bytes) {
    let mut response = http::Response::new(());
    *response.status_mut() = status_code(answer.status);
    if let Some(allow) = answer.allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    let body = match answer.body {
        None => Bytes::new(),
        Some(value) => {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.media_type));
            value.to_string().into()
        }
    };
    (response.into_parts().0, body)
}

fn with_media_type(media_type: &'static str, body: Body) -> Response {
    let mut response = http::Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|impossible| match impossible {}).boxed_unsync()
}

/// Converts to an HTTP status; an invalid number becomes 500.
fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
