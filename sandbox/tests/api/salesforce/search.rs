//! Searches: blind to how a number is typed, and behind by the index's lag.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{Crm, code, id, ids};
use crate::helpers::answer;

const BOTH: &str = "FIND {4155550123} IN PHONE FIELDS RETURNING \
                    Contact(Id, Phone, MobilePhone), Lead(Id, Phone WHERE IsConverted = false)";

#[tokio::test]
async fn ten_digits_find_a_number_however_it_was_typed() {
    let crm = Crm::start().await;
    let mut expected = Vec::new();
    for (field, number) in
        [("Phone", "(415) 555-0123"), ("MobilePhone", "+1 415.555.0123"), ("OtherPhone", "4155550123 x12")]
    {
        expected.push(crm.salesforce.add_contact(json!({ "LastName": "Doe", field: number })));
    }
    crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "555-0123", "Title": "4155550123" }));
    let lee = crm.salesforce.add_lead(json!({ "LastName": "Lee", "Company": "Acme", "Phone": "415 555 0123" }));
    let gone = crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "4155550123" }));
    crm.salesforce.delete(&gone);
    expected.push(lee.clone());

    let (status, body) = crm.search(BOTH).await;

    assert_eq!((status, ids(&body)), (200, expected));
    let types: Vec<_> =
        body["searchRecords"].as_array().unwrap().iter().map(|one| one["attributes"]["type"].clone()).collect();
    assert_eq!(types, ["Contact", "Contact", "Contact", "Lead"]);
    crm.salesforce.convert_lead(&lee);
    let leads = crm.search("FIND {4155550123} IN PHONE FIELDS RETURNING Lead(Id WHERE IsConverted=false)").await.1;
    assert!(ids(&leads).is_empty());
    let leads = crm.search("FIND {4155550123} IN PHONE FIELDS RETURNING Lead(Id)").await.1;
    assert_eq!(ids(&leads), [lee], "a search finds converted leads as well");
    crm.assert_proper();
}

#[tokio::test]
async fn a_search_finds_a_write_only_after_the_lag() {
    let crm = Crm::with(|options| options.index_lag = Duration::from_secs(3_600)).await;
    let (_, created) = crm.post("/sobjects/Contact", &json!({ "LastName": "Doe", "Phone": "4155550123" })).await;

    assert!(ids(&crm.search(BOTH).await.1).is_empty());
    assert_eq!(ids(&crm.query("SELECT Id FROM Contact").await.1), [id(&created)]);

    crm.salesforce.configure(|options| options.index_lag = Duration::ZERO);
    assert_eq!(ids(&crm.search(BOTH).await.1), [id(&created)]);
}

#[tokio::test]
async fn a_search_goes_by_the_former_number_until_the_lag_is_over() {
    let crm = Crm::with(|options| options.index_lag = Duration::from_secs(3_600)).await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "4155550123" }));
    let path = format!("/sobjects/Contact/{sam}");
    assert_eq!(crm.patch(&path, json!({ "Phone": "4155550198" })).await.0, 204);
    assert_eq!(crm.patch(&path, json!({ "Phone": "4155550199" })).await.0, 204);
    let by = async |number: &str| {
        crm.search(&format!("FIND {{{number}}} IN PHONE FIELDS RETURNING Contact(Id, Phone)")).await.1
    };

    let former = by("4155550123").await;

    assert_eq!((ids(&former), &former["searchRecords"][0]["Phone"]), (vec![sam.clone()], &json!("4155550199")));
    assert!(ids(&by("4155550199").await).is_empty() && ids(&by("4155550198").await).is_empty());
    crm.salesforce.configure(|options| options.index_lag = Duration::ZERO);
    assert_eq!((ids(&by("4155550199").await), ids(&by("4155550123").await)), (vec![sam], vec![]));
}

