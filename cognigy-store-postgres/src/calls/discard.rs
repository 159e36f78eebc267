//! Drops dead letters.

use cognigy_core::{Discarded, EventKey, Timestamp};
use deadpool_postgres::{Object, Transaction};

use crate::{
    calls::{contact_queue, replay},
    error::PostgresError,
    row::read,
};

pub(crate) async fn discard(
    connection: &mut Object,
    keys: &[EventKey],
    now: Option<Timestamp>,
) -> Result<Vec<Discarded>, PostgresError> {
    let transaction = connection.transaction().await?;
    let known = replay::find_all(&transaction, keys).await?;
    let handles: Vec<i64> = known.iter().flatten().map(|known| known.handle).collect();
    let lanes = contact_queue::lock_stopped_by(&transaction, &handles).await?;
    let mut discarded = drop_letters(&transaction, &handles).await?;
    contact_queue::leave(&transaction, &discarded, lanes, 0, now).await?;
    transaction.commit().await?;
    let answer = |known: &Option<replay::Known>| {
        let Some(known) = known else { return Discarded::NotFound };
        // A key that was named twice changes once.
        match discarded.iter().position(|event| *event == known.handle) {
            Some(place) => {
                discarded.swap_remove(place);
                Discarded::Done
            }
            None => Discarded::NotDeadLettered,
        }
    };
    Ok(known.iter().map(answer).collect())
}

/// Returns the events that were discarded.
async fn drop_letters(
    transaction: &Transaction<'_>,
    handles: &[i64],
) -> Result<Vec<i64>, PostgresError> {
    // In the order in which the end of a dead letter locks them: letter, event. What is in the queue is
    // 'pending' here.
    let letters = "SELECT id FROM cognigy_outbox WHERE event = ANY ($1) ORDER BY id FOR UPDATE";
    transaction.query(letters, &[&handles]).await?;
    let rows = transaction
        .query(
            "SELECT id, state FROM cognigy_events
             WHERE id = ANY ($1) AND state IN ('dead_lettering', 'dead_lettered')
             ORDER BY id FOR UPDATE",
            &[&handles],
        )
        .await?;
    let (mut discarded, mut states) = (Vec::<i64>::new(), Vec::new());
    for row in &rows {
        discarded.push(read(row, "id")?);
        states.push(read::<&str>(row, "state")?);
    }
    transaction
        .execute("UPDATE cognigy_events SET state = 'discarded' WHERE id = ANY ($1)", &[&discarded])
        .await?;
    // What was not sent stays as history, with neither a due time nor a time of sending.
    transaction
        .execute(
            "UPDATE cognigy_outbox SET due_at = NULL WHERE event = ANY ($1) AND due_at IS NOT NULL",
            &[&discarded],
        )
        .await?;
    replay::tally(transaction, &states, &vec!["discarded"; states.len()]).await?;
    Ok(discarded)
}
