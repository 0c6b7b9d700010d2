//! A whole worker writes to Salesforce, through repeats, lost answers, locked rows, an index that lags, and sessions that
//! end in the middle of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_common::names::HandlerName::{LogNote, SyncContact};
use hookline_common::secret::Secret;
use hookline_common::settings::{MessageLookup, OnUnknownContact, SystemOfRecordKind};
use hookline_sandbox::salesforce::{
    Salesforce, SalesforceEndpoint as E, SalesforceObject as Object, SalesforceOptions, lock_row, server_unavailable,
};
use hookline_sandbox::samples::{SampleFacts, sample};
use hookline_sandbox::{Fault, FaultRule};
use serde_json::json;

use crate::crm::{Conversations, conversations, send_all};
use crate::helpers::{Setup, TestPipeline, ending, eventually, someone};

const RECEIVED: &str = "message.received";
const UPSERT: E = E::Upsert(Object::Task);

/// An org with every field.
async fn org(options: SalesforceOptions) -> Salesforce {
    let crm = Salesforce::start(options).await.expect("the stand-in starts");
    crm.add_hookline_fields("TextUs_Thread_Key__c", "TextUs_Contact_Id__c", "SMS_Opted_Out__c");
    crm
}

fn to_salesforce(crm: &Salesforce, setup: &mut Setup) {
    let options = SalesforceOptions::default();
    let system = &mut setup.settings.system_of_record;
    system.kind = SystemOfRecordKind::Salesforce;
    system.salesforce.base_url = Some(crm.base_url().parse().expect("a URL"));
    system.salesforce.client_id = Some(Secret::new(options.client_id));
    system.salesforce.client_secret = Some(Secret::new(options.client_secret));
    system.salesforce.timeout = Duration::from_secs(2);
    system.update_every = Duration::from_millis(500);
    setup.settings.handlers.log_note.message_lookup = MessageLookup::None;
    setup.settings.handlers.log_note.on_unknown_contact = Some(OnUnknownContact::Create);
}

/// Returns the text of each note, by its person's number and its day.
fn texts(crm: &Salesforce) -> BTreeMap<(String, String), String> {
    let people = crm.contacts().into_iter().chain(crm.leads());
    let phones: BTreeMap<String, String> = people
        .map(|person| {
            let phone = ["MobilePhone", "Phone"].map(|field| person.get(field).to_owned());
            (person.id, phone.into_iter().find(|phone| !phone.is_empty()).unwrap_or_default())
        })
        .collect();
    let mut texts = BTreeMap::new();
    for task in crm.tasks() {
        let key = (phones[task.who()].clone(), task.get("ActivityDate").to_owned());
        assert!(texts.insert(key, task.get("Description").to_owned()).is_none(), "one note a thread");
        assert_eq!(task.get("Status"), "Completed");
    }
    texts
}

#[tokio::test]
async fn each_thread_is_one_task_on_the_right_person_and_its_text_is_the_same_in_any_order() {
    let mut first: Option<BTreeMap<(String, String), String>> = None;
    for _ in 0..2 {
        let options = SalesforceOptions { index_lag: Duration::from_secs(3600), ..SalesforceOptions::default() };
        let crm = org(options).await;
        // One is known as a lead, one by a number that people write, one by the contact.
        crm.add_lead(json!({ "LastName": "Lead", "Company": "A", "Phone": "+14155550100" }));
        let merged = crm.add_contact(json!({ "LastName": "Two", "MobilePhone": "+14155550101" }));
        for (endpoint, fault, times) in [
            (UPSERT, Fault::EffectThenReset, 3),
            (UPSERT, Fault::Reset, 2),
            (UPSERT, lock_row(), 8),
            (UPSERT, server_unavailable(), 2),
            (E::Upsert(Object::Contact), Fault::EffectThenReset, 2),
            (E::Query, Fault::Reset, 2),
            (E::Token, Fault::Reset, 1),
        ] {
            crm.fault(FaultRule::new(fault).on(endpoint).times(times));
        }
        crm.lose_races(3);
        let Conversations { bodies, threads } = conversations(8, 12);
        let pipeline = TestPipeline::with(|setup| to_salesforce(&crm, setup)).await;

        let (before, after) = bodies.split_at(bodies.len() / 2);
        send_all(&pipeline, before).await;
        let master = crm.add_contact(json!({ "LastName": "Two again" }));
        crm.merge(&master, &merged);
        send_all(&pipeline, after).await;

        assert_eq!((crm.contacts().len(), crm.leads().len()), (7, 1));
        let texts = texts(&crm);
        assert_eq!(texts.keys().collect::<Vec<_>>(), threads.keys().collect::<Vec<_>>());
        for (key, words) in &threads {
            let places: Vec<Option<usize>> = words.iter().map(|words| texts[key].find(words)).collect();
            assert!(places.is_sorted() && places.iter().all(Option::is_some), "{}", texts[key]);
        }
        assert_eq!((crm.orphans(), crm.violations()), (vec![], vec![]));
        if let Some(first) = first.replace(texts.clone()) {
            assert_eq!(first, texts);
        }
    }
}

