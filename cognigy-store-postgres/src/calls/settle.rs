//! Ends claims, and renews them.
//!
//! The fence alone decides which settlement counts: it is compared and changed in the same
//! statement.

use std::collections::HashSet;

use cognigy_core::{
    Attempt, AttemptOutcome, ClaimToken, Correlation, RunEnd, Settled, Settlement, State, WorkEnd,
    WorkKind,
};
use deadpool_postgres::{GenericClient, Object};

use crate::{
    calls::{
        claim::LeaseWindow,
        contact_queue::{self, OrderHint},
        outbox,
    },
    error::PostgresError,
    row::{Private, distance, escape, interval, read, small},
};

/// `$1` now or NULL, `$2` lease, `$3` ids, `$4` the fences among them. Rows are found and locked in
/// the order of ids, as in a settlement of the same worker that may be under way. A renewal never
/// shortens a lease: one that arrives after a later one changes nothing.
const RENEW_RUNS: &str = "
UPDATE cognigy_queue
SET held_until = greatest(held_until, coalesce($1::timestamptz, statement_timestamp())
                                      + $2::bigint * interval '1 microsecond')
WHERE event = ANY ($3) AND fence = ANY ($4) AND held_until IS NOT NULL
RETURNING event AS id, fence";

const RENEW_LETTERS: &str = "
UPDATE cognigy_outbox
SET due_at = greatest(due_at, coalesce($1::timestamptz, statement_timestamp())
                              + $2::bigint * interval '1 microsecond')
WHERE id = ANY ($3) AND fence = ANY ($4) AND due_at IS NOT NULL
RETURNING id, fence";

pub(crate) async fn renew(
    connection: &mut Object,
    tokens: &[ClaimToken],
    term: LeaseWindow,
) -> Result<Vec<Settled>, PostgresError> {
    let mut held = HashSet::new();
    for (work, sql) in [(WorkKind::Run, RENEW_RUNS), (WorkKind::DeadLetter, RENEW_LETTERS)] {
        let of_kind = || tokens.iter().filter(|token| token.work == work);
        let ids: Vec<_> = of_kind().map(|token| token.handle).collect();
        if ids.is_empty() {
            continue;
        }
        let fences = distinct(of_kind().map(|token| token.fence));
        let renew = connection.prepare_cached(sql).await?;
        for row in connection.query(&renew, &[&term.now, &term.lease, &ids, &fences]).await? {
            held.insert((work, read::<i64>(&row, "id")?, read::<i64>(&row, "fence")?));
        }
    }
    let answer = |token: &ClaimToken| {
        let is_held = held.contains(&(token.work, token.handle, token.fence));
        if is_held { Settled::Done } else { Settled::LeaseLost }
    };
    Ok(tokens.iter().map(answer).collect())
}

/// Each fence once: all rows that were claimed by one call share a fence.
pub(crate) fn distinct(fences: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut fences: Vec<_> = fences.collect();
    fences.sort_unstable();
    fences.dedup();
    fences
}

pub(crate) async fn settle(
    connection: &mut Object,
    settlements: &[Settlement],
    caller_clock: bool,
    order: &OrderHint,
) -> Result<Vec<Settled>, PostgresError> {
    let of = |work| -> (Vec<usize>, Vec<&Settlement>) {
        settlements.iter().enumerate().filter(|(_, one)| one.token().work == work).unzip()
    };
    let (run_places, mut runs) = of(WorkKind::Run);
    let (letter_places, letters) = of(WorkKind::DeadLetter);
    let runs = Ends::of(&mut runs, &run_places, caller_clock);
    let mut answers = vec![Settled::LeaseLost; settlements.len()];
    if letters.is_empty() && !order.holds() {
        // A single statement is its own transaction and needs one round trip to the server.
        runs.write(&*connection, false, &mut answers).await?;
        if !runs.are_in_lanes(&*connection, &answers).await? {
            return Ok(answers);
        }
        // Another node has turned the order on.
        order.correct(true);
    }
    let transaction = connection.transaction().await?;
    runs.write_all(&transaction, order, &mut answers).await?;
    if !letters.is_empty() {
        for index in outbox::settle(&transaction, &letters, caller_clock).await? {
            answers[letter_places[index]] = Settled::Done;
        }
    }
    transaction.commit().await?;
    Ok(answers)
}

