//! `why`: the story of an event, or of a contact's latest events, in plain words.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{Clock, SourceName, TokioClock};
use serde_json::{Value, json};

use super::{
    database_or_server::{DatabaseOrServer, PAGE, read},
    events::{source_of, text},
    print_json,
};
use crate::{
    deployment::Deployment,
    error::StartError,
    output::{complain, printable, say, shell_word},
    view,
};

/// How many events of a contact are told.
const EVENTS: usize = 20;
/// How many pages of the quarantine are searched for an event's id.
const QUARANTINE_PAGES: usize = 40;

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let key = arguments.get_one::<String>("key").map(String::as_str).unwrap_or_default();
    let source = source_of(arguments)?;
    let place = DatabaseOrServer::open(arguments, deployment).await?;
    let stats = read(&place.stats().await?);
    let now = view::time(TokioClock::new().now());
    let known = Known { paused: &stats["paused"], breakers: &stats["breakers"], now: &now };
    let quarantined = in_quarantine(&place, key, source.as_ref()).await?;
    // A text that is too long for an event's id may be a contact's key.
    let event = match key.parse::<cognigy_core::EventId>() {
        Ok(_) => place.event(key, source.as_ref()).await?,
        Err(_) => None,
    };
    let mut stories = Vec::new();
    if let Some(event) = event {
        stories.push((read(&event), quarantined));
    } else {
        for event in of_contact(&place, key, source.as_ref()).await? {
            let id = event["event_id"].as_str().unwrap_or_default();
            let source = event["source"].as_str().unwrap_or(cognigy_core::DEFAULT_SOURCE);
            let source = source.parse::<SourceName>().ok();
            // An event may be purged between the list and this question.
            let Some(detail) = place.event(id, source.as_ref()).await? else { continue };
            let beside = in_quarantine(&place, id, source.as_ref()).await?;
            stories.push((read(&detail), beside));
        }
        if !quarantined.is_empty() {
            stories.push((Value::Null, quarantined));
        }
    }
    if stories.is_empty() {
        complain(format_args!(
            "nothing is known of {key:?}: no event has this id, and no contact this key"
        ));
        return Ok(false);
    }
    for (place, (event, quarantined)) in stories.iter().enumerate() {
        let story = known.story(event, quarantined);
        if arguments.get_flag("json") {
            let id =
                if event.is_null() { key } else { event["event_id"].as_str().unwrap_or_default() };
            let source = event["source"].as_str().unwrap_or(cognigy_core::DEFAULT_SOURCE);
            let status = &event["status"];
            print_json(&json!({
                "event_id": id, "source": source, "status": status, "story": story,
            }))?;
            continue;
        }
        if place > 0 {
            say!("")?;
        }
        for sentence in story {
            say!("{sentence}")?;
        }
    }
    Ok(true)
}

/// The bodies in quarantine that name this event.
async fn in_quarantine(
    place: &DatabaseOrServer,
    id: &str,
    source: Option<&SourceName>,
) -> Result<Vec<Value>, StartError> {
    let (mut found, mut cursor) = (Vec::new(), None);
    let source = source.filter(|source| !source.is_default()).map(SourceName::as_str);
    for _ in 0..QUARANTINE_PAGES {
        let page = place.quarantine(PAGE, cursor).await?;
        let items = page.items.iter().map(|item| read(item));
        found.extend(items.filter(|item| {
            item["event_id"] == id && (source.is_none() || item["source"].as_str() == source)
        }));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(found)
}

/// The latest events of a contact, oldest first: by `externalId`, or else by `userId`.
async fn of_contact(
    place: &DatabaseOrServer,
    key: &str,
    source: Option<&SourceName>,
) -> Result<Vec<Value>, StartError> {
    if key.is_empty() {
        return Ok(Vec::new());
    }
    for name in ["external_id", "user"] {
        let mut filter = BTreeMap::from([(name.to_owned(), key.to_owned())]);
        filter.extend(source.map(|source| ("source".to_owned(), source.to_string())));
        let page = place.events(&filter, EVENTS, None).await?;
        if page.next.is_some() {
            complain(format_args!(
                "these are the latest {EVENTS} events of the contact; list names all"
            ));
        }
        if !page.items.is_empty() {
            return Ok(page.items.iter().rev().map(|event| read(event)).collect());
        }
    }
    Ok(Vec::new())
}

/// What is known beside the event itself.
struct Known<'a> {
    paused: &'a Value,
    breakers: &'a Value,
    now: &'a str,
}

