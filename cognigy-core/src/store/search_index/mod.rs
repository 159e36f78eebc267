//! An index of the words and ids in stored events, for stores to keep beside the events.
//!
//! A *segment* describes the events of a range of ids: which words and ids there are, and in which of the
//! events. It is made after the events were answered, by [`Administration::index`], so that deliveries pay
//! nothing for it. Where no segment describes an event, a search reads the event. So an index may lag, and may
//! be dropped at any time, without a search missing anything.
//!
//! What is found here is a candidate. Whether an event matches is decided from the event itself.
//!
//! A store makes a segment with [`SegmentBuilder`] for the range that [`next_range`] names, keeps its parts in the
//! order of their first terms, and looks the terms of a filter ([`terms_of`]) up with a [`LookUp`].
//!
//! ```
//! use cognigy_core::{
//!     Administration, EventFilter, EventStore, ScanRequest, Words, memory::MemoryStore,
//!     search_index::{LookUp, SegmentBuilder, terms_of},
//!     testing::sample,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # futures_executor::block_on(async {
//! let store = MemoryStore::new();
//! store.record(sample::incoming(sample::body_from("customer-7", "e1")), sample::start()).await?;
//! let request = ScanRequest {
//!     filter: EventFilter::default(),
//!     only_failing: false,
//!     with_contents: true,
//!     limit: 100,
//!     after: None,
//! };
//! let page = store.scan(&request).await?;
//! let mut segment = SegmentBuilder::new(page.events[0].cursor.0);
//! page.events.iter().for_each(|event| segment.add(event));
//! let (parts, undescribed) = segment.finish();
//! assert!(undescribed.is_empty());
//!
//! let filter = EventFilter { words: Words::of("cust"), ..EventFilter::default() };
//! let terms = terms_of(&filter);
//! let mut look_up = LookUp::new(&terms[0]);
//! for part in &parts {
//!     look_up.read(&part.term, &part.entries);
//! }
//! assert_eq!(look_up.finish()?.iter().collect::<Vec<_>>(), [0]);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! [`Administration::index`]: super::Administration::index

mod offsets;
mod plan;
mod segment;
mod terms;

use std::time::Duration;

pub use offsets::{Offsets, SEGMENT_EVENTS};
pub use plan::{IndexedRange, IndexedSegment, SegmentState, next_range};
pub use segment::{Damaged, LookUp, SegmentBuilder, SegmentPart};
pub use terms::{Term, terms_of};

pub(crate) use terms::{begins_word, lower_texts, words_of};

use crate::event::Timestamp;

/// What [`Administration::index`](super::Administration::index) goes by.
#[derive(Debug, Clone, Copy)]
pub struct IndexRequest {
    /// The present time.
    pub now: Timestamp,
    /// How many ids the first segments of new events cover. Default: 512.
    pub small: i64,
    /// How many ids the segments cover that replace them; a multiple of `small`, and at most
    /// [`SEGMENT_EVENTS`], the default.
    pub large: i64,
    /// Events are described once they are so old: most are processed by then. Default: five seconds.
    pub delay: Duration,
    /// How long a segment is kept as it is after events in it were run. Default: a minute.
    pub rest: Duration,
    /// How long a range stays without a segment after events in it were purged or erased. The purge of a
    /// busy system takes some each time. Default: an hour.
    pub rest_after_removal: Duration,
}

impl IndexRequest {
    /// With the defaults.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            small: 512,
            large: SEGMENT_EVENTS as i64,
            delay: Duration::from_secs(5),
            rest: Duration::from_secs(60),
            rest_after_removal: Duration::from_secs(60 * 60),
        }
    }

    /// For tests: segments of two and of four events, made at once.
    #[must_use]
    pub fn tiny(now: Timestamp) -> Self {
        let none = Duration::ZERO;
        Self { now, small: 2, large: 4, delay: none, rest: none, rest_after_removal: none }
    }
}
