//! The database file: its location, the threads that write and read it, and when its data is on the
//! disk.

pub(crate) mod admission;
pub(crate) mod checkpoint;
pub(crate) mod database;
pub(crate) mod location;
pub(crate) mod lock_wait;
pub(crate) mod read_only;
pub(crate) mod reader;
pub(crate) mod write_back;
pub(crate) mod write_batch;
pub(crate) mod writer;
