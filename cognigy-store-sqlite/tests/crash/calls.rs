//! Every call of the store, on a small database in which each call has something to do, and how the
//! call's effect shows in the database.

use std::{future::Future, path::Path, pin::Pin};

use cognigy_core::{
    Claim, ClaimedRun, Contact, DeadLetterClaim, DeadLetterEnd, DeliveryContext, EventArchive,
    EventFilter, EventStore, PageRequest, PurgeRequest, Quarantine, QuarantineEntry,
    QuarantineLimits, QuarantineReason, Recorded, ReplayClaim, Requeued, RunEnd, Settled,
    SourceName, StoreError,
};
use cognigy_store_sqlite::SqliteStore;

use super::load::{body, contact, event};
use crate::common::{LEASE, at, claim, claim_one, ended, event_saying, key, request, settle};

/// The inputs of a call.
#[derive(Default)]
pub(crate) struct Hands {
    pub(crate) store: Option<SqliteStore>,
    run: Option<ClaimedRun>,
    dead_letter: Option<DeadLetterClaim>,
}

type Work<'h, T> = Pin<Box<dyn Future<Output = T> + Send + 'h>>;

/// A call under test.
pub(crate) struct Call {
    pub(crate) name: &'static str,
    /// Sets things up, without faults.
    pub(crate) prepare: for<'h> fn(&'h mut Hands, &'h SqliteStore) -> Work<'h, ()>,
    /// Makes the call. `true` if it is repeated after a call that may have failed.
    pub(crate) perform: for<'h> fn(&'h mut Hands, bool) -> Work<'h, Result<(), StoreError>>,
    /// SQL that is true once the call has taken effect.
    pub(crate) effect: &'static str,
    /// The store is opened as a part of it.
    pub(crate) opens: bool,
    /// No database exists before the call.
    pub(crate) from_nothing: bool,
    pub(crate) only_reads: bool,
    /// The call has too many operations to fail each of them.
    pub(crate) is_sampled: bool,
    /// The store repairs every failure in it.
    pub(crate) may_always_succeed: bool,
}

impl Call {
    pub(crate) fn places(&self) -> Vec<u64> {
        if self.is_sampled { vec![1, 2, 3, 5, 10, 100, 1000, 3000] } else { (1..2000).collect() }
    }
}

pub(crate) fn by_name(name: &str) -> &'static Call {
    ALL.iter().find(|call| call.name == name).unwrap()
}

/// Events in every state, with times that let each call find its own.
pub(crate) async fn make_world(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    for (id, time) in [("dead", -200), ("done", -100)] {
        store.record(event(id), at(time)).await.unwrap();
        let run = claim_one(&store, at(time)).await;
        let verdict = match id {
            "dead" => RunEnd::GiveUp { reason: "no use".to_owned(), attempts: 1 },
            _ => processed(id),
        };
        assert_eq!(settle(&store, ended(run, verdict, at(time))).await, Settled::Done);
        for claimed in claim(&store, 1, at(time)).await.dead_letters {
            let sent = claimed.claim.settle(DeadLetterEnd::Sent, at(time));
            assert_eq!(settle(&store, sent).await, Settled::Done);
        }
    }
    store.record(event("letter"), at(-10)).await.unwrap();
    let run = claim_one(&store, at(-10)).await;
    let verdict = RunEnd::GiveUp { reason: "no use".to_owned(), attempts: 1 };
    assert_eq!(settle(&store, ended(run, verdict, at(10))).await, Settled::Done);
    store.record(event("held"), at(0)).await.unwrap();
    for id in ["a", "b", "c"] {
        store.record(event(id), at(5)).await.unwrap();
    }
    store.quarantine(entry("kept"), QuarantineLimits::default(), at(0)).await.unwrap();
}

fn entry(body: &'static str) -> QuarantineEntry {
    QuarantineEntry {
        source: SourceName::default(),
        reason: QuarantineReason::Invalid,
        event_id: None,
        detail: "is no event".to_owned(),
        body: body.into(),
        context: DeliveryContext::default(),
    }
}

fn processed(id: &str) -> RunEnd {
    RunEnd::Processed { contact: Some(Contact::from_json(&contact(id)).unwrap()) }
}

fn store(hands: &Hands) -> SqliteStore {
    hands.store.clone().unwrap()
}

