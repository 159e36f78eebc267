//! Begins spans for the core, and hands those that are recorded to the export when they end.

use std::time::SystemTime;

use cognigy_core::{
    EventId, Operation, Origin, Recording, SourceName, Span, SpanEnd, Timestamp, TraceParent,
    Tracer,
};

use super::{
    export::Queue,
    ids::{Ids, Sampler},
};

/// A span that has ended.
#[derive(Debug)]
pub(super) struct FinishedSpan {
    pub(super) at: TraceParent,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The span that it belongs to.
    pub(super) parent: Option<[u8; 8]>,
    /// Whether that one is another program's.
    pub(super) parent_is_remote: bool,
    /// The span that led to it, in another trace.
    pub(super) link: Option<TraceParent>,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
    pub(super) source: Option<SourceName>,
    pub(super) event_id: Option<EventId>,
    pub(super) run: Option<u32>,
    pub(super) attempt: Option<u32>,
    pub(super) end: SpanEnd,
}

/// The kind of a span, by its number in OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// Decides which spans are recorded, and records them.
pub(super) struct Recorder {
    ids: Ids,
    sampler: Sampler,
    queue: Queue,
}

impl Recorder {
    pub(super) fn new(ids: Ids, share: f64, queue: Queue) -> Self {
        Self { ids, sampler: Sampler::new(share), queue }
    }
}

impl Tracer for Recorder {
    fn begin(&self, operation: Operation<'_>, origin: Origin, since: Option<Timestamp>) -> Span {
        let new = |trace_id, sampled: Option<bool>| {
            let sampled = sampled.unwrap_or_else(|| self.sampler.records(trace_id));
            TraceParent::new(trace_id, self.ids.span(), sampled)
        };
        let at = match origin {
            // Nothing of the trace is recorded: what is below the span goes by the span above it.
            Origin::Child(parent) if !parent.is_sampled() => Some(parent),
            Origin::Child(parent) => new(parent.trace_id(), Some(true)),
            Origin::Root => new(self.ids.trace(), None),
            Origin::After(Some(earlier)) => new(self.ids.trace(), Some(earlier.is_sampled())),
            // A delivery that was not recorded leaves no span behind, nor does one before there were traces.
            Origin::After(None) => new(self.ids.trace(), Some(self.sampler.records_all())),
        };
        // Ids are never zero, and only those would be none.
        let at = at.unwrap_or(NOWHERE);
        if !at.is_sampled() {
            return Span::new(at, None);
        }
        let (name, kind) = match operation {
            Operation::Delivery { .. } => ("delivery", Kind::Server),
            Operation::Commit => ("commit", Kind::Internal),
            Operation::Attempt { .. } => ("attempt", Kind::Consumer),
            Operation::Claim => ("claim", Kind::Internal),
            Operation::CrmLookUp => ("crm", Kind::Client),
            Operation::Handler => ("handler", Kind::Internal),
            Operation::Forward => ("forward", Kind::Client),
            Operation::DeadLetter { .. } => ("dead letter", Kind::Producer),
            _ => ("operation", Kind::Internal),
        };
        let (source, event_id, run, attempt) = match operation {
            Operation::Delivery { source } => (Some(source), None, None, None),
            Operation::Attempt { key, run, number } => {
                (Some(&key.source), Some(&key.id), Some(run), Some(number))
            }
            Operation::DeadLetter { key, run } => {
                (Some(&key.source), Some(&key.id), Some(run), None)
            }
            _ => (None, None, None, None),
        };
        let began = since.map_or_else(SystemTime::now, SystemTime::from);
        let span = FinishedSpan {
            at,
            name,
            kind,
            parent: match origin {
                Origin::Child(parent) => Some(parent.span_id()),
                _ => None,
            },
            // A delivery's parent can only be its sender's.
            parent_is_remote: kind == Kind::Server,
            link: match origin {
                Origin::After(earlier) => earlier,
                _ => None,
            },
            began,
            ended: began,
            source: source.cloned(),
            event_id: event_id.cloned(),
            run,
            attempt,
            end: SpanEnd::CutOff,
        };
        let recording = InProgress { span, queue: self.queue.clone() };
        Span::new(at, Some(Box::new(recording)))
    }
}

/// What a span would be whose ids are zero.
const NOWHERE: TraceParent = match TraceParent::new([1; 16], [1; 8], false) {
    Some(nowhere) => nowhere,
    None => unreachable!(),
};

struct InProgress {
    span: FinishedSpan,
    queue: Queue,
}

impl Recording for InProgress {
    fn of_event(&mut self, id: &EventId) {
        self.span.event_id = Some(id.clone());
    }

    fn end(mut self: Box<Self>, end: SpanEnd, at: Option<Timestamp>) {
        self.span.end = end;
        self.span.ended = at.map_or_else(SystemTime::now, SystemTime::from);
        self.queue.put(self.span);
    }
}
