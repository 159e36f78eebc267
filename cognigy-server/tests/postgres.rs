//! The bundled server does the same on PostgreSQL as on SQLite: the tests of the other files run
//! once more, each with a database of its own in a private cluster.

// Each of the files is a test program of its own elsewhere, and includes `common`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::duplicate_mod)]

#[path = "asking.rs"]
mod asking;
#[path = "command_line.rs"]
mod command_line;
#[path = "console.rs"]
mod console;
#[path = "contract_http.rs"]
mod contract_http;
#[path = "journey.rs"]
mod journey;
#[path = "monitoring.rs"]
mod monitoring;
#[path = "no_one_in.rs"]
mod no_one_in;
#[path = "operators.rs"]
mod operators;
#[path = "ordering.rs"]
mod ordering;
#[path = "remote.rs"]
mod remote;
#[path = "replays.rs"]
mod replays;
#[path = "sources.rs"]
mod sources;
#[path = "traces.rs"]
mod traces;
#[path = "upkeep.rs"]
mod upkeep;
