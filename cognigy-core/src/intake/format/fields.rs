//! Collects the fields of one event: what an operator's pointer finds comes before what the preset
//! reads. Every broken rule is reported, not just the first.

use bytes::Bytes;

use crate::{
    event::{EventId, EventParts, EventTime, EventType, InvalidEvent},
    intake::{
        DerivedId, FormatOptions, JsonPointer, ReadEvent, VerifiedDelivery,
        format::{
            conversation,
            object::{self, Object},
            pointer::PointerRoot,
        },
    },
};

/// The reading of one event.
pub(super) struct Fields<'a> {
    delivery: &'a VerifiedDelivery,
    options: &'a FormatOptions,
    root: &'a dyn PointerRoot,
    invalid: InvalidEvent,
    /// Whether the event has an id that its sender does not know.
    id_is_derived: bool,
}

/// What was read. What is missing among the first three made an error.
pub(super) struct Parts {
    pub(super) id: Option<DerivedId>,
    pub(super) kind: Option<EventType>,
    pub(super) time: Option<EventTime>,
    pub(super) external_id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) conversation: Option<String>,
    pub(super) sensitive: bool,
}

impl<'a> Fields<'a> {
    /// Begins to read an event; pointers look in `root`.
    pub(super) fn new(
        delivery: &'a VerifiedDelivery,
        options: &'a FormatOptions,
        root: &'a dyn PointerRoot,
    ) -> Self {
        let invalid = InvalidEvent::default();
        Self { delivery, options, root, invalid, id_is_derived: false }
    }