/// Ends a run as a part of the transaction that `client` is in.
pub(crate) async fn settle_within(
    client: &impl GenericClient,
    settlement: &Settlement,
    caller_clock: bool,
    order: &OrderHint,
) -> Result<Settled, PostgresError> {
    let mut answers = [Settled::LeaseLost];
    let ends = Ends::of(&mut [settlement], &[0], caller_clock);
    ends.write_all(client, order, &mut answers).await?;
    Ok(answers[0])
}

/// Whether the attempt under this claim has succeeded, for a caller whose commit was not answered.
pub(crate) async fn has_succeeded(
    connection: &Object,
    token: ClaimToken,
) -> Result<bool, PostgresError> {
    let sql = "SELECT FROM cognigy_attempts WHERE event = $1 AND fence = $2 AND outcome = $3";
    let succeeded = AttemptOutcome::Succeeded.as_str();
    let found = connection.query_opt(sql, &[&token.handle, &token.fence, &succeeded]).await?;
    Ok(found.is_some())
}

/// A run's row leaves the queue when the run ends, and stays in it when there is another attempt.
///
/// No table is joined with another: rows are looked up by key, one by one (LATERAL … LIMIT 1) or by
/// an array of keys. With a join the planner chooses which side to read from end to end, and its
/// statistics describe an empty table when a backlog begins to grow.
///
/// Between the look-up and the change another claim may have taken a row over. So the change
/// compares the fence again, and `done` counts what it changed. The other parts of the statement
/// see the tables as they were before.
///
/// An event in a contact queue is settled only while the queue's row in `cognigy_lanes` is locked,
/// so that an event that arrives meanwhile is not missed: the statement that looks for the next
/// event has to begin after that.
fn settle_sql(in_lanes: bool) -> String {
    let (condition, next, moves, made_way) = match in_lanes {
        false => ("AND lane IS NULL", "", "", "false"),
        true => ("", NEXT, MOVES_OF_LANES, MADE_WAY),
    };
    format!(
        "
WITH verdict AS MATERIALIZED (
    SELECT row.*, coalesce(row.now, statement_timestamp()) AS at
    FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::bigint[],
                $6::integer[], $7::text[], $8::integer[], $9::text[], $10::integer[],
                $11::integer[], $12::bigint[], $13::bigint[], $14::text[], $15::text[],
                $18::text[])
         WITH ORDINALITY AS row (event, fence, now, state, due_in, uncounted, reason, made, contact,
                                 run, number, began_ago, duration, outcome, error, correlation,
                                 ordinal)
), held AS MATERIALIZED (
    SELECT verdict.*, queue.received_at, queue.source, queue.current_run, queue.lane
    FROM verdict CROSS JOIN LATERAL (
        SELECT received_at, source, run AS current_run, lane FROM cognigy_queue
        WHERE event = verdict.event AND fence = verdict.fence AND held_until IS NOT NULL
          {condition}
        LIMIT 1) AS queue
), ended AS (
    DELETE FROM cognigy_queue
    WHERE event = ANY (ARRAY(SELECT event FROM held WHERE state <> 'pending'))
      AND fence = ANY ($16) AND held_until IS NOT NULL
    RETURNING event
), again AS (
    UPDATE cognigy_queue SET held_until = NULL,
        due_at = (SELECT at + due_in * interval '1 microsecond' FROM held
                  WHERE held.event = cognigy_queue.event),
        attempt = greatest(0, attempt - (SELECT uncounted FROM held
                                         WHERE held.event = cognigy_queue.event))
    WHERE event = ANY (ARRAY(SELECT event FROM held WHERE state = 'pending'))
      AND fence = ANY ($16) AND held_until IS NOT NULL
    RETURNING event
), done AS MATERIALIZED (
    SELECT * FROM held
    WHERE (event IN (SELECT event FROM ended UNION ALL SELECT event FROM again)) IS TRUE
), processed AS (
    UPDATE cognigy_events SET state = 'processed',
        processed_at = CASE WHEN $17 THEN (SELECT at FROM done WHERE event = id)
                            ELSE statement_timestamp() END,
        correlation = CASE (SELECT coalesce(correlation, '') FROM done WHERE event = id)
                      WHEN '' THEN correlation WHEN 'not_asked' THEN NULL
                      ELSE (SELECT correlation FROM done WHERE event = id) END
    WHERE id = ANY (ARRAY(SELECT event FROM done WHERE state = 'processed'))
), given_up AS (
    UPDATE cognigy_events SET state = 'dead_lettering',
        correlation = CASE (SELECT coalesce(correlation, '') FROM done WHERE event = id)
                      WHEN '' THEN correlation WHEN 'not_asked' THEN NULL
                      ELSE (SELECT correlation FROM done WHERE event = id) END
    WHERE id = ANY (ARRAY(SELECT event FROM done WHERE state = 'dead_lettering'))
), attempts AS (
    INSERT INTO cognigy_attempts
        (event, received_at, fence, run, number, started_at, duration_us, outcome, error)
    SELECT event, received_at, fence, run, number, at - began_ago * interval '1 microsecond',
           duration, outcome, error
    FROM done WHERE outcome IS NOT NULL
), contexts AS (
    INSERT INTO cognigy_contexts (event, received_at, json)
    SELECT event, received_at, contact FROM done WHERE contact IS NOT NULL
    ON CONFLICT (event, received_at) DO UPDATE SET json = excluded.json
), unknown AS (
    -- An earlier run may have left one.
    DELETE FROM cognigy_contexts WHERE event = ANY (ARRAY(
        SELECT event FROM done
        WHERE state = 'processed' AND contact IS NULL AND current_run > 1))
), outbox AS (
    INSERT INTO cognigy_outbox (source, event, run, reason, attempts, due_at, created_at)
    SELECT source, event, current_run, reason, made, at, at FROM done WHERE state = 'dead_lettering'
){next}, tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count)
    SELECT 'state', state, count(*) FROM done GROUP BY state
    UNION ALL
    SELECT 'state', 'processing', -count(*) FROM done HAVING count(*) > 0
    {moves}
)
SELECT ordinal, {made_way} AS made_way FROM done"
    )
}

