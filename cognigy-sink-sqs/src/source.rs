//! [`DeadLetterSource`] on SQS.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, QueueAttributeName,
};
use cognigy_core::{DeadLetterSource, Failure, ReceivedDeadLetter};

use crate::{
    ConnectError, SqsOptions,
    classify::{answer, entry_error},
    error::{Class, SqsError},
    message::MAX_ENTRIES,
    queue::{Answers, Queue},
};

/// About how many messages are in a queue.
///
/// ```
/// use cognigy_sink_sqs::QueueLength;
///
/// assert_eq!(QueueLength { waiting: 10, hidden: 2 }.total(), 12);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueLength {
    /// Messages that can be received.
    pub waiting: u64,
    /// Messages that were received and are hidden until their visibility timeout ends.
    pub hidden: u64,
}

impl QueueLength {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.waiting + self.hidden
    }
}

/// Brings dead letters back from a queue. Cheap to clone; all clones share one client.
///
/// A FIFO queue has one message group here, and returns no message of it while an earlier one is
/// hidden. So a message that is received and neither acknowledged nor released blocks those behind
/// it until its visibility timeout ends, and a receive in between finds nothing.
///
/// ```no_run
/// use cognigy_core::{Pipeline, TokioClock};
/// use cognigy_sink_sqs::SqsSource;
///
/// # async fn run(pipeline: Pipeline) -> Result<(), Box<dyn std::error::Error>> {
/// let queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo";
/// let source = SqsSource::connect(queue).await?;
/// println!("about {} messages", source.approximate_len().await?.total());
/// let report = pipeline.redrive(&source, Some(1000), &TokioClock::new(), |_| ()).await?;
/// println!("{} events run again, {} messages stay", report.requeued, report.left.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SqsSource {
    queue: Arc<Queue>,
}

impl SqsSource {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// A source on the queue with that URL, by the environment's `AWS_*` settings. Needs no network.
    ///
    /// # Errors
    ///
    /// The URL is not that of a queue.
    pub async fn connect(queue_url: impl AsRef<str>) -> Result<Self, ConnectError> {
        Self::connect_with(queue_url, SqsOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    ///
    /// The queue's or the endpoint's URL is malformed.
    pub async fn connect_with(
        queue_url: impl AsRef<str>,
        options: SqsOptions,
    ) -> Result<Self, ConnectError> {
        Ok(Self::new(Arc::new(Queue::connect(queue_url.as_ref(), options).await?)))
    }

    /// About how many messages are in the queue. SQS counts with a delay of up to a minute: a
    /// progress display may use it, a decision may not.
    ///
    /// # Errors
    ///
    /// As those of [`SqsSink::check`](crate::SqsSink::check).
    pub async fn approximate_len(&self) -> Result<QueueLength, Failure> {
        let (waiting, hidden) = (
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        );
        let answer = self.queue.attributes(&[waiting.clone(), hidden.clone()]).await;
        let counts = answer
            .map_err(|error| error.into_failure("the dead-letter queue cannot be looked at"))?;
        let count = |name| counts.get(&name).copied().unwrap_or(0) as u64;
        Ok(QueueLength { waiting: count(waiting), hidden: count(hidden) })
    }

    async fn make_visible(
        &self,
        receipts: &[String],
    ) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        let entries = receipts.iter().enumerate().map(|(index, receipt)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(0)
                .build()
        });
        let entries = entries
            .collect::<Result<_, _>>()
            .map_err(|error| SqsError::new(Class::Permanent, error.to_string()))?;
        let url = self.queue.url.as_str();
        let request = self
            .queue
            .client
            .change_message_visibility_batch()
            .queue_url(url)
            .set_entries(Some(entries));
        let answer = answer("ChangeMessageVisibilityBatch", url, request.send()).await?;
        let mut answers = Answers::new(receipts.len());
        answer.successful().iter().for_each(|changed| answers.put(changed.id(), Ok(())));
        for failed in answer.failed() {
            answers.put(failed.id(), Err(entry_error(failed.code(), failed.sender_fault())));
        }
        Ok(answers.into_vec())
    }

    async fn delete(&self, receipts: &[String]) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        let entries = receipts.iter().enumerate().map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt)
                .build()
        });
        let entries = entries
            .collect::<Result<_, _>>()
            .map_err(|error| SqsError::new(Class::Permanent, error.to_string()))?;
        let url = self.queue.url.as_str();
        let client = &self.queue.client;
        let request = client.delete_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = answer("DeleteMessageBatch", url, request.send()).await?;
        let mut answers = Answers::new(receipts.len());
        answer.successful().iter().for_each(|gone| answers.put(gone.id(), Ok(())));
        for failed in answer.failed() {
            answers.put(failed.id(), Err(entry_error(failed.code(), failed.sender_fault())));
        }
        Ok(answers.into_vec())
    }
}

#[async_trait]
impl DeadLetterSource for SqsSource {
    async fn receive(&self, max: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let url = &self.queue.url;
        let options = &self.queue.options;
        let request = self
            .queue
            .client
            .receive_message()
            .queue_url(url.as_str())
            .max_number_of_messages(whole(max.min(MAX_ENTRIES) as u64))
            .wait_time_seconds(seconds(options.receive_wait))
            .visibility_timeout(seconds(options.visibility_timeout))
            // If the answer to a receive is lost, its messages are hidden and so is their whole
            // group: the SDK's next try would find nothing, as in an empty queue. With this id SQS
            // recognises the repeated call and returns the same messages.
            .set_receive_request_attempt_id(url.is_fifo().then(random_id));
        let answer = answer("ReceiveMessage", url.as_str(), request.send())
            .await
            .map_err(|error| error.into_failure("dead letters cannot be received from SQS"))?;
        let message = |message: aws_sdk_sqs::types::Message| {
            Some(ReceivedDeadLetter {
                id: message.message_id.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                receipt: message.receipt_handle?,
            })
        };
        Ok(answer.messages.into_iter().flatten().filter_map(message).collect())
    }

    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::with_capacity(receipts.len());
        for batch in receipts.chunks(MAX_ENTRIES) {
            answers.push(self.delete(batch).await);
            if matches!(answers.last(), Some(Err(_))) {
                break;
            }
        }
        each(answers, receipts.len(), "SQS did not delete the message")
    }

    async fn release(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::with_capacity(receipts.len());
        for batch in receipts.chunks(MAX_ENTRIES) {
            answers.push(self.make_visible(batch).await);
            if matches!(answers.last(), Some(Err(_))) {
                break;
            }
        }
        each(answers, receipts.len(), "SQS did not make the message visible again")
    }

    fn holds_back(&self) -> bool {
        self.queue.url.is_fifo()
    }
}

/// The answers to batches, one for each of `count` entries. A call that failed as a whole is the
/// last one; its error answers all entries after it.
fn each(
    batches: Vec<Result<Vec<Result<(), SqsError>>, SqsError>>,
    count: usize,
    what: &'static str,
) -> Vec<Result<(), Failure>> {
    let mut answers = Vec::with_capacity(count);
    for batch in batches {
        match batch {
            Ok(each) => answers.extend(each),
            Err(error) => answers.resize_with(count, || Err(error.clone())),
        }
    }
    answers.into_iter().map(|answer| answer.map_err(|error| error.into_failure(what))).collect()
}

/// Differs with every call. [`RandomState`] is the standard library's only source of randomness;
/// nothing rests on this being hard to guess.
fn random_id() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}

fn seconds(duration: Duration) -> i32 {
    whole(duration.as_secs())
}

fn whole(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
