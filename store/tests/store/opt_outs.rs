//! The matrix of opt-outs and opt-ins: order of arrival, ties, unreadable times, echoes, re-arming, two accounts.

use std::time::Duration;

use hookline_common::event::EventId;
use hookline_common::names::{HandlerName, SkipReason};
use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{
    Claim, ClaimRequest, ClaimToken, OptEvent, OptMethod, OptStanding, PutAnswer, PutDecision,
};

use crate::helpers::{TestStore, at, id_of, phone};

/// An opt event of `acme` by default; its name is its identity.
#[derive(Clone)]
pub(crate) struct Opt {
    id: EventId,
    name: String,
    pub(crate) account: &'static str,
    phone: Phone,
    opted_out: bool,
    time: Option<i64>,
    received: i64,
    method: OptMethod,
}

/// An opt-out that was received 1,000 s after it was made.
pub(crate) fn out(name: &str, time: i64) -> Opt {
    Opt {
        id: id_of(name),
        name: name.to_owned(),
        account: "acme",
        phone: phone(),
        opted_out: true,
        time: Some(time),
        received: time + 1000,
        method: OptMethod::Webhook,
    }
}

pub(crate) fn into(name: &str, time: i64) -> Opt {
    Opt { opted_out: false, ..out(name, time) }
}

impl Opt {
    pub(crate) fn of(self, account: &'static str) -> Self {
        Self { account, ..self }
    }

    fn untimed(self, received: i64) -> Self {
        Self { time: None, received, ..self }
    }

    pub(crate) fn received(self, received: i64) -> Self {
        Self { received, ..self }
    }

    /// The same event as a text that consists of a keyword alone.
    pub(crate) fn by_text(self) -> Self {
        Self { method: OptMethod::Keyword, ..self }
    }

    /// Does all that happens for a START text: the store notes the skip.
    pub(crate) async fn noted(&self, store: &Store) {
        store.note_skipped(&self.event(), SkipReason::NoAction).await.expect("the store answers");
    }

    /// Claims the effect as `record_opt_out` does for the PUT.
    async fn claim(&self, store: &Store, target: &str) -> ClaimToken {
        let request = ClaimRequest {
            handler: HandlerName::RecordOptOut,
            target,
            effect_key: self.id.as_str(),
            event_id: &self.id,
            owner: &self.name,
            lease: Duration::from_secs(35),
            settle_after: Duration::from_secs(10),
        };
        match store.claim(&request).await.expect("the store answers") {
            Claim::Fresh(token) => token,
            claim @ (Claim::AfterUnknown { .. } | Claim::Done { .. } | Claim::Wait { .. }) => {
                panic!("{} is not claimed for the first time: {claim:?}", self.name)
            }
        }
    }

    fn event(&self) -> OptEvent<'_> {
        OptEvent {
            event_id: &self.id,
            source_event_id: Some(&self.name),
            account: self.account,
            phone: &self.phone,
            opted_out: self.opted_out,
            event_time: self.time.map(at),
            received_at: at(self.received),
            method: self.method,
            targets: &[],
        }
    }

    pub(crate) async fn record(&self, store: &Store) -> OptStanding {
        store.record_opt_event(&self.event()).await.expect("the store answers")
    }

    pub(crate) async fn decide(&self, store: &Store, target: &str) -> PutDecision {
        store.decide_put(&self.event(), target).await.expect("the store answers")
    }

    pub(crate) async fn answered(&self, store: &Store, target: &str, answer: PutAnswer) {
        store.put_answered(&self.id, &self.phone, target, answer).await.expect("the store answers");
    }

    /// Records the event, decides to PUT it to each target, and records the answers.
    async fn put(&self, store: &Store, targets: &[&str], answer: PutAnswer) {
        assert_eq!(self.record(store).await, OptStanding::Current);
        for target in targets {
            assert_eq!(self.decide(store, target).await, PutDecision::Put, "{target}");
            self.answered(store, target, answer).await;
        }
    }

    async fn recorded_and_decided(&self, store: &Store, target: &str) -> PutDecision {
        self.record_and_decide(store, target).await.unwrap_or_else(|| panic!("{} is stale", self.name))
    }

    pub(crate) async fn record_and_decide(&self, store: &Store, target: &str) -> Option<PutDecision> {
        store.record_and_decide(&self.event(), target).await.expect("the store answers")
    }
}

