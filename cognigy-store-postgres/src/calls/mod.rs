//! The store's calls: the SQL of each, and nothing about connections.

pub(crate) mod archive;
pub(crate) mod audit;
pub(crate) mod claim;
pub(crate) mod conditions;
pub(crate) mod contact_queue;
pub(crate) mod discard;
pub(crate) mod erase;
pub(crate) mod outbox;
pub(crate) mod probe;
pub(crate) mod purge;
pub(crate) mod quarantine;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod scan;
pub(crate) mod search_index;
pub(crate) mod settle;
pub(crate) mod shared_values;
