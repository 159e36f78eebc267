//! The webhook receiver as a library: every adapter wired to the core, behind actix-web, with all
//! commands.
//!
//! The binary `cognigy-server` is this library without a handler: it stores events and looks contacts
//! up. A program of your own adds what an event means to it, and is the whole server otherwise: the
//! same commands, settings, routes, metrics and exit statuses.
//!
//! ```no_run
//! use std::{process::ExitCode, sync::Arc};
//!
//! use cognigy_core::{Contact, Event};
//! use cognigy_server::Server;
//!
//! fn main() -> ExitCode {
//!     Server::new()
//!         .handler(|event: Arc<Event>, contact: Option<Contact>| async move {
//!             println!("{} of {:?}", event.kind(), contact);
//!             Ok(())
//!         })
//!         .run()
//! }
//! ```
//!
//! Run it as `my-server serve`, with the settings of `cognigy-server`: as flags, as environment
//! variables, or in `cognigy.toml`. `my-server --help` lists the commands.
//!
//! To put the core into an HTTP service that exists already, use `cognigy-core` without this crate.

// `println!` panics when its reader leaves: `output::say!` does not.
#![warn(clippy::print_stdout)]

mod app;
mod audit;
mod breakers;
mod cli;
mod commands;
mod console;
mod deployment;
mod error;
mod host;
mod http;
mod logging;
mod notices;
mod output;
mod panics;
mod papers;
mod pipelines;
mod presence;
mod purging;
mod redriving;
mod server;
mod settings;
mod store;
mod telemetry;
mod traces;

use cognigy_operator::{
    bulk_replays, discards, erasing, filter, find, pausing, recorrelation, rehearsing, view,
};

pub use server::Server;
