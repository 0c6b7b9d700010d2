//! Receives the sandbox's webhooks about our own writes. It does what ingest does, in a few lines.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hookline_broker::Broker;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::json;
use hookline_common::keywords::{self, Keywords};
use hookline_common::time::Timestamp;
use hookline_sandbox::WebhookTarget;
use hookline_sandbox::samples::{SIGNATURE_HEADER, sign};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

const SECRET: &str = "textus-synthetic-secret-of-the-pipeline";

/// Takes webhooks, publishes them, and remembers what it published.
#[derive(Clone)]
pub(crate) struct Intake {
    broker: Arc<dyn Broker>,
    published: Arc<Mutex<BTreeMap<EventId, EventType>>>,
}

impl Intake {
    pub(crate) fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker, published: Arc::default() }
    }

    /// Publishes a webhook's bytes as ingest would.
    pub(crate) async fn take(&self, bytes: Bytes) -> EventId {
        self.take_at(bytes, Timestamp::now()).await
    }

    /// Does the same as if the webhook had come at `received_at`.
    pub(crate) async fn take_at(&self, bytes: Bytes, received_at: Timestamp) -> EventId {
        let said: Value = json::read(&bytes).unwrap_or_default();
        let event_type = said["action"].as_str().map_or_else(EventType::unparsed, EventType::new);
        let keywords = Keywords::new(&keywords::STOP.map(str::to_owned));
        let source = SourceName::new("textus").expect("a name");
        let sent_id = said["id"].as_str().map(str::to_owned);
        let event = Event {
            id: EventId::derive(&source, sent_id.as_deref(), &bytes),
            source,
            source_event_id: sent_id,
            event_type: event_type.with_keyword(said["message"]["body"].as_str().and_then(|text| keywords.read(text))),
            received_at,
            content_type: Some("application/json".to_owned()),
            request_id: None,
            traceparent: None,
            body: bytes,
        };
        self.broker.publish(&event).await.expect("durable");
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.insert(event.id.clone(), event.event_type.clone());
        event.id
    }

    /// Returns every event so far, both the sender's and the echoes.
    pub(crate) fn published(&self) -> BTreeMap<EventId, EventType> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Listens for echoes until the runtime ends.
    pub(crate) async fn listen(&self) -> WebhookTarget {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}/webhooks/textus", listener.local_addr().expect("an address"));
        let intake = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let intake = intake.clone();
                let service = service_fn(move |request| answer(intake.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        WebhookTarget { url, secret: SECRET.to_owned() }
    }
}

async fn answer(intake: Intake, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let signature = request.headers().get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut response = Response::new(Empty::new());
    // A body that is cut off comes from a sandbox that is being stopped.
    match request.into_body().collect().await.map(http_body_util::Collected::to_bytes) {
        Ok(body) if signature.as_deref() == Some(sign(SECRET, &body).as_str()) => {
            intake.take(body).await;
        }
        Ok(_) => *response.status_mut() = StatusCode::UNAUTHORIZED,
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}
