//! Traces: which operations there are, and which one led to which.
//!
//! The pipeline begins a span for each operation and ends it. What a span is made of, whether it is
//! recorded and where it goes is the tracer's. A span tells of ids and outcomes; never of a body, a
//! header, a contact or the text of an error, which may repeat what another system has answered.

use std::{fmt, sync::Arc};

use crate::event::{EventId, EventKey, SourceName, Timestamp, TraceParent};

/// What a span is about.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// A delivery, from its authenticated sender to its answer.
    Delivery {
        /// From which source.
        source: &'a SourceName,
    },
    /// Recording the events of a delivery, until they are durable.
    Commit,
    /// An attempt, from when its event was asked for.
    Attempt {
        /// At which event.
        key: &'a EventKey,
        /// In which run.
        run: u32,
        /// Its number in the run.
        number: u32,
    },
    /// The store's answer to the claim that the attempt is made on.
    Claim,
    /// Asking the CRM.
    CrmLookUp,
    /// The handler.
    Handler,
    /// Handing an event on to another service, as part of the handler.
    Forward,
    /// Handing a dead letter to the sink.
    DeadLetter {
        /// Of which event.
        key: &'a EventKey,
        /// Of which run.
        run: u32,
    },
}

/// Where a span comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A trace begins with it.
    Root,
    /// It belongs to this one: the same trace, and recorded if this one is.
    Child(TraceParent),
    /// A trace begins with it, because of this one: hours may lie between the two. It is recorded if
    /// that one was. None where that one is not known: most likely it was not recorded.
    After(Option<TraceParent>),
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanEnd {
    /// Well, or with an outcome that is not a failure.
    Done(&'static str),
    /// It failed.
    Failed(&'static str),
    /// It was dropped before its end: its lease was lost, or the process stops.
    CutOff,
}

/// Begins spans.
///
/// ## Contract
/// * It is called where deliveries are answered: it must be quick, never block and never fail.
/// * A child's span has its parent's trace id.
///
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use cognigy_core::{
///     EventId, Operation, Origin, Recording, Span, SpanEnd, Timestamp, TraceParent, Tracer,
///     memory::MemoryStore,
///     testing::{ManualClock, World, sample},
/// };
///
/// /// Writes down which attempts ended how.
/// #[derive(Clone, Default)]
/// struct Attempts(Arc<Mutex<Vec<SpanEnd>>>);
///
/// impl Tracer for Attempts {
///     fn begin(&self, operation: Operation<'_>, _: Origin, _: Option<Timestamp>) -> Span {
///         // A real tracer makes random ids, and takes the trace's id from the origin.
///         let traceparent = TraceParent::new([1; 16], [1; 8], true).unwrap();
///         let recording = matches!(operation, Operation::Attempt { .. })
///             .then(|| Box::new(self.clone()) as Box<dyn Recording>);
///         Span::new(traceparent, recording)
///     }
/// }
///
/// impl Recording for Attempts {
///     fn of_event(&mut self, _id: &EventId) {}
///
///     fn end(self: Box<Self>, end: SpanEnd, _at: Option<Timestamp>) {
///         self.0.lock().unwrap().push(end);
///     }
/// }
///
/// let attempts = Attempts::default();
/// let clock = ManualClock::new(sample::start());
/// let mut world =
///     World::built(clock, MemoryStore::new(), |pipeline| pipeline.tracer(attempts.clone()));
/// world.start_worker();
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// assert!(matches!(attempts.0.lock().unwrap()[..], [SpanEnd::Done(_)]));
/// ```
pub trait Tracer: Send + Sync + 'static {
    /// Begins a span at `since`, which is now if absent.
    fn begin(&self, operation: Operation<'_>, origin: Origin, since: Option<Timestamp>) -> Span;
}

impl<T: Tracer + ?Sized> Tracer for Arc<T> {
    fn begin(&self, operation: Operation<'_>, origin: Origin, since: Option<Timestamp>) -> Span {
        (**self).begin(operation, origin, since)
    }
}

/// A span that is recorded.
pub trait Recording: Send {
    /// It is about this event.
    fn of_event(&mut self, id: &EventId);

    /// It ended at `at`, which is now if absent.
    fn end(self: Box<Self>, end: SpanEnd, at: Option<Timestamp>);
}

/// An operation that goes on. It ends with [`end`](Self::end); dropping it means that it was cut off.
#[must_use = "a span lasts until it is ended or dropped"]
pub struct Span {
    traceparent: TraceParent,
    recording: Option<Box<dyn Recording>>,
}

impl Span {
    /// For tracers: the span at `traceparent`, which is recorded by `recording`, if at all.
    pub fn new(traceparent: TraceParent, recording: Option<Box<dyn Recording>>) -> Self {
        Self { traceparent, recording }
    }

    /// What its children, and services that are called, name as their parent.
    #[must_use]
    pub fn traceparent(&self) -> TraceParent {
        self.traceparent
    }

    /// It is about this event.
    pub fn of_event(&mut self, id: &EventId) {
        if let Some(recording) = &mut self.recording {
            recording.of_event(id);
        }
    }

    /// It has ended now.
    pub fn end(self, end: SpanEnd) {
        self.finish(end, None);
    }

    /// It ended at `at`.
    pub fn end_at(self, end: SpanEnd, at: Timestamp) {
        self.finish(end, Some(at));
    }

    fn finish(mut self, end: SpanEnd, at: Option<Timestamp>) {
        if let Some(recording) = self.recording.take() {
            recording.end(end, at);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take() {
            recording.end(SpanEnd::CutOff, None);
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.traceparent).finish()
    }
}
