//! What the deliveries of one source may use together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cognigy_core::{Intake, StoreErrorKind};

use super::UsedUp;

/// What the deliveries of one source may use together: slots, or memory for bodies that are being
/// received. When it is used up, the next delivery is refused with 503, so that a flood does not take
/// the process down.
#[derive(Clone)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` slots, or of `limit` bytes.
    pub(crate) fn of(limit: usize) -> Self {
        Self { used: Arc::new(AtomicUsize::new(0)), limit }
    }

    /// How much of it is used now.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn reserve(&self, amount: usize) -> Result<Reservation, Intake> {
        let mut reservation = Reservation { budget: self.clone(), amount: 0 };
        reservation.grow_to(amount)?;
        Ok(reservation)
    }
}

/// A part of a budget. It is given back when dropped.
pub(crate) struct Reservation {
    budget: Budget,
    amount: usize,
}

impl Reservation {
    pub(crate) fn grow_to(&mut self, amount: usize) -> Result<(), Intake> {
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

impl From<UsedUp> for Intake {
    fn from(_: UsedUp) -> Self {
        Self::Unavailable(StoreErrorKind::Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_budget_refuses_and_recovers() {
        let budget = Budget::of(1000);
        let mut first = budget.reserve(1000).unwrap_or_else(|_| panic!("it is empty"));
        assert!(first.grow_to(10).is_ok(), "what is reserved is not counted twice");
        assert!(budget.reserve(1).is_err());
        drop(first);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0, "refused reservations are given back");
        assert!(budget.reserve(1000).is_ok());
    }
}
