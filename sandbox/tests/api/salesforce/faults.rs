//! Faults on Salesforce's calls, and the record of requests.

use std::time::Duration;

use hookline_sandbox::salesforce::{self, SalesforceEndpoint, SalesforceObject};
use hookline_sandbox::{Fault, FaultRule};
use reqwest::Method;
use serde_json::json;

use super::{Crm, KEY, a_task, code};
use crate::helpers::eventually;

const UPSERT: SalesforceEndpoint = SalesforceEndpoint::Upsert(SalesforceObject::Task);

#[tokio::test]
async fn a_lost_answer_leaves_the_task_and_the_repeat_meets_it() {
    for (fault, effects) in [
        (Fault::Reset, 0),
        (Fault::EffectThenReset, 1),
        (Fault::EffectThenHang(Duration::from_millis(1)), 1),
        (Fault::TruncatedBody, 1),
    ] {
        let crm = Crm::start().await;
        let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
        crm.salesforce.fault(FaultRule::new(fault.clone()).on(UPSERT).times(1));

        let request = crm.request(Method::PATCH, &format!("/sobjects/Task/{KEY}/k")).json(&a_task(&sam));
        let lost = match request.send().await {
            Ok(answer) => answer.bytes().await.is_err(),
            Err(_) => true,
        };

        assert!(lost, "{fault:?}");
        assert_eq!(crm.salesforce.tasks().len(), effects, "{fault:?}");
        let expected = if effects == 0 { 201 } else { 200 };
        assert_eq!(crm.upsert("k", a_task(&sam)).await.0, expected, "{fault:?}");
        assert_eq!(crm.salesforce.tasks().len(), 1);
    }
}

#[tokio::test]
async fn each_ready_made_fault_has_the_vendors_status_and_code() {
    let crm = Crm::start().await;
    for (fault, expected) in [
        (salesforce::lock_row(), (400, "UNABLE_TO_LOCK_ROW")),
        (salesforce::request_limit(), (403, "REQUEST_LIMIT_EXCEEDED")),
        (salesforce::query_timeout(), (400, "QUERY_TIMEOUT")),
        (salesforce::server_unavailable(), (503, "SERVER_UNAVAILABLE")),
        (salesforce::validation_rule("Subject", "No."), (400, "FIELD_CUSTOM_VALIDATION_EXCEPTION")),
        (salesforce::insufficient_access("003"), (400, "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY")),
        (salesforce::duplicates_detected("Contact", &["003"]), (400, "DUPLICATES_DETECTED")),
        (salesforce::status(403, "API_DISABLED_FOR_ORG", "Off."), (403, "API_DISABLED_FOR_ORG")),
    ] {
        crm.salesforce.fault(FaultRule::new(fault).on(UPSERT).times(1));
        assert_eq!(code(&crm.upsert("k", json!({})).await), expected);
        assert!(crm.salesforce.tasks().is_empty());
    }
    crm.salesforce.fault(
        FaultRule::new(salesforce::oauth("invalid_grant", "ip restricted")).on(SalesforceEndpoint::Token).times(1),
    );
    let (status, body) = crm.post_form(&[("grant_type", "client_credentials")]).await;
    assert_eq!((status, &body["error_description"]), (400, &json!("ip restricted")));
    assert_eq!(crm.upsert("k", json!({})).await.0, 201);
}

#[tokio::test]
async fn a_write_locks_its_persons_row_until_it_is_answered() {
    let crm = Crm::start().await;
    let [sam, kim] = ["Doe", "Kim"].map(|name| crm.salesforce.add_contact(json!({ "LastName": name })));
    crm.salesforce.configure(|options| options.latency = Duration::from_secs(3_600));
    let first = crm.request(Method::PATCH, &format!("/sobjects/Task/{KEY}/thread-1")).json(&a_task(&sam)).send();
    let first = tokio::spawn(first);
    eventually("the first write is carried out", || crm.salesforce.tasks().len() == 1).await;
    crm.salesforce.configure(|options| options.latency = Duration::from_millis(1));

    for key in ["thread-1", "thread-2"] {
        assert_eq!(code(&crm.upsert(key, a_task(&sam)).await), (400, "UNABLE_TO_LOCK_ROW"));
    }
    let contact = crm.patch(&format!("/sobjects/Contact/{sam}"), json!({ "FirstName": "Sam" })).await;
    assert_eq!(code(&contact), (400, "UNABLE_TO_LOCK_ROW"));
    for key in ["thread-3", "thread-4"] {
        assert_eq!(crm.upsert(key, a_task(&kim)).await.0, 201, "a client that writes one by one isn't refused");
    }
    assert_eq!((crm.salesforce.tasks().len(), crm.salesforce.tasks()[0].changes), (3, 0));
    crm.salesforce.configure(|options| options.lock_rows = false);
    assert_eq!(crm.upsert("thread-1", a_task(&sam)).await.0, 200);
    first.abort();
    crm.assert_proper();
}

#[tokio::test]
async fn reads_can_fail_while_writes_work() {
    let crm = Crm::start().await;
    for endpoint in
        [SalesforceEndpoint::Query, SalesforceEndpoint::Search, SalesforceEndpoint::Get(SalesforceObject::Task)]
    {
        crm.salesforce.fault(FaultRule::new(salesforce::server_unavailable()).on(endpoint));
    }

    assert_eq!(crm.upsert("k", json!({})).await.0, 201);
    let task = crm.salesforce.tasks()[0].id.clone();
    assert_eq!(crm.query("SELECT Id FROM Task").await.0, 503);
    assert_eq!(crm.search("FIND {4155550123} RETURNING Contact").await.0, 503);
    assert_eq!(crm.get(&format!("/sobjects/Task/{task}")).await.0, 503);
    crm.salesforce.clear_faults();
    assert_eq!(crm.get(&format!("/sobjects/Task/{task}")).await.0, 200);
}

#[tokio::test]
async fn requests_are_recorded_without_the_values_of_their_query() {
    let crm = Crm::start().await;
    crm.salesforce.clear_requests();
    crm.query("SELECT Id FROM Contact WHERE Phone = '4155550123'").await;
    crm.upsert("k", json!({})).await;

    let requests = crm.salesforce.requests();

    assert_eq!((requests[0].path.as_str(), &requests[0].query), ("/services/data/v67.0/query/", &vec!["q".to_owned()]));
    assert_eq!((requests[0].endpoint, requests[0].status), (Some(SalesforceEndpoint::Query.into()), Some(200)));
    assert!(requests.iter().all(|request| request.genuine && request.carried_out));
    assert_eq!(crm.salesforce.requests_to(UPSERT), 1);
    crm.salesforce.stop().await;
    let gone = crm.bare(Method::GET, "/services/data/").send().await;
    assert!(gone.expect_err("nobody listens").is_connect());
}
