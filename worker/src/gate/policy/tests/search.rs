//! Tests of a limit of the searches within a second, which no answer reports.

use super::*;

const FIRST: Call = Call { search: Some(Search::First), ..NOTE };
const FURTHER: Call = Call { search: Some(Search::Further), ..NOTE };
const OF_OPT_OUT: Call = Call { search: Some(Search::First), ..Call::new(Priority::OptOut, OperationClass::Reads) };
const OF_BACK_FILL: Call = Call { search: Some(Search::First), ..Call::new(Priority::BackFill, OperationClass::Reads) };

/// Rules of a destination that takes five searches a second.
fn five_searches() -> GateRules {
    GateRules { searches: 5, ..long_window() }
}

fn granted(policy: &mut Policy, now_ms: i64, process: &str, waiting: &[Call]) -> Vec<Call> {
    let asked = Exchange { rules: five_searches(), ..asked(process, 0, waiting.to_vec()) };
    policy.exchange(now_ms, &asked).into_iter().map(|(call, _)| call).collect()
}

#[test]
fn processes_share_the_searches_of_a_second_evenly_and_use_them_whatever_their_clocks() {
    for (processes, apart_ms) in [(1, 0), (3, 0), (3, 20), (3, 200), (8, 10), (12, 0)] {
        let mut policy = unlimited();
        let mut made: Vec<(i64, i64)> = Vec::new();
        for now_ms in 1_000..61_000 {
            // Each asks 15 ms after its last exchange.
            let process = now_ms % 15;
            if process < processes {
                let granted = granted(&mut policy, now_ms + process * apart_ms, &process.to_string(), &[FIRST; 3]);
                made.extend(granted.iter().map(|_| (now_ms, process)));
            }
        }

        let within = |from: i64| made.iter().filter(|(at, _)| (from..from + 1_000).contains(at)).count();
        let most = made.iter().map(|(from, _)| within(*from)).max();
        assert!(most.is_some_and(|most| most <= 5), "{processes} processes: {most:?} within a second");
        let of_all = 60_000 / 1_250 * 4;
        assert!(made.len() * 100 >= of_all * 85, "{processes} processes made {}", made.len());
        for process in 0..processes {
            let own = made.iter().filter(|(_, of)| *of == process).count();
            let share = made.len() / usize::try_from(processes).expect("a few");
            assert!(own * 100 >= share * 80, "{process} of {processes}, {apart_ms} ms apart: {own} of {}", made.len());
        }
    }
}

#[test]
fn of_five_searches_one_is_left_to_opt_outs_and_a_back_fill_leaves_two() {
    let mut policy = unlimited();
    assert_eq!(granted(&mut policy, 1_000, "a", &[OF_BACK_FILL; 9]).len(), 3);
    assert_eq!(granted(&mut policy, 1_000, "b", &[FIRST; 9]).len(), 1);
    assert_eq!(granted(&mut policy, 1_000, "c", &[OF_OPT_OUT; 9]).len(), 1);

    // Opt-outs that wait go first when there is room again, whoever asks before they do. So do notes before a back-fill.
    assert_eq!(granted(&mut policy, 2_255, "a", &[OF_BACK_FILL; 9]), []);
    assert_eq!(granted(&mut policy, 2_255, "b", &[FIRST; 9]), []);
    assert_eq!(granted(&mut policy, 2_260, "c", &[OF_OPT_OUT; 2]).len(), 2);
    assert_eq!(granted(&mut policy, 2_260, "a", &[OF_BACK_FILL; 9]), []);
    assert_eq!(granted(&mut policy, 2_260, "b", &[FIRST; 2]).len(), 2);
    assert_eq!(granted(&mut policy, 3_600, "a", &[OF_BACK_FILL; 9]).len(), 3);
}

