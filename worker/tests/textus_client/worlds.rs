//! The sandbox and the real API never mix: a store's kind is compared with who answers. The sandbox plays the real API
//! when its answers bear no mark.

use std::time::Duration;

use hookline_common::names::{Destination, OperationClass};
use hookline_common::settings::TextUsSettings;
use hookline_sandbox::{EffectKind, Endpoint, Fault, FaultRule};
use hookline_store::StoreKind;
use hookline_worker::destinations::error::DestinationError;
use hookline_worker::textus::opt_outs::Shows;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::helpers::{PHONE, TIMEOUT, TestApi, TestWorker, eventually, phone, segment, settings};

const CLASS: OperationClass = OperationClass::OptOutWrites;

/// Returns an API whose store another process has fixed to this kind.
async fn of_kind(kind: StoreKind) -> TestApi {
    let api = TestApi::start().await;
    assert_eq!(api.worker.store.fix_kind(kind).await.expect("a kind"), kind);
    api
}

fn answers_as(api: &TestApi, kind: StoreKind) {
    api.sandbox.configure(|options| options.marked = kind == StoreKind::Sandbox);
}

async fn put(api: &TestApi, worker: &TestWorker) -> Result<Shows, DestinationError> {
    worker.textus.put_opt_out(&api.log, "acme", &phone(PHONE)).await.map(|put| put.shows)
}

fn puts(api: &TestApi) -> usize {
    api.sandbox.effects().iter().filter(|effect| effect.kind == EffectKind::OptOutPut).count()
}

async fn reason(worker: &TestWorker) -> Option<String> {
    let gates = worker.store.gates().await.expect("the store answers");
    let gate = gates.into_iter().find(|gate| gate.destination == Destination::TextUs).expect("a gate");
    gate.reason_of_pause().map(str::to_owned)
}

/// Waits until all processes are held for this; the reason.
async fn paused(worker: &TestWorker) -> String {
    let is_for_this = |reason: String| reason.contains("sandbox and real API meet");
    eventually("paused for all", || async { reason(worker).await.is_some_and(is_for_this) }).await;
    reason(worker).await.expect("paused")
}

fn is_held(worker: &TestWorker) -> bool {
    worker.gate.no_room_for(Default::default(), &[CLASS]).is_some()
}

/// The sandbox's answer to one call: sent when it is told to.
async fn answers_late() -> (String, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    let ((asked, is_asked), (go, may_go)) = (oneshot::channel(), oneshot::channel());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a call");
        assert!(stream.read(&mut [0; 4096]).await.expect("a request") > 0);
        asked.send(()).expect("somebody waits");
        may_go.await.expect("told to go");
        let answer = b"HTTP/1.1 404 Not Found\r\nx-hookline-sandbox: 1\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.expect("somebody reads");
    });
    (base_url, is_asked, go)
}

fn other(kind: StoreKind) -> StoreKind {
    match kind {
        StoreKind::Sandbox => StoreKind::Real,
        StoreKind::Real => StoreKind::Sandbox,
    }
}

#[tokio::test]
async fn the_first_answer_fixes_what_a_store_is_for() {
    for kind in [StoreKind::Sandbox, StoreKind::Real] {
        let api = TestApi::start().await;
        answers_as(&api, kind);
        assert_eq!(api.worker.store.kind().await.unwrap(), None);

        api.worker.textus.ask_before_writing(CLASS).await.expect("nothing speaks against it");

        assert_eq!(api.worker.store.kind().await.unwrap(), Some(kind));
        assert_eq!(api.asked(), 1);
        assert_eq!(put(&api, &api.worker).await, Ok(Shows::This));
    }
}

