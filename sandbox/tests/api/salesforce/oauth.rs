//! The token endpoint, both flows, and how each refusal is worded.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hookline_sandbox::salesforce::{PRIVATE_KEY, SalesforceOptions};
use reqwest::Method;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::Crm;
use crate::helpers::answer;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

fn claims() -> Value {
    json!({
        "iss": "synthetic-client-id",
        "sub": "integration@example.com",
        "aud": "https://login.salesforce.com",
        "exp": now() + 120,
    })
}

fn assertion(header: &Value, claims: &Value) -> String {
    let key = PrivatePkcs8KeyDer::from_pem_slice(PRIVATE_KEY.as_bytes()).expect("a key in PEM");
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("an RSA key");
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let mut signature = vec![0; key.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn by_jwt(crm: &Crm, assertion: &str) -> (u16, Value) {
    crm.post_form(&[("grant_type", JWT_BEARER), ("assertion", assertion)]).await
}

/// Returns an OAuth error's two texts.
fn refusal((status, body): &(u16, Value)) -> (&str, &str) {
    assert_eq!(*status, 400, "{body}");
    (body["error"].as_str().expect("an error"), body["error_description"].as_str().expect("a description"))
}

#[tokio::test]
async fn client_credentials_give_a_token_whose_end_nobody_tells() {
    let crm = Crm::start().await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "synthetic-client-id"),
        ("client_secret", "synthetic-client-secret"),
    ];

    let (status, body) = crm.post_form(&form).await;

    assert_eq!((status, &body["token_type"], &body["token_format"]), (200, &json!("Bearer"), &json!("opaque")));
    assert_eq!(body["instance_url"], crm.salesforce.base_url());
    assert!(body["issued_at"].as_str().is_some_and(|time| time.parse::<u64>().is_ok()));
    assert!(body.get("expires_in").is_none() && body.get("refresh_token").is_none());
    let token = body["access_token"].as_str().unwrap();
    assert_eq!(answer(crm.bare(Method::GET, "/services/data/v67.0/limits").bearer_auth(token)).await.0, 200);
    assert_eq!(crm.salesforce.tokens_issued().len(), 2);

    let basic = crm.bare(Method::POST, "/services/oauth2/token");
    let basic = basic.basic_auth("synthetic-client-id", Some("synthetic-client-secret"));
    let basic = basic.header("Content-Type", "application/x-www-form-urlencoded").body("grant_type=client_credentials");
    assert_eq!(answer(basic).await.0, 200);
    crm.assert_proper();
}

#[tokio::test]
async fn wrong_client_credentials_are_refused_in_the_vendors_words() {
    let crm = Crm::start().await;
    for (grant, id, secret, expected) in [
        (
            "client_credentials",
            "another",
            "synthetic-client-secret",
            ("invalid_client_id", "client identifier invalid"),
        ),
        ("client_credentials", "synthetic-client-id", "another", ("invalid_client", "invalid client credentials")),
        (
            "password",
            "synthetic-client-id",
            "synthetic-client-secret",
            ("unsupported_grant_type", "grant type not supported"),
        ),
    ] {
        let form = [("grant_type", grant), ("client_id", id), ("client_secret", secret)];
        assert_eq!(refusal(&crm.post_form(&form).await), expected);
    }
    crm.salesforce.configure(|options| options.has_run_as_user = false);
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "synthetic-client-id"),
        ("client_secret", "synthetic-client-secret"),
    ];
    let refused = crm.post_form(&form).await;
    assert_eq!(refusal(&refused), ("invalid_grant", "no client credentials user enabled"));
    assert_eq!(crm.salesforce.tokens_issued().len(), 1);
    crm.assert_proper();
}

#[tokio::test]
async fn a_token_request_is_a_form() {
    let crm = Crm::start().await;
    let body = json!({ "grant_type": "client_credentials" });
    let json = answer(crm.bare(Method::POST, "/services/oauth2/token").json(&body)).await;
    let query = answer(crm.bare(Method::POST, "/services/oauth2/token?grant_type=client_credentials")).await;

    assert_eq!(refusal(&json).0, "unsupported_grant_type");
    assert_eq!(refusal(&query).0, "invalid_request");
    assert_eq!(crm.violations().len(), 2);
}

#[tokio::test]
async fn a_signed_assertion_gives_a_token() {
    let crm = Crm::start().await;
    let own = json!(crm.salesforce.base_url());
    for audience in [&json!("https://login.salesforce.com"), &json!("https://test.salesforce.com"), &own] {
        let mut claims = claims();
        claims["aud"] = audience.clone();

        let (status, body) = by_jwt(&crm, &assertion(&json!({ "alg": "RS256" }), &claims)).await;

        assert_eq!(status, 200, "{body}");
        assert!(body.get("issued_at").is_none() && body["instance_url"].is_string());
        let token = body["access_token"].as_str().unwrap();
        assert_eq!(answer(crm.bare(Method::GET, "/services/data/v67.0/limits").bearer_auth(token)).await.0, 200);
    }
    crm.assert_proper();
}

#[tokio::test]
async fn a_wrong_assertion_is_refused_in_the_vendors_words() {
    let crm = Crm::start().await;
    let header = json!({ "alg": "RS256" });
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        assertion(&header, &claims)
    };
    let good = assertion(&header, &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let swapped = format!("{}.{signature}", with("sub", json!("boss@example.com")).rsplit_once('.').unwrap().0);
    for (assertion, expected) in [
        ("nonsense".to_owned(), ("invalid_grant", "invalid assertion")),
        (format!("{signed}.AAAA"), ("invalid_grant", "invalid assertion")),
        (swapped, ("invalid_grant", "invalid assertion")),
        (assertion(&json!({ "alg": "none" }), &claims()), ("invalid_grant", "algorithm not supported")),
        (with("iss", json!("another")), ("invalid_client_id", "client identifier invalid")),
        (with("aud", json!("https://acme.example.com")), ("invalid_grant", "audience is invalid")),
        (with("exp", json!(now() - 1)), ("invalid_grant", "expired authorization code")),
        (with("exp", json!(now() + 3_600)), ("invalid_grant", "expired authorization code")),
        (with("exp", json!((now() + 60) * 1_000)), ("invalid_grant", "expired authorization code")),
        (with("exp", json!("soon")), ("invalid_grant", "expired authorization code")),
        (with("sub", json!("boss@example.com")), ("invalid_grant", "user hasn't approved this consumer")),
    ] {
        assert_eq!(refusal(&by_jwt(&crm, &assertion).await), expected, "{assertion}");
    }
    crm.salesforce.configure(|options| options.is_approved = false);
    assert_eq!(refusal(&by_jwt(&crm, &good).await), ("invalid_grant", "user hasn't approved this consumer"));
    let no_key = |options: &mut SalesforceOptions| (options.public_key, options.is_approved) = (None, true);
    crm.salesforce.configure(no_key);
    assert_eq!(refusal(&by_jwt(&crm, &good).await), ("invalid_grant", "invalid assertion"));
    assert_eq!(refusal(&crm.post_form(&[("grant_type", JWT_BEARER)]).await).0, "invalid_request");
}

#[tokio::test]
async fn the_app_may_know_a_certificate_of_the_key() {
    let key = rcgen::KeyPair::from_pem_and_sign_algo(PRIVATE_KEY, &rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let crm = Crm::with(|options| options.public_key = Some(certificate)).await;

    let (status, body) = by_jwt(&crm, &assertion(&json!({ "alg": "RS256", "typ": "JWT" }), &claims())).await;

    assert_eq!(status, 200, "{body}");
}
