//! The metrics of a listener's connections.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};

use prometheus::{
    IntCounterVec, IntGauge, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::connections::Connections;

/// The connections of one listener. [`Connections`] counts them, and a scrape reads the counts.
pub(super) struct OpenConnections {
    connections: Arc<Connections>,
    open: IntGauge,
    closed: IntCounterVec,
    catching_up: Mutex<()>,
}

impl OpenConnections {
    pub(super) fn new(
        listener: &str,
        connections: Arc<Connections>,
    ) -> Result<Self, prometheus::Error> {
        let options =
            |name: &str, help: &str| Opts::new(name, help).const_label("listener", listener);
        let open = options("cognigy_connections", "Connections that are open");
        let closed = options(
            "cognigy_connections_closed_total",
            "Connections that the server closed to make room, or because the other side stalled",
        );
        let (open, closed) = (IntGauge::with_opts(open)?, IntCounterVec::new(closed, &["reason"])?);
        Ok(Self { connections, open, closed, catching_up: Mutex::new(()) })
    }
}

impl Collector for OpenConnections {
    fn desc(&self) -> Vec<&Desc> {
        self.open.desc().into_iter().chain(self.closed.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.set(i64::try_from(self.connections.count()).unwrap_or(i64::MAX));
        let Connections { closed_idle, closed_stalled, .. } = &*self.connections;
        for (reason, count) in [("idle", closed_idle), ("stalled", closed_stalled)] {
            let counter = self.closed.with_label_values(&[reason]);
            counter.inc_by(count.load(Ordering::Relaxed).saturating_sub(counter.get()));
        }
        self.open.collect().into_iter().chain(self.closed.collect()).collect()
    }
}
