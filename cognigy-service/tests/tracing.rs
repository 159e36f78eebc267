//! What happens as log lines: one for each thing to know, and no body or secret in any.
#![cfg(feature = "tracing")]
#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    io::Write,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use cognigy_core::{
    Contact, Event, Failure, Pipeline, RetryPolicy, Secret, SignatureScheme, SignatureVerifier,
    memory::MemoryStore, sign, testing::ScriptedSink,
};
use cognigy_service::{Head, Service, TracingObserver};

const SECRET: &str = "marked-secret";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    async fn until(&self, wanted: &str) {
        for _ in 0..500 {
            if self.text().contains(wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{wanted:?} is not in:\n{}", self.text());
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_thing_to_know_is_a_line_without_body_or_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE);
    let subscriber = subscriber.with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let secret = Secret::new(SECRET).unwrap();
    let retry = RetryPolicy {
        max_attempts: 2,
        base_delay: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let pipeline = Pipeline::builder(SignatureVerifier::new(&secret))
        .store(MemoryStore::new())
        .handler(async |_: Arc<Event>, _: Option<Contact>| Err(Failure::transient("it is down")))
        .retry(retry)
        .dead_letters(ScriptedSink::new())
        .observer(TracingObserver::default())
        .build()
        .unwrap();
    let service = Service::builder(pipeline).observer(TracingObserver::default());
    let service = service.start().await.unwrap();
    let deliver = async |body: &'static str, signature: &str| {
        let chunks = futures_util::stream::iter([Ok::<Bytes, Infallible>(body.into())]);
        let head = Head::new([("X-Cognigy-Signature", signature)]);
        service.receive(head.peer(IpAddr::from([192, 0, 2, 1])), chunks).await.status()
    };
    let signed = |body: &str| sign(&secret, SignatureScheme::Base64, body.as_bytes());

    let body = r#"{"eventId":"evt-1","timestamp":"2026-03-01T12:00:00Z","type":"DIALOG_STARTED","payload":{"x":"marked-body"}}"#;
    assert_eq!(deliver(body, "AAAA").await, 401);
    let lines = || log.text().lines().count();
    assert_eq!(lines(), 1, "{}", log.text());
    let refused = "delivery refused: not authenticated source=\"cognigy\" peer=192.0.2.1";
    log.until(refused).await;
    for _ in 0..100 {
        deliver(body, "AAAA").await;
    }
    let warned = log.text().lines().filter(|line| line.contains("WARN")).count();
    assert_eq!(warned, 1, "a flood of refusals is not a flood of warnings");
    assert_eq!(deliver("[\"marked-body\"]", &signed("[\"marked-body\"]")).await, 400);
    log.until("delivery quarantined").await;
    assert_eq!(deliver(body, &signed(body)).await, 200);
    log.until("attempt failed, will retry source=\"cognigy\" event_id=\"evt-1\"").await;
    log.until("event given up").await;
    log.until("dead letter sent").await;
    service.shutdown().await;
    let text = log.text();
    assert!(text.contains("it is down"), "{text}");
    assert!(!text.contains("marked"), "{text}");
}
