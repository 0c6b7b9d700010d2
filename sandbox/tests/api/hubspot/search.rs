//! Searches for contacts by phone, and the index that lags behind.

use std::slice::from_ref;
use std::time::Duration;

use hookline_sandbox::HubSpotObject;
use serde_json::{Value, json};

use super::{Crm, id, ids};

const PATH: &str = "/crm/objects/2026-09/contacts/search";

fn filter(property: &str, operator: &str, value: &str) -> Value {
    json!({ "propertyName": property, "operator": operator, "value": value })
}

/// A group for each filter, so that any of them suffices.
fn any(filters: &[Value]) -> Value {
    json!({ "filterGroups": filters.iter().map(|filter| json!({ "filters": [filter] })).collect::<Vec<_>>() })
}

async fn found(crm: &Crm, filters: &[Value]) -> Vec<String> {
    let (status, body) = crm.post(PATH, &any(filters)).await;
    assert_eq!(status, 200, "{body}");
    ids(&body)
}

/// Starts a stand-in that allows any number of searches.
async fn start() -> Crm {
    Crm::with(|options| options.search_limit = (1_000, Duration::from_secs(1))).await
}

#[tokio::test]
async fn a_phone_is_found_by_its_national_digits_however_it_was_typed() {
    let crm = start().await;
    let sam = crm.hubspot.add_contact(&[("phone", "(415) 555-0123")]);
    let kim = crm.hubspot.add_contact(&[("mobilephone", "+1 415 555 0123")]);
    let london = crm.hubspot.add_contact(&[("phone", "+442079460958")]);

    let searchable = ["hs_searchable_calculated_phone_number", "hs_searchable_calculated_mobile_number"];
    let by = |value: &str| searchable.map(|property| filter(property, "EQ", value));
    assert_eq!(found(&crm, &by("4155550123")).await, [sam.clone(), kim.clone()]);
    assert_eq!(found(&crm, &by("2079460958")).await, [london]);
    for with_country in ["+14155550123", "14155550123"] {
        assert_eq!(found(&crm, &by(with_country)).await, Vec::<String>::new(), "{with_country}");
    }
    assert_eq!(found(&crm, &[filter("phone", "EQ", "+14155550123")]).await, Vec::<String>::new(), "as it was typed");
    assert_eq!(found(&crm, &[filter("phone", "EQ", "(415) 555-0123")]).await, [sam]);
    assert_eq!(found(&crm, &[filter("mobilephone", "CONTAINS_TOKEN", "*0123")]).await, [kim]);
    crm.assert_proper();
}

#[tokio::test]
async fn numbers_of_two_countries_collide_without_their_country_code() {
    let crm = start().await;
    crm.hubspot.add_contact(&[("phone", "+12079460958")]);
    crm.hubspot.add_contact(&[("phone", "+442079460958")]);

    let both = found(&crm, &[filter("hs_searchable_calculated_phone_number", "EQ", "2079460958")]).await;

    assert_eq!(both.len(), 2);
}

#[tokio::test]
async fn filters_of_a_group_must_all_hold_and_any_property_may_be_asked() {
    let crm = start().await;
    crm.hubspot.add_property(HubSpotObject::Contact, "textus_contact_id", true);
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe"), ("textus_contact_id", "c1")]);
    let kim = crm.hubspot.add_contact(&[("lastname", "Doe")]);

    let both = json!([filter("lastname", "EQ", "doe"), filter("textus_contact_id", "EQ", "c1")]);
    let (_, body) = crm.post(PATH, &json!({ "filterGroups": [{ "filters": both }], "properties": ["lastname"] })).await;
    assert_eq!((ids(&body), &body["total"]), (vec![sam.clone()], &json!(1)));
    assert_eq!(body["results"][0]["properties"]["lastname"], "Doe");
    let has = json!({ "propertyName": "textus_contact_id", "operator": "HAS_PROPERTY" });
    assert_eq!(found(&crm, &[has]).await, [sam]);
    let has_not = json!({ "propertyName": "textus_contact_id", "operator": "NOT_HAS_PROPERTY" });
    assert_eq!(found(&crm, &[has_not]).await, [kim]);
    let (status, _) = crm.post(PATH, &any(&[filter("absent", "EQ", "1")])).await;
    assert_eq!(status, 400);
    crm.assert_proper();
}

#[tokio::test]
async fn a_search_has_limits_of_form() {
    let crm = start().await;
    let one = filter("lastname", "EQ", "Doe");
    let groups = |count: usize, size: usize| {
        let group = json!({ "filters": vec![one.clone(); size] });
        json!({ "filterGroups": vec![group; count] })
    };
    for (body, expected) in [
        (groups(5, 3), 200),
        (groups(3, 6), 200),
        (groups(6, 1), 400),
        (groups(1, 7), 400),
        (groups(4, 5), 400),
        (groups(0, 0), 400),
        (groups(1, 0), 400),
        (json!({ "filterGroups": [{ "filters": [one] }], "limit": 201 }), 400),
        (json!({ "filterGroups": [{ "filters": [one] }], "limit": 200, "sorts": [] }), 200),
        (json!({ "filterGroups": [{ "filters": [one] }], "after": "10" }), 400),
        (json!({ "filterGroups": [{ "filters": [filter("lastname", "LIKE", "Doe")] }] }), 400),
        (any(&[filter("lastname", "EQ", &"x".repeat(3_000))]), 400),
    ] {
        let (status, answered) = crm.post(PATH, &body).await;
        assert_eq!(status, expected, "{body} {answered}");
    }
    assert_eq!(crm.violations().len(), 9);
}

#[tokio::test]
async fn results_come_in_pages() {
    let crm = start().await;
    let all: Vec<String> = (0..5).map(|_| crm.hubspot.add_contact(&[("lastname", "Doe")])).collect();
    let mut body = any(&[filter("lastname", "EQ", "Doe")]);
    body["limit"] = json!(2);

    let mut seen = Vec::new();
    loop {
        let (_, page) = crm.post(PATH, &body).await;
        assert_eq!(page["total"], json!(5));
        seen.extend(ids(&page));
        let Some(after) = page["paging"]["next"]["after"].as_str() else { break };
        body["after"] = json!(after);
    }

    assert_eq!(seen, all);
    crm.assert_proper();
}

#[tokio::test]
async fn the_index_lags_behind_creates_and_changes() {
    let crm = start().await;
    let lag = |time| crm.hubspot.configure(|options| options.index_lag = time);
    lag(Duration::from_secs(3_600));
    let seeded = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let (_, created) = crm.create("contacts", json!({ "lastname": "Doe", "email": "sam@example.com" })).await;
    let by_name = [filter("lastname", "EQ", "Doe")];

    assert_eq!(found(&crm, &by_name).await, from_ref(&seeded), "what a test adds is in the index");
    assert_eq!(crm.get(&format!("/crm/v3/objects/contacts/{}", id(&created))).await.0, 200);
    assert_eq!(crm.get("/crm/v3/objects/contacts/sam@example.com?idProperty=email").await.0, 200);
    assert_eq!(crm.patch(&format!("/crm/v3/objects/contacts/{seeded}"), json!({ "city": "Rome" })).await.0, 200);
    assert_eq!(found(&crm, &by_name).await, Vec::<String>::new());

    lag(Duration::ZERO);
    assert_eq!(found(&crm, &by_name).await, [seeded, id(&created)]);
    crm.assert_proper();
}
