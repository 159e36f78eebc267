//! Slows down guesses of the operator token: the more wrong tokens an address has sent lately, the
//! longer each answer to it takes.
//!
//! A right token is answered at once. Only the answer to a wrong token waits, and its connection
//! ends then. The number of waiting answers is bounded. Beyond the bound answers do not wait, and
//! each guess still costs a connection.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cognigy_service::admission::{UNKNOWN, group};

/// So many wrong tokens count as a mistake: a script with an old token, or a person who tries a few
/// times.
const FREE: f64 = 20.0;
/// How much each further wrong token adds to the delay, …
const STEP: Duration = Duration::from_millis(10);
/// … up to this.
const LONGEST: Duration = Duration::from_millis(500);
/// How many wrong tokens are forgotten in a second.
const FORGOTTEN_PER_SECOND: f64 = 1.0;
/// How many answers to one address may wait at a time, and how many to all.
const WAITING: usize = 16;
const ALL_WAITING: usize = 256;
/// How many addresses are remembered. All others count as one.
const MOST_ADDRESSES: usize = 1024;

/// The addresses that have sent wrong tokens lately.
#[derive(Default)]
pub(super) struct Guard(Mutex<Table>);

#[derive(Default)]
struct Table {
    addresses: HashMap<IpAddr, Failures>,
    waiting: usize,
}

struct Failures {
    count: f64,
    last: Instant,
    waiting: usize,
}

/// The wait before one answer.
pub(super) struct Pause {
    guard: Arc<Guard>,
    address: IpAddr,
    time: Duration,
}

impl Guard {
    /// A wrong token came from `address`. Yields the wait before its answer, if any.
    pub(super) fn wrong(self: &Arc<Self>, address: IpAddr) -> Option<Pause> {
        let mut table = self.table();
        if table.addresses.len() >= MOST_ADDRESSES {
            table.addresses.retain(|_, it| it.waiting > 0 || it.left() >= 1.0);
        }
        let mut address = group(address);
        if table.addresses.len() >= MOST_ADDRESSES && !table.addresses.contains_key(&address) {
            address = UNKNOWN;
        }
        let all_waiting = table.waiting;
        let new = || Failures { count: 0.0, last: Instant::now(), waiting: 0 };
        let failures = table.addresses.entry(address).or_insert_with(new);
        failures.count = failures.left() + 1.0;
        failures.last = Instant::now();
        let time = STEP.mul_f64((failures.count - FREE).max(0.0)).min(LONGEST);
        if time < STEP || failures.waiting >= WAITING || all_waiting >= ALL_WAITING {
            return None;
        }
        failures.waiting += 1;
        table.waiting += 1;
        Some(Pause { guard: Arc::clone(self), address, time })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failures {
    fn left(&self) -> f64 {
        (self.count - self.last.elapsed().as_secs_f64() * FORGOTTEN_PER_SECOND).max(0.0)
    }
}

impl Pause {
    /// Waits until the time is over.
    pub(super) async fn over(self) {
        tokio::time::sleep(self.time).await;
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        let mut table = self.guard.table();
        table.waiting -= 1;
        if let Some(failures) = table.addresses.get_mut(&self.address) {
            failures.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_take_longer_for_the_address_that_guesses_and_for_no_other() {
        let guard = Arc::new(Guard::default());
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let delays: Vec<_> =
            (0..100).map(|_| guard.wrong(address(1)).map(|pause| pause.time)).collect();
        assert!(delays[..19].iter().all(Option::is_none), "a few are a mistake");
        assert!(delays[25] > delays[22] && delays[22].is_some(), "{delays:?}");
        assert_eq!(delays[99], Some(LONGEST));
        assert!(guard.wrong(address(2)).is_none());
        let waiting: Vec<_> = (0..100).filter_map(|_| guard.wrong(address(1))).collect();
        assert_eq!(waiting.len(), WAITING, "no more wait at once");
        drop(waiting);
        assert_eq!(guard.table().waiting, 0);
        assert!(guard.wrong(address(1)).is_some());
    }

    #[test]
    fn addresses_without_number_take_no_memory_without_number() {
        let guard = Arc::new(Guard::default());
        for number in 0..5_000_u32 {
            drop(guard.wrong(IpAddr::from(number.to_be_bytes())));
        }
        assert!(guard.table().addresses.len() <= MOST_ADDRESSES + 1);
    }
}
