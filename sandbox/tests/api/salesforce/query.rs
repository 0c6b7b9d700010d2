//! Queries: what they find, at once, page by page, and how a wrong one is refused.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Crm, KEY, code, id, ids, message};
use crate::helpers::answer;

async fn found(crm: &Crm, condition: &str) -> Vec<String> {
    let (status, body) = crm.query(&format!("SELECT Id FROM Contact WHERE {condition}")).await;
    assert_eq!(status, 200, "{condition}: {body}");
    ids(&body)
}

#[tokio::test]
async fn a_query_finds_what_was_just_written() {
    let crm = Crm::with(|options| options.index_lag = std::time::Duration::from_secs(3_600)).await;
    let (_, created) = crm.post("/sobjects/Contact", &json!({ "LastName": "Doe", "Phone": "+14155550123" })).await;
    let sam = id(&created);

    let (status, body) =
        crm.query("SELECT Id, Phone, DoNotCall FROM Contact WHERE Phone = '+14155550123' LIMIT 3").await;

    let url = format!("/services/data/v67.0/sobjects/Contact/{sam}");
    let attributes = json!({ "type": "Contact", "url": url });
    let record = json!({ "attributes": attributes, "Id": sam, "Phone": "+14155550123", "DoNotCall": false });
    assert_eq!((status, body), (200, json!({ "totalSize": 1, "done": true, "records": [record] })));
    assert!(found(&crm, "Phone = '(415) 555-0123'").await.is_empty(), "the stored text counts");
    crm.assert_proper();
}

#[tokio::test]
async fn conditions_pick_records() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({
        "LastName": "O'Hara \\ Sons", "FirstName": "Sam", "Email": "sam@example.com", "DoNotCall": true, KEY: "AbC",
    }));
    let kim = crm.salesforce.add_contact(json!({ "LastName": "Kim", "FirstName": "Kim" }));
    let both = vec![sam.clone(), kim.clone()];
    for (condition, expected) in [
        ("LastName = 'O\\'Hara \\\\ Sons'", vec![sam.clone()]),
        ("LastName = 'kim'", vec![kim.clone()]),
        (&format!("{KEY} = 'AbC'"), vec![sam.clone()]),
        (&format!("{KEY} = 'abc'"), vec![]),
        ("Email = null", vec![kim.clone()]),
        ("Email != null", vec![sam.clone()]),
        ("Email != 'sam@example.com'", vec![kim.clone()]),
        ("DoNotCall = true", vec![sam.clone()]),
        ("DoNotCall = FALSE", vec![kim.clone()]),
        ("LastName LIKE 'k%'", vec![kim.clone()]),
        ("Email LIKE '%\\_example%'", vec![]),
        ("FirstName IN ('Sam', 'Kim')", both.clone()),
        ("FirstName NOT IN ('Sam')", vec![kim.clone()]),
        (&format!("Id IN ('{}', '{}')", &sam[..15], kim), both.clone()),
        ("(FirstName = 'Sam' OR FirstName = 'Kim') AND DoNotCall = false", vec![kim.clone()]),
        ("NOT (FirstName = 'Sam')", vec![kim.clone()]),
        ("FirstName = 'Sam' AND (NOT DoNotCall = true)", vec![]),
        ("CreatedDate > 2020-01-01T00:00:00Z", both.clone()),
        ("CreatedDate < 2020-01-01T00:00:00+01:00", vec![]),
        ("Owner.Name = 'Integration'", both.clone()),
        ("Name = 'Kim Kim'", vec![kim.clone()]),
    ] {
        assert_eq!(found(&crm, condition).await, expected, "{condition}");
    }
    crm.assert_proper();
}

