//! Which signatures are accepted, and in which order requests are refused.

use reqwest::{Method, StatusCode};

use crate::helpers::{Answer, OTHER_SECRET, TestIngest, fixture, sign, sign_with};

#[tokio::test]
async fn a_missing_or_wrong_signature_is_refused_and_nothing_is_stored() {
    let ingest = TestIngest::start().await;
    let body = fixture("contact.opted_out.json").body;
    let signature = sign(&body);

    let missing = Answer::of(ingest.post(&body)).await;
    assert_eq!((missing.status, missing.code()), (401, "signature_missing".to_owned()));

    let wrong = [sign_with("not the secret", &body), sign(b"other bytes"), "zz".to_owned(), String::new()];
    for value in &wrong {
        let answer = Answer::of(ingest.post(&body).header("x-textus-signature", value)).await;
        assert_eq!((answer.status, answer.code()), (401, "signature_mismatch".to_owned()), "{value}");
        assert!(!answer.text.contains(&signature), "the right signature is not told");
    }
    let twice = ingest.post(&body).header("x-textus-signature", &signature).header("x-textus-signature", &signature);
    let twice = Answer::of(twice).await;
    assert_eq!((twice.status, twice.code()), (401, "signature_mismatch".to_owned()));

    assert_eq!(ingest.stored().await, []);
    assert_eq!((ingest.count("signature_missing"), ingest.count("signature_mismatch")), (1, 5));
}

#[tokio::test]
async fn upper_case_and_padded_signatures_and_both_secrets_are_accepted() {
    let ingest = TestIngest::start().await;
    let head = |signature: &str, body: &str| {
        format!(
            "POST /webhooks/textus HTTP/1.1\r\nhost: x\r\nX-TEXTUS-SIGNATURE:{signature}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        )
    };

    for (signature, body) in [
        (sign(b"upper").to_uppercase(), "upper"),
        (format!("   {} \t ", sign(b"padded")), "padded"),
        (format!(" {}", sign_with(OTHER_SECRET, b"other")), "other"),
    ] {
        let answer = ingest.exchange(head(&signature, body).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    assert_eq!(ingest.stored().await.len(), 3);
}

#[tokio::test]
async fn unknown_source_and_size_are_decided_before_the_signature() {
    let ingest = TestIngest::configured(|settings| settings.ingest.max_body_bytes = 1024).await;
    let large = vec![b'x'; 1025];

    let unknown = Answer::of(ingest.request(Method::POST, "/webhooks/acme").body("x")).await;
    assert_eq!((unknown.status, unknown.code()), (404, "unknown_source".to_owned()));
    for signature in [sign(&large), "wrong".to_owned()] {
        let answer = Answer::of(ingest.post(&large).header("x-textus-signature", signature)).await;
        assert_eq!((answer.status, answer.code()), (413, "body_too_large".to_owned()));
    }

    assert_eq!(ingest.stored().await, []);
    assert_eq!(ingest.count("body_too_large"), 2);
    assert_eq!(ingest.count_of("unknown", "unknown_source"), 1, "a stranger's name is no label");
    assert!(!ingest.metrics.render().contains("acme"));
}

#[tokio::test]
async fn other_methods_and_paths_are_turned_away() {
    let ingest = TestIngest::start().await;

    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let answer = ingest.request(method.clone(), "/webhooks/textus").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
        assert_eq!(answer.headers()["allow"], "POST");
    }
    let unknown = Answer::of(ingest.request(Method::GET, "/webhooks/acme")).await;
    assert_eq!((unknown.status, unknown.code()), (404, "unknown_source".to_owned()), "the source is decided first");
    for path in ["/", "/webhooks", "/webhooks/", "/webhooks/textus/more", "/metrics", "/readyz", "/WEBHOOKS/textus"] {
        let answer = Answer::of(ingest.request(Method::POST, path).body("x")).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found".to_owned()), "{path}");
    }

    assert_eq!(ingest.count("method_not_allowed"), 6);
    assert_eq!(ingest.stored().await, []);
}
