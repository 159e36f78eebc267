//! The operations of a process on its files, in order.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Records a process.
#[derive(Debug, Clone)]
pub struct Recorder {
    log: PathBuf,
    sockets: bool,
    forget_sync: Option<&'static str>,
}

impl Recorder {
    /// Writes to `log`, which must not exist and must lie outside the folder that is recorded.
    #[must_use]
    pub fn new(log: &Path) -> Self {
        Self { log: log.to_owned(), sockets: false, forget_sync: None }
    }

    /// Records the data received and sent on sockets too.
    #[must_use]
    pub fn with_sockets(mut self) -> Self {
        self.sockets = true;
        self
    }

    /// Pretends that no sync of the WAL ever happened, as with SQLite's `synchronous=NORMAL`
    /// between checkpoints. It shows that the tests find a missing sync.
    #[must_use]
    pub fn forgetting_wal_syncs(mut self) -> Self {
        self.forget_sync = Some("wal");
        self
    }

    /// Pretends that nothing was ever synced, as with `synchronous=OFF`.
    #[must_use]
    pub fn forgetting_all_syncs(mut self) -> Self {
        self.forget_sync = Some("all");
        self
    }

    /// Records the process that `command` will start, for files below `folder` (absolute). One
    /// process per log, because the files are numbered from 1.
    pub fn attach(&self, command: &mut Command, folder: &Path) {
        command
            .env("LD_PRELOAD", crate::library())
            .env("FAULT_DISK_FOLDER", folder)
            .env("FAULT_DISK_LOG", &self.log);
        if self.sockets {
            command.env("FAULT_DISK_SOCKETS", "1");
        }
        if let Some(what) = self.forget_sync {
            command.env("FAULT_DISK_FORGET_SYNC", what);
        }
    }

    /// The recording so far.
    ///
    /// # Errors
    ///
    /// If the log cannot be read or makes no sense.
    pub fn finish(&self) -> io::Result<Recording> {
        Recording::parse(&fs::read(&self.log)?)
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // They say what they are.
pub enum Entry {
    /// A name was opened that was not open before; from now on `file` stands for it.
    Opened {
        file: i32,
        name: String,
        made: bool,
    },
    Wrote {
        file: i32,
        offset: usize,
        data: Vec<u8>,
    },
    Truncated {
        file: i32,
        length: usize,
    },
    Synced {
        file: i32,
    },
    SyncFailed {
        file: i32,
    },
    FolderSynced,
    Unlinked {
        name: String,
    },
    /// On a socket, as it comes from the network.
    Received {
        socket: i32,
        data: Vec<u8>,
    },
    /// On a socket, noted before it leaves.
    Sent {
        socket: i32,
        data: Vec<u8>,
    },
}

/// All operations of a process, in order.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The operations.
    pub entries: Vec<Entry>,
}

const HEAD: usize = 24;

impl Recording {
    fn parse(mut log: &[u8]) -> io::Result<Self> {
        let mut entries = Vec::new();
        while let Some((head, rest)) = log.split_at_checked(HEAD) {
            let length = number(&head[16..24])?;
            let Some((data, rest)) = rest.split_at_checked(length) else { break };
            log = rest;
            entries.push(entry(head, data)?);
        }
        Ok(Self { entries })
    }
}

fn number(bytes: &[u8]) -> io::Result<usize> {
    let bytes = bytes.try_into().map_err(io::Error::other)?;
    usize::try_from(u64::from_ne_bytes(bytes)).map_err(io::Error::other)
}

fn entry(head: &[u8], data: &[u8]) -> io::Result<Entry> {
    let file = i32::from_ne_bytes(head[4..8].try_into().map_err(io::Error::other)?);
    let at = number(&head[8..16])?;
    let name = || String::from_utf8_lossy(data).into_owned();
    Ok(match head[0] {
        b'O' => Entry::Opened { file, name: name(), made: at == 1 },
        b'W' => Entry::Wrote { file, offset: at, data: data.to_vec() },
        b'T' => Entry::Truncated { file, length: at },
        b'S' if file == -1 => Entry::FolderSynced,
        b'S' => Entry::Synced { file },
        b'F' => Entry::SyncFailed { file },
        b'U' => Entry::Unlinked { name: name() },
        b'Q' => Entry::Received { socket: file, data: data.to_vec() },
        b'A' => Entry::Sent { socket: file, data: data.to_vec() },
        other => return Err(io::Error::other(format!("an entry of kind {other}"))),
    })
}
