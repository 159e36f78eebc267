//! The database server: how it is reached, what runs beside the calls, and what nodes tell each other.

pub(crate) mod arrivals;
pub(crate) mod batch_writer;
pub(crate) mod maintenance;
pub(crate) mod partitions;
pub(crate) mod pools;
pub(crate) mod presence;
pub(crate) mod session;
pub(crate) mod tls;
pub(crate) mod url;
