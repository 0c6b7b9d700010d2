//! Tests of a limit of the calls within any time of some length.

use super::*;

/// Rules of a destination that counts the calls within any time of a window's length.
fn rolling() -> GateRules {
    GateRules { is_rolling: true, reserve: 0.01, ..rules() }
}

#[test]
fn others_and_a_missing_answer_do_not_stop_calls_within_a_rolling_limit() {
    let mut simulation = Simulation::of(4);
    simulation.server.slides = true;
    simulation.rules = rolling();
    simulation.others_per_second = 2;
    simulation.run(WINDOW_MS * 2);

    let (used, refused) = simulation.measure(6);
    let left = 100 - 2 * WINDOW_MS / 1000;
    let others_refused = simulation.server.others_refused;
    println!("{used} % used where {left} % are left, {refused} refused, {others_refused} of others");
    assert!(used * 100 >= left * 85, "{used} % used");
    assert_eq!((refused, others_refused), (0, 0));

    // The other programs are gone, and so is what our last answer said of them.
    simulation.others_per_second = 0;
    simulation.now_ms += WINDOW_MS;
    let (used, refused) = simulation.measure(6);
    assert!(used >= 94 && refused == 0, "{used} % used, {refused} refused");
}

#[test]
fn within_a_rolling_limit_others_make_up_for_the_calls_of_opt_outs() {
    let (mut policy, rules) = (Policy::default(), rolling());
    let window = Some(WindowSeen { limit: 100, remaining: 99, reset_ms: WINDOW_MS, lasts_ms: WINDOW_MS });
    let seen = Answer { window, ..answer(OperationClass::Reads, 1_000, Meaning::Success) };
    policy.record(&Report::Answer(seen), &rules);

    for number in 0..30 {
        assert!(policy.decide(1_000, OPT_OUT, &rules).is_ok(), "{number}");
    }

    // Ten could be made at once, so the pace has to earn twenty calls, and the note's own.
    assert!(policy.decide(1_000 + WINDOW_MS * 20 / 100, NOTE, &rules).is_err());
    assert!(policy.decide(1_000 + WINDOW_MS * 23 / 100, NOTE, &rules).is_ok());
}

fn rolling_answer(at_ms: i64, remaining: i64, lasts_ms: i64) -> Report {
    let window = Some(WindowSeen { limit: LIMIT, remaining, reset_ms: at_ms + lasts_ms, lasts_ms });
    Report::Answer(Answer { window, ..answer(OperationClass::Reads, at_ms, Meaning::Success) })
}

#[test]
fn the_last_calls_of_a_rolling_limit_are_left_to_those_who_go_first() {
    const BACK_FILL: Call = Call::new(Priority::BackFill, OperationClass::ContactWrites);
    let cases: [(i64, &[Call]); 4] =
        [(1, &[]), (2, &[OPT_OUT]), (3, &[OPT_OUT, NOTE]), (14, &[OPT_OUT, NOTE, BACK_FILL])];
    let rules = GateRules { reserve: 0.02, ..rolling() };
    for (remaining, may) in cases {
        let mut policy = Policy::default();
        policy.record(&rolling_answer(1_000, remaining, WINDOW_MS), &rules);
        for call in [OPT_OUT, NOTE, BACK_FILL] {
            let is_go = policy.clone().decide(1_000, call, &rules).is_ok();
            assert_eq!(is_go, may.contains(&call), "{remaining} {call:?}");
        }
    }
}

#[test]
fn a_rolling_limit_forgets_what_cannot_be() {
    let rules = rolling();
    // A clock was set back since this answer, which would be the newest for a long time.
    let mut policy = Policy::default();
    policy.record(&rolling_answer(60_000, 0, WINDOW_MS), &rules);
    assert!(policy.decide(40_000, NOTE, &rules).is_err());
    policy.record(&rolling_answer(40_000, 50, WINDOW_MS), &rules);
    assert!(policy.decide(42_000, NOTE, &rules).is_ok());

    // An interval that is longer than the vendor's would hold everything for as long.
    let mut policy = Policy::default();
    policy.record(&rolling_answer(1_000, 0, 900_000), &rules);
    assert!(policy.decide(1_000 + WINDOW_MS, OPT_OUT, &rules).is_err());
    assert!(policy.decide(2_000 + WINDOW_MS, OPT_OUT, &rules).is_ok());
}

#[test]
fn calls_after_the_newest_answer_do_not_hide_those_of_others() {
    let (mut policy, rules) = (Policy::default(), rolling());
    policy.record(&rolling_answer(1_000, 40, WINDOW_MS), &rules);
    // Others have made 60, of which 2 are not told from ours. That leaves 40 calls of a window: one in 500 ms.
    while is_rolling_go(&mut policy, 1_000) {}

    assert!(!is_rolling_go(&mut policy, 1_480));
    assert!(is_rolling_go(&mut policy, 1_520));
}

fn is_rolling_go(policy: &mut Policy, now_ms: i64) -> bool {
    policy.decide(now_ms, NOTE, &rolling()).is_ok()
}

#[test]
fn nearly_all_of_a_rolling_limit_is_used_and_it_is_not_overrun_by_one_process_or_many() {
    for workers in [1, 4, 10] {
        let mut simulation = Simulation::of(workers);
        simulation.server.slides = true;
        simulation.rules = rolling();
        simulation.run(WINDOW_MS * 2);

        let (used, refused) = simulation.measure(6);
        println!("{workers}: {used} % used, {refused} refused");
        assert!(used >= 95, "{workers}: {used} % used");
        assert_eq!(refused, 0, "{workers}");
        let now_ms = simulation.now_ms;
        assert!(simulation.policy.decide(now_ms, OPT_OUT, &simulation.rules).is_ok(), "an opt-out has room");

        // After a quiet time, what still counts is not guessed.
        simulation.server.forget();
        for quiet_ms in [3_000, 8_000, 12_000, 19_000, 40_000] {
            simulation.now_ms += quiet_ms;
            simulation.run(5_000);
        }
        assert_eq!(simulation.server.refused, 0, "{workers}");
    }
}
