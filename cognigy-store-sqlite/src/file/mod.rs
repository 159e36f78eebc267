//! The database file: where it lies, who writes and who reads it, and when it is on the disk.

pub(crate) mod admission;
pub(crate) mod checkpoint;
pub(crate) mod database;
pub(crate) mod location;
pub(crate) mod read_only;
pub(crate) mod reader;
pub(crate) mod write_back;
pub(crate) mod write_batch;
pub(crate) mod writer;
