//! `list` and `show`: they read the database, with or without a running server, or ask one.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{Clock, EventFilter, EventId, EventKey, SourceName, Store, TokioClock};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    database_or_server::{DatabaseOrServer, PAGE, read},
    number,
    screen::Screen,
};
use crate::{
    deployment::Deployment,
    error::StartError,
    filter::{self, Types},
    find,
    output::{complain, printable, say},
    settings::Settings,
};

/// The filter that the flags describe.
pub(super) fn filter_of(
    arguments: &ArgMatches,
    settings: &Settings,
) -> Result<EventFilter, StartError> {
    // A server's sources need not be those that are set here.
    let types = match arguments.try_get_one::<String>("server") {
        Ok(Some(_)) => Types::Any,
        _ => settings.types(),
    };
    filter::from_pairs(&pairs_of(arguments), TokioClock::new().now(), types)
        .map_err(|problem| StartError::Usage(format!("--{problem}")))
}

/// The events that a command is to act on: those that match the filter, or, if there are ids, those.
pub(super) fn selection_of<'a>(
    arguments: &'a ArgMatches,
    settings: &Settings,
) -> Result<(EventFilter, Vec<&'a String>), StartError> {
    let filter = filter_of(arguments, settings)?;
    let ids: Vec<&String> = arguments.get_many("id").unwrap_or_default().collect();
    // Beside ids, the source is not a condition: it names the source of the ids.
    let conditions = match ids.is_empty() {
        true => filter.clone(),
        false => EventFilter { source: None, ..filter.clone() },
    };
    if ids.is_empty() == (conditions == EventFilter::default()) {
        return Err(StartError::Usage("name either events or a filter".to_owned()));
    }
    Ok((filter, ids))
}

/// The flags that make a filter.
pub(super) fn pairs_of(arguments: &ArgMatches) -> BTreeMap<String, String> {
    let pair = |(name, _): &(&str, &str)| {
        let value = arguments.get_one::<String>(name)?;
        Some(((*name).to_owned(), value.clone()))
    };
    filter::NAMES.iter().filter_map(pair).collect()
}

/// The source that `--source` names.
pub(super) fn source_of(arguments: &ArgMatches) -> Result<Option<SourceName>, StartError> {
    let named = arguments.get_one::<String>("source").map(|name| name.parse());
    named.transpose().map_err(|error| StartError::Usage(format!("--source: {error}")))
}

/// The key of an event id from the command line. Without a `source` it is the key of the only
/// source that has such an event, or the plain path's source if none has.
pub(super) async fn key_of(
    id: &str,
    source: Option<&SourceName>,
    store: &dyn Store,
    settings: &Settings,
) -> Result<EventKey, StartError> {
    let id: EventId =
        id.parse().map_err(|problem| StartError::Usage(format!("{id:?}: {problem}")))?;
    if let Some(source) = source {
        return Ok(EventKey { source: source.clone(), id });
    }
    let configured: Vec<_> = settings.all().map(|source| source.name.clone()).collect();
    let found = find::sources_of(store, &id, &configured).await?;
    match found.as_slice() {
        [] => Ok(EventKey { source: SourceName::default(), id }),
        [source] => Ok(EventKey { source: source.clone(), id }),
        several => Err(StartError::Usage(format!(
            "several sources have an event {id:?}: {}; name one with --source",
            find::listed(several),
            id = id.as_str(),
        ))),
    }
}

