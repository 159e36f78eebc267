//! What goes into and comes out of the hot path's calls.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    event::{DeliveryContext, Event, EventKey, SourceName, Timestamp},
    ports::DeadLetter,
    store::{Claim, DeadLetterClaim},
};

/// What became of a delivery in the store.
///
/// ```
/// use cognigy_core::{EventStore, Recorded, memory::MemoryStore, testing::sample};
///
/// # futures_executor::block_on(async {
/// let (store, now) = (MemoryStore::new(), sample::start());
/// let event = sample::incoming(sample::body("e1"));
/// assert_eq!(store.record(event.clone(), now).await.unwrap(), Recorded::New);
/// assert_eq!(store.record(event, now).await.unwrap(), Recorded::Identical);
///
/// let other = sample::incoming(sample::body_from("another contact", "e1"));
/// let recorded = store.record(other, now).await.unwrap();
/// assert_eq!(recorded, Recorded::Differs { stored: sample::body("e1") });
/// # });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// First of its key: stored.
    New,
    /// The key is known, with the very same bytes.
    Identical,
    /// The key is known with other bytes; whether they say the same is for the caller to decide.
    Differs {
        /// The first body.
        stored: Bytes,
    },
}

/// Whose work to claim, how much of it, and for how long.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{ClaimRequest, EventStore, memory::MemoryStore, testing::sample};
///
/// # futures_executor::block_on(async {
/// let (store, now) = (MemoryStore::new(), sample::start());
/// store.record(sample::incoming(sample::body("e1")), now).await.unwrap();
/// let request = ClaimRequest {
///     source: sample::key("e1").source,
///     runs: 1,
///     dead_letters: 0, // only events
///     lease: Duration::from_secs(60),
///     now,
/// };
/// assert_eq!(store.claim_due(request.clone()).await.unwrap().len(), 1);
///
/// // Nothing is left until the lease has run out.
/// let batch = store.claim_due(request).await.unwrap();
/// assert!(batch.is_empty());
/// assert_eq!(batch.next_due, Some(now + Duration::from_secs(60)));
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The source whose events and dead letters are claimed. A worker acts for one source, with that
    /// source's CRM, handler and sink.
    pub source: SourceName,
    /// The most attempts at runs to take.
    pub runs: usize,
    /// The most dead letters to take. A limit of its own, so that neither kind of work, however much
    /// of it waits, takes the other's places.
    pub dead_letters: usize,
    /// How long the claims live without renewal.
    pub lease: Duration,
    /// The caller's time.
    pub now: Timestamp,
}

/// Claimed work.
#[derive(Debug, Default)]
pub struct ClaimBatch {
    /// Attempts at events' runs.
    pub runs: Vec<ClaimedRun>,
    /// Dead letters for the sink.
    pub dead_letters: Vec<ClaimedDeadLetter>,
    /// When there will be more, as far as the store knows now. In the past or now if something due
    /// was left behind.
    pub next_due: Option<Timestamp>,
}

impl ClaimBatch {
    /// How many pieces of work it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len() + self.dead_letters.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An attempt at an event's run.
#[derive(Debug)]
pub struct ClaimedRun {
    /// The right to it.
    pub claim: Claim,
    /// The event's identity.
    pub key: EventKey,
    /// The run, from 1.
    pub run: u32,
    /// The attempt's number within the run, from 1; attempts that were lost have numbers, too.
    pub attempt: u32,
    /// How many attempts of this run were lost before: their leases ran out, since their workers
    /// had ended or stood still. They are not the event's failures and do not use up its attempts.
    pub lost: u32,
    /// Whether the lease of a claim before this one has just been found to have run out.
    pub took_over: bool,
    /// The event, or why it cannot be read back.
    pub event: Result<Event, String>,
}

/// A dead letter for the sink.
#[derive(Debug)]
pub struct ClaimedDeadLetter {
    /// The right to send it.
    pub claim: DeadLetterClaim,
    /// What to send.
    pub dead_letter: DeadLetter,
    /// How often sending was tried before this claim, plus one.
    pub attempt: u32,
}

/// The answer to one renewal or settlement.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{
///     ClaimRequest, EventStore, RunEnd, Settled, memory::MemoryStore, testing::sample,
/// };
///
/// # futures_executor::block_on(async {
/// let (store, now) = (MemoryStore::new(), sample::start());
/// store.record(sample::incoming(sample::body("e1")), now).await.unwrap();
/// let claim = |now| {
///     let source = sample::key("e1").source;
///     let lease = Duration::from_secs(60);
///     store.claim_due(ClaimRequest { source, runs: 1, dead_letters: 0, lease, now })
/// };
/// let slow = claim(now).await.unwrap().runs.remove(0);
/// let later = now + Duration::from_secs(61); // the lease has run out
/// let next = claim(later).await.unwrap().runs.remove(0);
/// assert!(next.took_over);
///
/// // What the slow worker has to say comes too late.
/// let end = || RunEnd::Processed { contact: None };
/// let answers = store.settle(&[slow.claim.settle(end(), None, later)]).await.unwrap();
/// assert_eq!(answers, [Settled::LeaseLost]);
/// let answers = store.settle(&[next.claim.settle(end(), None, later)]).await.unwrap();
/// assert_eq!(answers, [Settled::Done]);
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect.
    Done,
    /// It took effect, and the event of the same contact that waited behind is due now.
    UnblockedNext,
    /// The token is not the latest grant; nothing changed.
    LeaseLost,
}

impl Settled {
    /// Whether it changed anything.
    #[must_use]
    pub fn took_effect(self) -> bool {
        self != Self::LeaseLost
    }
}

