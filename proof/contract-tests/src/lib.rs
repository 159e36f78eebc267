//! The HTTP contract of a receiver, as tests over real connections.
//!
//! The server and the crates for web frameworks promise the same answers. Each of them has a test that
//! starts it, and [`contract_tests!`] makes a test of each case:
//!
//! ```text
//! fn start(setup: Setup) -> Running { … }
//!
//! cognigy_contract_tests::contract_tests!(start);
//! ```
//!
//! [`operator_tests!`] does the same for the operator API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]
#![forbid(unsafe_code)]

mod answer;
pub mod cases;
pub mod operator_cases;
mod service;

use std::{
    any::Any,
    io::Write,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub use answer::Answer;
use cognigy_core::{Secret, SignatureScheme, sign};
use serde_json::json;
pub use service::service;

/// The secret of every source under test.
pub const SECRET: &str = "marked-webhook-secret";
/// The path of the source that is called `cognigy`, in Cognigy's format.
pub const PATH: &str = "/webhooks/cognigy";
/// The path of the source that is called `events`, of CloudEvents, with the same secret.
pub const EVENTS_PATH: &str = "/webhooks/cognigy/events";

/// The token of `anna`, an operator.
pub const ANNA: &str = "marked-token-of-anna";
/// The token of `bill`, a reader who sees bodies.
pub const BILL: &str = "marked-token-of-bill";
/// The token of `rita`, a reader.
pub const RITA: &str = "marked-token-of-rita";

/// How the receiver under test is set.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The longest body that it takes, in bytes.
    pub max_body_bytes: usize,
    /// How many deliveries of one source may be in flight.
    pub max_in_flight: usize,
}

impl Default for Setup {
    fn default() -> Self {
        Self { max_body_bytes: 1024 * 1024, max_in_flight: 1000 }
    }
}

/// A receiver that runs until this is dropped.
pub struct Running {
    address: SocketAddr,
    _keep: Box<dyn Any + Send + Sync>,
}

impl Running {
    /// It listens at `address`, and ends when `keep` is dropped.
    pub fn new(address: SocketAddr, keep: impl Any + Send + Sync) -> Self {
        Self { address, _keep: Box::new(keep) }
    }

    /// A new connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends bytes and reads the answer to the end of the connection.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The receiver may answer and close before it has read everything.
        let _ = stream.write_all(request);
        Answer::read(stream)
    }

    /// Sends a request.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// Posts `body` to the source `cognigy`.
    pub fn post(&self, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let headers = [&[("Content-Length", length.as_str())], headers].concat();
        self.request("POST", PATH, &headers, body)
    }

    /// Posts `body`, signed, to the source `cognigy`.
    pub fn deliver(&self, body: &[u8]) -> Answer {
        self.post(&[("X-Cognigy-Signature", &signature(body))], body)
    }
}

/// The signature of `body`.
#[must_use]
pub fn signature(body: &[u8]) -> String {
    sign(&Secret::new(SECRET).unwrap(), SignatureScheme::Base64, body)
}

/// A valid `USER_INPUT_RECEIVED` of contact `contact`.
#[must_use]
pub fn event(id: &str, contact: &str) -> Vec<u8> {
    let event = json!({
        "eventId": id, "timestamp": "2026-03-01T12:00:00Z", "type": "USER_INPUT_RECEIVED",
        "externalId": contact, "userId": "user-1", "payload": {"input": {"text": "hello"}},
    });
    event.to_string().into_bytes()
}

/// Makes a test of each case, against the receiver that `$start` starts.
#[macro_export]
macro_rules! contract_tests {
    ($start:path) => {
        $crate::contract_tests! {
            $start:
            stored_duplicate_and_conflict,
            a_signature_that_is_not_right_is_one_and_the_same_401,
            signed_but_invalid_is_a_400_that_names_the_field,
            a_body_over_the_limit_is_a_413_with_or_without_a_length,
            an_encoded_body_is_a_415,
            a_body_that_does_not_come_is_a_408_after_ten_seconds,
            too_much_in_flight_is_a_503_and_nothing_is_half_done,
            other_methods_and_paths_are_problems_too,
            a_sender_of_cloud_events_may_ask_before_it_sends,
            probes_say_that_it_is_alive_and_ready,
        }
    };
    ($start:path: $($case:ident),* $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::cases::$case(&$start);
            }
        )*
    };
}

/// Makes a test of each case of the operator API, against the receiver that `$start` starts. It knows the operators
/// [`ANNA`], [`BILL`] and [`RITA`] by their bearer tokens.
#[macro_export]
macro_rules! operator_tests {
    ($start:path) => {
        $crate::operator_tests! {
            $start:
            operators_find_events_and_read_them,
            operators_have_to_be_known,
            operators_who_read_change_nothing,
            operators_are_recorded_with_what_they_do,
            operators_run_many_events_again,
            operators_are_told_what_is_wrong,
        }
    };
    ($start:path: $($case:ident),* $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::operator_cases::$case(&$start);
            }
        )*
    };
}
