//! `import-python`: takes over the database of the Python page that this server replaces.
//!
//! The page keeps one table, `webhook_events(event_id, raw_payload, processed_at, status)`. What its statuses
//! become here stands in docs/operating.md.

mod page;

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{EventKey, EventOrder, Import, Imported, SourceName};
use futures_util::{StreamExt, stream};
use serde_json::json;

use self::page::{Database, End, Row};
use super::{Progress, events::source_of, interrupt::Interrupt, print_json};
use crate::{
    app::App,
    audit::{Target, audit_command},
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    pipelines::SourcePipeline,
    presence::Presence,
    store::Access,
};

/// How many events are imported at once, where their order does not matter: the store writes what comes
/// together in one step.
const AT_ONCE: usize = 32;

/// What became of a row.
enum Outcome {
    Imported,
    Known,
    /// Why the row was left out, or its event could not be brought to its end.
    Left(String),
}

/// What became of all rows.
#[derive(Default)]
struct Account {
    /// How many were imported, by the status that they have now.
    imported: BTreeMap<&'static str, u64>,
    known: u64,
    left: u64,
}

/// Runs the command. The exit status is 1 if a row was left out.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let file = arguments.get_one::<std::path::PathBuf>("file").cloned().unwrap_or_default();
    let (dry_run, as_json) = (arguments.get_flag("dry-run"), arguments.get_flag("json"));
    let name = source_of(arguments)?.unwrap_or_default();
    let database = Database::open(&file)?;
    if !dry_run && Presence::is_announced(deployment).await? {
        return Err(StartError::Failed(
            "a server with workers works on the database, and would run events while they are \
             imported: stop it, or start it with COGNIGY_WORKER=off, and import then"
                .to_owned(),
        ));
    }
    let interrupt = Interrupt::listen()?;
    let access = if dry_run { Access::Read } else { Access::Write };
    let app = App::build(deployment, access, None).await?;
    let unknown = || StartError::Usage(format!("the source {name} is not configured"));
    let source = app.pipelines.get(&name).ok_or_else(unknown)?;
    // Where the order of a contact's events is kept, an event cannot end before those in front of it.
    let at_once = if deployment.settings.ordering == EventOrder::Any { AT_ONCE } else { 1 };
    let mut account = Account::default();
    let (total, progress) = (database.count()?, Progress::new());
    let mut done = 0;
    // What has ended comes first, so that nothing that waits is in front of it.
    for end in End::ALL {
        let mut after = None;
        while !interrupt.is_requested() {
            let rows = database.rows(after)?;
            let Some(last) = rows.last() else { break };
            after = Some(last.number);
            let of_this_end = rows.into_iter().filter(|row| row.end() == end);
            let mut outcomes = stream::iter(of_this_end)
                .map(async |row| {
                    let outcome = import(&app, source, &name, &row, dry_run).await;
                    (row, outcome)
                })
                .buffer_unordered(at_once);
            while let Some((row, outcome)) = outcomes.next().await {
                done += 1;
                progress.show("");
                account.record(&row, outcome?, as_json)?;
                progress.count(done, total, "");
            }
        }
    }
    drop(progress);
    if !dry_run {
        let file = file.display().to_string();
        let (count, told) = (Some(account.imported.values().sum()), account.told());
        audit_command(&*app.store, "import", Target::Named(&file), None, count, &told).await;
    }
    if interrupt.is_requested() {
        return Err(StartError::Interrupted(format!(
            "{done} of {total} rows were looked at; import again to go on"
        )));
    }
    account.close(dry_run, as_json)
}

/// Imports a row, or only looks at it.
async fn import(
    app: &App,
    source: &SourcePipeline,
    name: &SourceName,
    row: &Row,
    dry_run: bool,
) -> Result<Outcome, StartError> {
    let id = match row.event_id.parse() {
        Ok(id) => id,
        Err(problem) => return Ok(Outcome::Left(format!("its event_id {problem}"))),
    };
    let key = EventKey { source: name.clone(), id };
    let import = Import { key, body: row.body.clone(), end: row.imported_end() };
    let imported = match dry_run {
        true => source.pipeline.would_import(&import, &app.clock).await?,
        false => source.pipeline.import(import, &app.clock).await?,
    };
    Ok(match imported {
        Imported::Done => Outcome::Imported,
        Imported::Known => Outcome::Known,
        Imported::Conflict => {
            Outcome::Left("an event with this id and other content is stored".to_owned())
        }
        Imported::Invalid(invalid) => Outcome::Left(invalid.to_string()),
        Imported::Busy => Outcome::Left(
            "it is stored and pending, since a run holds it or an unfinished event of its contact comes \
             first: import again once that is over"
                .to_owned(),
        ),
    })
}

impl Account {
    /// Counts a row. One that was left out is named.
    fn record(&mut self, row: &Row, outcome: Outcome, as_json: bool) -> Result<(), StartError> {
        let why = match outcome {
            Outcome::Imported => {
                *self.imported.entry(row.end().status()).or_default() += 1;
                return Ok(());
            }
            Outcome::Known => {
                self.known += 1;
                return Ok(());
            }
            Outcome::Left(why) => why,
        };
        self.left += 1;
        let id = &row.event_id;
        match as_json {
            true => print_json(&json!({ "event_id": id, "row": row.number, "left_out": why })),
            false => say!("{} (row {}): left out: {}", printable(id), row.number, printable(&why)),
        }
    }

    /// All of it in a few words.
    fn told(&self) -> String {
        let Self { imported, known, left } = self;
        let parts = imported.iter().map(|(status, count)| format!("{count} {status}, "));
        format!("done: {}{known} known before, {left} left out", parts.collect::<String>())
    }

    fn close(self, dry_run: bool, as_json: bool) -> Result<bool, StartError> {
        if as_json {
            let Self { imported, known, left } = &self;
            print_json(&json!({
                "imported": imported, "known": known, "left_out": left, "dry_run": dry_run,
            }))?;
            return Ok(self.left == 0);
        }
        for end in End::ALL {
            let count = self.imported.get(end.status()).copied().unwrap_or_default();
            say!("{:<16}{count:>8}", end.status())?;
        }
        say!("{:<16}{:>8}", "known before", self.known)?;
        say!("{:<16}{:>8}", "left out", self.left)?;
        if dry_run {
            say!("nothing was imported: this is what would be")?;
        }
        Ok(self.left == 0)
    }
}
