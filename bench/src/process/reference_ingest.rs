//! The handler that a careful user would write by hand: verify the signature over the raw body, publish with lapin,
//! wait for the confirm, answer. All requests share one connection and one channel, and each awaits its own confirm. It
//! has no limits, no metrics, no event id and no reconnection, and it may take one message's confirm for another's. It
//! serves as a reference for Hookline's throughput and is not meant for use. Without a broker it only verifies.

use std::net::Ipv4Addr;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::bare::Route;
use super::{Questions, bare, ready};

#[derive(Serialize, Deserialize)]
pub(crate) struct ReferenceIngestSpec {
    pub(crate) secret: String,
    /// Empty means that the handler only verifies.
    pub(crate) urls: Vec<String>,
    pub(crate) route: Route,
}

struct ReferenceState {
    keyed: Hmac<Sha256>,
    channel: Option<Channel>,
    route: Route,
}

pub(super) async fn run(questions: &mut Questions) -> anyhow::Result<()> {
    let spec: ReferenceIngestSpec = questions.spec().await?;
    let connection = if spec.urls.is_empty() { None } else { Some(bare::connect(&spec.urls).await?) };
    let channel = match &connection {
        Some(connection) => Some(bare::confirming(connection).await?),
        None => None,
    };
    let keyed = Hmac::new_from_slice(spec.secret.as_bytes()).context("HMAC takes keys of every length")?;
    let shared = web::Data::new(ReferenceState { keyed, channel, route: spec.route });
    let factory =
        move || App::new().app_data(shared.clone()).service(web::resource("/webhooks/{queues}").post(receive));
    let server = HttpServer::new(factory)
        // The same number of threads as ingest.
        .workers(std::thread::available_parallelism().map_or(1, usize::from).min(4))
        .disable_signals()
        .tcp_nodelay(true)
        .shutdown_timeout(1)
        .bind((Ipv4Addr::LOCALHOST, 0))
        .context("the reference cannot listen")?;
    let listening = server.addrs().first().copied();
    let server = server.run();
    let handle = server.handle();
    let serving = tokio::spawn(server);
    ready(listening)?;
    questions.end().await;
    handle.stop(true).await;
    serving.await.context("the reference ended on its own")?.context("the reference's listener failed")
}

/// `POST /webhooks/{number of queues}`.
async fn receive(
    request: HttpRequest,
    queues: web::Path<usize>,
    body: web::Bytes,
    shared: web::Data<ReferenceState>,
) -> HttpResponse {
    let signature = request.headers().get("x-textus-signature").map(|value| value.as_bytes());
    let mut sent = [0; 32];
    if signature.is_none_or(|signature| hex::decode_to_slice(signature, &mut sent).is_err()) {
        return HttpResponse::Unauthorized().finish();
    }
    if shared.keyed.clone().chain_update(&body).verify_slice(&sent).is_err() {
        return HttpResponse::Unauthorized().finish();
    }
    match &shared.channel {
        Some(channel) if !publish(channel, shared.route, *queues, &body).await => {
            HttpResponse::ServiceUnavailable().finish()
        }
        Some(_) | None => HttpResponse::Ok().content_type("application/json").body(r#"{"status":"accepted"}"#),
    }
}

/// Publishes the body and returns whether it was stored.
async fn publish(channel: &Channel, route: Route, queues: usize, body: &[u8]) -> bool {
    let (exchange, key) = bare::route(route, queues);
    let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
    let sent = channel.basic_publish(exchange, key, BasicPublishOptions::default(), body, properties).await;
    match sent {
        Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(None))),
        Err(_) => false,
    }
}
