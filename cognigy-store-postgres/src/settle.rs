//! Ending claims, and prolonging them.
//!
//! The fence alone decides whose word counts: it is compared and changed in the same statement.

use cognigy_core::{Attempt, ClaimToken, Move, Settled, Settlement, State, Verdict, WorkKind};
use deadpool_postgres::{GenericClient, Object};

use crate::{
    claim::Term,
    error::Problem,
    outbox,
    row::{Private, distance, escape, interval, small},
};

/// Renewals lock in the order of ids: a settlement of the same worker may be under way. They never
/// shorten a lease: one that comes late, overtaken by a later one, changes nothing.
const RENEW_RUNS: &str = "
UPDATE cognigy_queue AS queue
SET held_until = greatest(queue.held_until, coalesce($1::timestamptz, statement_timestamp())
                                            + $2::bigint * interval '1 microsecond')
FROM (
    SELECT queue.event, held.ordinal
    FROM unnest($3::bigint[], $4::bigint[]) WITH ORDINALITY AS held (id, fence, ordinal)
    JOIN cognigy_queue AS queue ON queue.event = held.id AND queue.fence = held.fence
    WHERE queue.held_until IS NOT NULL
    ORDER BY queue.event FOR UPDATE OF queue
) AS held
WHERE queue.event = held.event
RETURNING held.ordinal";

const RENEW_LETTERS: &str = "
UPDATE cognigy_outbox AS letter
SET due_at = greatest(letter.due_at, coalesce($1::timestamptz, statement_timestamp())
                                     + $2::bigint * interval '1 microsecond')
FROM unnest($3::bigint[], $4::bigint[]) WITH ORDINALITY AS held (id, fence, ordinal)
WHERE letter.id = held.id AND letter.fence = held.fence AND letter.due_at IS NOT NULL
RETURNING held.ordinal";

pub(crate) async fn renew(
    connection: &mut Object,
    tokens: &[ClaimToken],
    term: Term,
) -> Result<Vec<Settled>, Problem> {
    let mut answers = vec![Settled::LeaseLost; tokens.len()];
    for (work, sql) in [(WorkKind::Run, RENEW_RUNS), (WorkKind::DeadLetter, RENEW_LETTERS)] {
        let places: Vec<usize> =
            (0..tokens.len()).filter(|place| tokens[*place].work == work).collect();
        if places.is_empty() {
            continue;
        }
        let (ids, fences): (Vec<_>, Vec<_>) =
            places.iter().map(|place| (tokens[*place].handle, tokens[*place].fence)).unzip();
        let renew = connection.prepare_cached(sql).await?;
        let rows = connection.query(&renew, &[&term.now, &term.lease, &ids, &fences]).await?;
        for place in outbox::ordinals(&rows, &places)? {
            answers[place] = Settled::Done;
        }
    }
    Ok(answers)
}

pub(crate) async fn settle(
    connection: &mut Object,
    settlements: &[Settlement],
    caller_s_clock: bool,
) -> Result<Vec<Settled>, Problem> {
    let of = |work| -> (Vec<usize>, Vec<&Settlement>) {
        settlements.iter().enumerate().filter(|(_, one)| one.token.work == work).unzip()
    };
    let (run_places, mut runs) = of(WorkKind::Run);
    let (letter_places, letters) = of(WorkKind::DeadLetter);
    let runs = Ends::of(&mut runs, &run_places, caller_s_clock);
    let mut answers = vec![Settled::LeaseLost; settlements.len()];
    let mut done = Vec::new();
    if letters.is_empty() {
        // A single statement is its own transaction, in one exchange with the server.
        done.extend(runs.write(&*connection).await?);
    } else {
        let transaction = connection.transaction().await?;
        done.extend(runs.write(&transaction).await?);
        let sent = outbox::settle(&transaction, &letters, caller_s_clock).await?;
        done.extend(sent.into_iter().map(|index| letter_places[index]));
        transaction.commit().await?;
    }
    for place in done {
        answers[place] = Settled::Done;
    }
    Ok(answers)
}

