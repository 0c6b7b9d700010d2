//! Carries a request out, or not, as the faults that it meets say, and makes the response, intact or spoilt.

use std::future::Future;
use std::time::Duration;

use hyper::StatusCode;
use tokio_util::task::TaskTracker;

use crate::answer::Answer;
use crate::connection::Instead;
use crate::fault::Fault;
use crate::fault_rule::Met;
use crate::raw;
use crate::reply::{self, Response};

/// Answers one request. `carry_out` is called at most once; `latency` is added to the faults' own delays.
pub(crate) async fn serve<C, A>(
    met: &Met,
    latency: Duration,
    tasks: &TaskTracker,
    media_type: &'static str,
    carry_out: C,
) -> Result<Response, Instead>
where
    C: FnOnce() -> A + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let mut carry_out = Some(carry_out);
    let answer = match carry_out.take_if(|_| met.carries_out()) {
        Some(carry_out) => carry_out().await,
        // This answer is never sent: a fault that carries nothing out has its own answer or none.
        None => Answer::bare(StatusCode::SERVICE_UNAVAILABLE.as_u16()),
    };
    let wait = latency + met.delay;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let response = match met.fault.clone() {
        None | Some(Fault::Interim(_) | Fault::Delay(_) | Fault::Gzip) => reply::plain(answer),
        Some(Fault::Status { status, headers, body }) => reply::status(status, &headers, body),
        Some(Fault::Throttle { retry_after }) => reply::throttled(Some(&retry_after)),
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            reply::plain(answer)
        }
        Some(Fault::Hang(time) | Fault::EffectThenHang(time)) => {
            tokio::time::sleep(time).await;
            return Err(Instead::Reset);
        }
        Some(Fault::LateEffect(time)) => {
            // Runs in its own task, because this one ends when the client disconnects.
            let carried_out = tasks.spawn(async move {
                tokio::time::sleep(time).await;
                if let Some(carry_out) = carry_out {
                    carry_out().await;
                }
            });
            // Only the task's end counts here; a panic has already been reported.
            let _ = carried_out.await;
            return Err(Instead::Reset);
        }
        Some(Fault::Reset | Fault::EffectThenReset) => return Err(Instead::Reset),
        Some(Fault::EffectThenStatus(status)) => reply::status(status, &[], None),
        Some(Fault::EffectThenBody { status, media_type, body }) => reply::with_body(status, &media_type, body),
        Some(Fault::GarbageBody) => reply::garbage(media_type),
        Some(Fault::HugeBody(bytes)) => reply::huge(bytes, media_type),
        Some(Fault::LoneSurrogate) => reply::ending_in(answer, reply::LONE_SURROGATE),
        Some(Fault::CutUtf8) => reply::ending_in(answer, reply::CUT_UTF8),
        Some(Fault::TruncatedBody) => reply::truncated(answer),
        Some(Fault::DripBody(pause)) => reply::dripping(answer, pause),
    };
    Ok(if met.gzip { reply::compressed(response).await } else { response })
}

/// Sends a finished response, with the interim head that a fault may ask for.
pub(crate) async fn finish(met: &Met, response: Response) -> Result<Response, Instead> {
    let interim = match met.fault {
        Some(Fault::Interim(status)) => StatusCode::from_u16(status).ok().filter(StatusCode::is_informational),
        _ => None,
    };
    if response.status().is_informational() {
        return Err(Instead::Raw(raw::interim_only(&response.into_parts().0)));
    }
    match interim {
        Some(interim) => Err(Instead::Raw(raw::interim_then(interim, response).await)),
        None => Ok(response),
    }
}
