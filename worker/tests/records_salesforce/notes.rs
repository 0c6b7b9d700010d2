use hookline_sandbox::Fault;
use hookline_sandbox::salesforce::{
    DeletedIds, SalesforceEndpoint as E, SalesforceObject as Object, insufficient_access, lock_row, server_unavailable,
};
use hookline_worker::destinations::error::Disposition;
use hookline_worker::records::{Idempotency, NoteError, SystemOfRecord as _};
use serde_json::json;

use crate::helpers::{CONTACT, PHONE, Part, TestCrm, note_failure, phone};

const UPSERT: E = E::Upsert(Object::Task);

fn add_sam(test: &TestCrm) -> String {
    test.crm.add_contact(json!({ "LastName": "Doe", "Phone": PHONE }))
}

#[tokio::test]
async fn a_note_is_a_completed_task_on_the_persons_timeline() {
    let test = TestCrm::start().await;
    assert_eq!(test.salesforce.notes().idempotency(), Idempotency::ByKey);
    let sam = add_sam(&test);

    let id = test.write(&sam, &Part::new("Hello, <Sam> & \"friends\" 😀\nsecond line")).await.unwrap();

    let task = test.only_task();
    assert_eq!(id, task.id);
    for (field, expected) in [
        ("WhoId", sam.as_str()),
        ("Description", "Hello, <Sam> & \"friends\" 😀\nsecond line"),
        ("Subject", "Texts with +14155550123 on 2026-11-02"),
        ("ActivityDate", "2026-11-02"),
        ("Status", "Completed"),
        ("TextUs_Thread_Key__c", "thread-00112233445566778899aabbccddeeff"),
        ("OwnerId", test.crm.run_as_user().as_str()),
    ] {
        assert_eq!(task.get(field), expected, "{field}");
    }
    test.check();
}

#[tokio::test]
async fn every_write_of_a_part_changes_one_task() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let first = test.write(&sam, &Part::new("one")).await.unwrap();
    let second = test.write(&sam, &Part::second("more")).await.unwrap();

    let again = test.write(&sam, &Part::new("x").again(&first, "one, two")).await.unwrap();
    // A process that has forgotten the id.
    let forgotten = test.write(&sam, &Part::new("one, two, three")).await.unwrap();

    assert_eq!((&again, &forgotten), (&first, &first));
    assert_ne!(first, second);
    let tasks = test.crm.tasks();
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].get("Description"), "one, two, three");
    assert_eq!(tasks[1].get("Subject"), "Texts with +14155550123 on 2026-11-02, part 2");
    test.check();
}

#[tokio::test]
async fn a_lost_answer_or_a_lost_race_makes_no_second_task() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(UPSERT, Fault::EffectThenReset);
    let error = note_failure(test.write(&sam, &Part::new("one")).await.expect_err("no answer"));
    assert!(error.may_have_taken_effect());
    test.write(&sam, &Part::new("one")).await.unwrap();

    test.crm.lose_races(1);
    let raced = test.write(&sam, &Part::second("two")).await.unwrap();

    let tasks = test.crm.tasks();
    assert_eq!(tasks.len(), 2);
    assert_eq!((tasks[1].id.as_str(), tasks[1].get("Description")), (raced.as_str(), "two"));
    test.check();
}

#[tokio::test]
async fn a_locked_row_leaves_nothing_in_doubt() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    for (fault, in_doubt) in [(lock_row(), false), (server_unavailable(), true)] {
        test.fail_once(UPSERT, fault);
        let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("a fault"));
        assert!(matches!(error.disposition(), Disposition::Retry { .. }), "{error:?}");
        assert_eq!(error.may_have_taken_effect(), in_doubt, "{error:?}");
    }
    test.write(&sam, &Part::new("Hello")).await.unwrap();
    test.only_task();
}

#[tokio::test]
async fn many_locked_rows_open_no_breaker() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.write(&sam, &Part::new("before")).await.unwrap();
    test.crm.fault(hookline_sandbox::FaultRule::new(lock_row()).on(UPSERT).times(30));
    for _ in 0..30 {
        let error = note_failure(test.write(&sam, &Part::new("Hello")).await.expect_err("a locked row"));
        assert!(matches!(error.disposition(), Disposition::Retry { .. }), "{error:?}");
        assert!(error.detail().contains("UNABLE_TO_LOCK_ROW"), "{error}");
    }

    test.write(&sam, &Part::new("Hello")).await.unwrap();
}

