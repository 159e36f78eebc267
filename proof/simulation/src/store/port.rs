//! The store's ports: each effect is written into the history in the moment it takes place.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cognigy_core::{
    Administration, Attempt, AuditEntry, AuditLog, AuditPage, Backlog, ClaimBatch, ClaimRequest,
    ClaimToken, ClaimedRun, Counts, Discarded, Erasure, EventArchive, EventFilter, EventKey,
    EventPage, EventStore, IncomingEvent, PageRequest, Person, PurgeRequest, PurgeStep, Purged,
    Quarantine, QuarantineEntry, QuarantineLimits, QuarantinePage, QuarantinedItem, Recorded,
    ReplayClaim, Requeued, RunEnd, ScanPage, ScanRequest, Settled, Settlement, SharedValues,
    SourceName, StoreError, StoreSize, StoredEvent, Timestamp, WorkKind,
};

use super::{RECORD_ALL, StoreClient, at_once};
use crate::{
    body::{delivery_of, number},
    executor::Owner,
    fault::Fault,
    history::{DeadLetterGrant, Grant, Happened, QuarantinedBody, RecordedAs},
    plan::Nature,
    planted::Bug,
};

impl StoreClient {
    fn log(&self, what: Happened) {
        self.world.log(Some(self.process), what);
    }

    fn record_now(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        let (key, body) = (event.key.clone(), event.body.clone());
        let recorded = at_once(self.world.store.record(event, now))?;
        self.recorded(&key, body, &recorded, now);
        Ok(recorded)
    }

    fn record_all_now(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        let sent: Vec<_> =
            events.iter().map(|event| (event.key.clone(), event.body.clone())).collect();
        let answers = at_once(self.world.store.record_all(events, now))?;
        for ((key, body), recorded) in sent.into_iter().zip(&answers) {
            self.recorded(&key, body, recorded, now);
        }
        Ok(answers)
    }

    fn recorded(&self, key: &EventKey, body: Bytes, recorded: &Recorded, now: Timestamp) {
        let outcome = match recorded {
            Recorded::New => RecordedAs::New,
            Recorded::Identical => RecordedAs::Identical,
            Recorded::Differs { .. } => RecordedAs::Differs,
        };
        let event = number(key);
        self.log(Happened::Recorded { event, body, outcome, now });
        let unreadable = self.world.plan.natures.get(&event) == Some(&Nature::Unreadable);
        if outcome == RecordedAs::New && unreadable {
            self.world.damage(key);
        }
    }

    fn granted(&self, work: &ClaimedRun, lease: Duration, now: Timestamp, by_replay: bool) {
        self.log(Happened::Granted(Grant {
            token: work.claim.token(),
            event: number(&work.key),
            run: work.run,
            attempt: work.attempt,
            readable: work.event.is_ok(),
            by_replay,
            now,
            until: now + lease,
        }));
    }
}

#[async_trait]
impl EventStore for StoreClient {
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        let id = event.key.id.as_str().to_owned();
        if self.world.has(Bug::AckBeforeCommit)
            && at_once(self.world.store.find(&event.key))?.is_none()
        {
            let client = self.clone();
            self.world.handle.spawn(Owner::Process(self.process), async move {
                client.world.handle.sleep(50_000).await;
                drop(client.record_now(event, now));
            });
            return Ok(Recorded::New);
        }
        self.call("record", move || id.clone(), move |client| client.record_now(event, now)).await
    }

    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        if self.world.has(Bug::DeliveryInParts) {
            let mut answers = Vec::new();
            for event in events {
                answers.push(self.record(event, now).await?);
            }
            return Ok(answers);
        }
        let subject = events.first().map_or(String::new(), |event| event.key.id.to_string());
        self.call(
            RECORD_ALL,
            move || subject.clone(),
            move |client| client.record_all_now(events, now),
        )
        .await
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        let ClaimRequest { lease, now, .. } = request;
        self.call("claim", String::new, move |client| {
            let batch = at_once(client.world.store.claim_due(request))?;
            for work in &batch.runs {
                client.granted(work, lease, now, false);
            }
            for work in &batch.dead_letters {
                let dead_letter = &work.dead_letter;
                client.log(Happened::GrantedLetter(DeadLetterGrant {
                    token: work.claim.token(),
                    event: number(&dead_letter.key),
                    run: dead_letter.run,
                    try_number: work.attempt,
                    attempts: dead_letter.attempts,
                    reason: dead_letter.error_message.clone(),
                    payload: dead_letter.raw_payload.clone(),
                    now,
                    until: now + lease,
                }));
            }
            Ok(batch)
        })
        .await
    }

    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError> {
        let tokens = tokens.to_vec();
        self.call("renew", String::new, move |client| {
            let answers = at_once(client.world.store.renew(&tokens, lease, now))?;
            for (token, answer) in tokens.iter().zip(&answers) {
                if *answer == Settled::LeaseLost {
                    client.world.count(Fault::LateRenewal);
                }
                let until = now + lease;
                client.log(Happened::Renewed { token: *token, answer: *answer, until });
            }
            Ok(answers)
        })
        .await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let settlements = settlements.to_vec();
        self.call("settle", String::new, move |client| {
            let answers = at_once(client.world.store.settle(&settlements))?;
            for (settlement, answer) in settlements.into_iter().zip(&answers) {
                if *answer == Settled::Done && matches!(settlement.run_end(), Some(RunEnd::Release))
                {
                    client.world.count(Fault::Released);
                }
                if settlement.token().work == WorkKind::Run {
                    client.note_settled(settlement.token(), *answer);
                }
                let settlement = Box::new(settlement);
                client.log(Happened::Settled { settlement, answer: *answer });
            }
            Ok(answers)
        })
        .await
    }

    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError> {
        let key = key.clone();
        let id = key.id.as_str().to_owned();
        self.call(
            "replay",
            move || id.clone(),
            move |client| {
                let claim = at_once(client.world.store.replay(&key, lease, now))?;
                match &claim {
                    ReplayClaim::Claimed(work) => {
                        client.world.count(Fault::ReplayRan);
                        client.granted(work, lease, now, true);
                    }
                    refused => {
                        let busy = matches!(refused, ReplayClaim::Busy);
                        if busy {
                            client.world.count(Fault::ReplayBusy);
                        }
                        client.log(Happened::ReplayRefused { event: number(&key), busy, now });
                    }
                }
                Ok(claim)
            },
        )
        .await
    }

    async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        let keys = keys.to_vec();
        self.call("requeue", String::new, move |client| {
            let answers = at_once(client.world.store.requeue(&keys, now))?;
            for (key, answer) in keys.iter().zip(&answers) {
                if *answer == Requeued::Scheduled {
                    client.world.count(Fault::BulkReplay);
                }
                client.log(Happened::Requeued { event: number(key), answer: *answer, now });
            }
            Ok(answers)
        })
        .await
    }
}

