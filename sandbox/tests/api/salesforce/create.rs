//! What a record may hold, and what the stand-in refuses of it.

use hookline_sandbox::salesforce::{CustomField, SalesforceObject};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Crm, KEY, a_task, code, id, message};
use crate::helpers::answer;

async fn create(crm: &Crm, object: &str, fields: Value) -> (u16, Value) {
    crm.post(&format!("/sobjects/{object}"), &fields).await
}

#[tokio::test]
async fn a_task_is_created_on_its_persons_timeline_in_one_call() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
    let lee = crm.salesforce.add_lead(json!({ "LastName": "Lee", "Company": "Acme" }));

    for who in [&sam, &lee, &sam[..15].to_owned()] {
        let (status, created) = create(&crm, "Task", a_task(who)).await;

        assert_eq!((status, &created), (201, &json!({ "id": id(&created), "success": true, "errors": [] })));
        assert!(id(&created).starts_with("00T") && id(&created).len() == 18);
    }
    let whos: Vec<String> = crm.salesforce.tasks().iter().map(|task| task.who().to_owned()).collect();
    assert_eq!(whos, [sam.clone(), lee, sam]);
    crm.assert_proper();
}

#[tokio::test]
async fn values_that_a_field_does_not_take_are_refused() {
    let crm = Crm::start().await;
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::date_time("At__c"));
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::checkbox("Flag__c"));
    for (fields, expected) in [
        (json!({ "Nonsense": 1 }), "INVALID_FIELD"),
        (json!({ "Missing__c": "a" }), "INVALID_FIELD"),
        (json!({ "IsClosed": true }), "INVALID_FIELD_FOR_INSERT_UPDATE"),
        (json!({ "CreatedDate": "2026-11-02T15:04:05Z" }), "INVALID_FIELD_FOR_INSERT_UPDATE"),
        (json!({ "Subject": "a".repeat(256) }), "STRING_TOO_LONG"),
        (json!({ "Subject": "😀".repeat(128) }), "STRING_TOO_LONG"),
        (json!({ "Description": "a".repeat(32_001) }), "STRING_TOO_LONG"),
        (json!({ "Status": "Done" }), "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"),
        (json!({ "Status": null }), "REQUIRED_FIELD_MISSING"),
        (json!({ "ActivityDate": "2026-11-02T15:04:05Z" }), "JSON_PARSER_ERROR"),
        (json!({ "ActivityDate": "2026-02-30" }), "JSON_PARSER_ERROR"),
        (json!({ "At__c": "2026-11-02" }), "JSON_PARSER_ERROR"),
        (json!({ "At__c": "2026-11-02T15:04:05" }), "JSON_PARSER_ERROR"),
        (json!({ "Subject": 5 }), "JSON_PARSER_ERROR"),
        (json!({ "Flag__c": "true" }), "JSON_PARSER_ERROR"),
        (json!({ "Flag__c": null }), "INVALID_TYPE_ON_FIELD_IN_RECORD"),
        (json!({ "WhoId": "nobody" }), "MALFORMED_ID"),
        (json!({ "WhoId": crm.salesforce.run_as_user() }), "MALFORMED_ID"),
        (json!({ "WhoId": "0035e0000zzzzzzAAA" }), "INVALID_CROSS_REFERENCE_KEY"),
        (json!({ "OwnerId": "0055e0000zzzzzzAAA" }), "INVALID_CROSS_REFERENCE_KEY"),
    ] {
        let refusal = create(&crm, "Task", fields.clone()).await;
        assert_eq!(code(&refusal), (400, expected), "{fields}");
    }
    assert!(crm.salesforce.tasks().is_empty());
    let unknown = create(&crm, "Task", json!({ "Missing__c": "a" })).await;
    assert_eq!(message(&unknown), "No such column 'Missing__c' on sobject of type Task");
}

#[tokio::test]
async fn values_are_stored_in_the_vendors_form() {
    let crm = Crm::start().await;
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::date_time("At__c"));
    crm.salesforce.add_custom_field(SalesforceObject::Task, CustomField::checkbox("Flag__c"));

    for time in [
        "2026-11-02T15:04:05Z",
        "2026-11-02T15:04:05.987Z",
        "2026-11-02T16:04:05+01:00",
        "2026-11-02T15:04:05.000+0000",
    ] {
        let fields = json!({ "subject": "  Hello ", "At__c": time, "Description": "", "ActivityDate": "2026-11-02" });
        let (status, created) = create(&crm, "Task", fields).await;
        assert_eq!(status, 201, "{created}");

        let (_, read) = crm.get(&format!("/sobjects/Task/{}", id(&created))).await;

        assert_eq!((&read["Subject"], &read["Description"]), (&json!("Hello"), &Value::Null));
        assert_eq!((&read["At__c"], &read["Flag__c"]), (&json!("2026-11-02T15:04:05.000+0000"), &json!(false)));
        assert_eq!((&read["ActivityDate"], &read["Status"]), (&json!("2026-11-02"), &json!("Not Started")));
    }
    assert_eq!(
        create(&crm, "Task", json!({ "Subject": "a".repeat(255), "Description": "ä".repeat(32_000) })).await.0,
        201
    );
    crm.assert_proper();
}

