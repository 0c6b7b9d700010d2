//! Notices that nothing gets done, so that a back-fill which waits for long says why.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing may get done before the reason is told.
const LONG: Duration = Duration::from_secs(10);
/// How soon the same reason is told again.
const REPEAT: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_secs(1);

/// What a back-fill tells while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// One more item needs no more work in this run.
    Done,
    /// Nothing has got done for some time, for this reason. It goes on by itself.
    Held(&'a str),
}

pub(super) struct Held(Mutex<State>);

struct State {
    /// When something got done last.
    since: Instant,
    /// Why the last item that could not be done has to wait.
    why: Option<String>,
    told: Option<(Instant, String)>,
}

impl Default for Held {
    fn default() -> Self {
        Self(Mutex::new(State { since: Instant::now(), why: None, told: None }))
    }
}

impl Held {
    pub(super) fn done(&self) {
        self.done_at(Instant::now());
    }

    fn done_at(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.since, state.why) = (now, None);
    }

    pub(super) fn waits(&self, why: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).why = Some(why);
    }

    /// Tells why nothing gets done, until it is dropped.
    pub(super) async fn watch(&self, tell: impl Fn(Progress<'_>)) {
        self.done();
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(why) = self.to_tell(Instant::now()) {
                tell(Progress::Held(&why));
            }
        }
    }

    /// Returns the reason if it has to be told now.
    fn to_tell(&self, now: Instant) -> Option<String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let why = state.why.clone()?;
        let is_known =
            state.told.as_ref().is_some_and(|(at, told)| *told == why && now.saturating_duration_since(*at) < REPEAT);
        if is_known || now.saturating_duration_since(state.since) < LONG {
            return None;
        }
        state.told = Some((now, why.clone()));
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_is_told_once_with_its_reason() {
        let held = Held::default();
        let start = Instant::now();
        let tells = |seconds| held.to_tell(start + Duration::from_secs(seconds));
        held.done_at(start);
        assert_eq!(tells(60), None, "nothing waits");

        held.waits("lunch".to_owned());

        assert_eq!((tells(9), tells(10), tells(11)), (None, Some("lunch".to_owned()), None));
        held.waits("rain".to_owned());
        assert_eq!((tells(12), tells(200), tells(312)), (Some("rain".to_owned()), None, Some("rain".to_owned())));
        held.done_at(start + Duration::from_secs(320));
        assert_eq!(tells(700), None, "something got done");
        held.waits("rain".to_owned());
        assert_eq!(tells(329), None);
        assert_eq!(tells(700), Some("rain".to_owned()));
    }
}