#[tokio::test]
async fn a_process_that_meets_the_other_world_writes_nothing_and_says_what_to_do() {
    for kind in [StoreKind::Sandbox, StoreKind::Real] {
        for status in [200, 302, 401, 403, 404, 429, 500, 503] {
            let api = of_kind(kind).await;
            answers_as(&api, other(kind));
            if status != 200 {
                api.sandbox.fault(FaultRule::new(Fault::status(status)).on(Endpoint::FindContactPhones).times(1));
            }

            let refused = api.worker.textus.ask_before_writing(CLASS).await.expect_err("the other world");

            assert!(refused.is_paused(), "{kind:?} {status}: {refused}");
            let reason = paused(&api.worker).await;
            assert!(reason.contains("[textus] base_url") && reason.contains("hookline resume"), "{reason}");
            put(&api, &api.worker).await.expect_err("held");
            assert_eq!(puts(&api), 0, "{kind:?} {status}");
            assert_eq!(api.worker.store.kind().await.unwrap(), Some(kind));
            let told = api.another_worker().await;
            put(&api, &told).await.expect_err("held for every process");
        }
    }
}

#[tokio::test]
async fn no_answer_of_the_other_world_counts_that_comes_in_the_middle() {
    let api = of_kind(StoreKind::Real).await;
    answers_as(&api, StoreKind::Real);
    let contact = api.sandbox.add_contact("acme", "Marisol Ektberg", PHONE);
    assert_eq!(put(&api, &api.worker).await, Ok(Shows::This));
    answers_as(&api, StoreKind::Sandbox);

    let answered = put(&api, &api.worker).await.expect_err("no proof");
    assert!(answered.is_paused(), "{answered}");
    assert!(!answered.may_have_taken_effect(), "nothing reached the real API");
    assert_eq!(api.log.records().last().expect("a request").status, Some(201), "told in the attempt");
    paused(&api.worker).await;

    api.worker.store.resume_gate(Destination::TextUs).await.unwrap();
    eventually("resumed", || async { api.worker.gate.no_room_for(Default::default(), &[CLASS]).is_none() }).await;
    let read = api.worker.textus.contact(&api.log, &segment(&contact)).await.expect_err("reads neither");
    assert!(read.is_paused(), "{read}");
    paused(&api.worker).await;
}

#[tokio::test]
async fn the_other_world_that_takes_credentials_which_were_refused_keeps_calls_paused() {
    let api = of_kind(StoreKind::Real).await;
    answers_as(&api, StoreKind::Real);
    api.sandbox.fault(FaultRule::new(Fault::status(401)));
    let refused = put(&api, &api.worker).await.expect_err("refused");
    assert!(matches!(refused, DestinationError::CredentialsRefused { .. }), "{refused}");

    // The answer comes some milliseconds after its call, so that the end of the first pause lies between them.
    api.sandbox.configure(|options| options.latency = Duration::from_millis(20));
    answers_as(&api, StoreKind::Sandbox);
    api.sandbox.clear_faults();

    paused(&api.worker).await;
    put(&api, &api.worker).await.expect_err("held");
    assert_eq!(puts(&api), 0);
}

#[tokio::test]
async fn it_goes_on_where_the_right_one_answers_and_a_person_resumes() {
    let api = of_kind(StoreKind::Real).await;
    api.worker.textus.ask_before_writing(CLASS).await.expect_err("the sandbox");
    paused(&api.worker).await;
    answers_as(&api, StoreKind::Real);
    let mended = api.another_worker().await;
    mended.textus.ask_before_writing(CLASS).await.expect_err("paused still");

    api.worker.store.resume_gate(Destination::TextUs).await.unwrap();

    for worker in [&mended, &api.worker] {
        eventually("resumed", || async { worker.textus.ask_before_writing(CLASS).await.is_ok() }).await;
        assert_eq!(put(&api, worker).await, Ok(Shows::This));
    }
}

