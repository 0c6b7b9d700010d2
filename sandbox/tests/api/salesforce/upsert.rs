//! Upserts by external id: created and updated told apart, races, and keys that Salesforce refuses.

use hookline_sandbox::salesforce::{CustomField, SalesforceObject};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Crm, KEY, a_task, code, id};
use crate::helpers::answer;

#[tokio::test]
async fn an_upsert_creates_once_and_updates_from_then_on() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));

    let (first_status, first) = crm.upsert("thread-1", a_task(&sam)).await;
    let (second_status, second) = crm.upsert("thread-1", json!({ "Description": "Hello again" })).await;

    assert_eq!((first_status, second_status), (201, 200));
    assert_eq!(first, json!({ "id": id(&first), "success": true, "errors": [], "created": true }));
    assert_eq!(second, json!({ "id": id(&first), "success": true, "errors": [], "created": false }));
    let tasks = crm.salesforce.tasks();
    assert_eq!((tasks.len(), tasks[0].who(), tasks[0].get("Description")), (1, sam.as_str(), "Hello again"));
    assert_eq!((tasks[0].get(KEY), tasks[0].get("Subject")), ("thread-1", "Text from (415) 555-0123"));
    assert_eq!((tasks[0].get("OwnerId"), tasks[0].changes), (crm.salesforce.run_as_user().as_str(), 1));
    assert!(crm.salesforce.orphans().is_empty());
    crm.assert_proper();
}

#[tokio::test]
async fn an_old_version_answers_an_update_with_nothing() {
    let crm = Crm::start().await;
    let token = crm.new_token().await;
    let path = format!("/services/data/v45.0/sobjects/Task/{KEY}/k");
    let upsert = || crm.bare(Method::PATCH, &path).bearer_auth(&token).json(&json!({ "Subject": "Text" }));

    let (created, body) = answer(upsert()).await;
    assert_eq!((created, &body["success"], body.get("created")), (201, &json!(true), None));
    assert_eq!(answer(upsert()).await, (204, Value::Null));
}

#[tokio::test]
async fn update_only_creates_nothing() {
    let crm = Crm::start().await;
    let path = format!("/sobjects/Task/{KEY}/k?updateOnly=true");

    assert_eq!(code(&crm.patch(&path, json!({ "Subject": "Text" })).await), (404, "NOT_FOUND"));
    assert!(crm.salesforce.tasks().is_empty());

    assert_eq!(crm.upsert("k", json!({ "Subject": "Text" })).await.0, 201);
    assert_eq!(crm.patch(&path, json!({ "Subject": "Text" })).await.0, 200);
}

#[tokio::test]
async fn a_lost_race_is_refused_and_the_repeat_updates_the_winners_record() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
    crm.salesforce.lose_races(1);

    let lost = crm.upsert("thread-1", a_task(&sam)).await;
    let winner = crm.salesforce.tasks()[0].clone();
    let (status, repeated) = crm.upsert("thread-1", a_task(&sam)).await;

    assert_eq!(code(&lost), (400, "DUPLICATE_VALUE"));
    assert!(lost.1[0]["message"].as_str().unwrap().ends_with(&winner.id), "{}", lost.1);
    assert_eq!((winner.get(KEY), winner.get("Description")), ("thread-1", ""));
    assert_eq!((status, id(&repeated)), (200, winner.id));
    assert_eq!((crm.salesforce.tasks().len(), crm.salesforce.tasks()[0].get("Description")), (1, "Hello"));
    crm.assert_proper();
}

#[tokio::test]
async fn several_records_with_one_key_are_told_and_left_alone() {
    let crm = Crm::start().await;
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::text("Loose__c", 255).external_id());
    let twins = [1, 2].map(|_| crm.salesforce.add_task(json!({ "Loose__c": "k" })));

    let (status, body) = crm.patch("/sobjects/Task/Loose__c/k", json!({ "Subject": "Text" })).await;

    let expected = twins.map(|id| format!("/services/data/v67.0/sobjects/Task/{id}"));
    assert_eq!((status, body), (300, json!(expected)));
    assert_eq!(crm.get("/sobjects/Task/Loose__c/k").await.0, 300);
    assert!(crm.salesforce.tasks().iter().all(|task| task.get("Subject").is_empty()));
}

#[tokio::test]
async fn keys_differ_in_case_only_where_the_field_says_so() {
    let crm = Crm::start().await;
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::text("Blind__c", 255).external_id().unique());

    for (field, first, second) in [(KEY, 201, 201), ("Blind__c", 201, 200)] {
        let upsert = async |key: &str| crm.patch(&format!("/sobjects/Task/{field}/{key}"), json!({})).await.0;
        assert_eq!((upsert("AbC123").await, upsert("abc123").await), (first, second), "{field}");
    }
}

