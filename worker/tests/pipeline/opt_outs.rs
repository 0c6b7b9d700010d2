//! An opt-out is PUT once per account and proved, whatever repeats, echoes or overtakes it.

use std::time::Duration;

use futures::future::join_all;
use hookline_common::event::EventId;
use hookline_common::names::HandlerName::{FlagOptOut, RecordOptOut};
use hookline_sandbox::samples::SampleFacts;
use hookline_sandbox::{EchoTiming, EffectKind, Endpoint, Fault, FaultRule};
use hookline_store::model::LedgerKind::{self, OptedIn, PutAnswered, PutSent, ReadBack, Received, Skipped};
use hookline_store::model::{Claim, ClaimRequest};
use serde_json::json;

use crate::helpers::{ACCOUNT, SECOND, Setup, TestPipeline, attempts, ending, eventually, now, someone};

const OUT: &str = "contact.opted_out";
const IN: &str = "contact.opted_in";

fn puts(pipeline: &TestPipeline, account: &str, phone: &str) -> usize {
    pipeline.sandbox.effect_count(EffectKind::OptOutPut, account, phone)
}

fn seconds_before(facts: &SampleFacts, seconds: u64) -> SampleFacts {
    SampleFacts { timestamp: facts.timestamp - Duration::from_secs(seconds), ..facts.clone() }
}

#[tokio::test]
async fn an_opt_out_makes_one_put_per_account_however_its_echoes_come() {
    let both = || vec![ACCOUNT.to_owned(), SECOND.to_owned()];
    for (timing, accounts) in [
        (EchoTiming::AfterAnswer, vec![ACCOUNT.to_owned()]),
        (EchoTiming::BeforeAnswer, vec![ACCOUNT.to_owned()]),
        (EchoTiming::AfterAnswer, both()),
        (EchoTiming::BeforeAnswer, both()),
    ] {
        let case = format!("{timing:?} {accounts:?}");
        let pipeline = TestPipeline::with(|Setup { settings, sandbox }| {
            settings.handlers.record_opt_out.accounts.clone_from(&accounts);
            sandbox.echo_timing = timing;
        })
        .await;
        let person = someone();

        let id = pipeline.send_sample(OUT, &person).await;
        pipeline.quiet().await;

        for account in &accounts {
            assert_eq!(puts(&pipeline, account, &person.phone), 1, "{case} {account}");
        }
        assert_eq!(pipeline.effects(EffectKind::OptOutPut).len(), accounts.len(), "{case}");
        assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done", "{case}");
        let echoes = pipeline.echoes(&[&id]);
        assert_eq!(echoes.len(), accounts.len(), "{case}");
        for echo in &echoes {
            assert_eq!(ending(&pipeline.settled(echo).await, RecordOptOut), "skipped: echo", "{case}");
        }
    }
}

#[tokio::test]
async fn both_spellings_of_the_event_are_put_and_proved() {
    for spelling in ["contact.opted_out", "contact.opted-out"] {
        let pipeline = TestPipeline::start().await;
        let person = someone();

        let id = pipeline.send_sample(spelling, &person).await;
        pipeline.quiet().await;

        assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1, "{spelling}");
        let evidence = pipeline.evidence(&person.phone).await;
        let own: Vec<_> = evidence.iter().filter(|entry| entry.event_id == id.as_str()).collect();
        let kinds: Vec<_> = own.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [Received, PutSent, PutAnswered], "{spelling}");
        assert_eq!(own[2].status, Some(201), "{spelling}");
        assert_eq!(pipeline.store.verify(None).await.unwrap().broken, None, "{spelling}");
    }
}

#[tokio::test]
async fn an_opt_out_needs_a_number_and_nothing_else() {
    let pipeline = TestPipeline::start().await;
    let (one, other) = (someone(), someone());
    let mut by_api = hookline_sandbox::samples::sample(OUT, &one);
    by_api["optOut"] = json!({
        "@type": "OptOut", "id": "Kd82nQ", "type": "opt-out", "phoneNumber": one.phone,
        "originatingAccount": {"id": format!("/accounts/{SECOND}"), "name": "Acme"},
    });
    let bare = json!({"action": OUT, "optOut": {"phoneNumber": other.phone}});

    let ids = [pipeline.send(&by_api).await, pipeline.send(&bare).await];
    pipeline.quiet().await;

    for (id, (person, account)) in ids.iter().zip([(&one, SECOND), (&other, ACCOUNT)]) {
        let row = pipeline.settled(id).await;
        assert_eq!(ending(&row, RecordOptOut), "done");
        assert_eq!(ending(&row, FlagOptOut), "skipped: unknown_contact");
        assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
        assert_eq!(pipeline.evidence(&person.phone).await[0].account, account);
    }
}

