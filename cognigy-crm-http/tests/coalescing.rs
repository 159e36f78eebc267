//! Which callers ask the CRM, which share an answer, and what is remembered. The CRM is a
//! switchboard on which the test answers each call at a chosen time. Tokio's time is paused, so
//! that waiting for something that never comes fails at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{Contact, ContactQuery, CrmClient, Failure, FailureKind, FailureScope};
use cognigy_crm_http::{CoalescingCrm, Spared};
use tokio::{
    sync::oneshot,
    task::{JoinHandle, yield_now},
    time::{advance, timeout},
};

const SECOND: Duration = Duration::from_secs(1);

/// What the CRM says to one call; nothing at all makes it panic.
type Said = Option<Result<Option<Contact>, Failure>>;

#[derive(Debug, Default)]
struct Calls {
    queries: Vec<ContactQuery>,
    waiting: Vec<Option<oneshot::Sender<Said>>>,
}

/// A CRM whose calls are answered by hand. Clones are the same one.
#[derive(Debug, Clone, Default)]
struct Switchboard {
    calls: Arc<Mutex<Calls>>,
    open: Arc<AtomicUsize>,
}

/// Counts a call as open until it ends or is dropped.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[async_trait]
impl CrmClient for Switchboard {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        self.open.fetch_add(1, SeqCst);
        let _open = Open(Arc::clone(&self.open));
        let (sender, receiver) = oneshot::channel();
        {
            let mut calls = self.calls.lock().unwrap();
            calls.queries.push(query.clone());
            calls.waiting.push(Some(sender));
        }
        receiver.await.unwrap().expect("the CRM client was told to panic")
    }
}

impl Switchboard {
    fn say(&self, call: usize, said: Said) {
        let sender = self.calls.lock().unwrap().waiting[call].take().unwrap();
        // The receiver may be gone.
        let _ = sender.send(said);
    }

    fn find(&self, call: usize, json: &str) {
        self.say(call, Some(Ok(Some(Contact::from_json(json).unwrap()))));
    }

    fn fail(&self, call: usize, failure: Failure) {
        self.say(call, Some(Err(failure)));
    }

    /// The idempotency keys that went along, in order.
    fn asked(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.queries.iter().map(|query| query.idempotency_key.clone()).collect()
    }

    fn open(&self) -> usize {
        self.open.load(SeqCst)
    }
}

type Answer = Result<Option<String>, Failure>;

struct Scene {
    switchboard: Switchboard,
    crm: CoalescingCrm<Switchboard>,
}

impl Scene {
    fn new() -> Self {
        let switchboard = Switchboard::default();
        Self { crm: CoalescingCrm::new(switchboard.clone()), switchboard }
    }

    fn remembering(span: Duration) -> Self {
        let Self { switchboard, crm } = Self::new();
        Self { switchboard, crm: crm.remembering(span) }
    }

    /// An event asks for `contact`, in a task of its own that gets as far as it can.
    async fn ask(&self, event: &str, contact: &str) -> JoinHandle<Answer> {
        self.spawn(event, contact, false).await
    }

    async fn ask_afresh(&self, event: &str, contact: &str) -> JoinHandle<Answer> {
        self.spawn(event, contact, true).await
    }

    async fn spawn(&self, event: &str, contact: &str, fresh: bool) -> JoinHandle<Answer> {
        let query = ContactQuery {
            contact_key: contact.into(),
            idempotency_key: event.into(),
            fresh,
            traceparent: None,
        };
        let crm = self.crm.clone();
        let task = tokio::spawn(async move {
            let contact = crm.find_contact(&query).await?;
            Ok(contact.map(|contact| contact.as_json().to_owned()))
        });
        yield_now().await;
        task
    }

    fn asked(&self) -> Vec<String> {
        self.switchboard.asked()
    }

    /// Nothing is under way in the wrapper, nor in the client behind it.
    fn is_at_rest(&self) -> bool {
        let shown = format!("{:?}", self.crm);
        shown.contains("on_their_way: 0") && self.switchboard.open() == 0
    }
}

