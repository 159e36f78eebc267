//! Keeps the order of each contact's events: which of them may run, and which wait.
//!
//! A contact with unfinished events has a row in `cognigy_lanes`. One of these events is due or
//! held; `due_at` of the others is NULL. A transaction that adds an event to a contact or ends one
//! locks the contact's row until its commit, so neither can miss the other. Rows are locked in
//! ascending order.
//!
//! The database says whether there is an order to keep, so that all nodes agree. A node keeps a
//! hint of it, and each statement that depends on the order reads it from the database.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use cognigy_core::{EventOrder, Timestamp};
use deadpool_postgres::{GenericClient, Object, Transaction};
use sha2::{Digest, Sha256};

use crate::{
    error::{PostgresError, unreadable},
    row::read,
};

/// Whether an order was kept when this node last read it. An outdated hint costs a second try.
#[derive(Debug, Default)]
pub(crate) struct OrderHint(AtomicBool);

impl OrderHint {
    pub(crate) fn new(order: EventOrder) -> Self {
        Self(AtomicBool::new(order.is_kept()))
    }

    pub(crate) fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn correct(&self, is_kept: bool) {
        self.0.store(is_kept, Ordering::Relaxed);
    }
}

/// Names a contact: 64 bits of a digest of the source and the key, as they stand in their columns,
/// so that rows and indexes stay small. If two contacts ever shared a number, they would only wait
/// for one another.
pub(crate) fn lane(source: &str, external_id: Option<&str>, user_id: Option<&str>) -> Option<i64> {
    let contact = [external_id, user_id].into_iter().flatten().find(|key| !key.is_empty())?;
    let digest = Sha256::new_with_prefix(source).chain_update([0]).chain_update(contact).finalize();
    let (first, _) = digest.split_first_chunk::<8>()?;
    Some(i64::from_be_bytes(*first))
}

/// The contact queue of the event in `row`.
pub(crate) fn read_lane(row: &tokio_postgres::Row) -> Result<Option<i64>, PostgresError> {
    Ok(lane(read(row, "source")?, read(row, "external_id")?, read(row, "user_id")?))
}

/// The order that the database says is kept.
pub(crate) async fn order(client: &impl GenericClient) -> Result<EventOrder, PostgresError> {
    let sql = "SELECT event_order FROM cognigy_settings WHERE id = 1";
    parse(client.query_one(&client.prepare_cached(sql).await?, &[]).await?.try_get(0)?)
}

/// As [`order`], and locks it until the end of the transaction.
pub(crate) async fn settled_order(
    transaction: &Transaction<'_>,
) -> Result<EventOrder, PostgresError> {
    let sql = "SELECT event_order FROM cognigy_settings WHERE id = 1 FOR SHARE";
    parse(transaction.query_one(sql, &[]).await?.try_get(0)?)
}

fn parse(order: &str) -> Result<EventOrder, PostgresError> {
    order.parse().map_err(|error| unreadable("the order of events", error))
}

/// Locks the contact queues of events that end, until the end of the transaction.
pub(crate) async fn lock_of(
    client: &impl GenericClient,
    events: &[i64],
) -> Result<(), PostgresError> {
    let lock = client
        .prepare_cached(
            "SELECT lane FROM cognigy_lanes WHERE lane = ANY (ARRAY(
                 SELECT lane FROM cognigy_queue WHERE event = ANY ($1)))
             ORDER BY lane FOR UPDATE",
        )
        .await?;
    client.query(&lock, &[&events]).await?;
    Ok(())
}

/// Locks the contact queues that these events stop. Returns them.
pub(crate) async fn lock_stopped_by(
    transaction: &Transaction<'_>,
    events: &[i64],
) -> Result<Vec<i64>, PostgresError> {
    let lock =
        "SELECT lane FROM cognigy_lanes WHERE stopped_by = ANY ($1) ORDER BY lane FOR UPDATE";
    let rows = transaction.query(lock, &[&events]).await?;
    rows.iter().map(|row| read(row, "lane")).collect()
}