#[tokio::test]
async fn sessions_that_end_in_the_middle_of_load_cost_a_token_each_and_no_attempt() {
    const ENDS: usize = 6;
    let crm =
        Arc::new(org(SalesforceOptions { latency: Duration::from_millis(5), ..SalesforceOptions::default() }).await);
    let pipeline = TestPipeline::with(|setup| to_salesforce(&crm, setup)).await;
    let people: Vec<SampleFacts> = (0..60).map(|_| someone()).collect();
    let ended = tokio::spawn({
        let crm = Arc::clone(&crm);
        async move {
            for token in 1..=ENDS {
                let deadline = Instant::now() + Duration::from_secs(60);
                // In the middle of its use: a token that never worked would be the credentials' fault.
                let answered = || crm.requests().iter().filter(|request| request.status == Some(200)).count();
                while crm.tokens_issued().len() < token || answered() < token * 30 {
                    assert!(Instant::now() < deadline, "token {token} is not used");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                crm.revoke_tokens();
            }
        }
    });

    let mut texts = Vec::new();
    for person in &people {
        texts.push(pipeline.send(&sample(RECEIVED, person)).await);
    }
    ended.await.expect("each session ended while there was work");
    pipeline.quiet().await;

    assert_eq!(crm.tokens_issued().len(), 1 + ENDS);
    for id in &texts {
        let row = pipeline.settled(id).await;
        assert_eq!((ending(&row, LogNote).as_str(), crate::helpers::attempts(&row, LogNote)), ("done", 1));
    }
    assert_eq!((crm.tasks().len(), crm.contacts().len()), (60, 60));
    assert_eq!((crm.orphans(), crm.violations()), (vec![], vec![]));
}

#[tokio::test]
async fn a_busy_thread_of_a_known_person_needs_no_search() {
    let crm = org(SalesforceOptions::default()).await;
    let pipeline = TestPipeline::with(|setup| {
        to_salesforce(&crm, setup);
        setup.settings.system_of_record.update_every = Duration::from_secs(1);
    })
    .await;
    let person = SampleFacts { embed_contact: true, ..someone() };
    let sam = crm.add_contact(json!({ "LastName": "Doe", "TextUs_Contact_Id__c": person.contact_id }));
    let began = Instant::now();

    for number in 0..20 {
        let facts = SampleFacts { body: format!("Text {number}."), ..person.clone() };
        pipeline.send_known(RECEIVED, &facts).await;
    }
    pipeline.quiet().await;

    let rounds = usize::try_from(began.elapsed().as_secs()).expect("a small number");
    assert!(crm.requests_to(UPSERT) <= 2 + rounds, "{} in {:?}", crm.requests_to(UPSERT), began.elapsed());
    assert_eq!(crm.requests_to(E::Search), 0);
    let tasks = crm.tasks();
    assert_eq!((tasks.len(), tasks[0].who()), (1, sam.as_str()));
    assert!((0..20).all(|number| tasks[0].get("Description").contains(&format!("Text {number}."))));
}

#[tokio::test]
async fn a_new_contact_becomes_a_person_and_an_opt_out_is_on_every_record() {
    let crm = org(SalesforceOptions::default()).await;
    let pipeline = TestPipeline::with(|setup| to_salesforce(&crm, setup)).await;
    let person = someone();
    let lead = crm.add_lead(json!({ "LastName": "Roe", "Company": "A", "MobilePhone": "(415) 555-0199" }));
    let created = pipeline.send_known("contact.created", &person).await;
    assert_eq!(ending(&pipeline.settled(&created).await, SyncContact), "done");
    let contacts = crm.contacts();
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0].get("TextUs_Contact_Id__c"), person.contact_id);
    crm.change(&lead, json!({ "Phone": person.phone }));

    pipeline.send_known("contact.opted_out", &person).await;

    eventually("both are flagged", async || {
        let people = crm.contacts().into_iter().chain(crm.leads());
        people.filter(|person| person.is_checked("SMS_Opted_Out__c")).count() == 2
    })
    .await;
    assert_eq!((crm.orphans(), crm.violations()), (vec![], vec![]));
}
