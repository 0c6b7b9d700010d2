//! Tests against a simulated destination, millisecond by millisecond. Its windows are fixed and begin with the first
//! call, and it reports them in whole seconds, as the sandbox and the vendor do.

use super::*;

mod rolling;
mod search;

const LIMIT: i64 = 100;
const WINDOW_MS: i64 = 20_000;
const LATENCY_MS: i64 = 20;
const NOTE: Call = Call::new(Priority::Note, OperationClass::Reads);
const CONTACT: Call = Call::new(Priority::Contact, OperationClass::ContactWrites);
const OPT_OUT: Call = Call::OPT_OUT_WRITE;
const CHECK: Call = Call { checks_credentials: true, ..Call::new(Priority::OptOut, OperationClass::Reads) };
const ALL: [Call; 4] = [OPT_OUT, CONTACT, NOTE, CHECK];

fn rules() -> GateRules {
    GateRules {
        reserve: 0.1,
        per_second: 0,
        searches: 0,
        window_ms: WINDOW_MS,
        is_rolling: false,
        open_min_ms: 5_000,
        open_max_ms: 300_000,
        probe_every_ms: 60_000,
        in_hand_ms: 8_000,
    }
}

/// Rules for decisions that no window's end affects.
fn long_window() -> GateRules {
    GateRules { window_ms: 800_000, ..rules() }
}

fn asked(process: &str, out: i64, waiting: Vec<Call>) -> Exchange {
    Exchange { process: process.to_owned(), rules: rules(), reports: Vec::new(), out, waiting }
}

/// How many of the waiting calls are let through, by kind.
fn granted(policy: &mut Policy, now_ms: i64, process: &str, wanted: &[(Call, usize)]) -> Vec<usize> {
    let waiting = wanted.iter().flat_map(|(call, calls)| std::iter::repeat_n(*call, *calls)).collect();
    let granted = policy.exchange(now_ms, &asked(process, 0, waiting));
    wanted.iter().map(|(call, _)| granted.iter().filter(|(granted, _)| granted == call).count()).collect()
}

fn answer(class: OperationClass, at_ms: i64, meaning: Meaning) -> Answer {
    Answer {
        call: Call::new(Priority::Note, class),
        at_ms,
        sent_ms: at_ms - 10,
        meaning,
        window: None,
        wait_ms: None,
        is_probe: false,
    }
}

fn is_go(policy: &mut Policy, now_ms: i64, call: Call) -> bool {
    policy.decide(now_ms, call, &long_window()).is_ok()
}

/// A policy that no quota limits.
fn unlimited() -> Policy {
    let mut policy = Policy::default();
    let window = Some(WindowSeen { limit: 100_000, remaining: 100_000, reset_ms: 1_000_000_000, lasts_ms: 800_000 });
    let seen = Answer { window, ..answer(OperationClass::ContactWrites, 0, Meaning::Success) };
    policy.record(&Report::Answer(seen), &long_window());
    policy
}

/// The simulated destination.
#[derive(Default)]
struct Server {
    ends_ms: i64,
    used: i64,
    refused: i64,
    taken: i64,
    others_refused: i64,
    is_down: bool,
    headers: bool,
    /// The server reports the end of one window sometimes a second later.
    wavers: bool,
    /// The server's window is the time before each call.
    slides: bool,
    /// The server's windows begin at multiples of their length, not with the first call.
    is_aligned: bool,
    /// How long the server's windows are; 0 means as long as the rules say.
    window_ms: i64,
    /// Without headers, the calls of the last second; if the window slides, those of the last window.
    recent: Vec<i64>,
}

