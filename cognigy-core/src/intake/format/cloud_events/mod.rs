//! CloudEvents 1.0 over HTTP, in all three modes (the HTTP protocol binding, section 3; the JSON event
//! format).

mod binary;
mod handshake;

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use binary::{Attributes, BinaryEvent};
pub use handshake::{HandshakeRefused, WebhookHandshake};

use crate::{
    event::{EventId, InvalidEvent},
    intake::{
        EventFormat, FormatOptions, MAX_EVENTS, ReadEvent, VerifiedDelivery,
        format::{
            conversation,
            fields::{Fields, Parts, given},
            object::{self, Object},
            pointer::{self, PointerRoot},
        },
    },
};

/// The format of [`FormatPreset::CloudEvents`](crate::FormatPreset::CloudEvents), which says what it reads.
pub(super) struct CloudEventsFormat {
    options: FormatOptions,
}

impl CloudEventsFormat {
    pub(super) fn new(options: FormatOptions) -> Self {
        Self { options }
    }
}

/// The attributes without which it is not an event.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// How the events are in a delivery.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Batch,
    Structured,
    Binary,
    /// The headers do not say.
    Unknown,
}

impl EventFormat for CloudEventsFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let mode = Mode::of(delivery)?;
        if mode == Mode::Binary {
            return Ok(vec![self.binary(delivery)?]);
        }
        let text = object::text_of(delivery.body())?;
        match (mode, text.trim_start().as_bytes().first()) {
            (Mode::Batch, Some(b'[')) => self.batch(delivery, text),
            (Mode::Unknown, Some(b'[')) if is_batch(text) => self.batch(delivery, text),
            // An event of a batch that comes back by itself has the media type of its batch.
            _ => Ok(vec![self.structured(delivery, text, delivery.body().clone())?]),
        }
    }

    fn context_headers(&self) -> &[&str] {
        &["content-type", "ce-*"]
    }

    fn accepted_status(&self) -> u16 {
        202
    }

    fn shakes_hands(&self) -> bool {
        true
    }
}

impl Mode {
    fn of(delivery: &VerifiedDelivery) -> Result<Self, InvalidEvent> {
        let context = delivery.context();
        let mut types = context.iter().filter(|(name, _)| *name == "content-type");
        let media_type = types.next().map_or("", |(_, value)| value);
        if types.next().is_some() {
            return Err(InvalidEvent::new("content-type", "appears more than once"));
        }
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let media_type = media_type.to_ascii_lowercase();
        // The media type of a batch begins like the one of a structured event.
        let known = [
            ("application/cloudevents-batch", Self::Batch),
            ("application/cloudevents", Self::Structured),
        ];
        for (start, mode) in known {
            match media_type.strip_prefix(start) {
                Some("" | "+json") => return Ok(mode),
                Some(_) => {
                    return Err(InvalidEvent::unsupported("names an event format other than JSON"));
                }
                None => {}
            }
        }
        let is_attribute = |name: &str| {
            name.strip_prefix("ce-").is_some_and(|attribute| REQUIRED.contains(&attribute))
        };
        let has_attributes = context.iter().any(|(name, _)| is_attribute(name));
        Ok(if has_attributes { Self::Binary } else { Self::Unknown })
    }
}

/// Whether `text` is an array of what may be events. An empty one may be anything.
fn is_batch(text: &str) -> bool {
    let looks_like_an_event = |json: &&RawValue| {
        let event = Object::of_text(json.get());
        event.is_ok_and(|event| REQUIRED.iter().all(|attribute| event.has(attribute)))
    };
    serde_json::from_str::<Vec<&RawValue>>(text)
        .is_ok_and(|events| !events.is_empty() && events.iter().all(looks_like_an_event))
}

