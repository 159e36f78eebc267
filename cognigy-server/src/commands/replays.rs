//! `replays`: the bulk replays that servers carry out: how far each has come, and its end before time.

use std::{collections::BTreeMap, sync::Arc};

use clap::ArgMatches;
use cognigy_core::Store;
use serde_json::Value;

use super::{events::text, operator_api::OperatorApi, print_json};
use crate::{
    audit::{Target, audit_command},
    bulk_replays::{self, BulkReplay, Line},
    deployment::Deployment,
    error::StartError,
    output::{complain, say},
    store::{self, Access},
};

/// Where the replays are read: from a server, or in the database.
enum Place {
    Server(OperatorApi),
    Database(Arc<dyn Store>),
}

/// Runs the command. The exit status is 1 if there is no replay with the id, or if it had ended before it
/// could be cancelled.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let (what, arguments) = arguments.subcommand().unwrap_or(("list", arguments));
    let id = arguments.try_get_one::<String>("id").ok().flatten().map(String::as_str);
    let as_json = arguments.get_flag("json");
    let place = match OperatorApi::named(arguments, deployment)? {
        Some(server) => Place::Server(server),
        None => {
            let access = if what == "cancel" { Access::Write } else { Access::Read };
            Place::Database(store::open(deployment, access, None).await?)
        }
    };
    let Some(id) = id else {
        let replays = place.list().await?;
        for replay in &replays {
            match as_json {
                true => print_json(replay)?,
                false => say!("{}", summary(replay))?,
            }
        }
        if replays.is_empty() && !as_json {
            complain("there was no bulk replay yet");
        }
        return Ok(true);
    };
    let replay = if what == "cancel" { place.cancel(id).await? } else { place.get(id).await? };
    let Some(replay) = replay else {
        complain(format_args!("there is no replay {id:?}"));
        return Ok(false);
    };
    if as_json {
        print_json(&replay)?;
    } else if what == "cancel" {
        say!("{}", summary(&replay))?;
    } else {
        show(&replay)?;
    }
    let is_cancelled = replay["state"] == "cancelled";
    if what == "cancel" && !is_cancelled {
        complain(format_args!("replay {id} had ended already: there was nothing to cancel"));
    }
    Ok(what != "cancel" || is_cancelled)
}

impl Place {
    /// All replays that are remembered, the newest first.
    async fn list(&self) -> Result<Vec<Value>, StartError> {
        match self {
            Self::Server(server) => {
                let answer: Option<Value> =
                    server.get(&["admin", "replays"], &BTreeMap::new()).await?;
                let answer = server.known(answer.unwrap_or_default(), "replays")?;
                Ok(answer["replays"].as_array().cloned().unwrap_or_default())
            }
            Self::Database(store) => {
                bulk_replays::list(&**store).await?.into_iter().map(line).collect()
            }
        }
    }

    async fn get(&self, id: &str) -> Result<Option<Value>, StartError> {
        match self {
            Self::Server(server) => server.get(&["admin", "replays", id], &BTreeMap::new()).await,
            Self::Database(store) => {
                let Ok(id) = id.parse() else { return Ok(None) };
                bulk_replays::get(&**store, id).await?.map(line).transpose()
            }
        }
    }

    async fn cancel(&self, id: &str) -> Result<Option<Value>, StartError> {
        let store = match self {
            Self::Server(server) => return server.delete(&["admin", "replays", id]).await,
            Self::Database(store) => store,
        };
        let Ok(number) = id.parse() else { return Ok(None) };
        let Some((replay, ran)) = bulk_replays::cancel(&**store, number).await? else {
            return Ok(None);
        };
        let (target, count) = (Target::Named(id), Some(replay.done));
        let told = if ran { "cancelled" } else { "unchanged" };
        audit_command(&**store, "cancel_replay", target, None, count, told).await;
        line(replay).map(Some)
    }
}

/// A replay as the operator API shows it.
fn line(replay: BulkReplay) -> Result<Value, StartError> {
    serde_json::to_value(Line::from(replay)).map_err(|error| StartError::failed("JSON", &error))
}

/// A replay in one line.
fn summary(replay: &Value) -> String {
    let of = |name: &str| text(&replay[name]);
    format!(
        "{:>4}  {:<9}  {:>13}  {:<19}  {:<12}  {}  by {}",
        of("id"),
        of("state"),
        format!("{}/{}", of("done"), of("total")),
        of("work"),
        rate(replay),
        of("begun_at"),
        of("by"),
    )
}

fn rate(replay: &Value) -> String {
    match &replay["rate"] {
        Value::Null => "no limit".to_owned(),
        rate => format!("{}/s at most", text(rate)),
    }
}

fn show(replay: &Value) -> Result<(), StartError> {
    let of = |name: &str| text(&replay[name]);
    say!("replay     {}", of("id"))?;
    say!("work       {}", of("work"))?;
    say!("state      {}", of("state"))?;
    say!("done       {} of {}", of("done"), of("total"))?;
    say!("succeeded  {}", of("succeeded"))?;
    say!("failed     {}", of("failed"))?;
    say!("rate       {}", rate(replay))?;
    say!("by         {}", of("by"))?;
    say!("begun      {}", of("begun_at"))
}
