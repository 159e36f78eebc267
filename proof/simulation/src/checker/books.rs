//! The books: what must be in the store, according to the commits in the history.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cognigy_core::{AttemptOutcome, ClaimToken, Contact, State, Timestamp, WorkKind};

use super::Violation;
use crate::{
    executor::Micros,
    fault::Fault,
    history::{AttemptRow, QuarantinedBody},
    plan::{Nature, Plan},
};

/// The state of an event, by the books.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    Waiting { due: Timestamp },
    Held(Holder),
    Processed,
    DeadLettering,
    DeadLettered,
}

impl Phase {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Waiting { .. } => State::Pending,
            Self::Held(_) => State::Processing,
            Self::Processed => State::Processed,
            Self::DeadLettering => State::DeadLettering,
            Self::DeadLettered => State::DeadLettered,
        }
    }
}

/// The holder of an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Holder {
    pub(super) token: ClaimToken,
    pub(super) process: usize,
    pub(super) by_replay: bool,
    pub(super) readable: bool,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// The contact with which the handler succeeded, once it has.
    pub(super) handled: Option<Option<Contact>>,
}

/// An event, by the books.
#[derive(Debug)]
pub(super) struct EventBook {
    pub(super) life: u32,
    pub(super) body: Bytes,
    pub(super) received_at: Timestamp,
    pub(super) run: u32,
    pub(super) attempt: u32,
    pub(super) run_by_replay: bool,
    /// Its position in the order of arrival.
    pub(super) arrival: usize,
    /// Whether its run was claimed, even if it was released later: it may stay the head.
    pub(super) handed_out: bool,
    pub(super) phase: Phase,
    pub(super) attempts: Vec<AttemptRow>,
    pub(super) contact: Option<Contact>,
    pub(super) processed_at: Option<Timestamp>,
    pub(super) last_fence: i64,
}

impl EventBook {
    /// How many attempts of the present run were lost.
    pub(super) fn lost(&self) -> u32 {
        let of_run = self.attempts.iter().filter(|row| row.run == self.run);
        let lost = of_run.filter(|row| row.outcome == AttemptOutcome::LeaseExpired);
        u32::try_from(lost.count()).unwrap_or(u32::MAX)
    }
}

/// A dead letter, by the books: of which event, which of its lives, which run.
pub(super) type LetterKey = (u32, u32, u32);

/// A dead letter, by the books.
#[derive(Debug)]
pub(super) struct DeadLetterBook {
    pub(super) reason: String,
    pub(super) attempts: u32,
    pub(super) payload: Bytes,
    pub(super) due: Timestamp,
    pub(super) held: Option<ClaimToken>,
    pub(super) sent: bool,
    /// How often the sink accepted it.
    pub(super) taken: u32,
    pub(super) last_fence: i64,
}

/// The facts about a process that can excuse a breach.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProcessBook {
    pub(super) is_stalled: bool,
    /// When it was last paused, or resumed.
    pub(super) stalled_at: Option<Micros>,
}

/// A call to CRM or handler that has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct ActiveCall {
    pub(super) event: u32,
    pub(super) process: usize,
    pub(super) began: Micros,
}

pub(super) struct Books<'a> {
    pub(super) plan: &'a Plan,
    pub(super) fired: &'a mut BTreeMap<Fault, u64>,
    pub(super) at: Micros,
    pub(super) violations: Vec<Violation>,
    pub(super) events: BTreeMap<u32, EventBook>,
    /// The first body of each event, for each time it was recorded after a purge.
    pub(super) lives: BTreeMap<u32, Vec<Bytes>>,
    pub(super) dead_letters: BTreeMap<LetterKey, DeadLetterBook>,
    /// Which event or dead letter a store's handle stands for.
    pub(super) handles: BTreeMap<i64, u32>,
    pub(super) letter_handles: BTreeMap<i64, LetterKey>,
    pub(super) quarantine: Vec<(QuarantinedBody, Timestamp)>,
    pub(super) ever_quarantined: Vec<QuarantinedBody>,
    pub(super) processes: Vec<ProcessBook>,
    pub(super) calls: BTreeMap<u64, ActiveCall>,
    /// Calls that were still running when another call for the same event began.
    pub(super) overlaps: Vec<(u64, Violation)>,
    /// CRM calls and handler calls of each run.
    pub(super) tries: BTreeMap<(LetterKey, bool), u32>,
    /// How many events have arrived.
    pub(super) arrivals: usize,
    /// Single replays that ended and whose operator has no answer yet.
    pub(super) replays_ended: Vec<(u32, Result<Option<Contact>, String>)>,
    pub(super) accepted: BTreeMap<u32, usize>,
    pub(super) deliveries_under_way: BTreeSet<usize>,
    /// Whether the processes' clocks can disagree with one another or with leases given earlier.
    pub(super) clocks_err: bool,
}

impl<'a> Books<'a> {
    pub(super) fn new(plan: &'a Plan, fired: &'a mut BTreeMap<Fault, u64>) -> Self {
        Self {
            plan,
            fired,
            at: 0,
            violations: Vec::new(),
            events: BTreeMap::new(),
            lives: BTreeMap::new(),
            dead_letters: BTreeMap::new(),
            handles: BTreeMap::new(),
            letter_handles: BTreeMap::new(),
            quarantine: Vec::new(),
            ever_quarantined: Vec::new(),
            processes: vec![ProcessBook::default(); plan.settings.clocks.len()],
            calls: BTreeMap::new(),
            overlaps: Vec::new(),
            tries: BTreeMap::new(),
            arrivals: 0,
            replays_ended: Vec::new(),
            accepted: BTreeMap::new(),
            deliveries_under_way: BTreeSet::new(),
            clocks_err: plan.clock_error() > 0,
        }
    }

    pub(super) fn violated(
        &mut self,
        promise: &'static str,
        event: Option<u32>,
        detail: impl Into<String>,
    ) {
        let violation = Violation { promise, event, at: self.at, detail: detail.into() };
        self.violations.push(violation);
    }

    pub(super) fn count(&mut self, fault: Fault) {
        *self.fired.entry(fault).or_default() += 1;
    }

    pub(super) fn nature(&self, event: u32) -> Option<Nature> {
        self.plan.natures.get(&event).copied()
    }

    /// The event that a token was granted for.
    pub(super) fn event_of(&self, token: &ClaimToken) -> Option<u32> {
        match token.work {
            WorkKind::Run => self.handles.get(&token.handle).copied(),
            WorkKind::DeadLetter => self.letter_handles.get(&token.handle).map(|key| key.0),
        }
    }

    /// Whether a dead letter of the event still waits for the sink.
    pub(super) fn has_unsent_letter(&self, event: u32) -> bool {
        let Some(book) = self.events.get(&event) else { return false };
        let dead_letters =
            self.dead_letters.range((event, book.life, 0)..=(event, book.life, u32::MAX));
        dead_letters.into_iter().any(|(_, dead_letter)| !dead_letter.sent)
    }
}
