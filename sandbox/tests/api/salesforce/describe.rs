//! What a describe tells of the fields.

use hookline_sandbox::salesforce::{CustomField, SalesforceObject};
use serde_json::{Value, json};

use super::{Crm, KEY, code};

async fn field(crm: &Crm, object: &str, name: &str) -> Option<Value> {
    let (status, body) = crm.get(&format!("/sobjects/{object}/describe")).await;
    assert_eq!((status, &body["name"]), (200, &json!(object)));
    body["fields"].as_array().expect("fields").iter().find(|field| field["name"] == name).cloned()
}

#[tokio::test]
async fn a_key_is_described_as_it_was_made() {
    let crm = Crm::start().await;
    let loose = CustomField::text("Loose__c", 40).external_id();
    crm.salesforce.add_custom_field(SalesforceObject::Task, loose);

    let key = field(&crm, "Task", KEY).await.expect("the key");
    let loose = field(&crm, "Task", "Loose__c").await.expect("the other key");

    for (name, expected) in [
        ("type", json!("string")),
        ("length", json!(255)),
        ("externalId", json!(true)),
        ("unique", json!(true)),
        ("caseSensitive", json!(true)),
        ("createable", json!(true)),
        ("updateable", json!(true)),
        ("nillable", json!(true)),
        ("custom", json!(true)),
    ] {
        assert_eq!(key[name], expected, "{name}");
    }
    assert_eq!(
        (&loose["unique"], &loose["caseSensitive"], &loose["length"]),
        (&json!(false), &json!(false), &json!(40))
    );
    crm.assert_proper();
}

#[tokio::test]
async fn standard_fields_tell_their_values_and_limits() {
    let crm = Crm::start().await;

    let status = field(&crm, "Task", "Status").await.expect("the status");
    let completed = json!({ "active": true, "defaultValue": false, "label": "Completed", "value": "Completed" });
    assert!(status["picklistValues"].as_array().unwrap().contains(&completed), "{status}");
    assert_eq!((&status["nillable"], &status["defaultedOnCreate"]), (&json!(false), &json!(true)));
    let subtype = field(&crm, "Task", "TaskSubtype").await.expect("the subtype");
    assert_eq!((&subtype["createable"], &subtype["updateable"]), (&json!(true), &json!(false)));
    let who = field(&crm, "Task", "WhoId").await.expect("the person");
    assert_eq!((&who["referenceTo"], &who["relationshipName"]), (&json!(["Contact", "Lead"]), &json!("Who")));
    assert_eq!(field(&crm, "Task", "Description").await.expect("the text")["length"], 32_000);
    assert_eq!(field(&crm, "Contact", "LastName").await.expect("the name")["nillable"], false);

    crm.salesforce.set_picklist(SalesforceObject::Task, "Status", &["Offen", "Erledigt"]);
    let status = field(&crm, "Task", "Status").await.expect("the status");
    assert_eq!(status["picklistValues"].as_array().unwrap().len(), 2);
    assert_eq!(
        code(&crm.upsert("k", json!({ "Status": "Completed" })).await).1,
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
    );
    assert_eq!(crm.upsert("k", json!({ "Status": "Erledigt" })).await.0, 201);
}

#[tokio::test]
async fn rights_on_fields_show_in_the_describe_and_bind_the_writes() {
    let crm = Crm::start().await;
    crm.salesforce.make_field_read_only(SalesforceObject::Task, "Description", true);
    crm.salesforce.hide_field(SalesforceObject::Task, "CallObject", true);

    let description = field(&crm, "Task", "Description").await.expect("the text");
    assert_eq!((&description["createable"], &description["updateable"]), (&json!(false), &json!(false)));
    assert_eq!(field(&crm, "Task", "CallObject").await, None);
    let refused = crm.upsert("k", json!({ "Description": "Hello" })).await;
    assert_eq!(
        (code(&refused), &refused.1[0]["fields"]),
        ((400, "INVALID_FIELD_FOR_INSERT_UPDATE"), &json!(["Description"]))
    );
    assert_eq!(code(&crm.upsert("k", json!({ "CallObject": "a" })).await), (400, "INVALID_FIELD"));
    assert_eq!(code(&crm.query("SELECT CallObject FROM Task").await), (400, "INVALID_FIELD"));
    crm.salesforce.remove_field(SalesforceObject::Task, KEY);
    assert_eq!(field(&crm, "Task", KEY).await, None);
}

#[tokio::test]
async fn record_types_are_listed_and_checked() {
    let crm = Crm::start().await;
    let texts = crm.salesforce.add_record_type(SalesforceObject::Task, "Texts");
    let people = crm.salesforce.add_record_type(SalesforceObject::Contact, "People");

    let (_, body) = crm.get("/sobjects/Task/describe").await;
    assert_eq!(body["recordTypeInfos"].as_array().unwrap().len(), 1);
    assert_eq!(body["recordTypeInfos"][0]["recordTypeId"], texts);
    assert_eq!(crm.upsert("k", json!({ "RecordTypeId": texts })).await.0, 201);
    let wrong = crm.upsert("k", json!({ "RecordTypeId": people })).await;
    assert_eq!(code(&wrong), (400, "INVALID_CROSS_REFERENCE_KEY"));
    let (_, found) =
        crm.query("SELECT Id FROM RecordType WHERE SobjectType = 'Task' AND DeveloperName = 'Texts'").await;
    assert_eq!(super::ids(&found), [texts]);
}
