//! All faults, by name, and the situations that a campaign should meet.
//!
//! Each is counted when it really happens. A set of runs in which one of them never happened has
//! proved nothing about it, and counts as failed.

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)+) => {
        /// A fault that was injected, or a situation that arose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its description.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

faults! {
    /// The call has no effect, and the caller gets an error.
    StoreErrorBefore = "store: error, nothing done",
    /// The call took effect, and the caller gets an error.
    StoreErrorAfter = "store: error although committed",
    /// The store's queue is full.
    StoreOverloaded = "store: overloaded",
    /// Nothing is done, and no answer ever comes.
    StoreStuckBefore = "store: call hangs for good, nothing done",
    /// It was done, and no answer ever comes.
    StoreStuckAfter = "store: call hangs for good although committed",
    /// One call takes as long as leases do.
    StoreSlow = "store: call outlasts a lease",
    /// The store is down for a while.
    StoreOutage = "store: outage",
    /// The effect comes after the process that asked for it has gone.
    LateCommit = "store: commits after its caller is gone",
    /// A crash between asking and committing.
    CrashBeforeCommit = "crash: before a commit",
    /// A crash between committing and answering.
    CrashAfterCommit = "crash: after a commit, before its answer",
    /// A crash at some await point.
    CrashAnywhere = "crash: at any await point",
    /// A crash while a handler runs.
    CrashInHandler = "crash: inside a handler",
    /// A crash after the sink accepted a batch and before it answered.
    CrashAfterSink = "crash: after the sink took it, before its answer",
    /// A stop as a deployment does it.
    GracefulStop = "stop: asked for, work in hand ends",
    /// A stop whose grace period ended with work in hand.
    GraceEnded = "stop: grace period ended with work in hand",
    /// A process is paused.
    Stall = "process paused",
    /// A process was paused for longer than a lease.
    LongStall = "process paused for longer than a lease",
    /// A clock goes ahead while its process runs.
    ClockAhead = "clock: jumps ahead",
    /// A clock is set back between two starts.
    ClockBack = "clock: set back at a restart",
    /// Two processes disagree about the time.
    ClockSkew = "clock: processes disagree",
    /// The CRM fails with a transient error.
    CrmTransient = "CRM: transient error",
    /// The CRM named a time.
    CrmRetryAfter = "CRM: Retry-After",
    /// The CRM refused.
    CrmPermanent = "CRM: permanent error",
    /// The CRM's call took effect, and it answers an error.
    CrmErrorAfter = "CRM: error after the effect",
    /// The CRM never answers.
    CrmStuck = "CRM: hangs for good",
    /// The client panics.
    CrmPanic = "CRM: client panics",
    /// The CRM is down for a while.
    CrmOutage = "CRM: outage",
    /// The handler fails with a transient error.
    HandlerTransient = "handler: transient error",
    /// The handler refused.
    HandlerPermanent = "handler: permanent error",
    /// The handler's work took effect, and it returns an error.
    HandlerErrorAfter = "handler: error after the effect",
    /// The handler never ends.
    HandlerStuck = "handler: hangs for good",
    /// The handler panics.
    HandlerPanic = "handler: panics",
    /// Some entries of a batch are refused.
    SinkPartial = "sink: entry of a batch refused",
    /// All of a batch is refused for good.
    SinkPermanent = "sink: batch refused as permanent",
    /// The sink accepted it and answers an error.
    SinkErrorAfter = "sink: error although taken",
    /// The sink never answers.
    SinkStuck = "sink: hangs for good",
    /// The sink accepted it and never answers.
    SinkStuckAfter = "sink: hangs for good although taken",
    /// The sink panics.
    SinkPanic = "sink: panics",
    /// The sink answers for fewer entries than it was sent.
    SinkShort = "sink: too few answers",
    /// The sink is down for a while.
    SinkOutage = "sink: outage",
    /// The sink is down for hours.
    LongSinkOutage = "sink: outage of hours",
    /// Receiving from the queue fails.
    QueueReceive = "queue: receiving fails",
    /// The queue keeps a message that was to be deleted.
    QueueDelete = "queue: deleting fails",
    /// A sender closes its connection before the answer.
    SenderGone = "sender: gone before the answer",
    /// A sender whose delivery dies with the connection.
    DeliveryDropped = "sender: delivery dropped half-way",
    /// An operator closes the connection before the answer.
    OperatorGone = "operator: gone before the answer",
    /// A lease ran out and the event was claimed again.
    TakenOver = "situation: lease ran out, event taken over",
    /// A settlement came too late.
    LateSettlement = "situation: late settlement refused",
    /// A settlement was repeated after an unknown outcome.
    RepeatedSettlement = "situation: settlement repeated after an unknown outcome",
    /// A renewal came too late.
    LateRenewal = "situation: late renewal refused",
    /// Deliveries of one event were under way at once.
    Race = "situation: deliveries of one event at once",
    /// A delivery had another content under a known id.
    Conflict = "situation: conflicting delivery",
    /// A delivery had the same content in other bytes.
    Reworded = "situation: same content in other bytes",
    /// A delivery carried several events.
    SeveralEvents = "situation: several events in one delivery",
    /// A crash while the events of one delivery were recorded.
    CrashAmongSeveral = "situation: crash while several events are recorded",
    /// A delivery without a right signature.
    Forged = "situation: forged delivery",
    /// A signed delivery that is not an event.
    Invalid = "situation: invalid delivery",
    /// A replay met a run that holds the event.
    ReplayBusy = "situation: replay refused, event held",
    /// A replay took an event.
    ReplayRan = "situation: single replay ran",
    /// A replay took over an abandoned run.
    ReplayTookOver = "situation: replay of an abandoned run",
    /// A replay began while an earlier run's dead letter was unsent.
    ReplayBeforeSent = "situation: new run while a dead letter waits",
    /// A replay's process vanished and a worker went on.
    ReplayCarriedOn = "situation: worker carried a replay on",
    /// A bulk replay scheduled a run.
    BulkReplay = "situation: bulk replay scheduled a run",
    /// Dead letters came back from the queue.
    Redriven = "situation: dead letter redriven",
    /// Redriven after it had been purged.
    RedrivenAnew = "situation: forgotten event redriven from its message",
    /// Events were purged.
    Purged = "situation: finished event purged",
    /// An event was purged and delivered again.
    CameAgain = "situation: purged event recorded again",
    /// A body cannot be read back.
    Unreadable = "situation: stored body unreadable",
    /// An event was given up because its workers vanished.
    VanishedGivenUp = "situation: given up for vanished workers",
    /// A claim was released before its attempt began.
    Released = "situation: work given back at a stop",
}