/// An opt-out with the same time and account for every caller.
pub(crate) fn opted_out<'a>(event_id: &'a EventId, phone: &'a Phone) -> OptEvent<'a> {
    OptEvent {
        event_id,
        source_event_id: None,
        account: "acme",
        phone,
        opted_out: true,
        event_time: Some(at(10)),
        received_at: at(11),
        method: OptMethod::Webhook,
        targets: &[],
    }
}

const OK: PutAnswer = PutAnswer::Status(201);

/// A name, the events in their order of arrival, and the state at the end.
type Case = (&'static str, Vec<(Opt, OptStanding)>, (bool, i64));

#[tokio::test]
async fn state_follows_event_time_whatever_the_order_of_arrival() {
    use OptStanding::{Current, Stale};
    let cases: Vec<Case> = vec![
        ("out", vec![(out("a", 10), Current)], (true, 10)),
        ("in", vec![(into("a", 10), Current)], (false, 10)),
        ("out, in", vec![(out("a", 10), Current), (into("b", 20), Current)], (false, 20)),
        ("in, then an older out", vec![(into("a", 20), Current), (out("b", 10), Stale)], (false, 20)),
        ("out, then an older in", vec![(out("a", 20), Current), (into("b", 10), Stale)], (true, 20)),
        ("a tie, out first", vec![(out("a", 10), Current), (into("b", 10), Stale)], (true, 10)),
        ("a tie, in first", vec![(into("a", 10), Current), (out("b", 10), Current)], (true, 10)),
        ("an older out after a newer", vec![(out("a", 20), Current), (out("b", 10), Current)], (true, 20)),
        ("out, in, out", vec![(out("a", 10), Current), (into("b", 20), Current), (out("c", 30), Current)], (true, 30)),
        (
            "the older in of two does not win",
            vec![(into("a", 30), Current), (into("b", 10), Current), (out("c", 20), Stale)],
            (false, 30),
        ),
        ("untimed out", vec![(out("a", 0).untimed(15), Current)], (true, 15)),
        (
            "untimed out received before the newest in",
            vec![(into("a", 20), Current), (out("b", 0).untimed(15), Stale)],
            (false, 20),
        ),
        (
            "an in that is dated ahead of its receipt, then an out",
            vec![(into("a", 1_000_000).received(10), Current), (out("b", 20), Current)],
            (true, 20),
        ),
        (
            "an out that is dated ahead of its receipt, then an in that is newer than the receipt only",
            vec![(out("a", 100).received(10), Current), (into("b", 90), Stale)],
            (true, 90),
        ),
        (
            "an out that is dated ahead of its receipt, then an in that is newer both ways",
            vec![(out("a", 100).received(10), Current), (into("b", 110), Current)],
            (false, 110),
        ),
        (
            "untimed out, then a newer in",
            vec![(out("a", 0).untimed(15), Current), (into("b", 16), Current)],
            (false, 16),
        ),
        ("untimed in", vec![(out("a", 10), Current), (into("b", 0).untimed(15), Stale)], (true, 10)),
        (
            "another account's in does not make an out stale",
            vec![(into("a", 20).of("other"), Current), (out("b", 10), Current)],
            (false, 20),
        ),
        (
            "a tie across accounts is opted out",
            vec![(into("a", 20).of("other"), Current), (out("b", 20), Current)],
            (true, 20),
        ),
    ];
    for (name, steps, (opted_out, time)) in cases {
        let TestStore { store, home: _home } = TestStore::new().await;
        for (opt, expected) in &steps {
            assert_eq!(opt.record(&store).await, *expected, "{name}: {}", opt.name);
        }
        assert_eq!(store.newest_state(&phone()).await.unwrap(), Some((opted_out, at(time))), "{name}");
        for (opt, _) in &steps {
            opt.record(&store).await;
        }
        assert_eq!(store.newest_state(&phone()).await.unwrap(), Some((opted_out, at(time))), "{name}, repeated");
        assert_eq!(store.prove(&phone()).await.unwrap().len(), steps.len(), "{name}: one entry per event");
    }
}

#[tokio::test]
async fn an_untimed_opt_in_alone_leaves_no_state() {
    let TestStore { store, home: _home } = TestStore::new().await;

    assert_eq!(into("a", 0).untimed(15).record(&store).await, OptStanding::Stale);

    assert_eq!(store.newest_state(&phone()).await.unwrap(), None);
}

#[tokio::test]
async fn a_retried_opt_out_is_measured_against_others_never_itself() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let (timed, untimed) = (out("timed", 10), out("untimed", 0).untimed(15));
    for opt in [&timed, &untimed] {
        assert_eq!(opt.record(&store).await, OptStanding::Current);
        assert_eq!(opt.record(&store).await, OptStanding::Current);
    }

    into("in", 20).record(&store).await;

    assert_eq!(timed.record(&store).await, OptStanding::Stale, "overtaken while it was waiting for its retry");
    assert_eq!(untimed.record(&store).await, OptStanding::Stale, "its time is when it was received");
}

