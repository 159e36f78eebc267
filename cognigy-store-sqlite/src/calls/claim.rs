//! Claims what is due.
//!
//! A damaged row must not keep the others from being claimed. An event that cannot be read back is
//! claimed with the reason. An event whose identity is lost is postponed by a lease and stays
//! visible as pending.

use std::time::Duration;

use cognigy_core::{
    AttemptOutcome, Claim, ClaimBatch, ClaimRequest, ClaimedRun, EventKey, EventParts, Move,
    SourceName, State, Timestamp,
};
use rusqlite::{OptionalExtension, Row, params};

use crate::{
    calls::outbox,
    config::CLAIM_BYTES,
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{self, IDENTITY, lease_end, micros, sql_limit, timestamp},
};

pub(crate) fn claim_due(
    group: &mut WriteBatch<'_>,
    request: &ClaimRequest,
) -> Result<ClaimBatch, SqliteError> {
    let window = LeaseWindow::new(request.now, request.lease);
    let source = &request.source;
    // The next due times are looked up before the claims change the due times.
    let (dead_letters, next_dead_letter) = match request.dead_letters {
        0 => (Vec::new(), None),
        limit => {
            let dead_letters = outbox::due(group, source, &window, limit)?;
            let next = outbox::due_after(group, source, dead_letters.len())?;
            (dead_letters, next)
        }
    };
    let (events, next_event) = match request.runs {
        0 => (Vec::new(), None),
        limit => {
            let events = due(group, source, &window, limit)?;
            let next = due_after(group, source, events.len())?;
            (events, next)
        }
    };

    let mut batch = ClaimBatch {
        next_due: next_dead_letter
            .into_iter()
            .chain(next_event)
            .min()
            .map(timestamp)
            .transpose()?,
        ..ClaimBatch::default()
    };
    for dead_letter in dead_letters {
        batch.dead_letters.extend(dead_letter.grant(group, &window)?);
    }
    let mut bytes = 0;
    for event in events {
        match event {
            Ok(event) if bytes >= CLAIM_BYTES => {
                // The batch is large enough; this event stays due.
                let due = event.due_at.map(timestamp).transpose()?;
                batch.next_due = batch.next_due.into_iter().chain(due).min();
                break;
            }
            Ok(event) => {
                let run = event.claim(group, &window)?;
                bytes += run.event.as_ref().map_or(0, |event| event.body().len());
                batch.runs.push(run);
            }
            Err(id) => put_off(group, id, &window)?,
        }
    }
    Ok(batch)
}

/// From when to when a claim is granted.
pub(crate) struct LeaseWindow {
    pub(crate) now: i64,
    pub(crate) end: i64,
}

impl LeaseWindow {
    pub(crate) fn new(now: Timestamp, lease: Duration) -> Self {
        Self { now: micros(now), end: lease_end(now, lease) }
    }
}

/// The events of a source that are due, earliest first; of a damaged row only the id.
fn due(
    group: &WriteBatch<'_>,
    source: &SourceName,
    window: &LeaseWindow,
    limit: usize,
) -> Result<Vec<Result<EventRow, i64>>, SqliteError> {
    let mut select = group.prepare(&select_due())?;
    let mut rows = select.query(params![source.as_str(), window.now, sql_limit(limit)])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        let event = EventRow::read(row).ok();
        let event = event.filter(|event| matches!(event.state, State::Pending | State::Processing));
        due.push(match event {
            Some(event) => Ok(event),
            None => Err(row.get(0)?),
        });
    }
    Ok(due)
}

fn select_due() -> String {
    let columns = EventRow::columns();
    format!(
        "SELECT {columns} FROM events WHERE source = ?1 AND due_at <= ?2
         ORDER BY due_at, events.id LIMIT ?3"
    )
}

const SELECT_DUE_AFTER: &str = "
SELECT due_at FROM events WHERE source = ?1 AND due_at IS NOT NULL
ORDER BY due_at LIMIT 1 OFFSET ?2";

/// When the next event of a source is due, after the first `claimed` ones.
fn due_after(
    group: &WriteBatch<'_>,
    source: &SourceName,
    claimed: usize,
) -> Result<Option<i64>, SqliteError> {
    let mut select = group.prepare(SELECT_DUE_AFTER)?;
    let after = params![source.as_str(), sql_limit(claimed)];
    Ok(select.query_row(after, |row| row.get(0)).optional()?)
}

fn put_off(group: &WriteBatch<'_>, id: i64, window: &LeaseWindow) -> Result<(), SqliteError> {
    group.prepare("UPDATE events SET due_at = ?2 WHERE id = ?1")?.execute([id, window.end])?;
    Ok(())
}

/// An event's row, as a claim reads it.
pub(crate) struct EventRow {
    pub(crate) id: i64,
    pub(crate) state: State,
    pub(crate) due_at: Option<i64>,
    claimed_at: Option<i64>,
    fence: i64,
    run: u32,
    attempt: u32,
    received_at: i64,
    key: EventKey,
    parts: Result<EventParts, SqliteError>,
}

impl EventRow {
    pub(crate) fn columns() -> String {
        format!(
            "events.id, state, due_at, claimed_at, fence, run, attempt, received_at, {IDENTITY}"
        )
    }