/// A run's row leaves the queue when the run ends, and stays in it when there is another attempt.
/// What `ended` and `again` changed is known by their RETURNING alone: the other parts of the
/// statement see the tables as they were before.
const SETTLE: &str = "
WITH verdict AS MATERIALIZED (
    SELECT row.*, coalesce(row.now, statement_timestamp()) AS at
    FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::text[], $5::bigint[],
                $6::integer[], $7::text[], $8::integer[], $9::text[], $10::integer[],
                $11::integer[], $12::bigint[], $13::bigint[], $14::text[], $15::text[])
         WITH ORDINALITY AS row (event, fence, now, state, due_in, uncounted, reason, made, contact,
                                 run, number, began_ago, duration, outcome, error, ordinal)
), ended AS (
    DELETE FROM cognigy_queue AS queue USING verdict
    WHERE queue.event = verdict.event AND queue.fence = verdict.fence
      AND queue.held_until IS NOT NULL AND verdict.state <> 'pending'
    RETURNING verdict.*, queue.received_at, queue.run AS current_run
), again AS (
    UPDATE cognigy_queue AS queue
    SET held_until = NULL, due_at = verdict.at + verdict.due_in * interval '1 microsecond',
        attempt = greatest(queue.attempt - verdict.uncounted, 0)
    FROM verdict
    WHERE queue.event = verdict.event AND queue.fence = verdict.fence
      AND queue.held_until IS NOT NULL AND verdict.state = 'pending'
    RETURNING verdict.*, queue.received_at, queue.run AS current_run
), done AS (
    SELECT * FROM ended UNION ALL SELECT * FROM again
), events AS (
    UPDATE cognigy_events AS events
    SET state = ended.state, run = ended.current_run,
        processed_at = CASE WHEN ended.state = 'processed' THEN ended.at
                            ELSE events.processed_at END
    FROM ended WHERE events.id = ended.event
), attempts AS (
    INSERT INTO cognigy_attempts
        (event, received_at, fence, run, number, started_at, duration_us, outcome, error)
    SELECT event, received_at, fence, run, number, at - began_ago * interval '1 microsecond',
           duration, outcome, error
    FROM done WHERE outcome IS NOT NULL
    ON CONFLICT DO NOTHING
), contexts AS (
    INSERT INTO cognigy_contexts (event, received_at, json)
    SELECT event, received_at, contact FROM ended WHERE contact IS NOT NULL
    ON CONFLICT (event, received_at) DO UPDATE SET json = excluded.json
), unknown AS (
    -- An earlier run may have left one.
    DELETE FROM cognigy_contexts AS contexts USING ended
    WHERE contexts.event = ended.event AND contexts.received_at = ended.received_at
      AND ended.state = 'processed' AND ended.contact IS NULL AND ended.current_run > 1
), outbox AS (
    INSERT INTO cognigy_outbox (event, run, reason, attempts, due_at, created_at)
    SELECT event, current_run, reason, made, at, at FROM ended WHERE state = 'dead_lettering'
), tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count)
    SELECT 'state', state, count(*) FROM done GROUP BY state
    UNION ALL
    SELECT 'state', 'processing', -count(*) FROM done HAVING count(*) > 0
)
SELECT ordinal FROM done";

/// The ends of runs, a column each.
#[derive(Default)]
struct Ends<'a> {
    places: Vec<usize>,
    events: Vec<i64>,
    fences: Vec<i64>,
    nows: Vec<Option<cognigy_core::Timestamp>>,
    states: Vec<&'static str>,
    dues: Vec<Option<i64>>,
    uncounted: Vec<i32>,
    reasons: Vec<Option<std::borrow::Cow<'a, str>>>,
    made: Vec<Option<i32>>,
    contacts: Vec<Option<&'a str>>,
    runs: Vec<Option<i32>>,
    numbers: Vec<Option<i32>>,
    began_ago: Vec<Option<i64>>,
    durations: Vec<Option<i64>>,
    outcomes: Vec<Option<&'static str>>,
    errors: Vec<Option<std::borrow::Cow<'a, str>>>,
}

