//! Reading the bodies of deliveries: how long a body may take, and how long it may be.

use std::{net::IpAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use cognigy_core::Intake;
use futures_util::{FutureExt, Stream, StreamExt, pin_mut};
use tokio::time::Instant;

use crate::admission::{Bodies, Reservation, Unfinished};

/// A body has to be complete within this time after its head. The number is the contract's.
const DEADLINE: Duration = Duration::from_secs(10);
/// A body of more bytes than this, announced or received, has to come at the least rate too. A
/// smaller body may use the whole deadline, since it holds little memory.
const SMALL: usize = 16 * 1024;
/// The least rate, in bytes a second on average. Any sender that could finish a body of the largest
/// size within the deadline is six times as fast.
const LEAST_RATE: f64 = 16.0 * 1024.0;
/// The least rate applies from this time after the head on.
const GRACE: Duration = Duration::from_secs(2);

/// Reads the whole body, whose head `announced` that many bytes. Yields the body and its memory,
/// which the caller holds for as long as it holds the body.
pub(crate) async fn read<E>(
    bodies: &Bodies,
    payload: impl Stream<Item = Result<Bytes, E>>,
    announced: Option<usize>,
    sender: IpAddr,
) -> Result<(Bytes, Reservation), Intake> {
    if announced.is_some_and(|length| length > bodies.longest) {
        return Err(Intake::TooLarge);
    }
    pin_mut!(payload);
    let started = Instant::now();
    let limit = bodies.longest;
    let mut memory = bodies.memory()?;
    let mut waiting: Option<Unfinished> = None;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0;
    loop {
        // Most bodies arrive with their heads and need no wait.
        let next = match payload.next().now_or_never() {
            Some(next) => next,
            None => {
                let waiting = match &mut waiting {
                    Some(waiting) => waiting,
                    None => waiting.insert(bodies.unfinished(sender)?),
                };
                waiting.memory.grow_to(length)?;
                let deadline = started + allowed(length, announced);
                let next = tokio::time::timeout_at(deadline, payload.next()).await;
                next.map_err(|_| Intake::TimedOut)?
            }
        };
        let Some(chunk) = next else { break };
        let chunk = chunk.map_err(|_| Intake::Malformed)?;
        length += chunk.len();
        // Counted as it arrives: a chunked body has no announced length.
        if length > limit {
            return Err(Intake::TooLarge);
        }
        memory.grow_to(length)?;
        if first.is_empty() {
            // Most bodies arrive in one piece and need no copy.
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&chunk);
        }
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, memory))
}

/// The latest time after the head for the next bytes of a body, of which `length` bytes have
/// arrived.
fn allowed(length: usize, announced: Option<usize>) -> Duration {
    if length.max(announced.unwrap_or(0)) <= SMALL {
        return DEADLINE;
    }
    // A double holds the length of any body exactly.
    #[allow(clippy::cast_precision_loss)]
    let at_the_least_rate = Duration::from_secs_f64(length as f64 / LEAST_RATE);
    (GRACE + at_the_least_rate).min(DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_bodies_have_to_hurry() {
        let seconds = |length, announced| allowed(length, announced).as_secs();
        assert_eq!(seconds(0, None), 10);
        assert_eq!(seconds(100, Some(SMALL)), 10);
        assert_eq!(seconds(100, Some(SMALL + 1)), 2, "it announces much and sends nothing");
        assert_eq!(seconds(4 * 16 * 1024, None), 6);
        assert_eq!(seconds(1024 * 1024, Some(1024 * 1024)), 10);
    }
}
