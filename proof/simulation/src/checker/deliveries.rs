//! Checks the answers to senders against the stored events.

use bytes::Bytes;
use cognigy_core::{QuarantineReason, Requeued, Timestamp, same_content};

use super::books::{Books, EventBook, Phase};
use crate::{
    body,
    fault::Fault,
    history::{QuarantinedBody, RecordedAs},
    plan::{Body, Delivery, Nature},
};

const FORGED: &str = "nothing unverified is accepted, stored or parsed";
const ANSWER: &str = "a sender is told what became of its delivery";
const STORED: &str = "what was answered 200 is stored byte for byte";
const ONE_ROW: &str = "one row for each event, and its first body stands";
const TOGETHER: &str = "all events of a delivery are stored, or none is";
const QUARANTINE: &str = "what is signed but not taken is in quarantine";
const PURGE: &str = "only finished events are forgotten";
const REQUEUE: &str = "a bulk replay adds one run to a finished event";

impl Books<'_> {
    pub(super) fn sent(&mut self, delivery: usize) {
        let sent = &self.plan.deliveries[delivery];
        for part in sent.parts() {
            match part.body {
                Body::Reworded => self.count(Fault::Reworded),
                Body::Contradicting(_) => self.count(Fault::Conflict),
                _ => {}
            }
        }
        let mut others = self.deliveries_under_way.iter().filter(|other| **other != delivery);
        let brings_one_of = |other: &Delivery| sent.parts().any(|part| other.brings(part.event));
        if others.any(|other| brings_one_of(&self.plan.deliveries[*other])) {
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
        let broken = match (kind, status) {
            (Body::Forged(_), 401) | (_, 503)
                if !(matches!(kind, Body::Forged(_)) && status == 503) =>
            {
                None
            }
            (Body::Forged(_), _) => Some(FORGED),
            (Body::Invalid(_), 400) => {
                let is_kept = self.was_quarantined(QuarantineReason::Invalid, &sent_body);
                (!is_kept).then_some(QUARANTINE)
            }
            (Body::Genuine | Body::Reworded | Body::Contradicting(_), 200) => {
                self.broken_by_200(delivery, &String::from_utf8_lossy(reply))
            }
            _ => Some(ANSWER),
        };
        if let Some(promise) = broken {
            self.violated(promise, Some(event), told);
        }
    }

    /// The promise that the answer 200 with the text `reply` broke, if it broke one.
    fn broken_by_200(&mut self, delivery: usize, reply: &str) -> Option<&'static str> {
        let parts: Vec<_> = self.plan.deliveries[delivery]
            .parts()
            .map(|part| part.event)
            .zip(body::parts(self.plan, delivery))
            .collect();
        let lives = |event: &u32| self.lives.get(event).map_or(&[][..], Vec::as_slice);
        let is_known = |(event, body): &(u32, Bytes)| {
            lives(event).iter().any(|first| same_content(first, body))
        };
        let is_first = |(event, body): &(u32, Bytes)| lives(event).contains(body);
        if reply.contains("conflict") {
            let differs = |(event, body): &&(u32, Bytes)| {
                lives(event).iter().any(|first| !same_content(first, body))
            };
            let mut conflicting = parts.iter().filter(differs).peekable();
            if conflicting.peek().is_none() {
                return Some(ANSWER);
            }
            let is_kept =
                |(_, body): &(u32, Bytes)| self.was_quarantined(QuarantineReason::Conflict, body);
            return (!conflicting.any(is_kept)).then_some(QUARANTINE);
        }
        if reply.contains("duplicate") {
            return (!parts.iter().all(is_known)).then_some(STORED);
        }
        if let [(event, _)] = &parts[..] {
            let (is_stored, times) = (parts.iter().all(is_first), lives(event).len());
            let accepted = self.accepted.entry(*event).or_default();
            *accepted += 1;
            return match is_stored {
                true => (*accepted > times).then_some(ANSWER),
                false => Some(STORED),
            };
        }
        // At least one of several is new.
        let is_stored = parts.iter().all(is_known) && parts.iter().any(is_first);
        (!is_stored).then_some(STORED)
    }

    fn was_quarantined(&self, reason: QuarantineReason, body: &Bytes) -> bool {
        self.ever_quarantined.iter().any(|kept| kept.reason == reason && kept.body == *body)
    }

    /// What the store holds at a moment: of the events that came in one delivery all are there,
    /// except for those that were purged since.
    pub(super) fn together(&mut self, stored: &[(u32, Option<usize>)]) {
        for (event, delivery) in stored {
            let plan = self.plan;
            let sent = delivery.and_then(|number| plan.deliveries.get(number));
            for part in sent.into_iter().flat_map(Delivery::parts) {
                let is_stored = stored.iter().any(|(other, _)| *other == part.event);
                let was_purged =
                    self.lives.contains_key(&part.event) && !self.events.contains_key(&part.event);
                if !is_stored && !was_purged {
                    let text = format!("event {event} of the same delivery is there");
                    self.violated(TOGETHER, Some(part.event), text);
                }
            }
        }
    }

    fn is_forged(&self, stored: &Bytes) -> bool {
        // A forged delivery of several events also holds genuine ones, so its first body counts.
        let is_sent = |delivery: usize| {
            matches!(self.plan.deliveries[delivery].body, Body::Forged(_))
                && (body::bytes(self.plan, delivery) == *stored
                    || body::parts(self.plan, delivery).next().as_ref() == Some(stored))
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
        self.quarantine.retain(|(_, received_at)| *received_at >= before);
    }

    pub(super) fn quarantined(&mut self, item: &QuarantinedBody, now: Timestamp) {
        if self.is_forged(&item.body) {
            self.violated(FORGED, None, "a forged body reached the quarantine");
        }
        self.ever_quarantined.push(item.clone());
        if !self.quarantine.iter().any(|(kept, _)| kept == item) {
            self.quarantine.push((item.clone(), now));
        }
    }

    pub(super) fn discharged(&mut self, item: Option<&QuarantinedBody>, answer: bool) {
        if answer != item.is_some() {
            self.violated(QUARANTINE, None, "an item was there and was not, or the reverse");
        }
        let Some(item) = item else { return };
        self.quarantine.retain(|(kept, _)| kept != item);
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