#[async_trait]
impl EventArchive for StoreClient {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        let key = key.clone();
        self.call("find", String::new, move |client| at_once(client.world.store.find(&key))).await
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        let filter = filter.clone();
        self.call("list", String::new, move |client| {
            at_once(client.world.store.list(&filter, page))
        })
        .await
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        let key = key.clone();
        self.call("attempts", String::new, move |client| at_once(client.world.store.attempts(&key)))
            .await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.call("counts", String::new, |client| at_once(client.world.store.counts())).await
    }

    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        self.call("backlog", String::new, |client| at_once(client.world.store.backlog())).await
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        self.call("size", String::new, |client| at_once(client.world.store.size())).await
    }

    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError> {
        self.call("purge", String::new, move |client| {
            let stored = || {
                let page = PageRequest { limit: usize::MAX, after: None };
                at_once(client.world.store.list(&EventFilter::default(), page))
            };
            let had = stored()?;
            let step = at_once(client.world.store.purge(request))?;
            let has = stored()?;
            let gone = had.events.iter().filter(|event| !has.events.contains(event));
            let events: Vec<u32> =
                gone.map(|event| crate::body::number_in(event.id.as_str())).collect();
            events.iter().for_each(|_| client.world.count(Fault::Purged));
            let (before, count) = (request.before, step.purged.total_events());
            client.log(Happened::Purged { before, events, count });
            Ok(step)
        })
        .await
    }

    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError> {
        self.call("purgeable", String::new, move |client| {
            at_once(client.world.store.purgeable(request))
        })
        .await
    }

    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("forget_sensitive", String::new, move |client| {
            at_once(client.world.store.forget_sensitive(before, limit))
        })
        .await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.call("ready", String::new, |client| at_once(client.world.store.ready())).await
    }
}

#[async_trait]
impl Quarantine for StoreClient {
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.call("quarantine", String::new, move |client| {
            let item = QuarantinedBody {
                reason: entry.reason,
                body: entry.body.clone(),
                delivery: delivery_of(&entry.context),
            };
            let evicted = at_once(client.world.store.quarantine(entry, limits, now))?;
            client.log(Happened::Quarantined { item, now });
            Ok(evicted)
        })
        .await
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        self.call("quarantined", String::new, move |client| {
            at_once(client.world.store.quarantined(page))
        })
        .await
    }

    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        self.call("quarantined item", String::new, move |client| {
            at_once(client.world.store.quarantined_item(id))
        })
        .await
    }

    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        self.call("discharge", String::new, move |client| {
            let item = at_once(client.world.store.quarantined_item(id))?;
            let answer = at_once(client.world.store.discharge(id))?;
            let item = item.map(QuarantinedBody::from);
            client.log(Happened::Discharged { item, answer });
            Ok(answer)
        })
        .await
    }
}

#[async_trait]
impl SharedValues for StoreClient {
    async fn shared_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.call("shared_value", String::new, move |client| {
            at_once(client.world.store.shared_value(&name))
        })
        .await
    }

    async fn replace_shared_value(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool, StoreError> {
        let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
        let (name, expected, new) = (name.to_owned(), owned(expected), owned(new));
        self.call("replace_shared_value", String::new, move |client| {
            let (expected, new) = (expected.as_deref(), new.as_deref());
            at_once(client.world.store.replace_shared_value(&name, expected, new))
        })
        .await
    }
}

#[async_trait]
impl AuditLog for StoreClient {
    async fn append_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.call("append_audit", String::new, move |client| {
            at_once(client.world.store.append_audit(entry))
        })
        .await
    }

    async fn audited(
        &self,
        about: Option<&EventKey>,
        page: PageRequest,
    ) -> Result<AuditPage, StoreError> {
        let about = about.cloned();
        self.call("audited", String::new, move |client| {
            at_once(client.world.store.audited(about.as_ref(), page))
        })
        .await
    }
}

/// No simulated operator makes these calls yet, so that no history needs them.
#[async_trait]
impl Administration for StoreClient {
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError> {
        let keys = keys.to_vec();
        self.call("discard", String::new, move |client| {
            at_once(client.world.store.discard(&keys, now))
        })
        .await
    }

    async fn erase(
        &self,
        person: &Person,
        by: &str,
        now: Timestamp,
    ) -> Result<Erasure, StoreError> {
        let (person, by) = (person.clone(), by.to_owned());
        self.call("erase", String::new, move |client| {
            at_once(client.world.store.erase(&person, &by, now))
        })
        .await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let request = request.clone();
        self.call("scan", String::new, move |client| at_once(client.world.store.scan(&request)))
            .await
    }
}
