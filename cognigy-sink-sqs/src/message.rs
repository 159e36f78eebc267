//! Turns dead letters into messages that the queue accepts, and messages into batches.

use std::slice;

use cognigy_core::DeadLetter;

/// The most entries of a batch (Amazon SQS API Reference, `SendMessageBatch`).
pub(crate) const MAX_ENTRIES: usize = 10;

/// The smallest limit that a queue can be set to (Amazon SQS API Reference, `SetQueueAttributes`).
const SMALLEST_LIMIT: usize = 1024;

/// How much of the error message is kept, in bytes, where a message does not fit even without its
/// payload. With the last one, everything else fits into [`SMALLEST_LIMIT`].
const SHORTER_ERRORS: [usize; 2] = [1024, 128];

/// The message attribute with the span in which a dead letter was sent, in the form of the header of W3C
/// Trace Context.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// What the attribute takes of a message's limit: its name, its type and its value.
const TRACEPARENT_BYTES: usize = TRACEPARENT.len() + "String".len() + 55;

/// A dead letter and the message that it becomes.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) dead_letter: &'a DeadLetter,
    pub(crate) body: String,
}

impl<'a> Entry<'a> {
    /// The most complete message of at most `limit` bytes. If even the shortest one is longer, the
    /// shortest one: the queue decides, and its refusal says why.
    pub(crate) fn new(dead_letter: &'a DeadLetter, limit: usize) -> Self {
        let limit = limit.saturating_sub(attribute_bytes(dead_letter));
        let body = escape_noncharacters(dead_letter.to_message(false));
        if body.len() <= limit {
            return Self { dead_letter, body };
        }
        Self::without_payload(dead_letter, limit)
    }

    /// The same without the payload, and with a shorter error message if necessary.
    fn without_payload(dead_letter: &'a DeadLetter, limit: usize) -> Self {
        let mut body = escape_noncharacters(dead_letter.to_message(true));
        for keep in SHORTER_ERRORS {
            if body.len() <= limit {
                break;
            }
            let mut shorter = dead_letter.clone();
            let end = shorter.error_message.floor_char_boundary(keep);
            shorter.error_message.truncate(end);
            body = escape_noncharacters(shorter.to_message(true));
        }
        Self { dead_letter, body }
    }

    /// The span in which it is sent.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.dead_letter.context.traceparent().map(|it| it.to_string())
    }

    /// What it takes of a batch's limit.
    fn bytes(&self) -> usize {
        self.body.len() + attribute_bytes(self.dead_letter)
    }

    /// The message to try next where the queue refuses this one because of its content; it is
    /// within any queue's limit. `None` if the queue refused just that message.
    pub(crate) fn shortest(&self) -> Option<Self> {
        let shortest = Self::without_payload(
            self.dead_letter,
            SMALLEST_LIMIT - attribute_bytes(self.dead_letter),
        );
        (shortest.body != self.body).then_some(shortest)
    }
}

fn attribute_bytes(dead_letter: &DeadLetter) -> usize {
    dead_letter.context.traceparent().map_or(0, |_| TRACEPARENT_BYTES)
}

/// SQS refuses U+FFFE and U+FFFF, which JSON allows as they are (Amazon SQS API Reference,
/// `SendMessage`: `#x9 | #xA | #xD | #x20-#xD7FF | #xE000-#xFFFD | #x10000-#x10FFFF`). In JSON they
/// can only appear inside strings, where an escape means the same. JSON text cannot hold the other
/// characters that SQS refuses: control characters and lone surrogates.
fn escape_noncharacters(json: String) -> String {
    if json.contains(['\u{fffe}', '\u{ffff}']) {
        json.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    } else {
        json
    }
}

