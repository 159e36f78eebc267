//! The webhook route: the body, whole and in time, then the pipeline.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use bytes::{Bytes, BytesMut};
use cognigy_core::{Clock, Intake, RawDelivery, Reply, StoreErrorKind};
use futures_util::StreamExt;

use super::{Shared, answer};
use crate::sources::Source;

/// A body has to be there this long after its head. The contract's number.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// The least memory for bodies that are being received, however small one may be; all sources
/// share it.
const MIN_BODY_BUDGET: usize = 32 * 1024 * 1024;

/// Takes a delivery in.
pub(super) async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    app: Shared,
    source: web::Data<Source>,
) -> HttpResponse {
    let started = Instant::now();
    let intake = match take_in(&request, payload, &app, &source).await {
        Ok(intake) | Err(intake) => intake,
    };
    source.telemetry.delivery(&intake, started.elapsed());
    answer(&Reply::from(&intake))
}

/// Reads the body and hands it to the pipeline; `Err` for what is refused before.
async fn take_in(
    request: &HttpRequest,
    payload: web::Payload,
    app: &Shared,
    source: &Source,
) -> Result<Intake, Intake> {
    let _place = source.places.reserve(1)?;
    // The reservation lasts until the event is stored: until then its body is in memory.
    let (body, _reservation) = read_body(request, payload, source).await?;
    let raw = RawDelivery::new(request.headers(), body);
    Ok(source.pipeline.receive(raw, app.clock.now()).await)
}

async fn read_body(
    request: &HttpRequest,
    payload: web::Payload,
    source: &Source,
) -> Result<(Bytes, Reservation), Intake> {
    if let Some(refused) = source.pipeline.refuse_by_head(request.headers()) {
        return Err(refused);
    }
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > source.max_body_bytes) {
        return Err(Intake::TooLarge);
    }
    let mut reservation = source.bodies.reserve(announced.unwrap_or(0))?;
    let body = collect(payload, source.max_body_bytes, &mut reservation);
    let body = tokio::time::timeout(BODY_DEADLINE, body).await.map_err(|_| Intake::TimedOut)??;
    Ok((body, reservation))
}

async fn collect(
    mut payload: web::Payload,
    limit: usize,
    reservation: &mut Reservation,
) -> Result<Bytes, Intake> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| Intake::Malformed)?;
        length += chunk.len();
        // Counted as it comes: a chunked body has no length to trust.
        if length > limit {
            return Err(Intake::TooLarge);
        }
        reservation.grow_to(length)?;
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
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// What deliveries of one source may take up together: places, or memory for bodies that are being
/// received. When it is used up, senders are told to come back instead of taking the process down.
#[derive(Clone)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl Budget {
    /// So much at most.
    pub(crate) fn of(limit: usize) -> Self {
        Self { used: Arc::new(AtomicUsize::new(0)), limit }
    }

    /// Memory in bytes for one of so many sources: a few dozen bodies of the largest size, or
    /// thousands of usual ones.
    pub(crate) fn for_bodies_of(max_body_bytes: usize, sources: usize) -> Self {
        Self::of(max_body_bytes.saturating_mul(8).max(MIN_BODY_BUDGET / sources.max(1)))
    }

    fn reserve(&self, amount: usize) -> Result<Reservation, Intake> {
        let mut reservation = Reservation { budget: self.clone(), amount: 0 };
        reservation.grow_to(amount)?;
        Ok(reservation)
    }
}

/// A part of the budget, given back when dropped.
struct Reservation {
    budget: Budget,
    amount: usize,
}

impl Reservation {
    fn grow_to(&mut self, amount: usize) -> Result<(), Intake> {
        let more = amount.saturating_sub(self.amount);
        let used = self.budget.used.fetch_add(more, Ordering::Relaxed) + more;
        self.amount += more;
        if used > self.budget.limit {
            return Err(Intake::Unavailable(StoreErrorKind::Overloaded));
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_budget_refuses_and_recovers() {
        let budget = Budget::for_bodies_of(1, 1);
        let mut first = budget.reserve(MIN_BODY_BUDGET).unwrap_or_else(|_| panic!("it is empty"));
        assert!(first.grow_to(10).is_ok(), "what is reserved is not counted twice");
        assert!(budget.reserve(1).is_err());
        drop(first);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0, "refused reservations are given back");
        assert!(budget.reserve(MIN_BODY_BUDGET).is_ok());
        let one_of_four = Budget::for_bodies_of(1, 4);
        assert!(one_of_four.reserve(MIN_BODY_BUDGET / 4).is_ok());
        assert!(one_of_four.reserve(MIN_BODY_BUDGET / 4 + 1).is_err());
    }
}
