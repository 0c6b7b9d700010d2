//! The TextUs user who wrote the first outbound text of a thread owns its note in HubSpot.

use hookline_sandbox::hubspot::{HubSpotEndpoint as E, HubSpotObject as Object};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{HubSpot, HubSpotOptions};
use serde_json::{Value, json};

use crate::back_fill::{hubspot, to_hubspot};
use crate::helpers::{TestPipeline, someone};

fn text(person: &SampleFacts, event_type: &str, second: i64, sender: Value) -> Value {
    let at =
        "2026-11-02T15:00:00Z".parse::<jiff::Timestamp>().expect("a time") + jiff::SignedDuration::from_secs(second);
    let facts = SampleFacts { timestamp: at, body: format!("text at {second}"), ..person.clone() };
    let mut body = sample(event_type, &facts);
    body["message"]["sender"] = sender;
    body
}

async fn pipeline(crm: &HubSpot, authors: &[(&str, &str)]) -> TestPipeline {
    let authors = authors.iter().map(|(user, owner)| ((*user).to_owned(), (*owner).to_owned())).collect();
    TestPipeline::with(|setup| {
        to_hubspot(crm, &mut setup.settings);
        setup.settings.system_of_record.authors = authors;
    })
    .await
}

#[tokio::test]
async fn the_author_of_the_first_outbound_text_owns_the_note() {
    let crm = hubspot(HubSpotOptions::default()).await;
    let [ana, bo, cy] = ["ana@acme.example", "bo@acme.example", "cy@acme.example"].map(|email| crm.add_owner(email));
    let pipeline = pipeline(&crm, &[("CY@acme.example ", &bo), ("Dee Ostrander", &cy)]).await;
    let ana_object = json!({ "id": "/users/a", "name": "Ana Rivera", "email": "Ana@acme.example" });
    let of = |name: &str, email: Option<&str>| json!({ "id": "/users/x", "name": name, "email": email });
    for (sender, expected) in [
        (ana_object, Some(&ana)),
        // `authors` counts before what HubSpot knows.
        (of("Cy", Some("cy@acme.example")), Some(&bo)),
        (of(" dee ostrander", None), Some(&cy)),
        (of("Nobody", Some("nobody@acme.example")), None),
        (of("Nobody", None), None),
        (json!("/users/xR5bVk"), None),
    ] {
        let person = SampleFacts { embed_contact: true, ..someone() };
        pipeline.send(&text(&person, "message.received", 0, Value::Null)).await;
        pipeline.send(&text(&person, "message.delivered", 1, sender.clone())).await;
        // If the later text were written first, its author would stay the owner where that of the first is not known.
        pipeline.quiet().await;
        pipeline
            .send(&text(&person, "message.delivered", 2, json!({ "name": "Bo", "email": "bo@acme.example" })))
            .await;
        pipeline.quiet().await;

        let notes = crm.communications();
        let note = notes.iter().find(|note| note.get("hs_communication_body").contains(&person.phone)).expect("a note");
        assert!(note.get("hs_communication_body").contains("text at 2"), "{sender}");
        assert_eq!(note.get("hubspot_owner_id"), expected.map_or("", String::as_str), "{sender}");
    }
    assert_eq!(pipeline.dead_letters().await, []);
    assert_eq!(crm.violations(), []);
}

#[tokio::test]
async fn an_address_is_asked_for_once_and_an_owner_alone_rewrites_nothing() {
    let crm = hubspot(HubSpotOptions::default()).await;
    let pipeline = pipeline(&crm, &[]).await;
    let people: Vec<SampleFacts> = (0..4).map(|_| SampleFacts { embed_contact: true, ..someone() }).collect();
    let sender = || json!({ "name": "Ana Rivera", "email": "ana@acme.example" });
    for person in &people {
        pipeline.send(&text(person, "message.delivered", 1, sender())).await;
        pipeline.quiet().await;
    }
    assert_eq!(crm.requests_to(E::ListOwners), 1, "also a stranger is remembered");

    let writes =
        || crm.requests_to(E::Create(Object::Communication)) + crm.requests_to(E::Update(Object::Communication));
    let before = writes();
    crm.add_owner("ana@acme.example");
    let body = text(&people[0], "message.delivered", 1, sender());
    pipeline.send(&body).await;
    pipeline.quiet().await;
    // Another id of a message is another text; the same text again changes nothing.
    let after = writes();
    pipeline.send(&body).await;
    pipeline.quiet().await;

    assert_eq!((after - before, writes() - after), (1, 0));
}

#[tokio::test]
async fn a_token_that_may_not_see_owners_pauses_nothing() {
    let mut options = HubSpotOptions::default();
    options.scopes.retain(|scope| !scope.contains("owners"));
    let crm = hubspot(options).await;
    let pipeline = pipeline(&crm, &[]).await;
    for second in 0..3 {
        let person = SampleFacts { embed_contact: true, ..someone() };
        let sender = json!({ "name": "Ana Rivera", "email": "ana@acme.example" });
        pipeline.send(&text(&person, "message.delivered", second, sender)).await;
    }
    pipeline.quiet().await;

    assert_eq!(crm.communications().len(), 3);
    assert!(crm.requests_to(E::ListOwners) <= 3, "{}", crm.requests_to(E::ListOwners));
    let gates = pipeline.store.gates().await.expect("the store answers");
    assert!(gates.iter().all(|gate| !gate.paused), "{gates:?}");
}
