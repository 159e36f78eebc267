//! `GET /admin/contacts/{key}`: everything that is stored about one contact, oldest first.

use std::collections::{BTreeMap, BTreeSet};

use cognigy_core::{
    Attempt, EventFilter, EventSummary, PageRequest, Person, QuarantineSummary, State, Store,
    StoreError, Timestamp,
};

use crate::{
    Operator, OperatorApi,
    problem::Problem,
    view::{Contact, Conversation, DeadLetter, EventLine, QuarantineLine, Replay, time},
};

/// How many events are shown, the newest ones.
const EVENTS: usize = 500;

/// How many quarantined bodies are looked through, the newest ones.
const BODIES: usize = 1000;

/// How many entries one store call asks for.
const PAGE: usize = 250;

impl OperatorApi {
    /// What an operator sees of a contact: `key` is an `externalId` or a `userId`.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn contact(&self, operator: &Operator, key: String) -> Result<Contact, Problem> {
        let store = self.store();
        let (events, more) = events(store, &key).await?;
        let quarantined = quarantine(store, &key, &events).await?;
        let seen = |line: QuarantineLine| line.seen_by(operator.role());
        let mut contact = Contact {
            conversations: conversations(&events),
            quarantine: quarantined.into_iter().map(seen).collect(),
            dead_letters: Vec::new(),
            replays: Vec::new(),
            events: Vec::new(),
            key,
            more,
        };
        let mut replays = Vec::new();
        for event in events {
            let attempts = store.attempts(&event.key()).await?;
            contact.dead_letters.extend(dead_letter(&event, &attempts));
            let runs = attempts.into_iter().filter(|attempt| attempt.run > 1);
            replays.extend(runs.map(|attempt| (attempt.started_at, replay(&event, &attempt))));
            contact.events.push(EventLine::from(event));
        }
        replays.sort_by_key(|(at, _)| *at);
        contact.replays = replays.into_iter().map(|(_, replay)| replay).collect();
        Ok(contact)
    }
}

/// The contact's events, and whether there are more.
async fn events(store: &dyn Store, key: &str) -> Result<(Vec<EventSummary>, bool), StoreError> {
    let id = || Some(key.to_owned());
    let mut found = BTreeMap::<(Timestamp, String, String), EventSummary>::new();
    let mut more = false;
    for filter in [
        EventFilter { external_id: id(), ..EventFilter::default() },
        EventFilter { user_id: id(), ..EventFilter::default() },
    ] {
        let mut page = PageRequest { limit: PAGE, after: None };
        let mut count = 0;
        loop {
            let events = store.list(&filter, page).await?;
            count += events.events.len();
            found.extend(events.events.into_iter().map(|event| {
                let place = (event.received_at, event.source.to_string(), event.id.to_string());
                (place, event)
            }));
            page.after = events.next;
            if page.after.is_none() || count >= EVENTS {
                break;
            }
        }
        more |= page.after.is_some();
    }
    more |= found.len() > EVENTS;
    let surplus = found.len().saturating_sub(EVENTS);
    Ok((found.into_values().skip(surplus).collect(), more))
}

fn conversations(events: &[EventSummary]) -> Vec<Conversation> {
    let mut found: Vec<Conversation> = Vec::new();
    for event in events {
        let Some(name) = &event.conversation else { continue };
        let at = time(event.received_at);
        match found.iter_mut().find(|it| it.conversation == *name) {
            Some(known) => {
                known.events += 1;
                known.last = at;
            }
            None => {
                let (conversation, first) = (name.clone(), at.clone());
                found.push(Conversation { conversation, events: 1, first, last: at });
            }
        }
    }
    found
}

/// The bodies in quarantine that name the contact or one of its events, oldest first.
async fn quarantine(
    store: &dyn Store,
    key: &str,
    events: &[EventSummary],
) -> Result<Vec<QuarantineLine>, StoreError> {
    let ids: BTreeSet<_> = events.iter().map(|event| (&event.source, event.id.as_str())).collect();
    let person = Person::ExternalId(key.to_owned());
    let mut found = Vec::new();
    let mut page = PageRequest { limit: PAGE, after: None };
    let mut count = 0;
    loop {
        let bodies = store.quarantined(page).await?;
        count += bodies.items.len();
        for item in bodies.items {
            let id = item.event_id.as_deref();
            if id.is_some_and(|id| ids.contains(&(&item.source, id)))
                || names(store, &person, &item).await?
            {
                found.push(QuarantineLine::from(item));
            }
        }
        page.after = bodies.next;
        if page.after.is_none() || count >= BODIES {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

async fn names(
    store: &dyn Store,
    person: &Person,
    item: &QuarantineSummary,
) -> Result<bool, StoreError> {
    if item.is_whole() {
        return Ok(person.is_named_in(&item.excerpt));
    }
    let item = store.quarantined_item(item.id).await?;
    Ok(item.is_some_and(|item| person.is_named_in(&item.body)))
}

fn dead_letter(event: &EventSummary, attempts: &[Attempt]) -> Option<DeadLetter> {
    if !matches!(event.state, State::DeadLettering | State::DeadLettered | State::Discarded) {
        return None;
    }
    let last = attempts.last();
    Some(DeadLetter {
        event_id: event.id.as_str().to_owned(),
        status: event.state.as_str(),
        error: last.and_then(|last| last.error.clone()),
        at: last.map(|last| time(last.started_at)),
    })
}

fn replay(event: &EventSummary, attempt: &Attempt) -> Replay {
    Replay {
        event_id: event.id.as_str().to_owned(),
        run: attempt.run,
        outcome: attempt.outcome.as_str(),
        at: time(attempt.started_at),
    }
}
