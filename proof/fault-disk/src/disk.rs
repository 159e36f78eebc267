//! A disk on which only part of the written data is synced, and its state after a power cut.
//!
//! The rules are the pessimistic ones that databases assume. Synced data stays. Of unsynced data
//! any part may have arrived in any order, in sectors of 512 bytes. A file may have its new length
//! without its new content, filled with any bytes. A new name or the removal of an old one is
//! certain only once the folder was synced. A write does not damage bytes outside its range, as
//! SQLite assumes too ("powersafe overwrite"). Data that was waiting when a sync failed is lost: a
//! later successful sync does not write it, as on Linux.

use std::collections::{BTreeMap, HashMap};

use crate::{Entry, Recording};

/// The unit that a disk writes completely or not at all.
const SECTOR: usize = 512;

/// Names and contents.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A repeatable source of choices (Knuth's MMIX generator).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed makes the same choices.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed ^ 0x9e37_79b9_7f4a_7c15);
        dice.roll(2);
        dice
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides.max(1)
    }
}

/// How much of the unsynced data is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// Nothing: the process died, but not the machine.
    Nothing,
    /// Each file keeps some first writes, and perhaps a part of the next.
    AfterAPoint,
    /// Each sector of each write is kept or lost independently.
    AnySectors,
}

impl Loss {
    /// All kinds.
    pub const ALL: [Self; 4] =
        [Self::Everything, Self::Nothing, Self::AfterAPoint, Self::AnySectors];
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate { length: usize },
}

#[derive(Debug, Clone, Default)]
struct OneFile {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Naming {
    Made { name: String, file: i32 },
    Removed { name: String },
}

/// The files of a folder, with the data that is not yet synced.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    files: HashMap<i32, OneFile>,
    synced_names: BTreeMap<String, i32>,
    pending_names: Vec<Naming>,
}

impl Disk {
    /// The disk after all of a recording.
    #[must_use]
    pub fn after(recording: &Recording) -> Self {
        let mut disk = Self::default();
        recording.entries.iter().for_each(|entry| disk.apply(entry));
        disk
    }

    /// Applies one more operation.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Opened { file, name, .. } => {
                self.files.entry(*file).or_default();
                self.pending_names.push(Naming::Made { name: name.clone(), file: *file });
            }
            Entry::Wrote { file, offset, data } => {
                let change = Change::Write { offset: *offset, data: data.clone() };
                self.files.entry(*file).or_default().pending.push(change);
            }
            Entry::Truncated { file, length } => {
                let change = Change::Truncate { length: *length };
                self.files.entry(*file).or_default().pending.push(change);
            }
            Entry::Synced { file } => {
                let file = self.files.entry(*file).or_default();
                let pending = std::mem::take(&mut file.pending);
                pending.iter().for_each(|change| change.apply(&mut file.synced));
            }
            Entry::FolderSynced => {
                let pending = std::mem::take(&mut self.pending_names);
                pending.iter().for_each(|naming| naming.apply(&mut self.synced_names));
            }
            Entry::Unlinked { name } => {
                self.pending_names.push(Naming::Removed { name: name.clone() });
            }
            Entry::SyncFailed { file } => {
                self.files.entry(*file).or_default().pending.clear();
            }
            Entry::Received { .. } | Entry::Sent { .. } => {}
        }
    }

    /// How many operations a power cut might undo.
    #[must_use]
    pub fn at_risk(&self) -> usize {
        self.files.values().map(|file| file.pending.len()).sum::<usize>() + self.pending_names.len()
    }

    /// The files that a power cut may leave, by name.
    #[must_use]
    pub fn cut(&self, loss: Loss, dice: &mut Dice) -> Files {
        let mut names = self.synced_names.clone();
        // The first part of each name's changes is kept, independently of other names.
        let mut ended: BTreeMap<&str, bool> = BTreeMap::new();
        for naming in &self.pending_names {
            let over = ended.entry(naming.name()).or_default();
            *over |= match loss {
                Loss::Everything => true,
                Loss::Nothing => false,
                Loss::AfterAPoint | Loss::AnySectors => dice.roll(3) == 0,
            };
            if !*over {
                naming.apply(&mut names);
            }
        }
        let content = |file: &i32, dice: &mut Dice| match self.files.get(file) {
            Some(file) => file.cut(loss, dice),
            None => Vec::new(),
        };
        names.iter().map(|(name, file)| (name.clone(), content(file, dice))).collect()
    }
}

