//! Keeps the order of each contact's events: which of them may run, and which wait.
//!
//! A contact with unfinished events has a row in `lanes`, which names the event that may be due or
//! held. The others are in `waiting`, and their `due_at` is NULL. The file says whether there is an
//! order to keep. Every transaction that needs it reads it there, so that all processes agree.

use cognigy_core::{EventOrder, IncomingEvent, Timestamp};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::{
    SqliteOptions,
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{micros, unreadable},
};

/// The contact of a row of `events`, as in `EventParts::contact_key`.
pub(crate) const CONTACT: &str = "coalesce(nullif(external_id, ''), nullif(user_id, ''))";

/// Where an arriving event goes in its contact's queue.
pub(crate) enum QueuePosition<'a> {
    /// In no queue: the event names no contact, or no order is kept.
    Anywhere,
    /// Its contact has no unfinished event.
    First(&'a str),
    /// Behind another event of its contact.
    Behind(&'a str),
}

/// Where `event` will go if it is new.
pub(crate) fn place_for<'a>(
    group: &mut WriteBatch<'_>,
    event: &'a IncomingEvent,
) -> Result<QueuePosition<'a>, SqliteError> {
    if !group.order()?.is_kept() {
        return Ok(QueuePosition::Anywhere);
    }
    let Some(contact) = event.parts.contact_key() else { return Ok(QueuePosition::Anywhere) };
    let is_busy = group
        .prepare("SELECT 1 FROM lanes WHERE source = ?1 AND contact = ?2")?
        .exists([event.key.source.as_str(), contact])?;
    Ok(if is_busy { QueuePosition::Behind(contact) } else { QueuePosition::First(contact) })
}

/// Puts the new event `id` at that position.
pub(crate) fn take(
    group: &mut WriteBatch<'_>,
    place: &QueuePosition<'_>,
    source: &str,
    id: i64,
) -> Result<(), SqliteError> {
    match place {
        QueuePosition::Anywhere => Ok(()),
        QueuePosition::First(contact) => open(group, source, contact, id),
        QueuePosition::Behind(contact) => wait(group, source, contact, id),
    }
}

fn open(group: &WriteBatch<'_>, source: &str, contact: &str, head: i64) -> Result<(), SqliteError> {
    group
        .prepare("INSERT INTO lanes (source, contact, head, stopped) VALUES (?1, ?2, ?3, 0)")?
        .execute(params![source, contact, head])?;
    Ok(())
}

fn wait(
    group: &mut WriteBatch<'_>,
    source: &str,
    contact: &str,
    id: i64,
) -> Result<(), SqliteError> {
    group
        .prepare("INSERT INTO waiting (source, contact, event) VALUES (?1, ?2, ?3)")?
        .execute(params![source, contact, id])?;
    group.waiting += 1;
    Ok(())
}

/// The queue of a contact with unfinished events.
struct ContactQueue {
    source: String,
    contact: String,
    head: i64,
    stopped: bool,
}

enum Found {
    /// The event names no contact, or does not exist.
    NoContact,
    /// Its contact has no unfinished event.
    Idle {
        source: String,
        contact: String,
    },
    Busy(ContactQueue),
}

impl ContactQueue {
    /// The queue of the contact of event `id`.
    fn of(group: &WriteBatch<'_>, id: i64) -> Result<Found, SqliteError> {
        let mut select = group.prepare(&format!(
            "SELECT events.source, {CONTACT}, head, stopped
             FROM events LEFT JOIN lanes ON lanes.source = events.source AND contact = {CONTACT}
             WHERE events.id = ?1"
        ))?;
        let mut rows = select.query([id])?;
        let Some(row) = rows.next()? else { return Ok(Found::NoContact) };
        let source = row.get(0)?;
        let Some(contact) = row.get(1)? else { return Ok(Found::NoContact) };
        Ok(match row.get(2)? {
            Some(head) => Found::Busy(Self { source, contact, head, stopped: row.get(3)? }),
            None => Found::Idle { source, contact },
        })
    }

    fn stop(&self, group: &mut WriteBatch<'_>, stopped: bool) -> Result<(), SqliteError> {
        if self.stopped != stopped {
            group
                .prepare("UPDATE lanes SET stopped = ?3 WHERE source = ?1 AND contact = ?2")?
                .execute(params![self.source, self.contact, stopped])?;
            group.stopped += if stopped { 1 } else { -1 };
        }
        Ok(())
    }

