//! The sandbox in place of the real API, or the other way round. What is of the other world is told by its answers alone.

use std::time::{Duration, Instant};

use hookline_sandbox::RecordedRequest;
use jiff::Timestamp;

use crate::play::Play;
use crate::verdict::LATE;

/// The store knows which world it is for soon after the first answer.
const KNOWN_AFTER: i64 = 500;
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
const PAUSED_WITHIN: Duration = Duration::from_secs(5);
/// How soon a process that may not write asks again, and a moment.
const ASKED_AGAIN: Duration = Duration::from_millis(2_500);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether it was answered by the other world.
pub(crate) fn is_strange(request: &RecordedRequest, is_sandbox: bool) -> bool {
    request.status.is_some() && request.marked != is_sandbox
}

/// From now on the other world answers. Where none has answered yet, it would be the store's own.
pub(crate) async fn begin(play: &Play<'_>) {
    let deadline = Instant::now() + ANSWERED_WITHIN;
    let is_known = || {
        let before = Timestamp::now().as_millisecond() - KNOWN_AFTER;
        let requests = play.stage.all_in_one.sandbox.requests();
        requests.iter().any(|request| request.answered_at.is_some_and(|at| at.as_millisecond() < before))
    };
    while !is_known() {
        if Instant::now() > deadline {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let marked = !play.plan.is_sandbox;
    play.stage.all_in_one.sandbox.configure(|options| options.marked = marked);
}

/// The remedy: the destination is paused if the other world answered, and resumed once it does not any more.
pub(crate) async fn end(play: &mut Play<'_>) {
    let marked = play.plan.is_sandbox;
    play.stage.all_in_one.sandbox.configure(|options| options.marked = marked);
    let requests = play.stage.all_in_one.sandbox.requests();
    let pauses = |request: &RecordedRequest| is_strange(request, marked) && request.at > play.resumed();
    if requests.iter().any(pauses) && !becomes_paused(play).await {
        // An answer may come too late for its caller on a busy machine.
        play.failures.push(format!("{LATE} the other world answered, and the destination is not paused"));
    }
    play.resume().await;
    play.hold(ASKED_AGAIN);
}

async fn becomes_paused(play: &Play<'_>) -> bool {
    let deadline = Instant::now() + PAUSED_WITHIN;
    while Instant::now() < deadline {
        if is_paused(play).await {
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}

async fn is_paused(play: &Play<'_>) -> bool {
    let status = play.stage.json(&["status"]).await.unwrap_or_default();
    let textus = |one: &&serde_json::Value| one["destination"] == "textus";
    let textus = status["destinations"].as_array().and_then(|all| all.iter().find(textus));
    textus.is_some_and(|textus| textus["state"] == "paused")
}