/// The next event of a contact queue is due when the one before it has ended, unless that one was
/// given up and stops the queue. An event in its first run has waited since it was received, and
/// should not wait as long again. The look-up uses the one index that has this order, whatever the
/// planner's statistics say.
const NEXT: &str = ", stopping AS MATERIALIZED (
    SELECT lane, event FROM done
    WHERE lane IS NOT NULL AND state = 'dead_lettering'
      AND (SELECT event_order FROM cognigy_settings WHERE id = 1) = 'per_contact_stop'
), leaving AS MATERIALIZED (
    SELECT done.ordinal, done.lane, done.at, CASE WHEN next.lane = done.lane THEN next.event END AS next
    FROM done LEFT JOIN LATERAL (
        SELECT lane, event FROM cognigy_queue
        WHERE (lane, event) >= (done.lane, 0) AND lane IS NOT NULL AND event <> done.event
        ORDER BY lane, event LIMIT 1) AS next ON true
    WHERE done.lane IS NOT NULL AND state <> 'pending'
      AND (done.event IN (SELECT event FROM stopping)) IS NOT TRUE
), due AS (
    UPDATE cognigy_queue SET due_at = CASE
        WHEN run = 1 THEN received_at
        WHEN $17 THEN (SELECT at FROM leaving WHERE next = event) ELSE statement_timestamp() END
    WHERE event = ANY (ARRAY(SELECT next FROM leaving WHERE next IS NOT NULL))
      AND due_at IS NULL
    RETURNING event
), idle AS (
    DELETE FROM cognigy_lanes
    WHERE lane = ANY (ARRAY(SELECT lane FROM leaving WHERE next IS NULL))
), stopped AS (
    UPDATE cognigy_lanes SET stopped_by = (
        SELECT event FROM stopping WHERE stopping.lane = cognigy_lanes.lane)
    WHERE lane = ANY (ARRAY(SELECT lane FROM stopping))
)";

