//! Where the order of each contact's events is kept: one at a time, in order of arrival.

use cognigy_core::Timestamp;

use super::{
    Violation,
    books::{ActiveCall, Books, EventBook, Phase},
};

const ORDER: &str = "events of one contact are run one at a time, in order of arrival";

fn is_unfinished(book: &EventBook) -> bool {
    matches!(book.phase, Phase::Waiting { .. } | Phase::Held(_))
}

/// Whether it must stay the head. An event that was released before its attempt began need not.
fn is_begun(book: &EventBook) -> bool {
    match book.phase {
        Phase::Held(_) => true,
        Phase::Waiting { .. } => book.attempt > 0,
        _ => false,
    }
}

impl Books<'_> {
    fn others_of_its_contact(&self, event: u32) -> impl Iterator<Item = u32> + '_ {
        let lane = self.plan.lane(event);
        let same =
            move |other: &u32| *other != event && lane.is_some() && self.plan.lane(*other) == lane;
        self.events.keys().copied().filter(same)
    }

    /// Whether another event of the contact is unfinished.
    pub(super) fn waits_for_another(&self, event: u32) -> bool {
        self.others_of_its_contact(event)
            .any(|other| self.events.get(&other).is_some_and(is_unfinished))
    }

    /// An event is about to be granted: no other event of its contact may have been begun, and no
    /// earlier one may be waiting. An event that was claimed before and released may have stayed
    /// the head.
    pub(super) fn in_turn(&mut self, event: u32, by_replay: bool) {
        let Some(book) = self.events.get(&event) else { return };
        let arrival = book.arrival;
        let kept_its_place = is_unfinished(book) && book.handed_out;
        let was_over = !is_unfinished(book) && by_replay;
        let passed_over = self.others_of_its_contact(event).find(|other| {
            let Some(other) = self.events.get(other).filter(|other| is_unfinished(other)) else {
                return false;
            };
            is_begun(other) || was_over || other.arrival < arrival && !kept_its_place
        });
        if let Some(other) = passed_over {
            self.violated(ORDER, Some(event), format!("event {other} comes before it"));
        }
    }

    /// An event has ended: the event that waited behind it is due at once, whatever its due time
    /// was before.
    pub(super) fn made_way(&mut self, event: u32, at: Timestamp) {
        for other in self.others_of_its_contact(event).collect::<Vec<_>>() {
            let book = self.events.get_mut(&other).filter(|book| !is_begun(book));
            if let Some(EventBook { phase: Phase::Waiting { due }, .. }) = book {
                *due = (*due).min(at);
            }
        }
    }

    /// For the CRM and the handler, no call for another event of the contact is running. The same
    /// facts excuse a breach as for two calls for one event.
    pub(super) fn alone_of_its_contact(&mut self, event: u32) {
        if self.clocks_err {
            return;
        }
        let others: Vec<_> = self.others_of_its_contact(event).collect();
        let beside: Vec<_> =
            self.calls.iter().filter(|(_, call)| others.contains(&call.event)).collect();
        for (number, other) in beside {
            if !self.was_paused(other.process, other.began) {
                let ActiveCall { event: other, began, .. } = *other;
                let detail = format!("a call for event {other} is under way since {began} µs");
                let (promise, event, at) = (ORDER, Some(event), self.at);
                self.overlaps.push((*number, Violation { promise, event, at, detail }));
            }
        }
    }
}
