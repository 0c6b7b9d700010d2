//! Raw HTTP/1.1 bytes for answers that hyper's server does not send: interim heads.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{StatusCode, http};

use crate::reply::Response;

/// An interim head and nothing after it.
pub(crate) fn interim_only(head: &http::response::Parts) -> Bytes {
    let mut bytes = Vec::new();
    write_head(&mut bytes, head.status, &head.headers);
    bytes.into()
}

/// An interim head, then the complete answer, which ends the connection.
pub(crate) async fn interim_then(interim: StatusCode, response: Response) -> Bytes {
    let (mut head, body) = response.into_parts();
    // The body is never one that breaks off, so a failure to read it doesn't occur here.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    head.headers.remove(TRANSFER_ENCODING);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut bytes = Vec::new();
    write_head(&mut bytes, interim, &HeaderMap::new());
    write_head(&mut bytes, head.status, &head.headers);
    bytes.extend(body);
    bytes.into()
}

fn write_head(bytes: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let reason = status.canonical_reason().unwrap_or("Interim");
    bytes.extend(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).bytes());
    for (name, value) in headers {
        bytes.extend(name.as_str().bytes());
        bytes.extend(b": ");
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
}
