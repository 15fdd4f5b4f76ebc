//! Being asked to end.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C, a request to terminate, or the terminal's end, and gives the exit code that shells use for it.
pub async fn interruption() -> u8 {
    tokio::select! {
        () = one(SignalKind::interrupt()) => 130,
        () = one(SignalKind::terminate()) => 143,
        () = one(SignalKind::hangup()) => 129,
    }
}

async fn one(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => drop(signals.recv().await),
        // Then the signal ends us in its own way, and the keepers end the rest.
        Err(_) => std::future::pending().await,
    }
}
