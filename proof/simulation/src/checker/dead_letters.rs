//! Dead letters: once in the store for each run given up, at least once at the sink.

use bytes::Bytes;
use cognigy_core::{ClaimToken, DeadLetterEnd, Settled, Settlement, Timestamp};

use super::books::{Books, Phase};
use crate::history::DeadLetterGrant;

const OUTBOX: &str = "each run given up has one dead letter in the store";
const SINK: &str = "each dead letter reaches the sink, and only what was given up does";
const FENCE: &str = "only the holder of the latest claim changes anything";

impl Books<'_> {
    pub(super) fn letter_granted(&mut self, grant: &DeadLetterGrant) {
        let DeadLetterGrant { token, event, run, now, until, .. } = grant;
        let life = self.lives.get(event).map_or(0, Vec::len);
        let key = (*event, u32::try_from(life).unwrap_or(0), *run);
        self.letter_handles.insert(token.handle, key);
        let Some(dead_letter) = self.dead_letters.get_mut(&key) else {
            return self.violated(OUTBOX, Some(*event), format!("run {run} was not given up"));
        };
        let mut complaint = None;
        if dead_letter.sent {
            complaint = Some((OUTBOX, "it was sent already".to_owned()));
        } else if dead_letter.due > *now {
            complaint = Some((FENCE, format!("due {}, claimed {now}", dead_letter.due)));
        } else if token.fence <= dead_letter.last_fence {
            complaint = Some((FENCE, format!("fence {} comes again", token.fence)));
        } else if (&dead_letter.reason, dead_letter.attempts, &dead_letter.payload)
            != (&grant.reason, grant.attempts, &grant.payload)
        {
            complaint = Some((OUTBOX, "it does not say what was decided".to_owned()));
        }
        dead_letter.last_fence = token.fence;
        dead_letter.held = Some(*token);
        dead_letter.due = *until;
        if let Some((promise, text)) = complaint {
            self.violated(promise, Some(*event), text);
        }
    }

    pub(super) fn letter_renewed(&mut self, token: &ClaimToken, answer: Settled, until: Timestamp) {
        let key = self.letter_handles.get(&token.handle).copied();
        let dead_letter = key.and_then(|key| self.dead_letters.get_mut(&key));
        let held = dead_letter.filter(|dead_letter| dead_letter.held == Some(*token));
        let event = key.map(|key| key.0);
        match (held, answer) {
            (Some(dead_letter), Settled::Done | Settled::UnblockedNext) => {
                dead_letter.due = dead_letter.due.max(until)
            }
            (None, Settled::LeaseLost) => {}
            (Some(_), Settled::LeaseLost) => {
                self.violated(FENCE, event, "the holder's renewal of a dead letter was refused");
            }
            (None, Settled::Done | Settled::UnblockedNext) => {
                self.violated(FENCE, event, "a dead letter's renewal by someone else took effect");
            }
        }
    }

    pub(super) fn letter_settled(
        &mut self,
        settlement: &Settlement,
        end: DeadLetterEnd,
        answer: Settled,
    ) {
        let token = &settlement.token();
        let key = self.letter_handles.get(&token.handle).copied();
        let event = key.map(|key| key.0);
        let dead_letter = key.and_then(|key| self.dead_letters.get_mut(&key));
        let held =
            dead_letter.filter(|dead_letter| dead_letter.held == Some(*token) && !dead_letter.sent);
        match (key, held, answer) {
            (Some(key), Some(dead_letter), Settled::Done | Settled::UnblockedNext) => {
                dead_letter.held = None;
                match end {
                    DeadLetterEnd::Sent => {
                        dead_letter.sent = true;
                        if dead_letter.taken == 0 {
                            self.violated(SINK, event, "called sent, and the sink never had it");
                        }
                        self.letter_done(key.0, key.2);
                    }
                    DeadLetterEnd::Retry { due } => {
                        dead_letter.due = due;
                        let wait = (due - settlement.at()).to_std().unwrap_or_default();
                        if wait > self.plan.settings.sink_retry.max_delay {
                            self.violated(SINK, event, format!("tried again after {wait:?}"));
                        }
                    }
                }
            }
            (_, None, Settled::LeaseLost) => {}
            (_, Some(_), Settled::LeaseLost) => {
                self.violated(FENCE, event, "the holder's settlement of a dead letter was refused");
            }
            (_, _, Settled::Done | Settled::UnblockedNext) => {
                self.violated(FENCE, event, "a late settlement of a dead letter took effect");
            }
        }
    }

    fn letter_done(&mut self, event: u32, run: u32) {
        if let Some(book) = self.events.get_mut(&event)
            && book.run == run
            && book.phase == Phase::DeadLettering
        {
            book.phase = Phase::DeadLettered;
        }
    }

    pub(super) fn sink_took(
        &mut self,
        event: u32,
        run: u32,
        attempts: u32,
        reason: &str,
        payload: &Bytes,
    ) {
        let life = u32::try_from(self.lives.get(&event).map_or(0, Vec::len)).unwrap_or(0);
        // A process that was paused may send what was decided in an earlier life of the event.
        let said = (attempts, reason, payload);
        let dead_letter = (1..=life).rev().find_map(|life| {
            let dead_letter = self.dead_letters.get(&(event, life, run))?;
            let kept = (dead_letter.attempts, dead_letter.reason.as_str(), &dead_letter.payload);
            (kept == said).then_some((event, life, run))
        });
        match dead_letter.and_then(|key| self.dead_letters.get_mut(&key)) {
            Some(dead_letter) => dead_letter.taken += 1,
            None => self.violated(SINK, Some(event), format!("run {run} was not given up so")),
        }
    }
}
