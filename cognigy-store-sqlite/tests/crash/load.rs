//! Load on a store: senders, a worker, quarantined bodies; every answer is written to the ledger.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use cognigy_core::{
    Attempt, AttemptOutcome, Contact, DeadLetterEnd, DeliveryContext, EventStore, IncomingEvent,
    Quarantine, QuarantineEntry, QuarantineLimits, QuarantineReason, Recorded, RunEnd, Settled,
    SourceName, StoreError, Timestamp,
};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};

use super::ledger::{GIVEN_UP, PROCESSED, Pen, QUARANTINED, RECORDED, SENT};
use crate::common::{at, body_saying, ended, event_saying, request};

/// A quarantine that never overflows, because every body that was kept must still be there.
pub(crate) fn options() -> SqliteOptions {
    SqliteOptions::default()
}

/// A number that depends only on the name.
fn draw(name: &str, salt: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, salt).hash(&mut hasher);
    hasher.finish()
}

/// The text in the one event of that id. Most are short, some take several pages, a few many.
fn text(id: &str) -> String {
    let length = match draw(id, 0) % 20 {
        0 => 20_000 + draw(id, 1) % 20_000,
        1..6 => 2_000 + draw(id, 1) % 6_000,
        _ => draw(id, 1) % 400,
    };
    format!("{id} ").repeat(usize::try_from(length).unwrap() / (id.len() + 1))
}

/// The one event of that id.
pub(crate) fn event(id: &str) -> IncomingEvent {
    event_saying(id, &text(id))
}

/// Its body.
pub(crate) fn body(id: &str) -> String {
    body_saying(id, &text(id))
}

/// What the CRM knows about the event's contact.
pub(crate) fn contact(id: &str) -> String {
    format!(r#"{{"id":"crm-{id}"}}"#)
}

/// How the worker ends a run.
pub(crate) fn verdict(id: &str, attempt: u32, now: Timestamp) -> RunEnd {
    match draw(id, 2) % 10 {
        0 if attempt == 1 => RunEnd::Retry { due: now },
        1 | 2 => RunEnd::GiveUp { reason: format!("no use: {id}"), attempts: attempt },
        _ => RunEnd::Processed { contact: Some(Contact::from_json(&contact(id)).unwrap()) },
    }
}

/// Load, until it is done or the process ends.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) store: SqliteStore,
    pub(crate) pen: Arc<Pen>,
    /// Names are unique to it.
    pub(crate) round: usize,
    pub(crate) senders: usize,
    pub(crate) events_each: usize,
    /// Whether a call that fails is made again.
    pub(crate) is_patient: bool,
    /// Settled runs so far.
    settled: Arc<AtomicI64>,
    /// Claims that failed so far.
    failed: Arc<AtomicI64>,
}

impl Load {
    pub(crate) fn new(store: SqliteStore, folder: &Path, round: usize) -> Self {
        let pen = Arc::new(Pen::open(folder));
        let (settled, failed) = (Arc::default(), Arc::default());
        let (senders, events_each) = (8, usize::MAX);
        Self { store, pen, round, senders, events_each, is_patient: false, settled, failed }
    }

    /// Leases of one round have run out in the next round, including those of a failed claim that
    /// took effect.
    fn now(&self) -> Timestamp {
        let failed = self.failed.load(Ordering::Relaxed);
        at(i64::try_from(self.round).unwrap() * 1000 + failed * 100)
    }