impl Server {
    fn call(&mut self, now_ms: i64, is_ours: bool) -> Option<Answer> {
        let answer = |meaning, window| Answer {
            sent_ms: now_ms - LATENCY_MS / 2,
            window,
            ..answer(OperationClass::Reads, now_ms + LATENCY_MS / 2, meaning)
        };
        let length_ms = if self.window_ms > 0 { self.window_ms } else { WINDOW_MS };
        if self.is_down {
            return is_ours.then(|| answer(Meaning::Failed, None));
        }
        if !self.headers {
            self.recent.retain(|at| *at > now_ms - 1000);
            let too_many = self.recent.len() >= 50;
            if too_many {
                self.refused += 1;
            } else {
                self.taken += 1;
            }
            self.recent.push(now_ms);
            return Some(answer(if too_many { Meaning::TooMany } else { Meaning::Success }, None));
        }
        if self.slides {
            self.recent.retain(|at| *at > now_ms - length_ms);
            (self.ends_ms, self.used) = (now_ms + length_ms, i64::try_from(self.recent.len()).expect("few"));
        } else if now_ms >= self.ends_ms {
            let opened_ms = if self.is_aligned { now_ms / length_ms * length_ms } else { now_ms };
            (self.ends_ms, self.used) = (opened_ms + length_ms, 0);
        }
        let too_many = self.used >= LIMIT;
        self.used += i64::from(!too_many);
        self.recent.extend((!too_many).then_some(now_ms));
        if is_ours {
            self.taken += i64::from(!too_many);
            self.refused += i64::from(too_many);
        } else {
            self.others_refused += i64::from(too_many);
        }
        let reset_ms = (self.ends_ms + 999) / 1000 * 1000;
        // The reported time left is relative to the answer's `Date`, in whole seconds.
        let waver_ms = if self.wavers && now_ms / 100 % 2 == 0 { 1000 } else { 0 };
        let lasts_ms = if self.slides { length_ms } else { reset_ms + waver_ms - now_ms / 1000 * 1000 };
        let reset_ms = reset_ms + waver_ms;
        let window = WindowSeen { limit: LIMIT, remaining: LIMIT - self.used, reset_ms, lasts_ms };
        is_ours.then(|| answer(if too_many { Meaning::TooMany } else { Meaning::Success }, Some(window)))
    }

    fn forget(&mut self) {
        (self.taken, self.refused, self.others_refused) = (0, 0, 0);
    }
}

/// Processes that share one policy. Each always has four notes waiting.
struct Simulation {
    policy: Policy,
    server: Server,
    workers: usize,
    now_ms: i64,
    /// For each process: when it asks again, its calls in flight, and its unsent reports.
    again: Vec<i64>,
    out: Vec<i64>,
    reports: Vec<Vec<Report>>,
    /// Calls in flight: when each arrives, which process sent it, and whether it is a probe.
    arriving: Vec<(i64, usize, bool)>,
    answering: Vec<(i64, usize, Answer)>,
    calls: Vec<i64>,
    others_per_second: i64,
    /// Milliseconds between two exchanges of one process.
    every_ms: i64,
    rules: GateRules,
}

impl Simulation {
    fn of(workers: usize) -> Self {
        Self {
            policy: Policy::default(),
            server: Server { headers: true, ..Server::default() },
            workers,
            now_ms: 1_000_350,
            again: vec![0; workers],
            out: vec![0; workers],
            reports: vec![Vec::new(); workers],
            arriving: Vec::new(),
            answering: Vec::new(),
            calls: Vec::new(),
            others_per_second: 0,
            every_ms: if workers == 1 { 1 } else { 15 },
            rules: rules(),
        }
    }

    fn run(&mut self, for_ms: i64) {
        let end = self.now_ms + for_ms;
        while self.now_ms < end {
            self.step();
            self.now_ms += 1;
        }
    }

    fn step(&mut self) {
        let now = self.now_ms;
        if self.others_per_second > 0 && now % (1000 / self.others_per_second) == 0 {
            self.server.call(now, false);
        }
        for (at, worker, is_probe) in std::mem::take(&mut self.arriving) {
            if at > now {
                self.arriving.push((at, worker, is_probe));
                continue;
            }
            let answer = Answer { is_probe, ..self.server.call(now, true).expect("ours") };
            self.answering.push((now + LATENCY_MS / 2, worker, answer));
        }
        for (at, worker, answer) in std::mem::take(&mut self.answering) {
            if at > now {
                self.answering.push((at, worker, answer));
            } else {
                self.out[worker] -= 1;
                self.reports[worker].push(Report::Answer(answer));
                if self.workers == 1 {
                    self.again[worker] = now;
                }
            }
        }
        for worker in 0..self.workers {
            if now >= self.again[worker] {
                self.exchange(worker);
            }
        }
    }

    fn exchange(&mut self, worker: usize) {
        let now = self.now_ms;
        let reports = std::mem::take(&mut self.reports[worker]);
        let asked =
            Exchange { reports, rules: self.rules, ..asked(&worker.to_string(), self.out[worker], vec![NOTE; 4]) };
        for (_, Go { is_probe }) in self.policy.exchange(now, &asked) {
            self.calls.push(now);
            self.arriving.push((now + LATENCY_MS / 2, worker, is_probe));
            self.out[worker] += 1;
        }
        self.again[worker] = now + self.every_ms;
    }

