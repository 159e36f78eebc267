//! The bundled webhook receiver: every adapter wired to the core, behind actix-web.
//!
//! `main` reads the command line and the settings and hands over to a command. What is general
//! lives in the library crates; this is what a service of your own would look like.

// `println!` panics when its reader leaves: `output::say!` does not.
#![warn(clippy::print_stdout)]

mod app;
mod cli;
mod commands;
mod filter;
mod find;
mod http;
mod logging;
mod metrics;
mod output;
mod panics;
mod presence;
mod rates;
mod refusals;
mod settings;
mod sources;
mod telemetry;

use std::process::ExitCode;

use app::StartError;
use settings::Settings;

/// Done.
const DONE: u8 = 0;
/// It was tried and failed.
const FAILED: u8 = 1;
/// The command line or a setting is wrong; nothing was tried.
const WRONG_USE: u8 = 2;
/// Ended by SIGINT or SIGTERM: 128 and the number of the first, as shells say it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    panics::forbid_their_words();
    ExitCode::from(panics::caught(run).unwrap_or(FAILED))
}

fn run() -> u8 {
    let invocation = match cli::parse() {
        Ok(invocation) => invocation,
        Err(code) => return code,
    };
    let settings = match Settings::read(&invocation.layers) {
        Ok(settings) => settings,
        Err(error) => return complain(&error.into()),
    };
    let _log = logging::start(&settings);
    for warning in invocation.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(
            &invocation.command,
            &invocation.arguments,
            settings,
            invocation.layers,
        )),
        Err(error) => Err(StartError::failed("cannot start", &error)),
    };
    match outcome {
        Ok(true) => DONE,
        Ok(false) => FAILED,
        Err(error) => complain(&error),
    }
}

/// One line, and the exit status that fits.
fn complain(error: &StartError) -> u8 {
    output::complain(error);
    match error {
        StartError::Interrupted(_) => INTERRUPTED,
        StartError::Setting(_) | StartError::Usage(_) => WRONG_USE,
        StartError::Failed(_) | StartError::Unread => FAILED,
    }
}
