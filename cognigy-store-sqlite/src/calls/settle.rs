//! Ends claims, and renews them.
//!
//! The fence alone decides which settlement counts: it is compared and changed in the same
//! statement.

use cognigy_core::{
    Attempt, ClaimToken, Correlation, RunEnd, Settled, Settlement, State, Timestamp, WorkEnd,
    WorkKind,
};
use rusqlite::params;

use crate::{
    calls::{claim::LeaseWindow, contact_queue, outbox},
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::micros,
};

pub(crate) fn renew(
    group: &WriteBatch<'_>,
    tokens: &[ClaimToken],
    window: &LeaseWindow,
) -> Result<Vec<Settled>, SqliteError> {
    let renew = |token: &ClaimToken| {
        let mut update = group.prepare(match token.work {
            WorkKind::Run => {
                "UPDATE events SET due_at = max(due_at, ?3)
                 WHERE id = ?1 AND fence = ?2 AND state = 'processing'"
            }
            WorkKind::DeadLetter => {
                "UPDATE outbox SET due_at = max(due_at, ?3)
                 WHERE id = ?1 AND fence = ?2 AND due_at IS NOT NULL"
            }
        })?;
        let changed = update.execute([token.handle, token.fence, window.end])?;
        Ok(if changed == 1 { Settled::Done } else { Settled::LeaseLost })
    };
    tokens.iter().map(renew).collect()
}

pub(crate) fn settle(
    group: &mut WriteBatch<'_>,
    settlements: &[Settlement],
) -> Result<Vec<Settled>, SqliteError> {
    let settle = |settlement: &Settlement| {
        let (token, at) = (settlement.token(), settlement.at());
        match settlement.end() {
            WorkEnd::Run { end, attempt } => settle_run(group, settlement, end, attempt.as_ref()),
            WorkEnd::DeadLetter(end) => outbox::settle(group, token, *end, at),
        }
    };
    settlements.iter().map(settle).collect()
}

fn settle_run(
    group: &mut WriteBatch<'_>,
    settlement: &Settlement,
    run_end: &RunEnd,
    attempt: Option<&Attempt>,
) -> Result<Settled, SqliteError> {
    let (token, at) = (settlement.token(), settlement.at());
    let end = NewState::of(run_end, at);
    if !end.write(group, token, settlement.correlation())? {
        return Ok(Settled::LeaseLost);
    }
    if let Some(attempt) = attempt {
        write_attempt(group, token, attempt)?;
    }
    match run_end {
        RunEnd::Processed { contact: Some(contact) } => {
            group
                .prepare("INSERT OR REPLACE INTO contexts (event, json) VALUES (?1, ?2)")?
                .execute(params![token.handle, contact.as_json()])?;
        }
        // An earlier run may have left a dead letter; before the first run there is none.
        RunEnd::Processed { contact: None } if attempt.is_none_or(|attempt| attempt.run > 1) => {
            group.prepare("DELETE FROM contexts WHERE event = ?1")?.execute([token.handle])?;
        }
        RunEnd::GiveUp { reason, attempts } => {
            outbox::add(group, token.handle, reason, *attempts, at)?;
        }
        _ => {}
    }
    group.moved(State::Processing, end.to);
    let made_way = match end.to {
        State::Processed | State::DeadLettering => {
            contact_queue::end(group, token.handle, end.to == State::DeadLettering, at)?
        }
        _ => false,
    };
    Ok(if made_way { Settled::UnblockedNext } else { Settled::Done })
}

/// The columns of an event's row after the end of a run.
struct NewState {
    to: State,
    due_at: Option<i64>,
    processed_at: Option<i64>,
    /// Attempts that do not count.
    uncounted: u32,
}

impl NewState {
    fn of(end: &RunEnd, at: Timestamp) -> Self {
        let (to, due_at, processed_at, uncounted) = match end {
            RunEnd::Processed { .. } => (State::Processed, None, Some(micros(at)), 0),
            RunEnd::Retry { due } => (State::Pending, Some(micros(*due)), None, 0),
            RunEnd::Release => (State::Pending, Some(micros(at)), None, 1),
            RunEnd::PutOff { due } => (State::Pending, Some(micros(*due)), None, 1),
            RunEnd::GiveUp { .. } => (State::DeadLettering, None, None, 0),
        };
        Self { to, due_at, processed_at, uncounted }
    }

    /// Whether the token is the latest one; if not, nothing is changed.
    fn write(
        &self,
        group: &WriteBatch<'_>,
        token: ClaimToken,
        correlation: Option<Correlation>,
    ) -> Result<bool, SqliteError> {
        let changed = group
            .prepare(
                "UPDATE events SET state = ?3, due_at = ?4, fence = fence + 1,
                                   attempt = max(attempt - ?5, 0),
                                   processed_at = coalesce(?6, processed_at),
                                   correlation = CASE WHEN ?8 THEN ?7 ELSE correlation END
                 WHERE id = ?1 AND fence = ?2 AND state = 'processing'",
            )?
            .execute(params![
                token.handle,
                token.fence,
                self.to.as_str(),
                self.due_at,
                self.uncounted,
                self.processed_at,
                correlation.filter(|it| *it != Correlation::NotAsked).map(Correlation::as_str),
                correlation.is_some(),
            ])?;
        Ok(changed == 1)
    }
}

fn write_attempt(
    group: &WriteBatch<'_>,
    token: ClaimToken,
    attempt: &Attempt,
) -> Result<(), SqliteError> {
    group
        .prepare(
            "INSERT INTO attempts
                 (event, fence, run, number, started_at, duration_us, outcome, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            token.handle,
            token.fence,
            attempt.run,
            attempt.number,
            micros(attempt.started_at),
            i64::try_from(attempt.duration.as_micros()).unwrap_or(i64::MAX),
            attempt.outcome.as_str(),
            attempt.error,
        ])?;
    Ok(())
}