#[test]
fn contacts_of_one_process_do_not_keep_the_notes_of_another_waiting() {
    let (mut policy, contact) = (unlimited(), Call { search: Some(Search::First), ..CONTACT });
    let mut made = [0, 0];
    for now_ms in 1_000..21_000 {
        made[0] += granted(&mut policy, now_ms, "import", &[contact; 6]).len();
        made[1] += granted(&mut policy, now_ms, "texts", &[FIRST; 6]).len();
    }
    assert!(made[0] + made[1] > 55 && made.iter().all(|made| *made > 20), "{made:?}");
}

#[test]
fn a_process_whose_searches_were_given_up_leaves_the_line() {
    let mut policy = unlimited();
    assert_eq!(granted(&mut policy, 1_000, "a", &[OF_OPT_OUT; 9]).len(), 5);
    let mut queue = crate::gate::queue::Queue::new("a".to_owned(), five_searches());
    queue.follow(policy.clone());

    let asked = queue.exchange().expect("a place in the line to give up");
    policy.exchange(1_100, &asked);
    queue.follow(policy.clone());

    assert!(queue.exchange().is_none());
    assert_eq!(granted(&mut policy, 2_300, "b", &[FIRST; 9]).len(), 4);
}

#[test]
fn a_process_that_died_keeps_no_place_in_the_line() {
    let mut policy = unlimited();
    assert_eq!(granted(&mut policy, 1_000, "dead", &[OF_OPT_OUT; 9]).len(), 5);
    assert_eq!(granted(&mut policy, 3_000, "a", &[FIRST; 9]), []);
    assert_eq!(granted(&mut policy, 3_600, "a", &[FIRST; 9]).len(), 4);
}

#[test]
fn a_search_that_waits_for_searches_holds_no_other_call_up() {
    let mut policy = unlimited();
    let contact = Call { search: None, ..CONTACT };
    for process in ["a", "b"] {
        let waiting = [[OF_OPT_OUT, FIRST, NOTE, contact].repeat(9)].concat();
        let granted = granted(&mut policy, 1_000, process, &waiting);
        let of = |kind: Call| granted.iter().filter(|call| **call == kind).count();
        assert_eq!((of(NOTE), of(contact)), (9, 9), "{process}");
    }
}

#[test]
fn a_search_that_an_attempt_needs_further_goes_before_those_that_begin() {
    let mut queue = crate::gate::queue::Queue::new("a".to_owned(), five_searches());
    for call in [FIRST, FIRST, FURTHER, FURTHER, OF_OPT_OUT] {
        queue.waits(call);
    }

    let asked = queue.exchange().expect("calls wait");

    assert_eq!(asked.waiting, [OF_OPT_OUT, FURTHER, FURTHER, FIRST, FIRST]);
}

#[test]
fn searches_without_room_in_hand_come_back_one_after_the_other() {
    let mut queue = crate::gate::queue::Queue::new("a".to_owned(), five_searches());
    // There is room, so that no search waits for others, however many wait for the pace.
    (0..50).for_each(|_| queue.waits(FIRST));
    assert_eq!(queue.sends_back(1_000, FIRST), None);
    (0..50).for_each(|_| queue.leaves(FIRST));
    while queue.policy.decide_of("b", 1_000, FIRST, &five_searches()).is_ok() {}

    let mut in_hand = 0;
    while queue.sends_back(1_000, FIRST).is_none() {
        queue.waits(FIRST);
        in_hand += 1;
    }
    assert_eq!(in_hand, 6, "four each 1.25 s for a quarter of 8 s");

    let returns: Vec<i64> = (0..40).filter_map(|_| queue.sends_back(1_000, FIRST)?.until_ms).collect();

    assert!(returns.is_sorted_by(|a, b| *b >= *a + 312 || *b == 31_000), "{returns:?}");
    assert_eq!(returns.len(), 40);
    // An attempt with a search behind it does not begin anew, and an opt-out waits for nobody.
    for call in [FURTHER, OF_OPT_OUT, NOTE] {
        assert_eq!(queue.sends_back(1_000, call), None, "{call:?}");
    }
}