#[tokio::test]
async fn an_older_opt_out_that_arrives_after_a_newer_opt_in_makes_no_put() {
    let pipeline = TestPipeline::start().await;
    let person = someone();

    let newer = pipeline.send_sample(IN, &person).await;
    pipeline.quiet().await;
    let older = pipeline.send_sample(OUT, &seconds_before(&person, 60)).await;
    pipeline.quiet().await;

    assert_eq!(pipeline.effects(EffectKind::OptOutPut), []);
    assert_eq!(ending(&pipeline.settled(&newer).await, RecordOptOut), "skipped: opt_in");
    assert_eq!(ending(&pipeline.settled(&older).await, RecordOptOut), "skipped: stale");
    let kinds: Vec<_> = pipeline.evidence(&person.phone).await.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [OptedIn, Received, Skipped]);
}

#[tokio::test]
async fn opting_out_in_and_out_again_makes_two_puts() {
    let pipeline = TestPipeline::start().await;
    let person = someone();

    for event_type in [OUT, IN, OUT] {
        pipeline.send_sample(event_type, &now(&person)).await;
        pipeline.quiet().await;
    }

    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 2);
    let rows = pipeline.store.opt_outs(10, None).await.unwrap().rows;
    assert_eq!(rows.iter().map(|row| row.opted_out).collect::<Vec<_>>(), [true]);
}

#[tokio::test]
async fn an_opt_in_that_races_with_the_echo_of_a_put_is_not_undone_by_it() {
    let pipeline = TestPipeline::start().await;
    let people: Vec<_> = (0..40).map(|_| someone()).collect();

    join_all(people.iter().map(|person| async {
        pipeline.send_sample(OUT, &now(person)).await;
        eventually("the PUT", async || puts(&pipeline, ACCOUNT, &person.phone) == 1).await;
        // Within the same millisecond as the echo it would be a tie, which ends opted out.
        tokio::time::sleep(Duration::from_millis(2)).await;
        pipeline.send_sample(IN, &now(person)).await;
    }))
    .await;
    pipeline.quiet().await;

    for person in &people {
        assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
    }
    let rows = pipeline.store.opt_outs(100, None).await.unwrap().rows;
    assert_eq!(rows.iter().filter(|row| row.opted_out).count(), 0);
}

#[tokio::test]
async fn one_opt_out_that_two_accounts_raise_is_put_once() {
    let pipeline = TestPipeline::start().await;
    let person = someone();
    let there = SampleFacts { account: SECOND.to_owned(), ..person.clone() };

    pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;
    let repeat = pipeline.send_sample(OUT, &now(&there)).await;
    pipeline.quiet().await;

    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
    assert_eq!(ending(&pipeline.settled(&repeat).await, RecordOptOut), "skipped: already_done");
}

#[tokio::test]
async fn an_opt_out_and_an_opt_in_of_the_same_moment_stay_opted_out_in_either_order() {
    for order in [[OUT, IN], [IN, OUT]] {
        // The echo of the PUT would be newer than both, and hide what is tested.
        let pipeline = TestPipeline::with(|setup| setup.sandbox.echoes = false).await;
        let person = someone();
        pipeline.send_known("message.received", &person).await;
        pipeline.quiet().await;

        for event_type in order {
            pipeline.send_sample(event_type, &person).await;
            pipeline.quiet().await;
        }

        assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1, "{order:?}");
        let rows = pipeline.store.opt_outs(10, None).await.unwrap().rows;
        assert!(rows.iter().all(|row| row.opted_out), "{order:?}");
        assert!(pipeline.flags().await.iter().all(|flag| flag.opted_out), "{order:?}");
        assert_eq!(pipeline.flags().await.len(), 1, "{order:?}");
    }
}

#[tokio::test]
async fn an_opt_out_that_failed_is_put_again_although_its_state_is_recorded() {
    let pipeline = TestPipeline::start().await;
    pipeline.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).times(2));
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;

    assert_eq!(pipeline.asked(Endpoint::PutOptOut).len(), 3);
    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
    let row = pipeline.settled(&id).await;
    assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 3));
    let evidence = pipeline.evidence(&person.phone).await;
    let answers: Vec<_> = evidence.iter().filter(|entry| entry.kind == PutAnswered).map(|entry| entry.status).collect();
    assert_eq!(answers, [Some(503), Some(503), Some(201)]);
}

