//! The contract of a [`DeadLetterSink`], one test for each sentence.

use async_trait::async_trait;
use bytes::Bytes;

use super::sample;
use crate::{
    event::{DeliveryContext, EventTime, EventType},
    ports::{DeadLetter, DeadLetterMessage, DeadLetterSink},
};

/// A sink under test, and a look at the other side of it.
#[async_trait]
pub trait SinkFixture: Send + Sync {
    /// The sink.
    fn sink(&self) -> &dyn DeadLetterSink;

    /// The text of every message that the other side has: each at least once, in any order.
    async fn messages(&self) -> Vec<String>;
}

/// Runs the suite against a sink: one test for each promise.
///
/// Takes the attribute that makes an async test, and an async function that returns a
/// [`SinkFixture`](crate::testing::sink_conformance::SinkFixture) with nothing on its other side.
///
/// ```
/// use async_trait::async_trait;
/// use cognigy_core::{DeadLetterSink, testing::{ScriptedSink, sink_conformance::SinkFixture}};
///
/// /// The sink under test, and what its other side has.
/// struct Fixture(ScriptedSink);
///
/// #[async_trait]
/// impl SinkFixture for Fixture {
///     fn sink(&self) -> &dyn DeadLetterSink {
///         &self.0
///     }
///
///     async fn messages(&self) -> Vec<String> {
///         self.0.received().iter().map(|it| it.to_message(false)).collect()
///     }
/// }
///
/// async fn empty_queue() -> Fixture {
///     Fixture(ScriptedSink::new())
/// }
///
/// cognigy_core::sink_conformance!(#[tokio::test], empty_queue);
/// ```
#[macro_export]
macro_rules! sink_conformance {
    (#[$attribute:meta], $fresh:path) => {
        $crate::sink_conformance! { @cases #[$attribute], $fresh:
            each_entry_has_an_answer_and_each_accepted_one_is_there
            the_message_is_that_of_the_contract
            what_cannot_be_read_back_is_sent_without_its_payload
            an_entry_that_comes_again_is_accepted
            any_event_id_can_be_sent
            a_send_that_is_dropped_harms_no_later_one
        }
    };
    (@cases #[$attribute:meta], $fresh:path: $($case:ident)+) => {
        $(
            #[$attribute]
            async fn $case() {
                $crate::testing::sink_conformance::$case(&$fresh().await).await;
            }
        )+
    };
}

/// A dead letter of the event `id`.
#[must_use]
pub fn dead_letter(id: &str) -> DeadLetter {
    DeadLetter {
        key: sample::key(id),
        run: 1,
        kind: EventType::UserInputReceived,
        time: EventTime::from_json("\"2026-01-01T00:00:00Z\"").expect("a time"),
        error_message: "gave up after 4 attempts: the CRM answered 503".to_owned(),
        attempts: 4,
        first_received_at: sample::start(),
        raw_payload: sample::body(id),
        context: DeliveryContext::default(),
    }
}

async fn send_all(sink: &dyn DeadLetterSink, batch: &[DeadLetter]) {
    let answers = sink.send(batch).await;
    assert_eq!(answers.len(), batch.len(), "one answer for each entry");
    for (entry, answer) in batch.iter().zip(answers) {
        assert!(answer.is_ok(), "{}: {answer:?}", entry.key.id);
    }
}

/// What the other side has, parsed.
async fn received(fixture: &dyn SinkFixture) -> Vec<DeadLetterMessage> {
    let messages = fixture.messages().await;
    messages
        .iter()
        .map(|text| serde_json::from_str(text).expect("the contract's message"))
        .collect()
}

/// One answer for each entry, in order; `Ok` means that the other side has it. Batches are of any size.
pub async fn each_entry_has_an_answer_and_each_accepted_one_is_there(fixture: &dyn SinkFixture) {
    let mut expected = Vec::new();
    for (first, count) in [(0, 0), (0, 1), (1, 9), (10, 10), (20, 23)] {
        let batch: Vec<_> =
            (first..first + count).map(|n| dead_letter(&format!("e{n:03}"))).collect();
        send_all(fixture.sink(), &batch).await;
        expected.extend(batch.iter().map(|entry| entry.key.id.as_str().to_owned()));
    }
    let mut found: Vec<_> = received(fixture).await.into_iter().map(|it| it.event_id).collect();
    found.sort();
    found.dedup();
    assert_eq!(found, expected);
}

