//! What each call sends, and what each answer means.

use std::time::Duration;

use hookline_common::names::DeadReason;
use hookline_sandbox::{Direction, EffectKind, Fault, FaultRule, MessageForm, Method, Related};
use hookline_worker::destinations::error::{DestinationError, Disposition};
use hookline_worker::textus::client::NewContact;
use hookline_worker::textus::opt_outs::{OptOutNumber, PutAnswered, Shows};
use hookline_worker::textus::types::{ContactRef, Numbers, PhonesRef};
use serde_json::{Value, json};

use crate::helpers::{PHONE, TestApi, phone, segment};

fn marisol() -> NewContact {
    NewContact {
        name: "Marisol Ektberg".to_owned(),
        phones: vec![(phone(PHONE), "Mobile".to_owned())],
        data: json!({"externalRef": "hs-004417", "tags": ["welder"]}),
    }
}

#[tokio::test]
async fn a_contacts_data_that_is_no_object_is_left_out() {
    for data in [json!(7), json!("welder"), json!(["welder"]), json!(true), json!(null)] {
        let api = TestApi::start().await;

        let contact = NewContact { data, ..marisol() };
        api.textus().create_contact(&api.log, "acme", &contact, "key").await.unwrap();

        assert_eq!(api.sandbox.effect_count(EffectKind::ContactCreated, "acme", PHONE), 1);
        assert_eq!(api.sandbox.violations(), []);
    }
}

#[tokio::test]
async fn every_call_is_one_that_the_documented_api_takes() {
    let api = TestApi::with(|options| options.message_form = MessageForm::Both).await;
    let phone = phone(PHONE);
    let (textus, log) = (api.textus(), &api.log);

    assert_eq!(textus.get_opt_out(log, "acme", &phone).await.unwrap(), Shows::Nothing);
    let put = textus.put_opt_out(log, "acme", &phone).await.unwrap();
    assert_eq!(put, PutAnswered { status: 201, shows: Shows::This });
    assert_eq!(textus.get_opt_out(log, "acme", &phone).await.unwrap(), Shows::This);

    assert!(textus.conversation(log, "acme", &phone).await.unwrap().is_none());
    assert!(textus.contact_phones(log, "acme", &phone).await.unwrap().is_empty());
    let created = textus.create_contact(log, "acme", &marisol(), "evt_1/create_contact/acme").await.unwrap();
    assert_eq!(created.name.as_deref(), Some("Marisol Ektberg"));
    assert_eq!(created.data["tags"], json!(["welder"]));
    let found = textus.contact_phones(log, "acme", &phone).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].contact().unwrap().raw_id(), created.raw_id());

    let slug = created.segment().unwrap();
    let known = Numbers { usable: vec![(phone.clone(), "Mobile".to_owned())], unreadable: 0 };
    let contact = textus.contact(log, &slug).await.unwrap().unwrap();
    assert_eq!(contact.phones(), PhonesRef::Known(known.clone()));
    assert_eq!(textus.contact_phone_list(log, &slug).await.unwrap(), known);

    let ids = api.sandbox.add_message("acme", PHONE, Direction::In, "On my way");
    let messages = textus.get_message(log, &segment(&ids.message)).await.unwrap();
    assert_eq!(messages[0].id, ids.message);
    assert_eq!(messages[0].body.as_deref(), Some("On my way"));
    assert_eq!(textus.get_message(log, &slug).await.unwrap()[0].id, ids.message);
    let conversation = textus.conversation(log, "acme", &phone).await.unwrap().unwrap();
    assert_eq!(conversation.contact().one(), Some(&slug));
    textus.check_token(log).await.unwrap();

    assert_eq!(api.sandbox.violations(), []);
    assert_eq!(api.sandbox.effect_count(EffectKind::ContactCreated, "acme", PHONE), 1);
    let requests = api.sandbox.requests();
    let post = requests.iter().find(|request| request.method == Method::POST).unwrap();
    assert_eq!(post.idempotency_key.as_deref(), Some("evt_1/create_contact/acme"));
    assert_eq!(api.log.records().len(), requests.len());
}

