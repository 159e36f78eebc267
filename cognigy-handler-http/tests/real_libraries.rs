//! The handler against receivers that verify with the Standard Webhooks libraries for Python and Node.js:
//! those in `examples/receivers`. `./scripts/install/receivers` installs what they need.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use cognigy_core::{EventHandler, FailureKind};
use cognigy_handler_http::{ForwardHandler, ForwardHandlerBuilder};

use common::{
    SECRET, contact, event,
    stand_in::{Act, Seen, StandIn, answer},
};

const OTHER_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The language of a receiver: there is one of each in `examples/receivers`.
#[derive(Debug, Clone, Copy)]
enum Language {
    Python,
    Node,
}

impl Language {
    fn command(self) -> Command {
        let installed = installed();
        match self {
            Self::Python => {
                let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/receivers");
                let mut command = Command::new(installed.join("python/bin/python"));
                command.arg(examples.join("python/receiver.py"));
                command
            }
            // The installation has a link to the example. Node.js looks for libraries beside the link only
            // if it is told not to follow it.
            Self::Node => {
                let mut command = Command::new("node");
                command.arg("--preserve-symlinks-main").arg(installed.join("node/receiver.mjs"));
                command
            }
        }
    }
}

fn installed() -> PathBuf {
    if let Some(path) = std::env::var_os("RECEIVERS") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/receivers");
    let hint = "no receivers: run ./scripts/install/receivers first, or set RECEIVERS";
    assert!(path.join("requirements").exists(), "{hint}");
    path
}

/// A receiver of the test's own; it ends with this value.
struct Receiver {
    child: Child,
    url: String,
}

impl Receiver {
    fn start(language: Language) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = language
            .command()
            .env("WEBHOOK_SECRET", SECRET)
            .env("PORT", port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the {language:?} receiver ended at its start"
            );
            assert!(Instant::now() < deadline, "the {language:?} receiver does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, url: format!("http://127.0.0.1:{port}/events?tenant=7") }
    }

    fn handler(&self) -> ForwardHandlerBuilder {
        ForwardHandler::builder(&self.url).secret(SECRET)
    }

    /// Sends what was sent elsewhere, and returns the status.
    async fn send(&self, seen: &Seen, body: Vec<u8>) -> u16 {
        let client = cognigy_http::client(
            &cognigy_http::BaseUrl::parse("http://127.0.0.1").unwrap(),
            &cognigy_http::ClientOptions::new("test"),
        );
        let mut request = client.unwrap().post(&self.url).body(body);
        for name in ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"] {
            request = request.header(name, seen.header(name).unwrap());
        }
        request.send().await.unwrap().status().as_u16()
    }

    /// Ends it, and returns the lines that it printed.
    fn printed(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let output = self.child.stdout.take().unwrap();
        std::io::read_to_string(output).unwrap().lines().map(ToOwned::to_owned).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

async fn is_understood(language: Language) {
    let receiver = Receiver::start(language);
    let handler = receiver.handler().build().unwrap();
    let known = || contact(r#"{"name":"Zoë 😀","balance":12345678901234567.89}"#);

    // A message is accepted, and handled once.
    let first = Arc::new(event("evt-1"));
    handler.handle(Arc::clone(&first), known()).await.unwrap();
    handler.handle(Arc::clone(&first), known()).await.unwrap();
    // An id with a dot and of any script, and no contact.
    handler.handle(Arc::new(event("évt.2 😀")), None).await.unwrap();

    // With another secret it is refused, for good.
    let stranger = receiver.handler().secret(OTHER_SECRET).build().unwrap();
    let failure = stranger.handle(Arc::new(event("evt-3")), None).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Permanent);
    assert_eq!(failure.report(), "the forward URL answered 401 Unauthorized");

    // Whichever byte of the body is changed, it is refused.
    let elsewhere = StandIn::always(Act::Say(answer("204 x", "", ""))).await;
    let there = common::handler(&elsewhere);
    there.handle(Arc::new(event("evt-4")), known()).await.unwrap();
    let seen = elsewhere.seen().remove(0);
    for at in [0, 10, seen.body.len() / 2, seen.body.len() - 1] {
        let mut body = seen.body.clone();
        body[at] ^= 1;
        assert_eq!(receiver.send(&seen, body).await, 401, "byte {at}");
    }
    let longer = [&seen.body[..], b" "].concat();
    assert_eq!(receiver.send(&seen, longer).await, 401);
    assert_eq!(receiver.send(&seen, seen.body.clone()).await, 204);

    let printed = receiver.printed();
    let handled: Vec<_> = printed.iter().filter(|line| !line.contains(" handled before")).collect();
    assert_eq!(handled.len(), 3, "{printed:#?}");
    assert!(handled[0].starts_with("USER_INPUT_RECEIVED evt-1 of c-evt-1: {"), "{printed:#?}");
    assert!(handled[0].contains("Zoë 😀"), "{printed:#?}");
    assert!(handled[1].starts_with("USER_INPUT_RECEIVED évt.2 😀 of c-évt.2 😀: "), "{printed:#?}");
    assert!(handled[2].starts_with("USER_INPUT_RECEIVED evt-4 "), "{printed:#?}");
    assert_eq!(printed.len(), 4, "{printed:#?}");
}

#[tokio::test]
async fn the_python_library_understands_what_is_sent() {
    is_understood(Language::Python).await;
}

#[tokio::test]
async fn the_javascript_library_understands_what_is_sent() {
    is_understood(Language::Node).await;
}
