//! Traces in OpenTelemetry's form: spans of deliveries, attempts and dead letters, sent to a collector.
//!
//! ```text
//!  core ─▶ tracer: ids, the decision what is recorded ─▶ bounded queue ─▶ export: a thread of its own
//!                                                          full: dropped, counted      │ batches, JSON
//!                                                                                      ▼
//!                                                                       POST {COGNIGY_OTLP_URL}/v1/traces
//! ```
//!
//! No delivery and no attempt waits for the collector or fails because of it. docs/decisions/0041 says
//! why the exporter is our own.

#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod ids;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod tracer;

use std::sync::Arc;

use cognigy_core::Tracer;
use prometheus::IntCounterVec;

use crate::{error::StartError, settings::Settings};

/// What a deployment needs for its traces.
#[derive(Clone)]
pub(crate) struct Traces {
    pub(crate) tracer: Arc<dyn Tracer>,
    /// Spans that were recorded, by what became of them.
    pub(crate) spans: IntCounterVec,
}

/// Sends the spans that wait when it is dropped, for a few seconds at most.
pub(crate) struct Flush {
    #[cfg(feature = "otlp")]
    _export: export::Export,
}

/// Starts what the settings say. None without a collector.
#[cfg(feature = "otlp")]
pub(crate) fn start(settings: &Settings) -> Result<Option<(Traces, Flush)>, StartError> {
    let Some(collector) = &settings.traces else { return Ok(None) };
    let (export, queue) = export::Export::start(collector, settings.proxy_from_env)?;
    let spans = queue.spans();
    let tracer = Arc::new(tracer::Recorder::new(ids::Ids::new(), collector.share, queue));
    Ok(Some((Traces { tracer, spans }, Flush { _export: export })))
}

/// A build without OTLP has no traces; its settings name no collector.
#[cfg(not(feature = "otlp"))]
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn start(_: &Settings) -> Result<Option<(Traces, Flush)>, StartError> {
    Ok(None)
}
