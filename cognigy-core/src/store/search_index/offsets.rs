//! A set of events in a segment.

/// The most events that a segment describes.
pub const SEGMENT_EVENTS: usize = 4096;

const WORDS: usize = SEGMENT_EVENTS / 64;

/// Which events of a segment: their distances from its first id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets([u64; WORDS]);

impl Offsets {
    /// How many bytes [`to_bytes`](Self::to_bytes) yields.
    pub const BYTES: usize = SEGMENT_EVENTS / 8;

    /// No event.
    #[must_use]
    pub fn none() -> Self {
        Self([0; WORDS])
    }

    /// Every event.
    #[must_use]
    pub fn all() -> Self {
        Self([u64::MAX; WORDS])
    }

    /// As [`to_bytes`](Self::to_bytes) wrote them. None for bytes of another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        words.try_into().ok().filter(|_| rest.is_empty()).map(Self)
    }

    /// 512 bytes, one bit for each event.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Adds an event. One that is too far from the first is not added.
    pub fn insert(&mut self, offset: usize) {
        if let Some(word) = self.0.get_mut(offset / 64) {
            *word |= 1 << (offset % 64);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Adds those of `other`.
    pub fn add(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Keeps those that are in `other` too.
    pub fn keep(&mut self, other: &Self) {
        for (word, kept) in self.0.iter_mut().zip(&other.0) {
            *word &= kept;
        }
    }

    /// The distances, the lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> {
        let words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        words.flat_map(|(number, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| number * 64 + bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Offsets, SEGMENT_EVENTS};

    #[test]
    fn a_set_of_events_is_what_was_put_in_and_survives_being_written() {
        let mut offsets = Offsets::none();
        assert!(offsets.is_empty());
        for offset in [0, 63, 64, SEGMENT_EVENTS - 1, SEGMENT_EVENTS] {
            offsets.insert(offset);
        }
        let all = [0, 63, 64, SEGMENT_EVENTS - 1];
        assert_eq!(offsets.iter().collect::<Vec<_>>(), all);
        assert_eq!((offsets.len(), Offsets::all().len()), (4, SEGMENT_EVENTS));
        assert_eq!(Offsets::from_bytes(&offsets.to_bytes()), Some(offsets.clone()));
        assert_eq!(Offsets::from_bytes(&offsets.to_bytes()[1..]), None);
        let mut few = Offsets::none();
        few.insert(64);
        offsets.keep(&few);
        assert_eq!(offsets, few);
        few.insert(7);
        offsets.add(&few);
        assert_eq!(offsets.iter().rev().collect::<Vec<_>>(), [64, 7]);
    }
}