#[tokio::test]
async fn a_key_stands_in_the_path_only() {
    let crm = Crm::start().await;

    for body in [json!({ KEY: "k" }), json!({ KEY.to_lowercase(): "k" }), json!({ "Id": "00T5e0000000001EAA" })] {
        assert_eq!(code(&crm.upsert("k", body).await), (400, "INVALID_FIELD"));
    }
    assert_eq!(crm.violations().len(), 3);
    assert!(crm.salesforce.tasks().is_empty());
}

#[tokio::test]
async fn some_keys_never_arrive() {
    let crm = Crm::start().await;

    crm.salesforce.add_task(json!({ "Subject": "A task without a key" }));
    for (key, expected) in [
        ("null", 201),
        ("acme.inc", 404),
        ("notes.txt", 404),
        ("a/b", 404),
        ("a.2026", 201),
        ("a%2Fb", 404),
        ("a%20b%2B", 201),
    ] {
        assert_eq!(crm.upsert(key, json!({})).await.0, expected, "{key}");
    }
    assert_eq!(code(&crm.upsert(&"k".repeat(256), json!({})).await), (400, "STRING_TOO_LONG"));
}

#[tokio::test]
async fn only_an_external_id_names_a_record() {
    let crm = Crm::start().await;

    for field in ["Subject", "Missing__c"] {
        let refusal = crm.patch(&format!("/sobjects/Task/{field}/k"), json!({})).await;
        assert_eq!(code(&refusal), (404, "NOT_FOUND"), "{field}");
    }
    crm.salesforce.hide_field(SalesforceObject::Task, KEY, true);
    assert_eq!(code(&crm.upsert("k", json!({})).await), (404, "NOT_FOUND"));
    crm.assert_proper();
}

#[tokio::test]
async fn a_deleted_task_gives_its_key_free() {
    let crm = Crm::start().await;
    let (_, first) = crm.upsert("k", json!({})).await;
    crm.salesforce.delete(&id(&first));

    let (status, second) = crm.upsert("k", json!({})).await;

    assert_eq!(status, 201);
    assert_ne!(id(&second), id(&first));
}

#[tokio::test]
async fn a_person_is_upserted_with_what_a_create_needs() {
    let crm = Crm::start().await;
    let contact = format!("/sobjects/Contact/{KEY}/c-1");
    let lead = format!("/sobjects/Lead/{KEY}/c-1");

    let missing = crm.patch(&contact, json!({ "FirstName": "Sam" })).await;
    assert_eq!((code(&missing), &missing.1[0]["fields"]), ((400, "REQUIRED_FIELD_MISSING"), &json!(["LastName"])));
    assert_eq!(crm.patch(&contact, json!({ "LastName": "Doe" })).await.0, 201);
    assert_eq!(crm.patch(&contact, json!({ "FirstName": "Sam" })).await.0, 200);

    let missing = crm.patch(&lead, json!({ "LastName": "Doe" })).await;
    assert_eq!(missing.1[0]["fields"], json!(["Company"]));
    assert_eq!(crm.patch(&lead, json!({ "LastName": "Doe", "Company": "Acme" })).await.0, 201);
    assert_eq!(crm.salesforce.leads()[0].get("Status"), "Open - Not Contacted");
    crm.assert_proper();
}

#[tokio::test]
async fn a_key_is_found_after_each_change_of_it() {
    let crm = Crm::start().await;
    let task = crm.salesforce.add_task(json!({ KEY: "one" }));
    let by = async |key: &str| {
        let (_, found) = crm.query(&format!("SELECT Id FROM Task WHERE {KEY} = '{key}' AND IsDeleted = false")).await;
        (crm.get(&format!("/sobjects/Task/{KEY}/{key}")).await.0, found["totalSize"].as_u64().unwrap())
    };
    assert_eq!((by("one").await, by("two").await), ((200, 1), (404, 0)));

    assert_eq!(crm.patch(&format!("/sobjects/Task/{task}"), json!({ KEY: "two" })).await.0, 204);
    assert_eq!((by("one").await, by("two").await), ((404, 0), (200, 1)));

    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::text("Late__c", 40));
    crm.salesforce.change(&task, json!({ "Late__c": "k" }));
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::text("Late__c", 40).external_id());
    assert_eq!(crm.get("/sobjects/Task/Late__c/k").await.0, 200, "a field may become a key later");

    crm.salesforce.purge(&task);
    assert_eq!(by("two").await, (404, 0));
}

#[tokio::test]
async fn a_number_may_be_a_key() {
    let crm = Crm::start().await;
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::number("Number__c").external_id().unique());

    assert_eq!(crm.patch("/sobjects/Task/Number__c/12", json!({})).await.0, 201);
    assert_eq!(crm.patch("/sobjects/Task/Number__c/12", json!({})).await.0, 200);
    assert_eq!(crm.patch("/sobjects/Task/Number__c/twelve", json!({})).await.0, 400);
}
