//! How claims end, and what that sets off.

use super::{Letter, Tables};
use crate::{
    event::Move,
    ports::{DeadLetter, Timestamp},
    store::{Attempt, Settled, Settlement, Verdict, WorkKind},
};

impl Tables {
    pub(super) fn settle(&mut self, settlement: &Settlement) -> Settled {
        let Settlement { token, verdict, attempt, at } = settlement;
        if !self.holds(token) {
            return Settled::LeaseLost;
        }
        match token.work {
            WorkKind::Run => {
                self.settle_run(token.handle, verdict, attempt.as_ref(), *at);
                let given_up = match verdict {
                    Verdict::Processed { .. } => false,
                    Verdict::GiveUp { .. } => true,
                    _ => return Settled::Done,
                };
                if self.make_way(token.handle, given_up, *at) {
                    return Settled::MadeWay;
                }
            }
            WorkKind::DeadLetter => self.settle_dead_letter(token.handle, verdict),
        }
        Settled::Done
    }

    /// An event has ended: the next of its contact is due, if one waits.
    fn make_way(&mut self, handle: i64, given_up: bool, at: Timestamp) -> bool {
        let Self { events, lanes, .. } = self;
        let next = events
            .get(&handle)
            .and_then(|row| lanes.contact(&row.key.source, &row.parts))
            .and_then(|contact| lanes.end(&contact, given_up));
        let Some(row) = next.and_then(|next| events.get_mut(&next)) else { return false };
        // In its first run it has waited since it came, and should not wait as long again.
        row.due = Some(if row.run == 1 { row.received_at } else { at });
        true
    }

    fn settle_run(
        &mut self,
        handle: i64,
        verdict: &Verdict,
        attempt: Option<&Attempt>,
        at: Timestamp,
    ) {
        let outbox_handle = self.next_handle();
        let Some(row) = self.events.get_mut(&handle) else { return };
        row.fence += 1;
        row.attempts.extend(attempt.cloned());
        row.due = None;
        match verdict {
            Verdict::Processed { contact } => {
                row.apply(Move::Complete);
                row.processed_at = Some(at);
                row.contact.clone_from(contact);
            }
            Verdict::Retry { due } => {
                row.apply(Move::Retry);
                row.due = Some(*due);
            }
            Verdict::Release => {
                row.apply(Move::Release);
                row.attempt -= 1;
                row.due = Some(at);
            }
            Verdict::GiveUp { reason, attempts } => {
                row.apply(Move::GiveUp);
                let dead_letter = DeadLetter {
                    key: row.key.clone(),
                    run: row.run,
                    kind: row.parts.kind.clone(),
                    time: row.parts.time.clone(),
                    error_message: reason.clone(),
                    attempts: *attempts,
                    first_received_at: row.received_at,
                    raw_payload: row.body.clone(),
                };
                let letter = Letter { event: handle, dead_letter, due: at, fence: 0, tries: 0 };
                self.outbox.insert(outbox_handle, letter);
            }
            Verdict::DeadLetterSent | Verdict::DeadLetterRetry { .. } => {}
        }
    }

    fn settle_dead_letter(&mut self, handle: i64, verdict: &Verdict) {
        match verdict {
            Verdict::DeadLetterSent => {
                let Some(letter) = self.outbox.remove(&handle) else { return };
                if let Some(row) = self.events.get_mut(&letter.event)
                    && row.run == letter.dead_letter.run
                {
                    row.apply(Move::DeadLetterSent);
                }
            }
            Verdict::DeadLetterRetry { due } => {
                if let Some(letter) = self.outbox.get_mut(&handle) {
                    letter.fence += 1;
                    letter.due = *due;
                }
            }
            _ => {}
        }
    }
}
