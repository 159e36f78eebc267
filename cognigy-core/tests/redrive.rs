//! Dead letters that come back from the queue: what happens to each, and which messages stay in the
//! queue.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    DeadLetter, DeadLetterSource, DeliveryContext, Failure, ReceivedDeadLetter, RedriveReport,
    Redriven, State,
    testing::{CrmAnswer, sample},
};
use futures_executor::block_on;
use scenario::{Operations, Scenario};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A queue that returns a message again until it is deleted. Clones are the same queue.
#[derive(Clone)]
struct Queue {
    messages: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    deleted: Arc<Mutex<HashSet<String>>>,
    deletes: bool,
    /// How many messages each receive asked for.
    asked: Arc<Mutex<Vec<usize>>>,
    /// Like a FIFO queue with one group: while a message is received and neither deleted nor
    /// released, the queue returns none.
    fifo: bool,
    received: Arc<Mutex<HashSet<String>>>,
}

impl Queue {
    fn holding(messages: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        let (deleted, asked, received) = Default::default();
        let messages = Arc::new(messages);
        Self { messages, deleted, deletes: true, asked, fifo: false, received }
    }

    fn of(messages: Vec<String>) -> Self {
        Self::holding(move || messages.clone())
    }

    fn deleted(&self) -> usize {
        self.deleted.lock().unwrap().len()
    }
}

#[async_trait]
impl DeadLetterSource for Queue {
    async fn receive(&self, max: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
        self.asked.lock().unwrap().push(max);
        let (deleted, mut received) = (self.deleted.lock().unwrap(), self.received.lock().unwrap());
        if self.fifo && !received.is_empty() {
            return Ok(Vec::new());
        }
        let messages = (self.messages)().into_iter().enumerate();
        let messages = messages
            .map(|(number, body)| {
                let (id, receipt) = (format!("message-{number}"), number.to_string());
                ReceivedDeadLetter { id, body, receipt }
            })
            .filter(|message| !deleted.contains(&message.receipt));
        let given: Vec<_> = messages.take(max).collect();
        received.extend(given.iter().map(|message| message.receipt.clone()));
        Ok(given)
    }

    async fn release(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        let mut received = self.received.lock().unwrap();
        received.retain(|receipt| !receipts.contains(receipt));
        receipts.iter().map(|_| Ok(())).collect()
    }

    fn holds_back(&self) -> bool {
        self.fifo
    }

    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        if !self.deletes {
            return receipts.iter().map(|_| Err(Failure::transient("not now"))).collect();
        }
        self.deleted.lock().unwrap().extend(receipts.iter().cloned());
        self.received.lock().unwrap().retain(|receipt| !receipts.contains(receipt));
        receipts.iter().map(|_| Ok(())).collect()
    }
}

/// The message of event `id`, with the payload of event `payload`.
fn message(id: &str, payload: &str) -> String {
    dead_letter(id, payload).to_message(false)
}

fn dead_letter(id: &str, payload: &str) -> DeadLetter {
    let event = sample::incoming(sample::body(payload));
    DeadLetter {
        key: sample::key(id),
        run: 1,
        kind: event.parts.kind,
        time: event.parts.time,
        error_message: "gave up".into(),
        attempts: 4,
        first_received_at: sample::start(),
        raw_payload: event.body,
        context: DeliveryContext::default(),
    }
}

fn redrive(world: &Scenario, queue: &Queue, max: Option<u64>) -> (RedriveReport, usize) {
    let mut told = 0;
    let redriven = world.pipeline.redrive(queue, max, &world.clock, |_| told += 1);
    (block_on(redriven).unwrap(), told)
}

/// A world in which each of `ids` was dead-lettered.
fn given_up(ids: &[&str]) -> Scenario {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    world.start_worker();
    for id in ids {
        world.deliver(id);
    }
    world.pass(SECOND);
    assert_eq!(world.dead_letters().len(), ids.len());
    world
}

