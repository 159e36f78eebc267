//! Ending claims, and prolonging them.
//!
//! The fence alone decides whose word counts: it is compared and changed in the same statement.

use cognigy_core::{
    Attempt, ClaimToken, Move, Settled, Settlement, State, Timestamp, Verdict, WorkKind,
};
use rusqlite::params;

use crate::{claim::Term, error::Problem, group::Group, lanes, outbox, row::micros};

pub(crate) fn renew(
    group: &Group<'_>,
    tokens: &[ClaimToken],
    term: &Term,
) -> Result<Vec<Settled>, Problem> {
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
        let changed = update.execute([token.handle, token.fence, term.end])?;
        Ok(if changed == 1 { Settled::Done } else { Settled::LeaseLost })
    };
    tokens.iter().map(renew).collect()
}

pub(crate) fn settle(
    group: &mut Group<'_>,
    settlements: &[Settlement],
) -> Result<Vec<Settled>, Problem> {
    let settle = |Settlement { token, verdict, attempt, at }: &Settlement| match token.work {
        WorkKind::Run => settle_run(group, token, verdict, attempt.as_ref(), *at),
        WorkKind::DeadLetter => outbox::settle(group, token, verdict, *at),
    };
    settlements.iter().map(settle).collect()
}

fn settle_run(
    group: &mut Group<'_>,
    token: &ClaimToken,
    verdict: &Verdict,
    attempt: Option<&Attempt>,
    at: Timestamp,
) -> Result<Settled, Problem> {
    let Some(end) = End::of(verdict, at) else { return Ok(Settled::LeaseLost) };
    if !end.write(group, token)? {
        return Ok(Settled::LeaseLost);
    }
    if let Some(attempt) = attempt {
        write_attempt(group, token, attempt)?;
    }
    match verdict {
        Verdict::Processed { contact: Some(contact) } => {
            group
                .prepare("INSERT OR REPLACE INTO contexts (event, json) VALUES (?1, ?2)")?
                .execute(params![token.handle, contact.as_json()])?;
        }
        // An earlier run may have left one; before the first there is none.
        Verdict::Processed { contact: None } if attempt.is_none_or(|attempt| attempt.run > 1) => {
            group.prepare("DELETE FROM contexts WHERE event = ?1")?.execute([token.handle])?;
        }
        Verdict::GiveUp { reason, attempts } => {
            outbox::add(group, token.handle, reason, *attempts, at)?;
        }
        _ => {}
    }
    group.moved(State::Processing, end.to);
    let made_way = match end.to {
        State::Processed | State::DeadLettering => {
            lanes::end(group, token.handle, end.to == State::DeadLettering, at)?
        }
        _ => false,
    };
    Ok(if made_way { Settled::MadeWay } else { Settled::Done })
}

/// What a verdict makes of an event's row.
struct End {
    to: State,
    due_at: Option<i64>,
    processed_at: Option<i64>,
    /// Attempts that do not count.
    uncounted: u32,
}

impl End {
    /// None for a verdict that is not about a run.
    fn of(verdict: &Verdict, at: Timestamp) -> Option<Self> {
        let (by, due_at, processed_at, uncounted) = match verdict {
            Verdict::Processed { .. } => (Move::Complete, None, Some(micros(at)), 0),
            Verdict::Retry { due } => (Move::Retry, Some(micros(*due)), None, 0),
            Verdict::Release => (Move::Release, Some(micros(at)), None, 1),
            Verdict::GiveUp { .. } => (Move::GiveUp, None, None, 0),
            Verdict::DeadLetterSent | Verdict::DeadLetterRetry { .. } => return None,
        };
        let to = State::Processing.apply(by).ok()?;
        Some(Self { to, due_at, processed_at, uncounted })
    }

    /// Whether the token is the latest; if not, nothing is changed.
    fn write(&self, group: &Group<'_>, token: &ClaimToken) -> Result<bool, Problem> {
        let changed = group
            .prepare(
                "UPDATE events SET state = ?3, due_at = ?4, fence = fence + 1,
                                   attempt = max(attempt - ?5, 0),
                                   processed_at = coalesce(?6, processed_at)
                 WHERE id = ?1 AND fence = ?2 AND state = 'processing'",
            )?
            .execute(params![
                token.handle,
                token.fence,
                self.to.as_str(),
                self.due_at,
                self.uncounted,
                self.processed_at,
            ])?;
        Ok(changed == 1)
    }
}

fn write_attempt(group: &Group<'_>, token: &ClaimToken, attempt: &Attempt) -> Result<(), Problem> {
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
