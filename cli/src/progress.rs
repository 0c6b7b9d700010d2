//! Progress of long work, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Below this many steps the work is over before anyone could read a bar.
const WORTH_A_BAR: u64 = 50;

/// A bar on stderr; hidden where stderr is no terminal or the work is short.
pub(crate) fn bar(steps: u64, noun: &str) -> ProgressBar {
    if steps < WORTH_A_BAR {
        return ProgressBar::hidden();
    }
    // Hidden by itself where stderr is no terminal.
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(10));
    let template = format!("{{wide_bar}} {{pos}}/{{len}} {noun}  {{per_sec}}  {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

/// A bar on stderr for a few long steps, each with a name; hidden where stderr is no terminal.
pub fn steps() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {eta} left\n{msg}") {
        bar.set_style(style);
    }
    bar
}
