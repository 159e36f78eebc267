//! Any JSON, with fields where an operator's pointers say.

use crate::{
    event::InvalidEvent,
    intake::{
        EventFormat, FormatOptions, ReadEvent, VerifiedDelivery,
        format::{
            fields::{Fields, Parts},
            object,
        },
    },
};

/// The format of [`FormatPreset::Json`](crate::FormatPreset::Json), which says what it reads.
pub(super) struct JsonFormat {
    options: FormatOptions,
}

impl JsonFormat {
    pub(super) fn new(options: FormatOptions) -> Self {
        Self { options }
    }
}

impl EventFormat for JsonFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let value = object::value(object::text_of(delivery.body())?)?;
        let mut fields = Fields::new(delivery, &self.options, &value);
        let id = fields.id(|fields| fields.derived(&[delivery.body()]));
        let kind = fields.kind(|_| object::kind_named("json").ok());
        let time = fields.time(|fields| Some(fields.received_at()));
        let external_id = fields.pointed_contact();
        let conversation = fields.pointed_conversation();
        let (user_id, sensitive) = (None, false);
        let parts = Parts { id, kind, time, external_id, user_id, conversation, sensitive };
        Ok(vec![fields.finish(parts, delivery.body().clone())?])
    }
}
