//! `quarantine`: list, show, discard or retry bodies that were signed but could not be taken.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{Clock, DEFAULT_SOURCE, Quarantine, QuarantineRetry};
use serde_json::json;

use super::{
    database_or_server::{DatabaseOrServer, PAGE, read},
    events::text,
    number,
    operator_api::OperatorApi,
    print_json, shown,
};
use crate::{
    app::App,
    audit::{Target, audit_command},
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    store::{self, Access},
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
        return match OperatorApi::named(arguments, deployment)? {
            Some(server) => retry_at(&server, *id, as_json).await,
            None => retry(*id, as_json, deployment).await,
        };
    }
    if let Some(id) = arguments.get_one::<i64>("show") {
        let place = DatabaseOrServer::open(arguments, deployment).await?;
        return shown(show(*id, as_json, &place).await);
    }
    if let Some(id) = arguments.get_one::<i64>("discard") {
        if let Some(server) = OperatorApi::named(arguments, deployment)? {
            let path = ["admin", "quarantine", &id.to_string()];
            let found = server.delete(&path).await?.is_some();
            let status = if found { Status::Discarded } else { Status::NotFound };
            report(*id, status, None, as_json)?;
            return Ok(found);
        }
        let store = store::open(deployment, Access::Write, None).await?;
        let found = store.discharge(*id).await?;
        let status = if found { Status::Discarded } else { Status::NotFound };
        let (target, outcome) = (id.to_string(), status.as_str());
        let target = Target::Named(&target);
        audit_command(&*store, "quarantine_discard", target, None, Some(1), outcome).await;
        report(*id, status, None, as_json)?;
        return Ok(found);
    }
    let place = DatabaseOrServer::open(arguments, deployment).await?;
    shown(list(&place, number(arguments, "limit") as usize, as_json).await)
}

async fn list(
    place: &DatabaseOrServer,
    mut left: usize,
    as_json: bool,
) -> Result<bool, StartError> {
    let mut cursor = None;
    while left > 0 {
        let page = place.quarantine(left.min(PAGE), cursor).await?;
        left -= page.items.len().min(left);
        for item in page.items {
            if as_json {
                say!("{}", item.get())?;
                continue;
            }
            let line = read(&item);
            let [at, reason, id, detail] =
                ["received_at", "reason", "event_id", "detail"].map(|name| text(&line[name]));
            let source = line["source"].as_str().map(|name| format!("  of {}", printable(name)));
            let (number, source) = (text(&line["id"]), source.unwrap_or_default());
            say!("{number:>6}  {at}  {reason:<8}  {id}{source}  {detail}")?;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(true)
}

/// Shows one body in full.
async fn show(id: i64, as_json: bool, place: &DatabaseOrServer) -> Result<bool, StartError> {
    let Some(item) = place.quarantined(id).await? else {
        report(id, Status::NotFound, None, as_json)?;
        return Ok(false);
    };
    if as_json {
        say!("{}", item.get())?;
        return Ok(true);
    }
    let line = read(&item);
    say!("id         {}", text(&line["id"]))?;
    say!("source     {}", printable(line["source"].as_str().unwrap_or(DEFAULT_SOURCE)))?;
    say!("reason     {}", text(&line["reason"]))?;
    say!("event      {}", text(&line["event_id"]))?;
    say!("received   {}", text(&line["received_at"]))?;
    say!("detail     {}", text(&line["detail"]))?;
    match line["body"].as_str() {
        Some(body) => say!("body       {}", printable(body))?,
        None => say!("body       not shown: your role does not include bodies")?,
    }
    Ok(true)
}

/// Has a running server try the body again.
async fn retry_at(server: &OperatorApi, id: i64, as_json: bool) -> Result<bool, StartError> {
    let number = id.to_string();
    let (status, answer) =
        server.post(&["admin", "quarantine", &number, "retry"], &BTreeMap::new(), None).await?;
    let detail = answer["detail"].as_str().map(str::to_owned);
    let (status, detail) = match status {
        200 if answer["status"] != "accepted" => return Err(server.is_another()),
        200 if answer["duplicate"] == true => (Status::Duplicate, None),
        200 => (Status::Accepted, None),
        404 => (Status::NotFound, None),
        409 if detail.as_deref().is_some_and(|it| it.contains("other content")) => {
            (Status::Conflict, None)
        }
        409 if detail.as_deref().is_some_and(|it| it.starts_with("Still in")) => {
            (Status::Invalid, detail)
        }
        409 => (Status::NotConfigured, detail),
        _ => return Err(server.refused(status, answer.to_string().as_bytes())),
    };
    report(id, status, detail, as_json)?;
    Ok(matches!(status, Status::Accepted | Status::Duplicate))
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
    let (target, told) = (id.to_string(), status.as_str());
    let target = Target::Named(&target);
    audit_command(&*app.store, "quarantine_retry", target, None, Some(1), told).await;
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
