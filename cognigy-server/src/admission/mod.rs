//! Limits on what is taken in: who counts as one sender, and how much memory, how many connections and
//! how many slots a sender or a source may hold at once. Nothing here reads from a connection.

mod bodies;
mod budget;
mod sender;

pub(crate) use bodies::{Bodies, Unfinished, unfinished_requests};
pub(crate) use budget::{Budget, Reservation};
pub(crate) use sender::{Share, Shares, TrustedProxies, UNKNOWN, UsedUp, group};

/// Connections held at once; the next ones wait in the kernel's backlog until one is closed. At
/// some 35 KiB each, idle or not, a flood of them costs 150 MB and not the machine.
pub(crate) const MAX_CONNECTIONS: usize = 4096;