    /// Returns the percentage of the quota that was used and the number of refused calls, over this many windows.
    fn measure(&mut self, windows: i64) -> (i64, i64) {
        self.server.forget();
        self.run(windows * WINDOW_MS);
        (self.server.taken * 100 / (LIMIT * windows), self.server.refused)
    }
}

#[test]
fn nearly_all_of_a_quota_is_used_and_it_is_not_overrun_by_one_process_or_many() {
    for workers in [1, 4, 10] {
        for is_aligned in [false, true] {
            let mut simulation = Simulation::of(workers);
            simulation.server.is_aligned = is_aligned;
            simulation.run(WINDOW_MS);

            let (used, refused) = simulation.measure(8);
            println!("{workers} aligned {is_aligned}: {used} % used, {refused} refused");
            assert!(used >= 95, "{workers}: {used} % used");
            assert_eq!(refused, 0, "{workers}");
        }
    }
}

#[test]
fn a_window_that_is_not_as_long_as_configured_is_used_as_well() {
    for window_ms in [8_000, 60_000] {
        let mut simulation = Simulation::of(4);
        simulation.server.window_ms = window_ms;
        simulation.run(WINDOW_MS * 3);
        simulation.server.forget();
        simulation.run(window_ms * 6);

        let used = simulation.server.taken * 100 / (LIMIT * 6);
        println!("{window_ms}: {used} % used, {} refused", simulation.server.refused);
        assert!(used >= 80, "{window_ms}: {used} % used");
        assert!(simulation.server.refused * 100 <= simulation.server.taken, "{} refused", simulation.server.refused);
    }
}

#[test]
fn what_others_on_the_same_token_leave_is_used() {
    for workers in [1, 4] {
        let mut simulation = Simulation::of(workers);
        simulation.others_per_second = 2;
        simulation.run(WINDOW_MS * 2);
        simulation.server.forget();
        simulation.run(WINDOW_MS * 6);

        let left = LIMIT * 6 - 2 * WINDOW_MS / 1000 * 6;
        let used = simulation.server.taken * 100 / left;
        let refused = (simulation.server.refused, simulation.server.others_refused);
        println!("{workers}: {used} % of what is left used, {refused:?} refused");
        assert!(used >= 90, "{workers}: {used} % of what is left");
        assert_eq!(refused, (0, 0), "{workers}");
    }
}

#[test]
fn calls_are_spread_over_the_window() {
    let mut simulation = Simulation::of(1);
    simulation.run(WINDOW_MS * 3);
    let from = simulation.now_ms - WINDOW_MS * 2;

    let spans: Vec<usize> = (0..8)
        .map(|nth| {
            let span = from + nth * 5_000..from + (nth + 1) * 5_000;
            simulation.calls.iter().filter(|at| span.contains(at)).count()
        })
        .collect();
    assert!(spans.iter().all(|calls| (15..=40).contains(calls)), "{spans:?}");
}

#[test]
fn one_call_is_made_until_the_limit_is_known() {
    let mut policy = Policy::default();

    assert_eq!(granted(&mut policy, 1000, "a", &[(NOTE, 8)]), [1]);
    assert_eq!(granted(&mut policy, 1010, "b", &[(CONTACT, 8)]), [0]);
}

#[test]
fn an_opt_out_has_calls_left_where_notes_have_none() {
    let mut simulation = Simulation::of(1);
    simulation.run(WINDOW_MS / 2);
    let now_ms = simulation.now_ms;
    while is_go(&mut simulation.policy, now_ms, NOTE) {}

    assert!(is_go(&mut simulation.policy, now_ms, OPT_OUT));
}

#[test]
fn while_an_opt_out_waits_for_quota_nothing_else_is_called() {
    let mut policy = Policy::default();
    let window = Some(WindowSeen { limit: 10, remaining: 0, reset_ms: 3000, lasts_ms: 2000 });
    let spent = Answer { window, ..answer(OperationClass::Reads, 1000, Meaning::Success) };
    policy.record(&Report::Answer(spent), &rules());
    assert_eq!(granted(&mut policy, 1000, "a", &[(OPT_OUT, 1)]), [0]);

    assert_eq!(granted(&mut policy, 3010, "b", &[(NOTE, 4)]), [0]);
    assert_eq!(granted(&mut policy, 3020, "a", &[(NOTE, 4), (OPT_OUT, 1)]), [0, 1]);
}

