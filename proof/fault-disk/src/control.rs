//! Makes an operation fail, or kills the process at it.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::BitOr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Kinds of operation; they can be combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation(u64);

#[allow(missing_docs)] // They say what they are.
impl Operation {
    pub const OPEN: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const WRITE: Self = Self(4);
    pub const SYNC: Self = Self(8);
    pub const TRUNCATE: Self = Self(16);
    pub const UNLINK: Self = Self(32);
    /// Asking about a file.
    pub const STAT: Self = Self(64);
    /// Mapping a file into memory.
    pub const MAP: Self = Self(128);
    /// Taking a lock.
    pub const LOCK: Self = Self(256);
    /// All that use space or change stored data.
    pub const CHANGE: Self = Self(4 | 8 | 16 | 32);
    /// All that move data, and not the taking of locks.
    pub const INPUT_OUTPUT: Self = Self(255);
    pub const ANY: Self = Self(511);
}

impl BitOr for Operation {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Kinds of file, recognised by their names; they can be combined with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind(u64);

#[allow(missing_docs)] // They say what they are.
impl FileKind {
    pub const DATABASE: Self = Self(1);
    pub const WAL: Self = Self(2);
    pub const SHM: Self = Self(4);
    pub const JOURNAL: Self = Self(8);
    pub const ANY: Self = Self(15);
}

impl BitOr for FileKind {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What happens at the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It fails and changes nothing.
    Fail,
    /// The process is killed before it takes effect.
    DieBefore,
    /// The process is killed after it took effect.
    DieAfter,
    /// A write stores its first half and fails.
    Tear,
}

/// A fault to be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Operations that count.
    pub operations: Operation,
    /// Files that count.
    pub files: FileKind,
    /// Which of them it is, from 1.
    pub nth: u64,
    /// Whether the fault happens at all later ones too.
    pub for_ever: bool,
    /// The error number, for an operation that fails.
    pub error: i32,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Input/output error.
    pub const EIO: i32 = 5;
    /// No space left on the device.
    pub const ENOSPC: i32 = 28;
    /// The file system is read-only.
    pub const EROFS: i32 = 30;

    /// Every one of these operations fails, from now on.
    #[must_use]
    pub fn always(operations: Operation, files: FileKind, error: i32) -> Self {
        Self { operations, files, nth: 1, for_ever: true, error, effect: Effect::Fail }
    }

    /// The `nth` of these operations fails, and no other.
    #[must_use]
    pub fn once(operations: Operation, files: FileKind, error: i32, nth: u64) -> Self {
        Self { nth, for_ever: false, ..Self::always(operations, files, error) }
    }
}

/// The words (integers) of the shared page, in the order of `struct control` in disk.c.
const ARMED: u64 = 0;
const SETTINGS: u64 = 1;
const CALLS: u64 = 7;
const FIRED: u64 = 8;
const STRUCK: u64 = 9;
const WORDS: u64 = 10;

/// Injects faults into a process, from inside or outside it.
#[derive(Debug)]
pub struct Injector {
    path: PathBuf,
    page: File,
}

impl Injector {
    /// Makes the page through which faults are requested. It must lie outside the folder in which
    /// faults are injected.
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        let page = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        page.set_len(WORDS * 8)?;
        Ok(Self { path: path.to_owned(), page })
    }

    /// Opens a page that another process made.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let page = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { path: path.to_owned(), page })
    }

    /// Makes the process that `command` will start follow this page, for files below `folder`
    /// (absolute).
    pub fn attach(&self, command: &mut Command, folder: &Path) {
        command
            .env("LD_PRELOAD", crate::library())
            .env("FAULT_DISK_FOLDER", folder)
            .env("FAULT_DISK_CONTROL", &self.path);
    }

    /// Turns the fault on. Counting begins anew.
    ///
    /// # Errors
    ///
    /// If the page cannot be written.
    pub fn arm(&self, fault: Fault) -> io::Result<()> {
        self.disarm()?;
        let effect = match fault.effect {
            Effect::Fail => 0,
            Effect::DieBefore => 1,
            Effect::DieAfter => 2,
            Effect::Tear => 3,
        };
        let error = u64::from(fault.error.unsigned_abs());
        let settings = [
            fault.operations.0,
            fault.files.0,
            fault.nth,
            u64::from(fault.for_ever),
            error,
            effect,
            0,
            0,
            0,
        ];
        for (place, word) in (SETTINGS..).zip(settings) {
            self.put(place, word)?;
        }
        self.put(ARMED, 1)
    }

    /// Turns the fault off. The counts stay.
    ///
    /// # Errors
    ///
    /// If the page cannot be written.
    pub fn disarm(&self) -> io::Result<()> {
        self.put(ARMED, 0)
    }

    /// How many operations counted since it was armed.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub fn calls(&self) -> io::Result<u64> {
        self.get(CALLS)
    }

    /// How often the fault happened since it was armed.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub fn fired(&self) -> io::Result<u64> {
        self.get(FIRED)
    }

    /// The operation that the fault hit last, as text.
    ///
    /// # Errors
    ///
    /// If the page cannot be read.
    pub fn struck(&self) -> io::Result<String> {
        let struck = self.get(STRUCK)?;
        let name = |names: &[&'static str], bits: u64| {
            names.get(bits.trailing_zeros() as usize).copied().unwrap_or("nothing")
        };
        let operations =
            ["open", "read", "write", "sync", "truncate", "unlink", "stat", "map", "lock"];
        let files = ["database", "WAL", "shared memory", "journal"];
        Ok(format!("{} of {}", name(&operations, struck >> 8), name(&files, struck & 0xff)))
    }

    fn put(&self, place: u64, word: u64) -> io::Result<()> {
        self.page.write_all_at(&word.to_ne_bytes(), place * 8)
    }

    fn get(&self, place: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        self.page.read_exact_at(&mut word, place * 8)?;
        Ok(u64::from_ne_bytes(word))
    }
}
