//! People that others merge, convert, change and delete meanwhile.

use hookline_sandbox::salesforce::DeletedIds;
use serde_json::json;

use super::{Crm, KEY, a_task, code, ids};

#[tokio::test]
async fn a_merge_moves_the_tasks_and_ends_the_losers_id() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "4155550123", KEY: "a" }));
    let twin = crm.salesforce.add_contact(json!({ "LastName": "Dough", "MobilePhone": "4155550199", KEY: "b" }));
    assert_eq!(crm.upsert("thread-1", a_task(&twin)).await.0, 201);

    crm.salesforce.merge(&sam, &twin);

    let contacts = crm.salesforce.contacts();
    assert_eq!((contacts.len(), contacts[0].get("LastName"), contacts[0].get(KEY)), (1, "Doe", "a"));
    assert_eq!(contacts[0].get("MobilePhone"), "4155550199");
    assert_eq!(crm.salesforce.tasks()[0].who(), sam);
    assert_eq!(code(&crm.get(&format!("/sobjects/Contact/{twin}")).await), (404, "ENTITY_IS_DELETED"));
    assert_eq!(code(&crm.upsert("thread-1", a_task(&twin)).await), (400, "ENTITY_IS_DELETED"));
    assert_eq!(code(&crm.upsert("thread-2", a_task(&twin)).await), (400, "ENTITY_IS_DELETED"));
    crm.salesforce.configure(|options| options.deleted_ids = DeletedIds::NotFound);
    assert_eq!(code(&crm.upsert("thread-1", a_task(&twin)).await), (400, "INVALID_CROSS_REFERENCE_KEY"));
    assert_eq!(crm.upsert("thread-1", a_task(&sam)).await.0, 200);
    crm.assert_proper();
}

#[tokio::test]
async fn query_all_shows_who_the_master_is() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
    let twin = crm.salesforce.add_contact(json!({ "LastName": "Dough" }));
    crm.salesforce.merge(&sam, &twin);
    let statement = format!("SELECT Id, IsDeleted, MasterRecordId FROM Contact WHERE Id = '{}'", &twin[..15]);

    let (_, hidden) = crm.query(&statement).await;
    let (status, all) = crm.query_all(&statement).await;

    assert_eq!((ids(&hidden).len(), status, ids(&all)), (0, 200, vec![twin]));
    assert_eq!((&all["records"][0]["IsDeleted"], &all["records"][0]["MasterRecordId"]), (&json!(true), &json!(sam)));
}

#[tokio::test]
async fn a_deleted_person_takes_the_tasks_along_and_a_purged_one_is_forgotten() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
    assert_eq!(crm.upsert("thread-1", a_task(&sam)).await.0, 201);

    crm.salesforce.delete(&sam);

    assert!(crm.salesforce.contacts().is_empty() && crm.salesforce.tasks().is_empty());
    assert_eq!(code(&crm.upsert("thread-1", a_task(&sam)).await), (400, "ENTITY_IS_DELETED"));
    crm.salesforce.purge(&sam);
    assert_eq!(code(&crm.upsert("thread-1", a_task(&sam)).await), (400, "INVALID_CROSS_REFERENCE_KEY"));
    assert_eq!(code(&crm.get(&format!("/sobjects/Contact/{sam}")).await), (404, "NOT_FOUND"));
    let statement = format!("SELECT Id FROM Contact WHERE Id = '{sam}'");
    assert!(ids(&crm.query_all(&statement).await.1).is_empty());
}

#[tokio::test]
async fn a_converted_lead_is_a_contact_from_then_on() {
    let crm = Crm::start().await;
    let lee = crm.salesforce.add_lead(json!({ "LastName": "Lee", "Company": "Acme", "Phone": "4155550123", KEY: "a" }));
    assert_eq!(crm.upsert("thread-1", a_task(&lee)).await.0, 201);

    let contact = crm.salesforce.convert_lead(&lee);

    assert_eq!(crm.salesforce.tasks()[0].who(), contact);
    let contacts = crm.salesforce.contacts();
    assert_eq!(
        (contacts[0].get("LastName"), contacts[0].get("Phone"), contacts[0].get(KEY)),
        ("Lee", "4155550123", "")
    );
    assert_eq!(code(&crm.upsert("thread-2", a_task(&lee)).await), (400, "CANNOT_UPDATE_CONVERTED_LEAD"));
    let path = format!("/sobjects/Lead/{lee}");
    assert_eq!(code(&crm.patch(&path, json!({ "FirstName": "Bruce" })).await), (400, "CANNOT_UPDATE_CONVERTED_LEAD"));
    let (_, read) = crm.get(&format!("{path}?fields=IsConverted,ConvertedContactId")).await;
    assert_eq!((&read["IsConverted"], &read["ConvertedContactId"]), (&json!(true), &json!(contact)));
}

#[tokio::test]
async fn a_record_that_is_changed_by_hand_is_found_at_once() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "4155550123" }));

    crm.salesforce.change(&sam, json!({ "Phone": "4155550199", "DoNotCall": true }));

    let seen = &crm.salesforce.contacts()[0];
    assert_eq!((seen.get("Phone"), seen.is_checked("DoNotCall")), ("4155550199", true));
    let (_, found) = crm.search("FIND {4155550199} IN PHONE FIELDS RETURNING Contact").await;
    assert_eq!(ids(&found), [sam]);
}