#[test]
fn without_headers_the_pace_is_found_and_kept() {
    let mut simulation = Simulation::of(1);
    simulation.server.headers = false;
    simulation.run(60_000);
    simulation.server.forget();
    simulation.run(60_000);

    // The server takes 50 calls a second.
    assert!(simulation.server.taken > 50 * 60 / 2, "{}", simulation.server.taken);
    assert!(simulation.server.refused * 10 < simulation.server.taken, "{} refused", simulation.server.refused);
}

#[test]
fn an_outage_costs_a_probe_every_five_seconds_and_is_over_five_seconds_after_it() {
    for seconds in 105..=120 {
        let mut simulation = Simulation::of(4);
        simulation.run(10_000);
        simulation.server.is_down = true;
        simulation.calls.clear();
        simulation.run(seconds * 1000);
        let made = simulation.calls.len();
        assert!(made <= 120 / 5 + 20, "{made} calls in an outage of {seconds} s");

        simulation.server.is_down = false;
        simulation.calls.clear();
        simulation.run(6_000);
        assert!(simulation.calls.len() > 10, "{} calls after {seconds} s", simulation.calls.len());
    }
}

#[test]
fn reads_that_fail_hold_neither_opt_outs_nor_contacts() {
    let mut policy = unlimited();
    for at_ms in 1..=5 {
        policy.record(&Report::Answer(answer(OperationClass::Reads, at_ms, Meaning::Failed)), &long_window());
    }

    let wait = policy.decide(10, NOTE, &long_window()).expect_err("reads are held");
    assert_eq!(wait, Wait { until_ms: Some(5_005), why: Why::Failing(OperationClass::Reads) });
    for call in [OPT_OUT, CONTACT] {
        assert!(is_go(&mut policy, 10, call), "{call:?}");
    }
    // A success of another class doesn't end the outage of this one.
    policy.record(&Report::Answer(answer(OperationClass::OptOutWrites, 20, Meaning::Success)), &long_window());
    assert!(!is_go(&mut policy, 30, NOTE));
}

#[test]
fn a_read_for_an_opt_out_that_waits_has_the_next_probe() {
    let mut policy = unlimited();
    for at_ms in 1..=5 {
        policy.record(&Report::Answer(answer(OperationClass::Reads, at_ms, Meaning::Failed)), &long_window());
    }
    let read_back = Call::new(Priority::OptOut, OperationClass::Reads);
    assert!(!is_go(&mut policy, 100, read_back));

    assert!(!is_go(&mut policy, 5_010, NOTE), "the probe is kept");
    assert_eq!(policy.decide(5_020, read_back, &long_window()), Ok(Go { is_probe: true }));
    assert!(!is_go(&mut policy, 5_030, read_back), "one probe");
}

#[test]
fn refused_credentials_are_probed_by_the_check_and_then_by_an_opt_out() {
    let mut policy = unlimited();
    policy.record(&Report::Answer(answer(OperationClass::Reads, 10, Meaning::Refused)), &long_window());
    for call in ALL {
        assert!(!is_go(&mut policy, 20, call), "{call:?}");
    }
    assert!(!is_go(&mut policy, 60_020, OPT_OUT) && !is_go(&mut policy, 60_020, NOTE));
    assert!(is_go(&mut policy, 60_020, CHECK));

    policy.record(&Report::Check { at_ms: 60_100, result: CheckResult::Nothing }, &long_window());
    assert!(!is_go(&mut policy, 60_110, NOTE));
    assert_eq!(policy.decide(60_120, OPT_OUT, &long_window()), Ok(Go { is_probe: true }));
    assert!(!is_go(&mut policy, 60_130, OPT_OUT), "one opt-out");

    let probe = Answer { is_probe: true, ..answer(OperationClass::OptOutWrites, 60_200, Meaning::Success) };
    policy.record(&Report::Answer(probe), &long_window());
    for call in [OPT_OUT, NOTE] {
        assert!(is_go(&mut policy, 60_210, call), "{call:?}");
    }
}

