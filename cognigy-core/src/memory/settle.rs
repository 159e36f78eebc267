//! Ends claims, and makes the next event of a contact due.

use super::{OutboxEntry, Row, Tables};
use bytes::Bytes;

use crate::{
    event::{Correlation, DeliveryContext, Move, Timestamp},
    ports::DeadLetter,
    store::{Attempt, DeadLetterEnd, RunEnd, Settled, Settlement, WorkEnd},
};

impl Row {
    /// What a dead letter carries: of a sensitive event nothing.
    fn payload(&self) -> Bytes {
        if self.parts.sensitive { Bytes::new() } else { self.body.clone() }
    }

    /// The kept headers, which a dead letter carries beside it.
    fn headers(&self) -> DeliveryContext {
        if self.parts.sensitive { DeliveryContext::default() } else { self.context.clone() }
    }

    /// Ends an attempt that does not count.
    fn put_off(&mut self, due: Timestamp) {
        self.apply(Move::Release);
        self.attempt -= 1;
        self.due = Some(due);
    }
}

impl Tables {
    pub(super) fn settle(&mut self, settlement: &Settlement) -> Settled {
        let (token, at) = (settlement.token(), settlement.at());
        if !self.holds(&token) {
            return Settled::LeaseLost;
        }
        match settlement.end() {
            WorkEnd::Run { end, attempt } => {
                self.settle_run(token.handle, end, attempt.as_ref(), at);
                if let (Some(correlation), Some(row)) =
                    (settlement.correlation(), self.events.get_mut(&token.handle))
                {
                    row.correlation = Some(correlation).filter(|it| *it != Correlation::NotAsked);
                }
                let given_up = match end {
                    RunEnd::Processed { .. } => false,
                    RunEnd::GiveUp { .. } => true,
                    RunEnd::Retry { .. } | RunEnd::Release | RunEnd::PutOff { .. } => {
                        return Settled::Done;
                    }
                };
                if self.unblock_next(token.handle, given_up, at) {
                    return Settled::UnblockedNext;
                }
            }
            WorkEnd::DeadLetter(end) => self.settle_dead_letter(token.handle, *end),
        }
        Settled::Done
    }

    /// An event has ended: the next of its contact is due, if one waits.
    fn unblock_next(&mut self, handle: i64, given_up: bool, at: Timestamp) -> bool {
        let Self { events, queues, .. } = self;
        let next = events
            .get(&handle)
            .and_then(|row| queues.contact(&row.key.source, &row.parts))
            .and_then(|contact| queues.end(&contact, given_up));
        self.make_due(next, at)
    }

    /// Makes the next event of a contact due. Whether there is one.
    pub(super) fn make_due(&mut self, next: Option<i64>, at: Timestamp) -> bool {
        let Some(row) = next.and_then(|next| self.events.get_mut(&next)) else { return false };
        // An event in its first run has waited since it was received, and should not wait as long
        // again.
        row.due = Some(if row.run == 1 { row.received_at } else { at });
        true
    }

    fn settle_run(&mut self, handle: i64, end: &RunEnd, attempt: Option<&Attempt>, at: Timestamp) {
        let outbox_handle = self.next_handle();
        let Some(row) = self.events.get_mut(&handle) else { return };
        row.fence += 1;
        row.attempts.extend(attempt.cloned());
        row.due = None;
        match end {
            RunEnd::Processed { contact } => {
                row.apply(Move::Complete);
                row.processed_at = Some(at);
                row.contact.clone_from(contact);
            }
            RunEnd::Retry { due } => {
                row.apply(Move::Retry);
                row.due = Some(*due);
            }
            RunEnd::Release => row.put_off(at),
            RunEnd::PutOff { due } => row.put_off(*due),
            RunEnd::GiveUp { reason, attempts } => {
                row.apply(Move::GiveUp);
                let dead_letter = DeadLetter {
                    key: row.key.clone(),
                    run: row.run,
                    kind: row.parts.kind.clone(),
                    time: row.parts.time.clone(),
                    error_message: reason.clone(),
                    attempts: *attempts,
                    first_received_at: row.received_at,
                    raw_payload: row.payload(),
                    context: row.headers(),
                };
                let entry = OutboxEntry { event: handle, dead_letter, due: at, fence: 0, tries: 0 };
                self.outbox.insert(outbox_handle, entry);
            }
        }
    }

    fn settle_dead_letter(&mut self, handle: i64, end: DeadLetterEnd) {
        match end {
            DeadLetterEnd::Sent => {
                let Some(entry) = self.outbox.remove(&handle) else { return };
                let Some(row) = self.events.get_mut(&entry.event) else { return };
                row.letters_sent += 1;
                if row.run == entry.dead_letter.run {
                    row.apply(Move::DeadLetterSent);
                }
            }
            DeadLetterEnd::Retry { due } => {
                if let Some(entry) = self.outbox.get_mut(&handle) {
                    entry.fence += 1;
                    entry.due = due;
                }
            }
        }
    }
}