fn nothing<'h>(_: &'h mut Hands, _: &'h SqliteStore) -> Work<'h, ()> {
    Box::pin(async {})
}

/// Claims the event that the test holds.
fn hold_run<'h>(hands: &'h mut Hands, store: &'h SqliteStore) -> Work<'h, ()> {
    Box::pin(async {
        let run = claim_one(store, at(0)).await;
        assert_eq!(run.key, key("held"));
        hands.run = Some(run);
    })
}

fn hold_letter<'h>(hands: &'h mut Hands, store: &'h SqliteStore) -> Work<'h, ()> {
    Box::pin(async {
        let batch = claim(store, 1, at(10)).await;
        hands.dead_letter = batch.dead_letters.into_iter().next().map(|claimed| claimed.claim);
        assert!(hands.dead_letter.is_some(), "the dead letter is due");
    })
}

/// Fills the WAL to just below the point where it is written back.
fn fill_wal<'h>(_: &'h mut Hands, store: &'h SqliteStore) -> Work<'h, ()> {
    Box::pin(async {
        for number in 0..13 {
            let entry = QuarantineEntry {
                source: SourceName::default(),
                reason: QuarantineReason::Invalid,
                event_id: None,
                detail: String::new(),
                body: format!("{number}").repeat(1_200_000 / format!("{number}").len()).into(),
                context: DeliveryContext::default(),
            };
            store.quarantine(entry, QuarantineLimits::default(), at(0)).await.unwrap();
        }
    })
}

/// Settles the claim. The answer is `Done`, or the answer to a repetition if an earlier try took
/// effect.
fn settle_held(
    hands: &mut Hands,
    again: bool,
    verdict: fn() -> RunEnd,
) -> Work<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let run = hands.run.as_ref().unwrap();
        let (token, number, round) = (run.claim.token(), run.attempt, run.run);
        // The same settlement once more, as the worker repeats it after an error.
        let copy = ClaimedRun {
            claim: Claim::granted(token.handle, token.fence),
            key: run.key.clone(),
            run: round,
            attempt: number,
            lost: run.lost,
            took_over: run.took_over,
            event: Err(String::new()),
        };
        let settled = store(hands).settle(&[ended(copy, verdict(), at(20))]).await?;
        assert!(settled[0] == Settled::Done || again, "no other claim holds it");
        Ok(())
    })
}

fn settle_letter(
    hands: &mut Hands,
    again: bool,
    end: DeadLetterEnd,
) -> Work<'_, Result<(), StoreError>> {
    Box::pin(async move {
        let token = hands.dead_letter.as_ref().unwrap().token();
        let claim = DeadLetterClaim::granted(token.handle, token.fence);
        let settlement = claim.settle(end, at(20));
        let settled = store(hands).settle(&[settlement]).await?;
        assert!(settled[0] == Settled::Done || again, "no other claim holds it");
        Ok(())
    })
}

const PLAIN: Call = Call {
    name: "",
    prepare: nothing,
    perform: |_, _| Box::pin(async { Ok(()) }),
    effect: "SELECT TRUE",
    opens: false,
    from_nothing: false,
    only_reads: false,
    is_sampled: false,
    may_always_succeed: false,
};

const READ: Call = Call { only_reads: true, ..PLAIN };

