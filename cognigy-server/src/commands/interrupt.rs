//! SIGINT and SIGTERM, for commands that have to give claims back before they end.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::error::{INTERRUPTED, StartError};

/// Whether the command was asked to end. All clones share the answer.
#[derive(Clone)]
pub(super) struct Interrupt(watch::Sender<bool>);

impl Interrupt {
    /// Listens for signals from now on. The first signal asks the command to end. The second ends
    /// the process at once.
    pub(super) fn listen() -> Result<Self, StartError> {
        let failed =
            |error: std::io::Error| StartError::failed("cannot listen for signals", &error);
        let mut interrupted = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = Self(watch::Sender::new(false));
        let shared = interrupt.clone();
        tokio::spawn(async move {
            for is_first in [true, false] {
                tokio::select! {
                    _ = interrupted.recv() => {}
                    _ = terminated.recv() => {}
                }
                if is_first {
                    shared.request();
                } else {
                    std::process::exit(INTERRUPTED.into());
                }
            }
        });
        Ok(interrupt)
    }

    /// Asks the command to end, as a signal does.
    pub(super) fn request(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once the command is asked to end.
    pub(super) async fn requested(&self) {
        // The sender lives as long as the receiver, so waiting does not fail.
        let _ = self.0.subscribe().wait_for(|requested| *requested).await;
    }
}