#[tokio::test]
async fn one_accounts_trouble_does_not_keep_the_put_from_the_other_nor_repeat_it() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.record_opt_out.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()];
    })
    .await;
    let failing = FaultRule::new(Fault::status(503)).on(Endpoint::PutOptOut).path_prefix(format!("/{ACCOUNT}/"));
    pipeline.sandbox.fault(failing.times(3));
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;

    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
    assert_eq!(puts(&pipeline, SECOND, &person.phone), 1);
    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done");
}

#[tokio::test]
async fn a_put_is_recorded_as_made_with_the_attempt_in_which_the_other_account_fails() {
    // A 400 fails for good and lets the other account be tried. A 429 holds every call and ends the attempt.
    for (failing, made, status) in [(ACCOUNT, SECOND, 400), (SECOND, ACCOUNT, 429)] {
        let pipeline = TestPipeline::with(|setup| {
            setup.settings.handlers.record_opt_out.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()];
        })
        .await;
        let rule = FaultRule::new(Fault::status(status)).on(Endpoint::PutOptOut);
        pipeline.sandbox.fault(rule.path_prefix(format!("/{failing}/")));
        let person = someone();

        let id = pipeline.send_sample(OUT, &person).await;
        eventually("one PUT is made and the other fails", async || {
            let evidence = pipeline.evidence(&person.phone).await;
            let fails = evidence.iter().any(|entry| entry.kind == PutAnswered && entry.status == Some(status));
            fails && puts(&pipeline, made, &person.phone) == 1
        })
        .await;

        // Another delivery waits until the attempt has ended, and then learns that the PUT was made.
        let claim = ClaimRequest {
            handler: RecordOptOut,
            target: made,
            effect_key: id.as_str(),
            event_id: &id,
            owner: "another",
            lease: Duration::from_secs(60),
            settle_after: Duration::ZERO,
        };
        eventually("the attempt ends", async || match pipeline.store.claim(&claim).await.unwrap() {
            Claim::Done { .. } => true,
            Claim::Wait { .. } => false,
            Claim::Fresh(_) | Claim::AfterUnknown { .. } => panic!("{failing}: the PUT to {made} is forgotten"),
        })
        .await;
        assert_eq!(puts(&pipeline, made, &person.phone), 1, "{failing}");
    }
}

#[tokio::test]
async fn a_put_that_took_effect_and_got_no_answer_is_sent_again_and_its_echo_recognised() {
    for fault in [
        Fault::EffectThenReset,
        Fault::EffectThenHang(Duration::from_secs(2)),
        Fault::EffectThenStatus(502),
        Fault::DripBody(Duration::from_millis(200)),
        Fault::GarbageBody,
    ] {
        let case = format!("{fault:?}");
        let pipeline = TestPipeline::start().await;
        pipeline.sandbox.fault(FaultRule::new(fault).on(Endpoint::PutOptOut).times(1));
        let person = someone();

        let id = pipeline.send_sample(OUT, &person).await;
        pipeline.quiet().await;

        // A PUT is idempotent there. One more is right if no answer came; a third would answer an echo.
        assert!((1..=2).contains(&puts(&pipeline, ACCOUNT, &person.phone)), "{case}");
        // The retry or the echo, whichever came first, made the PUT that was answered.
        let mut ends = Vec::new();
        for event in pipeline.echoes(&[]) {
            ends.push(ending(&pipeline.settled(&event).await, RecordOptOut));
        }
        assert_eq!(ends.iter().filter(|end| *end == "done").count(), 1, "{case}: {ends:?}");
        assert!(ends.iter().all(|end| end == "done" || end == "skipped: echo"), "{case}: {ends:?}");
        assert!(pipeline.event(&id).await.is_some(), "{case}");
        assert_eq!(pipeline.dead_letters().await, [], "{case}");
    }
}

/// Returns the ledger's answers to an event's PUTs, with their reasons.
async fn answers(pipeline: &TestPipeline, id: &EventId, phone: &str) -> Vec<(LedgerKind, Option<u16>, Option<String>)> {
    let own = pipeline.evidence(phone).await.into_iter().filter(|entry| entry.event_id == id.as_str());
    own.filter(|entry| [PutAnswered, ReadBack].contains(&entry.kind))
        .map(|entry| (entry.kind, entry.status, entry.reason))
        .collect()
}

fn page_with(status: u16) -> Fault {
    let headers = vec![("Content-Type".to_owned(), "text/html".to_owned())];
    Fault::Status { status, headers, body: Some("<html><body>We will be back soon.</body></html>".to_owned()) }
}

