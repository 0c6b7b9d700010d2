//! Only documents that are signed in time, by one of the secrets, are taken.

use hookline_sandbox::receiver::SECRET;
use jiff::Timestamp;
use serde_json::json;

use super::{Endpoint, a_thread};
use crate::helpers::answer;

const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn any_of_several_secrets_is_accepted() {
    let endpoint = Endpoint::with(|options| options.secrets.push(OTHER.to_owned())).await;
    for (secret, id) in [(SECRET, "d1"), (OTHER, "d2")] {
        assert_eq!(answer(endpoint.signed(secret, 0, id, &a_thread(id, id).to_string())).await.0, 200);
    }
    endpoint.receiver.configure(|options| options.secrets.retain(|secret| secret == OTHER));
    assert_eq!(answer(endpoint.signed(SECRET, 0, "d3", &a_thread("d3", "c").to_string())).await.0, 401);
    assert_eq!(endpoint.receiver.documents().len(), 2);
    assert_eq!(endpoint.violations(), ["no signature matches"]);
}

#[tokio::test]
async fn one_matching_signature_of_a_list_suffices() {
    let endpoint = Endpoint::start().await;
    let body = a_thread("d1", "a").to_string();
    let at = Timestamp::now().as_second();
    let right = hookline_sandbox::receiver::sign(SECRET, "d1", at, body.as_bytes());
    let wrong = hookline_sandbox::receiver::sign(OTHER, "d1", at, body.as_bytes());
    let at = at.to_string();
    for (signatures, expected) in [
        (format!("{wrong} {right}"), 200),
        (format!("v1a,abc {right}"), 200),
        (wrong, 401),
        (right.replacen("v1,", "v2,", 1), 401),
        (right.replacen("v1,", "", 1), 401),
        (String::new(), 401),
    ] {
        let headers = [("webhook-id", "d1"), ("webhook-timestamp", &at), ("webhook-signature", &signatures)];
        assert_eq!(answer(endpoint.bare(&headers, &body)).await.0, expected, "{signatures}");
    }
}

#[tokio::test]
async fn the_time_is_at_most_five_minutes_off_either_way() {
    let endpoint = Endpoint::start().await;
    // Ten seconds of grace on either side, so that a slow machine decides nothing.
    for (age, expected) in [(0, 200), (290, 200), (-290, 200), (310, 401), (-310, 401)] {
        let id = format!("d{age}");
        let status = answer(endpoint.signed(SECRET, age, &id, &a_thread(&id, "a").to_string())).await.0;
        assert_eq!(status, expected, "{age}");
    }
    assert_eq!(endpoint.violations(), vec!["webhook-timestamp is too far from now"; 2]);
}

#[tokio::test]
async fn a_changed_or_incomplete_request_is_refused() {
    let endpoint = Endpoint::start().await;
    let body = a_thread("d1", "a").to_string();
    let at = Timestamp::now().as_second();
    let signature = hookline_sandbox::receiver::sign(SECRET, "d1", at, body.as_bytes());
    let at = at.to_string();
    let (id, time, signed) =
        (("webhook-id", "d1"), ("webhook-timestamp", at.as_str()), ("webhook-signature", signature.as_str()));
    for headers in [
        vec![time, signed],
        vec![id, signed],
        vec![id, time],
        vec![id, time, signed, signed],
        vec![id, id, time, signed],
        vec![("webhook-id", "d2"), time, signed],
        vec![id, ("webhook-timestamp", "-5"), signed],
        vec![("svix-id", "d1"), ("svix-timestamp", &at), ("svix-signature", &signature)],
    ] {
        assert_eq!(answer(endpoint.bare(&headers, &body)).await.0, 401, "{headers:?}");
    }
    assert_eq!(answer(endpoint.bare(&[id, time, signed], &body.replace("Hello", "Hullo"))).await.0, 401);
    assert!(endpoint.receiver.documents().is_empty());
    assert_eq!(answer(endpoint.bare(&[id, time, signed], &body)).await.0, 200);
    assert_eq!(endpoint.violations().len(), 9);
}

#[tokio::test]
async fn one_id_never_has_two_bodies() {
    let endpoint = Endpoint::start().await;
    assert_eq!(endpoint.post(&a_thread("d1", "a")).await.0, 200);

    let (status, refusal) = endpoint.post(&a_thread("d1", "b")).await;

    assert_eq!((status, &refusal["error"]), (400, &json!("the webhook-id came with another body before")));
    assert_eq!(endpoint.violations(), ["a webhook-id came with another body than before"]);
    assert_eq!(endpoint.receiver.threads()[0].text, "a");
}

#[tokio::test]
async fn the_id_of_the_header_is_the_documents() {
    let endpoint = Endpoint::start().await;

    let (status, _) = answer(endpoint.signed(SECRET, 0, "d2", &a_thread("d1", "a").to_string())).await;

    assert_eq!((status, endpoint.violations()), (400, vec!["webhook-id is not the document's id".to_owned()]));
}