    /// Repeats a call until it succeeds. Returns whether that took more than one try.
    async fn insist<T, F>(&self, call: impl Fn() -> F) -> (T, bool)
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut failed = false;
        loop {
            match call().await {
                Ok(answer) => return (answer, failed),
                Err(error) => assert!(self.is_patient, "{error:?}"),
            }
            failed = true;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn run(self) {
        let mut tasks = Vec::new();
        for sender in 0..self.senders {
            tasks.push(tokio::spawn(self.clone().send(sender)));
        }
        let worker = tokio::spawn(self.clone().work());
        let quarantining = tokio::spawn(self.clone().quarantine());
        for task in tasks {
            task.await.unwrap();
        }
        quarantining.await.unwrap();
        // The last deliveries are processed too, as far as this round's time allows.
        let all = i64::try_from(self.senders * self.events_each).unwrap();
        while self.settled.load(Ordering::Relaxed) < all {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        worker.abort();
        let _ = worker.await;
    }

    async fn send(self, sender: usize) {
        for number in 0..self.events_each {
            let id = format!("{}-{sender}-{number}", self.round);
            let record = || self.store.record(event(&id), self.now());
            let (recorded, failed) = self.insist(record).await;
            // A call that failed may have taken effect.
            assert!(recorded == Recorded::New || failed && recorded == Recorded::Identical);
            self.pen.note(RECORDED, &id);
            if number % 7 == 0 {
                assert_eq!(self.insist(record).await.0, Recorded::Identical);
            }
        }
    }

    async fn work(self) {
        loop {
            let now = self.now();
            let request = request(20, now);
            let batch = match self.store.claim_due(request).await {
                Ok(batch) if !batch.is_empty() => batch,
                Ok(_) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                Err(error) => {
                    assert!(self.is_patient, "{error:?}");
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            let mut settlements = Vec::new();
            let mut notes = Vec::new();
            for run in batch.runs {
                let id = run.key.id.as_str().to_owned();
                let stored = run.event.as_ref().expect("it can be read back").body();
                assert_eq!(stored, body(&id).as_bytes(), "{id}");
                let verdict = verdict(&id, run.attempt, now);
                notes.push(match verdict {
                    RunEnd::Processed { .. } => Some((PROCESSED, id)),
                    RunEnd::GiveUp { .. } => Some((GIVEN_UP, id)),
                    _ => None,
                });
                settlements.push(ended(run, verdict, now));
            }
            for claimed in batch.dead_letters {
                notes.push(Some((SENT, claimed.dead_letter.key.id.as_str().to_owned())));
                settlements.push(claimed.claim.settle(DeadLetterEnd::Sent, now));
            }
            let (settled, failed) = self.insist(|| self.store.settle(&settlements)).await;
            for (settled, note) in settled.into_iter().zip(notes) {
                assert!(settled == Settled::Done || failed, "no other worker runs here");
                if let Some((what, id)) = note {
                    self.pen.note(what, &id);
                    self.settled.fetch_add(i64::from(what != SENT), Ordering::Relaxed);
                }
            }
        }
    }

    async fn quarantine(self) {
        for number in 0..self.events_each.saturating_mul(self.senders) / 4 {
            let body = format!("{}-{number} is no event", self.round);
            let entry = QuarantineEntry {
                source: SourceName::default(),
                reason: QuarantineReason::Invalid,
                event_id: None,
                detail: "is no event".to_owned(),
                body: body.clone().into(),
                context: DeliveryContext::default(),
            };
            // Everything that the ledger notes has to be in the database at the end.
            let limits = QuarantineLimits { items: usize::MAX, bytes: u64::MAX };
            self.insist(|| self.store.quarantine(entry.clone(), limits, self.now())).await;
            self.pen.note(QUARANTINED, &body);
        }
    }
}

/// Processes all events, and takes over those that other workers left, until every event has ended.
pub(crate) async fn finish_everything(store: &SqliteStore, now: Timestamp) {
    loop {
        let request = request(500, now);
        let batch = store.claim_due(request).await.unwrap();
        if batch.is_empty() {
            return;
        }
        let mut settlements = Vec::new();
        for run in batch.runs {
            let verdict = verdict(run.key.id.as_str(), run.attempt.max(2), now);
            let attempt = Attempt {
                number: run.attempt,
                run: run.run,
                started_at: now,
                duration: Duration::ZERO,
                outcome: AttemptOutcome::Succeeded,
                error: None,
            };
            settlements.push(run.claim.settle(verdict, Some(attempt), now));
        }
        for claimed in batch.dead_letters {
            settlements.push(claimed.claim.settle(DeadLetterEnd::Sent, now));
        }
        let settled = store.settle(&settlements).await.unwrap();
        assert!(settled.iter().all(|settled| *settled == Settled::Done));
    }
}
