//! What the server adds to the operator API: its counters, and the breakers that it knows of.

use std::sync::Arc;

use cognigy_operator::{
    Happening, Host,
    breakers::Breakers,
    view::{Deliveries, Rates},
};

use crate::{breakers, pipelines::Pipelines};

/// The pipelines of this server, with their counters.
pub(crate) struct Counting(pub(crate) Arc<Pipelines>);

impl Host for Counting {
    fn figures(&self) -> Option<(Deliveries, Rates)> {
        let telemetry = || self.0.iter().map(|source| &source.telemetry);
        let rates = Rates {
            received_per_second: telemetry().map(|it| it.received.per_second()).sum(),
            processed_per_second: telemetry().map(|it| it.processed.per_second()).sum(),
        };
        let deliveries = telemetry().fold(Deliveries::default(), |sum, it| sum + it.deliveries());
        Some((deliveries, rates))
    }

    fn breakers(&self) -> Breakers {
        breakers::of_this_process(&self.0)
    }

    fn happened(&self, happening: &Happening<'_>) {
        happening.log();
        match happening {
            Happening::Paused { source, paused } => {
                if let Some(source) = self.0.get(source) {
                    source.telemetry.paused(*paused);
                }
            }
            Happening::ReplayWasBusy { source } => {
                if let Some(source) = self.0.get(source) {
                    source.telemetry.replay_was_busy();
                }
            }
            _ => {}
        }
    }
}
