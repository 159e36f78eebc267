//! Claims: granted for a lease, renewed, ended. The fence decides which settlement counts.

use std::time::Duration;

use cognigy_core::{
    Attempt, AttemptOutcome, Claim, ClaimBatch, ClaimRequest, ClaimToken, ClaimedDeadLetter,
    ClaimedRun, Correlation, DeadLetter, DeadLetterClaim, DeadLetterEnd, DeliveryContext, RunEnd,
    Settled, Settlement, Timestamp, WorkEnd, WorkKind,
};

use super::{Disk, EventRow, OutboxRow, Phase, Tables};
use crate::planted::Bug;

impl EventRow {
    /// When it can be claimed; None if another event has to end first.
    fn claimable_at(&self, bug: Option<Bug>) -> Option<Timestamp> {
        match self.phase {
            Phase::Waiting { due } => Some(due),
            Phase::Held { .. } if bug == Some(Bug::LeaseNeverExpires) => None,
            Phase::Held { since, .. } if bug == Some(Bug::ClaimIgnoresLease) => Some(since),
            Phase::Held { until, .. } => Some(until),
            _ => None,
        }
    }

    /// The event is next, whatever its due time was before it was displaced.
    pub(super) fn is_next(&mut self, at: Timestamp) {
        if let Phase::Waiting { due } = &mut self.phase {
            *due = at.min(*due);
        }
    }

    /// An attempt whose worker vanished goes into the history.
    pub(super) fn note_vanished_worker(&mut self) {
        if let Phase::Held { since, until } = self.phase {
            self.attempts.push(Attempt {
                number: self.attempt,
                run: self.run,
                started_at: since,
                duration: (until - since).to_std().unwrap_or_default(),
                outcome: AttemptOutcome::LeaseExpired,
                error: Some("the worker's lease ran out".to_owned()),
            });
        }
    }

    /// How many attempts of the present run were lost.
    fn lost(&self) -> u32 {
        let of_run = self.attempts.iter().filter(|attempt| attempt.run == self.run);
        let lost = of_run.filter(|attempt| attempt.outcome == AttemptOutcome::LeaseExpired);
        u32::try_from(lost.count()).unwrap_or(u32::MAX)
    }

    pub(super) fn grant(
        &mut self,
        id: i64,
        lease: Duration,
        now: Timestamp,
        took_over: bool,
    ) -> ClaimedRun {
        self.fence += 1;
        self.attempt += 1;
        self.begun = true;
        self.stops = false;
        self.phase = Phase::Held { since: now, until: now + lease };
        ClaimedRun {
            claim: Claim::granted(id, self.fence),
            key: self.key.clone(),
            run: self.run,
            attempt: self.attempt,
            lost: self.lost(),
            took_over,
            event: self.event(),
        }
    }
}

impl Disk {
    pub(super) fn claim(&self, request: ClaimRequest) -> ClaimBatch {
        let ClaimRequest { source, runs, dead_letters, lease, now } = request;
        let mut tables = self.tables();
        let written = std::mem::take(&mut tables.unwritten);
        tables.outbox.extend(written);
        let unsent = tables.outbox.iter().filter(|(_, row)| row.dead_letter.key.source == source);
        let mut unsent: Vec<_> = unsent.map(|(id, row)| (row.due, *id)).collect();
        let events = tables.events.iter().filter(|(_, row)| row.key.source == source);
        let held_back = self.held_back(&tables);
        let claimable = |(id, row): (&i64, &EventRow)| {
            let may_go = !held_back.contains(id);
            Some((row.claimable_at(self.bug).filter(|_| may_go)?, *id))
        };
        let mut events: Vec<_> = events.filter_map(claimable).collect();
        unsent.sort_unstable();
        events.sort_unstable();
        let due = |(time, _): &&(Timestamp, i64)| *time <= now;
        let unsent_taken = unsent.iter().filter(due).count().min(dead_letters);
        let events_taken = events.iter().filter(due).count().min(runs);
        // A kind of work that was not asked for is not announced either.
        let next_unsent = unsent.get(unsent_taken).filter(|_| dead_letters > 0);
        let next_event = events.get(events_taken).filter(|_| runs > 0);
        let mut batch = ClaimBatch {
            next_due: next_unsent.into_iter().chain(next_event).map(|(time, _)| *time).min(),
            ..ClaimBatch::default()
        };
        for (_, id) in &unsent[..unsent_taken] {
            batch
                .dead_letters
                .extend(tables.outbox.get_mut(id).map(|row| row.grant(*id, lease, now)));
        }
        for (_, id) in &events[..events_taken] {
            let Some(row) = tables.events.get_mut(id) else { continue };
            let took_over = matches!(row.phase, Phase::Held { .. });
            if self.has(Bug::VanishedNotCounted) && took_over {
                row.attempt -= 1;
            } else {
                row.note_vanished_worker();
            }
            let mut run = row.grant(*id, lease, now, took_over);
            if self.has(Bug::LostTakenForFailed) {
                run.lost = 0;
            }
            batch.runs.push(run);
        }
        batch
    }

    pub(super) fn prolong(&self, token: &ClaimToken, lease: Duration, now: Timestamp) -> Settled {
        if self.has(Bug::RenewDoesNothing) {
            return Settled::Done;
        }
        let mut tables = self.tables();
        let lenient = self.has(Bug::RenewWithoutToken);
        match token.work {
            WorkKind::Run => match tables.events.get_mut(&token.handle) {
                Some(row) if row.fence == token.fence || lenient => match &mut row.phase {
                    Phase::Held { until, .. } => *until = (*until).max(now + lease),
                    _ => return Settled::LeaseLost,
                },
                _ => return Settled::LeaseLost,
            },
            WorkKind::DeadLetter => match tables.outbox.get_mut(&token.handle) {
                Some(row) if row.held && (row.fence == token.fence || lenient) => {
                    row.due = row.due.max(now + lease);
                }
                _ => return Settled::LeaseLost,
            },
        }
        Settled::Done
    }