const MOVES_OF_LANES: &str = "UNION ALL
    SELECT 'lane', 'waiting', -count(*) FROM due HAVING count(*) > 0
    UNION ALL
    SELECT 'lane', 'stopped', count(*) FROM stopping HAVING count(*) > 0";

const MADE_WAY: &str = "(ordinal IN (SELECT ordinal FROM leaving WHERE next IS NOT NULL)) IS TRUE";

/// The ends of runs, a column each.
#[derive(Default)]
struct Ends<'a> {
    caller_clock: bool,
    places: Vec<usize>,
    events: Vec<i64>,
    fences: Vec<i64>,
    nows: Vec<Option<cognigy_core::Timestamp>>,
    states: Vec<&'static str>,
    dues: Vec<Option<i64>>,
    uncounted: Vec<i32>,
    reasons: Private<Vec<Option<std::borrow::Cow<'a, str>>>>,
    made: Vec<Option<i32>>,
    contacts: Private<Vec<Option<&'a str>>>,
    runs: Vec<Option<i32>>,
    numbers: Vec<Option<i32>>,
    began_ago: Vec<Option<i64>>,
    durations: Vec<Option<i64>>,
    outcomes: Vec<Option<&'static str>>,
    errors: Private<Vec<Option<std::borrow::Cow<'a, str>>>>,
    correlations: Vec<Option<&'static str>>,
}