#[test]
fn where_reads_fail_too_the_check_tells_nothing_and_an_opt_out_probes() {
    let mut policy = unlimited();
    for at_ms in 1..=5 {
        policy.record(&Report::Answer(answer(OperationClass::Reads, at_ms, Meaning::Failed)), &long_window());
    }
    policy.record(&Report::Check { at_ms: 10, result: CheckResult::Refused(403) }, &long_window());
    // Until now, every probe of the breaker has failed.
    policy.breakers[2].probe(60_000);

    assert!(!is_go(&mut policy, 60_020, CHECK));
    assert!(is_go(&mut policy, 60_030, OPT_OUT));
}

#[test]
fn a_429_binds_every_class_until_retry_after_has_passed_and_opens_no_breaker() {
    let mut policy = unlimited();
    for at_ms in 1..=10 {
        let too_many = Answer { wait_ms: Some(7_000), ..answer(OperationClass::Reads, at_ms, Meaning::TooMany) };
        policy.record(&Report::Answer(too_many), &long_window());
    }

    for call in ALL {
        assert_eq!(
            policy.decide(7_009, call, &long_window()),
            Err(Wait { until_ms: Some(7_010), why: Why::RateLimit }),
            "{call:?}"
        );
    }
    assert!(is_go(&mut policy, 7_010, NOTE));
}

#[test]
fn without_retry_after_the_wait_doubles_to_a_minute() {
    let mut policy = unlimited();
    let mut now_ms = 1_000;
    for least_s in [1, 2, 4, 8, 16, 32, 60, 60] {
        let too_many = Answer { sent_ms: now_ms, ..answer(OperationClass::Reads, now_ms, Meaning::TooMany) };
        // Calls that were in flight together count once.
        for _ in 0..3 {
            policy.record(&Report::Answer(too_many), &long_window());
        }
        let wait_ms = policy.closed_until_ms - now_ms;
        assert!((least_s * 1_000..=(least_s * 1_250).min(60_000)).contains(&wait_ms), "{least_s}: {wait_ms}");
        now_ms = policy.closed_until_ms;
    }
    let worked = Answer { sent_ms: now_ms, ..answer(OperationClass::Reads, now_ms, Meaning::Success) };
    policy.record(&Report::Answer(worked), &long_window());
    let again = Answer { sent_ms: now_ms, ..answer(OperationClass::Reads, now_ms, Meaning::TooMany) };
    policy.record(&Report::Answer(again), &long_window());
    assert!(policy.closed_until_ms - now_ms < 2_000);
}

#[test]
fn a_process_that_died_holds_no_calls_for_ever() {
    let mut policy = Policy::default();
    policy.exchange(1000, &asked("dead", 90, Vec::new()));
    assert_eq!(policy.out.values().map(|(calls, _)| calls).sum::<i64>(), 90);

    policy.exchange(1000 + 31_000, &asked("other", 0, Vec::new()));

    assert_eq!(policy.out.values().map(|(calls, _)| calls).sum::<i64>(), 0);
}

#[test]
fn a_window_whose_end_wavers_is_one_window() {
    let mut simulation = Simulation::of(4);
    simulation.server.wavers = true;
    simulation.run(WINDOW_MS);

    let (used, refused) = simulation.measure(6);
    assert!(used >= 85, "{used} % used");
    assert!(refused * 100 <= simulation.server.taken, "{refused} refused");
}

#[test]
fn where_the_window_slides_calls_go_on() {
    let mut simulation = Simulation::of(4);
    simulation.server.slides = true;
    simulation.run(WINDOW_MS * 2);

    let (used, refused) = simulation.measure(6);
    assert!(used >= 40, "{used} % used");
    assert!(refused * 100 <= simulation.server.taken, "{refused} refused");
}

#[test]
fn a_server_whose_clock_was_set_back_is_called_as_before_from_the_next_window_on() {
    let mut policy = Policy::default();
    let seen = |at_ms, reset_ms| {
        let window = Some(WindowSeen { limit: 1000, remaining: 999, reset_ms, lasts_ms: 3_000 });
        Report::Answer(Answer { window, ..answer(OperationClass::Reads, at_ms, Meaning::Success) })
    };
    policy.record(&seen(1_000, 3_600_000), &rules());

    policy.record(&seen(5_000, 8_000), &rules());
    assert_eq!(granted(&mut policy, 5_000, "a", &[(CONTACT, 8)]), [8]);
}

