//! How many requests go to a CRM in a span of time.

use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// More requests in a span cannot be told apart from no limit, and the limiter remembers each.
const MOST_REQUESTS: u32 = 100_000;

/// A span is made longer by a part of itself, up to a tenth of a second: requests take different
/// times to arrive, and the CRM counts them when they do.
const MARGIN: (u32, Duration) = (20, Duration::from_millis(100));

/// So many requests in any span of this length. Written as in the setting `CRM_RATE_LIMIT`:
/// `100/10s`; the units of time are `ms`, `s`, `m`, `h` and `d`.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_crm_http::RateLimit;
///
/// let limit: RateLimit = "100/10s".parse()?;
/// assert_eq!((limit.requests(), limit.per()), (100, Duration::from_secs(10)));
/// assert!("100".parse::<RateLimit>().is_err());
/// # Ok::<_, cognigy_crm_http::RateLimitError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    requests: u32,
    per: Duration,
}

impl RateLimit {
    /// The most requests in one span: 1 to 100,000.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The length of the span.
    #[must_use]
    pub fn per(&self) -> Duration {
        self.per
    }
}

/// The text is not a [`RateLimit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected requests in a span of time, as in `100/10s`: 1 to 100000 requests, 1ms to 31d")]
pub struct RateLimitError;

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (requests, span) = text.trim().split_once('/').ok_or(RateLimitError)?;
        let requests = number(requests.trim()).and_then(|it| u32::try_from(it).ok());
        let requests = requests.filter(|it| (1..=MOST_REQUESTS).contains(it));
        let span = span.trim();
        let unit_at = span.find(|c: char| !c.is_ascii_digit()).ok_or(RateLimitError)?;
        let (count, unit) = span.split_at(unit_at);
        let unit: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(RateLimitError),
        };
        let millis = number(count).and_then(|count| count.checked_mul(unit));
        let millis = millis.filter(|millis| (1..=31 * 86_400_000).contains(millis));
        match (requests, millis) {
            (Some(requests), Some(millis)) => {
                Ok(Self { requests, per: Duration::from_millis(millis) })
            }
            _ => Err(RateLimitError),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.per.as_millis();
        match millis % 1000 {
            0 => write!(f, "{}/{}s", self.requests, millis / 1000),
            _ => write!(f, "{}/{millis}ms", self.requests),
        }
    }
}

/// Delays requests so that a [`RateLimit`] holds, first come, first served.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: RateLimit,
    /// When the latest requests went out or will go out, oldest first; as many as a span may hold.
    slots: Mutex<VecDeque<Instant>>,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, slots: Mutex::default() }
    }

    pub(crate) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Waits for this request's turn. A caller that gives up while it waits leaves its turn unused.
    ///
    /// # Errors
    /// The wait, where the turn would come after `deadline`. No turn is taken then.
    pub(crate) async fn wait(&self, deadline: Instant) -> Result<(), Duration> {
        let turn = self.take(Instant::now(), deadline)?;
        tokio::time::sleep_until(turn).await;
        Ok(())
    }

    fn take(&self, now: Instant, deadline: Instant) -> Result<Instant, Duration> {
        let RateLimit { requests, per } = self.limit;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = slots.len() >= requests as usize;
        let turn = match slots.front() {
            Some(oldest) if is_full => now.max(*oldest + per + (per / MARGIN.0).min(MARGIN.1)),
            _ => now,
        };
        if turn > deadline {
            return Err(turn - now);
        }
        if is_full {
            slots.pop_front();
        }
        slots.push_back(turn);
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_limit_is_read_as_it_is_written() {
        for (text, requests, millis) in [
            ("100/10s", 100, 10_000),
            ("1/500ms", 1, 500),
            (" 60 / 1m ", 60, 60_000),
            ("5000/1h", 5000, 3_600_000),
            ("100000/1d", 100_000, 86_400_000),
        ] {
            let limit: RateLimit = text.parse().unwrap();
            assert_eq!((limit.requests(), limit.per()), (requests, Duration::from_millis(millis)));
            assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        for text in [
            "",
            "100",
            "100/",
            "/10s",
            "0/10s",
            "100/0s",
            "100/10",
            "100/s",
            "-1/10s",
            "+1/10s",
            "1.5/s",
            "100/10 s",
            "100/10S",
            "100001/1s",
            "1/32d",
            "1/99999999999999999999d",
            "1/1s/1s",
        ] {
            assert_eq!(text.parse::<RateLimit>(), Err(RateLimitError), "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_span_holds_more_requests_than_the_limit() {
        let limiter = Limiter::new("3/1s".parse().unwrap());
        let started = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..10 {
            limiter.wait(started + Duration::from_secs(60)).await.unwrap();
            turns.push(started.elapsed());
        }
        for window in turns.windows(4) {
            assert!(window[3] - window[0] > Duration::from_secs(1), "{turns:?}");
        }
        assert!(turns[2].is_zero() && turns[9] < Duration::from_millis(3300), "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_beyond_the_deadline_is_not_taken() {
        let limiter = Limiter::new("1/1s".parse().unwrap());
        let now = Instant::now();
        limiter.wait(now).await.unwrap();
        let wait = limiter.wait(now + Duration::from_millis(500)).await.unwrap_err();
        assert!(wait > Duration::from_secs(1) && wait < Duration::from_millis(1100), "{wait:?}");
        assert_eq!(now.elapsed(), Duration::ZERO, "it fails at once");
        limiter.wait(now + Duration::from_secs(2)).await.unwrap();
        assert!(now.elapsed() < Duration::from_millis(1100), "no turn was lost");
    }
}
