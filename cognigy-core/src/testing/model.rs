//! For any sequence of calls, a store gives the same answers as the store in memory.

use std::{sync::Arc, time::Duration};

use super::sample::{self, key};
use crate::{
    event::{
        Correlation, DeliveryContext, EventKey, EventType, IncomingEvent, SourceName, State,
        Timestamp,
    },
    memory::MemoryStore,
    ports::Contact,
    store::{
        Attempt, AttemptOutcome, Claim, ClaimRequest, ClaimToken, ClaimedRun, DeadLetterClaim,
        DeadLetterEnd, Erasure, ErrorClass, EventFilter, EventOrder, PageRequest, Person,
        PurgeRequest, QuarantineEntry, QuarantineLimits, QuarantineReason, ReplayClaim, RunEnd,
        Store, Words, search_index::IndexRequest,
    },
};

/// How a store's claims may differ from the store in memory within the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// Not at all: among events that are due at the same time it claims the same ones, and it
    /// suggests the same time for the next claim.
    AsInMemory,
    /// The store chooses by rules of its own, and may suggest an earlier next claim.
    Free,
}

/// Compares a store with the one in memory, without an order and with either kind of order: three tests
/// of ten random courses each.
///
/// Takes the attribute that makes an async test, what the store does of its own accord ([`Claims`]), and
/// an async function that takes an [`EventOrder`] and yields an empty store that keeps it, and something
/// to keep for as long as the store is used.
///
/// ```
/// use cognigy_core::{EventOrder, memory::MemoryStore, testing::model::Claims};
///
/// async fn empty_store(order: EventOrder) -> (MemoryStore, ()) {
///     (MemoryStore::keeping(order), ())
/// }
///
/// cognigy_core::model_conformance!(#[tokio::test], Claims::AsInMemory, empty_store);
/// ```
#[macro_export]
macro_rules! model_conformance {
    (#[$attribute:meta], $claims:expr, $fresh:path) => {
        $crate::model_conformance! { @cases #[$attribute], $claims, $fresh:
            the_store_does_as_the_model_does: $crate::EventOrder::Any,
            a_store_that_keeps_the_order_does_as_the_model_does:
                $crate::EventOrder::PerContact($crate::AfterDeadLetter::Continue),
            a_store_that_stops_contacts_does_as_the_model_does:
                $crate::EventOrder::PerContact($crate::AfterDeadLetter::Stop),
        }
    };
    (@cases #[$attribute:meta], $claims:expr, $fresh:path: $($case:ident: $order:expr,)+) => {
        $(
            #[$attribute]
            async fn $case() {
                for seed in 0..10 {
                    let (store, _kept) = $fresh($order).await;
                    $crate::testing::model::compare(store, $order, $claims, seed).await;
                }
            }
        )+
    };
}

/// Steps of a comparison, each a call.
const STEPS: i64 = 300;

/// Makes the same 300 random calls, decided by `seed`, to `store` and to the store in memory.
/// `store` is empty, keeps `order` and uses its caller's clock.
///
/// # Panics
///
/// If an answer or the stored data differs.
///
/// ```
/// use cognigy_core::{
///     EventOrder, memory::MemoryStore,
///     testing::model::{Claims, compare},
/// };
///
/// // A course of calls that has once found a fault, again.
/// let course = compare(MemoryStore::new(), EventOrder::Any, Claims::AsInMemory, 4);
/// futures_executor::block_on(course);
/// ```
pub async fn compare(store: impl Store + 'static, order: EventOrder, claims: Claims, seed: u64) {
    let mut dice = Dice(seed);
    let model = Arc::new(MemoryStore::keeping(order));
    let mut pair = Pair { stores: [model, Arc::new(store)], claims, tokens: Vec::new() };
    for step in 0..STEPS {
        let now = at(step);
        pair.take_a_step(&mut dice, now).await;
        if step % 25 == 0 {
            pair.compare_all().await;
        }
    }
    pair.compare_all().await;
}

fn at(seconds: i64) -> Timestamp {
    sample::start() + chrono::Duration::seconds(seconds)
}