#[tokio::test]
async fn the_account_that_raised_the_opt_out_gets_its_put_too_and_each_target_its_own() {
    let TestStore { store, home: _home } = TestStore::new().await;

    out("a", 10).put(&store, &["acme", "other"], OK).await;

    let rows = store.opt_outs(10, None).await.unwrap().rows;
    assert_eq!((rows.len(), rows[0].put_status, rows[0].opted_out), (1, Some(201), true));
    assert_eq!(rows[0].source_event_id.as_deref(), Some("a"));
}

#[tokio::test]
async fn a_retry_puts_again_until_its_answer_is_in() {
    for answer in [PutAnswer::NoAnswer, PutAnswer::Status(503), PutAnswer::Status(429), PutAnswer::Status(409)] {
        let TestStore { store, home: _home } = TestStore::new().await;
        let opt = out("a", 10);
        opt.put(&store, &["acme"], answer).await;

        assert_eq!(opt.recorded_and_decided(&store, "acme").await, PutDecision::Put, "{answer:?}");
    }
    for answer in [OK, PutAnswer::Status(200), PutAnswer::Status(204), PutAnswer::ReadBack(409)] {
        let TestStore { store, home: _home } = TestStore::new().await;
        let opt = out("a", 10);
        opt.put(&store, &["acme"], answer).await;

        assert_eq!(opt.recorded_and_decided(&store, "acme").await, PutDecision::Duplicate, "{answer:?}");
        assert_eq!(opt.decide(&store, "other").await, PutDecision::Put, "another target");
    }
}

#[tokio::test]
async fn an_echo_waits_for_the_put_in_flight_and_is_one_once_that_is_proved() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let cause = out("cause", 10);
    let claim = cause.claim(&store, "other").await;
    cause.record(&store).await;
    assert_eq!(cause.decide(&store, "other").await, PutDecision::Put);

    let early = out("early echo", 11).of("other");
    assert!(is_wait(early.recorded_and_decided(&store, "other").await));
    assert_eq!(early.decide(&store, "acme").await, PutDecision::Put, "no other target waits");

    cause.answered(&store, "other", OK).await;
    store.release(&claim).await.unwrap();
    assert_eq!(early.decide(&store, "other").await, PutDecision::Echo);
}

fn is_wait(decision: PutDecision) -> bool {
    matches!(decision, PutDecision::Wait { .. })
}

#[tokio::test]
async fn nobody_waits_for_a_put_whose_claim_has_ended_nor_for_one_that_was_answered() {
    for answer in [None, Some(PutAnswer::NoAnswer), Some(PutAnswer::Status(503))] {
        let TestStore { store, home: _home } = TestStore::new().await;
        let cause = out("cause", 10);
        let claim = cause.claim(&store, "acme").await;
        cause.record(&store).await;
        assert_eq!(cause.decide(&store, "acme").await, PutDecision::Put);
        match answer {
            Some(answer) => cause.answered(&store, "acme", answer).await,
            None => store.release(&claim).await.unwrap(),
        }

        assert_eq!(out("next", 12).recorded_and_decided(&store, "acme").await, PutDecision::Put, "{answer:?}");
    }
}

#[tokio::test]
async fn of_those_whose_puts_have_no_answer_the_earlier_waits_for_the_later_and_never_both() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let [one, two] = [out("one", 10), out("two", 11)];
    for opt in [&one, &two] {
        opt.record(&store).await;
        assert_eq!(opt.decide(&store, "acme").await, PutDecision::Put);
    }

    // Both events come again, after a crash.
    for opt in [&one, &two] {
        opt.claim(&store, "acme").await;
    }

    assert!(is_wait(one.decide(&store, "acme").await));
    assert_eq!(two.decide(&store, "acme").await, PutDecision::Put);
    assert!(is_wait(out("three", 12).recorded_and_decided(&store, "acme").await));
}

