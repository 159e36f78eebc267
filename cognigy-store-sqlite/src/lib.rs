//! [`EventStore`](cognigy_core::EventStore), [`EventArchive`](cognigy_core::EventArchive) and
//! [`Quarantine`](cognigy_core::Quarantine) in one SQLite file: the embedded default.
//!
//! ```text
//!  record · claim · settle · …             find · list · counts · …
//!        │ bounded queue                          │ bounded queue
//!        ▼                                        ▼
//!  the writer thread                        reader threads
//!  one transaction for all that waits       read-only connections, one snapshot a query
//!        │ COMMIT, synced                         │
//!        └──────────────▶ webhooks.db + WAL ◀─────┘
//!                              ▲
//!                              └ a thread that writes the WAL back
//! ```
//!
//! An fsync costs far more than a row, so one thread does all the writing and puts all waiting
//! calls into one transaction; no call is answered before the transaction is committed and synced
//! (`synchronous=FULL`). After any error but a busy lock, the connection is closed and the file is
//! opened afresh before the next transaction: a failed fsync must not be retried, because the
//! second try can succeed although the pages are lost.
//!
//! Compile the bundled SQLite with `LIBSQLITE3_FLAGS="-DHAVE_FDATASYNC=1"` where you embed this crate
//! on Linux or another Unix that has `fdatasync`: without it SQLite calls `fsync`, which also writes
//! the file's times at every commit.
//!
//! Several processes may share a file on a local disk. Network file systems are refused where they
//! show (no shared memory for the WAL), and must not be used where they do not.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod calls;
mod config;
mod error;
mod file;
mod row;
mod schema;
mod store;

pub use config::{SqliteAccess, SqliteOptions};
pub use store::SqliteStore;