#[test]
fn of_contacts_and_notes_that_wait_every_fourth_call_is_a_notes() {
    let mut policy = Policy::default();
    // 42 calls are left, and the window lasts long. Of these, 10 are the reserve and one is slack.
    let window = Some(WindowSeen { limit: 100, remaining: 42, reset_ms: 30_000, lasts_ms: 29_000 });
    let seen = Answer { window, ..answer(OperationClass::Reads, 1_000, Meaning::Success) };
    policy.record(&Report::Answer(seen), &rules());

    assert_eq!(granted(&mut policy, 1_000, "a", &[(CONTACT, 40), (NOTE, 40)]), [24, 7]);
}

#[test]
fn a_back_fill_goes_when_nothing_else_waits_and_leaves_calls_for_what_comes() {
    const BACK_FILL: Call = Call::new(Priority::BackFill, OperationClass::ContactWrites);
    let mut policy = Policy::default();
    let window = Some(WindowSeen { limit: LIMIT, remaining: LIMIT, reset_ms: WINDOW_MS, lasts_ms: WINDOW_MS });
    let seen = Answer { window, ..answer(OperationClass::ContactWrites, 0, Meaning::Success) };
    policy.record(&Report::Answer(seen), &rules());

    let filled = granted(&mut policy, 10, "back-fill", &[(BACK_FILL, 100)])[0];
    let noted = granted(&mut policy, 20, "worker", &[(NOTE, 100)])[0];
    assert!(filled > 30 && (8..=12).contains(&noted), "{filled} {noted}");

    // Notes wait now, in another process. Half a second later nobody does.
    let lasts = |now_ms: i64| granted(&mut policy.clone(), now_ms, "back-fill", &[(BACK_FILL, 1)])[0];
    assert_eq!(lasts(300), 0);
    assert_eq!(lasts(10_000), 1);
}

#[test]
fn a_policy_survives_the_store() {
    let mut simulation = Simulation::of(2);
    simulation.run(5_000);
    let text = serde_json::to_string(&simulation.policy).expect("JSON");

    assert_eq!(serde_json::from_str::<Policy>(&text).expect("the same"), simulation.policy);
}

#[test]
fn a_configured_pace_is_kept_by_processes_whose_clocks_differ() {
    let rules = GateRules { per_second: 10, ..rules() };
    let mut policy = Policy::default();

    let made = (0..10_000).flat_map(|ms| [60_000 + ms, 60_100 + ms]);
    let made = made.filter(|now_ms| policy.decide(*now_ms, NOTE, &rules).is_ok()).count();

    assert!((90..=102).contains(&made), "{made} in ten seconds");
}

#[test]
fn a_configured_pace_is_kept_in_every_second_and_used() {
    for per_second in [1, 3, 10, 19, 20, 47, 100, 400] {
        let rules = GateRules { per_second, ..rules() };
        let mut policy = Policy::default();
        // A quiet time earns nothing that a second may not have.
        assert!(policy.decide(0, NOTE, &rules).is_ok());
        let made: Vec<i64> = (60_000..70_000)
            .flat_map(|now_ms| ALL.map(|call| (now_ms, call)))
            .filter(|(now_ms, call)| {
                let decided = policy.decide(*now_ms, *call, &rules);
                if let Err(wait) = &decided {
                    assert!(wait.why == Why::Turn && wait.until_ms.is_some_and(|until| until > *now_ms));
                }
                decided.is_ok()
            })
            .map(|(now_ms, _)| now_ms)
            .collect();

        let most = usize::try_from(per_second).unwrap();
        for (first, at_ms) in made.iter().enumerate() {
            let within = made[first..].iter().take_while(|later| **later < at_ms + 1_000).count();
            assert!(within <= most, "{per_second} a second: {within} from {at_ms} on");
        }
        assert!(made.len() * 10 >= most * 10 * 9, "{per_second} a second: {} in ten", made.len());
        assert!(!policy.is_free(&rules), "all processes share the pace");
    }
}

#[test]
fn the_calls_of_all_processes_are_in_flight() {
    let mut queue = crate::gate::queue::Queue::new("a".to_owned(), rules());
    assert!(queue.take(1_000, OPT_OUT).is_ok());
    let mut policy = queue.policy.clone();
    policy.set_out(1_000, "b", 3);

    queue.follow(policy);
    assert_eq!(queue.in_flight(), 4);
    queue.ended();
    assert_eq!(queue.in_flight(), 3);
}
