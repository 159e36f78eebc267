//! Checks claims on runs: which may be granted, how many attempts they make, and which settlements
//! count.

use cognigy_core::{
    Attempt, AttemptOutcome, ClaimToken, Contact, RunEnd, Settled, Settlement, Timestamp, WorkEnd,
    WorkKind,
};

use super::books::{Books, DeadLetterBook, EventBook, Holder, Phase};
use crate::{
    fault::Fault,
    history::{AttemptRow, Ended, Grant, Told},
};

const GRANTS: &str = "an event is granted to one holder at a time, and not before its time";
const FENCE: &str = "only the holder of the latest claim changes anything";
const POLICY: &str = "attempts are made, and waited for, as the policy says";
const PROCESSED: &str = "an event is processed when its handler was content, and not before";
const REPLAY: &str = "a replay is a run of its own, and its operator is told what came of it";

impl Books<'_> {
    pub(super) fn granted(&mut self, process: usize, grant: &Grant) {
        let Grant { token, event, run, attempt, readable, by_replay, now, until } = grant.clone();
        self.handles.insert(token.handle, event);
        let unsent = self.has_unsent_letter(event);
        let Some(book) = self.events.get_mut(&event) else {
            return self.violated(GRANTS, Some(event), "it is not stored");
        };
        let mut complaints = Vec::new();
        let mut situations = Vec::new();
        match &book.phase {
            Phase::Waiting { due } if *due > now && !by_replay => {
                complaints.push((GRANTS, format!("due {due}, claimed {now}")));
            }
            Phase::Held(holder) if holder.until > now => {
                let text = format!("held until {}, claimed {now}", holder.until);
                complaints.push((GRANTS, text));
            }
            Phase::Waiting { .. } | Phase::Held(_) => {}
            finished if !by_replay => {
                complaints.push((GRANTS, format!("it is {}", finished.state())));
            }
            _ => {}
        }
        if let Phase::Held(holder) = &book.phase {
            situations.push(Fault::TakenOver);
            if by_replay {
                situations.push(Fault::ReplayTookOver);
            } else if holder.by_replay {
                situations.push(Fault::ReplayCarriedOn);
            }
            let (run, number, started_at) = (book.run, book.attempt, holder.since);
            let outcome = AttemptOutcome::LeaseExpired;
            book.attempts.push(AttemptRow { run, number, outcome, started_at });
        }
        if by_replay {
            book.run += 1;
            book.attempt = 0;
            if unsent {
                situations.push(Fault::ReplayBeforeSent);
            }
        }
        book.run_by_replay = by_replay;
        book.handed_out = true;
        book.attempt += 1;
        if (book.run, book.attempt) != (run, attempt) {
            let promise = if by_replay { REPLAY } else { POLICY };
            let expected = format!("run {}, attempt {}", book.run, book.attempt);
            complaints.push((promise, format!("run {run}, attempt {attempt}, not {expected}")));
        }
        if token.fence <= book.last_fence {
            complaints.push((FENCE, format!("fence {} comes again", token.fence)));
        }
        book.last_fence = token.fence;
        let handled = None;
        let since = now;
        book.phase =
            Phase::Held(Holder { token, process, by_replay, readable, since, until, handled });
        situations.into_iter().for_each(|situation| self.count(situation));
        for (promise, text) in complaints {
            self.violated(promise, Some(event), text);
        }
    }

    pub(super) fn renewed(&mut self, token: &ClaimToken, answer: Settled, until: Timestamp) {
        if token.work == WorkKind::DeadLetter {
            return self.letter_renewed(token, answer, until);
        }
        let event = self.event_of(token);
        let holder = event.and_then(|event| self.events.get_mut(&event)).and_then(|book| {
            match &mut book.phase {
                Phase::Held(holder) if holder.token == *token => Some(holder),
                _ => None,
            }
        });
        match (holder, answer) {
            (Some(holder), Settled::Done | Settled::UnblockedNext) => {
                holder.until = holder.until.max(until)
            }
            (None, Settled::LeaseLost) => {}
            (Some(_), Settled::LeaseLost) => {
                self.violated(FENCE, event, "the holder's renewal was refused");
            }
            (None, Settled::Done | Settled::UnblockedNext) => {
                self.violated(FENCE, event, "a renewal by someone else took effect");
            }
        }
    }

    pub(super) fn settled(&mut self, settlement: &Settlement, answer: Settled) {
        let token = &settlement.token();
        let (end, attempt) = match settlement.end() {
            WorkEnd::Run { end, attempt } => (end, attempt.as_ref()),
            WorkEnd::DeadLetter(end) => return self.letter_settled(settlement, *end, answer),
        };
        let event = self.event_of(token);
        let holds = |book: &&EventBook| matches!(&book.phase, Phase::Held(holder) if holder.token == *token);
        let held = event.and_then(|event| self.events.get(&event)).filter(holds).is_some();
        match (event, held, answer) {
            (Some(event), true, Settled::Done | Settled::UnblockedNext) => {
                self.run_ended(event, end, attempt, settlement.at())
            }
            (_, false, Settled::LeaseLost) => {}
            (_, true, Settled::LeaseLost) => {
                self.violated(FENCE, event, "the holder's settlement was refused");
            }
            (_, _, Settled::Done | Settled::UnblockedNext) => {
                let text = format!("a late settlement took effect: {end:?}");
                self.violated(FENCE, event, text);
            }
        }
    }

    fn run_ended(&mut self, event: u32, end: &RunEnd, attempt: Option<&Attempt>, at: Timestamp) {
        let policy = self.plan.settings.retry;
        let max_lost = self.plan.settings.max_lost_leases;
        let Some(book) = self.events.get(&event) else { return };
        let Phase::Held(holder) = book.phase.clone() else { return };
        let payload = self.payload(event, &book.body.clone());
        let Some(book) = self.events.get_mut(&event) else { return };
        let by_replay = holder.by_replay;
        let mut complaints = Vec::new();
        if let Some(attempt) = attempt {
            if (attempt.run, attempt.number) != (book.run, book.attempt) {
                let text = format!("settled as run {}, attempt {}", attempt.run, attempt.number);
                complaints.push((POLICY, text));
            }
            if attempt.number.saturating_sub(book.lost()) > policy.max_attempts {
                complaints.push((POLICY, format!("attempt number {}", attempt.number)));
            }
            book.attempts.push(row(attempt));
        }
        let outcome = attempt.map(|attempt| attempt.outcome);
        let lost = book.lost();
        let number = book.attempt.saturating_sub(lost);
        match end {
            RunEnd::Processed { contact } => {
                if outcome != Some(AttemptOutcome::Succeeded) {
                    complaints.push((PROCESSED, format!("the attempt was {outcome:?}")));
                }
                if holder.handled.as_ref() != Some(contact) {
                    let text = format!("the handler saw {:?}, kept {contact:?}", holder.handled);
                    complaints.push((PROCESSED, text));
                }
                book.phase = Phase::Processed;
                book.processed_at = Some(at);
                book.contact.clone_from(contact);
            }
            RunEnd::Retry { due } => {
                let wait = (*due - at).to_std().unwrap_or_default();
                if number >= policy.max_attempts || by_replay {
                    complaints.push((POLICY, format!("another attempt after number {number}")));
                }
                if outcome != Some(AttemptOutcome::FailedTransient) || wait > policy.max_delay {
                    complaints.push((POLICY, format!("{outcome:?}, retried after {wait:?}")));
                }
                book.phase = Phase::Waiting { due: *due };
            }
            RunEnd::Release => {
                book.attempt -= 1;
                book.phase = Phase::Waiting { due: at };
            }
            RunEnd::PutOff { due } => {
                book.attempt -= 1;
                book.phase = Phase::Waiting { due: *due };
            }
            RunEnd::GiveUp { reason, attempts } => {
                let in_policy = match outcome {
                    None => lost >= max_lost,
                    Some(AttemptOutcome::FailedPermanent) => true,
                    Some(AttemptOutcome::FailedTransient) => {
                        by_replay || number >= policy.max_attempts
                    }
                    Some(_) => false,
                };
                let told = if outcome.is_some() { number } else { number.saturating_sub(1) };
                if !in_policy || *attempts != told {
                    let text = format!(
                        "given up after {number} and {lost} lost, {outcome:?}, told {attempts}"
                    );
                    complaints.push((POLICY, text));
                }
                if by_replay != reason.starts_with("Replay failed: ") {
                    complaints.push((REPLAY, reason.clone()));
                }
                book.phase = Phase::DeadLettering;
                let dead_letter = DeadLetterBook {
                    reason: reason.clone(),
                    attempts: *attempts,
                    payload,
                    due: at,
                    held: None,
                    sent: false,
                    taken: 0,
                    last_fence: 0,
                };
                let key = (event, book.life, book.run);
                if self.dead_letters.insert(key, dead_letter).is_some() {
                    complaints.push((POLICY, "one run was given up twice".to_owned()));
                }
                if outcome.is_none() {
                    *self.fired.entry(Fault::VanishedGivenUp).or_default() += 1;
                }
            }
        }
        if matches!(end, RunEnd::Processed { .. } | RunEnd::GiveUp { .. }) {
            self.made_way(event, at);
        }
        if by_replay {
            match end {
                RunEnd::Processed { contact } => {
                    self.replays_ended.push((event, Ok(contact.clone())));
                }
                RunEnd::GiveUp { reason, .. } => {
                    self.replays_ended.push((event, Err(reason.clone())));
                }
                _ => {}
            }
        }
        for (promise, text) in complaints {
            self.violated(promise, Some(event), text);
        }
    }

    pub(super) fn handled(
        &mut self,
        process: usize,
        event: u32,
        run: u32,
        how: Ended,
        contact: Option<&Contact>,
    ) {
        let Some(book) = self.events.get_mut(&event) else { return };
        if let Phase::Held(holder) = &mut book.phase
            && (holder.process, book.run, how) == (process, run, Ended::Well)
        {
            holder.handled = Some(contact.cloned());
        }
    }

    pub(super) fn replay_refused(&mut self, event: u32, busy: bool, now: Timestamp) {
        let waits_for_another = self.waits_for_another(event);
        let fits = match self.events.get(&event).map(|book| &book.phase) {
            None => !busy,
            Some(Phase::Held(holder)) => busy && holder.until > now,
            Some(_) => busy && waits_for_another,
        };
        if !fits {
            self.violated(REPLAY, Some(event), format!("refused, busy: {busy}"));
        }
    }

    pub(super) fn replay_told(&mut self, event: u32, told: &Told) {
        let wanted = match told {
            Told::Replayed(contact) => Ok(contact.clone()),
            Told::Failed(reason) => Err(format!("Replay failed: {reason}")),
            Told::NotFound | Told::Busy | Told::Error | Told::Gone => return,
        };
        let wanted = (event, wanted);
        match self.replays_ended.iter().position(|ended| *ended == wanted) {
            Some(found) => drop(self.replays_ended.swap_remove(found)),
            None => self.violated(REPLAY, Some(event), format!("told {told:?}")),
        }
    }
}

fn row(attempt: &Attempt) -> AttemptRow {
    let Attempt { number, run, started_at, outcome, .. } = *attempt;
    AttemptRow { run, number, outcome, started_at }
}