impl<'a> Ends<'a> {
    fn of(settlements: &mut [&'a Settlement], places: &[usize], caller_clock: bool) -> Self {
        // In the order of ids, in which renewals lock them too.
        let mut order: Vec<_> = settlements.iter().zip(places).collect();
        order.sort_by_key(|(settlement, _)| {
            let token = settlement.token();
            (token.handle, token.fence)
        });
        // A claim ends once: what names it again is lost.
        order.dedup_by_key(|(settlement, _)| settlement.token());
        let mut ends = Self { caller_clock, ..Self::default() };
        for (settlement, place) in order {
            let WorkEnd::Run { end: run_end, attempt } = settlement.end() else { continue };
            let (token, at) = (settlement.token(), settlement.at());
            let end = NewState::of(run_end, at);
            ends.places.push(*place);
            ends.events.push(token.handle);
            ends.fences.push(token.fence);
            ends.nows.push(caller_clock.then_some(at));
            ends.states.push(end.to.as_str());
            ends.dues.push(end.due_in);
            ends.uncounted.push(end.uncounted);
            let (reason, made) = match run_end {
                RunEnd::GiveUp { reason, attempts } => {
                    (Some(escape(reason)), Some(small(*attempts)))
                }
                _ => (None, None),
            };
            ends.reasons.0.push(reason);
            ends.made.push(made);
            ends.contacts.0.push(match run_end {
                RunEnd::Processed { contact } => contact.as_ref().map(|contact| contact.as_json()),
                _ => None,
            });
            ends.add_attempt(attempt.as_ref(), at);
            ends.correlations.push(settlement.correlation().map(Correlation::as_str));
        }
        ends
    }

    fn add_attempt(&mut self, attempt: Option<&'a Attempt>, at: cognigy_core::Timestamp) {
        self.runs.push(attempt.map(|attempt| small(attempt.run)));
        self.numbers.push(attempt.map(|attempt| small(attempt.number)));
        self.began_ago.push(attempt.map(|attempt| distance(attempt.started_at, at)));
        self.durations.push(attempt.map(|attempt| interval(attempt.duration)));
        self.outcomes.push(attempt.map(|attempt| attempt.outcome.as_str()));
        self.errors.0.push(attempt.and_then(|attempt| attempt.error.as_deref()).map(escape));
    }

    /// Ends the runs and makes the next events of their contact queues due, in the transaction that
    /// `client` is in.
    async fn write_all(
        &self,
        client: &impl GenericClient,
        order: &OrderHint,
        answers: &mut [Settled],
    ) -> Result<(), PostgresError> {
        if !order.holds() {
            self.write(client, false, answers).await?;
            if !self.are_in_lanes(client, answers).await? {
                return Ok(());
            }
            order.correct(true);
        }
        let ends = self.events.iter().zip(&self.states).filter(|(_, to)| **to != "pending");
        let ends: Vec<_> = ends.map(|(event, _)| *event).collect();
        contact_queue::lock_of(client, &ends).await?;
        self.write(client, true, answers).await
    }

    /// Whether some settlements that took no effect belong to events in contact queues.
    async fn are_in_lanes(
        &self,
        client: &impl GenericClient,
        answers: &[Settled],
    ) -> Result<bool, PostgresError> {
        let left = |(place, _): &(&usize, &i64)| answers[**place] == Settled::LeaseLost;
        let left: Vec<_> = self.places.iter().zip(&self.events).filter(left).collect();
        if left.is_empty() {
            return Ok(false);
        }
        let left: Vec<_> = left.into_iter().map(|(_, event)| *event).collect();
        contact_queue::any_of(client, &left, &distinct(self.fences.iter().copied())).await
    }

    /// Notes the answers of the settlements that took effect.
    async fn write(
        &self,
        client: &impl GenericClient,
        in_lanes: bool,
        answers: &mut [Settled],
    ) -> Result<(), PostgresError> {
        if self.places.is_empty() {
            return Ok(());
        }
        let settle = client.prepare_cached(&settle_sql(in_lanes)).await?;
        let rows = client
            .query(
                &settle,
                &[
                    &self.events,
                    &self.fences,
                    &self.nows,
                    &self.states,
                    &self.dues,
                    &self.uncounted,
                    &self.reasons,
                    &self.made,
                    &self.contacts,
                    &self.runs,
                    &self.numbers,
                    &self.began_ago,
                    &self.durations,
                    &self.outcomes,
                    &self.errors,
                    &distinct(self.fences.iter().copied()),
                    &self.caller_clock,
                    &self.correlations,
                ],
            )
            .await?;
        for (row, place) in rows.iter().zip(outbox::ordinals(&rows, &self.places)?) {
            let made_way = read(row, "made_way")?;
            answers[place] = if made_way { Settled::UnblockedNext } else { Settled::Done };
        }
        Ok(())
    }
}

/// The columns of an event after the end of its run.
struct NewState {
    to: State,
    /// Microseconds from the end of the attempt to the next one.
    due_in: Option<i64>,
    /// Attempts that do not count.
    uncounted: i32,
}

impl NewState {
    fn of(end: &RunEnd, at: cognigy_core::Timestamp) -> Self {
        let (to, due_in, uncounted) = match end {
            RunEnd::Processed { .. } => (State::Processed, None, 0),
            RunEnd::Retry { due } => (State::Pending, Some(distance(at, *due)), 0),
            RunEnd::Release => (State::Pending, Some(0), 1),
            RunEnd::PutOff { due } => (State::Pending, Some(distance(at, *due)), 1),
            RunEnd::GiveUp { .. } => (State::DeadLettering, None, 0),
        };
        Self { to, due_in, uncounted }
    }
}
