//! The breaker between a source's workers and its CRM.
//!
//! ```text
//!            a look-up fails, and may pass                a probe fails
//!  closed ───────────────────────────────▶ open ◀─────────────────────── probing
//!    ▲                                       │      one attempt at a time    ▲
//!    │                                       └───────────────────────────────┘
//!    └──────────────────── the CRM answers, to any look-up ──────────────────┘
//! ```
//!
//! While a CRM is down, each event's attempt would fail the same way, and after a few of them all that
//! arrived meanwhile would be dead letters. So a failure that may pass opens the breaker: workers begin
//! one attempt at a time, as a probe, and what fails while it is open does not count as an attempt.
//!
//! One event whose look-up always fails, although the CRM answers for others, must not hold the others
//! up: the failure that opens the breaker counts, unless it says that the whole CRM is out of reach. So
//! such an event runs out of attempts, as without a breaker.
//!
//! It keeps no clock and no lock beyond a call: the worker tells it the time.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::event::Timestamp;

/// The wait before the first probe; it doubles with each probe that fails.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Probes are no further apart, unless the CRM asks for a longer wait: a CRM that works again is used
/// again within seconds, and a request every few seconds is no load.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Breaker {
    state: Mutex<State>,
    /// No wait is longer, whatever the CRM asks for.
    max_wait: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        next_probe: Timestamp,
        wait: Duration,
    },
    /// Until the probe's outcome is known, or it is taken for lost.
    Probing {
        until: Timestamp,
        wait: Duration,
    },
}

/// How many attempts may be begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As many as there is room for.
    All,
    /// One, as a probe.
    Probe,
    /// None before this time.
    NotBefore(Timestamp),
}

/// What a failed look-up means for its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tripped {
    /// Whether the failure counts as an attempt of its event.
    pub(crate) counts: bool,
    /// When the next probe is due.
    pub(crate) next_probe: Timestamp,
    /// Whether the breaker was closed before.
    pub(crate) opened: bool,
}

impl Breaker {
    /// A closed breaker whose waits are at most `max_wait`.
    pub(crate) fn new(max_wait: Duration) -> Self {
        Self { state: Mutex::new(State::Closed), max_wait }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A state is one value: nothing is ever half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether attempts are held back.
    pub(crate) fn is_open(&self) -> bool {
        *self.state() != State::Closed
    }

    /// How many attempts may be begun at `now`.
    pub(crate) fn admission(&self, now: Timestamp) -> Admission {
        match *self.state() {
            State::Closed => Admission::All,
            State::Open { next_probe: at, .. } | State::Probing { until: at, .. } if at > now => {
                Admission::NotBefore(at)
            }
            State::Open { .. } | State::Probing { .. } => Admission::Probe,
        }
    }

    /// An attempt begins at `now` that ends by `until`. If the breaker is open, it is the probe.
    pub(crate) fn begin(&self, until: Timestamp) {
        let mut state = self.state();
        if let State::Open { wait, .. } | State::Probing { wait, .. } = *state {
            *state = State::Probing { until, wait };
        }
    }

    /// The CRM has answered. Whether the breaker was open before.
    pub(crate) fn answered(&self) -> bool {
        std::mem::replace(&mut *self.state(), State::Closed) != State::Closed
    }

    /// An attempt ended without asking the CRM: if it was the probe, the next one may begin.
    pub(crate) fn not_asked(&self, now: Timestamp) {
        let mut state = self.state();
        if let State::Probing { wait, .. } = *state {
            *state = State::Open { next_probe: now, wait };
        }
    }

    /// A look-up failed at `now` in a way that may pass. `of_service`: it says that the whole CRM is out
    /// of reach. `asked`: the wait that the CRM asked for.
    pub(crate) fn failed(
        &self,
        now: Timestamp,
        of_service: bool,
        asked: Option<Duration>,
    ) -> Tripped {
        let mut state = self.state();
        let (opened, wait) = match *state {
            State::Closed => (true, FIRST_WAIT),
            // Attempts that were in flight when the breaker opened.
            State::Open { wait, .. } => (false, wait),
            State::Probing { wait, .. } => (false, wait.saturating_mul(2).min(LONGEST_WAIT)),
        };
        let pause = wait.max(asked.unwrap_or_default()).min(self.max_wait);
        let earliest = match *state {
            State::Open { next_probe, .. } => next_probe,
            _ => Timestamp::MIN_UTC,
        };
        let next_probe = (now + pause).max(earliest);
        *state = State::Open { next_probe, wait };
        Tripped { counts: opened && !of_service, next_probe, opened }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn breaker() -> Breaker {
        Breaker::new(Duration::from_secs(3600))
    }

    #[test]
    fn one_probe_at_a_time_until_the_crm_answers() {
        let breaker = breaker();
        assert_eq!(breaker.admission(at(0)), Admission::All);
        let tripped = breaker.failed(at(0), true, None);
        assert_eq!(tripped, Tripped { counts: false, next_probe: at(1), opened: true });
        assert_eq!(breaker.admission(at(0)), Admission::NotBefore(at(1)));
        assert_eq!(breaker.admission(at(1)), Admission::Probe);
        breaker.begin(at(100));
        assert_eq!(breaker.admission(at(2)), Admission::NotBefore(at(100)));
        assert!(breaker.is_open() && breaker.answered() && !breaker.is_open());
        assert_eq!(breaker.admission(at(2)), Admission::All);
        assert!(!breaker.answered());
    }

    #[test]
    fn probes_are_seconds_apart_however_long_it_lasts() {
        let breaker = breaker();
        let mut now = breaker.failed(at(0), true, None).next_probe;
        let mut waits = Vec::new();
        for _ in 0..5 {
            breaker.begin(now + Duration::from_secs(10));
            let next = breaker.failed(now, true, None).next_probe;
            waits.push((next - now).num_seconds());
            now = next;
        }
        assert_eq!(waits, [2, 4, 5, 5, 5]);
        let patient = breaker.failed(now, true, Some(Duration::from_secs(90))).next_probe;
        assert_eq!(patient, now + Duration::from_secs(90), "what the CRM asks for counts");
        let short = Breaker::new(Duration::from_millis(200));
        let tripped = short.failed(at(0), true, Some(Duration::from_secs(90)));
        assert_eq!(tripped.next_probe, at(0) + Duration::from_millis(200), "up to the maximum");
    }

    #[test]
    fn only_the_failure_of_one_event_that_opens_it_counts() {
        let breaker = breaker();
        assert!(breaker.failed(at(0), false, None).counts);
        assert!(!breaker.failed(at(0), false, None).counts, "in flight with it");
        breaker.begin(at(9));
        assert!(!breaker.failed(at(1), false, None).counts, "a probe");
        breaker.answered();
        assert!(!breaker.failed(at(2), true, None).counts, "the whole CRM");
        breaker.answered();
        assert!(
            breaker.failed(at(3), false, None).counts,
            "others are answered: it is the event's"
        );
    }

    #[test]
    fn a_probe_that_asks_nothing_or_is_lost_makes_room_for_the_next() {
        let breaker = breaker();
        breaker.failed(at(0), true, None);
        breaker.begin(at(50));
        breaker.not_asked(at(2));
        assert_eq!(breaker.admission(at(2)), Admission::Probe);
        breaker.begin(at(50));
        assert_eq!(breaker.admission(at(50)), Admission::Probe);
    }
}