    pub(super) fn end(&self, settlement: &Settlement) -> Settled {
        let mut tables = self.tables();
        match settlement.end() {
            WorkEnd::Run { end, attempt } => {
                let before = self.held_back(&tables);
                let answer = self.end_run(&mut tables, settlement, end, attempt.as_ref());
                let now = self.held_back(&tables);
                let next: Vec<i64> = before.difference(&now).copied().collect();
                if next.is_empty() || !answer.took_effect() {
                    return answer;
                }
                for id in next {
                    tables.events.entry(id).and_modify(|row| row.is_next(settlement.at()));
                }
                Settled::UnblockedNext
            }
            WorkEnd::DeadLetter(end) => self.end_letter(&mut tables, settlement.token(), *end),
        }
    }

    fn end_run(
        &self,
        tables: &mut Tables,
        settlement: &Settlement,
        end: &RunEnd,
        attempt: Option<&Attempt>,
    ) -> Settled {
        let (token, at) = (settlement.token(), settlement.at());
        let outbox_id = tables.next_id();
        let Some(row) = tables.events.get_mut(&token.handle) else { return Settled::LeaseLost };
        let is_held = matches!(row.phase, Phase::Held { .. });
        let is_latest = row.fence == token.fence;
        let admitted = match self.bug {
            Some(Bug::SettleWithoutToken) => is_held,
            Some(Bug::SettlesTwice) => is_latest,
            _ => is_held && is_latest,
        };
        if !admitted {
            return Settled::LeaseLost;
        }
        if !self.has(Bug::SettlesTwice) {
            row.fence += 1;
        }
        if !self.has(Bug::HistoryNotKept) {
            row.attempts.extend(attempt.cloned());
        }
        if let Some(correlation) = settlement.correlation() {
            row.correlation = Some(correlation).filter(|it| *it != Correlation::NotAsked);
        }
        match end {
            RunEnd::Processed { contact } => {
                row.begun = false;
                row.stops = self.has(Bug::OrderKeepsHead);
                row.phase = Phase::Processed;
                row.processed_at = Some(at);
                row.contact.clone_from(contact);
            }
            RunEnd::Retry { .. } if self.has(Bug::RetryForgotten) => row.phase = Phase::Processed,
            RunEnd::Retry { due } => row.phase = Phase::Waiting { due: *due },
            RunEnd::Release | RunEnd::PutOff { .. } => {
                row.attempt -= u32::from(!self.has(Bug::ReleaseCounts));
                row.begun = row.attempt > 0;
                let due = if let RunEnd::PutOff { due } = end { *due } else { at };
                row.phase = Phase::Waiting { due };
            }
            RunEnd::GiveUp { reason, attempts } => {
                row.phase = Phase::DeadLettering;
                row.begun = false;
                row.stops = self.order.stops();
                let dead_letter = row.dead_letter(reason, *attempts);
                let (event, due) = (token.handle, at);
                let unsent = OutboxRow { event, dead_letter, due, held: false, fence: 0, tries: 0 };
                match self.has(Bug::OutboxAfterCommit) {
                    true => tables.unwritten.push((outbox_id, unsent)),
                    false => drop(tables.outbox.insert(outbox_id, unsent)),
                }
            }
        }
        Settled::Done
    }

    fn end_letter(&self, tables: &mut Tables, token: ClaimToken, end: DeadLetterEnd) -> Settled {
        let Some(row) = tables.outbox.get_mut(&token.handle) else { return Settled::LeaseLost };
        if !row.held || row.fence != token.fence {
            return Settled::LeaseLost;
        }
        match end {
            DeadLetterEnd::Sent => {
                let (event, run) = (row.event, row.dead_letter.run);
                tables.outbox.remove(&token.handle);
                let Some(row) = tables.events.get_mut(&event) else { return Settled::Done };
                row.letters_sent += 1;
                if row.run == run && row.phase == Phase::DeadLettering
                    || self.has(Bug::SentEndsReplay)
                {
                    row.phase = Phase::DeadLettered;
                }
            }
            DeadLetterEnd::Retry { due } => {
                row.held = false;
                row.due = due;
            }
        }
        Settled::Done
    }
}

impl EventRow {
    fn dead_letter(&self, reason: &str, attempts: u32) -> DeadLetter {
        let is_hidden = self.unreadable || self.parts.sensitive;
        DeadLetter {
            key: self.key.clone(),
            run: self.run,
            kind: self.parts.kind.clone(),
            time: self.parts.time.clone(),
            error_message: reason.to_owned(),
            attempts,
            first_received_at: self.received_at,
            raw_payload: if is_hidden { bytes::Bytes::new() } else { self.body.clone() },
            context: match self.parts.sensitive {
                true => DeliveryContext::default(),
                false => self.context.clone(),
            },
        }
    }
}

impl OutboxRow {
    fn grant(&mut self, id: i64, lease: Duration, now: Timestamp) -> ClaimedDeadLetter {
        self.fence += 1;
        self.tries += 1;
        self.held = true;
        self.due = now + lease;
        ClaimedDeadLetter {
            claim: DeadLetterClaim::granted(id, self.fence),
            dead_letter: self.dead_letter.clone(),
            attempt: self.tries,
        }
    }
}
