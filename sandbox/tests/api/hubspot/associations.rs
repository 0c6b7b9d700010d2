//! Associations: made with a record or afterwards, listed in pages, and wrong without a complaint.

use std::slice::from_ref;

use hookline_sandbox::{HubSpotEndpoint, HubSpotObject};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Crm, a_text, id, to_contact};
use crate::helpers::answer;

async fn associated_ids(crm: &Crm, path: &str) -> Vec<Value> {
    let (status, body) = crm.get(path).await;
    assert_eq!(status, 200, "{body}");
    body["results"].as_array().expect("results").iter().map(|one| one["toObjectId"].clone()).collect()
}

#[tokio::test]
async fn a_wrong_type_id_succeeds_and_leaves_an_orphan() {
    for (objects, wrong) in [("communications", 202), ("communications", 82), ("notes", 2), ("notes", 81)] {
        let crm = Crm::start().await;
        let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
        let properties = if objects == "notes" { json!({ "hs_timestamp": "2026-11-02T15:04:05Z" }) } else { a_text() };

        let body = json!({ "properties": properties, "associations": to_contact(&sam, wrong) });
        let (status, created) = crm.post(&format!("/crm/v3/objects/{objects}"), &body).await;

        assert_eq!((status, crm.hubspot.orphans()), (201, vec![id(&created)]), "{objects} {wrong}");
        assert_eq!(crm.violations().len(), 1);
        let list = format!("/crm/v4/objects/contacts/{sam}/associations/{objects}");
        assert_eq!(associated_ids(&crm, &list).await, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn the_default_association_can_be_put_any_number_of_times() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let (_, text) = crm.create("communications", a_text()).await;
    let text = id(&text);
    assert_eq!(crm.hubspot.orphans(), from_ref(&text));

    for path in [
        format!("/crm/v4/objects/communications/{text}/associations/default/contacts/{sam}"),
        format!("/crm/objects/2026-09/communications/{text}/associations/default/contacts/{sam}"),
        format!("/crm/objects/2026-09/0-18/{text}/associations/default/0-1/{sam}"),
        format!("/crm/v4/objects/contact/{sam}/associations/default/communication/{text}"),
    ] {
        let (status, body) = crm.put(&path).await;
        assert_eq!((status, &body["status"]), (200, &json!("COMPLETE")), "{path} {body}");
        assert_eq!(body["results"][0]["associationSpec"]["associationTypeId"], json!(81));
    }

    assert_eq!(crm.hubspot.communications()[0].contacts, from_ref(&sam));
    assert!(crm.hubspot.orphans().is_empty());
    // Version 4 has numbers, the dated versions have texts.
    let number: Value = text.parse::<u64>().expect("a number").into();
    let listed = associated_ids(&crm, &format!("/crm/v4/objects/contacts/{sam}/associations/communications")).await;
    assert_eq!(listed, [number]);
    let dated = format!("/crm/objects/2026-09/contacts/{sam}/associations/communications");
    assert_eq!(associated_ids(&crm, &dated).await, [json!(text)]);
    let back = format!("/crm/objects/2026-09/communications/{text}/associations/contacts");
    assert_eq!(associated_ids(&crm, &back).await, [json!(sam)]);
    assert_eq!(associated_ids(&crm, &format!("/crm/v4/objects/contacts/{sam}/associations/notes")).await.len(), 0);
    crm.assert_proper();
}

#[tokio::test]
async fn an_association_needs_both_records() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let (_, text) = crm.create("communications", a_text()).await;
    let text = id(&text);
    let body = json!({ "properties": a_text(), "associations": to_contact("99", 81) });
    for status in [400, 404] {
        crm.hubspot.configure(|options| options.absent_associate_status = status);
        let to_nobody = format!("/crm/v4/objects/communications/{text}/associations/default/contacts/99");
        assert_eq!(crm.put(&to_nobody).await.0, status);
        let (answered, refusal) = crm.post("/crm/v3/objects/communications", &body).await;
        assert_eq!(answered, status);
        assert!(refusal["message"].as_str().is_some_and(|message| message.contains("CONTACT=[99]")), "{refusal}");
    }
    let of_nothing = format!("/crm/v4/objects/communications/99/associations/default/contacts/{sam}");
    assert_eq!(crm.put(&of_nothing).await.0, 404);
    assert_eq!(crm.get("/crm/v4/objects/contacts/99/associations/notes").await.0, 404);
    assert_eq!(crm.hubspot.communications().len(), 1);
    crm.assert_proper();
}

#[tokio::test]
async fn a_list_comes_in_pages_and_keeps_its_place() {
    let crm = Crm::with(|options| options.association_page_size = 2).await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let mut texts: Vec<String> = (0..5).map(|_| crm.hubspot.add_communication(&[], &[&sam])).collect();
    let path = format!("/crm/objects/2026-09/contacts/{sam}/associations/communications");

    let (mut seen, mut query) = (Vec::new(), String::new());
    loop {
        let (status, page) = crm.get(&format!("{path}{query}")).await;
        assert_eq!(status, 200);
        let results = page["results"].as_array().expect("results");
        seen.extend(results.iter().filter_map(|one| one["toObjectId"].as_str()).map(str::to_owned));
        assert_eq!(results[0]["associationTypes"][0]["typeId"], json!(82));
        let Some(after) = page["paging"]["next"]["after"].as_str() else { break };
        query = format!("?after={after}");
        if texts.len() == 5 {
            texts.push(crm.hubspot.add_communication(&[], &[&sam]));
        }
    }

    assert_eq!(seen, texts);
    assert_eq!(
        crm.hubspot.requests_to(HubSpotEndpoint::ListAssociations {
            from: HubSpotObject::Contact,
            to: HubSpotObject::Communication,
        }),
        3
    );
    crm.assert_proper();
    assert_eq!(crm.get(&format!("{path}?after=7")).await.0, 400, "no answer had it");
    assert_eq!(crm.get(&format!("{path}?limit=501")).await.0, 400);
}

#[tokio::test]
async fn a_labelled_association_is_made_and_removed() {
    let crm = Crm::start().await;
    let sam = crm.hubspot.add_contact(&[("lastname", "Doe")]);
    let (_, text) = crm.create("communications", a_text()).await;
    let path = format!("/crm/objects/2026-09/communications/{}/associations/contacts/{sam}", id(&text));
    let of_type = |type_id| json!([{ "associationCategory": "HUBSPOT_DEFINED", "associationTypeId": type_id }]);
    let put = |type_id| answer(crm.request(Method::PUT, &path).json(&of_type(type_id)));

    assert_eq!(put(82).await.0, 201, "wrong, and no complaint");
    assert_eq!(crm.hubspot.orphans(), [id(&text)]);
    assert_eq!(put(81).await.0, 201);
    assert_eq!(crm.hubspot.communications()[0].contacts, from_ref(&sam));
    assert_eq!(crm.delete(&path).await.0, 204);
    assert!(crm.hubspot.communications()[0].contacts.is_empty());
    assert_eq!(crm.violations().len(), 1);
}