pub(crate) const ALL: &[Call] = &[
    Call {
        name: "open a new database",
        opens: true,
        from_nothing: true,
        effect: "SELECT count(*) = 1 FROM sqlite_schema WHERE name = 'webhook_events'",
        ..PLAIN
    },
    Call { name: "open", opens: true, ..PLAIN },
    Call {
        name: "record a new event",
        perform: |hands, again| {
            Box::pin(async move {
                let recorded = store(hands).record(event("fresh"), at(11)).await?;
                assert!(recorded == Recorded::New || again && recorded == Recorded::Identical);
                Ok(())
            })
        },
        effect: "SELECT count(*) = 1 FROM events JOIN bodies ON event = id WHERE event_id = 'fresh'",
        ..PLAIN
    },
    Call {
        name: "record a new event and write the WAL back",
        prepare: fill_wal,
        perform: |hands, again| {
            Box::pin(async move {
                for id in ["fresh", "fresh2", "fresh3"] {
                    let text = "x".repeat(400_000);
                    let entry = QuarantineEntry { body: format!("{id}{text}").into(), ..entry("") };
                    store(hands).quarantine(entry, QuarantineLimits::default(), at(11)).await?;
                    let recorded = store(hands).record(event(id), at(11)).await?;
                    assert!(recorded == Recorded::New || again && recorded == Recorded::Identical);
                }
                Ok(())
            })
        },
        effect: "SELECT count(*) = 3 FROM events JOIN bodies ON event = id WHERE event_id LIKE 'fresh%'",
        is_sampled: true,
        ..PLAIN
    },
    Call {
        name: "record a duplicate",
        perform: |hands, _| {
            Box::pin(async move {
                let recorded = store(hands).record(event("done"), at(11)).await?;
                assert_eq!(recorded, Recorded::Identical);
                Ok(())
            })
        },
        may_always_succeed: true,
        ..PLAIN
    },
    Call {
        name: "record a conflict",
        perform: |hands, _| {
            Box::pin(async move {
                let recorded = store(hands).record(event_saying("done", "other"), at(11)).await?;
                assert_eq!(recorded, Recorded::Differs { stored: body("done").into() });
                Ok(())
            })
        },
        may_always_succeed: true,
        ..PLAIN
    },
    Call {
        name: "claim",
        perform: |hands, again| {
            Box::pin(async move {
                // The events that a failed claim may have taken are free once its lease has run
                // out.
                let now = at(11) + if again { LEASE } else { std::time::Duration::ZERO };
                let request = request(10, now);
                let batch = store(hands).claim_due(request).await?;
                let expected = if again { &[0, 4][..] } else { &[4] };
                assert!(expected.contains(&batch.runs.len()), "{} runs", batch.runs.len());
                for run in batch.runs {
                    let id = run.key.id.as_str();
                    assert_eq!(run.event.as_ref().unwrap().body(), body(id).as_bytes());
                }
                Ok(())
            })
        },
        effect: "SELECT (SELECT count(*) FROM events WHERE state = 'processing') = 4
                    AND (SELECT count(*) FROM outbox WHERE fence >= 1 AND sent_at IS NULL) = 1",
        ..PLAIN
    },
    Call {
        name: "renew",
        prepare: hold_run,
        perform: |hands, _| {
            Box::pin(async move {
                let token = hands.run.as_ref().unwrap().claim.token();
                let renewed = store(hands).renew(&[token], LEASE, at(30)).await?;
                assert_eq!(renewed, [Settled::Done]);
                Ok(())
            })
        },
        effect: "SELECT due_at = (SELECT claimed_at + 90000000 FROM events WHERE event_id = 'held')
                 FROM events WHERE event_id = 'held'",
        ..PLAIN
    },
    Call {
        name: "settle as processed",
        prepare: hold_run,
        perform: |hands, again| settle_held(hands, again, || processed("held")),
        effect: "SELECT state = 'processed' FROM events WHERE event_id = 'held'",
        ..PLAIN
    },
    Call {
        name: "settle for another attempt",
        prepare: hold_run,
        perform: |hands, again| settle_held(hands, again, || RunEnd::Retry { due: at(40) }),
        effect: "SELECT state = 'pending' AND attempt = 1 FROM events WHERE event_id = 'held'",
        ..PLAIN
    },
    Call {
        name: "give back",
        prepare: hold_run,
        perform: |hands, again| settle_held(hands, again, || RunEnd::Release),
        effect: "SELECT state = 'pending' AND attempt = 0 FROM events WHERE event_id = 'held'",
        ..PLAIN
    },
    Call {
        name: "give up",
        prepare: hold_run,
        perform: |hands, again| {
            let verdict = || RunEnd::GiveUp { reason: "no use".to_owned(), attempts: 1 };
            settle_held(hands, again, verdict)
        },
        effect: "SELECT state = 'dead_lettering' AND count(*) = 1 FROM events
                 JOIN outbox ON outbox.event = events.id WHERE event_id = 'held'",
        ..PLAIN
    },
    Call {
        name: "settle a dead letter as sent",
        prepare: hold_letter,
        perform: |hands, again| settle_letter(hands, again, DeadLetterEnd::Sent),
        effect: "SELECT state = 'dead_lettered' FROM events WHERE event_id = 'letter'",
        ..PLAIN
    },
    Call {
        name: "settle a dead letter for another try",
        prepare: hold_letter,
        perform: |hands, again| settle_letter(hands, again, DeadLetterEnd::Retry { due: at(40) }),
        effect: "SELECT fence = 2 FROM outbox WHERE sent_at IS NULL",
        ..PLAIN
    },
    Call {
        name: "replay",
        perform: |hands, again| {
            Box::pin(async move {
                let replay = store(hands).replay(&key("done"), LEASE, at(11)).await?;
                // A failed call may have claimed the event.
                let is_busy = matches!(replay, ReplayClaim::Busy);
                assert!(matches!(replay, ReplayClaim::Claimed(_)) || again && is_busy);
                Ok(())
            })
        },
        effect: "SELECT state = 'processing' AND run = 2 FROM events WHERE event_id = 'done'",
        ..PLAIN
    },
    Call {
        name: "requeue",
        perform: |hands, _| {
            Box::pin(async move {
                let keys = [key("done"), key("dead"), key("none")];
                let requeued = store(hands).requeue(&keys, at(11)).await?;
                assert_eq!(requeued[2], Requeued::NotFound);
                Ok(())
            })
        },
        effect: "SELECT count(*) = 2 FROM events WHERE state = 'pending' AND run = 2",
        ..PLAIN
    },
    Call {
        name: "quarantine",
        perform: |hands, _| {
            Box::pin(async move {
                let limits = QuarantineLimits::default();
                store(hands).quarantine(entry("new"), limits, at(11)).await.map(drop)
            })
        },
        effect: "SELECT count(*) = 1 FROM quarantine WHERE body = CAST('new' AS BLOB)",
        ..PLAIN
    },
    Call {
        name: "discharge",
        perform: |hands, again| {
            Box::pin(async move {
                let was_there = store(hands).discharge(1).await?;
                assert!(was_there || again);
                Ok(())
            })
        },
        effect: "SELECT count(*) = 0 FROM quarantine",
        ..PLAIN
    },
    Call {
        name: "purge",
        perform: |hands, again| {
            Box::pin(async move {
                let request = PurgeRequest::all_before(at(1), 10);
                let purged = store(hands).purge(request).await?.purged.total_events();
                assert!(purged == 2 || again && purged == 0, "{purged}");
                Ok(())
            })
        },
        effect: "SELECT count(*) = 0 FROM events WHERE event_id IN ('done', 'dead')",
        ..PLAIN
    },
    Call {
        name: "ready",
        perform: |hands, _| Box::pin(async move { store(hands).ready().await }),
        effect: "SELECT beats > 0 FROM heartbeat",
        ..PLAIN
    },
    Call {
        name: "close",
        prepare: |_, store| Box::pin(async move { store.ready().await.unwrap() }),
        perform: |hands, again| {
            Box::pin(async move {
                // The call has no answer that could be wrong, but it must end.
                drop(hands.store.take());
                assert!(!again || hands.store.is_none());
                Ok(())
            })
        },
        effect: "SELECT beats > 0 FROM heartbeat",
        may_always_succeed: true,
        ..PLAIN
    },
    Call {
        name: "find",
        perform: |hands, _| {
            Box::pin(async move {
                let found = store(hands).find(&key("done")).await?.expect("it is there");
                assert_eq!(found.event.body(), body("done").as_bytes());
                Ok(())
            })
        },
        ..READ
    },
    Call {
        name: "list",
        perform: |hands, _| {
            Box::pin(async move {
                let page = PageRequest { limit: 100, after: None };
                let listed = store(hands).list(&EventFilter::default(), page).await?;
                assert_eq!(listed.events.len(), 7);
                Ok(())
            })
        },
        ..READ
    },
    Call {
        name: "attempts",
        perform: |hands, _| {
            Box::pin(async move {
                assert_eq!(store(hands).attempts(&key("done")).await?.len(), 1);
                Ok(())
            })
        },
        ..READ
    },
    Call {
        name: "counts",
        perform: |hands, _| {
            Box::pin(async move {
                let counts = store(hands).counts().await?;
                assert_eq!(counts.by_state.values().sum::<u64>(), 7);
                Ok(())
            })
        },
        ..READ
    },
    Call {
        name: "look into the quarantine",
        perform: |hands, _| {
            Box::pin(async move {
                let page = store(hands).quarantined(PageRequest { limit: 9, after: None }).await?;
                let item = store(hands).quarantined_item(page.items[0].id).await?;
                assert_eq!(&item.expect("it is there").body[..], b"kept");
                Ok(())
            })
        },
        ..READ
    },
];
