//! Checks the answers to senders against the stored events.

use bytes::Bytes;
use cognigy_core::{QuarantineReason, Requeued, Timestamp, same_content};

use super::books::{Books, EventBook, Phase};
use crate::{
    body,
    fault::Fault,
    history::RecordedAs,
    plan::{Body, Nature},
};

const FORGED: &str = "nothing unverified is accepted, stored or parsed";
const ANSWER: &str = "a sender is told what became of its delivery";
const STORED: &str = "what was answered 200 is stored byte for byte";
const ONE_ROW: &str = "one row for each event, and its first body stands";
const QUARANTINE: &str = "what is signed but not taken is in quarantine";
const PURGE: &str = "only finished events are forgotten";
const REQUEUE: &str = "a bulk replay adds one run to a finished event";

impl Books<'_> {
    pub(super) fn sent(&mut self, delivery: usize) {
        let sent = &self.plan.deliveries[delivery];
        if sent.body != Body::Genuine {
            match sent.body {
                Body::Reworded => self.count(Fault::Reworded),
                Body::Contradicting(_) => self.count(Fault::Conflict),
                _ => {}
            }
        }
        let event = self.plan.deliveries[delivery].event;
        let mut others = self.deliveries_under_way.iter().filter(|other| **other != delivery);
        if others.any(|other| self.plan.deliveries[*other].event == event) {
            self.count(Fault::Race);
        }
        self.under_way(delivery, true);
    }

    pub(super) fn under_way(&mut self, delivery: usize, is: bool) {
        match is {
            true => self.deliveries_under_way.insert(delivery),
            false => self.deliveries_under_way.remove(&delivery),
        };
    }

    pub(super) fn answered(&mut self, delivery: usize, status: u16, reply: &Bytes) {
        self.under_way(delivery, false);
        let sent = &self.plan.deliveries[delivery];
        let (event, kind) = (sent.event, sent.body);
        let sent_body = body::bytes(self.plan, delivery);
        let told = format!("{kind:?} was answered {status} {}", String::from_utf8_lossy(reply));
        let lives = self.lives.get(&event).map_or(&[][..], Vec::as_slice);
        let quarantined =
            |reason| self.ever_quarantined.iter().any(|item| *item == (reason, sent_body.clone()));
        let broken = match (kind, status) {
            (Body::Forged(_), 401) | (_, 503)
                if !(matches!(kind, Body::Forged(_)) && status == 503) =>
            {
                None
            }
            (Body::Forged(_), _) => Some(FORGED),
            (Body::Invalid(_), 400) => {
                (!quarantined(QuarantineReason::Invalid)).then_some(QUARANTINE)
            }
            (Body::Genuine | Body::Reworded | Body::Contradicting(_), 200) => {
                let text = String::from_utf8_lossy(reply);
                if text.contains("conflict") {
                    let differs = lives.iter().any(|first| !same_content(first, &sent_body));
                    if !differs {
                        Some(ANSWER)
                    } else {
                        (!quarantined(QuarantineReason::Conflict)).then_some(QUARANTINE)
                    }
                } else if text.contains("duplicate") {
                    let same = lives.iter().any(|first| same_content(first, &sent_body));
                    (!same).then_some(STORED)
                } else {
                    let accepted = self.accepted.entry(event).or_default();
                    *accepted += 1;
                    let stored = lives.contains(&sent_body);
                    if *accepted > lives.len() && stored {
                        Some(ANSWER)
                    } else {
                        (!stored).then_some(STORED)
                    }
                }
            }
            _ => Some(ANSWER),
        };
        if let Some(promise) = broken {
            self.violated(promise, Some(event), told);
        }
    }

    fn is_forged(&self, stored: &Bytes) -> bool {
        let is_sent = |delivery: usize| {
            matches!(self.plan.deliveries[delivery].body, Body::Forged(_))
                && body::bytes(self.plan, delivery) == *stored
        };
        (0..self.plan.deliveries.len()).any(is_sent)
    }

    pub(super) fn recorded(
        &mut self,
        event: u32,
        body: &Bytes,
        outcome: RecordedAs,
        now: Timestamp,
    ) {
        if self.is_forged(body) {
            self.violated(FORGED, Some(event), "a forged body reached the store");
        }
        let known = self.events.get(&event).map(|book| book.body == *body);
        let fits = match outcome {
            RecordedAs::New => known.is_none(),
            RecordedAs::Identical => known == Some(true),
            RecordedAs::Differs => known == Some(false),
        };
        if !fits {
            self.violated(ONE_ROW, Some(event), format!("the store called it {outcome:?}"));
        }
        if outcome != RecordedAs::New || known.is_some() {
            return;
        }
        let lives = self.lives.entry(event).or_default();
        lives.push(body.clone());
        let life = u32::try_from(lives.len()).unwrap_or(u32::MAX);
        if life > 1 {
            self.count(Fault::CameAgain);
        }
        self.arrivals += 1;
        let book = EventBook {
            arrival: self.arrivals,
            handed_out: false,
            life,
            body: body.clone(),
            received_at: now,
            run: 1,
            attempt: 0,
            run_by_replay: false,
            phase: Phase::Waiting { due: now },
            attempts: Vec::new(),
            contact: None,
            processed_at: None,
            last_fence: 0,
        };
        self.events.insert(event, book);
    }

    pub(super) fn requeued(&mut self, event: u32, answer: Requeued, now: Timestamp) {
        let unsent = self.has_unsent_letter(event);
        let Some(book) = self.events.get_mut(&event) else {
            if answer != Requeued::NotFound {
                self.violated(REQUEUE, Some(event), format!("unknown, and answered {answer:?}"));
            }
            return;
        };
        let expected = match &mut book.phase {
            Phase::Held(_) => Requeued::Busy,
            Phase::Waiting { due } => {
                *due = (*due).min(now);
                Requeued::Waiting
            }
            _ => Requeued::Scheduled,
        };
        if expected == Requeued::Scheduled {
            book.run += 1;
            book.attempt = 0;
            book.run_by_replay = false;
            book.handed_out = false;
            book.phase = Phase::Waiting { due: now };
            if unsent {
                self.count(Fault::ReplayBeforeSent);
            }
        }
        if expected != answer {
            self.violated(REQUEUE, Some(event), format!("{answer:?} instead of {expected:?}"));
        }
    }

    pub(super) fn purged(&mut self, before: Timestamp, events: &[u32], count: u64) {
        if count != events.len() as u64 {
            self.violated(PURGE, None, format!("said {count}, and {} went", events.len()));
        }
        for event in events {
            let unsent = self.has_unsent_letter(*event);
            let Some(book) = self.events.remove(event) else { continue };
            if unsent || !book.phase.state().is_final() || book.received_at >= before {
                self.violated(PURGE, Some(*event), format!("it was {}", book.phase.state()));
            }
        }
        self.quarantine.retain(|(_, _, received_at)| *received_at >= before);
    }

    pub(super) fn quarantined(&mut self, reason: QuarantineReason, body: &Bytes, now: Timestamp) {
        if self.is_forged(body) {
            self.violated(FORGED, None, "a forged body reached the quarantine");
        }
        self.ever_quarantined.push((reason, body.clone()));
        if !self.quarantine.iter().any(|(why, kept, _)| (*why, kept) == (reason, body)) {
            self.quarantine.push((reason, body.clone(), now));
        }
    }

    pub(super) fn discharged(&mut self, item: Option<&(QuarantineReason, Bytes)>, answer: bool) {
        if answer != item.is_some() {
            self.violated(QUARANTINE, None, "an item was there and was not, or the reverse");
        }
        let Some((reason, body)) = item else { return };
        self.quarantine.retain(|(why, kept, _)| (why, kept) != (reason, body));
    }

    /// The payload that a dead letter of the event carries.
    pub(super) fn payload(&self, event: u32, body: &Bytes) -> Bytes {
        match self.nature(event) {
            // Only the simulated disk can be damaged; the reference store always reads everything
            // back.
            Some(Nature::Unreadable) if self.is_damaged(event) => Bytes::new(),
            _ => body.clone(),
        }
    }

    fn is_damaged(&self, event: u32) -> bool {
        let book = self.events.get(&event);
        matches!(book.map(|book| &book.phase), Some(Phase::Held(holder)) if !holder.readable)
    }
}
