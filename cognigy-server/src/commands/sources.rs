//! `pause` and `resume`: have the workers of a source stop claiming, and go on.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{SourceName, TokioClock};
use serde_json::json;

use super::{operator_api::OperatorApi, print_json};
use crate::{
    audit::{COMMAND_LINE, Target, audit_command},
    deployment::Deployment,
    error::StartError,
    output::say,
    pausing,
    store::{self, Access},
};

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
    paused: bool,
) -> Result<bool, StartError> {
    let name = arguments.get_one::<String>("source").map(String::as_str).unwrap_or_default();
    let wrong = |why: &str| StartError::Usage(format!("{name:?}: {why}"));
    let source: SourceName = name.parse().map_err(|error| wrong(&format!("{error}")))?;
    let action = if paused { "pause" } else { "resume" };
    if let Some(server) = OperatorApi::named(arguments, deployment)? {
        let path = ["admin", "sources", source.as_str(), action];
        let (status, answer) = server.post(&path, &BTreeMap::new(), None).await?;
        if status != 200 {
            return Err(server.refused(status, answer.to_string().as_bytes()));
        }
        server.known(answer, "paused")?;
    } else {
        if deployment.settings.source(&source).is_none() {
            return Err(wrong("is not a source that is configured"));
        }
        let store = store::open(deployment, Access::Write, None).await?;
        let changed =
            pausing::set(&*store, &source, paused, COMMAND_LINE, &TokioClock::new()).await?;
        let (target, outcome) = (Target::Named(name), if changed { "done" } else { "unchanged" });
        audit_command(&*store, action, target, None, None, outcome).await;
    }
    if arguments.get_flag("json") {
        print_json(&json!({ "source": name, "paused": paused }))?;
    } else if paused {
        say!(
            "{source}: paused; its workers claim no more within a second, and deliveries are taken in"
        )?;
    } else {
        say!("{source}: resumed")?;
    }
    Ok(true)
}
