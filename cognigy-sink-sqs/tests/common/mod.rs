//! What the tests share: dead letters, an emulator of SQS, and options to reach either kind of
//! server.
#![allow(dead_code, unreachable_pub)]

use std::{
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::{
    Client,
    config::{Credentials, SharedCredentialsProvider, retry::RetryConfig},
    types::{Message, MessageSystemAttributeName, QueueAttributeName},
};
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use bytes::Bytes;
use cognigy_core::{
    DeadLetter, DeliveryContext, EventKey, EventTime, EventType, Failure, FailureKind, Timestamp,
};
use cognigy_sink_sqs::SqsOptions;
use serde_json::Value;

/// A secret that no error and no `Debug` output may show.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI-EXAMPLEKEY";

/// The first run's dead letter of the default source's event `id`.
pub fn dead_letter(id: &str, payload: &str) -> DeadLetter {
    DeadLetter {
        key: EventKey::cognigy(id.parse().unwrap()),
        run: 1,
        kind: EventType::UserInputReceived,
        time: EventTime::from_json("\"2026-03-01T12:00:00Z\"").unwrap(),
        error_message: "the CRM answered 503".into(),
        attempts: 4,
        first_received_at: Timestamp::UNIX_EPOCH,
        raw_payload: Bytes::from(payload.to_owned()),
        context: DeliveryContext::default(),
    }
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub fn is_transient(answer: &Result<(), Failure>) -> bool {
    let kind = answer.as_ref().unwrap_err().kind();
    matches!(kind, FailureKind::Transient { .. })
}

/// Settings without any from the environment. No retries within the SDK: tests count requests.
pub fn sdk_config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIDEXAMPLE", SECRET_KEY, None, None, "tests");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .build()
}

pub fn options(endpoint: &str) -> SqsOptions {
    SqsOptions::default().sdk_config(sdk_config(endpoint))
}

/// A port on which no process listens at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A moto server of the test's own; it ends with this value.
pub struct Moto {
    child: Child,
    pub endpoint: String,
    client: Client,
}

impl Moto {
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    pub fn start_on(port: u16) -> Self {
        let mut child = Command::new(moto_server())
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "moto_server ended at its start");
            assert!(Instant::now() < deadline, "moto_server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let endpoint = format!("http://127.0.0.1:{port}");
        let trust = TlsContext::builder().with_trust_store(TrustStore::empty()).build().unwrap();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(trust)
            .build_https();
        let config = sdk_config(&endpoint).into_builder().http_client(http).build();
        Self { child, endpoint, client: Client::new(&config) }
    }

    /// Creates a queue, FIFO if its name says so, and returns its URL.
    pub async fn queue(&self, name: &str, attributes: &[(QueueAttributeName, &str)]) -> String {
        let mut request = self.client.create_queue().queue_name(name);
        if name.ends_with(".fifo") {
            request = request.attributes(QueueAttributeName::FifoQueue, "true");
        }
        for (attribute, value) in attributes {
            request = request.attributes(attribute.clone(), *value);
        }
        request.send().await.unwrap().queue_url.unwrap()
    }

    /// Takes all messages out of a queue.
    pub async fn drain(&self, url: &str) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let request = self.client.receive_message().queue_url(url).max_number_of_messages(10);
            let request = request.message_system_attribute_names(MessageSystemAttributeName::All);
            let messages = request.send().await.unwrap().messages.unwrap_or_default();
            if messages.is_empty() {
                return all;
            }
            for message in messages {
                let receipt = message.receipt_handle().unwrap();
                let delete = self.client.delete_message().queue_url(url).receipt_handle(receipt);
                delete.send().await.unwrap();
                all.push(message);
            }
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn moto_server() -> PathBuf {
    if let Some(path) = std::env::var_os("MOTO_SERVER") {
        return path.into();
    }
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/moto-venv/bin/moto_server");
    assert!(path.exists(), "no moto_server: run ./scripts/install/moto first, or set MOTO_SERVER");
    path
}

/// The message's body as JSON.
pub fn body(message: &Message) -> Value {
    json(message.body().unwrap())
}

/// One of the attributes that SQS keeps beside a message.
pub fn attribute(message: &Message, name: MessageSystemAttributeName) -> Option<&str> {
    message.attributes()?.get(&name).map(String::as_str)
}
