//! [`DeadLetterSink`] on SQS.

use std::{slice, sync::Arc};

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use cognigy_core::{DeadLetter, DeadLetterSink, Failure};

use crate::{
    ConnectError, SqsOptions, SqsSource,
    error::{Class, SqsError},
    message::{Batches, Entry},
    queue::Queue,
};

/// Sends dead letters to a queue. Cheap to clone; all clones share one client.
///
/// Dead letters are sent in order, in batches of up to ten. If the queue itself fails (it cannot be
/// reached, it throttles, it does not exist), the rest of a call is answered with that error
/// without being sent. So a call takes no longer than one failing request, and on a FIFO queue no
/// dead letter overtakes an earlier one. Entries that SQS refuses one by one do not hold up the
/// others.
///
/// A dead letter whose message the queue refuses, because it is too long or holds a refused
/// character, is sent without its payload and says `"rawPayloadOmitted": true`.
///
/// ```
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
/// use cognigy_sink_sqs::SqsSink;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Region and credentials come from the environment; nothing is sent yet.
/// let sink = SqsSink::connect("https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo").await?;
/// let pipeline = Pipeline::builder(sample::verifier())
///     .store(MemoryStore::new())
///     .dead_letters(sink)
///     .build()?;
/// # let _ = pipeline;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SqsSink {
    queue: Arc<Queue>,
}

impl SqsSink {
    /// A sink on the queue with that URL, by the environment's `AWS_*` settings. Needs no network:
    /// see [`check`](Self::check).
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
        Ok(Self { queue: Arc::new(Queue::connect(queue_url.as_ref(), options).await?) })
    }

    /// Asks the queue for an attribute, which takes at most 5 s. Call this when a program starts. If it
    /// fails, the program should log a warning and start all the same: dead letters wait in the store's
    /// outbox until the queue answers.
    ///
    /// # Errors
    ///
    /// Transient: the queue cannot be reached, or there are no credentials. Permanent: it does not
    /// exist, or `sqs:GetQueueAttributes` is not permitted. Without that permission the sink can
    /// still send, but does not know the queue's size limit beforehand.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo";
    /// let sink = cognigy_sink_sqs::SqsSink::connect(url).await?;
    /// if let Err(failure) = sink.check().await {
    ///     eprintln!("dead letters wait until the queue answers: {}", failure.report());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn check(&self) -> Result<(), Failure> {
        let answer = self.queue.attribute(QueueAttributeName::MaximumMessageSize).await;
        answer.map(drop).map_err(|error| error.into_failure("the dead-letter queue is not usable"))
    }

    /// A source that brings back what this sink sent.
    #[must_use]
    pub fn source(&self) -> SqsSource {
        SqsSource::new(Arc::clone(&self.queue))
    }

    /// Sends one batch and adds an answer for each entry, or stops at an error that concerns the
    /// queue and not the entries.
    async fn deliver(
        &self,
        batch: &[Entry<'_>],
        answers: &mut Vec<Result<(), SqsError>>,
    ) -> Result<(), SqsError> {
        match self.queue.send(batch).await {
            Ok(each) => {
                for (entry, answer) in batch.iter().zip(each) {
                    answers.push(match answer {
                        Err(refused) if refused.class() == Class::Content => {
                            self.deliver_shortest(entry, refused).await
                        }
                        answer => answer,
                    });
                }
            }
            Err(refused) if refused.class() == Class::Content => match batch {
                [entry] => answers.push(self.deliver_shortest(entry, refused).await),
                // One entry, or all together, is larger than the queue allows: sent alone, most
                // entries pass.
                _ => {
                    for entry in batch {
                        Box::pin(self.deliver(slice::from_ref(entry), answers)).await?;
                    }
                }
            },
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sends a refused entry again, as the shortest message that is still a dead letter.
    async fn deliver_shortest(&self, entry: &Entry<'_>, refused: SqsError) -> Result<(), SqsError> {
        let Some(shortest) = entry.shortest() else { return Err(refused) };
        let mut answers = self.queue.send(slice::from_ref(&shortest)).await?;
        answers.pop().unwrap_or(Err(refused))
    }
}

#[async_trait]
impl DeadLetterSink for SqsSink {
    async fn send(&self, dead_letters: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::with_capacity(dead_letters.len());
        if !dead_letters.is_empty() {
            let limit = self.queue.message_limit().await;
            for batch in Batches::new(dead_letters, limit) {
                if let Err(error) = self.deliver(&batch, &mut answers).await {
                    answers.resize_with(dead_letters.len(), || Err(error.clone()));
                    break;
                }
            }
        }
        let failure = |error: SqsError| error.into_failure("SQS did not take the dead letter");
        answers.into_iter().map(|answer| answer.map_err(failure)).collect()
    }
}
