//! Log lines about refused requests. A flood of requests does not raise their number.
//!
//! The first refusal for a reason and an address is logged in full. The next ones are counted, and
//! the counts are logged every few seconds. At `debug` every refusal is logged.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::admission::group;

/// How often counts are logged.
const INTERVAL: Duration = Duration::from_secs(5);
/// After this long without a refusal, the next one is logged in full again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// How many pairs of a reason and an address are remembered, of some 100 bytes each. Further
/// refusals are counted by their reason only.
const MOST_PAIRS: usize = 1024;
/// How many refusals are logged in full within one interval, whatever the number of addresses.
const MOST_IN_FULL: usize = 50;
/// How many counts are logged at once, the largest first. The others are summed up by reason.
const MOST_COUNTS: usize = 10;

/// The refusals of the last minute.
///
/// ```
/// use cognigy_service::Refusals;
///
/// let refusals = Refusals::default();
/// let peer = "203.0.113.9".parse()?;
/// assert!(refusals.first("unsigned", peer)); // a line at `warn`
/// assert!(!refusals.first("unsigned", peer)); // counted
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    pairs: HashMap<(String, IpAddr), Pair>,
    /// The counts by reason, of addresses that are not remembered.
    others: HashMap<String, u64>,
    in_full: usize,
    /// When counts were logged last.
    reported: Option<Instant>,
}

#[derive(Debug)]
struct Pair {
    /// Refusals since the last line about this pair.
    more: u64,
    last: Instant,
}

/// A line about refusals that were not logged in full.
#[derive(Debug, PartialEq, Eq)]
struct Count {
    reason: String,
    /// None: several addresses.
    peer: Option<IpAddr>,
    count: u64,
}

impl Refusals {
    /// Counts a refusal. Yields whether it is to be logged in full. `reason` is one of a few fixed
    /// texts.
    pub fn first(&self, reason: &str, peer: IpAddr) -> bool {
        let mut table = self.table();
        let peer = group(peer);
        if let Some(pair) = table.pairs.get_mut(&(reason.to_owned(), peer)) {
            pair.more += 1;
            pair.last = Instant::now();
            return false;
        }
        if table.pairs.len() >= MOST_PAIRS || table.in_full >= MOST_IN_FULL {
            *table.others.entry(reason.to_owned()).or_default() += 1;
            return false;
        }
        table.in_full += 1;
        table.pairs.insert((reason.to_owned(), peer), Pair { more: 0, last: Instant::now() });
        true
    }

    /// Logs counts for as long as the server runs.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.report();
        }
    }

    /// Logs counts if the last time is long enough ago: for an observer without a task of its own, at each
    /// refusal.
    pub(crate) fn report_if_due(&self) {
        let reported = *self.table().reported.get_or_insert_with(Instant::now);
        if reported.elapsed() >= INTERVAL {
            self.report();
        }
    }

    /// Logs what was refused since the last report.
    pub fn report(&self) {
        for Count { reason, peer, count } in self.counts() {
            match peer {
                Some(peer) => tracing::warn!(reason, %peer, count, "refused again"),
                None => tracing::warn!(reason, count, "refused again, from other addresses"),
            }
        }
    }

    fn counts(&self) -> Vec<Count> {
        let mut table = self.table();
        table.in_full = 0;
        table.reported = Some(Instant::now());
        let mut others = std::mem::take(&mut table.others);
        let mut counts = Vec::new();
        for ((reason, peer), pair) in &mut table.pairs {
            if pair.more > 0 {
                let (reason, peer) = (reason.clone(), Some(*peer));
                counts.push(Count { reason, peer, count: std::mem::take(&mut pair.more) });
            }
        }
        table.pairs.retain(|_, pair| pair.last.elapsed() < FORGOTTEN_AFTER);
        counts.sort_by_key(|it| std::cmp::Reverse(it.count));
        for Count { reason, count, .. } in counts.drain(MOST_COUNTS.min(counts.len())..) {
            *others.entry(reason).or_default() += count;
        }
        let others = others.into_iter();
        counts.extend(others.map(|(reason, count)| Count { reason, peer: None, count }));
        counts
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn the_first_of_each_is_told_in_full_and_the_rest_as_a_count() {
        let refusals = Refusals::default();
        assert!(refusals.first("not signed", peer(1)));
        for _ in 0..7 {
            assert!(!refusals.first("not signed", peer(1)));
        }
        assert!(refusals.first("not signed", peer(2)), "another address");
        assert!(refusals.first("too large", peer(1)), "another reason");
        let count = |count| Count { reason: "not signed".into(), peer: Some(peer(1)), count };
        assert_eq!(refusals.counts(), [count(7)]);
        assert_eq!(refusals.counts(), [], "each is counted once");
        assert!(!refusals.first("not signed", peer(1)), "it is still known");
        assert_eq!(refusals.counts(), [count(1)]);
    }

    #[test]
    fn addresses_without_number_make_no_lines_and_no_memory_without_number() {
        let refusals = Refusals::default();
        let in_full = (0..100_000).filter(|number| refusals.first("not signed", peer(*number)));
        assert_eq!(in_full.count(), MOST_IN_FULL);
        let counts = refusals.counts();
        assert_eq!(counts.len(), 1, "{counts:?}");
        let expected = u64::try_from(100_000 - MOST_IN_FULL).unwrap();
        assert_eq!((counts[0].peer, counts[0].count), (None, expected));
        // Later addresses fill the table, up to its limit.
        for round in 0..100 {
            for number in 0..100 {
                refusals.first("not signed", peer(1_000_000 + round * 100 + number));
            }
            refusals.counts();
        }
        assert_eq!(refusals.table().pairs.len(), MOST_PAIRS);
        for number in 0..50 {
            for _ in 0..=number {
                refusals.first("not signed", peer(number));
            }
        }
        let counts = refusals.counts();
        assert_eq!(counts.len(), MOST_COUNTS + 1, "{counts:?}");
        assert_eq!(counts[0].count, 50);
    }
}