#[tokio::test]
async fn a_maintenance_page_with_200_is_no_proof_and_the_put_is_made_again() {
    let pipeline = TestPipeline::start().await;
    pipeline.sandbox.fault(FaultRule::new(page_with(200)).on(Endpoint::PutOptOut).times(2));
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;

    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done");
    let unproven = (PutAnswered, Some(200), Some("unproven".to_owned()));
    assert_eq!(
        answers(&pipeline, &id, &person.phone).await,
        [unproven.clone(), unproven, (PutAnswered, Some(201), None)]
    );
}

#[tokio::test]
async fn a_page_instead_of_every_read_too_keeps_the_opt_out_waiting() {
    let pipeline = TestPipeline::start().await;
    for endpoint in [Endpoint::PutOptOut, Endpoint::GetOptOut] {
        pipeline.sandbox.fault(FaultRule::new(page_with(200)).on(endpoint));
    }
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    eventually("three PUTs", async || pipeline.asked(Endpoint::PutOptOut).len() >= 3).await;
    let proofs = answers(&pipeline, &id, &person.phone).await;
    assert!(proofs.iter().all(|(kind, _, reason)| *kind == PutAnswered && reason.is_some()), "{proofs:?}");

    pipeline.sandbox.clear_faults();
    pipeline.quiet().await;
    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
}

#[tokio::test]
async fn a_2xx_without_the_opt_out_is_done_where_reading_back_shows_it() {
    let pipeline = TestPipeline::start().await;
    pipeline.sandbox.fault(FaultRule::new(Fault::GarbageBody).on(Endpoint::PutOptOut).times(1));
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;

    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
    assert_eq!(
        answers(&pipeline, &id, &person.phone).await,
        [(PutAnswered, Some(200), Some("unproven".to_owned())), (ReadBack, Some(200), None)]
    );
}

#[tokio::test]
async fn an_account_that_is_not_found_is_tried_again_and_keeps_the_put_from_no_other() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.record_opt_out.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()];
    })
    .await;
    let unknown = FaultRule::new(Fault::status(404)).on(Endpoint::PutOptOut).path_prefix(format!("/{ACCOUNT}/"));
    pipeline.sandbox.fault(unknown.times(3));
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;

    for account in [ACCOUNT, SECOND] {
        assert_eq!(puts(&pipeline, account, &person.phone), 1, "{account}");
    }
    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done");
    assert_eq!(pipeline.dead_letters().await, []);
}

#[tokio::test]
async fn a_stop_again_is_put_where_the_first_was_refused() {
    let pipeline = TestPipeline::with(|setup| {
        setup.settings.handlers.record_opt_out.accounts = vec![ACCOUNT.to_owned(), SECOND.to_owned()];
    })
    .await;
    let refused = FaultRule::new(Fault::status(422)).on(Endpoint::PutOptOut).path_prefix(format!("/{SECOND}/"));
    pipeline.sandbox.fault(refused);
    let person = someone();
    let first = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&first).await, RecordOptOut), "dead_lettered: rejected");
    assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1);
    pipeline.sandbox.clear_faults();

    let second = pipeline.send_sample(OUT, &now(&person)).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&second).await, RecordOptOut), "done");
    assert_eq!((puts(&pipeline, ACCOUNT, &person.phone), puts(&pipeline, SECOND, &person.phone)), (1, 1));
}

#[tokio::test]
async fn an_opt_in_dated_ahead_does_not_hide_the_stop_after_it() {
    for ahead in [Duration::from_secs(600), Duration::from_secs(5 * 365 * 86_400)] {
        let pipeline = TestPipeline::start().await;
        let person = someone();
        pipeline.send_known("message.received", &person).await;
        let early = SampleFacts { timestamp: jiff::Timestamp::now() + ahead, ..person.clone() };
        pipeline.send_sample(IN, &early).await;
        pipeline.quiet().await;

        let stop = pipeline.send_sample(OUT, &now(&person)).await;
        pipeline.quiet().await;

        assert_eq!(puts(&pipeline, ACCOUNT, &person.phone), 1, "{ahead:?}");
        let row = pipeline.settled(&stop).await;
        assert_eq!(ending(&row, RecordOptOut), "done", "{ahead:?}");
        assert_eq!(pipeline.flags().await.iter().map(|flag| flag.opted_out).collect::<Vec<_>>(), [true], "{ahead:?}");
    }
}

