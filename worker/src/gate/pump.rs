//! Where several processes share a destination: asks the store for calls and tells it how they ended.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Gate;
use super::ration::Ration;

/// Between exchanges, so that what happens meanwhile shares one.
const PAUSE: Duration = Duration::from_millis(15);
const STORE_AWAY: Duration = Duration::from_millis(500);
/// The store is looked at where nothing happens here: the breaker may be closed elsewhere.
const LOOK: Duration = Duration::from_millis(250);

pub(super) async fn run(gate: &Gate, shutdown: &CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = gate.wanted.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let wait = if exchange(gate).await { PAUSE } else { STORE_AWAY };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// `false`: the store is away.
async fn exchange(gate: &Gate) -> bool {
    let Some(ask) = gate.line().ask(Instant::now()) else { return true };
    let (now_ms, who, pacing) = (gate.now_ms(), gate.id.clone(), gate.pacing());
    let asked = ask.clone();
    let change = move |state: Option<&str>, theirs_ms: i64| {
        // What an older or newer version wrote and this one cannot read is known again after a call or two.
        let mut ration: Ration = state.and_then(|state| serde_json::from_str(state).ok()).unwrap_or_default();
        let ahead = theirs_ms - now_ms;
        let mut ask = asked.clone();
        for end in &mut ask.ended {
            *end = end.shifted(ahead);
        }
        let mut reply = ration.exchange(theirs_ms, &who, &ask, pacing);
        reply.again_ms -= ahead;
        reply.view.probed_ms = reply.view.probed_ms.map(|at| at - ahead);
        (serde_json::to_string(&ration).unwrap_or_default(), reply)
    };
    match gate.store.change_ration(gate.destination, change).await {
        Ok(reply) => {
            let (now, now_ms) = (Instant::now(), gate.now_ms());
            let mut line = gate.line();
            line.told(&ask, &reply, now, now_ms);
            drop(line);
            gate.changed.notify_waiters();
            gate.show(&gate.lock());
            true
        }
        Err(error) => {
            tracing::debug!(destination = %gate.destination, %error, "ration.not_asked");
            gate.line().not_told(ask);
            false
        }
    }
}