/// The task's answer. With paused time, a task that nothing will wake reaches this timeout at once.
async fn told(task: JoinHandle<Answer>) -> Answer {
    timeout(3600 * SECOND, task).await.expect("nothing wakes this task").unwrap()
}

async fn found(task: JoinHandle<Answer>) -> String {
    told(task).await.unwrap().unwrap()
}

fn spared(by_coalescing: u64, by_memory: u64) -> Spared {
    Spared { by_coalescing, by_memory }
}

#[tokio::test(start_paused = true)]
async fn identical_look_ups_at_the_same_moment_are_made_once() {
    let scene = Scene::new();
    let mut tasks = Vec::new();
    for number in 0..100 {
        tasks.push(scene.ask(&format!("evt-{number}"), "ada").await);
    }
    let other = scene.ask("evt-other", "bob").await;
    assert_eq!(scene.asked(), ["evt-0", "evt-other"], "the first asker's key goes along");
    scene.switchboard.find(0, "\"Ada\"");
    scene.switchboard.find(1, "\"Bob\"");
    for task in tasks {
        assert_eq!(found(task).await, "\"Ada\"");
    }
    assert_eq!(found(other).await, "\"Bob\"");
    assert_eq!(scene.crm.spared(), spared(99, 0));
    assert!(scene.is_at_rest());

    let later = scene.ask("evt-later", "ada").await;
    assert_eq!(scene.asked().len(), 3, "nothing is remembered unless told so");
    scene.switchboard.say(2, Some(Ok(None)));
    assert_eq!(told(later).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_with_its_kind_its_wait_and_its_report() {
    let scene = Scene::new();
    for (call, (failure, kind)) in [
        (
            Failure::transient("CRM answered 429").retry_after(7 * SECOND).caused_by("too many"),
            FailureKind::Transient { retry_after: Some(7 * SECOND) },
        ),
        (Failure::transient("CRM did not answer"), FailureKind::Transient { retry_after: None }),
        (Failure::permanent("CRM answered 400"), FailureKind::Permanent),
    ]
    .into_iter()
    .enumerate()
    {
        let report = failure.report();
        let tasks = [scene.ask("evt-1", "ada").await, scene.ask("evt-2", "ada").await];
        scene.switchboard.fail(call, failure);
        for task in tasks {
            let failure = told(task).await.unwrap_err();
            assert_eq!((failure.kind(), failure.report()), (kind, report.clone()));
        }
        assert_eq!(scene.asked().len(), call + 1);
    }
    let alone = scene.ask("evt-3", "ada").await;
    scene.switchboard.fail(3, Failure::permanent("no").caused_by("a cause"));
    let failure = told(alone).await.unwrap_err();
    assert_eq!(failure.source().unwrap().to_string(), "a cause", "as it was");
    assert!(scene.is_at_rest());
}

#[tokio::test]
async fn a_failure_is_shared_with_its_scope() {
    let scene = Scene::new();
    let first = Some(Contact::from_json("{\"id\":1}").unwrap());
    for (call, failure, scope) in [
        (0, Failure::transient("CRM answered 503").of_service(), FailureScope::Service),
        (1, Failure::transient("CRM answered 502"), FailureScope::Event),
        (2, Failure::ambiguous("two", first.clone()), FailureScope::Ambiguous { first }),
    ] {
        let waiting = [scene.ask("a", "c").await, scene.ask("b", "c").await];
        scene.switchboard.fail(call, failure);
        for task in waiting {
            assert_eq!(told(task).await.unwrap_err().scope(), &scope);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_asker_that_gives_up_takes_nothing_from_the_others() {
    let scene = Scene::new();
    let first = scene.ask("evt-1", "ada").await;
    let others = [scene.ask("evt-2", "ada").await, scene.ask("evt-3", "ada").await];
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(scene.switchboard.open(), 1, "the call goes on");
    let late = scene.ask("evt-4", "ada").await;
    scene.switchboard.find(0, "1");
    for task in others.into_iter().chain([late]) {
        assert_eq!(found(task).await, "1");
    }
    assert_eq!(scene.asked(), ["evt-1"]);
    assert!(scene.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_nobody_waits_for_is_dropped_and_leaves_nothing_behind() {
    let scene = Scene::new();
    let tasks = [scene.ask("evt-1", "ada").await, scene.ask("evt-2", "ada").await];
    assert!(!scene.is_at_rest());
    for task in tasks {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert!(scene.is_at_rest());
    let next = scene.ask("evt-3", "ada").await;
    scene.switchboard.find(1, "1");
    assert_eq!(found(next).await, "1");
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_client_is_a_transient_failure_for_all_and_is_over_then() {
    let scene = Scene::new();
    let tasks = [scene.ask("evt-1", "ada").await, scene.ask("evt-2", "ada").await];
    scene.switchboard.say(0, None);
    for task in tasks {
        let failure = told(task).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Transient { retry_after: None });
        assert_eq!(failure.report(), "the CRM client panicked");
    }
    assert!(scene.is_at_rest());
    let next = scene.ask("evt-3", "ada").await;
    scene.switchboard.find(1, "1");
    assert_eq!(found(next).await, "1");
}

#[tokio::test(start_paused = true)]
async fn found_contacts_are_remembered_for_a_while_strangers_and_failures_are_not() {
    let scene = Scene::remembering(30 * SECOND);
    let first = scene.ask("evt-1", "ada").await;
    advance(10 * SECOND).await;
    scene.switchboard.find(0, "1");
    assert_eq!(found(first).await, "1");
    advance(20 * SECOND - Duration::from_millis(1)).await;
    assert_eq!(found(scene.ask("evt-2", "ada").await).await, "1");
    assert_eq!((scene.asked().len(), scene.crm.spared()), (1, spared(0, 1)));
    advance(Duration::from_millis(1)).await;
    let third = scene.ask("evt-3", "ada").await;
    assert_eq!(scene.asked().len(), 2, "thirty seconds after it was asked for");
    scene.switchboard.find(1, "2");
    assert_eq!(found(third).await, "2");

    let (busy, no) = (Failure::transient("busy"), Failure::permanent("no"));
    for (call, said) in [(2, Ok(None)), (3, Ok(None)), (4, Err(busy)), (5, Err(no)), (6, Ok(None))]
    {
        let task = scene.ask("evt", "bob").await;
        assert_eq!(scene.asked().len(), call + 1, "asked anew");
        scene.switchboard.say(call, Some(said));
        let _ = told(task).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_look_up_neither_is_answered_from_memory_nor_joins() {
    let scene = Scene::remembering(30 * SECOND);
    let first = scene.ask("evt-1", "ada").await;
    scene.switchboard.find(0, "\"old\"");
    assert_eq!(found(first).await, "\"old\"");

    let updated = scene.ask_afresh("evt-updated", "ada").await;
    assert_eq!(scene.asked(), ["evt-1", "evt-updated"]);
    let again = scene.ask_afresh("evt-updated-again", "ada").await;
    assert_eq!(scene.asked().len(), 3, "the second update may be newer than the first's answer");
    let meanwhile = scene.ask("evt-2", "ada").await;
    assert_eq!(scene.asked().len(), 3, "others may join it");
    scene.switchboard.find(2, "\"new\"");
    assert_eq!(found(again).await, "\"new\"");
    assert_eq!(found(meanwhile).await, "\"new\"");
    scene.switchboard.find(1, "\"older\"");
    assert_eq!(found(updated).await, "\"older\"");
    assert_eq!(found(scene.ask("evt-3", "ada").await).await, "\"new\"", "remembered");
    assert_eq!(scene.asked().len(), 3);
    assert!(scene.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_a_fresh_look_up_is_not_remembered_after_it() {
    let scene = Scene::remembering(30 * SECOND);
    let before = scene.ask("evt-1", "ada").await;
    let updated = scene.ask_afresh("evt-updated", "ada").await;
    scene.switchboard.find(1, "\"new\"");
    assert_eq!(found(updated).await, "\"new\"");
    scene.switchboard.find(0, "\"old\"");
    assert_eq!(found(before).await, "\"old\"", "who asked before still gets its answer");
    assert_eq!(found(scene.ask("evt-2", "ada").await).await, "\"new\"");

    // Nor when its answer comes first.
    let before = scene.ask("evt-1", "eve").await;
    let updated = scene.ask_afresh("evt-updated", "eve").await;
    scene.switchboard.find(2, "\"old\"");
    assert_eq!(found(before).await, "\"old\"");
    let meanwhile = scene.ask("evt-2", "eve").await;
    assert_eq!(scene.asked().len(), 4, "the fresh one can still be joined");
    scene.switchboard.find(3, "\"new\"");
    for task in [updated, meanwhile, scene.ask("evt-3", "eve").await] {
        assert_eq!(found(task).await, "\"new\"");
    }
    assert_eq!(scene.asked().len(), 4, "and is remembered");

    // However the fresh one ends: failed, or given up.
    for given_up in [false, true] {
        let contact = format!("bob-{given_up}");
        let call = scene.asked().len();
        let before = scene.ask("evt-1", &contact).await;
        let updated = scene.ask_afresh("evt-updated", &contact).await;
        if given_up {
            updated.abort();
            assert!(updated.await.unwrap_err().is_cancelled());
        } else {
            scene.switchboard.fail(call + 1, Failure::transient("busy"));
            told(updated).await.unwrap_err();
        }
        scene.switchboard.find(call, "\"old\"");
        assert_eq!(found(before).await, "\"old\"");
        let next = scene.ask("evt-2", &contact).await;
        assert_eq!(scene.asked().len(), call + 3, "the old answer is not remembered");
        scene.switchboard.find(call + 2, "\"new\"");
        assert_eq!(found(next).await, "\"new\"");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let scene = Scene::remembering(30 * SECOND);
    for number in 0..4097 {
        let task = scene.ask("evt", &format!("contact-{number}")).await;
        scene.switchboard.find(number, "1");
        found(task).await;
    }
    let shown = format!("{:?}", scene.crm);
    assert!(shown.contains("remembered: 4096"));
    assert_eq!(found(scene.ask("evt", "contact-1").await).await, "1");
    assert_eq!(scene.asked().len(), 4097);
    let oldest = scene.ask("evt", "contact-0").await;
    assert_eq!(scene.asked().len(), 4098, "the oldest went first");
    oldest.abort();
}

/// A CRM that answers after a few turns, the number of the call, or a failure now and then.
#[derive(Clone, Default)]
struct Busy(Arc<AtomicUsize>);

#[async_trait]
impl CrmClient for Busy {
    async fn find_contact(&self, _query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        let call = self.0.fetch_add(1, SeqCst);
        for _ in 0..call % 4 {
            yield_now().await;
        }
        match call % 5 {
            0 => Err(Failure::transient("busy")),
            1 => Ok(None),
            _ => Ok(Contact::from_json(&call.to_string()).ok()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn crowds_on_several_threads_all_get_an_answer() {
    const CROWD: usize = 20_000;
    let busy = Busy::default();
    let crm = CoalescingCrm::new(busy.clone()).remembering(Duration::from_millis(1));
    let tasks: Vec<_> = (0..CROWD)
        .map(|number| {
            let crm = crm.clone();
            let query = ContactQuery {
                contact_key: format!("contact-{}", number % 3),
                idempotency_key: format!("evt-{number}"),
                traceparent: None,
                fresh: number % 11 == 0,
            };
            let task = tokio::spawn(async move { crm.find_contact(&query).await });
            if number % 7 == 0 {
                task.abort();
            }
            task
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        match timeout(60 * SECOND, task).await.expect("nothing wakes this task") {
            Ok(_) => answered += 1,
            Err(error) => assert!(error.is_cancelled(), "{error}"),
        }
    }
    let Spared { by_coalescing, by_memory } = crm.spared();
    assert!(answered >= CROWD - CROWD.div_ceil(7));
    assert!(by_coalescing > 0 && by_memory > 0, "{:?}", crm.spared());
    let asked = busy.0.load(SeqCst) as u64;
    assert!(asked + by_coalescing + by_memory >= answered as u64);
}
