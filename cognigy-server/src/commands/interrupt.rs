//! SIGINT and SIGTERM, for commands that have to give something back before they end.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::error::{INTERRUPTED, StartError};

/// Whether the command was asked to end. Clones tell the same.
#[derive(Clone)]
pub(super) struct Interrupt(watch::Sender<bool>);

impl Interrupt {
    /// Listens from now on. The first signal is told; the second ends the process at once.
    pub(super) fn listen() -> Result<Self, StartError> {
        let failed =
            |error: std::io::Error| StartError::failed("cannot listen for signals", &error);
        let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = Self(watch::Sender::new(false));
        let told = interrupt.clone();
        tokio::spawn(async move {
            for is_first in [true, false] {
                tokio::select! {
                    _ = interrupted.recv() => {}
                    _ = terminated.recv() => {}
                }
                if is_first {
                    told.tell();
                } else {
                    std::process::exit(INTERRUPTED.into());
                }
            }
        });
        Ok(interrupt)
    }

    /// Asks the command to end, as a signal does.
    pub(super) fn tell(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_told(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once the command is asked to end.
    pub(super) async fn told(&self) {
        // This sender lives as long as the receiver, so waiting does not fail.
        let _ = self.0.subscribe().wait_for(|told| *told).await;
    }
}
