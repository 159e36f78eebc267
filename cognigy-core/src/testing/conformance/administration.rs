//! The contract of what operators do: discards, erasures and searches.

use super::{at, attempt, claim, claim_for, record, sample, settle, state_of};
use crate::{
    event::{EventKey, SourceName, State},
    ports::Contact,
    store::{
        AttemptOutcome, AuditEntry, ClaimedRun, DeadLetterEnd, Discarded, ErrorClass, EventFilter,
        Forgotten, PageRequest, Person, PurgeRequest, QuarantineEntry, QuarantineLimits,
        QuarantineReason, Recorded, ReplayClaim, Requeued, RunEnd, Settled, Store, Words,
        error_groups,
    },
};

/// Claims the one run that is due, and leaves dead letters.
pub(super) async fn claim_run(store: &dyn Store, seconds: i64) -> ClaimedRun {
    let mut runs = claim_for(store, &SourceName::default(), [10, 0], seconds).await.runs;
    assert_eq!(runs.len(), 1, "exactly one run is due");
    runs.remove(0)
}

/// Records `id` and makes it fail permanently, whatever waits for the sink.
pub(super) async fn give_up(store: &dyn Store, id: &str, seconds: i64) {
    record(store, id, seconds).await;
    let end = super::gave_up(claim_run(store, seconds).await.claim, seconds);
    assert_eq!(settle(store, end).await, Settled::Done);
}

/// Records `id` and processes it, whatever waits for the sink.
pub(super) async fn process(store: &dyn Store, id: &str, seconds: i64) {
    record(store, id, seconds).await;
    let end = super::processed(claim_run(store, seconds).await.claim, seconds);
    assert_eq!(settle(store, end).await, Settled::Done);
}

async fn send_all(store: &dyn Store, seconds: i64) {
    for work in claim_for(store, &SourceName::default(), [0, 100], seconds).await.dead_letters {
        let sent = work.claim.settle(DeadLetterEnd::Sent, at(seconds));
        assert_eq!(settle(store, sent).await, Settled::Done);
    }
}

async fn ids_of(store: &dyn Store, filter: &EventFilter) -> Vec<String> {
    let page = store.list(filter, PageRequest { limit: 100, after: None }).await.unwrap();
    page.events.into_iter().map(|event| event.id.to_string()).collect()
}

/// It stays in the history, and leaves the outbox even while it is being sent.
pub async fn a_discarded_dead_letter_is_never_sent_and_can_be_run_again(store: &dyn Store) {
    give_up(store, "sent", 0).await;
    send_all(store, 0).await;
    give_up(store, "unsent", 1).await;
    give_up(store, "held", 2).await;
    process(store, "done", 3).await;
    record(store, "open", 4).await;
    let mut letters = claim_for(store, &SourceName::default(), [0, 100], 5).await.dead_letters;
    let held = letters
        .remove(letters.iter().position(|it| it.dead_letter.key == sample::key("held")).unwrap());
    let keys = ["sent", "unsent", "held", "done", "open", "unknown", "sent"].map(sample::key);
    let answers = store.discard(&keys, at(6)).await.unwrap();
    assert_eq!(
        answers,
        [
            Discarded::Done,
            Discarded::Done,
            Discarded::Done,
            Discarded::NotDeadLettered,
            Discarded::NotDeadLettered,
            Discarded::NotFound,
            Discarded::NotDeadLettered,
        ]
    );
    assert_eq!(
        settle(store, held.claim.settle(DeadLetterEnd::Sent, at(6))).await,
        Settled::LeaseLost
    );
    assert!(claim_for(store, &SourceName::default(), [0, 100], 1000).await.dead_letters.is_empty());
    for id in ["sent", "unsent", "held"] {
        assert_eq!(state_of(store, id).await, State::Discarded, "{id}");
        let stored = store.find(&sample::key(id)).await.unwrap().unwrap();
        assert_eq!((stored.event.body(), stored.unsent), (&sample::body(id), None));
        assert_eq!(store.attempts(&sample::key(id)).await.unwrap().len(), 1);
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::Discarded), counts.unsent_dead_letters), (3, 0));
    assert_eq!((counts.of(State::DeadLettered), counts.of(State::DeadLettering)), (0, 0));
    let discarded = EventFilter { state: Some(State::Discarded), ..EventFilter::default() };
    assert_eq!(ids_of(store, &discarded).await, ["held", "unsent", "sent"]);

    let answers = store.requeue(&keys[..1], at(2000)).await.unwrap();
    assert_eq!(answers, [Requeued::Scheduled]);
    let replay = store.replay(&keys[1], super::LEASE, at(2000)).await.unwrap();
    assert!(matches!(replay, ReplayClaim::Claimed(run) if run.run == 2));
    assert_eq!(ids_of(store, &discarded).await, ["held"]);
}