fn event_from(contact: &str, id: &str, text: &str) -> IncomingEvent {
    sample::incoming(format!(
        r#"{{ "eventId":"{id}", "timestamp":1772366400, "type":"USER_INPUT_RECEIVED",
  "payload":{{"input":"{text}"}}, "externalId":"{contact}", "userId":"user-{id}" }}"#
    ))
}

fn any_event(dice: &mut Dice) -> IncomingEvent {
    let number = dice.roll(12);
    let contact = ["ann", "bob", "cid"][number % 3];
    let text = ["hi", "ho"][dice.roll(2)];
    let mut event = event_from(contact, &format!("e{number}"), text);
    event.context = context(dice);
    event.parts.sensitive = dice.roll(3) == 0;
    event.parts.conversation = (dice.roll(2) == 0).then(|| format!("s{number}"));
    event
}

fn context(dice: &mut Dice) -> DeliveryContext {
    let kept = [("ce-id", "1"), ("ce-type", "a")];
    sample::context(&kept[..dice.roll(3)])
}

/// A repeatable source of choices (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn key(&mut self) -> EventKey {
        key(&format!("e{}", self.roll(12)))
    }
}

/// The two stores, and tokens that each granted for the same work.
struct Pair {
    stores: [Arc<dyn Store>; 2],
    claims: Claims,
    tokens: Vec<([ClaimToken; 2], u32, u32)>,
}

impl Pair {
    /// The answer of both stores. Panics if they differ.
    async fn same<T: std::fmt::Debug, F: Future<Output = T>>(
        &self,
        what: &str,
        call: impl Fn(Arc<dyn Store>) -> F,
    ) -> String {
        let [model, store] = &self.stores;
        let expected = format!("{:?}", call(Arc::clone(model)).await);
        assert_eq!(format!("{:?}", call(Arc::clone(store)).await), expected, "{what}");
        expected
    }

    fn keep_runs(&mut self, runs: [Vec<ClaimedRun>; 2]) {
        let [model, store] = runs;
        assert_eq!(model.len(), store.len(), "as many runs");
        for (model, store) in model.into_iter().zip(store) {
            let told = |run: &ClaimedRun| {
                let event = run.event.as_ref().unwrap();
                format!("{:?}", (&run.key, run.run, run.attempt, event))
            };
            assert_eq!(told(&store), told(&model));
            let tokens = [model.claim.token(), store.claim.token()];
            self.tokens.push((tokens, model.run, model.attempt));
        }
    }

    async fn claim(&mut self, limit: usize, lease: Duration, now: Timestamp) {
        let source = SourceName::default();
        let request = ClaimRequest { source, runs: limit, dead_letters: limit, lease, now };
        let mut model = self.stores[0].claim_due(request.clone()).await.unwrap();
        let mut store = self.stores[1].claim_due(request).await.unwrap();
        match (self.claims, model.next_due) {
            (Claims::AsInMemory, due) => assert_eq!(store.next_due, due),
            (Claims::Free, Some(due)) => {
                assert!(store.next_due.is_some_and(|sooner| sooner <= due), "{:?}", store.next_due);
            }
            (Claims::Free, None) => {}
        }
        if self.claims == Claims::Free {
            for batch in [&mut model, &mut store] {
                batch.runs.sort_by(|one, other| one.key.cmp(&other.key));
                batch
                    .dead_letters
                    .sort_by_key(|work| (work.dead_letter.key.clone(), work.dead_letter.run));
            }
        }
        assert_eq!(store.dead_letters.len(), model.dead_letters.len());
        for (model, store) in model.dead_letters.into_iter().zip(store.dead_letters) {
            assert_eq!((store.dead_letter, store.attempt), (model.dead_letter, model.attempt));
            self.tokens.push(([model.claim.token(), store.claim.token()], 0, 0));
        }
        self.keep_runs([model.runs, store.runs]);
    }

