//! Describes why the gate holds a call, and when its delivery comes back by the wall clock.

use std::time::Duration;

use hookline_common::time::Timestamp;

use crate::destinations::error::DestinationError;
use crate::destinations::redact::redact;
use crate::gate::{Held, PAUSED_LOOK, Why};

impl From<Held> for DestinationError {
    fn from(held: Held) -> Self {
        let known = held.wait.unwrap_or_default();
        let is_paused = matches!(held.why, Why::Paused(_));
        let (why, wait) = match held.why {
            Why::Paused(reason) => (format!("paused: {reason}"), paused_look().min(held.wait.unwrap_or(Duration::MAX))),
            Why::RateLimit => ("its rate limit is reached".to_owned(), known),
            // Random extra time keeps these deliveries from coming back together.
            Why::Failing(class) => {
                (format!("{} fail; one probe at a time is let through", class.in_words()), known + apart())
            }
            Why::Turn => ("its turn is not yet".to_owned(), known + apart()),
        };
        let why = redact(&format!("calls to {} are held: {why}", held.destination));
        Self::GateClosed { until: in_time(wait), why, is_paused }
    }
}

/// Returns when a delivery looks again whether a pause has ended.
pub(crate) fn paused_until() -> Timestamp {
    in_time(paused_look())
}

/// Returns the wall-clock time `wait` from now. It is rounded up, because nothing may come early.
pub(crate) fn in_time(wait: Duration) -> Timestamp {
    Timestamp::now().plus(wait + Duration::from_millis(1))
}

fn paused_look() -> Duration {
    PAUSED_LOOK.mul_f64(1.0 + rand::random::<f64>())
}

fn apart() -> Duration {
    Duration::from_millis(rand::random_range(500..1000))
}