#[tokio::test]
async fn the_call_log_shows_each_request_and_no_phone_number() {
    let api = TestApi::start().await;
    let phone = phone(PHONE);

    api.textus().put_opt_out(&api.log, "acme", &phone).await.unwrap();
    api.textus().conversation(&api.log, "acme", &phone).await.unwrap();
    api.textus().contact_phones(&api.log, "acme", &phone).await.unwrap();

    let shown: Vec<_> =
        api.log.records().into_iter().map(|record| (record.method, record.path, record.status)).collect();
    let masked = "+1********47";
    assert_eq!(
        shown,
        [
            ("PUT".to_owned(), format!("/acme/opt_outs/{masked}"), Some(201)),
            ("GET".to_owned(), format!("/acme/conversations/{masked}"), Some(404)),
            ("GET".to_owned(), format!("/acme/contact_phones?q={masked}"), Some(200)),
        ]
    );
}

#[tokio::test]
async fn what_is_not_there_is_an_answer() {
    let api = TestApi::start().await;
    let nobody = segment("nobody");

    assert!(api.textus().get_message(&api.log, &nobody).await.unwrap().is_empty());
    assert!(api.textus().contact(&api.log, &nobody).await.unwrap().is_none());
    assert!(api.textus().contact_phone_list(&api.log, &nobody).await.unwrap().usable.is_empty());
    // An unknown account is our own mistake, not an empty answer.
    let error = api.textus().contact_phones(&api.log, "elsewhere", &phone(PHONE)).await.unwrap_err();
    assert!(matches!(error, DestinationError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn each_status_asks_for_what_its_class_asks_for() {
    let retry = |after: Option<u64>| Disposition::Retry { after: after.map(Duration::from_secs) };
    let rejected = || Disposition::DeadLetter { reason: DeadReason::Rejected };
    let not_found = || Disposition::DeadLetter { reason: DeadReason::NotFound };
    for (status, retry_after, expected, may_have_taken_effect) in [
        (300, None, retry(None), true),
        (302, Some("4"), retry(Some(4)), true),
        (304, None, retry(None), true),
        (400, None, rejected(), false),
        (402, None, retry(None), true),
        (404, None, not_found(), false),
        (405, None, retry(None), true),
        (408, None, retry(None), true),
        (409, None, rejected(), false),
        (410, None, rejected(), false),
        (413, None, rejected(), false),
        (414, None, rejected(), false),
        (415, None, rejected(), false),
        (421, None, retry(None), false),
        (422, Some("9"), rejected(), false),
        (423, None, retry(None), false),
        (425, Some("9"), retry(Some(9)), false),
        (499, None, retry(None), true),
        (500, None, retry(None), true),
        (502, None, retry(None), true),
        (503, Some("7"), retry(Some(7)), true),
        (503, Some("99999"), retry(Some(900)), true),
        (503, Some("-1"), retry(None), true),
        (504, None, retry(None), true),
    ] {
        let api = TestApi::start().await;
        let headers: Vec<_> = retry_after.map(|value| ("Retry-After", value)).into_iter().collect();
        api.answer_once(status, &headers, "");

        let error = api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap_err();

        assert_eq!(error.disposition(), expected, "{status}");
        assert_eq!(error.may_have_taken_effect(), may_have_taken_effect, "{status}");
        assert_eq!(error.status(), Some(status), "{status}");
        assert_eq!(api.log.records()[0].status, Some(status));
        assert_eq!(api.asked(), 1);
    }
}

#[tokio::test]
async fn a_2xx_is_proof_with_this_opt_out_or_without_a_body_and_with_nothing_else() {
    let api = TestApi::start().await;
    let put = async || api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap();
    for status in [200, 201, 202, 204] {
        api.fail_once(Fault::EffectThenStatus(status));
        assert_eq!(put().await, PutAnswered { status, shows: Shows::This });
    }
    for fault in [Fault::GarbageBody, Fault::TruncatedBody, Fault::HugeBody(10_000_000)] {
        let case = format!("{fault:?}");
        api.fail_once(fault);
        assert_eq!(put().await.shows, Shows::SomethingElse, "{case}");
    }
    for body in [
        "<html><body>We will be back soon.</body></html>",
        "null",
        "true",
        "[]",
        "{}",
        r#"{"@type":"OptOut","id":"/acme/opt_outs/2025550199","formattedPhoneNumber":"2025550199"}"#,
        r#"{"@type":"ContactPhone","id":"/contact_phones/a","phoneNumber":"+12025550147"}"#,
        r#"[{"@type":"OptOut","id":"/acme/opt_outs/2025550147","formattedPhoneNumber":"2025550147"}]"#,
    ] {
        api.answer_once(200, &[], body);
        assert_eq!(put().await.shows, Shows::SomethingElse, "{body}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let api = TestApi::start().await;
    let elsewhere = TestApi::start().await;
    let location = format!("{}/acme/opt_outs/2025550147", elsewhere.sandbox.base_url());
    for status in [301, 302, 307, 308] {
        api.answer_once(status, &[("Location", &location)], "");

        let error = api.textus().put_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap_err();

        assert_eq!(error, DestinationError::Failed { status, retry_after: None, detail: String::new() });
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn an_error_is_told_in_the_apis_words_without_anything_personal() {
    let api = TestApi::start().await;
    let said = "Marisol EKTBERG (+15550001234, secret-canary@example.com, hs-004417) is refused for synthetic-token";
    for body in [json!({"error": said}), json!({"hydra:title": "An error", "hydra:description": [said]})] {
        api.answer_once(422, &[], &body.to_string());

        let error = api.textus().create_contact(&api.log, "acme", &marisol(), "k").await.unwrap_err();

        let told = format!("{error} {error:?} {}", error.detail());
        assert!(told.contains("is refused for"), "{told}");
        for private in ["Marisol", "EKTBERG", "5550001234", "secret-canary", "hs-004417", "synthetic-token"] {
            assert!(!told.contains(private), "{private}: {told}");
        }
        assert!(error.detail().len() <= 512);
    }
}

#[tokio::test]
async fn a_2xx_that_cannot_be_read_leaves_the_outcome_unknown() {
    let api = TestApi::start().await;
    for body in [
        "",
        "[]",
        "null",
        "\"ok\"",
        "<html>fine</html>",
        "{}",
        r#"{"id":7}"#,
        r#"{"id":"/users/u"}"#,
        r#"["/contacts/a"]"#,
        r#"{"id":"/contacts/a""#,
    ] {
        api.answer_once(200, &[], body);
        let error = api.textus().create_contact(&api.log, "acme", &marisol(), "k").await.unwrap_err();
        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{body}: {error}");
        assert!(error.may_have_taken_effect());
    }
    for body in ["", "[]", "null", "<html>opted out</html>"] {
        api.answer_once(200, &[], body);
        let error = api.textus().get_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap_err();
        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{body}: {error}");
    }
    for body in ["", "<html>", "7", "{}", r#"{"members":"/x"}"#] {
        api.answer_once(200, &[], body);
        let error = api.textus().get_message(&api.log, &segment("m")).await.unwrap_err();
        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{body}: {error}");
        api.answer_once(200, &[], body);
        let error = api.textus().contact_phones(&api.log, "acme", &phone(PHONE)).await.unwrap_err();
        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{body}: {error}");
    }
}

#[tokio::test]
async fn an_answer_about_another_number_is_no_answer_about_this_one() {
    let api = TestApi::start().await;
    let another = json!({"id": "/conversations/c", "phoneNumber": "+12025550199", "assignedContact": "/contacts/x"});
    api.answer_once(200, &[], &another.to_string());
    assert!(api.textus().conversation(&api.log, "acme", &phone(PHONE)).await.unwrap().is_none());

    for (formatted, shows) in
        [("2025550199", Shows::SomethingElse), ("(202) 555-0147", Shows::This), ("2025550147", Shows::This)]
    {
        let opt_out = json!({"@type": "OptOut", "id": "/acme/opt_outs/1", "formattedPhoneNumber": formatted});
        api.answer_once(200, &[], &opt_out.to_string());
        assert_eq!(api.textus().get_opt_out(&api.log, "acme", &phone(PHONE)).await.unwrap(), shows, "{formatted}");
    }
}

#[tokio::test]
async fn a_message_may_come_in_a_collection() {
    let api = TestApi::start().await;
    let members = json!([{"id": "/messages/a", "direction": "in"}, {"id": "/messages/b", "direction": "outgoing"}, 7]);
    for body in [json!({"@type": "Timeline", "members": members, "totalItems": 3}), members.clone()] {
        api.answer_once(200, &[], &body.to_string());

        let messages = api.textus().get_message(&api.log, &segment("Bn3RkQ8")).await.unwrap();

        let ids: Vec<&str> = messages.iter().map(|message| message.id.as_str()).collect();
        assert_eq!(ids, ["/messages/a", "/messages/b"]);
    }
}

#[tokio::test]
async fn related_resources_may_be_links() {
    let api = TestApi::with(|options| options.related = Related::Links).await;
    let id = api.sandbox.add_contact("acme", "Marisol Ektberg", PHONE);
    api.sandbox.add_conversation("acme", PHONE);

    let conversation = api.textus().conversation(&api.log, "acme", &phone(PHONE)).await.unwrap().unwrap();
    assert_eq!(conversation.contact(), ContactRef::None);
    let found = api.textus().contact_phones(&api.log, "acme", &phone(PHONE)).await.unwrap();
    assert_eq!(found[0].contact().unwrap().raw_id(), id);

    api.sandbox.assign_contact("acme", PHONE, &id);
    let conversation = api.textus().conversation(&api.log, "acme", &phone(PHONE)).await.unwrap().unwrap();
    assert_eq!(conversation.contact().one(), Some(&segment(&id)));
}

#[tokio::test]
async fn a_search_reads_every_page_and_keeps_the_exact_number() {
    let api = TestApi::with(|options| options.page_size = 2).await;
    let mut ids: Vec<String> = (0..5).map(|n| api.sandbox.add_contact("acme", &format!("Person {n}"), PHONE)).collect();
    api.sandbox.add_contact("acme", "Somebody else", "+12025550148");

    let found = api.textus().contact_phones(&api.log, "acme", &phone(PHONE)).await.unwrap();

    let mut found: Vec<String> = found.iter().map(|entry| entry.contact().unwrap().raw_id()).collect();
    found.sort();
    ids.sort();
    assert_eq!(found, ids);
    assert_eq!(api.asked(), 3);
    assert_eq!(api.sandbox.violations(), []);
    assert!(api.log.records().iter().all(|record| !record.path.contains("5550147")), "{:?}", api.log.records());
}

fn page(next: &Value) -> String {
    let member = json!({"phoneNumber": PHONE, "contact": "/contacts/Bn3RkQ8"});
    json!({"members": [member], "totalItems": 99, "view": {"next": next}}).to_string()
}

#[tokio::test]
async fn a_link_that_goes_round_ends_the_search() {
    let api = TestApi::start().await;
    let body = page(&json!("/acme/contact_phones?q=2025550147&page=2"));
    let fault = Fault::Status { status: 200, headers: Vec::new(), body: Some(body) };
    api.sandbox.fault(FaultRule::new(fault));

    let found = api.textus().contact_phones(&api.log, "acme", &phone(PHONE)).await.unwrap();

    assert_eq!(found.len(), 2);
    assert_eq!(api.asked(), 2);
}

#[tokio::test]
async fn a_search_that_cannot_be_read_to_its_end_finds_nothing_out() {
    for next in ["https://evil.example/acme/contact_phones", "//evil.example/x", "contact_phones?page=2"] {
        let api = TestApi::start().await;
        api.answer_once(200, &[], &page(&json!(next)));
        let error = api.textus().contact_phones(&api.log, "acme", &phone(PHONE)).await.unwrap_err();
        assert!(matches!(error, DestinationError::NoAnswer { .. }), "{next}: {error}");
        assert_eq!(api.asked(), 1);
    }

    let api = TestApi::start().await;
    for number in 0..30 {
        let next = json!(format!("/acme/contact_phones?q=2025550147&page={}", number + 2));
        api.answer_once(200, &[], &page(&next));
    }
    let error = api.textus().contact_phones(&api.log, "acme", &phone(PHONE)).await.unwrap_err();
    assert!(matches!(error, DestinationError::NoAnswer { .. }), "{error}");
    assert_eq!(api.asked(), 20);

    let api = TestApi::start().await;
    api.answer_once(200, &[], r#"{"members":["/contact_phones/c8YdFw"],"totalItems":1}"#);
    let error = api.textus().contact_phones(&api.log, "acme", &phone(PHONE)).await.unwrap_err();
    assert!(matches!(error, DestinationError::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn a_number_from_abroad_is_never_sent_as_one_of_the_north_american_plan() {
    let (london, singapore) = (phone("+442079460958"), phone("+6561234567"));
    let [own_london, own_singapore] = ["442079460958", "6561234567"].map(segment);
    for (number, paths) in [
        (OptOutNumber::from(&london), vec!["/acme/opt_outs/%2B442079460958"]),
        (OptOutNumber::from(&singapore), vec!["/acme/opt_outs/%2B6561234567"]),
        (OptOutNumber { phone: &singapore, in_id: Some(&own_singapore) }, vec!["/acme/opt_outs/%2B6561234567"]),
        (
            OptOutNumber { phone: &london, in_id: Some(&own_london) },
            vec!["/acme/opt_outs/442079460958", "/acme/opt_outs/%2B442079460958"],
        ),
    ] {
        for method in [Method::PUT, Method::GET] {
            let api = TestApi::start().await;
            api.sandbox.fault(FaultRule::new(Fault::status(404)));

            if method == Method::PUT {
                let refused = api.textus().put_opt_out(&api.log, "acme", number).await.unwrap_err();
                assert_eq!(refused.status(), Some(404), "{number:?}");
            } else {
                assert_eq!(api.textus().get_opt_out(&api.log, "acme", number).await.unwrap(), Shows::Nothing);
            }

            let asked: Vec<_> = api.sandbox.requests().into_iter().map(|request| request.path).collect();
            assert_eq!(asked, paths, "{number:?}");
        }
    }

    let api = TestApi::start().await;
    let _ = api.textus().conversation(&api.log, "acme", &singapore).await;
    let _ = api.textus().contact_phones(&api.log, "acme", &singapore).await;
    let asked: Vec<_> = api.sandbox.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(asked[0], "/acme/conversations/%2B6561234567");
    assert!(!asked[1].contains("6561234567"), "{asked:?}");
}

/// Makes the vendor's example the answer to the next request.
fn answer_with_example(api: &TestApi, name: &str) {
    let path = format!("{}/tests/fixtures/textus/{name}.response.json", env!("CARGO_MANIFEST_DIR"));
    let example: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
    let status =
        example["response"]["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
    let body = &example["response"]["body"];
    api.answer_once(status, &[], &if body.is_null() { String::new() } else { body.to_string() });
}

#[tokio::test]
async fn the_vendors_examples_are_read() {
    let api = TestApi::start().await;
    let (textus, log, phone) = (api.textus(), &api.log, phone(PHONE));

    answer_with_example(&api, "opt_out.put.201");
    let put = textus.put_opt_out(log, "harbor_staffing", &phone).await.unwrap();
    assert_eq!(put, PutAnswered { status: 201, shows: Shows::This });
    answer_with_example(&api, "opt_out.get.200");
    assert_eq!(textus.get_opt_out(log, "harbor_staffing", &phone).await.unwrap(), Shows::This);
    answer_with_example(&api, "conversation.get.200");
    let conversation = textus.conversation(log, "harbor_staffing", &phone).await.unwrap().unwrap();
    assert_eq!(conversation.contact().one(), Some(&segment("Bn3RkQ8")));
    answer_with_example(&api, "contact_phones.search.200");
    let found = textus.contact_phones(log, "harbor_staffing", &phone).await.unwrap();
    assert_eq!(found[0].contact().unwrap().raw_id(), "/contacts/Bn3RkQ8");
    answer_with_example(&api, "contact.post.200");
    let created = textus.create_contact(log, "harbor_staffing", &marisol(), "k").await.unwrap();
    assert!(matches!(created.phones(), PhonesRef::Known(phones) if phones.usable.len() == 2));
    for (name, direction) in [("message.get.200", "out"), ("message.get.inbound.200", "in")] {
        answer_with_example(&api, name);
        let messages = textus.get_message(log, &segment("Hf9MzR")).await.unwrap();
        assert_eq!(messages[0].direction().unwrap().as_str(), direction);
        assert!(messages[0].occurred_at().is_some() && messages[0].body.is_some());
    }
    for name in ["error.422", "error.422.hydra.unverified"] {
        answer_with_example(&api, name);
        let error = textus.create_contact(log, "harbor_staffing", &marisol(), "k").await.unwrap_err();
        assert!(
            matches!(&error, DestinationError::Rejected { status: 422, detail } if !detail.is_empty()),
            "{error:?}"
        );
    }
    answer_with_example(&api, "error.404");
    assert_eq!(textus.get_opt_out(log, "harbor_staffing", &phone).await.unwrap(), Shows::Nothing);
    answer_with_example(&api, "error.401");
    let error = textus.get_opt_out(log, "harbor_staffing", &phone).await.unwrap_err();
    assert!(matches!(error, DestinationError::CredentialsRefused { status: 401, .. }), "{error:?}");
}
