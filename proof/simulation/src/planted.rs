//! Bugs to plant, so that it can be shown that the simulation finds them.
//!
//! Each is a mistake that a store, a sink or the program around a pipeline could make. They live in
//! the simulated disk and in the wrappers around it, never in the core.

macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)+) => {
        /// A planted bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[$doc])* $name,)+
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// The bug with that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// A settlement takes effect from any sender.
    SettleWithoutToken = "settle-without-token",
    /// A repeated settlement takes effect again.
    SettlesTwice = "settles-twice",
    /// `record` answers before it has committed.
    AckBeforeCommit = "ack-before-commit",
    /// One attempt more than the policy allows.
    RetryOffByOne = "retry-off-by-one",
    /// The sink's failures are reported as successes.
    SinkFailureSwallowed = "sink-failure-swallowed",
    /// A vanished worker's events are never taken over.
    LeaseNeverExpires = "lease-never-expires",
    /// A held event can be claimed.
    ClaimIgnoresLease = "claim-ignores-lease",
    /// A renewal counts from any sender.
    RenewWithoutToken = "renew-without-token",
    /// A renewal is answered, and nothing is prolonged.
    RenewDoesNothing = "renew-does-nothing",
    /// The second delivery of an event is called new.
    DuplicateSaidNew = "duplicate-said-new",
    /// A second body replaces the first.
    UpsertOverwrites = "upsert-overwrites",
    /// Bodies are stored as rewritten JSON, not as received.
    BodyRewritten = "body-rewritten",
    /// Dead letters in hand are lost when a process crashes.
    OutboxLostInCrash = "outbox-lost-in-crash",
    /// The dead letter is written in a transaction of its own, after the decision to give up.
    OutboxAfterCommit = "outbox-after-commit",
    /// A replay is given the number of the last run.
    ReplayReusesRun = "replay-reuses-run",
    /// A replay takes an event that is running.
    ReplayIgnoresHolder = "replay-ignores-holder",
    /// A replay removes an unsent dead letter.
    ReplayDropsLetter = "replay-drops-letter",
    /// An old run's dead letter ends a newer run.
    SentEndsReplay = "sent-ends-replay",
    /// An attempt whose worker vanished does not count.
    VanishedNotCounted = "vanished-not-counted",
    /// An attempt whose worker vanished uses up an attempt of the event.
    LostTakenForFailed = "lost-taken-for-failed",
    /// A claim that is released before its attempt began counts as an attempt.
    ReleaseCounts = "release-counts",
    /// A failed attempt ends the run.
    RetryForgotten = "retry-forgotten",
    /// Attempts are not written down.
    HistoryNotKept = "history-not-kept",
    /// Conflicting bodies are not kept.
    ConflictNotKept = "conflict-not-kept",
    /// Retention removes unfinished events.
    PurgesUnfinished = "purges-unfinished",
    /// Counters miss replayed events.
    CountsDrift = "counts-drift",
    /// An event can be claimed although another one of its contact is unfinished.
    OrderIgnoresHead = "order-ignores-head",
    /// A processed event goes on blocking its contact.
    OrderKeepsHead = "order-keeps-head",
    /// The events of one delivery are recorded in a commit each, so that a prefix may be stored.
    DeliveryInParts = "delivery-in-parts",
    /// Signatures are not checked.
    SignatureNotChecked = "signature-not-checked",
}