#[tokio::test]
async fn rows_are_limited_per_object_and_in_all() {
    let crm = Crm::start().await;
    for _ in 0..3 {
        crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "4155550123" }));
        crm.salesforce.add_lead(json!({ "LastName": "Doe", "Company": "Acme", "Phone": "4155550123" }));
    }
    for (returning, expected) in [
        ("Contact(Id LIMIT 2), Lead(Id)", 5),
        ("Contact(Id LIMIT 2), Lead(Id) LIMIT 4", 4),
        ("Contact(Id ORDER BY LastName DESC LIMIT 1)", 1),
        ("Contact, Lead", 6),
    ] {
        let (_, body) = crm.search(&format!("FIND {{4155550123}} IN PHONE FIELDS RETURNING {returning}")).await;
        assert_eq!(ids(&body).len(), expected, "{returning}");
    }
}

#[tokio::test]
async fn words_are_found_in_their_fields() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe", "FirstName": "Sam", "Email": "sam@example.com" }));
    crm.salesforce.add_contact(json!({ "LastName": "Lee", "Title": "Doe" }));

    for (statement, expected) in [
        ("FIND {sam doe} IN NAME FIELDS RETURNING Contact", 1),
        ("find {Doe} returning contact(id)", 2),
        ("FIND {sam@example.com} IN EMAIL FIELDS RETURNING Contact", 1),
        ("FIND {sam\\-doe} IN NAME FIELDS RETURNING Contact", 1),
    ] {
        assert_eq!(ids(&crm.search(statement).await.1).len(), expected, "{statement}");
    }
    assert_eq!(ids(&crm.search("FIND {sam} IN NAME FIELDS RETURNING Contact").await.1), [sam]);
    crm.assert_proper();
}

#[tokio::test]
async fn a_malformed_search_is_refused() {
    let crm = Crm::start().await;
    for statement in [
        "",
        "FIND 4155550123 RETURNING Contact",
        "FIND {4155550123",
        "FIND {4155550123}",
        "FIND {+14155550123} IN PHONE FIELDS RETURNING Contact",
        "FIND {(415) 555-0123} IN PHONE FIELDS RETURNING Contact",
        "FIND {4} IN PHONE FIELDS RETURNING Contact",
        "FIND {} IN PHONE FIELDS RETURNING Contact",
        "FIND {4155550123} IN FAX FIELDS RETURNING Contact",
        "FIND {4155550123} IN PHONE FIELDS RETURNING Contact(Id",
        "FIND {4155550123} IN PHONE FIELDS RETURNING Contact(SELECT Id)",
    ] {
        assert_eq!(code(&crm.search(statement).await), (400, "MALFORMED_SEARCH"), "{statement}");
    }
    assert_eq!(crm.violations().len(), 11);
    for (statement, expected) in [
        ("FIND {4155550123} RETURNING Contact(Missing__c)", "INVALID_FIELD"),
        ("FIND {4155550123} RETURNING Account(Id)", "INVALID_TYPE"),
    ] {
        assert_eq!(code(&crm.search(statement).await), (400, expected));
    }
    assert_eq!(crm.violations().len(), 11);
}

#[tokio::test]
async fn a_search_with_parameters_needs_no_escapes() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe", "Phone": "(415) 555-0123" }));
    let lee = crm.salesforce.add_lead(json!({ "LastName": "Lee", "Company": "Acme", "Phone": "415 555 0123" }));
    crm.salesforce.add_lead(json!({ "LastName": "Kim", "Company": "Acme", "Phone": "415 555 0123" }));
    let parameters = [
        ("q", "(415) 555-0123"),
        ("in", "PHONE"),
        ("sobject", "Contact"),
        ("Contact.fields", "Id,Phone"),
        ("sobject", "Lead"),
        ("Lead.fields", "Id"),
        ("Lead.where", "LastName = 'Lee'"),
    ];

    let (status, body) = answer(crm.request(Method::GET, "/parameterizedSearch/").query(&parameters)).await;

    assert_eq!((status, ids(&body)), (200, vec![sam, lee]));
    assert_eq!(body["searchRecords"][0]["Phone"], "(415) 555-0123");
    crm.assert_proper();
    assert_eq!(crm.get("/parameterizedSearch/?q=4155550123").await.0, 400);
}
