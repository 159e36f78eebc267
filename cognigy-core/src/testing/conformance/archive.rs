//! The contract of reading and of upkeep.

use super::{at, claim, claim_for, claim_one, give_up, process, record, sample, settle};
use crate::{
    event::{EventType, SourceName, State},
    store::{
        Backlog, DeadLetterEnd, EventFilter, EventPage, Forgotten, PAGE_BYTES, PageRequest,
        PurgeRequest, Purged, Recorded, ReplayClaim, Requeued, RunEnd, Settled, Store,
        UnsentDeadLetter,
    },
};

async fn list(store: &dyn Store, filter: EventFilter) -> Vec<String> {
    let page = store.list(&filter, PageRequest { limit: 100, after: None }).await.unwrap();
    assert_eq!(page.next, None);
    page.events.into_iter().map(|event| event.id.to_string()).collect()
}

/// Each filter selects by itself and together with others. The newest event comes first.
pub async fn lists_filter_and_page(store: &dyn Store) {
    process(store, "a", 0).await;
    record(store, "b", 10).await;
    let ended = r#"{"eventId":"c%'","timestamp":1,"type":"DIALOG_ENDED","payload":{}}"#;
    store.record(sample::incoming(ended), at(20)).await.unwrap();

    let any = EventFilter::default;
    assert_eq!(list(store, any()).await, ["c%'", "b", "a"]);
    assert_eq!(list(store, EventFilter { state: Some(State::Processed), ..any() }).await, ["a"]);
    assert_eq!(
        list(store, EventFilter { state: Some(State::Pending), ..any() }).await,
        ["c%'", "b"]
    );
    let ended = Some(EventType::DialogEnded);
    assert_eq!(list(store, EventFilter { kind: ended, ..any() }).await, ["c%'"]);
    let user = Some("u-b".to_owned());
    assert_eq!(list(store, EventFilter { user_id: user.clone(), ..any() }).await, ["b"]);
    let contact = Some("c-a".to_owned());
    assert_eq!(list(store, EventFilter { external_id: contact.clone(), ..any() }).await, ["a"]);
    assert_eq!(list(store, EventFilter { from: Some(at(10)), ..any() }).await, ["c%'", "b"]);
    assert_eq!(list(store, EventFilter { to: Some(at(10)), ..any() }).await, ["a"]);
    assert!(
        list(store, EventFilter { user_id: user, external_id: contact, ..any() }).await.is_empty()
    );
    let elsewhere = Some("elsewhere".parse().unwrap());
    assert!(list(store, EventFilter { source: elsewhere, ..any() }).await.is_empty());
    let of_conversation = |name: &str| EventFilter { conversation: Some(name.into()), ..any() };
    let spoken = sample::incoming_in(sample::body("d"), sample::context(&[]), Some("s'1"));
    store.record(spoken, at(5)).await.unwrap();
    assert_eq!(list(store, of_conversation("s'1")).await, ["d"]);
    assert!(list(store, of_conversation("s")).await.is_empty());
    let hostile = Some("%' OR 1=1 --".to_owned());
    assert!(list(store, EventFilter { user_id: hostile, ..any() }).await.is_empty());

    let page = page_after(store, 3, None).await;
    let summary = &page.events[2];
    assert_eq!(summary.id.as_str(), "b");
    assert_eq!((summary.received_at, summary.processed_at), (at(10), None));
    assert_eq!(summary.external_id.as_deref(), Some("c-b"));
    assert!(page.next.is_some());
}

async fn page_after(store: &dyn Store, limit: usize, after: Option<crate::Cursor>) -> EventPage {
    store.list(&EventFilter::default(), PageRequest { limit, after }).await.unwrap()
}

/// Paging returns every stored event once, even if events arrive between two pages.
pub async fn pages_hold_while_events_arrive(store: &dyn Store) {
    for number in 0..7 {
        record(store, &format!("e{number}"), number).await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = page_after(store, 3, after).await;
        seen.extend(page.events.iter().map(|event| event.id.to_string()));
        record(store, &format!("new-{}", seen.len()), 100).await;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["e6", "e5", "e4", "e3", "e2", "e1", "e0"]);
}

