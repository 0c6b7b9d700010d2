//! `amqps://`: we check the broker's certificate, and accept one of a private authority. A TLS proxy stands in front of
//! a plain node, as a load balancer would.

use std::sync::Arc;

use hookline_broker::rabbitmq::{RabbitBroker, RabbitRole};
use hookline_broker::{BrokerState, Publish};
use hookline_common::secret::Secret;
use hookline_common::testing::events::an_inbound_message;
use hookline_common::testing::nodes::RabbitNode;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{options, ready, state_becomes};

/// Terminates TLS with its own certificate in front of the shared node; returns its port, and the certificate as PEM.
async fn tls_in_front() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    // This fails only if a provider is installed already, which serves as well.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("usable")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let node = RabbitNode::shared().await.port();
    tokio::spawn(async move {
        while let Ok((outside, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(outside).await else { return };
                let mut inside = TcpStream::connect(("127.0.0.1", node)).await.expect("the node listens");
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (port, made.cert.pem())
}

/// The URL of a new virtual host on the shared node, at another address.
async fn at(scheme: &str, port: u16) -> Secret {
    let plain = RabbitNode::shared().await.vhost().await;
    let (_, vhost) = plain.rsplit_once('/').expect("a path");
    Secret::new(format!("{scheme}://guest:guest@localhost:{port}/{vhost}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authoritys_certificate_is_enough() {
    let (port, pem) = tls_in_front().await;
    let mut over_tls = options("", RabbitRole::Worker);
    over_tls.urls = vec![at("amqps", port).await];
    over_tls.ca_pem = Some(pem);

    let broker = ready(over_tls).await;

    broker.publish(&an_inbound_message()).await.expect("stored");
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_certificate_is_refused() {
    let (port, _) = tls_in_front().await;
    let mut over_tls = options("", RabbitRole::Ingest);
    over_tls.urls = vec![at("amqps", port).await];

    let broker = RabbitBroker::start(over_tls);

    let refused =
        state_becomes(&broker, |state| matches!(state, BrokerState::NotReady(why) if why.contains("certificate")));
    let BrokerState::NotReady(why) = refused.await else { panic!("it is not ready") };
    assert!(!why.contains("guest"), "{why}");
    broker.close().await;
}