#[tokio::test]
async fn only_a_proved_put_explains_an_echo() {
    for (answer, expected) in [
        (PutAnswer::NoAnswer, PutDecision::Put),
        (PutAnswer::NotSent, PutDecision::Put),
        (PutAnswer::Status(502), PutDecision::Put),
        (PutAnswer::Status(422), PutDecision::Put),
        (PutAnswer::Unproven(200), PutDecision::Put),
        (PutAnswer::ReadBack(422), PutDecision::Echo),
        (PutAnswer::ReadBack(200), PutDecision::Echo),
        (OK, PutDecision::Echo),
    ] {
        let TestStore { store, home: _home } = TestStore::new().await;
        out("cause", 10).put(&store, &["other"], answer).await;
        let event = out("event", 12).of("other");
        assert_eq!(event.recorded_and_decided(&store, "other").await, expected, "{answer:?}");
        assert_eq!(event.decide(&store, "acme").await, PutDecision::Put, "each target on its own, {answer:?}");
    }
}

#[tokio::test]
async fn an_echo_is_one_however_far_our_clock_is_behind_the_one_that_dates_receipts() {
    let TestStore { store, home: _home } = TestStore::new().await;
    let ahead = (Timestamp::now().as_millis() - at(0).as_millis()) / 1000 + 3600;
    out("cause", ahead).put(&store, &["acme"], OK).await;

    assert_eq!(out("echo", ahead + 1).recorded_and_decided(&store, "acme").await, PutDecision::Echo);
}

