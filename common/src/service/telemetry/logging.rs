//! Sets up the tracing subscriber on stderr: readable text on a terminal, otherwise one JSON object a line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::log_writer::LogWriter;
use crate::settings::LogFormat;

/// The crates whose logs are shown, besides warnings of `actix_server`. Libraries log request lines and headers at `debug` and `trace`, which could hold
/// phone numbers and tokens, and RUST_LOG must not be able to show them.
const OUR_CRATES: [&str; 7] = [
    "hookline",
    "hookline_broker",
    "hookline_common",
    "hookline_store",
    "hookline_ingest",
    "hookline_worker",
    "hookline_sandbox",
];

/// Starts logging for this process. Without a `format`, the log is text on a terminal, and JSON otherwise. The level
/// comes from `RUST_LOG` (default `default_level`).
pub fn init(format: Option<LogFormat>, default_level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_level));
    let ours = tracing_subscriber::filter::filter_fn(|metadata| {
        let krate = metadata.target().split("::").next().unwrap_or_default();
        OUR_CRATES.contains(&krate) || *metadata.level() <= tracing::Level::WARN && krate == "actix_server"
    });
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let registry = tracing_subscriber::registry().with(filter).with(ours);
    log_panics_without_their_message();
    // A second start in one process (tests) keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_writer(LogWriter::shared())
                    .with_target(false)
                    .with_ansi(terminal && no_color_unset()),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false)
                    .with_writer(LogWriter::shared()),
            )
            .try_init(),
    };
}

/// Logs only where a panic happened, which is enough to find it: its message may quote personal data.
fn log_panics_without_their_message() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(|location| format!("{}:{}", location.file(), location.line()));
        tracing::error!(at, "panic: a fault of Hookline's; please report this line");
    }));
}

#[expect(
    clippy::disallowed_methods,
    reason = "NO_COLOR is the terminal's, not a setting of ours (https://no-color.org)"
)]
fn no_color_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
