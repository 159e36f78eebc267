//! Events as the Standard Webhooks specification recommends them.

use crate::{
    event::InvalidEvent,
    intake::{
        EventFormat, FormatOptions, ReadEvent, VerifiedDelivery,
        format::{
            contract::{demand_key, is_contract_kind},
            conversation,
            fields::{Fields, Parts, given},
            object::{self, Object},
        },
    },
};

/// The format of [`FormatPreset::StandardWebhooks`](crate::FormatPreset::StandardWebhooks), which says what it reads.
pub(super) struct StandardWebhooksFormat {
    options: FormatOptions,
}

impl StandardWebhooksFormat {
    pub(super) fn new(options: FormatOptions) -> Self {
        Self { options }
    }
}

/// The header that holds the event's id.
const ID_HEADER: &str = "webhook-id";

impl EventFormat for StandardWebhooksFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let text = object::text_of(delivery.body())?;
        let event = Object::of_text(text)?;
        let mut fields = Fields::new(delivery, &self.options, &text);

        let id = fields.id(|fields| fields.header(ID_HEADER).map(given));
        let kind = fields.kind(|fields| match event.get("type") {
            Ok(None) if event.has("event") => fields.required(&event, "event", object::kind),
            _ => fields.required(&event, "type", object::kind),
        });
        let time = fields.time(|fields| match event.get("timestamp") {
            Ok(None) => Some(fields.received_at()),
            _ => fields.required(&event, "timestamp", object::time),
        });

        let name = if matches!(event.get("data"), Ok(Some(_))) { "data" } else { "payload" };
        let data = fields.nested(&event, name);
        match &data {
            Some(data) => demand_key(&mut fields, kind.as_ref(), name, data),
            None if kind.as_ref().is_some_and(is_contract_kind) => {
                fields.refuse(name, "must be an object");
            }
            None => {}
        }

        let mut text_of = |key| {
            let at_the_top = fields.text(&event, key);
            at_the_top.or_else(|| fields.text(data.as_ref()?, key))
        };
        let own = text_of("externalId");
        let user_id = text_of("userId");
        let session_id = text_of("sessionId");
        let external_id = fields.pointed_contact().or(own);
        let conversation = fields
            .pointed_conversation()
            .or_else(|| Some(conversation::session(user_id.as_deref(), &session_id?)));
        let sensitive = false;
        let parts = Parts { id, kind, time, external_id, user_id, conversation, sensitive };
        Ok(vec![fields.finish(parts, delivery.body().clone())?])
    }

    fn context_headers(&self) -> &[&str] {
        &[ID_HEADER]
    }
}
