//! TLS on the webhook listener.

use hookline_common::settings::TlsSettings;

use crate::helpers::{Answer, TestIngest, sign, try_bind};

struct Files {
    dir: tempfile::TempDir,
    certificate: reqwest::Certificate,
}

impl Files {
    fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("writes");
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("writes");
        Self { dir, certificate: reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("PEM") }
    }

    fn settings(&self) -> TlsSettings {
        TlsSettings { cert: Some(self.dir.path().join("cert.pem")), key: Some(self.dir.path().join("key.pem")) }
    }
}

#[tokio::test]
async fn with_a_certificate_webhooks_come_over_tls() {
    let files = Files::make();
    let ingest = TestIngest::configured(|settings| settings.ingest.tls = files.settings()).await;
    let client = reqwest::Client::builder()
        .tls_certs_only([files.certificate.clone()])
        .resolve("localhost", ingest.addr)
        .timeout(crate::helpers::DEADLINE)
        .build()
        .unwrap();

    let url = format!("https://localhost:{}/webhooks/textus", ingest.addr.port());
    // The second is longer than what is read of a connection at a time.
    for body in ["{}".to_owned(), "x".repeat(300 << 10)] {
        let signature = sign(body.as_bytes());
        let answer = Answer::of(client.post(&url).body(body).header("x-textus-signature", signature)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(ingest.stored().await.len(), 2);
}

#[tokio::test]
async fn unusable_files_are_named_with_what_to_do() {
    let files = Files::make();
    let others = Files::make();
    let at = |name: &str| files.dir.path().join(name);
    std::fs::write(at("empty.pem"), "").unwrap();

    for (cert, key, named) in [
        (at("absent.pem"), at("key.pem"), "tls.cert"),
        (at("empty.pem"), at("key.pem"), "tls.cert"),
        (at("cert.pem"), at("cert.pem"), "tls.key"),
        (at("cert.pem"), at("absent.pem"), "tls.key"),
        (at("cert.pem"), others.dir.path().join("key.pem"), "do not belong together"),
    ] {
        let error = try_bind(|settings| settings.ingest.tls = TlsSettings { cert: Some(cert), key: Some(key) })
            .expect_err("unusable");
        let shown = format!("{error:#}");
        assert!(shown.contains(named) && shown.contains("give "), "{shown}");
    }
}

/// The certificate that a listener shows.
async fn shown(port: u16, trusted: &[reqwest::Certificate]) -> bool {
    let client = reqwest::Client::builder()
        .tls_certs_only(trusted.to_vec())
        .resolve("localhost", ([127, 0, 0, 1], port).into())
        .timeout(crate::helpers::DEADLINE)
        .build()
        .expect("a client");
    client.get(format!("https://localhost:{port}/webhooks/textus")).send().await.is_ok()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_an_unusable_one_changes_nothing() {
    let (old, new) = (Files::make(), Files::make());
    let ingest = TestIngest::configured(|settings| settings.ingest.tls = old.settings()).await;
    let port = ingest.addr.port();
    assert!(shown(port, std::slice::from_ref(&old.certificate)).await);

    // The key alone does not belong to the old certificate: between the two steps the old pair stays in use.
    std::fs::copy(new.dir.path().join("key.pem"), old.dir.path().join("key.pem")).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(shown(port, std::slice::from_ref(&old.certificate)).await);
    // As `certbot` and Kubernetes do it: by a rename.
    std::fs::copy(new.dir.path().join("cert.pem"), old.dir.path().join("next.pem")).unwrap();
    std::fs::rename(old.dir.path().join("next.pem"), old.dir.path().join("cert.pem")).unwrap();

    let deadline = std::time::Instant::now() + crate::helpers::DEADLINE;
    while !shown(port, std::slice::from_ref(&new.certificate)).await {
        assert!(std::time::Instant::now() < deadline, "the new certificate is never shown");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(!shown(port, std::slice::from_ref(&old.certificate)).await);
}
