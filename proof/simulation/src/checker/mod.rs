//! Reads a history and reports which promise was broken.
//!
//! From the history alone it keeps its own books of the store's commits and of the calls that the
//! outside saw. It compares every entry and the store's final contents with them. It knows nothing
//! of the core's or the store's code and trusts none of their counters.

mod activity;
mod books;
mod dead_letters;
mod deliveries;
mod finale;
mod order;
mod runs;

pub(crate) use finale::Leftover;

use std::collections::BTreeMap;

use crate::{
    executor::Micros,
    fault::Fault,
    history::{Entry, Happened},
    plan::Plan,
};
use books::Books;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise, in a few words. Always the same words for the same promise.
    pub promise: &'static str,
    /// The event it concerns, if one.
    pub event: Option<u32>,
    /// When the breach showed, in virtual microseconds.
    pub at: Micros,
    /// What happened instead.
    pub detail: String,
}

/// Checks `history` and `leftover` of a run of `plan`.
pub(crate) fn check(
    plan: &Plan,
    history: &[Entry],
    leftover: &Leftover,
    finished: bool,
    fired: &mut BTreeMap<Fault, u64>,
) -> Vec<Violation> {
    let mut books = Books::new(plan, fired);
    for entry in history {
        books.at = entry.at;
        books.time_passes();
        books.enter(entry);
    }
    books.close(leftover, finished);
    books.violations
}

impl Books<'_> {
    fn enter(&mut self, entry: &Entry) {
        let process = entry.process.unwrap_or(usize::MAX);
        match &entry.what {
            Happened::Struck { .. } | Happened::Outage { .. } | Happened::ClockJumped { .. } => {}
            Happened::Started { .. } => self.process_started(process),
            Happened::Crashed | Happened::Stopped => self.process_gone(process),
            Happened::StopAsked => {}
            Happened::Stalled { .. } => self.process_stalled(process, true),
            Happened::Resumed => self.process_stalled(process, false),
            Happened::WorkerEnded { asked: true } => {}
            Happened::WorkerEnded { asked: false } => {
                self.violated("a worker works until it is told to stop", None, "it ended");
            }
            Happened::Panicked { message } => {
                self.violated("the core neither panics nor spins", None, message);
            }
            Happened::Sent { delivery, .. } => self.sent(*delivery),
            Happened::Answered { delivery, status, body } => {
                self.answered(*delivery, *status, body);
            }
            Happened::Unanswered { delivery } => self.under_way(*delivery, false),
            Happened::Recorded { event, body, outcome, now } => {
                self.recorded(*event, body, *outcome, *now);
            }
            Happened::Survived { stored } => self.together(stored),
            Happened::Granted(grant) => {
                self.in_turn(grant.event, grant.by_replay);
                self.granted(process, grant);
            }
            Happened::GrantedLetter(grant) => self.letter_granted(grant),
            Happened::Renewed { token, answer, until } => self.renewed(token, *answer, *until),
            Happened::Settled { settlement, answer } => self.settled(settlement, *answer),
            Happened::ReplayRefused { event, busy, now } => {
                self.replay_refused(*event, *busy, *now);
            }
            Happened::Requeued { event, answer, now } => self.requeued(*event, *answer, *now),
            Happened::Purged { before, events, count } => self.purged(*before, events, *count),
            Happened::Quarantined { item, now } => self.quarantined(item, *now),
            Happened::Discharged { item, answer } => self.discharged(item.as_ref(), *answer),
            Happened::CrmBegan { call, event, run, now } => {
                self.alone_of_its_contact(*event);
                self.began(process, *call, *event, *run, *now, false);
            }
            Happened::CrmEnded { call, .. } => self.ended(*call),
            Happened::HandlerBegan { call, event, run, now } => {
                self.alone_of_its_contact(*event);
                self.began(process, *call, *event, *run, *now, true);
            }
            Happened::HandlerEnded { call, event, run, how, contact } => {
                self.ended(*call);
                self.handled(process, *event, *run, *how, contact.as_ref());
            }
            Happened::SinkTook { event, run, attempts, reason, payload } => {
                self.sink_took(*event, *run, *attempts, reason, payload);
            }
            Happened::SinkRefused { .. } | Happened::ReplayAsked { .. } => {}
            Happened::ReplayTold { event, told } => self.replay_told(*event, told),
        }
    }
}