/// The time of processed events counts for it, not that of dead letters.
pub async fn a_discarded_event_is_purged_like_a_processed_one(store: &dyn Store) {
    for id in ["discarded", "dead"] {
        give_up(store, id, 0).await;
    }
    send_all(store, 0).await;
    store.discard(&[sample::key("discarded")], at(1)).await.unwrap();
    let request = PurgeRequest { unresolved_before: None, ..PurgeRequest::all_before(at(50), 10) };
    let counted = store.purgeable(request).await.unwrap();
    let purged = store.purge(request).await.unwrap().purged;
    assert_eq!(purged, counted);
    assert_eq!(purged.events.into_iter().collect::<Vec<_>>(), [(State::Discarded, 1)]);
    assert_eq!(store.counts().await.unwrap().of(State::Discarded), 0);
    assert_eq!(ids_of(store, &EventFilter::default()).await, ["dead"]);
}

/// The digest stays: a repetition is known. A later event of the person is a new one.
pub async fn an_erased_event_keeps_nothing_but_its_identity(store: &dyn Store) {
    let event = |id: &str| {
        let headers = sample::context(&[("ce-id", "marked")]);
        sample::incoming_in(sample::body_from("ann", id), headers, Some("s-1"))
    };
    process(store, "other", 0).await;
    for id in ["done", "dead", "unsent", "held", "open"] {
        store.record(event(id), at(0)).await.unwrap();
        if id == "open" {
            break;
        }
        let work = claim_run(store, 0).await;
        if id == "held" {
            continue;
        }
        let end = match id {
            "done" => {
                let contact = Contact::from_json(r#"{"name":"Ann"}"#).ok();
                work.claim.settle(RunEnd::Processed { contact }, None, at(0))
            }
            _ => super::gave_up(work.claim, 0),
        };
        settle(store, end).await;
        if id == "dead" {
            send_all(store, 0).await;
        }
    }
    let filters = [
        r#"{"external_id":"ann"}"#,
        r#"{"q":"mail ann"}"#,
        r#"{"ids":["done","ann"]}"#,
        r#"{"q":"anna"}"#,
    ];
    for filter in filters {
        let entry = AuditEntry {
            at: at(70),
            by: "rita".to_owned(),
            action: "replay".to_owned(),
            target: None,
            source: None,
            filter: Some(filter.to_owned()),
            count: Some(1),
            outcome: "begun".to_owned(),
        };
        store.append_audit(entry).await.unwrap();
    }
    let erasure =
        store.erase(&Person::ExternalId("ann".to_owned()), "admin", at(80)).await.unwrap();
    let audited = store.audited(None, PageRequest { limit: 10, after: None }).await.unwrap();
    let left: Vec<_> = audited.entries.into_iter().map(|entry| entry.filter).collect();
    assert_eq!(left, [Some(filters[3].to_owned()), None, None, None]);
    assert_eq!((erasure.events, erasure.quarantined, erasure.dead_letters), (5, 0, 2));
    assert_eq!(erasure.sent, [sample::key("dead")]);
    for id in ["done", "dead", "unsent", "held", "open"] {
        let stored = store.find(&sample::key(id)).await.unwrap().unwrap();
        let state = if id == "done" { State::Processed } else { State::Discarded };
        assert_eq!((stored.state, stored.forgotten), (state, Some(Forgotten::Erased)), "{id}");
        assert!(stored.event.body().is_empty() && stored.event.context().is_empty());
        assert_eq!((stored.event.external_id(), stored.event.user_id()), (None, None));
        assert_eq!((stored.event.conversation(), stored.contact), (None, None));
        assert_eq!(stored.unsent, None);
        let attempts = store.attempts(&sample::key(id)).await.unwrap();
        assert!(attempts.iter().all(|attempt| attempt.error.is_none()), "{attempts:?}");
        let again = store.record(event(id), at(90)).await.unwrap();
        assert_eq!(again, Recorded::Identical);
        let replay = store.replay(&sample::key(id), super::LEASE, at(90)).await.unwrap();
        assert!(matches!(replay, ReplayClaim::Forgotten), "{id}");
        assert_eq!(store.requeue(&[sample::key(id)], at(90)).await.unwrap(), [Requeued::Forgotten]);
    }
    let due = claim(store, 100, 10_000).await;
    assert!(due.is_empty(), "{due:?}");
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::Discarded), counts.of(State::Processed)), (4, 2));
    let other = store.find(&sample::key("other")).await.unwrap().unwrap();
    assert_eq!(other.event.body(), &sample::body("other"));

    assert_eq!(store.record(event("later"), at(90)).await.unwrap(), Recorded::New);
    let later = EventFilter { external_id: Some("ann".to_owned()), ..EventFilter::default() };
    assert_eq!(ids_of(store, &later).await, ["later"]);
    let again = store.erase(&Person::UserId("nobody".to_owned()), "admin", at(91)).await.unwrap();
    assert_eq!((again.events, again.quarantined, again.dead_letters), (0, 0, 0));
    assert_ne!(again.id, erasure.id, "each erasure has its receipt");
}

