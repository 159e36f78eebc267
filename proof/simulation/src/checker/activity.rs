//! Checks the running attempts: an event is never run twice at the same time, nor without a claim.
//!
//! A breach is excused where the core cannot prevent it: a call that was under way while its
//! process was paused could not be ended in time, and clocks that disagree measure leases
//! differently. The results are still refused, which [`runs`](super::runs) checks without
//! exception.

use cognigy_core::Timestamp;

use super::{
    Violation,
    books::{ActiveCall, Books, Phase, ProcessBook},
};

const CLAIMED: &str = "CRM and handler are called only under a claim that has not run out";
const ALONE: &str = "an event is never run twice at the same time";
const ATTEMPTS: &str = "CRM and handler are called no more often than the policy says";
const READABLE: &str = "a body that cannot be read back is not handed to anyone";

impl Books<'_> {
    pub(super) fn process_started(&mut self, process: usize) {
        self.processes[process] = ProcessBook::default();
    }

    pub(super) fn process_gone(&mut self, process: usize) {
        self.processes[process] = ProcessBook::default();
    }

    pub(super) fn process_stalled(&mut self, process: usize, is_stalled: bool) {
        self.processes[process] = ProcessBook { is_stalled, stalled_at: Some(self.at) };
    }

    /// Whether `process` was paused at or after `since`.
    pub(super) fn was_paused(&self, process: usize, since: u64) -> bool {
        self.processes[process].stalled_at.is_some_and(|at| at >= since)
            || self.processes[process].is_stalled
    }

    pub(super) fn began(
        &mut self,
        process: usize,
        call: u64,
        event: u32,
        run: u32,
        now: Timestamp,
        is_handler: bool,
    ) {
        let others: Vec<_> = self.calls.iter().filter(|(_, other)| other.event == event).collect();
        for (number, other) in others {
            if !self.clocks_err && !self.was_paused(other.process, other.began) {
                let ActiveCall { process, began, .. } = *other;
                let detail = format!("process {process} has been at it since {began} µs");
                let violation =
                    Violation { promise: ALONE, event: Some(event), at: self.at, detail };
                self.overlaps.push((*number, violation));
            }
        }
        self.calls.insert(call, ActiveCall { event, process, began: self.at });

        let excused = self.clocks_err;
        let Some(book) = self.events.get(&event) else {
            if !excused {
                self.violated(CLAIMED, Some(event), "it is not stored");
            }
            return;
        };
        let mut complaint = None;
        match &book.phase {
            Phase::Held(holder) if holder.process == process && book.run == run => {
                if holder.until < now && !excused {
                    complaint = Some((CLAIMED, format!("its lease ended {}", holder.until)));
                } else if !holder.readable {
                    complaint = Some((READABLE, "it was".to_owned()));
                }
            }
            other if !excused => {
                complaint = Some((CLAIMED, format!("run {run}, and the event is {other:?}")));
            }
            _ => {}
        }
        let key = ((event, book.life, run), is_handler);
        if let Some((promise, text)) = complaint {
            self.violated(promise, Some(event), text);
        }
        let tries = self.tries.entry(key).or_default();
        *tries += 1;
        let tries = *tries;
        let settings = &self.plan.settings;
        if tries > settings.retry.max_attempts + settings.max_lost_leases {
            self.violated(ATTEMPTS, Some(event), format!("call number {tries} of run {run}"));
        }
    }

    pub(super) fn ended(&mut self, call: u64) {
        self.calls.remove(&call);
        // If one ends at the instant at which the other begins, they do not overlap.
        self.overlaps.retain(|(other, _)| *other != call);
    }

    /// Calls that had not ended by the same instant did overlap.
    pub(super) fn time_passes(&mut self) {
        let now = self.at;
        let overlapped = self.overlaps.extract_if(.., |(_, violation)| violation.at < now);
        self.violations.extend(overlapped.map(|(_, violation)| violation));
    }
}
