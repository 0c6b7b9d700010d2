//! Faults on HubSpot's calls, and the record of requests.

use std::time::Duration;

use hookline_sandbox::{Fault, FaultRule, HubSpotEndpoint, HubSpotObject, hubspot};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Crm, KEY, a_text, but, id};
use crate::helpers::eventually;

const CREATE: HubSpotEndpoint = HubSpotEndpoint::Create(HubSpotObject::Communication);

async fn create(crm: &Crm) -> Result<reqwest::Response, reqwest::Error> {
    let body = json!({ "properties": a_text(), "associations": [] });
    crm.request(Method::POST, "/crm/objects/2026-09/communications").json(&body).send().await
}

#[tokio::test]
async fn an_answer_can_be_lost_before_or_after_the_effect() {
    for (fault, effects) in [
        (Fault::Reset, 0),
        (Fault::EffectThenReset, 1),
        (Fault::EffectThenHang(Duration::from_millis(1)), 1),
        (Fault::TruncatedBody, 1),
    ] {
        let crm = Crm::start().await;
        crm.hubspot.fault(FaultRule::new(fault.clone()).on(CREATE).times(1));

        let lost = match create(&crm).await {
            Ok(answer) => answer.bytes().await.is_err(),
            Err(_) => true,
        };

        assert!(lost, "{fault:?}");
        assert_eq!(crm.hubspot.communications().len(), effects, "{fault:?}");
        assert_eq!(create(&crm).await.expect("an answer").status(), 201);
    }
}

#[tokio::test]
async fn an_effect_can_come_after_the_client_gave_up() {
    let crm = Crm::start().await;
    crm.hubspot.fault(FaultRule::new(Fault::LateEffect(Duration::from_millis(50))).on(CREATE));

    assert!(create(&crm).await.is_err());

    eventually("the effect", || crm.hubspot.communications().len() == 1).await;
}

#[tokio::test]
async fn statuses_come_with_hubspots_envelope() {
    let crm = Crm::start().await;
    for status in [423, 500, 502, 503, 504] {
        crm.hubspot.fault(FaultRule::new(hubspot::status(status)).on(CREATE).times(1));
        let answer = create(&crm).await.expect("an answer");
        assert_eq!(answer.status(), status);
        let body: Value = answer.json().await.expect("JSON");
        assert!(body["status"] == "error" && body["correlationId"].is_string(), "{body}");
    }
    crm.hubspot.fault(FaultRule::new(hubspot::throttled("DAILY")).on(CREATE).times(1));
    let throttled = create(&crm).await.expect("an answer");
    assert_eq!(throttled.status(), 429);
    assert_eq!(throttled.json::<Value>().await.expect("JSON")["policyName"], "DAILY");
    crm.hubspot.fault(FaultRule::new(hubspot::migrating("600")).on(CREATE).times(1));
    let migrating = create(&crm).await.expect("an answer");
    assert_eq!(
        (migrating.status().as_u16(), &migrating.headers()["Retry-After"]),
        (477, &"600".parse().expect("a value"))
    );
    crm.hubspot.fault(FaultRule::new(hubspot::validation_rule("city", "A city is required.")).on(CREATE).times(1));
    let refused: Value = create(&crm).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(refused["category"], "VALIDATION_ERROR");
    assert!(crm.hubspot.communications().is_empty());
    crm.assert_proper();
}

#[tokio::test]
async fn an_answer_can_be_no_json_and_can_be_late() {
    let crm = Crm::start().await;
    crm.hubspot.fault(FaultRule::new(Fault::GarbageBody).on(CREATE).times(1));
    let answer = create(&crm).await.expect("an answer");
    assert_eq!(answer.headers()["Content-Type"], "application/json");
    assert!(answer.json::<Value>().await.is_err());
    assert_eq!(crm.hubspot.communications().len(), 1);

    crm.hubspot.fault(FaultRule::new(Fault::Delay(Duration::from_millis(30))).on(CREATE));
    let start = std::time::Instant::now();
    assert_eq!(create(&crm).await.expect("an answer").status(), 201);
    assert!(start.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn a_rule_picks_its_requests_by_endpoint_and_body() {
    let crm = Crm::keyed().await;
    crm.hubspot.fault(FaultRule::new(hubspot::status(503)).on(CREATE).body_contains("thread-7"));

    assert_eq!(crm.create("communications", but(a_text(), json!({ KEY: "thread-7" }))).await.0, 503);
    assert_eq!(crm.create("communications", but(a_text(), json!({ KEY: "thread-8" }))).await.0, 201);
    assert_eq!(crm.create("contacts", json!({ "lastname": "thread-7" })).await.0, 201);

    crm.hubspot.clear_faults();
    assert_eq!(crm.create("communications", but(a_text(), json!({ KEY: "thread-7" }))).await.0, 201);
}

#[tokio::test]
async fn requests_are_recorded_without_the_values_of_their_query() {
    let crm = Crm::keyed().await;
    let rule = crm.hubspot.fault(FaultRule::new(Fault::EffectThenReset).on(CREATE));
    assert!(create(&crm).await.is_err());
    crm.hubspot.remove_fault(rule);
    let text = crm.hubspot.communications()[0].id.clone();
    assert_eq!(crm.get("/crm/v3/objects/communications/k?idProperty=textus_thread_key&properties=a").await.0, 404);
    assert_eq!(id(&crm.get(&format!("/crm/v3/objects/communications/{text}")).await.1), text);

    let requests = crm.hubspot.requests();
    let lost = &requests[0];
    assert_eq!((&lost.method, lost.endpoint, lost.status), (&Method::POST, Some(CREATE.into()), None));
    assert!(lost.carried_out && !lost.genuine);
    let read = &requests[1];
    assert_eq!((read.path.as_str(), read.status), ("/crm/v3/objects/communications/k", Some(404)));
    assert_eq!(read.query, ["idProperty", "properties"]);
    assert!(read.genuine && read.answered_at.is_some());
    assert_eq!(crm.hubspot.requests_to(HubSpotEndpoint::Get(HubSpotObject::Communication)), 2);
    crm.hubspot.clear_requests();
    assert!(crm.hubspot.requests().is_empty());
}

#[tokio::test]
async fn a_stopped_stand_in_refuses_connections() {
    let crm = Crm::start().await;
    crm.hubspot.stop().await;
    assert!(create(&crm).await.expect_err("nobody listens").is_connect());
}
