use hookline_common::settings::{HubSpotObject, SystemOfRecordKind};
use hookline_sandbox::Fault;
use hookline_sandbox::hubspot::{HubSpotEndpoint as E, HubSpotObject as Object, HubSpotRecord, MergedIds, status};
use hookline_worker::records::{Idempotency, NoteError, SystemOfRecord as _, note_form};

use crate::helpers::{PHONE, Part, TestCrm, note_failure};

const OBJECTS: [HubSpotObject; 2] = [HubSpotObject::Communication, HubSpotObject::Note];
const NOTES: Object = Object::Communication;

fn in_sandbox(object: HubSpotObject) -> (Object, &'static str) {
    match object {
        HubSpotObject::Communication => (Object::Communication, "hs_communication_body"),
        HubSpotObject::Note => (Object::Note, "hs_note_body"),
    }
}

fn notes(test: &TestCrm, object: Object) -> Vec<HubSpotRecord> {
    if object == Object::Note { test.crm.notes() } else { test.crm.communications() }
}

async fn with_key() -> TestCrm {
    let test = TestCrm::start().await;
    test.crm.add_property(NOTES, "textus_thread_key", true);
    test
}

fn add_sam(test: &TestCrm) -> String {
    test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)])
}

#[tokio::test]
async fn a_note_is_created_on_the_timeline_and_changed_in_one_call_each() {
    for object in OBJECTS {
        let (in_sandbox, body) = in_sandbox(object);
        let test = TestCrm::with(object, |_| {}).await;
        let sam = add_sam(&test);

        let first = Part::new("Hello &amp; welcome");
        let id = test.write(&sam, &first).await.unwrap();
        assert_eq!(test.crm.requests_to(E::Create(in_sandbox)), 1);
        let second = first.again(&id, "Hello<br>again");
        test.crm.clear_requests();
        assert_eq!(test.write(&sam, &second).await.unwrap(), id);

        assert_eq!(test.crm.requests().len(), 1, "one PATCH");
        let found = notes(&test, in_sandbox);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].get(body), &found[0].contacts), (second.body().as_str(), &vec![sam]));
        assert_eq!(found[0].get("hs_timestamp"), "2026-11-02T15:04:05Z");
        if object == HubSpotObject::Communication {
            assert_eq!(found[0].get("hs_communication_channel_type"), "SMS");
        }
        test.check();
    }
}

#[tokio::test]
async fn a_lost_answer_leaves_exactly_one_note_without_a_unique_property() {
    for fault in [Fault::EffectThenReset, Fault::Status { status: 500, headers: Vec::new(), body: None }] {
        let was_made = matches!(fault, Fault::EffectThenReset);
        let test = TestCrm::start().await;
        let sam = add_sam(&test);
        // Other notes, of which one has a key that begins the same.
        test.write(&sam, &Part::second("Another part")).await.unwrap();
        assert_eq!(test.hubspot.notes().idempotency(), Idempotency::LookUp);
        test.fail_once(E::Create(NOTES), fault);

        let part = Part::new("Hello");
        let error = note_failure(test.write(&sam, &part).await.expect_err("no answer"));
        assert!(error.may_have_taken_effect(), "{error}");
        let found = test.find_note(&sam, &part).await;
        assert_eq!(found.is_some(), was_made);
        let part = Part { remote_id: found, ..part };
        test.write(&sam, &part).await.unwrap();

        let texts = test.crm.communications();
        let ours: Vec<_> = texts.iter().filter(|text| text.get("hs_communication_body") == part.body()).collect();
        assert_eq!((texts.len(), ours.len()), (2, 1));
        test.check();
    }
}

#[tokio::test]
async fn a_note_is_found_among_many_on_several_pages() {
    let test = TestCrm::with(HubSpotObject::Communication, |options| options.association_page_size = 50).await;
    let sam = add_sam(&test);
    let part = Part::new("Hello");
    let id = test.write(&sam, &part).await.unwrap();
    for number in 0..130 {
        let body = format!("By hand {number}");
        let properties = [
            ("hs_communication_body", body.as_str()),
            ("hs_communication_channel_type", "SMS"),
            ("hs_communication_logged_from", "CRM"),
        ];
        test.crm.add_communication(&properties, &[&sam]);
    }

    assert_eq!(test.find_note(&sam, &part).await, Some(id));
    assert_eq!(test.find_note(&sam, &Part::second("")).await, None);
    assert_eq!(test.crm.requests_to(E::Search(NOTES)), 0);
    test.check();
}

#[tokio::test]
async fn with_a_unique_property_a_repeat_changes_the_same_note() {
    let test = with_key().await;
    let sam = add_sam(&test);
    let part = Part::new("Hello");
    test.fail_once(E::BatchUpsert(NOTES), Fault::EffectThenReset);
    test.write(&sam, &part).await.expect_err("no answer");
    assert_eq!(test.hubspot.notes().idempotency(), Idempotency::ByKey);
    // The process stops between the note and its association.
    test.fail_once(E::Associate { from: NOTES, to: Object::Contact }, status(503));
    test.write(&sam, &part).await.expect_err("no association");

    let id = test.write(&sam, &part).await.unwrap();

    let texts = test.crm.communications();
    assert_eq!((texts.len(), &texts[0].id, &texts[0].contacts), (1, &id, &vec![sam]));
    assert_eq!(texts[0].get("textus_thread_key"), part.key);
    assert_eq!(test.crm.requests_to(E::Create(NOTES)), 0);
    test.check();
}

