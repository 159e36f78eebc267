//! `replay --rehearse`: how replays would end, without running them.

use clap::ArgMatches;
use serde_json::json;

use super::{
    events::{key_of, pairs_of, selection_of, source_of},
    operator_api::OperatorApi,
    print_json,
};
use crate::{
    app::App,
    deployment::Deployment,
    error::StartError,
    find,
    output::{printable, say},
    rehearsing::{Answer, Line, MAX_EVENTS, Outcome},
    store::Access,
};

/// Runs the command. The exit status is 1 if an event that was named could not be rehearsed.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let Answer { rehearsals, more, .. } = match OperatorApi::named(arguments, deployment)? {
        Some(server) => {
            let (_, ids) = selection_of(arguments, &deployment.settings)?;
            let mut chosen = json!(pairs_of(arguments));
            if !ids.is_empty() {
                chosen["ids"] = json!(ids);
            }
            server.have_done(&["admin", "rehearsals"], &chosen).await?
        }
        None => here(arguments, deployment).await?,
    };
    let as_json = arguments.get_flag("json");
    let mut differ = 0;
    for line in &rehearsals {
        differ += u64::from(!line.differs.is_empty());
        match as_json {
            true => print_json(line)?,
            false => print(line)?,
        }
    }
    if !as_json {
        say!("{differ} of {} would end differently", rehearsals.len())?;
        if more {
            say!("more events match: these are the newest")?;
        }
    }
    Ok(rehearsals.iter().all(|line| line.not_rehearsed.is_none()))
}

/// Asks the CRM from this process.
async fn here(arguments: &ArgMatches, deployment: &Deployment) -> Result<Answer, StartError> {
    let (filter, ids) = selection_of(arguments, &deployment.settings)?;
    let app = App::build(deployment, Access::Read, None).await?;
    for source in app.pipelines.iter() {
        source.telemetry.leave_attempts_unlogged();
    }
    if ids.is_empty() {
        let (keys, more) = find::newest(&*app.store, &filter, MAX_EVENTS).await?;
        return Ok(app.api.rehearse_keys(keys, more).await?);
    }
    let (mut keys, source) = (Vec::new(), source_of(arguments)?);
    for id in &ids {
        keys.push(key_of(id, source.as_ref(), &*app.store, &deployment.settings).await?);
    }
    Ok(app.api.rehearse_keys(keys, false).await?)
}

fn print(line: &Line) -> Result<(), StartError> {
    let id = printable(&line.event_id);
    let (recorded, now) = match (&line.recorded, &line.now) {
        (Some(recorded), Some(now)) => (recorded, now),
        _ => {
            let why = line.not_rehearsed.as_deref().unwrap_or("unknown");
            return say!("{id}: not rehearsed: {}", printable(why));
        }
    };
    let told = |outcome: &Outcome| {
        let error = outcome.error.as_deref();
        let error = error.map_or_else(String::new, |error| format!(": {}", printable(error)));
        format!("{}, correlation {}{error}", outcome.status, outcome.correlation)
    };
    if line.differs.is_empty() {
        return say!("{id}: as recorded: {}", told(now));
    }
    say!("{id}: recorded: {}", told(recorded))?;
    say!("{id}: now:      {}", told(now))?;
    if line.differs.iter().any(|part| part == "contact") && now.correlation != "failed" {
        let json = |outcome: &Outcome| match &outcome.crm_context {
            Some(contact) => printable(contact.get()).to_string(),
            None => "none".to_owned(),
        };
        say!("{id}: contact:  {} -> {}", json(recorded), json(now))?;
    }
    Ok(())
}
