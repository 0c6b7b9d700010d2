//! Progress bars for long work, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Minimum number of steps for a bar; shorter work is over before anyone could read it.
const WORTH_A_BAR: u64 = 50;

/// Returns a bar on stderr, hidden if stderr is no terminal or the work is short.
pub(crate) fn bar(steps: u64, noun: &str) -> ProgressBar {
    if steps < WORTH_A_BAR {
        return ProgressBar::hidden();
    }
    // The draw target hides itself if stderr is no terminal.
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(10));
    let template = format!("{{wide_bar}} {{pos}}/{{len}} {noun}  {{per_sec}}  {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

/// Returns a bar on stderr for a few long, named steps, hidden if stderr is no terminal.
pub fn steps() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {eta} left\n{msg}") {
        bar.set_style(style);
    }
    bar
}
