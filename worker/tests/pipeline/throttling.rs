//! Under a rate limit, refused credentials or a pause, deliveries wait, no attempt is spent, and no call comes too
//! early.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use hookline_common::names::Destination;
use hookline_common::names::HandlerName::{LogNote, RecordOptOut};
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule, RetryAfterForm};

use crate::helpers::{ACCOUNT, Setup, TestPipeline, attempts, ending, eventually, someone};

const OUT: &str = "contact.opted_out";

#[tokio::test]
async fn no_call_is_made_before_retry_after_has_passed_and_no_attempt_is_spent() {
    // A date names a whole second, so it may be up to one second nearer than intended.
    let date = httpdate(SystemTime::now() + Duration::from_secs(3));
    for (retry_after, least) in [
        (Some("2"), Duration::from_secs(2)),
        (Some(date.as_str()), Duration::from_millis(500)),
        (None, Duration::from_secs(1)),
    ] {
        let case = format!("{retry_after:?}");
        let pipeline = TestPipeline::start().await;
        let headers = retry_after.map(|value| ("Retry-After".to_owned(), value.to_owned())).into_iter().collect();
        let throttled = Fault::Status { status: 429, headers, body: None };
        pipeline.sandbox.fault(FaultRule::new(throttled).on(Endpoint::PutOptOut).times(1));
        let person = someone();

        let id = pipeline.send_sample(OUT, &person).await;
        eventually("the 429", async || pipeline.asked(Endpoint::PutOptOut).iter().any(|put| put.status == Some(429)))
            .await;
        // Other work must wait too, because the limit belongs to the token.
        let note = pipeline.send_known("message.received", &someone()).await;
        pipeline.quiet().await;

        let requests = pipeline.sandbox.requests();
        let refused = requests.iter().position(|request| request.status == Some(429)).expect("the 429");
        let next = requests[refused + 1].at;
        let waited = Duration::try_from(next.duration_since(requests[refused].at)).expect("later");
        assert!(waited >= least, "{case}: {waited:?}");
        for (id, handler) in [(&id, RecordOptOut), (&note, LogNote)] {
            let row = pipeline.settled(id).await;
            assert_eq!((ending(&row, handler).as_str(), attempts(&row, handler)), ("done", 1), "{case}");
        }
    }
}

#[tokio::test]
async fn an_opt_out_that_meets_a_short_closing_is_made_when_it_ends() {
    // A call waits in hand for up to its time-out.
    let pipeline = TestPipeline::with(|Setup { settings, .. }| settings.textus.timeout = Duration::from_secs(5)).await;
    let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
    let throttled = Fault::Status { status: 429, headers, body: None };
    pipeline.sandbox.fault(FaultRule::new(throttled).on(Endpoint::PutOptOut).times(1));

    let id = pipeline.send_sample(OUT, &someone()).await;

    assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done");
    let (_, log) = pipeline.store.event(&id).await.unwrap().expect("it is known");
    let statuses: Vec<Vec<_>> = log
        .iter()
        .filter(|logged| logged.handler == RecordOptOut)
        .map(|logged| logged.requests.iter().map(|request| request.status).collect())
        .collect();
    // One attempt made both calls. If the delivery had been parked in between, there would be two.
    assert_eq!(statuses, [[Some(429), Some(201)]]);
}

fn httpdate(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).expect("a time");
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn a_small_quota_is_kept_and_everything_is_done_in_the_end() {
    for form in [RetryAfterForm::Seconds, RetryAfterForm::HttpDate, RetryAfterForm::Absent] {
        let pipeline = TestPipeline::with(|Setup { settings, sandbox }| {
            sandbox.rate_limit = Some((6, Duration::from_secs(1)));
            sandbox.retry_after_form = form;
            sandbox.echoes = false;
            settings.handlers.record_opt_out.basics.concurrency = 4;
        })
        .await;
        let people: Vec<_> = (0..20).map(|_| someone()).collect();

        let ids = join_all(people.iter().map(|person| pipeline.send_sample(OUT, person))).await;
        pipeline.quiet().await;

        assert_eq!(pipeline.effects(EffectKind::OptOutPut).len(), 20, "{form:?}");
        for id in &ids {
            let row = pipeline.settled(id).await;
            assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 1), "{form:?}");
        }
        // Only calls that were in flight together can meet a spent window.
        let refused = pipeline.sandbox.requests().iter().filter(|request| request.status == Some(429)).count();
        assert!(refused <= 4 * 4, "{form:?}: {refused} times 429");
    }
}