/// `$1` events that are not in the queue any more, `$2` the contact queues that they were in or stopped,
/// locked; `$3` how many of them waited, `$4` now or NULL.
const LEAVE: &str = "
WITH resumed AS MATERIALIZED (
    SELECT lane FROM cognigy_lanes WHERE lane = ANY ($2) AND stopped_by = ANY ($1)
), next AS MATERIALIZED (
    SELECT lane, (SELECT min(event) FROM cognigy_queue WHERE lane = lanes.lane) AS event
    FROM cognigy_lanes AS lanes
    WHERE lane = ANY ($2) AND (stopped_by IS NULL OR stopped_by = ANY ($1))
      AND (SELECT event FROM cognigy_queue
           WHERE lane = lanes.lane AND due_at IS NOT NULL LIMIT 1) IS NULL
), due AS (
    UPDATE cognigy_queue SET due_at = CASE
        WHEN run = 1 THEN received_at ELSE coalesce($4::timestamptz, statement_timestamp()) END
    WHERE event = ANY (ARRAY(SELECT event FROM next WHERE event IS NOT NULL)) RETURNING event
), idle AS (
    DELETE FROM cognigy_lanes WHERE lane = ANY (ARRAY(SELECT lane FROM next WHERE event IS NULL))
), busy AS (
    UPDATE cognigy_lanes SET stopped_by = NULL
    WHERE lane = ANY (ARRAY(SELECT lane FROM resumed
                            EXCEPT SELECT lane FROM next WHERE event IS NULL))
)
INSERT INTO cognigy_tallies (dimension, name, count)
SELECT 'lane', name, change
FROM (SELECT 'waiting' AS name, -count(*) - $3::bigint AS change FROM due
      UNION ALL SELECT 'stopped', -count(*) FROM resumed) AS changes
WHERE change <> 0";

/// Events have left the queue and stop no contact any more. Makes the next event of each contact due.
pub(crate) async fn leave(
    transaction: &Transaction<'_>,
    events: &[i64],
    mut lanes: Vec<i64>,
    waited: i64,
    now: Option<Timestamp>,
) -> Result<(), PostgresError> {
    lanes.sort_unstable();
    lanes.dedup();
    if !lanes.is_empty() {
        transaction.execute(LEAVE, &[&events, &lanes, &waited, &now]).await?;
    }
    Ok(())
}

/// Whether claims of a settlement belong to events in contact queues.
pub(crate) async fn any_of(
    client: &impl GenericClient,
    events: &[i64],
    fences: &[i64],
) -> Result<bool, PostgresError> {
    let look = client
        .prepare_cached(
            // Not as a condition, because the planner would then use the index of lanes.
            "SELECT coalesce(bool_or(lane IS NOT NULL), false) FROM cognigy_queue
             WHERE event = ANY ($1) AND fence = ANY ($2)",
        )
        .await?;
    Ok(client.query_one(&look, &[&events, &fences]).await?.try_get(0)?)
}

/// Contact queues that an operator's call has locked, as they were and as the call changes them.
#[derive(Debug, Default)]
pub(crate) struct Locked {
    lanes: HashMap<i64, ContactQueue>,
    /// Heads that have to wait again, and contact queues that are no longer stopped.
    pub(crate) displaced: Vec<i64>,
    pub(crate) resumed: Vec<i64>,
}

#[derive(Debug, Default)]
struct ContactQueue {
    /// The event that is due or held.
    head: Option<i64>,
    /// No attempt at it has begun, so an earlier event can go first.
    gives_way: bool,
    /// The event that was given up and makes the others wait.
    stopped_by: Option<i64>,
}

impl Locked {
    /// Locks them, and creates the missing ones.
    pub(crate) async fn lock(
        transaction: &Transaction<'_>,
        events: impl Iterator<Item = (i64, i64)>,
    ) -> Result<Self, PostgresError> {
        let opened_by: HashMap<i64, i64> = events.collect();
        if opened_by.is_empty() {
            return Ok(Self::default());
        }
        let (lanes, events): (Vec<_>, Vec<_>) = opened_by.into_iter().unzip();
        let rows = transaction
            .query(
                "INSERT INTO cognigy_lanes (lane, opened_by)
                 SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS row (lane, event) ORDER BY lane
                 ON CONFLICT (lane) DO UPDATE SET opened_by = cognigy_lanes.opened_by
                 RETURNING lane, stopped_by",
                &[&lanes, &events],
            )
            .await?;
        let mut locked = Self::default();
        for row in rows {
            let lane =
                ContactQueue { stopped_by: read(&row, "stopped_by")?, ..ContactQueue::default() };
            locked.lanes.insert(read(&row, "lane")?, lane);
        }
        locked.find_heads(transaction, &lanes).await?;
        Ok(locked)
    }

    /// The heads' rows are locked too, so that no head is claimed while this call decides.
    async fn find_heads(
        &mut self,
        transaction: &Transaction<'_>,
        lanes: &[i64],
    ) -> Result<(), PostgresError> {
        // The head of a contact queue is nearly always its earliest event.
        let rows = transaction
            .query(
                "SELECT event, lane, held_until IS NULL AND attempt = 0 AS gives_way
                 FROM cognigy_queue WHERE event = ANY (ARRAY(
                     SELECT (SELECT event FROM cognigy_queue
                             WHERE lane = wanted.lane AND due_at IS NOT NULL LIMIT 1)
                     FROM unnest($1::bigint[]) AS wanted (lane)))
                 ORDER BY event FOR UPDATE",
                &[&lanes],
            )
            .await?;
        for row in rows {
            if let Some(lane) = self.lanes.get_mut(&read(&row, "lane")?) {
                lane.head = Some(read(&row, "event")?);
                lane.gives_way = read(&row, "gives_way")?;
            }
        }
        Ok(())
    }

