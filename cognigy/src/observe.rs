//! What happens inside, for metrics, logs and traces: an [`Observer`] is told of everything, a
//! [`Tracer`] follows it with spans, and [`Scope`] names the event that a log line belongs to.

pub use cognigy_core::{
    AttemptOutcome, CrmOutcome, GaveUp, Intake, Observation, Observer, Operation, Origin,
    Recording, Scope, Silent, Span, SpanEnd, Stage, TraceParent, Tracer,
};