#[test]
fn each_message_is_counted_for_what_became_of_it() {
    let mut world = given_up(&["failed", "failed too"]);
    world.crm.set_default(CrmAnswer::Hang);
    world.deliver("held");
    world.pass(SECOND);
    let elsewhere = message("a", "a").replacen('{', r#"{"source":"elsewhere","#, 1);
    let queue = Queue::of(vec![
        message("failed", "failed"),
        message("failed too", "failed too"),
        message("failed", "failed"),
        message("held", "held"),
        message("forgotten", "forgotten"),
        message("named otherwise", "than its payload"),
        dead_letter("forgotten, without its payload", "a").to_message(true),
        elsewhere,
        "no message of ours".to_owned(),
    ]);
    let (report, _) = redrive(&world, &queue, Some(9));
    let counts = (report.requeued, report.stored, report.busy, report.again, report.unusable);
    assert_eq!((counts, report.differs, report.undeleted), ((2, 1, 1, 1, 4), 0, 0));
    assert_eq!((report.seen(), queue.deleted()), (9, 3));
    let left: Vec<_> = report
        .left
        .iter()
        .map(|left| {
            let event = left.event.as_ref().map_or("-", |key| key.id.as_str());
            (left.message_id.as_str(), event, left.outcome)
        })
        .collect();
    let expected = [
        ("message-2", "failed", Redriven::Again),
        ("message-3", "held", Redriven::Busy),
        ("message-5", "named otherwise", Redriven::Unusable),
        ("message-6", "forgotten, without its payload", Redriven::Unusable),
        ("message-7", "a", Redriven::Unusable),
        ("message-8", "-", Redriven::Unusable),
    ];
    assert_eq!(left, expected);
    let reasons: HashSet<_> = report.left.iter().map(|left| &left.reason).collect();
    assert_eq!(reasons.len(), 6, "each has a reason of its own: {reasons:?}");
    assert!(queue.received.lock().unwrap().is_empty(), "all that stay are available again");
    assert_eq!(world.state("forgotten"), State::Pending);
    assert_eq!(world.find("forgotten").event.body(), &sample::body("forgotten"));
    let store = world.pipeline.store();
    for id in ["named otherwise", "than its payload"] {
        assert!(block_on(store.find(&sample::key(id))).unwrap().is_none(), "{id}");
    }
}

#[test]
fn a_message_that_was_edited_stays_and_says_so() {
    let world = given_up(&["edited", "spaced"]);
    let edited = message("edited", "edited").replace("hello", "good bye");
    assert_ne!(edited, message("edited", "edited"), "the test edits it");
    let spaced = message("spaced", "spaced").replace("\"rawPayload\":{", "\"rawPayload\": { ");
    let queue = Queue::of(vec![edited, spaced]);
    let (report, _) = redrive(&world, &queue, None);
    assert_eq!((report.requeued, report.differs, queue.deleted()), (1, 1, 1));
    assert_eq!(report.left[0].outcome, Redriven::Differs);
    assert!(report.left[0].reason.contains("differs from the stored event"));
    assert_eq!(world.state("edited"), State::DeadLettered, "it is not run");
    assert_eq!(world.find("edited").event.body(), &sample::body("edited"), "nor changed");
}

#[test]
fn messages_that_stay_do_not_hide_those_behind_them() {
    let ids: Vec<_> = (0..30).map(|number| number.to_string()).collect();
    let world = given_up(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let mut messages: Vec<_> = ids.iter().map(|id| message(id, id)).collect();
    messages.insert(0, "no message of ours".to_owned());
    messages.insert(12, "nor is this".to_owned());
    let mut queue = Queue::of(messages);
    queue.fifo = true;
    for (max, requeued) in [(Some(5), 4), (None, 26)] {
        let (report, _) = redrive(&world, &queue, max);
        assert_eq!(report.requeued, requeued, "{report:?}");
        assert_eq!(report.left[0].message_id, "message-0", "named by each redrive");
        assert!(queue.received.lock().unwrap().is_empty(), "available again");
    }
    let (report, _) = redrive(&world, &queue, None);
    assert_eq!((report.seen(), report.unusable), (2, 2));
}

#[test]
fn a_message_that_cannot_be_deleted_is_said_to_come_again() {
    let world = given_up(&["a", "b"]);
    let mut queue = Queue::of(vec![message("a", "a"), message("b", "b")]);
    queue.deletes = false;
    let (report, _) = redrive(&world, &queue, Some(2));
    assert_eq!((report.requeued, report.undeleted), (2, 2));
}

#[test]
fn no_more_is_asked_for_than_is_wanted() {
    let ids: Vec<_> = (0..30).map(|number| number.to_string()).collect();
    let world = given_up(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let queue = Queue::of(ids.iter().map(|id| message(id, id)).collect());
    let (report, told) = redrive(&world, &queue, Some(14));
    assert_eq!((report.requeued, queue.deleted(), told), (14, 14, 2));
    assert_eq!(*queue.asked.lock().unwrap(), [10, 4]);
}

#[test]
fn each_event_is_taken_back_once_even_if_it_fails_again_at_once() {
    let mut world = given_up(&["a", "b", "c"]);
    let sink = world.sink.clone();
    let sent =
        move || sink.received().iter().map(|dead_letter| dead_letter.to_message(false)).collect();
    let report = world.redrive(Queue::holding(sent));
    world.pass(MINUTE);
    let report = report.lock().unwrap().take().expect("it comes to its end").unwrap();
    assert_eq!((report.requeued, report.again), (3, report.seen() - 3));
    assert_eq!(world.dead_letters().len(), 6, "each failed once more");
}
