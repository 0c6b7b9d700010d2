//! A client that follows the documentation, a receiver for webhooks, and the fixtures.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hookline_sandbox::{Sandbox, SandboxOptions, WebhookTarget};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpListener;

pub(crate) const ACCOUNT: &str = "harbor_staffing";
pub(crate) const SECRET: &str = "textus-synthetic-not-a-real-secret";
pub(crate) const MEDIA_TYPE: &str = "application/vnd.textus+jsonld";

/// A sandbox and a client with its token.
pub(crate) struct Api {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: Client,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SandboxOptions)) -> Self {
        let mut options = SandboxOptions { accounts: vec![ACCOUNT.to_owned()], ..SandboxOptions::default() };
        change(&mut options);
        let sandbox = Sandbox::start(options).await.expect("a loopback port");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().expect("a client");
        Self { sandbox, client }
    }

    /// Builds a request with neither token nor media type.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.sandbox.base_url()))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth("synthetic-token").header("Accept", MEDIA_TYPE)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).header("Content-Type", MEDIA_TYPE).body(body.to_string())
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn put_opt_out(&self, digits: &str) -> (u16, Value) {
        answer(self.request(Method::PUT, &format!("/{ACCOUNT}/opt_outs/{digits}"))).await
    }
}

/// Returns the status and the JSON body, which is `Null` if there is none.
pub(crate) async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let body = answer.bytes().await.expect("a whole body");
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    (status, body)
}

pub(crate) fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the fixture")).expect("JSON")
}

/// Returns every path of keys in a value with the kind of its value, so that two values can be compared by shape. The
/// contents of `data` are left out, because they are the client's own.
pub(crate) fn shape(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.insert(format!("{path}: object"));
                for (key, value) in fields.iter().filter(|(key, _)| *key != "data") {
                    walk(value, &format!("{path}/{key}"), found);
                }
            }
            Value::Array(members) => {
                found.insert(format!("{path}: array"));
                for member in members {
                    walk(member, &format!("{path}/*"), found);
                }
            }
            Value::Null => drop(found.insert(format!("{path}: null"))),
            Value::Bool(_) => drop(found.insert(format!("{path}: boolean"))),
            Value::Number(_) => drop(found.insert(format!("{path}: number"))),
            Value::String(_) => drop(found.insert(format!("{path}: string"))),
        }
    }
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}

/// A webhook as it was received: the signature header and the exact bytes.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) signature: String,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A small server that receives webhooks; it refuses the first few if told to.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) target: WebhookTarget,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    pub(crate) async fn start(refuse_first: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}/webhooks/textus", listener.local_addr().expect("an address"));
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let target = WebhookTarget { url, secret: SECRET.to_owned() };
        let receiver = Self { target, received: Arc::clone(&received) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let received = Arc::clone(&received);
                let service = service_fn(move |request| take(request, Arc::clone(&received), refuse_first));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        receiver
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("no panic under the lock").clone()
    }
}

async fn take(
    request: Request<Incoming>,
    received: Arc<Mutex<Vec<Received>>>,
    refuse_first: usize,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let signature = request.headers().get("X-TextUs-Signature").and_then(|value| value.to_str().ok());
    let signature = signature.unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let mut received = received.lock().expect("no panic under the lock");
    received.push(Received { signature, body, at: Instant::now() });
    let mut response = Response::new(Empty::new());
    if received.len() <= refuse_first {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// Waits until a condition holds, for at most ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