/// The message is the contract's, with the received JSON byte for byte.
pub async fn the_message_is_that_of_the_contract(fixture: &dyn SinkFixture) {
    let body = r#"{"eventId":"e1","n":1.00,"text":"\u00e9 ☃","n":1}"#;
    let mut entry = dead_letter("e1");
    entry.raw_payload = Bytes::from(body);
    send_all(fixture.sink(), &[entry]).await;
    let received = received(fixture).await;
    let [message, ..] = &received[..] else { panic!("no message") };
    assert_eq!((message.event_id.as_str(), message.kind.as_str()), ("e1", "USER_INPUT_RECEIVED"));
    assert_eq!(message.timestamp.get(), "\"2026-01-01T00:00:00Z\"");
    assert_eq!(message.error_message, "gave up after 4 attempts: the CRM answered 503");
    assert_eq!(message.raw_payload.as_deref().map(|raw| raw.get()), Some(body));
    assert_eq!((message.raw_payload_omitted, message.attempts), (false, 4));
    assert_eq!(message.first_received_at.as_deref(), Some("2026-01-01T00:00:00.000000Z"));
}

/// A body that cannot be read back, and an empty one, do not keep a dead letter from being sent.
pub async fn what_cannot_be_read_back_is_sent_without_its_payload(fixture: &dyn SinkFixture) {
    let bodies = [("empty", &b""[..]), ("cut", b"{\"eventId\":"), ("binary", b"\xff\xfe\x00")];
    for (id, body) in bodies {
        let mut entry = dead_letter(id);
        entry.raw_payload = Bytes::from_static(body);
        send_all(fixture.sink(), &[entry]).await;
    }
    let received = received(fixture).await;
    assert!(received.len() >= bodies.len(), "{received:?}");
    for message in received {
        assert!(message.raw_payload_omitted && message.raw_payload.is_none(), "{message:?}");
    }
}

/// The same run of the same event may be sent again, and a later run is a message of its own.
pub async fn an_entry_that_comes_again_is_accepted(fixture: &dyn SinkFixture) {
    let first = dead_letter("e1");
    send_all(fixture.sink(), std::slice::from_ref(&first)).await;
    send_all(fixture.sink(), std::slice::from_ref(&first)).await;
    let error_message = "Replay failed: the CRM answered 503".to_owned();
    let replay = DeadLetter { run: 2, error_message: error_message.clone(), ..first };
    send_all(fixture.sink(), &[replay]).await;
    let received = received(fixture).await;
    assert!(received.iter().any(|message| message.error_message == error_message), "{received:?}");
}

/// An id is 1 to 256 characters of any kind but control characters.
pub async fn any_event_id_can_be_sent(fixture: &dyn SinkFixture) {
    let long = "x".repeat(256);
    let ids = ["a b", "ä/☃?&=#", "'; DROP TABLE events; --", "..", &long];
    let batch: Vec<_> = ids.iter().map(|id| dead_letter(id)).collect();
    send_all(fixture.sink(), &batch).await;
    let found: Vec<_> = received(fixture).await.into_iter().map(|it| it.event_id).collect();
    for id in ids {
        assert!(found.iter().any(|found| found == id), "{id}: {found:?}");
    }
}

/// A call may be dropped, and sent again.
pub async fn a_send_that_is_dropped_harms_no_later_one(fixture: &dyn SinkFixture) {
    use futures_util::FutureExt;
    let entry = dead_letter("e1");
    let batch = std::slice::from_ref(&entry);
    // Polled once, and dropped wherever it then waits.
    let _ = fixture.sink().send(batch).now_or_never();
    send_all(fixture.sink(), batch).await;
    let received = received(fixture).await;
    assert!(received.iter().any(|message| message.event_id == "e1"), "{received:?}");
}
