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
    let answer = Answer::of(client.post(url).body("{}").header("x-textus-signature", sign(b"{}"))).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(ingest.stored().await.len(), 1);
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
        (at("cert.pem"), others.dir.path().join("key.pem"), "cannot be used together"),
    ] {
        let error = try_bind(|settings| settings.ingest.tls = TlsSettings { cert: Some(cert), key: Some(key) })
            .expect_err("unusable");
        let shown = format!("{error:#}");
        assert!(shown.contains(named) && shown.contains("give "), "{shown}");
    }
}