#[tokio::test]
async fn a_merged_persons_note_goes_to_whom_they_were_merged_into() {
    let test = TestCrm::start().await;
    let (sam, master) = (add_sam(&test), test.crm.add_contact(json!({ "LastName": "Doe" })));
    let id = test.write(&sam, &Part::new("one")).await.unwrap();
    test.store.link_person(test.salesforce.name(), Some(CONTACT), Some(&phone(PHONE)), &sam).await.unwrap();
    test.crm.merge(&master, &sam);

    let again = test.write(&sam, &Part::new("x").again(&id, "one, two")).await.unwrap();

    let task = test.only_task();
    assert_eq!((again.as_str(), task.who(), task.get("Description")), (id.as_str(), master.as_str(), "one, two"));
    // Later notes go there at once.
    for (contact, number) in [(Some(CONTACT), None), (None, Some(phone(PHONE)))] {
        let linked = test.store.linked_person(test.salesforce.name(), contact, number.as_ref()).await.unwrap();
        assert_eq!(linked.as_deref(), Some(master.as_str()));
    }
    test.check();
}

#[tokio::test]
async fn a_converted_leads_note_goes_to_the_contact() {
    let test = TestCrm::start().await;
    let lead = test.crm.add_lead(json!({ "LastName": "Doe", "Company": "Acme", "Phone": PHONE }));
    let id = test.write(&lead, &Part::new("one")).await.unwrap();
    let contact = test.crm.convert_lead(&lead);

    test.write(&lead, &Part::new("x").again(&id, "one, two")).await.unwrap();

    let task = test.only_task();
    assert_eq!((task.who(), task.get("Description")), (contact.as_str(), "one, two"));
    test.check();
}

#[tokio::test]
async fn a_deleted_person_is_told_whatever_salesforce_calls_it() {
    for deleted_ids in [DeletedIds::EntityIsDeleted, DeletedIds::NotFound] {
        for purged in [false, true] {
            let test = TestCrm::with(|options| options.deleted_ids = deleted_ids, |_settings| {}).await;
            let sam = add_sam(&test);
            if purged {
                test.crm.purge(&sam)
            } else {
                test.crm.delete(&sam)
            }

            let error = test.write(&sam, &Part::new("one")).await.expect_err("nobody has this id");

            assert!(matches!(error, NoteError::PersonIsGone), "{error:?}");
            assert_eq!(test.crm.tasks(), []);
        }
    }
}

#[tokio::test]
async fn a_task_that_somebody_deleted_is_written_anew() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let id = test.write(&sam, &Part::new("one")).await.unwrap();
    test.crm.delete(&id);

    let other = test.write(&sam, &Part::new("x").again(&id, "one, two")).await.unwrap();

    assert_ne!(id, other);
    assert_eq!(test.only_task().get("Description"), "one, two");
}

#[tokio::test]
async fn the_author_owns_the_note_unless_salesforce_refuses_them() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let ana = test.crm.add_user(json!({ "LastName": "Rivera", "Email": "ana@acme.example" }));
    let gone = test.crm.add_user(json!({ "LastName": "Gone", "Email": "gone@acme.example", "IsActive": false }));
    let log = test.log();
    assert_eq!(test.salesforce.find_owner(log, "ana@acme.example").await.unwrap(), Some(ana.clone()));
    assert_eq!(test.salesforce.find_owner(log, "gone@acme.example").await.unwrap(), None);
    assert_eq!(test.salesforce.find_owner(log, "o'neil' OR Name != '@acme.example").await.unwrap(), None);

    test.write(&sam, &Part::new("one").owned_by(&ana)).await.unwrap();
    assert_eq!(test.only_task().get("OwnerId"), ana);
    for owner in [gone.as_str(), "005000000000001", "nobody"] {
        test.write(&sam, &Part::second(owner).owned_by(owner)).await.unwrap();
        let tasks = test.crm.tasks();
        assert_eq!((tasks.len(), tasks[1].get("OwnerId")), (2, test.crm.run_as_user().as_str()), "{owner}");
    }
    assert_eq!(test.crm.orphans(), [""; 0]);
}

#[tokio::test]
async fn a_person_out_of_reach_is_a_refusal_of_this_note_alone() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    test.fail_once(UPSERT, insufficient_access(&sam));

    let error = note_failure(test.write(&sam, &Part::new("one")).await.expect_err("no access"));

    assert!(error.detail().contains("INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"), "{error}");
    assert!(!error.is_paused());
    test.write(&sam, &Part::new("one")).await.unwrap();
}

#[tokio::test]
async fn an_erased_persons_note_is_deleted() {
    let test = TestCrm::start().await;
    let sam = add_sam(&test);
    let id = test.write(&sam, &Part::new("one")).await.unwrap();

    for _ in 0..2 {
        assert!(test.salesforce.notes().delete(test.log(), &id).await.unwrap());
    }
    assert_eq!(test.crm.tasks(), []);
    assert!(!test.salesforce.notes().delete(test.log(), "no id").await.unwrap());
}

#[tokio::test]
async fn a_link_that_is_no_persons_id_is_told_and_nothing_is_sent() {
    let test = TestCrm::start().await;
    for id in ["101", "0015e0000000001AAA", "003/../..", "0035e00000000019"] {
        let error = note_failure(test.write(id, &Part::new("one")).await.expect_err("no person"));
        assert!(error.detail().contains("none of a contact or a lead"), "{error}");
    }
    assert_eq!(test.crm.requests_to(UPSERT), 0);
}