/// Every event is counted once, in the state it is in.
pub async fn counts_agree_with_what_happened(store: &dyn Store) {
    assert_eq!(store.counts().await.unwrap().oldest_pending, None);
    process(store, "done", 0).await;
    give_up(store, "dead", 1).await;
    record(store, "waiting", 2).await;
    record(store, "waiting too", 3).await;
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.of(State::Processed), 1);
    assert_eq!(counts.of(State::DeadLettering), 1);
    assert_eq!(counts.of(State::Pending), 2);
    assert_eq!(counts.of(State::DeadLettered), 0);
    assert_eq!(counts.by_type.get("USER_INPUT_RECEIVED"), Some(&4));
    assert_eq!(counts.oldest_pending, Some(at(1)), "its dead letter waits for the sink");
    assert_eq!((counts.unsent_dead_letters, counts.quarantined), (1, 0));

    let batch = claim(store, 1, 4).await;
    for work in batch.dead_letters {
        let sent = work.claim.settle(DeadLetterEnd::Sent, at(5));
        assert_eq!(settle(store, sent).await, Settled::Done);
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::DeadLettering), counts.of(State::DeadLettered)), (0, 1));
    assert_eq!(counts.oldest_pending, Some(at(2)));
}

/// A purge removes old, finished events, at most `limit` at a time; the rest stays.
pub async fn purging_spares_what_is_unfinished(store: &dyn Store) {
    process(store, "old-1", 0).await;
    process(store, "old-2", 1).await;
    give_up(store, "unsent", 2).await;
    record(store, "waiting", 3).await;
    process_among(store, "young", 100).await;

    assert_eq!(purge(store, 0, 10).await, 0, "none came before that");
    assert_eq!(purgeable(store, 50).await, 2);
    assert_eq!(purge(store, 50, 1).await, 1);
    assert_eq!(purge(store, 50, 10).await, 1);
    assert_eq!(purge(store, 50, 10).await, 0);
    let left = list(store, EventFilter::default()).await;
    assert_eq!(left, ["young", "waiting", "unsent"]);
    assert!(store.attempts(&sample::key("old-1")).await.unwrap().is_empty());
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.by_type.get("USER_INPUT_RECEIVED"), Some(&3));
}

/// How many events a purge of everything before a time removes.
async fn purge(store: &dyn Store, before: i64, limit: usize) -> u64 {
    let request = PurgeRequest::all_before(at(before), limit);
    store.purge(request).await.unwrap().purged.total_events()
}

async fn purgeable(store: &dyn Store, before: i64) -> u64 {
    let request = PurgeRequest::all_before(at(before), 0);
    store.purgeable(request).await.unwrap().total_events()
}