    /// Reports a broken rule.
    pub(super) fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.invalid.add(field, message);
    }

    /// The value of `key` as `read` reads it, if it is there and not `null`.
    pub(super) fn optional<'j, T>(
        &mut self,
        object: &Object<'j>,
        key: &str,
        read: impl FnOnce(&'j str) -> Result<T, String>,
    ) -> Option<T> {
        let outcome = object.get(key).and_then(|value| value.map(read).transpose());
        outcome.unwrap_or_else(|message| {
            self.refuse(object.path_of(key), message);
            None
        })
    }

    /// The value of `key` as `read` reads it. It has to be there.
    pub(super) fn required<'j, T>(
        &mut self,
        object: &Object<'j>,
        key: &str,
        read: impl FnOnce(&'j str) -> Result<T, String>,
    ) -> Option<T> {
        let before = self.invalid.errors.len();
        let value = self.optional(object, key, read);
        if value.is_none() && self.invalid.errors.len() == before {
            self.refuse(object.path_of(key), "is required");
        }
        value
    }

    /// The text of `key`, if it is there and not empty.
    pub(super) fn text(&mut self, object: &Object<'_>, key: &str) -> Option<String> {
        self.optional(object, key, object::text).filter(|text| !text.is_empty())
    }

    /// The object under `key`; `None` where it is another kind of value.
    pub(super) fn nested<'j>(&mut self, object: &Object<'j>, key: &str) -> Option<Object<'j>> {
        let json = self.optional(object, key, Ok).filter(|json| json.starts_with('{'))?;
        let nested = object.nested(key, json);
        if nested.is_none() {
            self.refuse(object.path_of(key), "has a key that is not valid Unicode");
        }
        nested
    }

    /// The event's id: what the id pointer finds, or else what `own` reads.
    pub(super) fn id(
        &mut self,
        own: impl FnOnce(&mut Self) -> Option<DerivedId>,
    ) -> Option<DerivedId> {
        let Some(pointer) = &self.options.id_pointer else { return own(self) };
        let read = |json: &str| {
            object::filled(json)?.parse::<EventId>().map_err(|error| error.to_string())
        };
        match self.pointed(pointer, read) {
            Ok(Some(id)) => Some(given(id)),
            Ok(None) => {
                self.refuse(pointer.to_string(), "finds no value");
                None
            }
            Err(Reported) => None,
        }
    }

    /// Whether the header called `name` was kept.
    pub(super) fn has_header(&self, name: &str) -> bool {
        self.delivery.context().iter().any(|(kept, _)| kept == name)
    }

    /// The event's id in the header called `name`, which must come once.
    pub(super) fn header(&mut self, name: &str) -> Option<EventId> {
        let message = match self.delivery.context().get(name) {
            // What was no UTF-8 was replaced: two ids may look alike.
            Some(text) if text.contains('\u{fffd}') => "must be valid UTF-8".to_owned(),
            Some(text) => match text.parse::<EventId>() {
                Ok(id) => return Some(id),
                Err(error) => error.to_string(),
            },
            None if self.has_header(name) => "appears more than once".to_owned(),
            None => "is required".to_owned(),
        };
        self.refuse(name, message);
        None
    }

    /// An id that is derived from `content`.
    pub(super) fn derived(&mut self, content: &[&[u8]]) -> Option<DerivedId> {
        self.id_is_derived = true;
        Some(self.delivery.derive_id(content, self.options.derived_id_window))
    }

    /// The event's type: what the type pointer finds, or else the constant, or else what `own` reads.
    pub(super) fn kind(
        &mut self,
        own: impl FnOnce(&mut Self) -> Option<EventType>,
    ) -> Option<EventType> {
        let options = self.options;
        let pointed = options.type_pointer.as_ref().map(|it| self.pointed(it, object::kind));
        match pointed {
            Some(Ok(Some(kind))) => Some(kind),
            Some(Err(Reported)) => None,
            Some(Ok(None)) | None => options.event_type.clone().or_else(|| own(self)),
        }
    }

    /// The event's time: what the time pointer finds, or else what `own` reads.
    pub(super) fn time(
        &mut self,
        own: impl FnOnce(&mut Self) -> Option<EventTime>,
    ) -> Option<EventTime> {
        let pointer = self.options.time_pointer.as_ref();
        match pointer.map(|pointer| self.pointed(pointer, object::time)) {
            Some(Ok(Some(time))) => Some(time),
            Some(Err(Reported)) => None,
            Some(Ok(None)) | None => own(self),
        }
    }

    /// The time at which the delivery was received.
    pub(super) fn received_at(&self) -> EventTime {
        self.delivery.received_at().into()
    }

    /// The contact's id that the contact pointer finds, if there is one.
    pub(super) fn pointed_contact(&mut self) -> Option<String> {
        let pointer = self.options.contact_pointer.as_ref()?;
        let found = self.pointed(pointer, object::text).unwrap_or_default();
        found.filter(|key| !key.is_empty())
    }

    /// The conversation that the conversation pointer finds, if there is one.
    pub(super) fn pointed_conversation(&mut self) -> Option<String> {
        let pointer = self.options.conversation_pointer.as_ref()?;
        let found = self.pointed(pointer, object::text).unwrap_or_default();
        found.filter(|name| !name.is_empty()).map(|name| conversation::named(&name))
    }

    fn pointed<T>(
        &mut self,
        pointer: &JsonPointer,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Reported> {
        let found = self.root.find(pointer.tokens()).map_err(ToOwned::to_owned);
        let found = found.map(|found| found.filter(|json| json != "null"));
        let outcome = found.and_then(|found| found.map(|json| read(&json)).transpose());
        outcome.map_err(|message| {
            // The empty pointer is the whole body.
            let name = Some(pointer.to_string()).filter(|name| !name.is_empty());
            self.refuse(name.unwrap_or_else(|| "body".to_owned()), message);
            Reported
        })
    }

    /// The event, with `body` as its part of the delivery.
    ///
    /// # Errors
    ///
    /// A rule was broken.
    pub(super) fn finish(mut self, parts: Parts, body: Bytes) -> Result<ReadEvent, InvalidEvent> {
        match (parts.id, parts.kind, parts.time) {
            (Some(id), Some(kind), Some(time)) if self.invalid.errors.is_empty() => {
                let DerivedId { id, earlier } = id;
                let parts = EventParts {
                    id,
                    kind,
                    time,
                    external_id: parts.external_id,
                    user_id: parts.user_id,
                    conversation: parts.conversation,
                    sensitive: parts.sensitive,
                };
                Ok(ReadEvent { parts, body, earlier })
            }
            (id, ..) => {
                let given = id.filter(|_| !self.id_is_derived);
                self.invalid.sensitive = parts.sensitive;
                self.invalid.event_id = given.map(|given| given.id.as_str().to_owned());
                Err(self.invalid)
            }
        }
    }
}

/// A broken rule that has been reported.
struct Reported;

/// An id that the sender gave.
pub(super) fn given(id: EventId) -> DerivedId {
    DerivedId { id, earlier: None }
}
