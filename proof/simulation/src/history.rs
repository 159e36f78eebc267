//! What happened in a run, in order. The world writes it, never the code under test: what senders
//! sent and which answers they got, what the store committed, and what CRM, handler and sink saw.

use bytes::Bytes;
use cognigy_core::{
    AttemptOutcome, ClaimToken, Contact, QuarantineReason, QuarantinedItem, Requeued, Settled,
    Settlement, Timestamp,
};

use crate::{body, executor::Micros, fault::Fault};

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Entry {
    /// True time.
    pub at: Micros,
    /// The process it concerns, if one.
    pub process: Option<usize>,
    /// What.
    pub what: Happened,
}

/// How a call to the outside ended, as the caller saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Well.
    Well,
    /// With an error that may pass.
    Transient,
    /// With an error that will not pass.
    Permanent,
    /// In a panic.
    Panicked,
    /// Its future was dropped.
    Dropped,
}

/// The outcome of a `record`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordedAs {
    /// First of its key.
    New,
    /// Known with the same bytes.
    Identical,
    /// Known with other bytes.
    Differs,
}

/// The answer that an operator got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The run ended, with this contact.
    Replayed(Option<Contact>),
    /// It failed.
    Failed(String),
    /// No such event.
    NotFound,
    /// Held by another run.
    Busy,
    /// The outcome is unknown.
    Error,
    /// The operator left.
    Gone,
}

/// A kind of thing that happens.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Happened {
    /// A process starts; its clock's error.
    Started {
        clock: i64,
    },
    Crashed,
    StopAsked,
    Stopped,
    Stalled {
        until: Micros,
    },
    Resumed,
    ClockJumped {
        by: Micros,
    },
    Outage {
        of: &'static str,
        until: Micros,
    },
    Struck {
        fault: Fault,
        about: String,
    },
    /// A sender's try number `try_number` at delivery `delivery`.
    Sent {
        delivery: usize,
        try_number: u32,
    },
    Answered {
        delivery: usize,
        status: u16,
        body: Bytes,
    },
    Unanswered {
        delivery: usize,
    },
    // What the store committed.
    Recorded {
        event: u32,
        body: Bytes,
        outcome: RecordedAs,
        now: Timestamp,
    },
    /// What the store holds after a crash: each event, and the delivery of several that it came in.
    Survived {
        stored: Vec<(u32, Option<usize>)>,
    },
    Granted(Grant),
    GrantedLetter(DeadLetterGrant),
    Renewed {
        token: ClaimToken,
        answer: Settled,
        until: Timestamp,
    },
    Settled {
        settlement: Box<Settlement>,
        answer: Settled,
    },
    ReplayRefused {
        event: u32,
        busy: bool,
        now: Timestamp,
    },
    Requeued {
        event: u32,
        answer: Requeued,
        now: Timestamp,
    },
    Purged {
        before: Timestamp,
        events: Vec<u32>,
        count: u64,
    },
    Quarantined {
        item: QuarantinedBody,
        now: Timestamp,
    },
    Discharged {
        item: Option<QuarantinedBody>,
        answer: bool,
    },
    // What the outside saw.
    CrmBegan {
        call: u64,
        event: u32,
        run: u32,
        now: Timestamp,
    },
    CrmEnded {
        call: u64,
        event: u32,
        how: Ended,
        contact: Option<Contact>,
    },
    HandlerBegan {
        call: u64,
        event: u32,
        run: u32,
        now: Timestamp,
    },
    HandlerEnded {
        call: u64,
        event: u32,
        run: u32,
        how: Ended,
        contact: Option<Contact>,
    },
    SinkTook {
        event: u32,
        run: u32,
        attempts: u32,
        reason: String,
        payload: Bytes,
    },
    SinkRefused {
        event: u32,
        run: u32,
    },
    ReplayAsked {
        event: u32,
    },
    ReplayTold {
        event: u32,
        told: Told,
    },
    /// A worker's future ended.
    WorkerEnded {
        asked: bool,
    },
    Panicked {
        message: String,
    },
}

/// What makes a body in quarantine different from the others there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub struct QuarantinedBody {
    pub reason: QuarantineReason,
    pub body: Bytes,
    /// The delivery of several events that it came in, if it did.
    pub delivery: Option<usize>,
}

impl From<QuarantinedItem> for QuarantinedBody {
    fn from(item: QuarantinedItem) -> Self {
        let delivery = body::delivery_of(&item.context);
        Self { reason: item.reason, body: item.body, delivery }
    }
}

/// A granted run.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Grant {
    pub token: ClaimToken,
    pub event: u32,
    pub run: u32,
    pub attempt: u32,
    pub readable: bool,
    pub by_replay: bool,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// A granted dead letter.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct DeadLetterGrant {
    pub token: ClaimToken,
    pub event: u32,
    pub run: u32,
    pub try_number: u32,
    pub attempts: u32,
    pub reason: String,
    pub payload: Bytes,
    pub now: Timestamp,
    pub until: Timestamp,
}

/// A row of an event's history that the books have to explain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AttemptRow {
    pub run: u32,
    pub number: u32,
    pub outcome: AttemptOutcome,
    pub started_at: Timestamp,
}
