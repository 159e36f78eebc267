//! What happens inside, for metrics, logs and traces: an [`Observer`] is told of everything, a
//! [`Tracer`] follows it with spans, and [`Scope`] names the event that a log line belongs to.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use cognigy::observe::{Intake, Observation, Observer};
//!
//! /// Counts the deliveries that were refused because of their signature.
//! #[derive(Default)]
//! struct Forged(AtomicU64);
//!
//! impl Observer for Forged {
//!     fn observe(&self, observation: &Observation<'_>) {
//!         if let Observation::Delivery { intake: Intake::Unsigned(_), .. } = observation {
//!             self.0.fetch_add(1, Ordering::Relaxed);
//!         }
//!     }
//! }
//! ```

pub use cognigy_core::{
    AttemptOutcome, CrmOutcome, GaveUp, Intake, Observation, Observer, Operation, Origin,
    Recording, Scope, Silent, Span, SpanEnd, Stage, TraceParent, Tracer,
};