#[tokio::test]
async fn refused_credentials_pause_the_destination_until_they_are_taken_again() {
    for status in [401, 403] {
        let pipeline = TestPipeline::start().await;
        let refuse = FaultRule::new(Fault::status(status));
        pipeline.sandbox.fault(refuse);
        let people: Vec<_> = (0..10).map(|_| someone()).collect();

        let ids = join_all(people.iter().map(|person| pipeline.send_sample(OUT, person))).await;
        eventually("paused", async || {
            let gates = pipeline.store.gates().await.unwrap();
            gates.iter().any(|gate| gate.destination == Destination::TextUs && gate.paused)
        })
        .await;
        // Some probes are refused first.
        let asked = pipeline.sandbox.requests().len();
        eventually("probed", async || pipeline.sandbox.requests().len() >= asked + 2).await;
        assert_eq!(pipeline.dead_letters().await, [], "{status}");
        assert_eq!(pipeline.effects(EffectKind::OptOutPut), [], "{status}");
        pipeline.sandbox.clear_faults();
        pipeline.quiet().await;

        for (id, person) in ids.iter().zip(&people) {
            let row = pipeline.settled(id).await;
            assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 1), "{status}");
            assert_eq!(pipeline.sandbox.effect_count(EffectKind::OptOutPut, ACCOUNT, &person.phone), 1, "{status}");
        }
        let gates = pipeline.store.gates().await.unwrap();
        assert!(gates.iter().all(|gate| !gate.paused), "{status}: {gates:?}");
    }
}

#[tokio::test]
async fn a_refused_token_is_found_out_by_the_look_at_the_subscription() {
    for (endpoint, paused) in [(None, true), (Some(Endpoint::ListIntegrations), false)] {
        let pipeline = TestPipeline::with(|setup| {
            setup.settings.textus.webhook_check_every = Duration::from_millis(300);
            // Longer than the test, so that only the subscription check makes calls.
            setup.settings.textus.paused_probe = Duration::from_mins(10);
        })
        .await;
        let refuse = FaultRule::new(Fault::status(401));
        pipeline.sandbox.fault(endpoint.into_iter().fold(refuse, FaultRule::on));

        eventually("the token is checked", async || !pipeline.asked(Endpoint::FindContactPhones).is_empty()).await;

        if paused {
            eventually("paused", async || {
                let gates = pipeline.store.gates().await.unwrap();
                gates.iter().any(|gate| gate.destination == Destination::TextUs && gate.paused)
            })
            .await;
        } else {
            let id = pipeline.send_sample(OUT, &someone()).await;
            assert_eq!(ending(&pipeline.settled(&id).await, RecordOptOut), "done");
        }
    }
}

#[tokio::test]
async fn an_operators_pause_stops_all_calls_until_it_is_lifted_and_costs_no_attempt() {
    let pipeline = TestPipeline::start().await;
    pipeline.store.pause_gate(Destination::TextUs, "maintenance").await.unwrap();
    // The worker learns of the pause within 250 ms. An event sent earlier could still be in flight.
    let told = std::time::Instant::now() + Duration::from_millis(600);
    eventually("told", async || std::time::Instant::now() > told).await;

    let opt_out = pipeline.send_sample(OUT, &someone()).await;
    let created = pipeline.send_sample("contact.created", &someone()).await;
    eventually("the system of record goes on", async || pipeline.people().await.len() == 1).await;
    assert_eq!(pipeline.sandbox.requests(), []);
    pipeline.store.resume_gate(Destination::TextUs).await.unwrap();
    pipeline.quiet().await;

    let row = pipeline.settled(&opt_out).await;
    assert_eq!((ending(&row, RecordOptOut).as_str(), attempts(&row, RecordOptOut)), ("done", 1));
    pipeline.settled(&created).await;
}