    async fn settle(&mut self, dice: &mut Dice, now: Timestamp) {
        let mut settlements = [Vec::new(), Vec::new()];
        for _ in 0..=dice.roll(4) {
            if self.tokens.is_empty() {
                break;
            }
            // Mostly a token is used once; sometimes it is used again later, when it is stale.
            let chosen = dice.roll(self.tokens.len());
            let (tokens, run, number) = match dice.roll(4) {
                0 => self.tokens[chosen],
                _ => self.tokens.swap_remove(chosen),
            };
            let later = now + Duration::from_secs(dice.roll(40) as u64);
            let choice = dice.roll(6);
            let correlation = Correlation::ALL[dice.roll(5)];
            if run == 0 {
                let end = match choice {
                    0 | 1 => DeadLetterEnd::Retry { due: later },
                    _ => DeadLetterEnd::Sent,
                };
                for (list, token) in settlements.iter_mut().zip(tokens) {
                    let claim = DeadLetterClaim::granted(token.handle, token.fence);
                    list.push(claim.settle(end, now));
                }
                continue;
            }
            let end = match choice {
                0 => RunEnd::Retry { due: later },
                1 => RunEnd::GiveUp { reason: "no use".to_owned(), attempts: number },
                2 => RunEnd::Release,
                3 => RunEnd::Processed { contact: None },
                4 => RunEnd::PutOff { due: later },
                _ => RunEnd::Processed { contact: Contact::from_json("{\"id\": 7}").ok() },
            };
            let attempt =
                (!matches!(end, RunEnd::Release | RunEnd::PutOff { .. })).then(|| Attempt {
                    number,
                    run,
                    started_at: now,
                    duration: Duration::from_micros(1_234_567),
                    outcome: AttemptOutcome::FailedPermanent,
                    error: Some("no".to_owned()),
                });
            for (list, token) in settlements.iter_mut().zip(tokens) {
                let claim = Claim::granted(token.handle, token.fence);
                let settlement = claim.settle(end.clone(), attempt.clone(), now);
                list.push(match end {
                    RunEnd::Processed { .. } | RunEnd::GiveUp { .. } => {
                        settlement.correlated(correlation)
                    }
                    _ => settlement,
                });
            }
        }
        let [model, store] = &settlements;
        assert_eq!(
            self.stores[1].settle(store).await.unwrap(),
            self.stores[0].settle(model).await.unwrap(),
            "{model:?}"
        );
    }

    async fn renew(&self, dice: &mut Dice, now: Timestamp) {
        let Some((tokens, ..)) = self.tokens.get(dice.roll(8)) else { return };
        let lease = Duration::from_secs(30);
        assert_eq!(
            self.stores[1].renew(&tokens[1..], lease, now).await.unwrap(),
            self.stores[0].renew(&tokens[..1], lease, now).await.unwrap(),
        );
    }

    async fn replay(&mut self, key: &EventKey, now: Timestamp) {
        let lease = Duration::from_secs(20);
        let model = self.stores[0].replay(key, lease, now).await.unwrap();
        let store = self.stores[1].replay(key, lease, now).await.unwrap();
        match (model, store) {
            (ReplayClaim::Claimed(model), ReplayClaim::Claimed(store)) => {
                self.keep_runs([vec![*model], vec![*store]]);
            }
            (model, store) => assert_eq!(format!("{store:?}"), format!("{model:?}")),
        }
    }

