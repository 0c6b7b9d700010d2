//! Decides when a failed delivery is retried, or that it is given up. Pure except for the jitter: no clock, no I/O.

use std::time::Duration;

use hookline_common::backoff;
use hookline_common::names::DeadReason;
use hookline_common::settings::RetrySettings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Wait this long, then make the next attempt.
    Again(Duration),
    GiveUp(DeadReason),
}

/// Decides about a delivery whose `attempt` (counted from 1) failed `age` after its first attempt. `at_least` is the
/// wait that the destination asked for.
pub(crate) fn decide(settings: &RetrySettings, attempt: u32, age: Duration, at_least: Option<Duration>) -> Decision {
    if age >= settings.max_age {
        return Decision::GiveUp(DeadReason::TooOld);
    }
    if settings.max_attempts > 0 && attempt >= settings.max_attempts {
        return Decision::GiveUp(DeadReason::AttemptsExhausted);
    }
    Decision::Again(full_jitter(settings, attempt).max(at_least.unwrap_or_default()))
}

fn full_jitter(settings: &RetrySettings, attempt: u32) -> Duration {
    backoff::full_jitter(settings.initial, settings.multiplier, settings.max, attempt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> RetrySettings {
        RetrySettings {
            initial: Duration::from_secs(5),
            multiplier: 2.0,
            max: Duration::from_secs(6 * 3600),
            max_attempts: 0,
            max_age: Duration::from_secs(7 * 86_400),
        }
    }

    #[test]
    fn a_delivery_is_given_up_by_age_and_by_attempts_if_set() {
        let week = Duration::from_secs(7 * 86_400);
        assert_eq!(decide(&settings(), 3, week, None), Decision::GiveUp(DeadReason::TooOld));
        assert!(matches!(decide(&settings(), 1_000, Duration::ZERO, None), Decision::Again(_)));

        let limited = RetrySettings { max_attempts: 3, ..settings() };
        assert!(matches!(decide(&limited, 2, Duration::ZERO, None), Decision::Again(_)));
        assert_eq!(decide(&limited, 3, Duration::ZERO, None), Decision::GiveUp(DeadReason::AttemptsExhausted));
    }

    #[test]
    fn the_jitter_is_full() {
        let delays: Vec<Duration> = (0..400).map(|_| full_jitter(&settings(), 4)).collect();

        let quarter = Duration::from_secs(10);
        assert!(delays.iter().any(|delay| *delay < quarter), "nothing in the lowest quarter");
        assert!(delays.iter().any(|delay| *delay > 3 * quarter), "nothing in the highest quarter");
    }

    proptest! {
        #[test]
        fn a_delay_stays_under_its_interval_and_above_what_was_asked_for(
            attempt in 1_u32..300,
            initial_ms in 1_u64..60_000,
            asked_ms in proptest::option::of(0_u64..900_000),
        ) {
            let settings = RetrySettings { initial: Duration::from_millis(initial_ms), ..settings() };
            let asked = asked_ms.map(Duration::from_millis);

            let Decision::Again(delay) = decide(&settings, attempt, Duration::ZERO, asked) else {
                panic!("given up")
            };

            let factor = 2_f64.powi(i32::try_from(attempt - 1).expect("small").min(60));
            let interval = settings.initial.as_secs_f64() * factor;
            let most = interval.min(settings.max.as_secs_f64()).max(asked.unwrap_or_default().as_secs_f64());
            prop_assert!(delay.as_secs_f64() <= most + 0.001);
            prop_assert!(delay >= asked.unwrap_or_default());
        }
    }
}