pub(super) async fn list(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    filter_of(arguments, &deployment.settings)?;
    let (place, filter) =
        (DatabaseOrServer::open(arguments, deployment).await?, pairs_of(arguments));
    let mut left = number(arguments, "limit") as usize;
    let mut cursor = None;
    let (screen, as_json) = (Screen::of(arguments), arguments.get_flag("json"));
    let mut is_empty = true;
    while left > 0 {
        let page = place.events(&filter, left.min(PAGE), cursor).await?;
        left -= page.items.len().min(left);
        for event in page.items {
            if let Some(screen) = screen.filter(|_| is_empty) {
                screen.head()?;
            }
            is_empty = false;
            print_line(&event, screen, as_json)?;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if is_empty && !as_json {
        complain("no events match");
    }
    Ok(true)
}

/// Prints an event as a line.
pub(super) fn print_line(
    event: &RawValue,
    screen: Option<Screen>,
    as_json: bool,
) -> Result<(), StartError> {
    if as_json {
        return say!("{}", event.get());
    }
    let event = read(event);
    if let Some(screen) = screen {
        return screen.event(&event);
    }
    let source = event["source"].as_str().map(|source| format!("  of {}", printable(source)));
    say!(
        "{}  {:<14} {:<20} {}{}",
        text(&event["received_at"]),
        text(&event["status"]),
        text(&event["type"]),
        text(&event["event_id"]),
        source.unwrap_or_default(),
    )
}

/// A text of an answer, for a terminal. `-` if there is none.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

pub(super) async fn show(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let id = arguments.get_one::<String>("id").map(String::as_str).unwrap_or_default();
    let source = source_of(arguments)?;
    let place = DatabaseOrServer::open(arguments, deployment).await?;
    let Some(event) = place.event(id, source.as_ref()).await? else {
        complain(match source {
            Some(source) => format!("no event {id:?} of the source {source} is stored"),
            None => format!("no event {id:?} is stored"),
        });
        return Ok(false);
    };
    if arguments.get_flag("json") {
        say!("{}", event.get())?
    } else {
        print(&event)?
    }
    Ok(true)
}

/// A member of the answer, as it was written.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(borrow)]
    crm_context: Option<&'a RawValue>,
}

/// Prints an event for people: a few lines, then the attempts.
fn print(event: &RawValue) -> Result<(), StartError> {
    let written: Written<'_> =
        serde_json::from_str(event.get()).map_err(|error| StartError::failed("JSON", &error))?;
    let detail = read(event);
    let of = |name: &str| text(&detail[name]);
    say!("event        {}", of("event_id"))?;
    if detail["source"].is_string() {
        say!("source       {}", of("source"))?;
    }
    say!("type         {}", of("type"))?;
    say!("status       {}", of("status"))?;
    say!("timestamp    {}", printable(written.timestamp.get().trim_matches('"')))?;
    say!("external id  {}", of("external_id"))?;
    say!("user id      {}", of("user_id"))?;
    say!("conversation {}", of("conversation"))?;
    say!("correlation  {}", of("correlation"))?;
    say!("received     {}", of("received_at"))?;
    say!("processed    {}", of("processed_at"))?;
    if detail["next_attempt_at"].is_string() {
        say!("next due     {}", of("next_attempt_at"))?;
    }
    say!("contact      {}", printable(written.crm_context.map_or("null", RawValue::get)))?;
    match (detail["body"].as_str(), detail["forgotten"].as_str()) {
        (Some(body), _) => say!("body         {}", printable(body))?,
        (None, Some(why)) => say!("body         forgotten ({})", printable(why))?,
        (None, None) if detail["sensitive"] == true => {
            say!("body         not shown: its sender asked that it be logged nowhere")?;
        }
        (None, None) => say!("body         not shown: your role does not include bodies")?,
    }
    let letter = &detail["dead_letter"];
    if letter.is_object() {
        let (tries, next) = (text(&letter["tries"]), text(&letter["next_try_at"]));
        say!("dead letter: not sent yet, tried {tries} times, next at {next}")?;
        say!("             {}", text(&letter["reason"]))?;
    }
    for attempt in detail["attempts"].as_array().into_iter().flatten() {
        let error = attempt["error"].as_str().map(|error| format!(": {}", printable(error)));
        if attempt["outcome"] == "recorrelated" {
            say!(
                "run {} recorrelated: the CRM knew the contact after {} ms, {}; the handler was not run",
                text(&attempt["run"]),
                text(&attempt["duration_ms"]),
                text(&attempt["started_at"]),
            )?;
            continue;
        }
        say!(
            "run {} attempt {}: {} after {} ms, {}{}",
            text(&attempt["run"]),
            text(&attempt["number"]),
            text(&attempt["outcome"]),
            text(&attempt["duration_ms"]),
            text(&attempt["started_at"]),
            error.unwrap_or_default(),
        )?;
    }
    for entry in detail["audit"].as_array().into_iter().flatten() {
        let [action, by, outcome, at] =
            ["action", "by", "outcome", "at"].map(|name| text(&entry[name]));
        let many = if entry["count"].is_null() { ", one of many" } else { "" };
        say!("{action} by {by}{many}: {outcome}, {at}")?;
    }
    Ok(())
}