    /// Whether `event` may run now, at the head of its contact queue.
    pub(crate) fn admit(&mut self, number: i64, event: i64) -> bool {
        let Some(lane) = self.lanes.get_mut(&number) else { return true };
        if lane.stopped_by == Some(event) {
            lane.stopped_by = None;
            self.resumed.push(number);
        } else if lane.stopped_by.is_some() || lane.head.is_some_and(|head| head != event) {
            return false;
        }
        *lane = ContactQueue { head: Some(event), gives_way: true, stopped_by: None };
        true
    }

    /// Puts `event`, which is to run again, into its contact queue. Returns whether it is due now.
    pub(crate) fn enter(&mut self, number: i64, event: i64) -> bool {
        if self.admit(number, event) {
            return true;
        }
        let Some(lane) = self.lanes.get_mut(&number) else { return true };
        match lane.head {
            Some(head) if head > event && lane.gives_way => {
                self.displaced.push(head);
                lane.head = Some(event);
                true
            }
            _ => false,
        }
    }

    /// Writes the changed contact queues. `waiting`: how many more events wait.
    pub(crate) async fn finish(
        &self,
        transaction: &Transaction<'_>,
        waiting: i64,
    ) -> Result<(), PostgresError> {
        if self.lanes.is_empty() {
            return Ok(());
        }
        let lanes: Vec<_> = self.lanes.keys().copied().collect();
        transaction
            .execute(
                "UPDATE cognigy_queue SET due_at = NULL
                 WHERE event = ANY ($1) AND held_until IS NULL",
                &[&self.displaced],
            )
            .await?;
        transaction
            .execute(
                "UPDATE cognigy_lanes SET stopped_by = NULL WHERE lane = ANY ($1)",
                &[&self.resumed],
            )
            .await?;
        // A queue that was created without an event would block its contact for ever.
        transaction
            .execute(
                "DELETE FROM cognigy_lanes WHERE lane = ANY ($1) AND stopped_by IS NULL
                   AND (SELECT event FROM cognigy_queue
                        WHERE lane = cognigy_lanes.lane LIMIT 1) IS NULL",
                &[&lanes],
            )
            .await?;
        let resumed = i64::try_from(self.resumed.len()).unwrap_or_default();
        tally(transaction, waiting, -resumed).await
    }
}

async fn tally(
    transaction: &Transaction<'_>,
    waiting: i64,
    stopped: i64,
) -> Result<(), PostgresError> {
    transaction
        .execute(
            "INSERT INTO cognigy_tallies (dimension, name, count)
             SELECT 'lane', name, count
             FROM (VALUES ('waiting', $1::bigint), ('stopped', $2::bigint)) AS row (name, count)
             WHERE count <> 0",
            &[&waiting, &stopped],
        )
        .await?;
    Ok(())
}

/// Writes the `wanted` order into the database; all nodes keep it from now on. Returns the order
/// that is kept.
pub(crate) async fn agree(
    connection: &mut Object,
    wanted: Option<EventOrder>,
) -> Result<EventOrder, PostgresError> {
    let found = order(&*connection).await?;
    let Some(wanted) = wanted.filter(|wanted| *wanted != found) else { return Ok(found) };
    let change = connection.transaction().await?;
    // The change passes over the whole backlog, however long that takes. But a call that waits for
    // these locks must not be held up by another program's long transaction.
    change.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'").await?;
    let row = change
        .query_one("SELECT event_order FROM cognigy_settings WHERE id = 1 FOR UPDATE", &[])
        .await?;
    let found = parse(row.try_get(0)?)?;
    change
        .execute("UPDATE cognigy_settings SET event_order = $1 WHERE id = 1", &[&wanted.as_str()])
        .await?;
    // The contact queues are locked first, in the same order as in all other calls.
    change
        .batch_execute(
            "LOCK TABLE cognigy_lanes IN EXCLUSIVE MODE;
             LOCK TABLE cognigy_queue IN SHARE ROW EXCLUSIVE MODE",
        )
        .await?;
    match (found, wanted) {
        (EventOrder::Any, EventOrder::PerContact(_)) => begin(&change).await?,
        (EventOrder::PerContact(_), EventOrder::Any) => change.batch_execute(CEASE).await?,
        _ if found.stops() && !wanted.stops() => change.batch_execute(RESUME).await?,
        _ => {}
    }
    change.commit().await?;
    tracing::info!(%found, %wanted, "the order in which events are run was changed");
    Ok(wanted)
}