impl Naming {
    fn name(&self) -> &str {
        match self {
            Self::Made { name, .. } | Self::Removed { name } => name,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, i32>) {
        match self {
            Self::Made { name, file } => drop(names.insert(name.clone(), *file)),
            Self::Removed { name } => drop(names.remove(name)),
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => put(content, *offset, data),
            Self::Truncate { length } => content.resize(*length, 0),
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

impl OneFile {
    fn cut(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut content = self.synced.clone();
        match loss {
            Loss::Everything => {}
            Loss::Nothing => self.pending.iter().for_each(|change| change.apply(&mut content)),
            Loss::AfterAPoint => {
                let kept = dice.roll(self.pending.len() + 1);
                let (kept, lost) = self.pending.split_at(kept);
                kept.iter().for_each(|change| change.apply(&mut content));
                if let Some(Change::Write { offset, data }) = lost.first() {
                    let torn = dice.roll(data.len().div_ceil(SECTOR)) * SECTOR;
                    put(&mut content, *offset, &data[..torn.min(data.len())]);
                }
            }
            Loss::AnySectors => {
                // Sometimes most of the data arrives, sometimes almost none.
                let kept_in_four = dice.roll(5);
                for change in &self.pending {
                    match change {
                        Change::Write { offset, data } => {
                            write_some(&mut content, *offset, data, kept_in_four, dice);
                        }
                        Change::Truncate { .. } if dice.roll(2) == 0 => change.apply(&mut content),
                        Change::Truncate { .. } => {}
                    }
                }
            }
        }
        content
    }
}

/// Keeps some sectors of a write. Where the file became longer, a lost sector holds any bytes.
fn write_some(
    content: &mut Vec<u8>,
    offset: usize,
    data: &[u8],
    kept_in_four: usize,
    dice: &mut Dice,
) {
    let mut place = offset;
    while place < offset + data.len() {
        // Sectors begin at multiples of their size, not where the write begins.
        let end = ((place / SECTOR + 1) * SECTOR).min(offset + data.len());
        if dice.roll(4) < kept_in_four {
            let old = content.len();
            put(content, place, &data[place - offset..end - offset]);
            if old < place {
                let filling = [0, 0xff, 0x5a][dice.roll(3)];
                content[old..place].fill(filling);
            }
        }
        place = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(offset: usize, data: &[u8]) -> Entry {
        Entry::Wrote { file: 1, offset, data: data.to_vec() }
    }

    fn disk(entries: &[Entry]) -> Disk {
        Disk::after(&Recording { entries: entries.to_vec() })
    }

    fn made() -> Entry {
        Entry::Opened { file: 1, name: "f".to_owned(), made: true }
    }

    #[test]
    fn what_is_synced_survives_every_loss() {
        let entries = [made(), Entry::FolderSynced, wrote(0, b"kept"), Entry::Synced { file: 1 }];
        for loss in Loss::ALL {
            let files = disk(&entries).cut(loss, &mut Dice::new(1));
            assert_eq!(files["f"], b"kept", "{loss:?}");
        }
        assert_eq!(disk(&entries).at_risk(), 0);
    }

    #[test]
    fn what_waited_for_a_sync_that_failed_is_gone() {
        let failed = Entry::SyncFailed { file: 1 };
        let synced = || Entry::Synced { file: 1 };
        let entries = [made(), Entry::FolderSynced, wrote(0, b"lost"), failed, synced()];
        assert!(disk(&entries).cut(Loss::Nothing, &mut Dice::new(1))["f"].is_empty());
        let again = [&entries[..], &[wrote(0, b"kept"), synced()]].concat();
        assert_eq!(disk(&again).cut(Loss::Everything, &mut Dice::new(1))["f"], b"kept");
    }

    #[test]
    fn a_name_is_sure_once_the_folder_is_synced() {
        let entries = [made(), wrote(0, b"kept"), Entry::Synced { file: 1 }];
        assert!(disk(&entries).cut(Loss::Everything, &mut Dice::new(1)).is_empty());
        let removed = [
            made(),
            Entry::FolderSynced,
            Entry::Unlinked { name: "f".to_owned() },
            Entry::Opened { file: 2, name: "f".to_owned(), made: true },
        ];
        let mut seen = [false; 3];
        for seed in 0..50 {
            let files = disk(&removed).cut(Loss::AnySectors, &mut Dice::new(seed));
            seen[usize::from(files.contains_key("f"))] = true;
        }
        assert!(seen[0] && seen[1], "the old or the new one may be there, or none");
    }

    #[test]
    fn unsynced_sectors_are_lost_one_by_one() {
        let data = [[1; SECTOR], [2; SECTOR], [3; SECTOR]].concat();
        let entries = [made(), Entry::FolderSynced, wrote(0, &data)];
        let mut kept = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let files = disk(&entries).cut(Loss::AnySectors, &mut Dice::new(seed));
            let sector = |at: usize| files["f"].get(at * SECTOR) == Some(&data[at * SECTOR]);
            kept.insert((sector(0), sector(1), sector(2)));
        }
        assert_eq!(kept.len(), 8, "every subset: {kept:?}");
    }

    #[test]
    fn a_torn_write_leaves_whole_sectors_of_its_beginning() {
        let entries = [made(), Entry::FolderSynced, wrote(0, &[7; 4 * SECTOR])];
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let files = disk(&entries).cut(Loss::AfterAPoint, &mut Dice::new(seed));
            assert!(files["f"].iter().all(|byte| *byte == 7));
            lengths.insert(files["f"].len() / SECTOR);
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
