//! Dead letters between the decision to give up and the sink: claiming and settling them.

use bytes::Bytes;
use cognigy_core::{
    ClaimToken, ClaimedDeadLetter, DeadLetter, DeadLetterClaim, DeadLetterEnd, DeliveryContext,
    EventTime, Move, Settled, SourceName, State, Timestamp,
};
use rusqlite::{OptionalExtension, Row, params};

use crate::{
    calls::claim::LeaseWindow,
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{self, IDENTITY, micros, sql_limit, timestamp, unreadable},
};

/// A dead letter that is due; only its id if its row or its event's row is damaged.
pub(crate) struct OutboxRow {
    id: i64,
    content: Option<Content>,
}

struct Content {
    event: i64,
    fence: i64,
    tries: u32,
    /// Whether its content goes nowhere.
    is_sensitive: bool,
    dead_letter: DeadLetter,
}

pub(crate) fn select_due() -> String {
    format!(
        "SELECT outbox.id, outbox.event, outbox.fence, outbox.tries, outbox.run, outbox.reason,
                outbox.attempts, events.received_at, {IDENTITY}
         FROM outbox LEFT JOIN events ON events.id = outbox.event
         WHERE outbox.source = ?1 AND outbox.due_at <= ?2
         ORDER BY outbox.due_at, outbox.id LIMIT ?3"
    )
}

/// The dead letters of a source that are due, earliest first.
pub(crate) fn due(
    group: &WriteBatch<'_>,
    source: &SourceName,
    window: &LeaseWindow,
    limit: usize,
) -> Result<Vec<OutboxRow>, SqliteError> {
    let mut select = group.prepare(&select_due())?;
    let mut rows = select.query(params![source.as_str(), window.now, sql_limit(limit)])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        due.push(OutboxRow { id: row.get(0)?, content: Content::read(row).ok() });
    }
    Ok(due)
}

pub(crate) const SELECT_DUE_AFTER: &str = "
SELECT due_at FROM outbox WHERE source = ?1 AND due_at IS NOT NULL
ORDER BY due_at LIMIT 1 OFFSET ?2";

/// When the next dead letter of a source is due, after the first `claimed` ones.
pub(crate) fn due_after(
    group: &WriteBatch<'_>,
    source: &SourceName,
    claimed: usize,
) -> Result<Option<i64>, SqliteError> {
    let mut select = group.prepare(SELECT_DUE_AFTER)?;
    let after = params![source.as_str(), sql_limit(claimed)];
    Ok(select.query_row(after, |row| row.get(0)).optional()?)
}

impl Content {
    fn read(row: &Row<'_>) -> Result<Self, SqliteError> {
        let key = row::read_key(row, 8)?;
        let first_received_at = timestamp(row.get(7)?)?;
        let mut is_sensitive = false;
        let time = match row::read_parts(row, 8, &key) {
            Ok(parts) => {
                is_sensitive = parts.sensitive;
                parts.time
            }
            // The message needs a time; this one is at least close.
            Err(_) => EventTime::from_json(&first_received_at.timestamp_millis().to_string())
                .map_err(|why| unreadable("the time", why))?,
        };
        Ok(Self {
            event: row.get(1)?,
            fence: row.get(2)?,
            tries: row.get(3)?,
            is_sensitive,
            dead_letter: DeadLetter {
                key,
                run: row.get(4)?,
                kind: row::read_kind(row, 10)?,
                time,
                error_message: row.get(5)?,
                attempts: row.get(6)?,
                first_received_at,
                raw_payload: Bytes::new(),
                context: DeliveryContext::default(),
            },
        })
    }
}

impl OutboxRow {
    /// Grants the claim. A damaged dead letter is postponed by a lease and stays in the outbox.
    pub(crate) fn grant(
        self,
        group: &WriteBatch<'_>,
        window: &LeaseWindow,
    ) -> Result<Option<ClaimedDeadLetter>, SqliteError> {
        group
            .prepare(
                "UPDATE outbox SET due_at = ?2, fence = fence + 1, tries = tries + 1 WHERE id = ?1",
            )?
            .execute([self.id, window.end])?;
        let Some(Content { event, fence, tries, is_sensitive, mut dead_letter }) = self.content
        else {
            return Ok(None);
        };
        let received = match row::read_body(group.connection(), event) {
            Ok(_) if is_sensitive => Default::default(),
            Ok(received) => received.unwrap_or_default(),
            Err(error) if error.is_damage() => Default::default(),
            Err(error) => return Err(error),
        };
        (dead_letter.raw_payload, dead_letter.context) = received;
        let claim = DeadLetterClaim::granted(self.id, fence.saturating_add(1));
        Ok(Some(ClaimedDeadLetter { claim, dead_letter, attempt: tries.saturating_add(1) }))
    }
}

/// Puts an event's run that was given up into the outbox.
pub(crate) fn add(
    group: &WriteBatch<'_>,
    event: i64,
    reason: &str,
    attempts: u32,
    at: Timestamp,
) -> Result<(), SqliteError> {
    group
        .prepare(
            "INSERT INTO outbox (source, event, run, reason, attempts, due_at, created_at)
             SELECT source, id, run, ?2, ?3, ?4, ?4 FROM events WHERE id = ?1",
        )?
        .execute(params![event, reason, attempts, micros(at)])?;
    Ok(())
}

/// Ends a claim on a dead letter.
pub(crate) fn settle(
    group: &mut WriteBatch<'_>,
    token: ClaimToken,
    end: DeadLetterEnd,
    at: Timestamp,
) -> Result<Settled, SqliteError> {
    match end {
        DeadLetterEnd::Sent => sent(group, token, at),
        DeadLetterEnd::Retry { due } => {
            let changed = group
                .prepare(
                    "UPDATE outbox SET due_at = ?3, fence = fence + 1
                     WHERE id = ?1 AND fence = ?2 AND due_at IS NOT NULL",
                )?
                .execute([token.handle, token.fence, micros(due)])?;
            Ok(if changed == 1 { Settled::Done } else { Settled::LeaseLost })
        }
    }
}

fn sent(
    group: &mut WriteBatch<'_>,
    token: ClaimToken,
    at: Timestamp,
) -> Result<Settled, SqliteError> {
    let dead_letter: Option<(i64, i64)> = group
        .prepare(
            "UPDATE outbox SET sent_at = ?3, due_at = NULL, fence = fence + 1
             WHERE id = ?1 AND fence = ?2 AND due_at IS NOT NULL RETURNING event, run",
        )?
        .query_row([token.handle, token.fence, micros(at)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((event, run)) = dead_letter else { return Ok(Settled::LeaseLost) };
    let from = State::DeadLettering;
    let to = from.apply(Move::DeadLetterSent)?;
    // A replay may have taken the event further: then the dead letter belonged to an earlier run.
    let changed = group
        .prepare("UPDATE events SET state = ?3 WHERE id = ?1 AND run = ?2 AND state = ?4")?
        .execute(params![event, run, to.as_str(), from.as_str()])?;
    if changed == 1 {
        group.moved(from, to);
    }
    Ok(Settled::Done)
}
