//! [`EventStore`](cognigy_core::EventStore), [`EventArchive`](cognigy_core::EventArchive) and
//! [`Quarantine`](cognigy_core::Quarantine) on PostgreSQL: several nodes on one database.
//!
//! ```text
//!   record                    claim · settle · renew · replay …      find · list · counts …
//!     │ bounded queue                   │                                  │
//!     ▼                                 ▼                                  ▼
//!   writers, each with a connection   work pool                          read pool
//!   one INSERT … SELECT FROM UNNEST   one statement a call               one statement a call
//!     │ COMMIT, durable                 │ fence compared in it             │
//!     └──────────────────┬──────────────┴──────────────────────────────────┘
//!                        ▼
//!   events (identity, outcome) · queue (unfinished) · bodies, attempts, contexts (a partition a day)
//! ```
//!
//! Every call is one statement or one short transaction, and safe to repeat. Times are the
//! database's, so that a node with a wrong clock does no harm ([`TimeSource`]). The store does not
//! use `LISTEN`: workers find other nodes' events by polling.
//!
//! # Handlers in the event's own transaction
//!
//! If a handler's tables are in the same database, what it writes can be committed together with the
//! event's completion, and so happen exactly once: [`TransactionalHandler`],
//! [`PostgresStore::transactional`]. Such transactions have connections of their own
//! ([`TransactionOptions`]).
//!
//! # Servers
//!
//! PostgreSQL 13 and later; the tests run on 15. Aurora and AlloyDB are PostgreSQL to this crate.
//! The table lists features that the store uses and that other servers of the protocol lack
//! according to their documentation (we have not run them), and what happens then:
//!
//! | feature | YugabyteDB | CockroachDB |
//! |---|---|---|
//! | partitions by `RANGE`, attached and dropped by the day | yes | no: the first start fails at the schema, with its message |
//! | `FOR UPDATE SKIP LOCKED` | yes | yes |
//! | `INSERT`, `UPDATE` and `DELETE` in one `WITH` | yes | yes, but not twice on one table |
//! | `pg_advisory_xact_lock` for schema changes | from 2025.1; before it, start one node first | ignored |
//! | `fillfactor`, autovacuum settings | accepted, no effect | refused |
//!
//! # Poolers
//!
//! The store pools its own connections ([`PostgresOptions`] says how many) and gives each its
//! settings (`statement_timeout` and others) when it connects. A pooler that hands a connection from
//! one transaction to the next client, such as PgBouncer in transaction mode, would lose them, so it
//! is refused when the store opens: connect to the server itself.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod calls;
mod config;
mod error;
mod row;
mod schema;
mod server;
mod store;
mod transactional;

pub use config::{PostgresOptions, TimeSource};
/// A transaction as a [`TransactionalHandler`] is given it, and the trait for code that takes a
/// transaction or a connection.
pub use deadpool_postgres::{GenericClient, Transaction};
pub use error::is_not_up_yet;
pub use server::presence::WorkerPresence;
pub use server::url::check_url;
pub use store::PostgresStore;
/// The version that [`Transaction`] comes from.
pub use tokio_postgres;
pub use transactional::Transactional;
pub use transactional::transaction::{Rollback, TransactionOptions, TransactionalHandler};