/// Dead letters in order, in batches of at most ten whose bodies together have at most `limit`
/// bytes.
///
/// One batch at a time is rendered, so that a backlog of large dead letters is not in memory at
/// once. A message over the limit is sent alone.
pub(crate) struct Batches<'a> {
    dead_letters: slice::Iter<'a, DeadLetter>,
    carried: Option<Entry<'a>>,
    limit: usize,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(dead_letters: &'a [DeadLetter], limit: usize) -> Self {
        Self { dead_letters: dead_letters.iter(), carried: None, limit }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Vec<Entry<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < MAX_ENTRIES {
            let rendered = self.carried.take();
            let entry = rendered.or_else(|| {
                self.dead_letters.next().map(|dead_letter| Entry::new(dead_letter, self.limit))
            });
            let Some(entry) = entry else { break };
            if !batch.is_empty() && bytes + entry.bytes() > self.limit {
                self.carried = Some(entry);
                break;
            }
            bytes += entry.bytes();
            batch.push(entry);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use cognigy_core::{EventKey, EventTime, EventType, Timestamp};
    use serde_json::Value;

    use super::*;

    fn dead_letter(id: &str, payload: &str) -> DeadLetter {
        DeadLetter {
            key: EventKey::cognigy(id.parse().unwrap()),
            run: 1,
            kind: EventType::DialogStarted,
            time: EventTime::from_json("1772366400").unwrap(),
            error_message: "503".into(),
            attempts: 4,
            first_received_at: Timestamp::UNIX_EPOCH,
            raw_payload: Bytes::from(payload.to_owned()),
            context: cognigy_core::DeliveryContext::default(),
        }
    }

    fn json(body: &str) -> Value {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn a_message_at_the_limit_keeps_its_payload_and_one_byte_more_loses_it() {
        let dead_letter =
            dead_letter("e1", r#"{"text":"some words that make it longer than the flag"}"#);
        let full = dead_letter.to_message(false).len();
        let kept = Entry::new(&dead_letter, full);
        assert_eq!(
            json(&kept.body)["rawPayload"],
            json(std::str::from_utf8(&dead_letter.raw_payload).unwrap())
        );
        let reduced = Entry::new(&dead_letter, full - 1);
        assert!(reduced.body.len() < full);
        assert_eq!(json(&reduced.body)["rawPayloadOmitted"], true);
        assert_eq!(kept.shortest().unwrap().body, reduced.body);
        assert!(reduced.shortest().is_none());
    }

    #[test]
    fn the_attribute_with_the_span_counts_towards_the_limit() {
        let mut dead_letter = dead_letter("e1", "{}");
        let traceparent = cognigy_core::TraceParent::new([1; 16], [2; 8], true).unwrap();
        dead_letter.context = dead_letter.context.with_traceparent(traceparent);
        let (full, attribute) = (dead_letter.to_message(false).len(), TRACEPARENT_BYTES);
        let entry = Entry::new(&dead_letter, full + attribute);
        assert_eq!(entry.traceparent(), Some(traceparent.to_string()));
        assert_eq!((json(&entry.body)["rawPayload"].is_object(), entry.bytes()), (true, full + 72));
        let reduced = Entry::new(&dead_letter, full + attribute - 1);
        assert_eq!(json(&reduced.body)["rawPayloadOmitted"], true);
    }

    #[test]
    fn a_long_error_alone_does_not_make_it_too_long() {
        let mut dead_letter = dead_letter("e1", "{}");
        dead_letter.error_message = "é".repeat(5000);
        for limit in [4096, 2048, 512] {
            let entry = Entry::new(&dead_letter, limit);
            assert!(entry.body.len() <= limit, "{} of {limit}", entry.body.len());
            let kept = json(&entry.body)["errorMessage"].as_str().unwrap().len();
            assert_eq!(kept, if limit > 1500 { 1024 } else { 128 });
        }
    }

    #[test]
    fn what_sqs_refuses_is_escaped_and_means_the_same() {
        let odd = "\u{fffe} \u{ffff} \\\\\u{fffe} \u{fffd} \u{10ffff} \u{1fffe}";
        let mut dead_letter = dead_letter("e\u{ffff}", &format!("{{\"\u{fffe}\":\"{odd}\\\\\"}}"));
        dead_letter.error_message = "\0 \u{1b} \u{fffe}".into();
        let body = Entry::new(&dead_letter, 4096).body;
        assert!(body.chars().all(|c| matches!(c,
            '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)));
        assert_eq!(json(&body), json(&dead_letter.to_message(false)));
    }

    #[test]
    fn batches_hold_ten_or_what_fits_and_keep_the_order() {
        let ids = |batches: Batches| -> Vec<Vec<String>> {
            let id = |entry: &Entry| entry.dead_letter.key.id.to_string();
            batches.map(|batch| batch.iter().map(id).collect()).collect()
        };
        let dead_letters: Vec<_> = (10..35).map(|n| dead_letter(&n.to_string(), "{}")).collect();
        let one = dead_letters[0].to_message(false).len();

        let by_count = ids(Batches::new(&dead_letters, 1 << 20));
        assert_eq!(by_count.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        let by_size = ids(Batches::new(&dead_letters, 3 * one + 1));
        assert!(by_size.iter().take(8).all(|batch| batch.len() == 3), "{by_size:?}");
        let expected: Vec<_> = (10..35).map(|n| n.to_string()).collect();
        assert_eq!(by_count.concat(), expected);
        assert_eq!(by_size.concat(), expected);
        assert_eq!(ids(Batches::new(&dead_letters, 1)).len(), 25, "too long for any batch: alone");
        assert!(ids(Batches::new(&[], 1)).is_empty());
    }
}