impl CloudEventsFormat {
    fn batch(
        &self,
        delivery: &VerifiedDelivery,
        text: &str,
    ) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let events: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|error| object::not_json(&error))?;
        if events.len() > MAX_EVENTS {
            let message = format!("holds more than {MAX_EVENTS} events");
            return Err(InvalidEvent::new("body", message));
        }
        let read = |(index, event): (usize, &RawValue)| {
            let body = delivery.body().slice_ref(event.get().as_bytes());
            self.structured(delivery, event.get(), body).map_err(|error| at(index, error))
        };
        events.into_iter().enumerate().map(read).collect()
    }

    fn structured(
        &self,
        delivery: &VerifiedDelivery,
        text: &str,
        body: Bytes,
    ) -> Result<ReadEvent, InvalidEvent> {
        let event = Object::of_text(text)?;
        let mut fields = Fields::new(delivery, &self.options, &text);
        let data = fields.optional(&event, "data", Ok);
        let base64 = fields.optional(&event, "data_base64", object::string);
        if data.is_some() && base64.is_some() {
            fields.refuse("data_base64", "must not come together with `data`");
        }
        let parts = self.parts(&mut fields, &Envelope { event: &event, data });
        fields.finish(parts, body)
    }

    fn binary(&self, delivery: &VerifiedDelivery) -> Result<ReadEvent, InvalidEvent> {
        let attributes = Attributes::of(delivery.context())?;
        let data = object::value(object::text_of(delivery.body())?)?;
        let json = attributes.to_json();
        let event = Object::of_text(&json)?;
        let root = BinaryEvent { attributes: &json, data };
        let mut fields = Fields::new(delivery, &self.options, &root);
        let parts = self.parts(&mut fields, &Envelope { event: &event, data: Some(data) });
        fields.finish(parts, delivery.body().clone()).map_err(Attributes::by_their_headers)
    }

    fn parts(&self, fields: &mut Fields<'_>, envelope: &Envelope<'_, '_>) -> Parts {
        let Envelope { event, data } = envelope;
        fields.required(event, "specversion", |json| match &*object::string(json)? {
            "1.0" => Ok(()),
            _ => Err("must be 1.0".to_owned()),
        });
        let source = fields.required(event, "source", attribute);
        let id = fields.required(event, "id", attribute);
        let id = fields.id(|_| Some(given(identity(&source?, &id?))));
        let own_kind = fields.required(event, "type", object::kind);
        let kind = fields.kind(|_| own_kind);
        let time = fields.time(|fields| match event.get("time") {
            Ok(None) => Some(fields.received_at()),
            _ => fields.required(event, "time", object::time),
        });
        let own = fields.text(event, "externalid");
        let external_id = fields.pointed_contact().or(own);
        let user_id = fields.text(event, "userid");
        let subject = fields.optional(event, "subject", attribute);
        let conversation = fields.pointed_conversation().or_else(|| {
            let session = data.and_then(session_of).map(Cow::into_owned);
            Some(conversation::named(&session.or(subject)?))
        });
        let sensitive = false;
        Parts { id, kind, time, external_id, user_id, conversation, sensitive }
    }
}

/// The attributes of an event, and the JSON text of its data.
struct Envelope<'a, 'j> {
    event: &'a Object<'j>,
    data: Option<&'j str>,
}

/// The value of an attribute of the type String, which has no control characters.
fn attribute(json: &str) -> Result<String, String> {
    let text = object::string(json)?;
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else if text.chars().any(char::is_control) {
        Err("must not contain control characters".to_owned())
    } else {
        Ok(text.into_owned())
    }
}

/// The id of the event `id` of `source`. Different pairs have different ids.
fn identity(source: &str, id: &str) -> EventId {
    let plain = (!source.contains('|')).then(|| format!("{source}|{id}"));
    if let Some(Ok(plain)) = plain.map(|plain| plain.parse()) {
        return plain;
    }
    let mut digest = Sha256::new();
    // With its length in front, so that no two pairs give the same digest.
    digest.update((source.len() as u64).to_be_bytes());
    digest.update(source);
    digest.update(id);
    let hashed = format!("sha256:{}", base16ct::lower::encode_string(&digest.finalize()));
    // Without a `|`, it is never the plain form of another pair.
    #[allow(clippy::expect_used)]
    hashed.parse().expect("hexadecimal digits are an id")
}

/// The id of the session in the data of an event of Live Agent.
fn session_of(data: &str) -> Option<Cow<'_, str>> {
    let tokens = [Box::from("cognigy_session_id")];
    let session = object::string(pointer::follow(data, &tokens).ok()??).ok()?;
    Some(session).filter(|session| !session.is_empty())
}

/// The same errors with the event's index in a batch in the names of their fields.
fn at(index: usize, mut invalid: InvalidEvent) -> InvalidEvent {
    for error in &mut invalid.errors {
        error.field = match error.field.as_str() {
            "body" => format!("body[{index}]"),
            pointer if pointer.starts_with('/') => format!("body[{index}]{pointer}"),
            name => format!("body[{index}].{name}"),
        };
    }
    // The delivery is refused, not this event alone.
    invalid.event_id = None;
    invalid
}

impl PointerRoot for BinaryEvent<'_> {
    fn find(&self, tokens: &[Box<str>]) -> Result<Option<Cow<'_, str>>, &'static str> {
        let found = match tokens.split_first() {
            Some((first, rest)) if &**first == "data" => pointer::follow(self.data, rest)?,
            _ => pointer::follow(self.attributes, tokens)?,
        };
        let found = match found {
            None => pointer::follow(self.data, tokens)?,
            found if tokens.is_empty() => pointer::follow(self.data, tokens)?.or(found),
            found => found,
        };
        Ok(found.map(Cow::Borrowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_pairs_have_different_ids() {
        assert_eq!(identity("/shop", "7").as_str(), "/shop|7");
        let long = "s".repeat(300);
        let pairs = [
            ("a", "b|c"),
            ("a|b", "c"),
            ("a", "b"),
            ("ab", ""),
            (&long, "1"),
            (&long, "11"),
            (&long[1..], "s1"),
            ("|", ""),
            ("", "|"),
        ];
        let ids: std::collections::HashSet<_> =
            pairs.iter().map(|(source, id)| identity(source, id)).collect();
        assert_eq!(ids.len(), pairs.len(), "{ids:?}");
        assert_eq!(identity(&"s".repeat(254), "1").as_str().len(), 256);
        assert!(identity(&"s".repeat(255), "1").as_str().starts_with("sha256:"));
    }
}
