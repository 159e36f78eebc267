//! One module for each command. A command yields whether it did all of its work.

mod backup;
mod database_or_server;
mod demo;
mod discard;
mod doctor;
mod erase;
mod errors;
mod events;
mod follow;
mod hand_over;
mod import_python;
mod interrupt;
mod operator_api;
mod purge;
mod quarantine;
mod recorrelate;
mod redrive;
mod register;
mod rehearse;
mod replay;
mod replays;
mod screen;
mod send;
mod serve;
mod sources;
mod stats;
mod tail;
mod verify;
mod webhooks;
mod why;

use std::io::Write;

use clap::ArgMatches;

use crate::{
    deployment::Deployment,
    error::StartError,
    output::say,
    settings::{Database, Layers, Settings, SourceSettings},
};

/// Runs the command called `name`.
pub(crate) async fn run(
    name: &str,
    arguments: &ArgMatches,
    deployment: &Deployment,
    layers: Layers,
) -> Result<bool, StartError> {
    let mut last = arguments;
    while let Some((_, deeper)) = last.subcommand() {
        last = deeper;
    }
    let asks_a_server = last.try_get_one::<String>("server").ok().flatten().is_some();
    if !asks_a_server && !matches!(name, "demo" | "send" | "register" | "webhooks" | "doctor") {
        folder_of_the_database(deployment)?;
    }
    let settings = &deployment.settings;
    match name {
        "serve" => serve::run(deployment).await,
        "demo" => shown(Box::pin(demo::run(arguments, layers)).await),
        "send" => send::run(arguments, settings).await,
        "list" => shown(events::list(arguments, deployment).await),
        "show" => shown(events::show(arguments, deployment).await),
        "purge" => purge::run(arguments, deployment).await,
        "replay" => replay::replay(arguments, deployment).await,
        "replays" => shown(replays::run(arguments, deployment).await),
        "import-python" => import_python::run(arguments, deployment).await,
        "recorrelate" => recorrelate::run(arguments, deployment).await,
        "errors" => shown(errors::run(arguments, deployment).await),
        "discard" => discard::run(arguments, deployment).await,
        "erase" => erase::run(arguments, deployment).await,
        "redrive" => redrive::run(arguments, deployment).await,
        "register" => register::run(arguments, settings).await,
        "quarantine" => quarantine::run(arguments, deployment).await,
        "stats" => shown(stats::run(arguments, deployment).await),
        "why" => shown(why::run(arguments, deployment).await),
        "tail" => shown(tail::run(arguments, deployment).await),
        "webhooks" => webhooks::run(arguments, settings).await,
        "pause" => sources::run(arguments, deployment, true).await,
        "resume" => sources::run(arguments, deployment, false).await,
        "verify" => verify::run(arguments, deployment).await,
        "doctor" => doctor::run(arguments, deployment, &layers).await,
        "backup" => backup::run(arguments, deployment).await,
        _ => Err(StartError::Failed(format!("{name} is not a command"))),
    }
}

/// The outcome of a command that only prints. It counts as done when its reader ends early, as
/// `head` does.
fn shown(outcome: Result<bool, StartError>) -> Result<bool, StartError> {
    match outcome {
        Err(StartError::Unread) => Ok(true),
        outcome => outcome,
    }
}

/// The settings of the source that `--source` names; without it, of the plain path's source.
fn source<'a>(
    arguments: &ArgMatches,
    settings: &'a Settings,
) -> Result<&'a SourceSettings, StartError> {
    let name = events::source_of(arguments)?.unwrap_or_default();
    let unknown = || StartError::Usage(format!("the source {name} is not configured"));
    settings.source(&name).ok_or_else(unknown)
}

/// Checks the folder of the database: SQLite's own error does not say that the folder is missing.
fn folder_of_the_database(deployment: &Deployment) -> Result<(), StartError> {
    let Some(Database::Sqlite(path)) = deployment.database() else { return Ok(()) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        None => Ok(()),
        Some(folder) => Err(StartError::Failed(format!(
            "COGNIGY_DATABASE_URL: the folder {} of the database {} does not exist: create it, or \
             name another",
            folder.display(),
            path.display()
        ))),
    }
}

/// Prints one JSON value on a line of its own.
fn print_json(value: &impl serde::Serialize) -> Result<(), StartError> {
    let line = serde_json::to_string(value).map_err(|error| StartError::failed("JSON", &error))?;
    say!("{line}")
}

fn number(arguments: &ArgMatches, name: &str) -> u32 {
    arguments.get_one::<u32>(name).copied().unwrap_or_default()
}

/// A line that shows the progress of long work. It appears on a terminal only.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: std::io::IsTerminal::is_terminal(&std::io::stderr()) }
    }

    /// Shows how much is done, with a bar.
    fn count(&self, done: u64, total: u64, what: &str) {
        self.show(&format!("{} {done} of {total}{what}", screen::bar(done, total)));
    }

    fn show(&self, text: &str) {
        if self.shown {
            let mut stderr = std::io::stderr().lock();
            // Progress is not worth an error: it is left out if the terminal cannot be written to.
            let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("");
    }
}
