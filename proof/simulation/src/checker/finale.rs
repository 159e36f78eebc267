//! The end of a run: the store holds what the books say, and no work is left.

use cognigy_core::{
    Attempt, AttemptOutcome, Counts, EventFilter, PageRequest, State, Store, StoreError,
    StoredEvent,
};
use futures_util::FutureExt;

use super::books::{Books, LetterKey};
use crate::{
    body,
    history::{AttemptRow, QuarantinedBody},
};

const LIVENESS: &str = "once faults end, every accepted event ends as processed or dead-lettered";
const CONTENTS: &str = "the store holds what was committed, byte for byte, with its whole history";
const COUNTERS: &str = "counters are what a recount gives";
const SINK: &str = "each dead letter reaches the sink, and only what was given up does";
const TIMES: &str = "times in an event's history never go backwards";

/// The content of the store at the end, read through its own port.
#[derive(Debug, Default)]
pub(crate) struct Leftover {
    events: Vec<(u32, StoredEvent, Vec<Attempt>)>,
    quarantine: Vec<QuarantinedBody>,
    counts: Counts,
    listed: usize,
}

impl Leftover {
    /// Reads `store`, which answers at once.
    pub(crate) fn read(store: &dyn Store) -> Self {
        let page = PageRequest { limit: usize::MAX, after: None };
        let listed = now(store.list(&EventFilter::default(), page)).unwrap_or_default().events;
        let in_quarantine = now(store.quarantined(page)).unwrap_or_default().items;
        let whole = |id| now(store.quarantined_item(id)).flatten().map(QuarantinedBody::from);
        let mut left = Self {
            counts: now(store.counts()).unwrap_or_default(),
            quarantine: in_quarantine.iter().filter_map(|item| whole(item.id)).collect(),
            listed: listed.len(),
            events: Vec::new(),
        };
        for summary in listed {
            let number = body::number_in(summary.id.as_str());
            let key = body::key(number);
            let found = now(store.find(&key)).flatten();
            let attempts = now(store.attempts(&key)).unwrap_or_default();
            left.events.extend(found.map(|event| (number, event, attempts)));
        }
        left
    }

    /// Each event, and the delivery of several events that it came in, if it did.
    pub(crate) fn by_delivery(&self) -> Vec<(u32, Option<usize>)> {
        let delivery = |found: &StoredEvent| body::delivery_of(found.event.context());
        self.events.iter().map(|(event, found, _)| (*event, delivery(found))).collect()
    }
}

fn now<T>(future: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    future.now_or_never().and_then(Result::ok)
}

impl Books<'_> {
    pub(super) fn close(&mut self, left: &Leftover, finished: bool) {
        let unfinished: Vec<_> = self
            .events
            .iter()
            .filter(|(_, book)| !book.phase.state().is_final())
            .map(|(event, book)| (*event, format!("{} {:?}", book.phase.state(), book.phase)))
            .collect();
        if !finished && unfinished.is_empty() {
            self.violated(LIVENESS, None, "something else did not come to its end");
        }
        for (event, text) in unfinished {
            self.violated(LIVENESS, Some(event), text);
        }
        self.together(&left.by_delivery());
        self.compare_events(left);
        self.compare_dead_letters();
        self.compare_quarantine(left);
        self.recount(left);
    }

    fn compare_events(&mut self, left: &Leftover) {
        let stored: Vec<u32> = left.events.iter().map(|(event, ..)| *event).collect();
        let lost: Vec<_> = self.events.keys().filter(|event| !stored.contains(event)).collect();
        if !lost.is_empty() || stored.len() != left.listed {
            let text = format!("lost: {lost:?}; listed {}, found {}", left.listed, stored.len());
            self.violated(CONTENTS, None, text);
        }
        for (event, found, attempts) in &left.events {
            let Some(book) = self.events.get(event) else {
                self.violated(CONTENTS, Some(*event), "no delivery brought it");
                continue;
            };
            let mut complaints = Vec::new();
            if *found.event.body() != book.body {
                complaints.push((CONTENTS, "another body".to_owned()));
            }
            if (found.state, found.event.run()) != (book.phase.state(), book.run) {
                let text = format!("{} in run {}", found.state, found.event.run());
                let expected = format!("{} in run {}", book.phase.state(), book.run);
                complaints.push((CONTENTS, format!("{text}, not {expected}")));
            }
            if (&found.contact, found.processed_at) != (&book.contact, book.processed_at) {
                complaints.push((CONTENTS, "another contact, or another time".to_owned()));
            }
            let rows: Vec<_> = attempts.iter().map(row).collect();
            if rows != book.attempts {
                let text = format!("history {rows:?}, not {:?}", book.attempts);
                complaints.push((CONTENTS, text));
            }
            // A delayed claim carries the time at which it was asked for, so an attempt that no
            // worker made may seem to begin before an earlier one.
            let made: Vec<_> =
                rows.iter().filter(|row| row.outcome != AttemptOutcome::LeaseExpired).collect();
            let in_order =
                rows.is_sorted_by_key(|row| row.run) && made.is_sorted_by_key(|row| row.started_at);
            if !in_order && !self.clocks_err {
                complaints.push((TIMES, format!("{rows:?}")));
            }
            for (promise, text) in complaints {
                self.violated(promise, Some(*event), text);
            }
        }
    }

    fn compare_dead_letters(&mut self) {
        let missing: Vec<(LetterKey, bool)> = self
            .dead_letters
            .iter()
            .filter(|(_, dead_letter)| dead_letter.taken == 0 || !dead_letter.sent)
            .map(|(key, dead_letter)| (*key, dead_letter.sent))
            .collect();
        for ((event, _, run), sent) in missing {
            let text = format!("run {run} was given up; the store calls it sent: {sent}");
            self.violated(SINK, Some(event), text);
        }
    }

    fn compare_quarantine(&mut self, left: &Leftover) {
        let mut kept = left.quarantine.clone();
        let mut booked: Vec<_> = self.quarantine.iter().map(|(item, _)| item.clone()).collect();
        kept.sort();
        booked.sort();
        if kept != booked {
            let text = format!("{} in quarantine, not {}", kept.len(), booked.len());
            self.violated(CONTENTS, None, text);
        }
    }

    /// The accepted events are the processed, dead-lettered and waiting ones together, and the
    /// store's counters agree.
    fn recount(&mut self, left: &Leftover) {
        for state in State::ALL {
            let booked = self.events.values().filter(|book| book.phase.state() == state).count();
            let counted = left.counts.of(state);
            if counted != booked as u64 {
                self.violated(COUNTERS, None, format!("{state}: {counted}, not {booked}"));
            }
        }
        let waiting =
            self.dead_letters.values().filter(|dead_letter| !dead_letter.sent).count() as u64;
        let quarantined = self.quarantine.len() as u64;
        let counts = (left.counts.unsent_dead_letters, left.counts.quarantined);
        if counts != (waiting, quarantined) {
            let text = format!("{counts:?}, not {:?}", (waiting, quarantined));
            self.violated(COUNTERS, None, text);
        }
    }
}

fn row(attempt: &Attempt) -> AttemptRow {
    let Attempt { number, run, started_at, outcome, .. } = *attempt;
    AttemptRow { run, number, outcome, started_at }
}