    pub(crate) fn read(row: &Row<'_>) -> Result<Self, SqliteError> {
        let key = row::read_key(row, 8)?;
        Ok(Self {
            id: row.get(0)?,
            state: row::read_state(row, 1)?,
            due_at: row.get(2)?,
            claimed_at: row.get(3)?,
            fence: row.get(4)?,
            run: row.get(5)?,
            attempt: row.get(6)?,
            received_at: row.get(7)?,
            parts: row::read_parts(row, 8, &key),
            key,
        })
    }

    fn claim(
        mut self,
        group: &mut WriteBatch<'_>,
        window: &LeaseWindow,
    ) -> Result<ClaimedRun, SqliteError> {
        let state = self.without_holder(group)?.apply(Move::Claim)?;
        // A run has lost no attempt before its first one.
        let lost = if self.attempt == 0 { 0 } else { self.lost(group)? };
        self.attempt = self.attempt.saturating_add(1);
        self.grant(group, state, lost, window)
    }

    /// Whether its body is not there any more.
    pub(crate) fn is_forgotten(&self, group: &WriteBatch<'_>) -> Result<bool, SqliteError> {
        let mut select = group.prepare("SELECT forgotten IS NOT NULL FROM events WHERE id = ?1")?;
        Ok(select.query_row([self.id], |row| row.get(0))?)
    }

    /// How many attempts of its run were lost.
    fn lost(&self, group: &WriteBatch<'_>) -> Result<u32, SqliteError> {
        let mut count = group.prepare(
            "SELECT count(*) FROM attempts WHERE event = ?1 AND run = ?2 AND outcome = ?3",
        )?;
        let values = params![self.id, self.run, AttemptOutcome::LeaseExpired.as_str()];
        Ok(count.query_row(values, |row| row.get(0))?)
    }

    /// Claims the event for a new run.
    pub(crate) fn claim_anew(
        mut self,
        group: &mut WriteBatch<'_>,
        window: &LeaseWindow,
    ) -> Result<ClaimedRun, SqliteError> {
        let state = self.without_holder(group)?.apply(Move::Replay)?.apply(Move::Claim)?;
        self.run = self.run.saturating_add(1);
        self.attempt = 1;
        self.grant(group, state, 0, window)
    }

    /// The state after the claim of a vanished worker has ended; its attempt goes into the history.
    fn without_holder(&self, group: &WriteBatch<'_>) -> Result<State, SqliteError> {
        if self.state != State::Processing {
            return Ok(self.state);
        }
        let end = self.due_at.unwrap_or_default();
        let start = self.claimed_at.unwrap_or(end);
        group
            .prepare(
                "INSERT OR IGNORE INTO attempts
                     (event, fence, run, number, started_at, duration_us, outcome, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'the worker''s lease ran out')",
            )?
            .execute(params![
                self.id,
                self.fence,
                self.run,
                self.attempt,
                start,
                end.saturating_sub(start).max(0),
                AttemptOutcome::LeaseExpired.as_str(),
            ])?;
        Ok(self.state.apply(Move::Expire)?)
    }

    fn grant(
        self,
        group: &mut WriteBatch<'_>,
        state: State,
        lost: u32,
        window: &LeaseWindow,
    ) -> Result<ClaimedRun, SqliteError> {
        let Self { id, run, attempt, .. } = self;
        let took_over = self.state == State::Processing;
        let fence = self.fence.saturating_add(1);
        group
            .prepare(
                "UPDATE events SET state = ?2, due_at = ?3, claimed_at = ?4, fence = ?5, run = ?6,
                                   attempt = ?7
                 WHERE id = ?1",
            )?
            .execute(params![id, state.as_str(), window.end, window.now, fence, run, attempt])?;
        group.moved(self.state, state);
        let connection = group.connection();
        let event = row::restore(connection, id, &self.key, self.parts, self.received_at, run)?;
        let (claim, key) = (Claim::granted(id, fence), self.key);
        Ok(ClaimedRun { claim, key, run, attempt, lost, took_over, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn a_claim_looks_only_at_what_is_due() {
        let connection = schema::in_memory();
        let plan = |sql: &str| -> Vec<String> {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let count = explain.parameter_count();
            let steps = explain
                .query_map(rusqlite::params_from_iter(vec![1; count]), |row| row.get(3))
                .unwrap();
            steps.map(Result::unwrap).collect()
        };
        let by_source = "SEARCH events USING INDEX events_due (source=? AND due_at<?)";
        assert_eq!(plan(&select_due()), [by_source]);
        let next = "SEARCH events USING COVERING INDEX events_due (source=? AND due_at>?)";
        assert_eq!(plan(SELECT_DUE_AFTER), [next]);
        let dead_letters = "SEARCH outbox USING INDEX outbox_due (source=? AND due_at<?)";
        assert_eq!(plan(&outbox::select_due())[0], dead_letters);
        let next = "SEARCH outbox USING COVERING INDEX outbox_due (source=? AND due_at>?)";
        assert_eq!(plan(outbox::SELECT_DUE_AFTER), [next]);
    }
}