impl<'a> Ends<'a> {
    fn of(settlements: &mut [&'a Settlement], places: &[usize], caller_s_clock: bool) -> Self {
        // In the order of ids, in which renewals lock them too.
        let mut order: Vec<_> = settlements.iter().zip(places).collect();
        order.sort_by_key(|(settlement, _)| settlement.token.handle);
        let mut ends = Self::default();
        for (settlement, place) in order {
            let Settlement { token, verdict, attempt, at } = *settlement;
            let Some(end) = End::of(verdict, *at) else { continue };
            ends.places.push(*place);
            ends.events.push(token.handle);
            ends.fences.push(token.fence);
            ends.nows.push(caller_s_clock.then_some(*at));
            ends.states.push(end.to.as_str());
            ends.dues.push(end.due_in);
            ends.uncounted.push(end.uncounted);
            let (reason, made) = match verdict {
                Verdict::GiveUp { reason, attempts } => {
                    (Some(escape(reason)), Some(small(*attempts)))
                }
                _ => (None, None),
            };
            ends.reasons.push(reason);
            ends.made.push(made);
            ends.contacts.push(match verdict {
                Verdict::Processed { contact } => contact.as_ref().map(|contact| contact.as_json()),
                _ => None,
            });
            ends.add_attempt(attempt.as_ref(), *at);
        }
        ends
    }

    fn add_attempt(&mut self, attempt: Option<&'a Attempt>, at: cognigy_core::Timestamp) {
        self.runs.push(attempt.map(|attempt| small(attempt.run)));
        self.numbers.push(attempt.map(|attempt| small(attempt.number)));
        self.began_ago.push(attempt.map(|attempt| distance(attempt.started_at, at)));
        self.durations.push(attempt.map(|attempt| interval(attempt.duration)));
        self.outcomes.push(attempt.map(|attempt| attempt.outcome.as_str()));
        self.errors.push(attempt.and_then(|attempt| attempt.error.as_deref()).map(escape));
    }

    /// Yields the places of those that took effect.
    async fn write(self, client: &impl GenericClient) -> Result<Vec<usize>, Problem> {
        if self.places.is_empty() {
            return Ok(Vec::new());
        }
        let settle = client.prepare_cached(SETTLE).await?;
        let (reasons, contacts, errors) =
            (Private(self.reasons), Private(self.contacts), Private(self.errors));
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
                    &reasons,
                    &self.made,
                    &contacts,
                    &self.runs,
                    &self.numbers,
                    &self.began_ago,
                    &self.durations,
                    &self.outcomes,
                    &errors,
                ],
            )
            .await?;
        outbox::ordinals(&rows, &self.places)
    }
}

/// What a verdict makes of an event.
struct End {
    to: State,
    /// Microseconds from the end of the attempt.
    due_in: Option<i64>,
    /// Attempts that do not count.
    uncounted: i32,
}

impl End {
    /// None for a verdict that is not about a run.
    fn of(verdict: &Verdict, at: cognigy_core::Timestamp) -> Option<Self> {
        let (by, due_in, uncounted) = match verdict {
            Verdict::Processed { .. } => (Move::Complete, None, 0),
            Verdict::Retry { due } => (Move::Retry, Some(distance(at, *due)), 0),
            Verdict::Release => (Move::Release, Some(0), 1),
            Verdict::GiveUp { .. } => (Move::GiveUp, None, 0),
            Verdict::DeadLetterSent | Verdict::DeadLetterRetry { .. } => return None,
        };
        Some(Self { to: State::Processing.apply(by).ok()?, due_in, uncounted })
    }
}
