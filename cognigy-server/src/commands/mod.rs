//! One module a command. Each yields whether it did what it was asked to.

mod demo;
mod events;
mod hand_over;
mod interrupt;
mod purge;
mod quarantine;
mod redrive;
mod register;
mod replay;
mod send;
mod serve;

use std::io::Write;

use clap::ArgMatches;

use crate::{
    deployment::Deployment,
    error::StartError,
    output::say,
    presence::Presence,
    settings::{Database, Layers, Settings, SourceSettings},
};

/// Runs the command called `name`.
pub(crate) async fn run(
    name: &str,
    arguments: &ArgMatches,
    deployment: &Deployment,
    layers: Layers,
) -> Result<bool, StartError> {
    if !matches!(name, "demo" | "send" | "register") {
        folder_of_the_database(deployment)?;
    }
    let settings = &deployment.settings;
    match name {
        "serve" => {
            let _presence = Presence::announce(deployment);
            serve::run(deployment).await
        }
        "demo" => shown(demo::run(arguments, layers).await),
        "send" => send::run(arguments, settings).await,
        "list" => shown(events::list(arguments, deployment).await),
        "show" => shown(events::show(arguments, deployment).await),
        "purge" => purge::run(arguments, deployment).await,
        "replay" => replay::replay(arguments, deployment).await,
        "redrive" => redrive::redrive(arguments, deployment).await,
        "register" => register::run(arguments, settings).await,
        "quarantine" => quarantine::run(arguments, deployment).await,
        _ => Err(StartError::Failed(format!("{name} is not a command"))),
    }
}

/// The outcome of a command that only shows: a reader that leaves has seen what it wanted.
fn shown(outcome: Result<bool, StartError>) -> Result<bool, StartError> {
    match outcome {
        Err(StartError::Unread) => Ok(true),
        outcome => outcome,
    }
}

/// What the source is told that `--source` names; without it, the plain path's.
fn source<'a>(
    arguments: &ArgMatches,
    settings: &'a Settings,
) -> Result<&'a SourceSettings, StartError> {
    let name = events::source_of(arguments)?.unwrap_or_default();
    let unknown = || StartError::Usage(format!("the source {name} is not configured"));
    settings.source(&name).ok_or_else(unknown)
}

/// SQLite says no more of a path whose folder is missing than that it cannot open the file.
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

/// A line that says how far long work is; shown on a terminal only.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: std::io::IsTerminal::is_terminal(&std::io::stderr()) }
    }

    fn show(&self, text: &str) {
        if self.shown {
            let mut stderr = std::io::stderr().lock();
            // A terminal that cannot be written to has no use for it.
            let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("");
    }
}
