//! A row of results for each fault: printed, and added to the file that `scripts/faults` names.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use hookline_e2e::{DEADLINE, Tally};

/// How the seed of all that is drawn gets here, and the rows get out.
#[expect(clippy::disallowed_methods, reason = "the suite's own variables, no settings of Hookline")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The seed of this run.
pub(crate) fn seed() -> u64 {
    variable("HOOKLINE_FAULTS_SEED").map_or(1, |seed| seed.parse().expect("HOOKLINE_FAULTS_SEED is a number"))
}

/// How many, by the lane: `scripts/faults` runs the full one.
pub(crate) fn full(quick: usize, full: usize) -> usize {
    if variable("HOOKLINE_FAULTS_LANE").as_deref() == Some("full") { full } else { quick }
}

/// A fault under test; one that is dropped without its row has failed.
pub(crate) struct Fault {
    number: &'static str,
    what: &'static str,
    reported: bool,
}

impl Fault {
    pub(crate) fn new(number: &'static str, what: &'static str) -> Self {
        Self { number, what, reported: false }
    }

    /// It was survived; `recovered`: from the fault's end until all was as before.
    pub(crate) fn survived(mut self, tally: Tally, recovered: Option<Duration>) {
        self.reported = true;
        let recovered = recovered.map_or_else(String::new, |time| format!("{:.1}", time.as_secs_f64()));
        let counts =
            [tally.events, tally.accepted, tally.done, tally.skipped, tally.dead_lettered, tally.repeats_suppressed];
        self.row(&counts.map(|count| count.to_string()), &recovered, "pass");
    }

    /// This machine cannot inject it. That is no pass.
    pub(crate) fn not_run(mut self, why: &str) {
        self.reported = true;
        self.row(&[const { String::new() }; 6], "", &format!("not run: {why}"));
    }

    fn row(&self, counts: &[String; 6], recovered: &str, verdict: &str) {
        let mut row = format!("{}\t{}\t{}", self.number, self.what, seed());
        for count in counts {
            write!(row, "\t{count}").expect("a String takes all");
        }
        writeln!(row, "\t{recovered}\t{verdict}").expect("a String takes all");
        print!("{row}");
        if let Some(path) = variable("HOOKLINE_FAULTS_RESULTS") {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            // One write: tests run side by side.
            file.expect("the results can be written").write_all(row.as_bytes()).expect("written");
        }
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if !self.reported {
            self.row(&[const { String::new() }; 6], "", "FAIL");
        }
    }
}

/// Waits for what must come true, and tells how long it took.
pub(crate) async fn timed(what: &str, within: Duration, mut look: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !look().await {
        assert!(began.elapsed() < within.min(DEADLINE), "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    began.elapsed()
}