#[tokio::test]
async fn people_need_a_name_and_leads_a_company() {
    let crm = Crm::start().await;
    for (object, fields, missing) in [
        ("Contact", json!({ "FirstName": "Sam" }), json!(["LastName"])),
        ("Contact", json!({ "LastName": " " }), json!(["LastName"])),
        ("Lead", json!({}), json!(["LastName", "Company"])),
    ] {
        let refusal = create(&crm, object, fields).await;
        assert_eq!((code(&refusal), &refusal.1[0]["fields"]), ((400, "REQUIRED_FIELD_MISSING"), &missing));
    }
    for (fields, expected) in [
        (json!({ "LastName": "Doe", "Phone": "1".repeat(41) }), "STRING_TOO_LONG"),
        (json!({ "LastName": "Doe", "Email": "sam" }), "INVALID_EMAIL_ADDRESS"),
        (json!({ "LastName": "Doe", "Name": "Sam" }), "INVALID_FIELD_FOR_INSERT_UPDATE"),
    ] {
        assert_eq!(code(&create(&crm, "Contact", fields).await), (400, expected));
    }
    assert_eq!(create(&crm, "Contact", json!({ "LastName": "Doe", "Phone": "(415) 555-0123" })).await.0, 201);
}

#[tokio::test]
async fn an_owner_is_an_active_user() {
    let crm = Crm::start().await;
    let ann = crm.salesforce.add_user(json!({ "LastName": "Ann", "Email": "ann@example.com" }));
    let bob = crm.salesforce.add_user(json!({ "LastName": "Bob", "IsActive": false }));

    assert_eq!(create(&crm, "Task", json!({ "OwnerId": ann })).await.0, 201);
    assert_eq!(code(&create(&crm, "Task", json!({ "OwnerId": bob })).await), (400, "INACTIVE_OWNER_OR_USER"));
    assert_eq!(crm.salesforce.tasks()[0].get("OwnerId"), ann);
    assert_eq!(
        code(&create(&crm, "User", json!({ "LastName": "Cy" })).await),
        (403, "INSUFFICIENT_ACCESS_OR_READONLY")
    );
}

#[tokio::test]
async fn a_unique_value_is_taken_once() {
    let crm = Crm::start().await;
    let (_, first) = create(&crm, "Task", json!({ KEY: "k" })).await;

    let taken = create(&crm, "Task", json!({ KEY: "k" })).await;

    assert_eq!(code(&taken), (400, "DUPLICATE_VALUE"));
    let expected = format!("duplicate value found: {KEY} duplicates value on record with id: {}", id(&first));
    assert_eq!(message(&taken), expected);
    assert_eq!(create(&crm, "Task", json!({})).await.0, 201);
    assert_eq!(create(&crm, "Task", json!({})).await.0, 201, "no value is not a value");
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_answers_nothing() {
    let crm = Crm::start().await;
    let (_, created) =
        create(&crm, "Task", json!({ "Subject": "Text", "Description": "Hello", "TaskSubtype": "Task" })).await;
    let path = format!("/sobjects/Task/{}", id(&created));

    assert_eq!(crm.patch(&path, json!({ "Subject": null, "Status": "Completed" })).await, (204, Value::Null));

    let task = &crm.salesforce.tasks()[0];
    assert_eq!((task.get("Subject"), task.get("Status"), task.get("Description")), ("", "Completed", "Hello"));
    let subtype = crm.patch(&path, json!({ "TaskSubtype": "Call" })).await;
    assert_eq!(code(&subtype), (400, "INVALID_FIELD_FOR_INSERT_UPDATE"));
    crm.salesforce.configure(|options| options.task_subtype_updateable = true);
    assert_eq!(crm.patch(&path, json!({ "TaskSubtype": "Call" })).await.0, 204);
    crm.assert_proper();
}

#[tokio::test]
async fn a_body_is_json() {
    let crm = Crm::start().await;
    let request = || crm.request(Method::POST, "/sobjects/Task");

    assert_eq!(code(&answer(request().body("{}")).await), (415, "UNSUPPORTED_MEDIA_TYPE"));
    for body in ["", "{", "[]", "{\"Subject\": \"\u{0}\"}"] {
        let request = request().header("Content-Type", "application/json").body(body);
        assert_eq!(code(&answer(request).await), (400, "JSON_PARSER_ERROR"), "{body}");
    }
    assert_eq!(code(&answer(crm.request(Method::PUT, "/sobjects/Task")).await), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(code(&crm.get("/sobjects/Task/a/b/c").await), (404, "NOT_FOUND"));
    assert_eq!(crm.violations().len(), 7);
    assert_eq!(code(&crm.get("/sobjects/Case/describe").await), (404, "NOT_FOUND"));
}
