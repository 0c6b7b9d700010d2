//! What an administrator may set up against a write.

use hookline_sandbox::salesforce::{CustomField, SalesforceObject};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Crm, KEY, code};
use crate::helpers::answer;

async fn create(crm: &Crm, header: Option<&str>) -> (u16, Value) {
    let request = crm.request(Method::POST, "/sobjects/Contact");
    let request = match header {
        Some(value) => request.header("Sforce-Duplicate-Rule-Header", value),
        None => request,
    };
    answer(request.json(&json!({ "LastName": "Doe", "Phone": "+1 (415) 555-0123" }))).await
}

#[tokio::test]
async fn a_duplicate_rule_names_the_records_that_it_found() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "1 415 555 0123" }));
    crm.salesforce.add_contact(json!({ "LastName": "Lee", "Phone": "4155550199" }));
    crm.salesforce.add_duplicate_rule(SalesforceObject::Contact, &["Phone", "Email"], true);

    let refused = create(&crm, None).await;

    assert_eq!(code(&refused), (400, "DUPLICATES_DETECTED"));
    let result = &refused.1[0]["duplicateResut"];
    assert_eq!((&result["allowSave"], &result["duplicateRuleEntityType"]), (&json!(true), &json!("Contact")));
    let records = result["matchResults"][0]["matchRecords"].as_array().unwrap();
    assert_eq!((records.len(), &records[0]["record"]["Id"]), (1, &json!(sam)));
    for header in ["allowSave=false", "includeRecordDetails=true"] {
        assert_eq!(create(&crm, Some(header)).await.0, 400);
    }
    assert_eq!(create(&crm, Some("allowSave=true; includeRecordDetails=true; runAsCurrentUser=true")).await.0, 201);
    crm.assert_proper();
}

#[tokio::test]
async fn a_rule_that_blocks_is_not_overridden() {
    let crm = Crm::start().await;
    crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
    crm.salesforce.add_duplicate_rule(SalesforceObject::Contact, &["LastName"], false);

    let refused = create(&crm, Some("allowSave=true")).await;

    assert_eq!(
        (code(&refused).1, &refused.1[0]["duplicateResut"]["allowSave"]),
        ("DUPLICATES_DETECTED", &json!(false))
    );
    crm.salesforce.clear_rules();
    assert_eq!(create(&crm, None).await.0, 201);
}

#[tokio::test]
async fn a_record_is_not_its_own_duplicate() {
    let crm = Crm::start().await;
    crm.salesforce.add_duplicate_rule(SalesforceObject::Contact, &["LastName"], true);
    let path = format!("/sobjects/Contact/{KEY}/c-1");

    assert_eq!(crm.patch(&path, json!({ "LastName": "Doe" })).await.0, 201);
    assert_eq!(crm.patch(&path, json!({ "LastName": "Doe" })).await.0, 200);
    let other = format!("/sobjects/Contact/{KEY}/c-2");
    assert_eq!(code(&crm.patch(&other, json!({ "LastName": "doe" })).await), (400, "DUPLICATES_DETECTED"));
}

#[tokio::test]
async fn a_validation_rule_and_a_required_field_refuse_a_write() {
    let crm = Crm::start().await;
    crm.salesforce.add_validation_rule(SalesforceObject::Task, "Subject", "Text", "Texts are logged elsewhere.");

    let refused = crm.upsert("k", json!({ "Subject": "Text from Sam" })).await;
    assert_eq!(code(&refused), (400, "FIELD_CUSTOM_VALIDATION_EXCEPTION"));
    assert_eq!(
        (&refused.1[0]["message"], &refused.1[0]["fields"]),
        (&json!("Texts are logged elsewhere."), &json!(["Subject"]))
    );
    assert_eq!(crm.upsert("k", json!({ "Subject": "Call" })).await.0, 201);

    crm.salesforce.clear_rules();
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::text("Team__c", 40).required());
    let refused = crm.upsert("k2", json!({ "Subject": "Text" })).await;
    assert_eq!((code(&refused).1, &refused.1[0]["fields"]), ("REQUIRED_FIELD_MISSING", &json!(["Team__c"])));
    assert_eq!(crm.upsert("k", json!({ "Subject": "Text" })).await.0, 200, "a record from before may lack it");
    assert_eq!(crm.upsert("k2", json!({ "Subject": "Text", "Team__c": "Sales" })).await.0, 201);
}
