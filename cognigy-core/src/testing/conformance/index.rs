//! The contract of the search index: no list tells whether there is one.

use super::{
    administration::{claim_run, give_up, process},
    at, record, sample, settle,
};
use crate::{
    ports::Contact,
    store::{
        AttemptOutcome, EventFilter, PageRequest, Person, PurgeRequest, ReplayClaim, RunEnd, Store,
        Words, search_index::IndexRequest,
    },
};

/// Describes whatever can be described.
async fn index_all(store: &dyn Store, seconds: i64) {
    for _ in 0..200 {
        if !store.index(&IndexRequest::tiny(at(seconds))).await.unwrap() {
            return;
        }
    }
    panic!("the index is never done");
}

async fn all_pages(store: &dyn Store, filter: &EventFilter, limit: usize) -> Vec<String> {
    let (mut page, mut ids) = (PageRequest { limit, after: None }, Vec::new());
    loop {
        let found = store.list(filter, page).await.unwrap();
        ids.extend(found.events.into_iter().map(|event| event.id.to_string()));
        page.after = found.next;
        if page.after.is_none() {
            return ids;
        }
    }
}

fn words(text: &str) -> EventFilter {
    EventFilter { words: Words::of(text), ..EventFilter::default() }
}

fn filters() -> Vec<EventFilter> {
    let of = |id: &str| Some(id.to_owned());
    let mut filters: Vec<_> =
        ["hello", "e-1", "e 7", "thing special", "down", "jos\u{e9}", "c", "%", "absent"]
            .map(words)
            .into();
    for id in ["c-e-3", "c-e-13", "c-e", "user-e-4"] {
        filters.push(EventFilter { external_id: of(id), ..EventFilter::default() });
        filters.push(EventFilter { user_id: of(id), ..words("hello") });
        filters.push(EventFilter { conversation: of(id), ..EventFilter::default() });
    }
    filters.push(EventFilter { from: Some(at(5)), to: Some(at(12)), ..words("hello") });
    filters
}

async fn everything(store: &dyn Store) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for filter in filters() {
        for limit in [1, 3, 100] {
            found.push(all_pages(store, &filter, limit).await);
        }
    }
    found
}

/// At every step of its making.
pub async fn an_index_changes_nothing_that_is_found(store: &dyn Store) {
    for n in 0..20 {
        let id = format!("e-{n}");
        match n % 4 {
            0 => give_up(store, &id, n).await,
            1 | 2 => process(store, &id, n).await,
            _ => {
                let mut event = sample::incoming(sample::body(&id));
                event.parts.conversation = Some("c-e".to_owned());
                event.parts.sensitive = n == 7;
                store.record(event, at(n)).await.unwrap();
                let run = claim_run(store, n).await;
                let contact = Contact::from_json(r#"{"name":"Jos\u00e9","thing":"special"}"#).ok();
                settle(store, run.claim.settle(RunEnd::Processed { contact }, None, at(n))).await;
            }
        }
    }
    let before = everything(store).await;
    assert!(before.iter().filter(|ids| !ids.is_empty()).count() > before.len() / 3);
    let mut steps = 0;
    while store.index(&IndexRequest::tiny(at(100))).await.unwrap() {
        assert_eq!(everything(store).await, before, "after {steps} steps");
        steps += 1;
    }
    record(store, "e-20", 101).await;
    index_all(store, 200).await;
    let newest = EventFilter { to: Some(at(100)), ..words("hello") };
    assert_eq!(all_pages(store, &newest, 3).await, before[2]);
}

/// Other words of a later run are found, and what was purged or erased is not.
pub async fn what_happens_after_the_index_was_made_is_found(store: &dyn Store) {
    for n in 0..12 {
        process(store, &format!("e-{n}"), n).await;
    }
    index_all(store, 100).await;
    let replayed = async |id: &str, contact: Option<&str>, seconds: i64| {
        let claim = store.replay(&sample::key(id), super::LEASE, at(seconds)).await.unwrap();
        let ReplayClaim::Claimed(run) = claim else { panic!("{claim:?}") };
        let (end, outcome) = match contact {
            Some(json) => {
                let contact = Contact::from_json(json).ok();
                (RunEnd::Processed { contact }, AttemptOutcome::Succeeded)
            }
            None => {
                let reason = "the CRM refused".to_owned();
                (RunEnd::GiveUp { reason, attempts: 1 }, AttemptOutcome::FailedPermanent)
            }
        };
        let attempt = super::attempt(run.run, run.attempt, seconds, outcome);
        settle(store, run.claim.settle(end, Some(attempt), at(seconds))).await;
    };
    replayed("e-3", Some(r#"{"name":"Miller"}"#), 101).await;
    replayed("e-8", None, 102).await;
    for index in [false, true] {
        if index {
            index_all(store, 200).await;
        }
        assert_eq!(all_pages(store, &words("mill"), 2).await, ["e-3"], "{index}");
        assert_eq!(all_pages(store, &words("the crm"), 2).await, ["e-8"], "{index}");
    }
    let person = Person::ExternalId("c-e-5".to_owned());
    store.erase(&person, "admin", at(300)).await.unwrap();
    let request = PurgeRequest { before: at(2), unresolved_before: None, limit: 10, after: None };
    store.purge(request).await.unwrap();
    let left = ["e-11", "e-10", "e-9", "e-8", "e-7", "e-6", "e-4", "e-3", "e-2"];
    for index in [false, true] {
        if index {
            index_all(store, 400).await;
        }
        assert_eq!(all_pages(store, &words("hello"), 4).await, left, "{index}");
        let id = words("e-5");
        assert_eq!(all_pages(store, &id, 4).await, ["e-5"], "the event's own id stays");
        let its = EventFilter { external_id: Some("c-e-5".to_owned()), ..EventFilter::default() };
        assert!(all_pages(store, &its, 4).await.is_empty(), "{index}");
    }
}
