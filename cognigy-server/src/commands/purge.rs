//! `purge`: forget what is older than the retention, now.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal, Write},
    time::Duration,
};

use clap::ArgMatches;
use cognigy_core::{Clock, TokioClock};
use serde_json::json;

use super::{Progress, operator_api::OperatorApi, print_json};
use crate::{
    audit::{Target, audit_command},
    deployment::Deployment,
    error::StartError,
    output::say,
    purging::{self, Outcome},
    store::{self, Access},
};

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let as_json = arguments.get_flag("json");
    let dry_run = arguments.get_flag("dry-run");
    let asks = !dry_run && !arguments.get_flag("yes") && std::io::stdin().is_terminal();
    let place = Place::open(arguments, deployment, dry_run).await?;
    if dry_run || asks {
        let counted = place.count().await?;
        report(&counted, "would be forgotten", as_json && !asks)?;
        if dry_run || counted.is_empty() {
            return Ok(true);
        }
        if !confirmed("Forget them for good?")? {
            say!("nothing was forgotten")?;
            return Ok(false);
        }
    }
    let outcome = place.purge().await?;
    report(&outcome, "forgotten", as_json)?;
    Ok(true)
}

/// Where is purged: by a server, with its retention, or in the database, with the one that is set here.
enum Place<'a> {
    Server(OperatorApi),
    Database(std::sync::Arc<dyn cognigy_core::Store>, &'a Deployment),
}

impl<'a> Place<'a> {
    async fn open(
        arguments: &ArgMatches,
        deployment: &'a Deployment,
        dry_run: bool,
    ) -> Result<Self, StartError> {
        let Some(server) = OperatorApi::named(arguments, deployment)? else {
            let access = if dry_run { Access::Read } else { Access::Write };
            return Ok(Self::Database(store::open(deployment, access, None).await?, deployment));
        };
        for name in ["retention", "dead_letter_retention"] {
            if arguments.get_one::<String>(name).is_some() {
                let flag = name.replace('_', "-");
                let why = format!("--{flag}: with --server, the server's own setting counts");
                return Err(StartError::Usage(why));
            }
        }
        Ok(Self::Server(server))
    }

    async fn count(&self) -> Result<Outcome, StartError> {
        match self {
            Self::Server(server) => {
                server.have_done(&["admin", "purges"], &json!({ "dry_run": true })).await
            }
            Self::Database(store, deployment) => {
                let now = TokioClock::new().now();
                Ok(purging::would(&**store, &purging::retention(&deployment.settings), now).await?)
            }
        }
    }

    async fn purge(&self) -> Result<Outcome, StartError> {
        let progress = Progress::new();
        let shown = |count| progress.show(&format!("{count} events forgotten"));
        let (store, deployment) = match self {
            Self::Server(server) => {
                let path = ["admin", "purges"];
                let mut total: Outcome = server.have_done(&path, &json!({})).await?;
                // The server answers after some seconds, whether or not it is done.
                while let Some(cursor) = &total.next_cursor {
                    shown(total.purged);
                    let go_on = json!({ "cursor": cursor });
                    total.go_on(server.have_done(&path, &go_on).await?);
                }
                return Ok(total);
            }
            Self::Database(store, deployment) => (store, deployment),
        };
        let (retention, now) = (purging::retention(&deployment.settings), TokioClock::new().now());
        let outcome = purging::purge(&**store, &retention, now, None, Duration::MAX, shown).await?;
        let count = Some(outcome.purged);
        audit_command(&**store, "purge", Target::Selected, None, count, "forgotten").await;
        Ok(outcome)
    }
}

/// Asks on the terminal.
pub(super) fn confirmed(question: &str) -> Result<bool, StartError> {
    eprint!("{question} [y/N] ");
    let failed = |error| StartError::failed("the terminal", &error);
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn report(outcome: &Outcome, what: &str, as_json: bool) -> Result<(), StartError> {
    if as_json {
        return print_json(outcome);
    }
    let listed = |counts: &BTreeMap<String, u64>| {
        let parts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
    };
    let Outcome { purged, events, before, .. } = outcome;
    say!("{purged} events{} {what}, received before {before}", listed(events))?;
    for (reason, count) in &outcome.quarantined {
        say!("{count} quarantined bodies {what} ({reason})")?;
    }
    match &outcome.dead_letters_before {
        Some(before) => say!("of dead letters and conflicts, those received before {before}"),
        None => say!("dead letters and conflicts stay (COGNIGY_DEAD_LETTER_RETENTION is never)"),
    }
}
