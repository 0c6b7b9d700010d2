//! Signals: the first SIGTERM or SIGINT cancels a token and so asks for a drain; the second ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that a second signal ended during its drain.
const EXIT_INTERRUPTED: i32 = 130;

/// Starts listening for SIGTERM and SIGINT; the first signal cancels the token.
///
/// # Errors
/// If the process may not install signal handlers.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        wait(&mut terminate, &mut interrupt).await;
        tracing::info!("shutdown requested: finishing what is in flight; a second signal ends at once");
        cancelled.cancel();
        wait(&mut terminate, &mut interrupt).await;
        // Nothing is lost: unsettled deliveries are delivered again.
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(token)
}

async fn wait(terminate: &mut tokio::signal::unix::Signal, interrupt: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
