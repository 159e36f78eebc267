use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use cognigy_core::{
    CognigyFormat, DeadLetterMessage, DeadLetterSource, Failure, Pipeline, ReceivedDeadLetter,
    memory::MemoryStore,
    testing::{ManualClock, sample},
};
use futures_executor::block_on;

/// The text of a message in the dead-letter queue: the message is deleted if and only if its event
/// is stored with the message's payload.
pub fn dead_letter(input: &[u8]) {
    let Ok(body) = std::str::from_utf8(input) else { return };
    let queue = Queue::holding(body);
    let store = Arc::new(MemoryStore::new());
    let pipeline = Pipeline::builder(sample::verifier()).store(Arc::clone(&store)).build().unwrap();
    let clock = ManualClock::new(sample::start());
    let report = block_on(pipeline.redrive(&queue, Some(1), &clock, |_| ())).unwrap();
    assert_eq!((report.seen(), report.undeleted), (1, 0));
    let deleted = queue.acknowledged.load(Ordering::Relaxed);
    assert_eq!((report.stored == 1, report.unusable == 1), (deleted, !deleted));

    let message = serde_json::from_str::<DeadLetterMessage>(body).ok();
    let key = message.as_ref().and_then(DeadLetterMessage::key);
    let payload = message.and_then(|message| message.raw_payload);
    let found = key.clone().and_then(|key| block_on(pipeline.store().find(&key)).unwrap());
    assert_eq!(found.is_some(), deleted);
    let readable =
        payload.as_ref().and_then(|raw| CognigyFormat.read_body(raw.get().as_bytes()).ok());
    let agrees = key
        .as_ref()
        .zip(readable)
        .is_some_and(|(key, parts)| key.source.is_default() && parts.id == key.id);
    assert_eq!(agrees, deleted, "whatever can be taken back is");
}

/// A queue of one message.
struct Queue {
    message: Mutex<Option<ReceivedDeadLetter>>,
    acknowledged: AtomicBool,
}

impl Queue {
    fn holding(body: &str) -> Self {
        let message = ReceivedDeadLetter {
            id: "id".to_owned(),
            body: body.to_owned(),
            receipt: "receipt".to_owned(),
        };
        Self { message: Mutex::new(Some(message)), acknowledged: AtomicBool::new(false) }
    }
}

#[async_trait]
impl DeadLetterSource for Queue {
    async fn receive(&self, _: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
        Ok(self.message.lock().unwrap().take().into_iter().collect())
    }

    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        if !receipts.is_empty() {
            self.acknowledged.store(true, Ordering::Relaxed);
        }
        receipts.iter().map(|_| Ok(())).collect()
    }
}
