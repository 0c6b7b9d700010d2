//! Reads by id and by key, and deletes.

use hookline_sandbox::salesforce::{DeletedIds, SalesforceObject};
use serde_json::{Value, json};

use super::{Crm, KEY, code, id};

#[tokio::test]
async fn a_record_is_read_with_all_fields_or_with_those_asked_for() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "FirstName": "Sam", "LastName": "Doe", "Phone": "4155550123" }));

    let (status, whole) = crm.get(&format!("/sobjects/Contact/{sam}")).await;
    assert_eq!((status, &whole["Name"], &whole["Email"]), (200, &json!("Sam Doe"), &Value::Null));
    let url = format!("/services/data/v67.0/sobjects/Contact/{sam}");
    assert_eq!(whole["attributes"], json!({ "type": "Contact", "url": url }));
    assert_eq!((&whole["IsDeleted"], &whole["HasOptedOutOfEmail"]), (&json!(false), &json!(false)));
    assert!(whole["CreatedDate"].as_str().unwrap().ends_with(".000+0000"));

    let (_, part) = crm.get(&format!("/sobjects/Contact/{}?fields=phone,LastName", &sam[..15])).await;
    assert_eq!(part.as_object().unwrap().keys().collect::<Vec<_>>(), ["Id", "LastName", "Phone", "attributes"]);
    let unknown = crm.get(&format!("/sobjects/Contact/{sam}?fields=Missing__c")).await;
    assert_eq!(code(&unknown), (400, "INVALID_FIELD"));
    crm.assert_proper();
}

#[tokio::test]
async fn an_id_names_one_record_of_its_kind() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));

    for path in [
        format!("/sobjects/Lead/{sam}"),
        format!("/sobjects/Contact/{}", sam.to_lowercase()),
        "/sobjects/Contact/0035e0000zzzzzzAAA".to_owned(),
        "/sobjects/Contact/nonsense".to_owned(),
    ] {
        assert_eq!(code(&crm.get(&path).await), (404, "NOT_FOUND"), "{path}");
    }
}

#[tokio::test]
async fn a_record_is_read_by_its_key() {
    let crm = Crm::start().await;
    let task = crm.salesforce.add_task(json!({ KEY: "Thread-1", "Subject": "Text" }));

    let (status, read) = crm.get(&format!("/sobjects/Task/{KEY}/Thread-1?fields=Id,Subject")).await;

    assert_eq!((status, id(&read), &read["Subject"]), (200, task, &json!("Text")));
    assert_eq!(code(&crm.get(&format!("/sobjects/Task/{KEY}/thread-1")).await), (404, "NOT_FOUND"));
    assert_eq!(code(&crm.get("/sobjects/Task/Subject/Text").await), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn a_deleted_record_is_gone_in_one_of_two_ways() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
    let path = format!("/sobjects/Contact/{sam}");

    assert_eq!(crm.delete(&path).await, (204, Value::Null));

    assert_eq!(code(&crm.get(&path).await), (404, "ENTITY_IS_DELETED"));
    assert_eq!(code(&crm.patch(&path, json!({ "FirstName": "Sam" })).await), (404, "ENTITY_IS_DELETED"));
    assert_eq!(code(&crm.delete(&path).await), (404, "ENTITY_IS_DELETED"));
    crm.salesforce.configure(|options| options.deleted_ids = DeletedIds::NotFound);
    assert_eq!(code(&crm.get(&path).await), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn objects_that_the_user_may_not_see_or_change_are_refused() {
    let crm = Crm::start().await;
    let lee = crm.salesforce.add_lead(json!({ "LastName": "Lee", "Company": "Acme" }));
    let path = format!("/sobjects/Lead/{lee}");

    crm.salesforce.configure(|options| options.read_only_objects = vec![SalesforceObject::Lead]);
    assert_eq!(crm.get(&path).await.0, 200);
    let refused = crm.patch(&path, json!({ "FirstName": "Bruce" })).await;
    assert_eq!(code(&refused), (403, "INSUFFICIENT_ACCESS_OR_READONLY"));
    assert_eq!(code(&crm.delete(&path).await), (403, "INSUFFICIENT_ACCESS_OR_READONLY"));

    crm.salesforce.configure(|options| options.hidden_objects = vec![SalesforceObject::Lead]);
    assert_eq!(code(&crm.get(&path).await), (404, "NOT_FOUND"));
    assert_eq!(code(&crm.get("/sobjects/Lead/describe").await), (404, "NOT_FOUND"));
    assert_eq!(code(&crm.query("SELECT Id FROM Lead").await), (400, "INVALID_TYPE"));
    crm.assert_proper();
}
