//! Dead letters on Amazon SQS: a [`DeadLetterSink`](cognigy_core::DeadLetterSink) that sends them,
//! and a [`DeadLetterSource`](cognigy_core::DeadLetterSource) that brings them back.
//!
//! ```text
//!  outbox ─▶ SqsSink::send ─▶ message fits the queue? ─▶ batches of ten ─▶ SendMessageBatch
//!                              │ no: without rawPayload                      │ one answer per entry
//!                              └─▶ "rawPayloadOmitted": true                 └─▶ back to the outbox
//!
//!  redrive ◀─ SqsSource::receive ◀─ ReceiveMessage          acknowledge ─▶ DeleteMessageBatch
//! ```
//!
//! On a queue whose name ends in `.fifo` every message is of the group `cognigy-events`, and its
//! deduplication id names the event and the run: a run's dead letter that is sent twice within five
//! minutes is one message; a later run's dead letter is a message of its own. On a standard queue a
//! dead letter can arrive more than once, and in any order.
//!
//! Region, credentials and endpoint come from the usual `AWS_*` variables and profiles. Where they
//! name none, the queue URL supplies them: its region, and, if its host is not one of AWS's own,
//! its origin as the endpoint. Sending needs the permissions `sqs:SendMessage` and
//! `sqs:GetQueueAttributes`; redriving `sqs:ReceiveMessage`, `sqs:DeleteMessage` and, so that what
//! is left need not stay hidden for a minute, `sqs:ChangeMessageVisibility`.
//!
//! A proxy that `HTTPS_PROXY` and the like name is used only where [`SqsOptions::proxy_from_env`]
//! asks for it. A panic of the SDK is an error like any other.
//!
//! A dead-letter queue should keep its messages for 14 days, the most SQS offers; the default is
//! four. This crate never creates or configures a queue.
#![forbid(unsafe_code)]

mod classify;
mod client;
mod config;
mod environment;
mod error;
mod ids;
mod message;
mod queue;
mod queue_url;
mod sink;
mod source;

pub use config::{DEFAULT_MAX_MESSAGE_BYTES, SqsOptions};
pub use environment::{check_variable, is_aws_secret};
pub use error::ConnectError;
pub use queue_url::check_queue_url;
pub use sink::SqsSink;
pub use source::{QueueLength, SqsSource};
