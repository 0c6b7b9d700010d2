//! Several upserts or requests in one call, of which some may fail.

use serde_json::{Value, json};

use super::{Crm, KEY, code, id};

fn record(key: &str, fields: Value) -> Value {
    let mut record = json!({ "attributes": { "type": "Task" }, KEY: key });
    for (name, value) in fields.as_object().expect("an object") {
        record[name] = value.clone();
    }
    record
}

async fn upsert(crm: &Crm, all_or_none: bool, records: Vec<Value>) -> (u16, Value) {
    let body = json!({ "allOrNone": all_or_none, "records": records });
    crm.patch(&format!("/composite/sobjects/Task/{KEY}"), body).await
}

#[tokio::test]
async fn each_record_of_a_collection_succeeds_or_fails_by_itself() {
    let crm = Crm::start().await;
    let (_, old) = crm.upsert("old", json!({})).await;
    let records = vec![
        record("old", json!({ "Subject": "a" })),
        record("new", json!({ "Subject": "b" })),
        record("bad", json!({ "Status": "Done" })),
    ];

    let (status, results) = upsert(&crm, false, records).await;

    assert_eq!(status, 200);
    assert_eq!(results[0], json!({ "id": id(&old), "success": true, "errors": [], "created": false }));
    assert_eq!((&results[1]["success"], &results[1]["created"]), (&json!(true), &json!(true)));
    assert_eq!(results[2]["success"], false);
    assert_eq!(results[2]["errors"][0]["statusCode"], "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST");
    assert_eq!(results[2]["errors"][0]["fields"], json!(["Status"]));
    let subjects: Vec<String> = crm.salesforce.tasks().iter().map(|task| task.get("Subject").to_owned()).collect();
    assert_eq!(subjects, ["a", "b"]);
    crm.assert_proper();
}

#[tokio::test]
async fn a_race_fails_one_record_and_the_repeat_updates_it() {
    let crm = Crm::start().await;
    crm.salesforce.lose_races(1);
    let records = || ["a", "b"].map(|key| record(key, json!({ "Description": key }))).to_vec();

    let (_, first) = upsert(&crm, false, records()).await;
    let (_, second) = upsert(&crm, false, records()).await;

    assert_eq!(first[0]["errors"][0]["statusCode"], "DUPLICATE_VALUE");
    assert_eq!(
        (&first[1]["created"], &second[0]["created"], &second[1]["created"]),
        (&json!(true), &json!(false), &json!(false))
    );
    assert!(crm.salesforce.tasks().iter().all(|task| task.get("Description") == task.get(KEY)));
}

#[tokio::test]
async fn all_or_none_takes_everything_back() {
    let crm = Crm::start().await;
    crm.upsert("old", json!({ "Subject": "before" })).await;
    let bad = || {
        vec![
            record("old", json!({ "Subject": "a" })),
            record("new", json!({})),
            record("bad", json!({ "Status": "Done" })),
        ]
    };

    let (status, results) = upsert(&crm, true, bad()).await;

    assert_eq!((status, &results[0]["errors"][0]["statusCode"]), (200, &json!("ALL_OR_NONE_OPERATION_ROLLED_BACK")));
    assert_eq!((crm.salesforce.tasks().len(), crm.salesforce.tasks()[0].get("Subject")), (1, "before"));
    assert_eq!(crm.get(&format!("/sobjects/Task/{KEY}/new")).await.0, 404);
    assert_eq!(crm.upsert("new", json!({})).await.0, 201);
}

#[tokio::test]
async fn a_collection_is_checked() {
    let crm = Crm::start().await;

    let twice = upsert(&crm, false, vec![record("k", json!({})), record("k", json!({}))]).await;
    assert_eq!(
        (&twice.1[0]["success"], &twice.1[1]["errors"][0]["statusCode"]),
        (&json!(true), &json!("DUPLICATE_VALUE"))
    );
    let untyped = upsert(&crm, false, vec![json!({ KEY: "a" })]).await;
    assert_eq!(untyped.1[0]["errors"][0]["statusCode"], "INVALID_TYPE");
    let keyless = upsert(&crm, false, vec![json!({ "attributes": { "type": "Task" } })]).await;
    assert_eq!(keyless.1[0]["errors"][0]["statusCode"], "MISSING_ARGUMENT");
    for count in [0, 201] {
        let records = (0..count).map(|number| record(&number.to_string(), json!({}))).collect();
        assert_eq!(code(&upsert(&crm, false, records).await), (400, "JSON_PARSER_ERROR"), "{count}");
    }
    let unknown = crm.patch("/composite/sobjects/Task/Missing__c", json!({ "records": [{}] })).await;
    assert_eq!(code(&unknown), (404, "NOT_FOUND"));
    assert_eq!((crm.violations().len(), crm.salesforce.tasks().len()), (5, 1));
}

#[tokio::test]
async fn a_batch_carries_its_parts_out_one_after_the_other() {
    let crm = Crm::start().await;
    let upsert = |key: &str, status: &str| {
        let url = format!("v67.0/sobjects/Task/{KEY}/{key}");
        json!({ "method": "PATCH", "url": url, "richInput": { "Status": status } })
    };
    let count = json!({ "method": "GET", "url": "v67.0/query/?q=SELECT+COUNT()+FROM+Task" });
    let parts = json!([upsert("a", "Completed"), upsert("b", "Done"), count, upsert("c", "Completed")]);

    let (status, body) = crm.post("/composite/batch", &json!({ "batchRequests": parts })).await;

    assert_eq!((status, &body["hasErrors"]), (200, &json!(true)));
    let statuses: Vec<_> = body["results"].as_array().unwrap().iter().map(|part| part["statusCode"].clone()).collect();
    assert_eq!(statuses, [201, 400, 200, 201]);
    assert_eq!(body["results"][2]["result"]["totalSize"], 1);
    assert_eq!(body["results"][1]["result"][0]["errorCode"], "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST");

    let halting = json!({ "haltOnError": true, "batchRequests": [upsert("d", "Done"), upsert("e", "Completed")] });
    let (_, body) = crm.post("/composite/batch", &halting).await;
    assert_eq!(body["results"][1]["statusCode"], 412);
    assert_eq!(crm.salesforce.tasks().len(), 2);
    crm.assert_proper();
    let none = crm.post("/composite/batch", &json!({ "batchRequests": [{ "method": "GET" }] })).await;
    assert_eq!(code(&none), (400, "JSON_PARSER_ERROR"));
}