    async fn take_a_step(&mut self, dice: &mut Dice, now: Timestamp) {
        // The index of the store must not change any answer, however far it has come.
        for _ in 0..dice.roll(4) {
            self.stores[1].index(&IndexRequest::tiny(now)).await.unwrap();
        }
        match dice.roll(12) {
            0 | 1 => {
                let event = &any_event(dice);
                self.same("record", async |store| store.record(event.clone(), now).await.unwrap())
                    .await;
            }
            2 => {
                let events: &Vec<_> = &(0..dice.roll(4)).map(|_| any_event(dice)).collect();
                self.same("record_all", async |store| {
                    store.record_all(events.clone(), now).await.unwrap()
                })
                .await;
            }
            3 | 4 => {
                let lease = Duration::from_secs(dice.roll(60) as u64);
                // Then both stores leave the same rows of those that are due at the same time.
                let limit = match self.claims {
                    Claims::AsInMemory => dice.roll(6),
                    Claims::Free => 100,
                };
                self.claim(limit, lease, now).await;
            }
            5 | 6 => self.settle(dice, now).await,
            7 => self.renew(dice, now).await,
            8 => self.replay(&dice.key(), now).await,
            9 => {
                let keys = &[dice.key(), dice.key()];
                self.same("requeue", async |store| store.requeue(keys, now).await.unwrap()).await;
            }
            10 => {
                let entry = &QuarantineEntry {
                    source: SourceName::default(),
                    reason: match dice.roll(3) {
                        0 => QuarantineReason::Conflict,
                        _ => QuarantineReason::Invalid,
                    },
                    event_id: None,
                    detail: "differs".to_owned(),
                    body: vec![0xff; dice.roll(9)].into(),
                    context: context(dice),
                };
                self.same("quarantine", async |store| {
                    let limits = QuarantineLimits { items: 3, bytes: 20 };
                    store.quarantine(entry.clone(), limits, now).await.unwrap()
                })
                .await;
                let ago = |dice: &mut Dice| now - chrono::Duration::seconds(dice.roll(80) as i64);
                let request = PurgeRequest {
                    before: ago(dice),
                    unresolved_before: (dice.roll(3) > 0).then(|| ago(dice)),
                    limit: 1 + dice.roll(4),
                    after: None,
                };
                self.same("purgeable", async |store| store.purgeable(request).await.unwrap()).await;
                self.same("purge", async |store| {
                    let step = store.purge(request).await.unwrap();
                    (step.purged, step.next.is_some())
                })
                .await;
            }
            11 if dice.roll(5) == 0 => {
                let keys = &[dice.key(), dice.key()];
                self.same("discard", async |store| store.discard(keys, now).await.unwrap()).await;
            }
            11 if dice.roll(12) == 0 => {
                let person = &Person::UserId(format!("user-e{}", dice.roll(12)));
                self.same("erase", async |store| {
                    let erasure = store.erase(person, "admin", now).await.unwrap();
                    Erasure { id: 0, ..erasure }
                })
                .await;
            }
            11 if dice.roll(3) == 0 => {
                let before = now - chrono::Duration::seconds(dice.roll(40) as i64);
                self.same("forget_sensitive", async |store| {
                    store.forget_sensitive(before, 100).await.unwrap()
                })
                .await;
            }
            _ => compare_list(self, dice, now).await,
        }
    }

    async fn compare_all(&self) {
        self.same("counts", async |store| store.counts().await.unwrap()).await;
        for n in 0..12 {
            let key = &key(&format!("e{n}"));
            self.same("find", async |store| store.find(key).await.unwrap()).await;
            self.same("attempts", async |store| store.attempts(key).await.unwrap()).await;
        }
    }
}

async fn compare_list(pair: &Pair, dice: &mut Dice, now: Timestamp) {
    let second = |dice: &mut Dice| now - Duration::from_secs(dice.roll(300) as u64);
    let filter = EventFilter {
        state: State::ALL.get(dice.roll(10)).copied(),
        kind: (dice.roll(8) == 0).then_some(EventType::DialogEnded),
        user_id: (dice.roll(4) == 0).then(|| format!("user-e{}", dice.roll(12))),
        external_id: (dice.roll(4) == 0).then(|| ["ann", "bob"][dice.roll(2)].to_owned()),
        from: (dice.roll(3) == 0).then(|| second(dice)),
        to: (dice.roll(3) == 0).then(|| second(dice)),
        source: (dice.roll(2) == 0).then(SourceName::default),
        conversation: (dice.roll(5) == 0).then(|| format!("s{}", dice.roll(12))),
        correlation: (dice.roll(4) == 0).then(|| Correlation::ALL[dice.roll(5)]),
        words: (dice.roll(6) == 0)
            .then(|| Words::of(["HI", "ho e1", "ann", "no"][dice.roll(4)]))
            .flatten(),
        error: (dice.roll(8) == 0).then(|| ErrorClass::of("no").name),
    };
    let (filter, limit) = (&filter, dice.roll(5));
    pair.same("list", async |store| {
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let page = store.list(filter, PageRequest { limit, after }).await.unwrap();
            pages.push(page.events);
            after = page.next;
            if after.is_none() {
                return pages;
            }
        }
    })
    .await;
}
