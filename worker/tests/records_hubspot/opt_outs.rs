use hookline_common::testing::events::an_event;
use hookline_sandbox::Fault;
use hookline_sandbox::hubspot::{HubSpotEndpoint as E, HubSpotObject as Object};
use hookline_store::model::{OptEvent, OptMethod};
use hookline_worker::records::{FlagWrite, OptOutFlag};

use crate::helpers::{OTHER_PHONE, PHONE, TestCrm, at, failure, phone};

const FIRST: &str = "2026-11-02T10:00:00Z";
const SECOND: &str = "2026-11-02T11:00:00Z";
const THIRD: &str = "2026-11-02T12:00:00Z";

fn out(text: &str) -> OptOutFlag {
    OptOutFlag { opted_out: true, since: at(text), opted_out_at: Some(at(text)), opted_in_at: None }
}

fn back_in(since: &str, out_at: &str) -> OptOutFlag {
    OptOutFlag { opted_out: false, since: at(since), opted_out_at: Some(at(out_at)), opted_in_at: Some(at(since)) }
}

fn shown(test: &TestCrm, id: &str) -> [String; 4] {
    let contact = test.contact(id);
    ["sms_opted_out", "sms_opted_out_at", "sms_opted_in_at", "sms_opt_out_source"]
        .map(|name| contact.get(name).to_owned())
}

#[tokio::test]
async fn an_opt_out_is_written_read_back_and_cleared_by_newer_news() {
    let test = TestCrm::start().await;
    let id = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);

    assert_eq!(test.flag(&id, PHONE, &out(FIRST)).await.unwrap(), FlagWrite::Changed);
    assert_eq!(shown(&test, &id), ["true", FIRST, "", "TextUs"]);
    assert_eq!(test.crm.requests_to(E::Get(Object::Contact)), 2, "before and after");
    assert_eq!(test.crm.requests_to(E::Update(Object::Contact)), 1);

    test.crm.clear_requests();
    assert_eq!(test.flag(&id, PHONE, &out(FIRST)).await.unwrap(), FlagWrite::AsItWas);
    assert_eq!(test.crm.requests().len(), 1, "what is there already is only read");

    assert_eq!(test.flag(&id, PHONE, &back_in(SECOND, FIRST)).await.unwrap(), FlagWrite::Changed);
    assert_eq!(shown(&test, &id), ["false", FIRST, SECOND, "TextUs"]);
    test.check();
}

#[tokio::test]
async fn older_news_never_overwrites_newer() {
    let test = TestCrm::start().await;
    let id = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);
    assert_eq!(test.flag(&id, PHONE, &back_in(SECOND, FIRST)).await.unwrap(), FlagWrite::Changed);
    let before = shown(&test, &id);

    assert_eq!(test.flag(&id, PHONE, &out(FIRST)).await.unwrap(), FlagWrite::NewerThere);
    assert_eq!(shown(&test, &id), before);

    assert_eq!(test.flag(&id, PHONE, &out(THIRD)).await.unwrap(), FlagWrite::Changed);
    assert_eq!(shown(&test, &id), ["true", THIRD, SECOND, "TextUs"]);
    assert_eq!(test.flag(&id, PHONE, &back_in(SECOND, FIRST)).await.unwrap(), FlagWrite::NewerThere);
    assert_eq!(shown(&test, &id)[0], "true");
    test.check();
}

#[tokio::test]
async fn a_flag_that_was_set_by_hand_is_not_cleared_by_an_opt_in() {
    let test = TestCrm::start().await;
    let id = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE), ("sms_opted_out", "true")]);

    assert_eq!(test.flag(&id, PHONE, &back_in(SECOND, FIRST)).await.unwrap(), FlagWrite::NewerThere);

    assert_eq!(shown(&test, &id), ["true", "", "", ""]);
}

#[tokio::test]
async fn a_person_is_opted_out_as_long_as_one_number_is() {
    let test = TestCrm::start().await;
    let id = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE), ("mobilephone", OTHER_PHONE)]);
    let (event, number) = (an_event("contact.opted_out"), phone(PHONE));
    let news = OptEvent {
        event_id: &event.id,
        source_event_id: None,
        account: "acme",
        phone: &number,
        opted_out: true,
        event_time: Some(at(FIRST)),
        received_at: at(FIRST),
        method: OptMethod::Webhook,
        targets: &[],
    };
    test.store.record_opt_event(&news).await.unwrap();
    assert_eq!(test.flag(&id, PHONE, &out(FIRST)).await.unwrap(), FlagWrite::Changed);

    // The other number opts in later, and the flag stays.
    let in_only = OptOutFlag { opted_out: false, since: at(SECOND), opted_out_at: None, opted_in_at: Some(at(SECOND)) };
    test.flag(&id, OTHER_PHONE, &in_only).await.unwrap();

    assert_eq!(shown(&test, &id)[0], "true");
    test.check();
}

#[tokio::test]
async fn what_is_read_back_differently_counts_as_not_written() {
    let test = TestCrm::start().await;
    let id = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);
    // HubSpot says that it did something, and did nothing.
    let body = format!(r#"{{"id":"{id}","properties":{{}}}}"#);
    test.fail_once(E::Update(Object::Contact), Fault::Status { status: 200, headers: Vec::new(), body: Some(body) });

    let error = failure(test.flag(&id, PHONE, &out(FIRST)).await.expect_err("nothing was written"));
    assert_eq!(error.kind(), "no_answer");
    assert_eq!(test.flag(&id, PHONE, &out(FIRST)).await.unwrap(), FlagWrite::Changed);
    assert_eq!(shown(&test, &id)[0], "true");
}

#[tokio::test]
async fn a_lost_answer_is_repaired_by_a_repeat() {
    let test = TestCrm::start().await;
    let id = test.crm.add_contact(&[("lastname", "Doe"), ("phone", PHONE)]);
    test.fail_once(E::Update(Object::Contact), Fault::EffectThenReset);

    test.flag(&id, PHONE, &out(FIRST)).await.expect_err("no answer");
    assert_eq!(test.flag(&id, PHONE, &out(FIRST)).await.unwrap(), FlagWrite::AsItWas, "it is there");

    assert_eq!(shown(&test, &id)[0], "true");
    test.check();
}
