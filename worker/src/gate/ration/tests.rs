//! Against a simulated destination, millisecond by millisecond: fixed windows that the first call opens, told in whole
//! seconds, as the sandbox and the vendor do.

use std::time::Duration;

use super::super::budget::WindowTold;
use super::*;

const LIMIT: i64 = 100;
const WINDOW_MS: i64 = 3_000;
const LATENCY_MS: i64 = 20;

fn pacing() -> Pacing {
    let open_for = OpenFor { min_ms: 5_000, max_ms: 300_000 };
    Pacing { reserve: 0.1, open_for, in_hand: Duration::from_secs(8) }
}

/// The other side.
#[derive(Default)]
struct Server {
    ends_ms: i64,
    used: i64,
    refused: i64,
    taken: i64,
    others_refused: i64,
    is_down: bool,
    headers: bool,
    /// It tells the same window's end now a second earlier, now later.
    wavers: bool,
    /// Its window is the time before each call.
    slides: bool,
    /// Without headers: calls of the last second; of the last window where it slides.
    recent: Vec<i64>,
}

impl Server {
    fn call(&mut self, now_ms: i64, is_ours: bool) -> Option<End> {
        let told = |window, too_many| Told {
            at_ms: now_ms + LATENCY_MS / 2,
            sent_ms: now_ms - LATENCY_MS / 2,
            too_many,
            window,
        };
        if self.is_down {
            return is_ours.then(|| End::Failed { told: told(None, false), is_probe: false });
        }
        if !self.headers {
            self.recent.retain(|at| *at > now_ms - 1000);
            let too_many = self.recent.len() >= 50;
            if too_many {
                self.refused += 1
            } else {
                self.taken += 1
            }
            self.recent.push(now_ms);
            return Some(End::Worked(told(None, too_many)));
        }
        if self.slides {
            self.recent.retain(|at| *at > now_ms - WINDOW_MS);
            (self.ends_ms, self.used) = (now_ms + WINDOW_MS, self.recent.len() as i64);
        } else if now_ms >= self.ends_ms {
            (self.ends_ms, self.used) = (now_ms + WINDOW_MS, 0);
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
        // By the `Date` of the answer, in whole seconds.
        let waver_ms = if self.wavers && now_ms / 100 % 2 == 0 { 1000 } else { 0 };
        let lasts_ms = reset_ms + waver_ms - now_ms / 1000 * 1000;
        let reset_ms = reset_ms + waver_ms;
        let window = WindowTold { limit: LIMIT, remaining: LIMIT - self.used, reset_ms, lasts_ms };
        is_ours.then(|| End::Worked(told(Some(window), too_many)))
    }
}

/// Processes that share one ration, each with as many notes waiting as it may call.
struct Simulation {
    ration: Ration,
    server: Server,
    workers: usize,
    now_ms: i64,
    /// When each is to ask again; what it has out; what it has to tell.
    again: Vec<i64>,
    out: Vec<i64>,
    ended: Vec<Vec<End>>,
    /// Calls on their way: when they arrive, of whom, whether they probe.
    arriving: Vec<(i64, usize, bool)>,
    answering: Vec<(i64, usize, End)>,
    calls: Vec<i64>,
    others_per_second: i64,
    /// Between two exchanges of one process.
    every_ms: i64,
}

impl Simulation {
    fn of(workers: usize) -> Self {
        Self {
            ration: Ration::default(),
            server: Server { headers: true, ..Server::default() },
            workers,
            now_ms: 1_000_350,
            again: vec![0; workers],
            out: vec![0; workers],
            ended: vec![Vec::new(); workers],
            arriving: Vec::new(),
            answering: Vec::new(),
            calls: Vec::new(),
            others_per_second: 0,
            every_ms: if workers == 1 { 1 } else { 15 },
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
            let end = match self.server.call(now, true).expect("ours") {
                End::Failed { told, .. } => End::Failed { told, is_probe },
                end @ (End::Worked(_) | End::Silent { .. }) => end,
            };
            self.answering.push((now + LATENCY_MS / 2, worker, end));
        }
        for (at, worker, end) in std::mem::take(&mut self.answering) {
            if at > now {
                self.answering.push((at, worker, end));
            } else {
                self.out[worker] -= 1;
                self.ended[worker].push(end);
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
        let ask = Ask { ended: std::mem::take(&mut self.ended[worker]), out: self.out[worker], wants: [0, 0, 4] };
        let reply = self.ration.exchange(now, &worker.to_string(), &ask, pacing());
        let given: i64 = reply.calls.iter().sum();
        for _ in 0..given {
            self.calls.push(now);
            self.arriving.push((now + LATENCY_MS / 2, worker, reply.is_probe));
        }
        self.out[worker] += given;
        self.again[worker] = now + self.every_ms;
    }
}

#[test]
fn nearly_all_of_a_quota_is_used_and_it_is_not_overrun_by_one_process_or_many() {
    for workers in [1, 4, 10] {
        let mut simulation = Simulation::of(workers);
        // The first windows teach how long one is.
        simulation.run(10_000);
        (simulation.server.taken, simulation.server.refused) = (0, 0);
        simulation.run(30_000);

        let used = simulation.server.taken * 100 / (LIMIT * 10);
        println!("{workers}: {used} % used, {} refused", simulation.server.refused);
        assert!(used >= 95, "{workers}: {used} % used");
        assert!(
            simulation.server.refused * 1000 <= simulation.server.taken,
            "{workers}: {} refused",
            simulation.server.refused
        );
    }
}

#[test]
fn what_others_on_the_same_token_leave_is_used() {
    for workers in [1, 4] {
        let mut simulation = Simulation::of(workers);
        simulation.others_per_second = 17;
        simulation.run(20_000);
        (simulation.server.taken, simulation.server.refused, simulation.server.others_refused) = (0, 0, 0);
        simulation.run(30_000);

        let others = 17 * 30;
        assert_eq!(simulation.server.others_refused, 0, "{workers}: of {others}");
        let left = LIMIT * 10 - others;
        let used = simulation.server.taken * 100 / left;
        let refused = (simulation.server.refused, simulation.server.others_refused);
        println!("{workers}: {used} % of what is left used, {refused:?} refused");
        assert!(used >= 90, "{workers}: {used} % of what is left");
        assert!(
            simulation.server.refused * 100 <= simulation.server.taken,
            "{workers}: {} refused",
            simulation.server.refused
        );
    }
}

#[test]
fn calls_are_spread_over_the_window() {
    let mut simulation = Simulation::of(1);
    simulation.run(20_000);
    let from = simulation.now_ms - 9_000;

    let thirds: Vec<usize> = (0..9)
        .map(|second| {
            let span = from + second * 1000..from + (second + 1) * 1000;
            simulation.calls.iter().filter(|at| span.contains(at)).count()
        })
        .collect();
    assert!(thirds.iter().all(|calls| (20..=50).contains(calls)), "{thirds:?}");
}

#[test]
fn one_call_is_made_until_the_limit_is_known() {
    let mut ration = Ration::default();
    let asks = |wants| Ask { wants, ..Ask::default() };

    assert_eq!(ration.exchange(1000, "a", &asks([0, 0, 8]), pacing()).calls, [0, 0, 1]);
    assert_eq!(ration.exchange(1010, "b", &asks([0, 8, 0]), pacing()).calls, [0, 0, 0]);
}

#[test]
fn an_opt_out_has_calls_left_where_notes_have_none_and_goes_first_in_the_next_window() {
    let mut simulation = Simulation::of(1);
    simulation.run(4_000);
    // As far into a window as notes come.
    while simulation
        .ration
        .exchange(simulation.now_ms, "0", &Ask { out: simulation.out[0], ..Ask::default() }, pacing())
        .calls[2]
        > 0
    {}
    let opt_out = Ask { wants: [1, 0, 0], ..Ask::default() };
    assert_eq!(simulation.ration.exchange(simulation.now_ms, "other", &opt_out, pacing()).calls, [1, 0, 0]);
}

#[test]
fn while_an_opt_out_waits_for_a_call_nothing_else_gets_one() {
    let mut ration = Ration::default();
    let told = Told {
        at_ms: 1000,
        sent_ms: 990,
        too_many: false,
        window: Some(WindowTold { limit: 10, remaining: 0, reset_ms: 3000, lasts_ms: 2000 }),
    };
    let spent = Ask { ended: vec![End::Worked(told)], wants: [1, 0, 0], ..Ask::default() };
    assert_eq!(ration.exchange(1000, "a", &spent, pacing()).calls, [0, 0, 0]);

    assert_eq!(ration.exchange(3010, "b", &Ask { wants: [0, 0, 4], ..Ask::default() }, pacing()).calls, [0, 0, 0]);
    assert_eq!(ration.exchange(3020, "a", &Ask { wants: [1, 0, 0], ..Ask::default() }, pacing()).calls, [1, 0, 0]);
}

#[test]
fn without_headers_the_pace_is_found_and_kept() {
    let mut simulation = Simulation::of(1);
    simulation.server.headers = false;
    simulation.run(60_000);
    (simulation.server.taken, simulation.server.refused) = (0, 0);
    simulation.run(60_000);

    // Of 50 a second.
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
fn a_process_that_died_holds_no_calls_for_ever() {
    let mut ration = Ration::default();
    ration.exchange(1000, "dead", &Ask { out: 90, ..Ask::default() }, pacing());
    assert_eq!(ration.all_out(), 90);

    let later = 1000 + i64::try_from(Duration::from_secs(31).as_millis()).unwrap();
    ration.exchange(later, "other", &Ask::default(), pacing());

    assert_eq!(ration.all_out(), 0);
}

#[test]
fn a_window_whose_end_wavers_is_one_window() {
    let mut simulation = Simulation::of(4);
    simulation.server.wavers = true;
    simulation.run(20_000);
    (simulation.server.taken, simulation.server.refused) = (0, 0);
    simulation.run(30_000);

    let used = simulation.server.taken * 100 / (LIMIT * 10);
    assert!(used >= 85, "{used} % used");
    assert!(simulation.server.refused * 100 <= simulation.server.taken, "{} refused", simulation.server.refused);
}

#[test]
fn where_the_window_slides_calls_go_on() {
    let mut simulation = Simulation::of(4);
    simulation.server.slides = true;
    simulation.run(20_000);
    (simulation.server.taken, simulation.server.refused) = (0, 0);
    simulation.run(30_000);

    let used = simulation.server.taken * 100 / (LIMIT * 10);
    assert!(used >= 40, "{used} % used");
    assert!(simulation.server.refused * 100 <= simulation.server.taken, "{} refused", simulation.server.refused);
}

#[test]
fn a_server_whose_clock_was_set_back_is_called_as_before_from_the_next_window_on() {
    let mut ration = Ration::default();
    let told = |at_ms, reset_ms| {
        let window = Some(WindowTold { limit: 1000, remaining: 999, reset_ms, lasts_ms: 3_000 });
        vec![End::Worked(Told { at_ms, sent_ms: at_ms - 10, too_many: false, window })]
    };
    ration.exchange(1_000, "a", &Ask { ended: told(1_000, 3_600_000), ..Ask::default() }, pacing());

    let next = Ask { ended: told(5_000, 8_000), wants: [0, 8, 0], ..Ask::default() };
    assert_eq!(ration.exchange(5_000, "a", &next, pacing()).calls, [0, 8, 0]);
}

#[test]
fn of_contacts_and_notes_that_wait_every_fourth_call_is_a_notes() {
    let mut ration = Ration::default();
    let told = Told {
        at_ms: 1000,
        sent_ms: 990,
        too_many: false,
        window: Some(WindowTold { limit: 1000, remaining: 999, reset_ms: 300_000, lasts_ms: 299_000 }),
    };
    let ask = Ask { ended: vec![End::Worked(told)], wants: [0, 40, 40], ..Ask::default() };
    assert_eq!(ration.exchange(1000, "a", &ask, pacing()).calls, [0, 40, 40], "there is enough for all");

    let mut ration = Ration::default();
    let window = Some(WindowTold { limit: 100, remaining: 42, reset_ms: 300_000, lasts_ms: 299_000 });
    let ended = vec![End::Worked(Told { window, ..told })];
    let calls = ration.exchange(1000, "a", &Ask { ended, wants: [0, 40, 40], ..Ask::default() }, pacing()).calls;
    assert_eq!((calls[0], calls[1], calls[2]), (0, 24, 7), "of the calls that the reserve leaves");
}