/// Bodies of others stay.
pub async fn an_erasure_takes_quarantined_bodies_that_name_the_person(store: &dyn Store) {
    process(store, "a", 0).await;
    let keep = async |event_id: Option<&str>, body: &'static str| {
        let entry = QuarantineEntry {
            source: SourceName::default(),
            reason: QuarantineReason::Conflict,
            event_id: event_id.map(str::to_owned),
            detail: "differs".to_owned(),
            body: body.into(),
            context: sample::context(&[]),
        };
        store.quarantine(entry, QuarantineLimits::default(), at(1)).await.unwrap();
    };
    keep(None, r#"{"externalId":"c-a"}"#).await;
    keep(None, r#"{"payload":{"about":["\u0063-a"]}}"#).await;
    keep(None, "not JSON, of c-a").await;
    keep(Some("a"), r#"{"eventId":"a","text":"other"}"#).await;
    keep(Some("b"), r#"{"externalId":"c-ab"}"#).await;
    let person = Person::ExternalId("c-a".to_owned());
    let erasure = store.erase(&person, "admin", at(2)).await.unwrap();
    assert_eq!((erasure.events, erasure.quarantined), (1, 4));
    let left = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
    let left: Vec<_> = left.items.into_iter().map(|item| item.event_id).collect();
    assert_eq!(left, [Some("b".to_owned())]);
}

fn with_words(text: &str) -> EventFilter {
    EventFilter { words: Words::of(text), ..EventFilter::default() }
}

/// In bodies, ids, the CRM's answers and errors.
pub async fn a_search_needs_all_words_in_any_case(store: &dyn Store) {
    let spoken = r#"{"eventId":"odd-1","timestamp":1,"type":"DIALOG_ENDED","payload":{"input":"Caf\u00e9 100% 'OFF'"},"userId":"u-9"}"#;
    store.record(sample::incoming(spoken), at(0)).await.unwrap();
    let work = claim_run(store, 0).await;
    let contact = Contact::from_json(r#"{"name":"Ann Miller"}"#).ok();
    settle(store, work.claim.settle(RunEnd::Processed { contact }, None, at(0))).await;
    give_up(store, "b", 1).await;
    process(store, "c", 2).await;
    for (text, expected) in [
        ("hello", &["c", "b"][..]),
        ("HELLO input", &["c", "b"]),
        ("hello odd", &[]),
        ("café off", &["odd-1"]),
        ("miller ANN u-9", &["odd-1"]),
        ("odd-1", &["odd-1"]),
        ("crm refused", &[]),
        ("100%", &["odd-1"]),
        ("'OFF'!", &["odd-1"]),
        ("odd_1", &[]),
        ("the crm is down", &["b"]),
        ("c-c", &["c"]),
        ("%", &["odd-1"]),
        ("'; DROP TABLE events; --", &[]),
        ("\" OR *", &[]),
        ("\0\\u{1} ()", &[]),
    ] {
        assert_eq!(ids_of(store, &with_words(text)).await, expected, "{text}");
    }
    let processed = EventFilter { state: Some(State::Processed), ..with_words("hello") };
    assert_eq!(ids_of(store, &processed).await, ["c"]);
    let mut page = PageRequest { limit: 1, after: None };
    let mut seen = Vec::new();
    loop {
        let found = store.list(&with_words("hello"), page).await.unwrap();
        seen.extend(found.events.into_iter().map(|event| event.id.to_string()));
        page.after = found.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["c", "b"]);
}

/// Its ids are still found.
pub async fn what_was_asked_to_be_logged_nowhere_is_not_searched(store: &dyn Store) {
    let mut event = sample::incoming(sample::body("hidden"));
    event.parts.sensitive = true;
    process(store, "erased", 0).await;
    let person = Person::ExternalId("c-erased".to_owned());
    store.erase(&person, "admin", at(1)).await.unwrap();
    store.record(event, at(2)).await.unwrap();
    assert!(ids_of(store, &with_words("hello")).await.is_empty());
    assert!(ids_of(store, &with_words("c-erased")).await.is_empty());
    assert_eq!(ids_of(store, &with_words("hidden")).await, ["hidden"]);
}

/// Events that succeeded since, were discarded, or did not fail in their present run are in no group.
pub async fn failures_are_grouped_by_their_last_error(store: &dyn Store) {
    let fail = async |id: &str, seconds: i64, error: &str, gives_up: bool| {
        record(store, id, seconds).await;
        let work = claim_run(store, seconds).await;
        let mut failed = attempt(1, 1, seconds, AttemptOutcome::FailedPermanent);
        failed.error = Some(error.to_owned());
        let end = match gives_up {
            true => RunEnd::GiveUp { reason: error.to_owned(), attempts: 1 },
            false => RunEnd::Retry { due: at(100_000) },
        };
        assert_eq!(
            settle(store, work.claim.settle(end, Some(failed), at(seconds))).await,
            Settled::Done
        );
    };
    fail("r1", 1, "no answer within 10 s", false).await;
    fail("d1", 2, "no answer within 12 s", true).await;
    fail("d2", 3, "order 'x1' of \"ann\" is unknown", true).await;
    fail("d3", 4, "order 'x2' of \"bob\" is unknown", true).await;
    fail("again", 5, "order 'x3' of \"cid\" is unknown", true).await;
    fail("dropped", 6, "order 'x4' of \"dan\" is unknown", true).await;
    process(store, "fine", 7).await;
    store.discard(&[sample::key("dropped")], at(8)).await.unwrap();
    store.requeue(&[sample::key("again")], at(100_000)).await.unwrap();
    succeed_once_more(store).await;
    let groups = error_groups(store, None, None, None).await.unwrap();
    let shown: Vec<_> = groups
        .iter()
        .map(|group| (group.class.message.as_str(), group.count, group.first, group.last))
        .collect();
    assert_eq!(
        shown,
        [("order … of … is unknown", 2, at(3), at(4)), ("no answer within …", 2, at(1), at(2)),]
    );
    assert_eq!(groups[0].sample, ["d3", "d2"].map(sample::key));
    let of_class = |error: &str| EventFilter {
        error: Some(ErrorClass::of(error).name),
        ..EventFilter::default()
    };
    assert_eq!(ids_of(store, &of_class("no answer within 3 s")).await, ["d1", "r1"]);
    assert!(ids_of(store, &of_class("something else")).await.is_empty());
    let dead =
        EventFilter { state: Some(State::DeadLettering), ..of_class("no answer within 3 s") };
    assert_eq!(ids_of(store, &dead).await, ["d1"]);
    let later = error_groups(store, None, Some(at(4)), None).await.unwrap();
    assert_eq!(later.iter().map(|group| group.count).collect::<Vec<_>>(), [1]);
    let elsewhere = Some("elsewhere".parse().unwrap());
    assert!(error_groups(store, elsewhere, None, None).await.unwrap().is_empty());
}

/// The event that was requeued succeeds in its second run.
async fn succeed_once_more(store: &dyn Store) {
    let runs = claim_for(store, &SourceName::default(), [1, 0], 99_999).await.runs;
    assert!(runs.is_empty(), "{runs:?}");
    let runs = claim_for(store, &SourceName::default(), [10, 0], 100_000).await.runs;
    for work in runs {
        let again: EventKey = sample::key("again");
        let end = match work.key == again {
            true => {
                let done = attempt(2, 1, 100_000, AttemptOutcome::Succeeded);
                work.claim.settle(RunEnd::Processed { contact: None }, Some(done), at(100_000))
            }
            false => work.claim.settle(RunEnd::Release, None, at(100_000)),
        };
        settle(store, end).await;
    }
}