#[tokio::test]
async fn records_come_in_the_order_asked_for() {
    let crm = Crm::start().await;
    for (name, title) in [("B", json!("x")), ("a", Value::Null), ("C", json!("y"))] {
        crm.salesforce.add_contact(json!({ "LastName": name, "Title": title }));
    }
    for (clauses, expected) in [
        ("ORDER BY LastName", vec!["a", "B", "C"]),
        ("ORDER BY LastName DESC LIMIT 2", vec!["C", "B"]),
        ("ORDER BY LastName ASC LIMIT 1 OFFSET 1", vec!["B"]),
        ("ORDER BY Title NULLS LAST, LastName", vec!["B", "C", "a"]),
        ("ORDER BY Title", vec!["a", "B", "C"]),
        ("", vec!["C", "a", "B"]),
    ] {
        let (_, body) = crm.query(&format!("SELECT LastName FROM Contact {clauses}")).await;
        let names: Vec<&str> =
            body["records"].as_array().unwrap().iter().map(|record| record["LastName"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{clauses}");
    }
    let (_, count) = crm.query("SELECT COUNT() FROM Contact WHERE Title != null").await;
    assert_eq!(count, json!({ "totalSize": 2, "done": true, "records": [] }));
}

#[tokio::test]
async fn a_reference_is_followed_where_there_is_one() {
    let crm = Crm::start().await;
    let sam = crm.salesforce.add_contact(json!({ "LastName": "Doe" }));
    crm.salesforce.add_task(json!({ "WhoId": sam, "Subject": "a" }));
    crm.salesforce.add_task(json!({ "Subject": "b" }));

    let (_, body) = crm.query("SELECT Subject, Owner.Email, Who.Name FROM Task ORDER BY Subject").await;

    assert_eq!(body["records"][0]["Owner"]["Email"], "integration@example.com");
    assert_eq!(body["records"][0]["Who"]["attributes"]["type"], "Contact");
    assert_eq!((&body["records"][0]["Who"]["Name"], &body["records"][1]["Who"]), (&json!("Doe"), &Value::Null));
    for field in ["Account.Name", "Nobody.Name", "Who.MobilePhone", "Owner.Missing"] {
        let refusal = crm.query(&format!("SELECT {field} FROM Task")).await;
        assert_eq!(code(&refusal), (400, "INVALID_FIELD"), "{field}");
    }
}

#[tokio::test]
async fn a_long_result_comes_in_pages() {
    let crm = Crm::with(|options| options.page_size = 2).await;
    let all: Vec<String> = (0..5).map(|_| crm.salesforce.add_contact(json!({ "LastName": "Doe" }))).collect();

    let (_, mut page) = crm.query("SELECT Id FROM Contact").await;
    let mut seen = ids(&page);
    while let Some(next) = page["nextRecordsUrl"].as_str().map(str::to_owned) {
        assert_eq!((&page["totalSize"], &page["done"]), (&json!(5), &json!(false)));
        page = answer(crm.bare(Method::GET, &next).bearer_auth(&crm.token)).await.1;
        assert!(page["records"].as_array().unwrap().len() <= 2);
        seen.extend(ids(&page));
    }

    assert_eq!(page["done"], json!(true));
    seen.sort();
    assert_eq!(seen, all);
    assert_eq!(code(&crm.get("/query/01gnonsense").await), (400, "INVALID_QUERY_LOCATOR"));
}

#[tokio::test]
async fn a_malformed_query_is_refused_with_its_place() {
    let crm = Crm::start().await;
    for statement in [
        "",
        "SELECT",
        "SELECT Id",
        "SELECT Id FROM Contact WHERE",
        "SELECT Id, FROM Contact",
        "SELECT * FROM Contact",
        "SELECT Id FROM Contact WHERE LastName = Doe",
        "SELECT Id FROM Contact WHERE LastName = 'O'Hara'",
        "SELECT Id FROM Contact WHERE LastName = 'Doe",
        "SELECT Id FROM Contact WHERE LastName = 'a\\q'",
        "SELECT Id FROM Contact WHERE LastName = 'a\nb'",
        "SELECT Id FROM Contact WHERE LastName = \"Doe\"",
        "SELECT Id FROM Contact WHERE LastName IS NULL",
        "SELECT Id FROM Contact WHERE LastName = 'a' AND LastName = 'b' OR LastName = 'c'",
        "SELECT Id FROM Contact WHERE LastName IN ()",
        "SELECT Id FROM Contact LIMIT x",
        "SELECT Id FROM Contact; DELETE",
    ] {
        assert_eq!(code(&crm.query(statement).await), (400, "MALFORMED_QUERY"), "{statement}");
    }
    let refusal = crm.query("SELECT Id FROM Contact WHERE LastName = Doe").await;
    let expected = "\nSELECT Id FROM Contact WHERE LastName = Doe\n                                        ^\n\
                    ERROR at Row:1:Column:41\nunexpected token: 'Doe'";
    assert_eq!(message(&refusal), expected);
    assert_eq!(code(&answer(crm.request(Method::GET, "/query/")).await), (400, "MALFORMED_QUERY"));
    assert_eq!(crm.violations().len(), 19);
}

#[tokio::test]
async fn a_query_that_the_org_cannot_answer_is_refused() {
    let crm = Crm::start().await;
    for (statement, expected) in [
        ("SELECT Missing__c FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Missing__c = 'a'", "INVALID_FIELD"),
        ("SELECT Id FROM Task WHERE Description = 'a'", "INVALID_FIELD"),
        ("SELECT Id FROM Task ORDER BY Description", "INVALID_FIELD"),
        ("SELECT Id, Id FROM Contact", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE DoNotCall = 'true'", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE LastName = 5", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE CreatedDate > '2020-01-01T00:00:00Z'", "INVALID_FIELD"),
        ("SELECT Id FROM Task WHERE ActivityDate = 2020-01-01T00:00:00Z", "INVALID_FIELD"),
        ("SELECT Id FROM Contact WHERE Id = 'nonsense'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Contact WHERE Id LIKE '003%'", "INVALID_QUERY_FILTER_OPERATOR"),
        ("SELECT Id FROM Account", "INVALID_TYPE"),
        ("SELECT Id FROM Contact OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE"),
    ] {
        assert_eq!(code(&crm.query(statement).await), (400, expected), "{statement}");
    }
    let unknown = crm.query("SELECT Missing__c FROM Contact").await;
    assert!(message(&unknown).contains("ERROR at Row:1:Column:8\nNo such column 'Missing__c' on entity 'Contact'."));
    crm.assert_proper();
}

#[tokio::test]
async fn an_address_has_an_end() {
    let crm = Crm::start().await;
    let long = format!("SELECT Id FROM Contact WHERE LastName = '{}'", "a".repeat(16_384));
    assert_eq!(code(&crm.query(&long).await), (414, "URI_TOO_LONG"));
}