/// How many events are put into their contact queues at a time.
const PAGE: i64 = 10_000;

async fn begin(change: &Transaction<'_>) -> Result<(), PostgresError> {
    let mut last = 0_i64;
    loop {
        let rows = change
            .query(
                "SELECT queue.event, events.source, events.external_id, events.user_id
                 FROM (SELECT event FROM cognigy_queue WHERE event > $1 ORDER BY event LIMIT $2)
                      AS queue
                 CROSS JOIN LATERAL (
                     SELECT * FROM cognigy_events WHERE id = queue.event LIMIT 1) AS events
                 ORDER BY queue.event",
                &[&last, &PAGE],
            )
            .await?;
        let Some(end) = rows.last() else { break };
        last = read(end, "event")?;
        let (mut events, mut lanes) = (Vec::new(), Vec::new());
        for row in &rows {
            if let Some(lane) = read_lane(row)? {
                events.push(read::<i64>(row, "event")?);
                lanes.push(lane);
            }
        }
        // One by one in the order of ids, and not by a join.
        change
            .execute(
                "UPDATE cognigy_queue
                 SET lane = ($2::bigint[])[array_position($1::bigint[], event)]
                 WHERE event = ANY ($1)",
                &[&events, &lanes],
            )
            .await?;
    }
    Ok(change.batch_execute(BEGIN).await?)
}

/// Makes one unfinished event of each contact the head: one that is running, or one that was begun,
/// or the earliest. Other events that are running end without the order.
const BEGIN: &str = "
INSERT INTO cognigy_lanes (lane, opened_by)
SELECT lane, coalesce(min(event) FILTER (WHERE held_until IS NOT NULL),
                      min(event) FILTER (WHERE attempt > 0), min(event))
FROM cognigy_queue WHERE lane IS NOT NULL GROUP BY lane;

UPDATE cognigy_queue AS queue SET lane = NULL
WHERE lane IS NOT NULL AND held_until IS NOT NULL AND event <> (
    SELECT opened_by FROM cognigy_lanes WHERE lane = queue.lane);

WITH held_back AS (
    UPDATE cognigy_queue AS queue SET due_at = NULL
    WHERE lane IS NOT NULL AND event <> (
        SELECT opened_by FROM cognigy_lanes WHERE lane = queue.lane)
    RETURNING event
)
INSERT INTO cognigy_tallies (dimension, name, count)
SELECT 'lane', 'waiting', count(*) FROM held_back;";

/// Makes all waiting events due.
const CEASE: &str = "
UPDATE cognigy_queue SET lane = NULL, due_at = coalesce(due_at, received_at)
WHERE lane IS NOT NULL;
DELETE FROM cognigy_lanes;
INSERT INTO cognigy_tallies (dimension, name, count)
SELECT dimension, name, -sum(count) FROM cognigy_tallies WHERE dimension = 'lane'
GROUP BY dimension, name;";

/// Stopped contacts go on. All events of a stopped contact wait.
const RESUME: &str = "
WITH next AS MATERIALIZED (
    SELECT lane, (SELECT min(event) FROM cognigy_queue WHERE lane = lanes.lane) AS event
    FROM cognigy_lanes AS lanes WHERE stopped_by IS NOT NULL
), due AS (
    UPDATE cognigy_queue SET due_at = received_at
    WHERE event = ANY (ARRAY(SELECT event FROM next)) RETURNING event
), idle AS (
    DELETE FROM cognigy_lanes WHERE lane = ANY (ARRAY(SELECT lane FROM next WHERE event IS NULL))
), busy AS (
    UPDATE cognigy_lanes SET stopped_by = NULL
    WHERE lane = ANY (ARRAY(SELECT lane FROM next WHERE event IS NOT NULL))
)
INSERT INTO cognigy_tallies (dimension, name, count)
SELECT 'lane', 'waiting', -count(*) FROM due
UNION ALL SELECT 'lane', 'stopped', -count(*) FROM next;";

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are stored in databases, so they must never change.
    #[test]
    fn a_lane_is_a_source_and_a_contact() {
        let ann = lane("cognigy", Some("ann"), Some("u-1"));
        assert_eq!(ann, Some(i64::from_be_bytes(DIGEST)));
        assert_eq!(lane("cognigy", Some(""), Some("ann")), ann);
        assert_eq!(lane("cognigy", None, Some("ann")), ann);
        assert_ne!(lane("other", Some("ann"), None), ann);
        assert_eq!(lane("cognigy", Some(""), None), None);
    }

    /// The first bytes of `printf 'cognigy\\0ann' | sha256sum`.
    const DIGEST: [u8; 8] = [0xe6, 0xd3, 0xf5, 0x90, 0x4c, 0xa6, 0x3e, 0x48];
}
