//! The options of a sink or a source beyond the queue's URL.

use std::{fmt, time::Duration};

use aws_config::SdkConfig;

/// What SQS takes at most since 2025-08-04, for one message and for a batch together: 1 MiB (Amazon
/// SQS Developer Guide, message quotas). It was 256 KiB before, and older queues, some regions and
/// some emulators still have that limit.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_576;

/// How a queue is reached. The defaults suit a queue on AWS and one on an emulator.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_sink_sqs::{ConnectError, SqsOptions, SqsSink};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), ConnectError> {
/// // A queue of an emulator on this machine.
/// let options = SqsOptions::default()
///     .endpoint("http://127.0.0.1:4566")
///     .attempt_timeout(Duration::from_secs(2));
/// let queue = "http://127.0.0.1:4566/000000000000/dead";
/// let sink = SqsSink::connect_with(queue, options).await?;
/// # let _ = sink;
///
/// let wrong = SqsSink::connect("dead.fifo").await;
/// assert!(matches!(wrong, Err(ConnectError::QueueUrl { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct SqsOptions {
    pub(crate) sdk_config: Option<SdkConfig>,
    pub(crate) endpoint: Option<String>,
    pub(crate) max_message_bytes: usize,
    pub(crate) attempt_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) receive_wait: Duration,
    pub(crate) visibility_timeout: Duration,
    pub(crate) proxy_from_env: bool,
}

impl Default for SqsOptions {
    fn default() -> Self {
        Self {
            sdk_config: None,
            endpoint: None,
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            attempt_timeout: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(30),
            receive_wait: Duration::from_secs(2),
            visibility_timeout: Duration::from_secs(60),
            proxy_from_env: false,
        }
    }
}

impl SqsOptions {
    /// Region, credentials and other settings, instead of those of the environment. Its HTTP client
    /// is used if it has one; otherwise this crate's own.
    pub fn sdk_config(mut self, config: SdkConfig) -> Self {
        self.sdk_config = Some(config);
        self
    }

    /// Sends every call to this URL. Default: `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL` or the
    /// profile's `endpoint_url`; without those AWS, or the queue URL's own host if it is not AWS's.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// The most bytes of one message, and of a batch together. Default
    /// [`DEFAULT_MAX_MESSAGE_BYTES`]; a lower limit of the queue itself counts in any case, if the
    /// attribute may be read.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// How long one request may take, answer included. Default 10 s; has to be longer than
    /// [`receive_wait`](Self::receive_wait).
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long a call may take with the SDK's own retries. Default 30 s: the dead letters of a
    /// failed call wait in the outbox, so giving up late gains nothing.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// How long a receive waits for a first message, in whole seconds up to 20. Default 2 s.
    /// Anything above zero is a long poll, which asks all of a queue's servers; a short poll asks a
    /// few of them and may find nothing in a queue that is not empty.
    pub fn receive_wait(mut self, wait: Duration) -> Self {
        self.receive_wait = wait;
        self
    }

    /// How long a received message stays hidden from others unless it is acknowledged, in whole
    /// seconds up to 12 h. Default 60 s: room to store ten events again on a slow disk.
    pub fn visibility_timeout(mut self, timeout: Duration) -> Self {
        self.visibility_timeout = timeout;
        self
    }

    /// Whether calls, those for credentials included, go through the proxy that `HTTP_PROXY`,
    /// `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name. Default: they do not. Without effect on an HTTP
    /// client in [`sdk_config`](Self::sdk_config).
    pub fn proxy_from_env(mut self, on: bool) -> Self {
        self.proxy_from_env = on;
        self
    }
}

impl fmt::Debug for SqsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsOptions")
            .field("max_message_bytes", &self.max_message_bytes)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("receive_wait", &self.receive_wait)
            .field("visibility_timeout", &self.visibility_timeout)
            .field("proxy_from_env", &self.proxy_from_env)
            .finish_non_exhaustive()
    }
}
