//! Limits on what is taken in: who counts as one sender, and how much memory and how many slots a sender
//! or a source may hold at once. Nothing here reads from a connection.

mod bodies;
mod budget;
mod sender;

pub(crate) use bodies::{Bodies, Unfinished};
pub(crate) use budget::{Budget, Reservation};
pub use sender::{Share, Shares, TrustedProxies, UNKNOWN, UsedUp, group};

/// A sender may hold one part in this many of the memory, and of the requests, with bodies that are not
/// complete. The other half is left to all other senders. Half is more than all senders behind one
/// balancer need: a body that arrives in one piece with its head is not counted here.
const SENDERS_PART: usize = 2;
