//! `quarantine`: list, show, discard or retry bodies that were signed but could not be taken.

use clap::ArgMatches;
use cognigy_core::{Clock, DEFAULT_SOURCE, PageRequest, Quarantine, QuarantineRetry, Store};
use serde_json::json;

use super::{number, print_json, shown};
use crate::{
    app::App,
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    store::{self, Access},
    view::QuarantineLine,
};

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Accepted,
    Duplicate,
    Invalid,
    Conflict,
    Discarded,
    NotFound,
    NotConfigured,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::Discarded => "discarded",
            Self::NotFound => "not_found",
            Self::NotConfigured => "not_configured",
        }
    }
}

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let as_json = arguments.get_flag("json");
    if let Some(id) = arguments.get_one::<i64>("retry") {
        return retry(*id, as_json, deployment).await;
    }
    if let Some(id) = arguments.get_one::<i64>("show") {
        return shown(show(*id, as_json, deployment).await);
    }
    if let Some(id) = arguments.get_one::<i64>("discard") {
        let store = store::open(deployment, Access::Write, None).await?;
        let found = store.discharge(*id).await?;
        let status = if found { Status::Discarded } else { Status::NotFound };
        report(*id, status, None, as_json)?;
        return Ok(found);
    }
    let store = store::open(deployment, Access::Read, None).await?;
    shown(list(&store, number(arguments, "limit") as usize, as_json).await)
}

async fn list(store: &impl Store, limit: usize, as_json: bool) -> Result<bool, StartError> {
    let page = store.quarantined(PageRequest { limit, after: None }).await?;
    for item in page.items {
        let line = QuarantineLine::from(item);
        if as_json {
            print_json(&line)?;
        } else {
            let id = line.event_id.as_deref().unwrap_or("-");
            let (reason, detail) = (line.reason, printable(&line.detail));
            let source = line.source.map(|name| format!("  of {name}")).unwrap_or_default();
            say!(
                "{:>6}  {}  {reason:<8}  {}{source}  {detail}",
                line.id,
                line.received_at,
                printable(id)
            )?;
        }
    }
    Ok(true)
}

/// Shows one body in full.
async fn show(id: i64, as_json: bool, deployment: &Deployment) -> Result<bool, StartError> {
    let store = store::open(deployment, Access::Read, None).await?;
    let Some(item) = store.quarantined_item(id).await? else {
        report(id, Status::NotFound, None, as_json)?;
        return Ok(false);
    };
    let line = QuarantineLine::from(item);
    if as_json {
        print_json(&line)?;
        return Ok(true);
    }
    say!("id         {}", line.id)?;
    say!("source     {}", line.source.as_deref().unwrap_or(DEFAULT_SOURCE))?;
    say!("reason     {}", line.reason)?;
    say!("event      {}", printable(line.event_id.as_deref().unwrap_or("-")))?;
    say!("received   {}", line.received_at)?;
    say!("detail     {}", printable(&line.detail))?;
    say!("body       {}", printable(line.body.as_deref().unwrap_or("not shown")))?;
    Ok(true)
}

async fn retry(id: i64, as_json: bool, deployment: &Deployment) -> Result<bool, StartError> {
    let app = App::build(deployment, Access::Write, None).await?;
    let Some(item) = app.store.quarantined_item(id).await? else {
        report(id, Status::NotFound, None, as_json)?;
        return Ok(false);
    };
    let Some(source) = app.pipelines.get(&item.source) else {
        let detail = format!("there is no source {}", item.source);
        report(id, Status::NotConfigured, Some(detail), as_json)?;
        return Ok(false);
    };
    let outcome = source.pipeline.retry_quarantined(id, app.clock.now()).await?;
    let (status, detail) = match outcome {
        QuarantineRetry::Accepted(_) => (Status::Accepted, None),
        QuarantineRetry::Duplicate(_) => (Status::Duplicate, None),
        QuarantineRetry::Invalid(invalid) => (Status::Invalid, Some(invalid.to_string())),
        QuarantineRetry::Conflict(_) => (Status::Conflict, None),
        QuarantineRetry::NotFound => (Status::NotFound, None),
    };
    report(id, status, detail, as_json)?;
    Ok(matches!(status, Status::Accepted | Status::Duplicate))
}

fn report(
    id: i64,
    status: Status,
    detail: Option<String>,
    as_json: bool,
) -> Result<(), StartError> {
    let status = status.as_str();
    if as_json {
        return print_json(&json!({ "id": id, "status": status, "detail": detail }));
    }
    match detail {
        Some(detail) => say!("{id}: {status}: {}", printable(&detail)),
        None => say!("{id}: {status}"),
    }
}
