//! `list` and `show`: straight from the database, beside a running server or without one.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{EventArchive, EventFilter, EventId, EventKey, PageRequest, SourceName};

use super::{number, print_json};
use crate::{
    app::{Access, StartError, open_store},
    filter,
    http::view::{EventDetail, EventLine, printable},
    output::say,
    settings::Settings,
};

/// Events asked for at a time.
const PAGE: usize = 256;

/// The filter that the flags describe.
pub(super) fn filter_of(arguments: &ArgMatches) -> Result<EventFilter, StartError> {
    let pairs: BTreeMap<String, String> = filter::NAMES
        .iter()
        .filter_map(|(name, _)| {
            let value = arguments.get_one::<String>(name)?;
            Some(((*name).to_owned(), value.clone()))
        })
        .collect();
    filter::from_pairs(&pairs).map_err(StartError::Usage)
}

/// The source that `--source` names.
pub(super) fn source_of(arguments: &ArgMatches) -> Result<SourceName, StartError> {
    match arguments.get_one::<String>("source").filter(|name| !name.is_empty()) {
        None => Ok(SourceName::default()),
        Some(name) => name.parse().map_err(|error| StartError::Usage(format!("--source: {error}"))),
    }
}

/// The key of an id of `source` given on the command line.
pub(super) fn key_of(id: &str, source: &SourceName) -> Result<EventKey, StartError> {
    let id: EventId =
        id.parse().map_err(|problem| StartError::Usage(format!("{id:?}: {problem}")))?;
    Ok(EventKey { source: source.clone(), id })
}

pub(super) async fn list(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let filter = filter_of(arguments)?;
    let store = open_store(settings, Access::Read, None).await?;
    let mut left = number(arguments, "limit") as usize;
    let mut after = None;
    while left > 0 {
        let page = store.list(&filter, PageRequest { limit: left.min(PAGE), after }).await?;
        left -= page.events.len();
        for event in page.events {
            if arguments.get_flag("json") {
                print_json(&EventLine::from(event))?;
            } else {
                let source = match event.source.is_default() {
                    true => String::new(),
                    false => format!("  of {}", event.source),
                };
                say!(
                    "{}  {:<14} {:<20} {}{source}",
                    crate::http::view::time(event.received_at),
                    event.state.as_str(),
                    event.kind.as_str(),
                    printable(event.id.as_str()),
                )?;
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(true)
}

pub(super) async fn show(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let id = arguments.get_one::<String>("id").map(String::as_str).unwrap_or_default();
    let key = key_of(id, &source_of(arguments)?)?;
    let store = open_store(settings, Access::Read, None).await?;
    let Some(stored) = store.find(&key).await? else {
        eprintln!("cognigy-server: no event {id:?} is stored");
        return Ok(false);
    };
    let detail = EventDetail::new(stored, store.attempts(&key).await?);
    if arguments.get_flag("json") {
        print_json(&detail)?;
    } else {
        detail.print()?;
    }
    Ok(true)
}
