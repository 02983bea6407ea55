//! Ends a server when the person or the system says so.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled at the first SIGINT or SIGTERM; the second ends the program at once.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let cancellation = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancel = cancellation.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            if last {
                std::process::exit(130);
            }
            tracing::info!("stopping; once more to stop at once");
            cancel.cancel();
        }
    });
    Ok(cancellation)
}
