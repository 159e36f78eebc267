//! At the most detailed level, no library writes into the log what must not be there. In a file of its own,
//! because a process has one place for its log.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use cognigy_core::EventHandler;
use tracing_subscriber::fmt::MakeWriter;

use common::{
    builder, contact, event,
    stand_in::{Act, StandIn, answer},
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_query_event_or_contact_is_logged() {
    let log = Log::default();
    let level = tracing_subscriber::filter::LevelFilter::TRACE;
    tracing_subscriber::fmt().with_max_level(level).with_writer(log.clone()).init();
    let server = StandIn::start(|n, _| match n {
        0 => Act::Say(answer("200 OK", "", "marked-answer")),
        1 => Act::Say(answer("503 x", "Location: /marked-answer\r\n", "marked-answer")),
        _ => Act::Reset,
    })
    .await;
    let handler = builder(&format!("{}/marked-path?marked-query", server.url())).build().unwrap();
    for _ in 0..3 {
        _ = handler.handle(Arc::new(event("marked-event")), contact("\"marked-contact\"")).await;
    }
    assert_eq!(server.seen().len(), 3);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("TRACE"), "the libraries do write something: {log}");
    for marker in ["marked-", "secretmarker1", "webhook-signature"] {
        assert!(!log.contains(marker), "{log}");
    }
}
