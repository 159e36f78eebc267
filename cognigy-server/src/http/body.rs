//! Reading the bodies of deliveries: how long a body may take, and how long it may be.

use std::{net::IpAddr, time::Duration};

use actix_web::web;
use bytes::{Bytes, BytesMut};
use cognigy_core::Intake;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::admission::{Bodies, Reservation, Unfinished};

/// A body has to be there this long after its head. The contract's number.
const DEADLINE: Duration = Duration::from_secs(10);
/// A body of more bytes than this, announced or received, has to come at the least rate too. A
/// smaller one may use the whole deadline: it holds next to nothing.
const SMALL: usize = 16 * 1024;
/// The least rate, in bytes a second on average. Any sender that could finish a body of the largest
/// size within the deadline is six times as fast.
const LEAST_RATE: f64 = 16.0 * 1024.0;
/// The rate is asked for from this time on.
const GRACE: Duration = Duration::from_secs(2);
/// Reads the whole body, whose head `announced` that many bytes. Yields the body and its memory, which
/// is to be held for as long as the body is.
pub(super) async fn read(
    bodies: &Bodies,
    mut payload: web::Payload,
    announced: Option<usize>,
    sender: IpAddr,
) -> Result<(Bytes, Reservation), Intake> {
    if announced.is_some_and(|length| length > bodies.longest) {
        return Err(Intake::TooLarge);
    }
    let started = Instant::now();
    let limit = bodies.longest;
    let mut memory = bodies.memory()?;
    let mut waiting: Option<Unfinished> = None;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0;
    loop {
        // Most bodies are there with their heads and wait for nothing.
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
        // Counted as it comes: a chunked body has no length to trust.
        if length > limit {
            return Err(Intake::TooLarge);
        }
        memory.grow_to(length)?;
        if first.is_empty() {
            // Most bodies come in one piece, which needs no copy.
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
/// How long after its head a body may go on if nothing is added to its `length` bytes.
fn allowed(length: usize, announced: Option<usize>) -> Duration {
    if length.max(announced.unwrap_or(0)) <= SMALL {
        return DEADLINE;
    }
    // Bodies are far shorter than what a double holds exactly.
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