#[tokio::test]
async fn two_people_whose_digits_are_alike_have_two_paths() {
    let pipeline = TestPipeline::start().await;
    let answer = |number: &str| Fault::Status {
        status: 201,
        headers: Vec::new(),
        body: Some(json!({"@type": "OptOut", "id": format!("/{ACCOUNT}/opt_outs/{number}")}).to_string()),
    };
    let abroad = format!("/{ACCOUNT}/opt_outs/%2B6561234567");
    pipeline.sandbox.fault(FaultRule::new(answer("+6561234567")).on(Endpoint::PutOptOut).path_prefix(&abroad));

    for phone in ["+6561234567", "+16561234567"] {
        let id = pipeline.send_sample(OUT, &SampleFacts { phone: phone.to_owned(), ..someone() }).await;
        assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done", "{phone}");
    }

    let paths: Vec<_> = pipeline.asked(Endpoint::PutOptOut).into_iter().map(|request| request.path).collect();
    assert_eq!(paths, [abroad, format!("/{ACCOUNT}/opt_outs/6561234567")]);
}

#[tokio::test]
async fn ten_digits_in_the_answer_about_a_number_from_abroad_are_no_proof() {
    let pipeline = TestPipeline::start().await;
    let body = json!({"@type": "OptOut", "id": format!("/{ACCOUNT}/opt_outs/6561234567")}).to_string();
    for (endpoint, status) in [(Endpoint::PutOptOut, 201), (Endpoint::GetOptOut, 200)] {
        let answer = Fault::Status { status, headers: Vec::new(), body: Some(body.clone()) };
        pipeline.sandbox.fault(FaultRule::new(answer).on(endpoint));
    }
    let phone = "+6561234567";

    let id = pipeline.send_sample(OUT, &SampleFacts { phone: phone.to_owned(), ..someone() }).await;

    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "dead_lettered: rejected");
    let proofs = answers(&pipeline, &id, phone).await;
    assert_eq!(proofs, [(PutAnswered, Some(201), Some("unproven".to_owned()))]);
    let detail = pipeline.dead_letter().await.info.detail;
    assert!(detail.contains("ten digits") && !detail.contains("6561234567"), "{detail}");
}

#[tokio::test]
async fn a_refused_put_is_done_where_reading_back_shows_the_opt_out() {
    for status in [409, 422] {
        let pipeline = TestPipeline::start().await;
        let refused = FaultRule::new(Fault::EffectThenStatus(status)).on(Endpoint::PutOptOut).times(1);
        pipeline.sandbox.fault(refused);
        let person = someone();

        let id = pipeline.send_sample(OUT, &person).await;
        pipeline.quiet().await;

        assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done", "{status}");
        let evidence = pipeline.evidence(&person.phone).await;
        let own: Vec<_> = evidence
            .iter()
            .filter(|entry| entry.event_id == id.as_str())
            .map(|entry| (entry.kind, entry.status))
            .collect();
        assert_eq!(
            own,
            [(Received, None), (PutSent, None), (PutAnswered, Some(status)), (ReadBack, Some(200))],
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_refused_put_that_reading_back_does_not_show_is_a_dead_letter() {
    let pipeline = TestPipeline::start().await;
    pipeline.sandbox.fault(FaultRule::new(Fault::status(422)).on(Endpoint::PutOptOut).times(1));

    let id = pipeline.send_sample(OUT, &someone()).await;
    pipeline.quiet().await;

    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "dead_lettered: rejected");
    assert_eq!(pipeline.asked(Endpoint::GetOptOut).len(), 1);
}

#[tokio::test]
async fn the_flag_follows_the_newest_event_and_not_the_newest_arrival() {
    let pipeline = TestPipeline::with(|setup| setup.sandbox.echoes = false).await;
    let person = someone();
    pipeline.send_known("message.received", &person).await;
    pipeline.quiet().await;

    let newer = pipeline.send_sample(IN, &person).await;
    pipeline.quiet().await;
    let older = pipeline.send_sample(OUT, &seconds_before(&person, 60)).await;
    pipeline.quiet().await;

    let flags = pipeline.flags().await;
    assert_eq!(flags.iter().map(|flag| flag.opted_out).collect::<Vec<_>>(), [false]);
    assert_eq!(ending(&pipeline.settled(&newer).await, FlagOptOut), "done");
    assert_ne!(ending(&pipeline.settled(&older).await, FlagOptOut), "done");
}

#[tokio::test]
async fn an_opt_out_before_the_person_is_known_is_flagged_once_they_are() {
    let pipeline = TestPipeline::start().await;
    let person = someone();

    let id = pipeline.send_sample(OUT, &person).await;
    pipeline.quiet().await;
    assert_eq!(ending(&pipeline.settled(&id).await, FlagOptOut), "skipped: unknown_contact");
    pipeline.send_known("message.received", &person).await;
    pipeline.quiet().await;

    eventually("the flag", async || pipeline.flags().await.iter().any(|flag| flag.opted_out)).await;
}
