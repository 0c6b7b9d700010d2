//! One signal, one token: SIGTERM or SIGINT asks for a drain, a second one ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a second signal ended in the middle of its drain.
const EXIT_INTERRUPTED: i32 = 130;

/// Listens for SIGTERM and SIGINT from now on; the token is cancelled at the first.
///
/// # Errors
/// Where the process may not install signal handlers.
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
        // Nothing is lost: what was not settled is delivered again.
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