#[tokio::test]
async fn an_answer_of_the_other_world_that_comes_after_the_resume_pauses_nothing() {
    let api = of_kind(StoreKind::Real).await;
    let (base_url, is_asked, go) = answers_late().await;
    let settings = TextUsSettings { timeout: Duration::from_secs(60), ..settings(&base_url) };
    let late = api.another_worker_with(&settings).await;
    let (textus, log, contact) = (late.textus.clone(), api.log.clone(), segment("/contacts/1"));
    let read = tokio::spawn(async move { textus.contact(&log, &contact).await });
    is_asked.await.expect("it is on its way");
    api.worker.textus.ask_before_writing(CLASS).await.expect_err("the sandbox");
    paused(&api.worker).await;
    eventually("both are held", || async { is_held(&api.worker) && is_held(&late) }).await;

    answers_as(&api, StoreKind::Real);
    api.worker.store.resume_gate(Destination::TextUs).await.unwrap();
    eventually("both go on", || async { !is_held(&api.worker) && !is_held(&late) }).await;
    go.send(()).expect("the call waits");

    let read = read.await.expect("no panic").expect_err("it counts for nothing all the same");
    assert!(read.is_paused(), "{read}");
    assert!(!is_held(&late));
    assert_eq!(reason(&api.worker).await, None);
    api.worker.textus.ask_before_writing(CLASS).await.expect("the real API");
    assert_eq!(put(&api, &api.worker).await, Ok(Shows::This));
}

#[tokio::test]
async fn without_an_answer_a_real_store_goes_on_and_a_sandboxs_waits() {
    for fault in [Fault::Hang(Duration::from_secs(30)), Fault::Reset] {
        for kind in [None, Some(StoreKind::Real)] {
            let api = match kind {
                Some(kind) => of_kind(kind).await,
                None => TestApi::start().await,
            };
            answers_as(&api, StoreKind::Real);
            api.fail_once_on(Endpoint::FindContactPhones, fault.clone());
            let clock = std::time::Instant::now();

            api.worker.textus.ask_before_writing(CLASS).await.expect("it goes on");
            assert!(clock.elapsed() < TIMEOUT * 2, "{fault:?}");
            assert_eq!(put(&api, &api.worker).await, Ok(Shows::This), "{fault:?}");
            assert_eq!(api.worker.store.kind().await.unwrap(), Some(StoreKind::Real));
        }

        let api = of_kind(StoreKind::Sandbox).await;
        api.fail_once_on(Endpoint::FindContactPhones, fault.clone());
        let waits = api.worker.textus.ask_before_writing(CLASS).await.expect_err("it waits");
        assert!(matches!(waits, DestinationError::GateClosed { is_paused: false, .. }), "{waits}");
        assert_eq!(reason(&api.worker).await, None);
        api.worker.textus.ask_before_writing(CLASS).await.expect("and asks again");
    }
}

#[tokio::test]
async fn those_that_write_at_once_wait_for_one_question() {
    let api = TestApi::start().await;
    let asking = (0..50).map(|_| api.worker.textus.ask_before_writing(CLASS));

    for asked in futures::future::join_all(asking).await {
        asked.expect("nothing speaks against it");
    }

    assert_eq!(api.asked(), 1);
    assert_eq!(api.log.records(), [], "it is in no delivery's log");
}

#[tokio::test]
async fn those_that_wait_for_a_question_without_an_answer_ask_none_of_their_own() {
    let api = of_kind(StoreKind::Sandbox).await;
    api.sandbox.fault(FaultRule::new(Fault::Hang(Duration::from_secs(30))));
    let clock = std::time::Instant::now();
    let asking = (0..50).map(|_| api.worker.textus.ask_before_writing(CLASS));

    for asked in futures::future::join_all(asking).await {
        asked.expect_err("they wait");
    }

    assert_eq!(api.asked(), 1);
    assert!(clock.elapsed() < TIMEOUT * 3, "{:?}", clock.elapsed());
}

#[tokio::test]
async fn reads_that_fail_hold_up_no_question_before_an_opt_out() {
    let api = of_kind(StoreKind::Sandbox).await;
    let failing = api.sandbox.fault(FaultRule::new(Fault::status(503)).on(Endpoint::GetMessage));
    for _ in 0..8 {
        let _ = api.worker.textus.get_message(&api.log, &segment("Bn3RkQ8")).await;
    }
    let fresh = api.another_worker().await;
    assert!(fresh.textus.get_message(&api.log, &segment("Bn3RkQ8")).await.is_err_and(|error| error.status().is_none()));
    let _ = failing;

    fresh.textus.ask_before_writing(CLASS).await.expect("it is not held");
    assert_eq!(put(&api, &fresh).await, Ok(Shows::This));
}