/// A dead-lettered event that no operator has handled is purged by a time of its own, or stays.
pub async fn dead_letters_are_kept_apart_from_what_was_processed(store: &dyn Store) {
    for (id, seconds) in [("dead-1", 0), ("dead-2", 10)] {
        give_up(store, id, seconds).await;
        for work in claim(store, 1, seconds).await.dead_letters {
            let sent = work.claim.settle(DeadLetterEnd::Sent, at(seconds));
            assert_eq!(settle(store, sent).await, Settled::Done);
        }
    }
    process(store, "done", 20).await;
    let states = async |before, unresolved_before: Option<i64>| {
        let unresolved_before = unresolved_before.map(at);
        let mut request =
            PurgeRequest { unresolved_before, ..PurgeRequest::all_before(at(before), 1) };
        let counted = store.purgeable(request).await.unwrap();
        let mut gone = Purged::default();
        loop {
            let step = store.purge(request).await.unwrap();
            gone.add(&step.purged);
            request.after = step.next;
            if request.after.is_none() {
                break;
            }
        }
        assert_eq!(gone, counted, "what was counted before goes");
        gone.events.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(states(1000, None).await, [(State::Processed, 1)]);
    assert_eq!(states(1000, Some(5)).await, [(State::DeadLettered, 1)]);
    assert_eq!(list(store, EventFilter::default()).await, ["dead-2"]);
    assert_eq!(states(0, Some(1000)).await, [(State::DeadLettered, 1)]);
    assert_eq!(store.counts().await.unwrap().of(State::DeadLettered), 0);
}

/// A dead letter that the sink does not take shows how often it was tried.
pub async fn an_unsent_dead_letter_shows(store: &dyn Store) {
    give_up(store, "dead", 0).await;
    let unsent = async || store.find(&sample::key("dead")).await.unwrap().unwrap().unsent;
    let waiting = unsent().await.expect("it waits for the sink");
    assert_eq!((waiting.run, waiting.tries, waiting.due), (1, 0, at(0)));
    for work in claim(store, 1, 1).await.dead_letters {
        let again = DeadLetterEnd::Retry { due: at(9) };
        assert_eq!(settle(store, work.claim.settle(again, at(1))).await, Settled::Done);
    }
    assert_eq!(unsent().await, Some(UnsentDeadLetter { tries: 1, due: at(9), ..waiting }));
    for work in claim(store, 1, 9).await.dead_letters {
        let sent = work.claim.settle(DeadLetterEnd::Sent, at(9));
        assert_eq!(settle(store, sent).await, Settled::Done);
    }
    assert_eq!(unsent().await, None);
}

/// Large ids shorten pages, and no event is left out.
pub async fn a_page_is_bounded_in_bytes(store: &dyn Store) {
    let long = "x".repeat(PAGE_BYTES / 2);
    for number in 0..5 {
        let body = format!(
            r#"{{"eventId":"e{number}","timestamp":1,"type":"DIALOG_ENDED","payload":{{}},"userId":"{long}"}}"#
        );
        store.record(sample::incoming(body), at(number)).await.unwrap();
    }
    let (mut sizes, mut after) = (Vec::new(), None);
    loop {
        let page = page_after(store, 100, after).await;
        sizes.push(page.events.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [3, 2], "one over the bound at the most");
}

/// Processes `id` while others are due too; the others are released.
async fn process_among(store: &dyn Store, id: &str, seconds: i64) {
    record(store, id, seconds).await;
    let batch = claim(store, 10, seconds).await;
    for work in batch.runs {
        let settlement = if work.key == sample::key(id) {
            super::processed(work.claim, seconds)
        } else {
            work.claim.settle(RunEnd::Release, None, at(seconds))
        };
        assert_eq!(settle(store, settlement).await, Settled::Done);
    }
    for work in batch.dead_letters {
        let retry = work.claim.settle(DeadLetterEnd::Retry { due: at(seconds) }, at(seconds));
        assert_eq!(settle(store, retry).await, Settled::Done);
    }
}

/// A purged event is new again, and nothing of its old history shows.
pub async fn a_purged_event_can_come_again(store: &dyn Store) {
    process(store, "a", 0).await;
    assert_eq!(purge(store, 1, 10).await, 1);
    assert!(store.find(&sample::key("a")).await.unwrap().is_none());
    let again = store.record(sample::incoming(sample::body("a")), at(2)).await.unwrap();
    assert_eq!(again, Recorded::New);
    let work = claim_one(store, 2).await;
    assert_eq!((work.run, work.attempt), (1, 1));
    assert!(store.attempts(&sample::key("a")).await.unwrap().is_empty());
}

/// Its digest stays: the same delivery is still known. There is nothing left to run.
pub async fn a_sensitive_body_is_forgotten_once_its_event_is_processed(store: &dyn Store) {
    let sensitive = |id: &str| {
        let headers = sample::context(&[("ce-id", "marked")]);
        let mut event = sample::incoming_in(sample::body(id), headers, None);
        event.parts.sensitive = true;
        event
    };
    process(store, "usual", 0).await;
    for id in ["done", "later", "failed", "open"] {
        store.record(sensitive(id), at(0)).await.unwrap();
        if id == "open" {
            break;
        }
        let runs = claim_for(store, &SourceName::default(), [10, 0], 0).await.runs;
        let work = runs.into_iter().next().unwrap();
        let seconds = if id == "later" { 50 } else { 1 };
        let end = match id {
            "failed" => super::gave_up(work.claim, seconds),
            _ => super::processed(work.claim, seconds),
        };
        settle(store, end).await;
    }
    let dead_letter = claim_for(store, &SourceName::default(), [0, 10], 2)
        .await
        .dead_letters
        .pop()
        .unwrap()
        .dead_letter;
    assert!(dead_letter.raw_payload.is_empty() && dead_letter.context.is_empty());

    assert_eq!(store.forget_sensitive(at(20), 10).await.unwrap(), 1);
    assert_eq!(store.forget_sensitive(at(20), 10).await.unwrap(), 0);
    let found = async |id| store.find(&sample::key(id)).await.unwrap().unwrap();
    for id in ["later", "failed", "open", "usual"] {
        let stored = found(id).await;
        assert_eq!((stored.event.body(), stored.forgotten), (&sample::body(id), None), "{id}");
    }
    let done = found("done").await;
    assert_eq!(done.forgotten, Some(Forgotten::Sensitive));
    assert!(done.event.body().is_empty() && done.event.context().is_empty());
    assert!(done.event.is_sensitive());

    let again = store.record(sensitive("done"), at(30)).await.unwrap();
    assert_eq!(again, Recorded::Identical);
    let mut other = sensitive("done");
    other.body = "{\"other\":1}".into();
    let differs = store.record(other, at(30)).await.unwrap();
    assert_eq!(differs, Recorded::Differs { stored: "".into() });
    let replay = store.replay(&sample::key("done"), super::LEASE, at(31)).await.unwrap();
    assert!(matches!(replay, ReplayClaim::Forgotten));
    let keys = [sample::key("done"), sample::key("usual")];
    let answers = store.requeue(&keys, at(31)).await.unwrap();
    assert_eq!(answers, [Requeued::Forgotten, Requeued::Scheduled]);
    assert_eq!(found("done").await.state, State::Processed);
}

/// One of several callers that expect the same succeeds; the others change nothing.
pub async fn a_shared_value_is_replaced_only_where_it_is_the_expected_one(store: &dyn Store) {
    let replace =
        async |expected, new| store.replace_shared_value("n", expected, new).await.unwrap();
    assert_eq!(store.shared_value("n").await.unwrap(), None);
    assert!(!replace(Some("a"), Some("b")).await);
    assert!(replace(None, Some("a")).await);
    assert!(!replace(None, Some("b")).await);
    assert!(store.replace_shared_value("m", None, Some("other")).await.unwrap());
    assert!(replace(Some("a"), Some("b'%")).await);
    assert_eq!(store.shared_value("n").await.unwrap().as_deref(), Some("b'%"));
    let both = futures_util::future::join_all(
        ["c", "d", "e"].map(|new| store.replace_shared_value("n", Some("b'%"), Some(new))),
    );
    let succeeded = both.await.into_iter().filter(|answer| *answer.as_ref().unwrap()).count();
    assert_eq!(succeeded, 1);
    let now = store.shared_value("n").await.unwrap().unwrap();
    assert!(!replace(Some("b'%"), None).await && replace(Some(&now), None).await);
    assert_eq!(store.shared_value("n").await.unwrap(), None);
    assert_eq!(store.shared_value("m").await.unwrap().as_deref(), Some("other"));
}

/// A store that is empty and works is ready.
pub async fn a_store_says_that_it_is_ready(store: &dyn Store) {
    store.ready().await.unwrap();
}

/// Unfinished events are counted by source; finished ones are not counted.
pub async fn a_backlog_is_each_source_s_own(store: &dyn Store) {
    let shop: SourceName = "shop".parse().unwrap();
    assert!(store.backlog().await.unwrap().is_empty());
    process(store, "done", 0).await;
    give_up(store, "dead", 0).await;
    for id in ["done", "dead", "more"] {
        store.record(sample::incoming_from(&shop, sample::body(id)), at(1)).await.unwrap();
    }
    record(store, "waits", 1).await;
    let held = claim_for(store, &shop, [1, 1], 1).await;
    assert_eq!(held.len(), 1, "what is held is not finished");
    let backlog: Vec<_> = store.backlog().await.unwrap().into_iter().collect();
    let ours = (SourceName::default(), Backlog { events: 1, dead_letters: 1 });
    assert_eq!(backlog, [ours, (shop, Backlog { events: 3, dead_letters: 0 })]);
}