impl Known<'_> {
    /// The story of an event: one sentence for each thing that happened, in order, and then how it
    /// stands.
    fn story(&self, event: &Value, quarantined: &[Value]) -> Vec<String> {
        let mut told = Vec::new();
        for item in quarantined {
            let (at, number) = (&item["received_at"], text(&item["id"]));
            let sentence = match item["reason"].as_str() {
                Some("conflict") => format!(
                    "another delivery had this id and other content. The first one stands; the body of \
                     the other is in quarantine as number {number}"
                ),
                _ => format!(
                    "a delivery with this id was refused, because it was not valid: {}. Its body is in \
                     quarantine as number {number}",
                    text(&item["detail"])
                ),
            };
            told.push((at, sentence));
        }
        if !event.is_null() {
            told.push((&event["received_at"], received(event)));
        }
        let attempts = event["attempts"].as_array().into_iter().flatten();
        for attempt in attempts {
            told.push((&attempt["started_at"], attempted(attempt)));
        }
        for entry in event["audit"].as_array().into_iter().flatten() {
            let [by, action, outcome] = ["by", "action", "outcome"].map(|name| text(&entry[name]));
            let many = if entry["count"].is_null() { ", with other events" } else { "" };
            told.push((&entry["at"], format!("{by} asked for a {action}{many}: {outcome}")));
        }
        // All times are of one form, so that they sort as texts do. The sort keeps the order of equals.
        told.sort_by(|(one, _), (other, _)| one.as_str().cmp(&other.as_str()));
        let mut story: Vec<_> =
            told.into_iter().map(|(at, sentence)| format!("{}  {sentence}.", text(at))).collect();
        match event {
            Value::Null => story.push("Now: no event with this id is stored.".to_owned()),
            event => story.push(format!("Now: {}.", self.standing(event))),
        }
        if let Some(why) = event["forgotten"].as_str() {
            let why = match why {
                "sensitive" => "its sender asked that it be kept no longer than needed",
                "erased" => "the person whom it is about was erased",
                other => &printable(other),
            };
            story.push(format!("Its body was forgotten: {why}. It cannot be run again."));
        }
        story
    }

    /// How the event stands now.
    fn standing(&self, event: &Value) -> String {
        let source = event["source"].as_str().unwrap_or(cognigy_core::DEFAULT_SOURCE);
        let (paused, breaker) = (&self.paused[source], &self.breakers[source]);
        match event["status"].as_str().unwrap_or_default() {
            "pending" if paused.is_object() => format!(
                "it waits, because the workers of the source {source} are paused: by {} at {}. \
                 cognigy-server resume {source} lets them go on",
                text(&paused["by"]),
                text(&paused["at"])
            ),
            "pending" if breaker.is_object() && !event["next_attempt_at"].is_null() => format!(
                "it waits, because the CRM of the source {source} is out of reach, and its look-ups are \
                 held back since {}: {}. The server asks again every few seconds, and goes on by itself",
                text(&breaker["since"]),
                text(&breaker["error"])
            ),
            "pending" => match event["next_attempt_at"].as_str() {
                None => "it waits until an earlier event of the same contact has ended".to_owned(),
                Some(due) if due > self.now => {
                    format!("it waits for its next attempt, at {}", printable(due))
                }
                Some(due) => {
                    format!("it has been due since {}, and waits for a worker", printable(due))
                }
            },
            "processing" => "a worker has claimed it and works on it".to_owned(),
            "processed" => {
                format!("it is processed, since {}. {}", text(&event["processed_at"]), asked(event))
            }
            "dead_lettering" => {
                let letter = &event["dead_letter"];
                format!(
                    "it was given up: {}. Its dead letter is not sent yet; it was tried {} times, and is \
                     tried next at {}",
                    text(&letter["reason"]),
                    text(&letter["tries"]),
                    text(&letter["next_try_at"])
                )
            }
            "dead_lettered" => {
                let again = event["event_id"].as_str().and_then(shell_word);
                let again = again.map(|id| format!(". cognigy-server replay {id} runs it again"));
                format!(
                    "it was given up; its dead letter was sent to the queue, or is kept in the store where \
                     there is none. {}{}",
                    asked(event),
                    again.unwrap_or_default()
                )
            }
            "discarded" => "it was given up, and its dead letter was discarded".to_owned(),
            other => format!("its status is {other}"),
        }
    }
}

fn received(event: &Value) -> String {
    let mut sentence = format!("the event {} was received and stored", text(&event["event_id"]));
    sentence.push_str(&format!(": {}", text(&event["type"])));
    for (name, words) in
        [("external_id", "external id"), ("user_id", "user id"), ("source", "source")]
    {
        if event[name].is_string() {
            sentence.push_str(&format!(", {words} {}", text(&event[name])));
        }
    }
    sentence
}

fn attempted(attempt: &Value) -> String {
    let [run, number, milliseconds] =
        ["run", "number", "duration_ms"].map(|name| text(&attempt[name]));
    if attempt["outcome"] == "recorrelated" {
        return format!(
            "the CRM was asked again for the contact, and after {milliseconds} ms it knew the contact; the \
             handler was not run (kept as run {run})"
        );
    }
    if attempt["outcome"] == "imported" {
        let error = attempt["error"].as_str().map(|error| format!(": {}", printable(error)));
        let end = if error.is_some() { "given the event up" } else { "processed the event" };
        let error = error.unwrap_or_default();
        return format!(
            "another system had {end}, and nothing ran here (kept as run {run}){error}"
        );
    }
    let kind = if run == "1" { "" } else { ", a replay" };
    let error = text(&attempt["error"]);
    let outcome = match attempt["outcome"].as_str().unwrap_or_default() {
        "succeeded" => "succeeded".to_owned(),
        "failed_transient" => format!("failed in a way that may pass: {error}"),
        "failed_permanent" => format!("failed for good: {error}"),
        "lease_expired" => {
            "was lost: its worker ended or stood still, and its lease ran out".to_owned()
        }
        other => other.to_owned(),
    };
    format!("attempt {number} of run {run}{kind} began, and after {milliseconds} ms it {outcome}")
}

/// What asking the CRM came to.
fn asked(event: &Value) -> &'static str {
    match event["correlation"].as_str().unwrap_or_default() {
        "matched" => "The CRM knew the contact",
        "none" => "The CRM did not know the contact",
        "ambiguous" => "The CRM knew several such contacts",
        "failed" => "The CRM could not say who the contact is",
        _ => "The CRM was not asked",
    }
}