/// The answer to a replay.
#[derive(Debug)]
pub enum ReplayClaim {
    /// Nothing is stored under that key.
    NotFound,
    /// Another run holds the event, or an unfinished event of the same contact comes first.
    Busy,
    /// The event's body was forgotten: there is nothing to run.
    Forgotten,
    /// The event is the caller's, in a new run.
    Claimed(Box<ClaimedRun>),
}

/// The answer to one key of a requeue.
///
/// ```
/// use cognigy_core::{Requeued, State, testing::{World, sample}};
///
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// # use cognigy_core::Clock;
/// let keys = [sample::key("e1"), sample::key("unknown")];
/// let requeue = world.pipeline.requeue(&keys, world.clock.now());
/// let answers = futures_executor::block_on(requeue).unwrap();
/// assert_eq!(answers, [Requeued::Scheduled, Requeued::NotFound]);
/// world.pass(std::time::Duration::from_secs(1)); // a worker runs it again
/// assert_eq!((world.state("e1"), world.find("e1").event.run()), (State::Processed, 2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeued {
    /// A new run is due, or will be once those of the same contact that come first have ended.
    Scheduled,
    /// A run was waiting already; it is due at once now, if no other of its contact comes first.
    Waiting,
    /// Another run holds the event.
    Busy,
    /// The event's body was forgotten: there is nothing to run.
    Forgotten,
    /// Nothing is stored under that key.
    NotFound,
}

/// Why the body of a stored event is not there any more. Its id and the body's SHA-256 digest stay, so
/// that a repetition of the delivery is still known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// Its sender asked that its content be kept no longer than needed.
    Sensitive,
    /// The person whom it is about was erased.
    Erased,
}

impl Forgotten {
    /// The name in stores and APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sensitive => "sensitive",
            Self::Erased => "erased",
        }
    }

    /// The reason with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sensitive, Self::Erased].into_iter().find(|reason| reason.as_str() == name)
    }
}

/// Why a signed body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuarantineReason {
    /// Not a valid event; its sender was told so.
    Invalid,
    /// The id is known with other content; its sender was told that it was accepted.
    Conflict,
}

impl QuarantineReason {
    /// The name in stores and APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
        }
    }

    /// Whether an operator has to deal with it, since its sender believes that it was taken.
    #[must_use]
    pub fn is_unresolved(self) -> bool {
        self == Self::Conflict
    }

    /// The reason with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Invalid, Self::Conflict].into_iter().find(|reason| reason.as_str() == name)
    }
}

/// A body on its way into quarantine.
#[derive(Debug, Clone)]
pub struct QuarantineEntry {
    /// Whose delivery it was.
    pub source: SourceName,
    /// Why it was not taken.
    pub reason: QuarantineReason,
    /// The event's id, if it could be read.
    pub event_id: Option<String>,
    /// What was wrong, without content.
    pub detail: String,
    /// The received bytes.
    pub body: Bytes,
    /// The kept headers of the delivery.
    pub context: DeliveryContext,
}

impl QuarantineEntry {
    /// For stores: names what was received, its body and the kept headers where there are any.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new_with_prefix(&self.body);
        if let Some(headers) = self.context.to_json() {
            // The body's own digest, so that no body with headers counts as another one without.
            digest = Sha256::new_with_prefix(digest.finalize()).chain_update(headers);
        }
        digest.finalize().into()
    }
}

/// How many invalid bodies of one source the quarantine keeps; the oldest go first. Conflicts are
/// neither counted nor evicted: their senders were told that they were accepted.
///
/// ```
/// use cognigy_core::QuarantineLimits;
///
/// let limits = QuarantineLimits { items: 2, ..QuarantineLimits::default() };
/// let bodies = ["newest", "older", "oldest"].map(bytes::Bytes::from);
/// let newest_first = (1..).zip(&bodies).map(|(number, body)| (10 - number, body));
/// assert_eq!(limits.surplus(newest_first), [7]); // the oldest one goes
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineLimits {
    /// The most bodies. At least one is kept.
    pub items: usize,
    /// The most bytes of bodies. The newest body is kept even if it alone is larger.
    pub bytes: u64,
}

impl QuarantineLimits {
    /// The ids of one source's invalid bodies that have to go, for a store that holds them all in
    /// memory. `newest_first` gives each body's id and itself.
    #[must_use]
    pub fn surplus<'a>(self, newest_first: impl IntoIterator<Item = (i64, &'a Bytes)>) -> Vec<i64> {
        let (mut items, mut bytes, mut surplus) = (0, 0, Vec::new());
        for (id, body) in newest_first {
            items += 1;
            bytes += body.len() as u64;
            if items > 1 && (items > self.items || bytes > self.bytes) {
                surplus.push(id);
            }
        }
        surplus
    }
}

impl Default for QuarantineLimits {
    /// 1000 bodies, 64 MiB: enough to see what a broken sender does.
    fn default() -> Self {
        Self { items: 1000, bytes: 64 * 1024 * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lost_lease_changes_nothing() {
        let answers = [Settled::Done, Settled::UnblockedNext, Settled::LeaseLost];
        assert_eq!(answers.map(Settled::took_effect), [true, true, false]);
    }

    #[test]
    fn reasons_are_told_by_names_that_stay() {
        for (reason, name) in
            [(QuarantineReason::Invalid, "invalid"), (QuarantineReason::Conflict, "conflict")]
        {
            assert_eq!((reason.as_str(), QuarantineReason::from_name(name)), (name, Some(reason)));
        }
        assert_eq!(QuarantineReason::from_name("other"), None);
    }
}
