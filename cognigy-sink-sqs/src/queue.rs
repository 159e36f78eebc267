//! The queue that the sink and the source share.

use std::{collections::HashMap, fmt, sync::OnceLock, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::{Builder, timeout::TimeoutConfig},
    types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry},
};

use crate::{
    ConnectError, SqsOptions,
    classify::{answer, entry_error},
    client::client,
    error::{Class, SqsError},
    ids::{MESSAGE_GROUP, deduplication_id},
    message::{Entry, TRACEPARENT},
    queue_url::QueueUrl,
};

/// How long reading the queue's attributes may take: it only prepares a send or answers a probe.
const ATTRIBUTES_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Queue {
    pub(crate) client: Client,
    pub(crate) url: QueueUrl,
    pub(crate) options: SqsOptions,
    /// The queue's own limit, once it has been read or has turned out to be unreadable.
    limit: OnceLock<usize>,
}

impl Queue {
    pub(crate) async fn connect(url: &str, options: SqsOptions) -> Result<Self, ConnectError> {
        let url: QueueUrl = url.parse()?;
        let client = client(&url, &options).await?;
        Ok(Self { client, url, options, limit: OnceLock::new() })
    }

    /// Asks for an attribute of the queue. This needs the queue, a network and credentials.
    pub(crate) async fn attribute(
        &self,
        name: QueueAttributeName,
    ) -> Result<Option<usize>, SqsError> {
        Ok(self.attributes(std::slice::from_ref(&name)).await?.remove(&name))
    }

    /// The same for several attributes at once; those that are not a number are left out.
    pub(crate) async fn attributes(
        &self,
        names: &[QueueAttributeName],
    ) -> Result<HashMap<QueueAttributeName, usize>, SqsError> {
        let timeout = ATTRIBUTES_TIMEOUT.min(self.options.operation_timeout);
        let timeout = TimeoutConfig::builder().operation_timeout(timeout).build();
        let request = self
            .client
            .get_queue_attributes()
            .queue_url(self.url.as_str())
            .set_attribute_names(Some(names.to_vec()))
            .customize()
            .config_override(Builder::new().timeout_config(timeout));
        let answer = answer("GetQueueAttributes", self.url.as_str(), request.send()).await?;
        let all = answer.attributes.unwrap_or_default().into_iter();
        Ok(all.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect())
    }

    /// How many bytes a message may have. Never fails: if the attribute cannot be read, the
    /// configured limit is used, and a queue with a lower limit refuses the message.
    pub(crate) async fn message_limit(&self) -> usize {
        let most = self.options.max_message_bytes;
        if let Some(limit) = self.limit.get() {
            return *limit;
        }
        match self.attribute(QueueAttributeName::MaximumMessageSize).await {
            Ok(limit) => *self.limit.get_or_init(|| limit.unwrap_or(most).min(most)),
            Err(error) if error.class() == Class::Transient => most,
            // Most likely not permitted: asking again before every batch would not change that.
            Err(_) => *self.limit.get_or_init(|| most),
        }
    }

    /// Sends one batch. An error concerns the call as a whole; else each entry has its own answer.
    pub(crate) async fn send(
        &self,
        batch: &[Entry<'_>],
    ) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        let entries = batch.iter().enumerate().map(|(index, entry)| self.entry(index, entry));
        let entries = entries
            .collect::<Result<_, _>>()
            .map_err(|error| SqsError::new(Class::Permanent, error.to_string()))?;
        let url = self.url.as_str();
        let request = self.client.send_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = answer("SendMessageBatch", url, request.send()).await?;
        // A successful call says nothing yet about its entries: the answer names each of them as
        // sent or as failed.
        let mut answers = Answers::new(batch.len());
        answer.successful().iter().for_each(|sent| answers.put(sent.id(), Ok(())));
        for failed in answer.failed() {
            answers.put(failed.id(), Err(entry_error(failed.code(), failed.sender_fault())));
        }
        Ok(answers.into_vec())
    }

    fn entry(
        &self,
        index: usize,
        entry: &Entry<'_>,
    ) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
        let id = deduplication_id(&entry.dead_letter.key, entry.dead_letter.run);
        let fifo = self.url.is_fifo();
        let traceparent = match entry.traceparent() {
            Some(value) => Some(
                MessageAttributeValue::builder().data_type("String").string_value(value).build()?,
            ),
            None => None,
        };
        let attributes = traceparent.map(|value| HashMap::from([(TRACEPARENT.to_owned(), value)]));
        SendMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .message_body(&entry.body)
            .set_message_attributes(attributes)
            .set_message_group_id(fifo.then(|| MESSAGE_GROUP.to_owned()))
            .set_message_deduplication_id(fifo.then_some(id))
            .build()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("url", &self.url.as_str())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The answers to a batch whose entries go by their index.
pub(crate) struct Answers(Vec<Option<Result<(), SqsError>>>);

impl Answers {
    pub(crate) fn new(entries: usize) -> Self {
        Self(vec![None; entries])
    }

    pub(crate) fn put(&mut self, id: &str, answer: Result<(), SqsError>) {
        if let Some(slot) = id.parse().ok().and_then(|index: usize| self.0.get_mut(index)) {
            *slot = Some(answer);
        }
    }

    /// An entry that the answer does not name may or may not have been sent.
    pub(crate) fn into_vec(self) -> Vec<Result<(), SqsError>> {
        let unnamed = || SqsError::new(Class::Transient, "the answer does not name this entry");
        self.0.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unnamed()))).collect()
    }
}
