//! The answers that a child received. Each answer is written as one line, immediately after it
//! arrived.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Mutex,
};

/// The name of the ledger in the child's folder.
pub(crate) const NAME: &str = "ledger";

/// The child's side.
pub(crate) struct Pen(Mutex<File>);

impl Pen {
    pub(crate) fn open(folder: &Path) -> Self {
        let options = OpenOptions::new().append(true).create(true).open(folder.join(NAME));
        Self(Mutex::new(options.unwrap()))
    }

    /// One write per line, so that a line is written completely or not at all.
    pub(crate) fn note(&self, what: char, name: &str) {
        self.0.lock().unwrap().write_all(format!("{what} {name}\n").as_bytes()).unwrap();
    }
}

pub(crate) const RECORDED: char = 'R';
pub(crate) const PROCESSED: char = 'P';
pub(crate) const GIVEN_UP: char = 'G';
pub(crate) const SENT: char = 'S';
pub(crate) const QUARANTINED: char = 'Q';

/// The reader's side: everything that was acknowledged to the child.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    pub(crate) recorded: BTreeSet<String>,
    pub(crate) processed: BTreeSet<String>,
    pub(crate) given_up: BTreeSet<String>,
    pub(crate) sent: BTreeSet<String>,
    pub(crate) quarantined: BTreeSet<String>,
}

impl Ledger {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut ledger = Self::default();
        ledger.add(&std::fs::read(folder.join(NAME)).unwrap_or_default());
        ledger
    }

    /// Adds whole lines.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let text = std::str::from_utf8(text).unwrap();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let (what, name) = line.split_at(2);
            let names = match what.trim_end().chars().next().unwrap() {
                RECORDED => &mut self.recorded,
                PROCESSED => &mut self.processed,
                GIVEN_UP => &mut self.given_up,
                SENT => &mut self.sent,
                QUARANTINED => &mut self.quarantined,
                other => panic!("a line that begins with {other:?}"),
            };
            names.insert(name.to_owned());
        }
    }

    pub(crate) fn len(&self) -> usize {
        let Self { recorded, processed, given_up, sent, quarantined } = self;
        [recorded, processed, given_up, sent, quarantined].map(BTreeSet::len).iter().sum()
    }
}