#[tokio::test]
async fn the_targets_that_were_configured_first_are_kept() {
    let test = TestStore::new().await;
    let (event_id, opt_in_id, phone) = (id_of("a"), id_of("in"), phone());
    let [first, later] = [vec!["acme".to_owned(), "other".to_owned()], vec!["new".to_owned()]];
    for targets in [&first, &later] {
        test.store.record_opt_event(&OptEvent { targets, ..opted_out(&event_id, &phone) }).await.unwrap();
    }
    let opt_in = OptEvent { opted_out: false, targets: &first, ..opted_out(&opt_in_id, &phone) };
    test.store.record_opt_event(&opt_in).await.unwrap();

    let rows = sqlx::query_as::<_, (String, String)>("SELECT event_id, account FROM opt_out_targets ORDER BY account")
        .fetch_all(&mut test.sql().await)
        .await
        .unwrap();

    assert_eq!(rows, first.iter().map(|account| (event_id.to_string(), account.clone())).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_opt_out_from_elsewhere_finds_the_put_already_done() {
    let TestStore { store, home: _home } = TestStore::new().await;
    out("first", 10).put(&store, &["acme"], OK).await;

    let second = out("second", 20).of("elsewhere");

    assert_eq!(second.recorded_and_decided(&store, "acme").await, PutDecision::AlreadyDone);
    assert_eq!(second.decide(&store, "other").await, PutDecision::Put, "where none was made");
}

#[tokio::test]
async fn a_put_that_was_not_answered_well_is_made_by_the_next_event() {
    for answer in [PutAnswer::NoAnswer, PutAnswer::Status(500), PutAnswer::Status(422)] {
        let TestStore { store, home: _home } = TestStore::new().await;
        out("first", 10).put(&store, &["acme"], answer).await;

        let second = out("second", 20).of("elsewhere");

        assert_eq!(second.recorded_and_decided(&store, "acme").await, PutDecision::Put, "{answer:?}");
    }
}

#[tokio::test]
async fn an_opt_in_since_in_any_account_arms_the_put_again() {
    for account in ["acme", "elsewhere"] {
        let TestStore { store, home: _home } = TestStore::new().await;
        out("first", 10).put(&store, &["acme"], OK).await;
        into("in", 20).of(account).record(&store).await;

        let same = out("second", 30);

        assert_eq!(same.recorded_and_decided(&store, "acme").await, PutDecision::Put, "no echo: in by {account}");
        let from_elsewhere = out("third", 30).of("third account");
        assert_eq!(from_elsewhere.recorded_and_decided(&store, "acme").await, PutDecision::Put, "in by {account}");
    }
}

#[tokio::test]
async fn an_opt_in_that_is_recorded_after_the_put_arms_it_again_however_old_it_is() {
    for time in [9, 10] {
        let TestStore { store, home: _home } = TestStore::new().await;
        out("first", 10).put(&store, &["acme"], OK).await;
        assert_eq!(into("in", time).record(&store).await, OptStanding::Stale, "{time}");

        out("next", 30).put(&store, &["acme"], OK).await;
        assert_eq!(out("echo", 31).recorded_and_decided(&store, "acme").await, PutDecision::Echo, "once, {time}");
    }
}

#[tokio::test]
async fn an_opt_in_since_that_cannot_say_when_it_was_arms_the_put_again() {
    let TestStore { store, home: _home } = TestStore::new().await;
    out("first", 10).put(&store, &["acme"], OK).await;
    assert_eq!(into("in", 0).untimed(50).record(&store).await, OptStanding::Stale);

    assert_eq!(out("second", 30).recorded_and_decided(&store, "acme").await, PutDecision::Put, "no echo");
    let other = out("other", 30).of("elsewhere");
    assert_eq!(other.recorded_and_decided(&store, "acme").await, PutDecision::Put, "not done already");
}

#[tokio::test]
async fn an_opt_in_that_was_known_before_the_put_arms_it_only_where_it_is_newer_than_its_cause() {
    let TestStore { store, home: _home } = TestStore::new().await;
    into("in", 20).of("elsewhere").record(&store).await;
    out("first", 10).put(&store, &["acme"], OK).await;

    out("second", 21).put(&store, &["acme"], OK).await;

    assert_eq!(out("echo", 22).recorded_and_decided(&store, "acme").await, PutDecision::Echo);
    let other = out("other", 22).of("third account");
    assert_eq!(other.recorded_and_decided(&store, "acme").await, PutDecision::AlreadyDone);
}

#[tokio::test]
async fn after_a_new_put_its_own_echo_is_recognised_again() {
    let TestStore { store, home: _home } = TestStore::new().await;
    out("first", 10).put(&store, &["acme"], OK).await;
    into("in", 20).record(&store).await;
    out("second", 30).put(&store, &["acme"], OK).await;

    assert_eq!(out("echo", 31).recorded_and_decided(&store, "acme").await, PutDecision::Echo);
}

#[tokio::test]
async fn another_phone_is_another_story() {
    let TestStore { store, home: _home } = TestStore::new().await;
    out("first", 10).put(&store, &["acme"], OK).await;

    let stranger = Opt { phone: Phone::parse("+12025550100").unwrap(), ..out("second", 5) };

    assert_eq!(stranger.recorded_and_decided(&store, "acme").await, PutDecision::Put);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twins_in_two_processes_one_waits_for_the_other() {
    let test = TestStore::new().await;
    let other = test.other().await;
    for round in 0..10 {
        let number = Phone::parse(&format!("+1202555{:04}", 1000 + round)).unwrap();
        let [left, right] = [0, 1].map(|i| Opt { phone: number.clone(), ..out(&format!("{round}-{i}"), 10) });
        let decide = async |opt: &Opt, store: &Store| {
            opt.claim(store, "acme").await;
            opt.recorded_and_decided(store, "acme").await
        };

        let (a, b) = tokio::join!(decide(&left, &test.store), decide(&right, &other));

        assert!([a, b].contains(&PutDecision::Put), "{a:?} {b:?}");
        assert!(is_wait(a) || is_wait(b), "{a:?} {b:?}");
    }
    assert_eq!(test.store.verify(None).await.unwrap().broken, None);
}

#[tokio::test]
async fn an_opt_out_that_an_opt_in_overtakes_before_its_put_is_decided_is_stale() {
    let TestStore { store, home: _home } = TestStore::new().await;
    out("cause", 10).put(&store, &["acme"], PutAnswer::Status(201)).await;
    // The echo of that PUT is current when it is recorded.
    let echo = out("echo", 11);
    assert_eq!(echo.record(&store).await, OptStanding::Current);

    assert_eq!(into("in", 12).record(&store).await, OptStanding::Current);

    assert_eq!(echo.decide(&store, "acme").await, PutDecision::Stale);
    assert_eq!(echo.decide(&store, "other").await, PutDecision::Stale, "for every target");
    assert_eq!(out("again", 13).recorded_and_decided(&store, "acme").await, PutDecision::Put, "a newer one is PUT");
}
