//! The database server: connections to it, tasks that run beside the calls, and what the nodes tell
//! each other through it.

pub(crate) mod arrivals;
pub(crate) mod batch_writer;
pub(crate) mod maintenance;
pub(crate) mod partitions;
pub(crate) mod pools;
pub(crate) mod presence;
pub(crate) mod session;
pub(crate) mod tls;
pub(crate) mod url;
