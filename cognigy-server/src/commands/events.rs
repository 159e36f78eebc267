//! `list` and `show`: they read the database, with or without a running server.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{
    Clock, Contact, EventArchive, EventFilter, EventId, EventKey, PageRequest, SourceName, Store,
    TokioClock,
};

use super::{number, print_json};
use crate::{
    deployment::Deployment,
    error::StartError,
    filter, find,
    output::{complain, printable, say},
    settings::Settings,
    store::{self, Access},
    view::{EventDetail, EventLine, time},
};

/// How many events one store call asks for.
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
    filter::from_pairs(&pairs, TokioClock::new().now())
        .map_err(|problem| StartError::Usage(format!("--{problem}")))
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
    let filter = filter_of(arguments)?;
    let store = store::open(deployment, Access::Read, None).await?;
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
                    time(event.received_at),
                    event.state.as_str(),
                    printable(event.kind.as_str()),
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

pub(super) async fn show(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let id = arguments.get_one::<String>("id").map(String::as_str).unwrap_or_default();
    let source = source_of(arguments)?;
    let store = store::open(deployment, Access::Read, None).await?;
    let key = key_of(id, source.as_ref(), &*store, &deployment.settings).await?;
    let Some(stored) = store.find(&key).await? else {
        complain(match source {
            Some(source) => format!("no event {id:?} of the source {source} is stored"),
            None => format!("no event {id:?} is stored"),
        });
        return Ok(false);
    };
    let whole = PageRequest { limit: PAGE, after: None };
    let audit = store.audited(Some(&key), whole).await?.entries;
    let detail = EventDetail::new(stored, store.attempts(&key).await?, audit);
    if arguments.get_flag("json") {
        print_json(&detail)?;
    } else {
        print(&detail)?;
    }
    Ok(true)
}

/// Prints an event for people: a few lines, then the attempts.
fn print(detail: &EventDetail) -> Result<(), StartError> {
    let or_none = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), printable);
    say!("event      {}", printable(&detail.event_id))?;
    if let Some(source) = &detail.source {
        say!("source     {source}")?;
    }
    say!("type       {}", printable(detail.kind.as_str()))?;
    say!("status     {}", detail.status)?;
    say!("timestamp  {}", printable(detail.timestamp.as_json().trim_matches('"')))?;
    say!("external   {}", or_none(&detail.external_id))?;
    say!("user       {}", or_none(&detail.user_id))?;
    say!("dialogue   {}", or_none(&detail.conversation))?;
    say!("CRM        {}", detail.correlation)?;
    say!("received   {}", detail.received_at)?;
    say!("processed  {}", detail.processed_at.as_deref().unwrap_or("-"))?;
    let context = detail.crm_context.as_ref().map_or("null", Contact::as_json);
    say!("context    {}", printable(context))?;
    match (&detail.body, detail.forgotten) {
        (Some(body), _) => say!("body       {}", printable(body))?,
        (None, Some(why)) => say!("body       forgotten ({why})")?,
        (None, None) => say!("body       not shown: its sender asked that it be logged nowhere")?,
    }
    if let Some(dead_letter) = &detail.dead_letter {
        let (tries, next) = (dead_letter.tries, &dead_letter.next_try_at);
        say!("dead letter: not sent yet, tried {tries} times, next at {next}")?;
        say!("             {}", printable(&dead_letter.reason))?;
    }
    for attempt in &detail.attempts {
        say!(
            "run {} attempt {}: {} after {} ms, {}{}",
            attempt.run,
            attempt.number,
            attempt.outcome,
            attempt.duration_ms,
            attempt.started_at,
            attempt.error.as_ref().map(|e| format!(": {}", printable(e))).unwrap_or_default(),
        )?;
    }
    for entry in &detail.audit {
        let (action, by, outcome) = (&entry.action, &entry.by, printable(&entry.outcome));
        say!("{action} by {by}: {outcome}, {}", entry.at)?;
    }
    Ok(())
}
