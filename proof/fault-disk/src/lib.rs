//! For tests: a disk that fails, dies or loses power at a chosen operation.
//!
//! `kill -9` does not test a sync, because the operating system still writes the data that it
//! received. This crate puts a small library written in C (`disk.c`) between a child process and
//! its files:
//!
//! ```text
//!  child process ─▶ fault_disk.so ─▶ the C library ─▶ files below one folder
//!                     │      ▲
//!        Recording ◀──┘      └── Injector: the N-th write fails, the process dies at the N-th sync …
//!            │
//!            ▼
//!          Disk::cut ─▶ the files as a power cut at that point may leave them
//! ```
//!
//! Linux only; elsewhere the crate is empty, and so are the tests that use it.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod control;
mod disk;
mod recording;

pub use control::{Effect, Fault, FileKind, Injector, Operation};
pub use disk::{Dice, Disk, Files, Loss};
pub use recording::{Entry, Recorder, Recording};

use std::path::Path;

/// The library to preload.
fn library() -> &'static Path {
    Path::new(concat!(env!("OUT_DIR"), "/fault_disk.so"))
}