    fn lead(&self, group: &WriteBatch<'_>, head: i64) -> Result<(), SqliteError> {
        group
            .prepare("UPDATE lanes SET head = ?3 WHERE source = ?1 AND contact = ?2")?
            .execute(params![self.source, self.contact, head])?;
        Ok(())
    }

    /// Takes the earliest waiting event out of `waiting`.
    fn next(&self, group: &mut WriteBatch<'_>) -> Result<Option<i64>, SqliteError> {
        let next: Option<i64> = group
            .prepare("SELECT min(event) FROM waiting WHERE source = ?1 AND contact = ?2")?
            .query_row([&self.source, &self.contact], |row| row.get(0))?;
        if let Some(next) = next {
            group
                .prepare("DELETE FROM waiting WHERE source = ?1 AND contact = ?2 AND event = ?3")?
                .execute(params![self.source, self.contact, next])?;
            group.waiting -= 1;
        }
        Ok(next)
    }

    /// The head has ended: makes the next event due, if one waits.
    fn unblock_next(
        &self,
        group: &mut WriteBatch<'_>,
        now: Option<i64>,
    ) -> Result<bool, SqliteError> {
        self.stop(group, false)?;
        let Some(next) = self.next(group)? else {
            group
                .prepare("DELETE FROM lanes WHERE source = ?1 AND contact = ?2")?
                .execute([&self.source, &self.contact])?;
            return Ok(false);
        };
        self.lead(group, next)?;
        // An event in its first run has waited since it was received, and should not wait as long
        // again.
        group
            .prepare(
                "UPDATE events SET due_at = CASE WHEN run = 1 THEN received_at
                                                 ELSE coalesce(?2, received_at) END
                 WHERE id = ?1",
            )?
            .execute(params![next, now])?;
        Ok(true)
    }
}

/// Event `id` has been processed or given up. Returns whether another event became due.
pub(crate) fn end(
    group: &mut WriteBatch<'_>,
    id: i64,
    given_up: bool,
    at: Timestamp,
) -> Result<bool, SqliteError> {
    let order = group.order()?;
    if !order.is_kept() {
        return Ok(false);
    }
    match ContactQueue::of(group, id)? {
        Found::Busy(queue) if queue.head == id => {
            if given_up && order.stops() {
                queue.stop(group, true)?;
                return Ok(false);
            }
            queue.unblock_next(group, Some(micros(at)))
        }
        // The event was already running when keeping the order began.
        _ => Ok(false),
    }
}

/// Event `id` is not unfinished any more and stops no contact, whatever its place was. Makes the next event
/// due where it was the head.
pub(crate) fn leave(group: &mut WriteBatch<'_>, id: i64, at: Timestamp) -> Result<(), SqliteError> {
    if !group.order()?.is_kept() {
        return Ok(());
    }
    let Found::Busy(queue) = ContactQueue::of(group, id)? else { return Ok(()) };
    if queue.head == id {
        queue.unblock_next(group, Some(micros(at)))?;
        return Ok(());
    }
    let left = group
        .prepare("DELETE FROM waiting WHERE source = ?1 AND contact = ?2 AND event = ?3")?
        .execute(params![queue.source, queue.contact, id])?;
    group.waiting -= i64::try_from(left).unwrap_or_default();
    Ok(())
}

/// Whether event `id` may run now, at the head of its contact's queue.
pub(crate) fn admit(group: &mut WriteBatch<'_>, id: i64) -> Result<bool, SqliteError> {
    if !group.order()?.is_kept() {
        return Ok(true);
    }
    match ContactQueue::of(group, id)? {
        Found::NoContact => {}
        Found::Idle { source, contact } => open(group, &source, &contact, id)?,
        Found::Busy(queue) if queue.head == id => queue.stop(group, false)?,
        Found::Busy(_) => return Ok(false),
    }
    Ok(true)
}