#[tokio::test]
async fn an_answer_lost_before_the_property_was_made_leaves_one_note_too() {
    let mut test = TestCrm::start().await;
    let sam = add_sam(&test);
    let part = Part::new("Hello");
    test.fail_once(E::Create(NOTES), Fault::EffectThenReset);
    test.write(&sam, &part).await.expect_err("no answer");
    test.crm.add_property(NOTES, "textus_thread_key", true);
    test.restart().await;

    let part = Part { remote_id: test.find_note(&sam, &part).await, ..part };
    test.write(&sam, &part).await.unwrap();

    assert_eq!(test.crm.communications().len(), 1);
    test.check();
}

#[tokio::test]
async fn where_hubspot_refuses_the_upsert_notes_are_created_one_by_one() {
    let test = with_key().await;
    let sam = add_sam(&test);
    let refusal =
        Fault::Status { status: 400, headers: Vec::new(), body: Some(r#"{"category":"VALIDATION_ERROR"}"#.to_owned()) };
    test.crm.fault(hookline_sandbox::FaultRule::new(refusal).on(E::BatchUpsert(NOTES)));

    let error = test.write(&sam, &Part::new("Hello")).await.expect_err("a refusal");
    assert!(matches!(error, NoteError::Failed(hookline_worker::delivery::handler::HandlerError::TryAgain { .. })));
    assert_eq!(test.hubspot.notes().idempotency(), Idempotency::LookUp);
    test.write(&sam, &Part::new("Hello")).await.unwrap();

    assert_eq!(test.crm.communications().len(), 1);
    test.check();
}

#[tokio::test]
async fn a_note_that_a_validation_rule_refuses_says_nothing_about_the_others() {
    let test = with_key().await;
    let sam = add_sam(&test);
    test.write(&sam, &Part::second("Fine")).await.unwrap();
    test.fail_once(
        E::BatchUpsert(NOTES),
        hookline_sandbox::hubspot::validation_rule("hs_communication_body", "too rude"),
    );

    let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("a refusal"));

    assert_eq!((error.kind(), error.status()), ("rejected", Some(400)));
    assert_eq!(test.hubspot.notes().idempotency(), Idempotency::ByKey);
}

#[tokio::test]
async fn a_deleted_note_is_told_from_a_failure() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);

    let error = test.write(&sam, &Part::new("Hello").again("99999", "Hello")).await;

    assert!(matches!(error, Err(NoteError::NoteIsGone)), "{error:?}");
}

#[tokio::test]
async fn a_person_who_is_gone_gets_no_note_and_is_told() {
    for with_key in [false, true] {
        for absent_status in [400, 404] {
            for is_merged in [false, true] {
                let test = TestCrm::with(HubSpotObject::Communication, |options| {
                    options.absent_associate_status = absent_status;
                })
                .await;
                if with_key {
                    test.crm.add_property(NOTES, "textus_thread_key", true);
                }
                let (sam, primary) = (add_sam(&test), add_sam(&test));
                if is_merged {
                    test.crm.merge(&primary, &sam)
                } else {
                    test.crm.delete_contact(&sam)
                }

                let part = Part::new("Hello");
                let gone = test.write(&sam, &part).await;
                assert!(matches!(gone, Err(NoteError::PersonIsGone)), "{with_key} {absent_status} {gone:?}");
                let found = test.look_for_note(&sam, &part).await;
                assert!(matches!(found, Err(NoteError::PersonIsGone)), "the note may be elsewhere: {found:?}");
                test.write(&primary, &part).await.unwrap();

                let texts = test.crm.communications();
                assert_eq!((texts.len(), &texts[0].contacts), (1, &vec![primary]));
                test.check();
            }
        }
    }
}

#[tokio::test]
async fn the_id_of_a_merged_person_may_lead_to_the_other() {
    let test = TestCrm::with(HubSpotObject::Communication, |options| options.merged_ids = MergedIds::Resolve).await;
    let (sam, primary) = (add_sam(&test), add_sam(&test));
    let part = Part::new("Hello");
    let id = test.write(&sam, &part).await.unwrap();
    test.crm.merge(&primary, &sam);

    assert_eq!(test.find_note(&sam, &part).await, Some(id.clone()));
    test.write(&sam, &part.again(&id, "Hello again")).await.unwrap();
    test.write(&sam, &Part::second("More")).await.unwrap();

    assert!(test.crm.communications().iter().all(|text| text.contacts == [primary.clone()]));
    assert_eq!(test.crm.communications().len(), 2);
    test.check();
}

#[tokio::test]
async fn a_note_as_long_as_it_may_be_fits() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);

    let text = "é".repeat(note_form(SystemOfRecordKind::HubSpot).1);
    test.write(&sam, &Part::second(&text)).await.unwrap();

    test.check();
}

#[tokio::test]
async fn an_erased_note_is_gone_and_a_repeat_finds_it_gone() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let id = test.write(&sam, &Part::new("Hello")).await.unwrap();

    for _ in 0..2 {
        assert!(test.hubspot.notes().delete(test.log(), &id).await.unwrap());
    }

    assert!(test.crm.communications().is_empty());
    test.check();
}
