//! Which segment to make next.

use super::{IndexRequest, SEGMENT_EVENTS};
use crate::event::Timestamp;

/// How a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// A process is making it, or ended while it did.
    Begun,
    /// It describes all of its events, but for those that ran since, if there are such.
    Built {
        /// Whether there are.
        has_late_events: bool,
    },
    /// It describes nothing, because events were purged or erased.
    Dropped,
}

/// What a store knows of a segment without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedSegment {
    /// The ids that it covers.
    pub range: IndexedRange,
    /// How it is.
    pub state: SegmentState,
    /// When making it began.
    pub begun_at: Timestamp,
}

/// Ids of events, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedRange {
    /// The lowest.
    pub first: i64,
    /// The highest.
    pub last: i64,
}

impl IndexedRange {
    fn holds(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    fn len(&self) -> i64 {
        self.last - self.first + 1
    }
}

/// The range whose segment is to be made next, in the place of all segments within it. None if there is
/// nothing to do now.
///
/// `segments` are those that there are, the newest first. They do not overlap. `all` are the ids of events, up
/// to the last one after which only higher ids can come.
#[must_use]
pub fn next_range(
    segments: &[IndexedSegment],
    all: IndexedRange,
    request: &IndexRequest,
) -> Option<IndexedRange> {
    missing(segments, all, request).or_else(|| outdated(segments, request))
}

/// The newest range without a segment, or with several small ones in the place of a large one.
fn missing(
    segments: &[IndexedSegment],
    all: IndexedRange,
    request: &IndexRequest,
) -> Option<IndexedRange> {
    let large = request.large.clamp(1, SEGMENT_EVENTS as i64);
    let small = request.small.clamp(1, large);
    let mut segments = segments;
    let mut first = all.last.div_euclid(large) * large;
    while first + large > all.first {
        let block = IndexedRange { first, last: first + large - 1 };
        let begin = segments.iter().take_while(|it| it.range.first > block.last).count();
        segments = &segments[begin..];
        let within = segments.iter().take_while(|it| it.range.first >= block.first).count();
        let within = &segments[..within];
        if block.last > all.last {
            // It is not full yet.
            let mut parts = (0..=large / small).rev().map(|part| {
                let first = first + part * small;
                IndexedRange { first, last: (first + small - 1).min(block.last) }
            });
            let is_free = |range: &IndexedRange| {
                range.first <= range.last
                    && range.last <= all.last
                    && !within.iter().any(|it| it.range.holds(range))
            };
            if let Some(range) = parts.find(is_free) {
                return Some(range);
            }
        } else if within.iter().all(|it| {
            matches!(it.state, SegmentState::Built { .. }) && it.range.len() < block.len()
        }) {
            return Some(block);
        }
        first -= large;
    }
    None
}

/// A segment that has to be made anew.
fn outdated(segments: &[IndexedSegment], request: &IndexRequest) -> Option<IndexedRange> {
    let is_outdated = |segment: &&IndexedSegment| {
        let rest = match segment.state {
            SegmentState::Begun | SegmentState::Built { has_late_events: true } => request.rest,
            SegmentState::Built { has_late_events: false } => return false,
            SegmentState::Dropped => request.rest_after_removal,
        };
        segment.begun_at + rest <= request.now
    };
    segments.iter().find(is_outdated).map(|segment| segment.range)
}

#[cfg(test)]
mod tests {
    use super::{IndexRequest, IndexedRange, IndexedSegment, SegmentState, next_range};
    use crate::testing::sample;

    const BUILT: SegmentState = SegmentState::Built { has_late_events: false };
    const LATE: SegmentState = SegmentState::Built { has_late_events: true };

    /// Segments of 2 and of 8 ids.
    fn request(seconds: i64) -> IndexRequest {
        let now = sample::start() + chrono::Duration::seconds(seconds);
        IndexRequest { small: 2, large: 8, ..IndexRequest::at(now) }
    }

    fn segment(first: i64, last: i64, state: SegmentState) -> IndexedSegment {
        let range = IndexedRange { first, last };
        IndexedSegment { range, state, begun_at: sample::start() }
    }

    fn next(
        segments: &[IndexedSegment],
        first: i64,
        last: i64,
        seconds: i64,
    ) -> Option<(i64, i64)> {
        let all = IndexedRange { first, last };
        next_range(segments, all, &request(seconds)).map(|range| (range.first, range.last))
    }

    #[test]
    fn all_events_are_described_in_the_end_the_newest_first() {
        let mut segments = Vec::new();
        let mut steps = Vec::new();
        while let Some((first, last)) = next(&segments, 3, 20, 0) {
            steps.push((first, last));
            segments.push(segment(first, last, BUILT));
            segments.sort_by_key(|it| std::cmp::Reverse(it.range.first));
        }
        // The event 20 will get a neighbour.
        assert_eq!(steps, [(18, 19), (16, 17), (8, 15), (0, 7)]);
        assert_eq!(next(&segments, 3, 21, 0), Some((20, 21)));
        assert_eq!(next(&segments, 3, 23, 0), Some((16, 23)));
    }

    #[test]
    fn a_large_segment_takes_the_place_of_the_small_ones_once_they_are_done() {
        let small = [segment(4, 5, BUILT), segment(2, 3, LATE), segment(0, 1, BUILT)];
        assert_eq!(next(&small, 0, 7, 0), Some((0, 7)));
        let begun = [segment(4, 5, SegmentState::Begun), segment(0, 1, BUILT)];
        assert_eq!(next(&begun, 0, 7, 0), None);
        assert_eq!(next(&begun, 0, 7, 60), Some((4, 5)), "its process has ended");
    }

    #[test]
    fn what_changed_is_described_anew_after_a_while() {
        let late = [segment(8, 15, BUILT), segment(0, 7, LATE)];
        assert_eq!((next(&late, 0, 15, 59), next(&late, 0, 15, 60)), (None, Some((0, 7))));
        let dropped = [segment(8, 15, BUILT), segment(0, 7, SegmentState::Dropped)];
        assert_eq!((next(&dropped, 0, 15, 60), next(&dropped, 0, 15, 3600)), (None, Some((0, 7))));
        assert_eq!(next(&dropped, 8, 15, 60), None, "no event is left there");
    }
}