/// Puts event `id`, which is pending again, into its queue. Returns whether it is due now.
pub(crate) fn enter(group: &mut WriteBatch<'_>, id: i64) -> Result<bool, SqliteError> {
    if admit(group, id)? {
        return Ok(true);
    }
    let Found::Busy(queue) = ContactQueue::of(group, id)? else { return Ok(true) };
    let displaced = match queue.head > id {
        true => hold_back(group, queue.head)?,
        false => false,
    };
    if displaced {
        wait(group, &queue.source, &queue.contact, queue.head)?;
        queue.lead(group, id)?;
    } else {
        wait(group, &queue.source, &queue.contact, id)?;
    }
    Ok(displaced)
}

/// Makes an event wait if no attempt at it has begun. Returns whether that was so.
fn hold_back(group: &WriteBatch<'_>, id: i64) -> Result<bool, SqliteError> {
    let changed = group
        .prepare(
            "UPDATE events SET due_at = NULL WHERE id = ?1 AND state = 'pending' AND attempt = 0",
        )?
        .execute([id])?;
    Ok(changed == 1)
}

/// The order that the file says is kept.
pub(crate) fn order(connection: &Connection) -> Result<EventOrder, SqliteError> {
    let stored: Option<String> = connection
        .prepare_cached("SELECT event_order FROM settings WHERE id = 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let order = stored.map_or(Ok(EventOrder::default()), |order| order.parse());
    order.map_err(|error| unreadable("the order of events", error))
}

/// Writes the order that the options ask for into the file. Keeps it from now on.
pub(crate) fn agree(
    connection: &mut Connection,
    options: &SqliteOptions,
) -> Result<(), SqliteError> {
    let Some(wanted) = options.order else { return Ok(()) };
    if order(connection)? == wanted {
        return Ok(());
    }
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match (order(&change)?, wanted) {
        (EventOrder::Any, EventOrder::Any) => {}
        (EventOrder::Any, EventOrder::PerContact(_)) => begin(&change)?,
        (EventOrder::PerContact(_), EventOrder::Any) => cease(&change)?,
        // Stopped contacts go on; there are none if stopping begins.
        (EventOrder::PerContact(_), EventOrder::PerContact(_)) => {
            let mut group = WriteBatch::new(&change);
            for head in stopped(&change)? {
                if let Found::Busy(queue) = ContactQueue::of(&group, head)? {
                    queue.unblock_next(&mut group, None)?;
                }
            }
            group.finish()?;
        }
    }
    change.execute(
        "INSERT OR REPLACE INTO settings (id, event_order) VALUES (1, ?1)",
        [wanted.as_str()],
    )?;
    Ok(change.commit()?)
}

/// Makes one unfinished event of each contact the head: one that is running, or one that was begun,
/// or the earliest. Other events that are running end without the order.
fn begin(connection: &Connection) -> Result<(), SqliteError> {
    connection.execute_batch(&format!(
        "INSERT INTO waiting (source, contact, event)
         SELECT source, {CONTACT}, id FROM events
         WHERE due_at IS NOT NULL AND {CONTACT} IS NOT NULL;

         INSERT INTO lanes (source, contact, head, stopped)
         SELECT waiting.source, contact,
                coalesce(min(CASE WHEN state = 'processing' THEN event END),
                         min(CASE WHEN attempt > 0 THEN event END), min(event)), 0
         FROM waiting JOIN events ON events.id = event
         GROUP BY waiting.source, contact;

         DELETE FROM waiting
         WHERE event = (SELECT head FROM lanes WHERE lanes.source = waiting.source
                                                 AND lanes.contact = waiting.contact)
            OR (SELECT state FROM events WHERE id = event) = 'processing';

         UPDATE events SET due_at = NULL WHERE id IN (SELECT event FROM waiting);

         INSERT INTO tallies (dimension, name, count)
         SELECT 'lane', 'waiting', count(*) FROM waiting;"
    ))?;
    Ok(())
}

/// Makes all waiting events due.
fn cease(connection: &Connection) -> Result<(), SqliteError> {
    connection.execute_batch(
        "UPDATE events SET due_at = received_at WHERE id IN (SELECT event FROM waiting);
         DELETE FROM waiting;
         DELETE FROM lanes;
         DELETE FROM tallies WHERE dimension = 'lane';",
    )?;
    Ok(())
}

fn stopped(connection: &Connection) -> Result<Vec<i64>, SqliteError> {
    let mut select = connection.prepare("SELECT head FROM lanes WHERE stopped")?;
    let heads = select.query_map([], |row| row.get(0))?;
    Ok(heads.collect::<Result<_, _>>()?)
}
