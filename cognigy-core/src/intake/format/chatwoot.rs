//! Webhooks of Chatwoot: messages, conversations, contacts.

use crate::{
    event::{EventId, InvalidEvent},
    intake::{
        EventFormat, FormatOptions, ReadEvent, VerifiedDelivery,
        format::{
            conversation,
            fields::{Fields, Parts, given},
            object::{self, Object},
        },
    },
};

/// The format of [`FormatPreset::Chatwoot`](crate::FormatPreset::Chatwoot), which says what it reads.
pub(super) struct ChatwootFormat {
    options: FormatOptions,
}

impl ChatwootFormat {
    pub(super) fn new(options: FormatOptions) -> Self {
        Self { options }
    }
}

/// The header that names the delivery.
const DELIVERY_HEADER: &str = "x-chatwoot-delivery";

impl EventFormat for ChatwootFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let text = object::text_of(delivery.body())?;
        let body = Object::of_text(text)?;
        let mut fields = Fields::new(delivery, &self.options, &text);
        let event = body.get("event").ok().flatten().and_then(|json| object::string(json).ok());
        let event = event.unwrap_or_default();
        let account = fields.nested(&body, "account");
        let account_id = account.as_ref().and_then(|account| fields.text(account, "id"));

        let id = fields.id(|fields| match fields.has_header(DELIVERY_HEADER) {
            true => fields.header(DELIVERY_HEADER).map(given),
            false => match version_id(fields, &body, account_id.as_deref(), &event) {
                Some(id) => Some(given(id)),
                None => fields.derived(&[delivery.body()]),
            },
        });
        let kind = fields.kind(|fields| {
            fields.required(&body, "event", |json| {
                let name = object::string(json)?;
                if name.is_empty() {
                    return Err("must not be empty".to_owned());
                }
                object::kind_named(&format!("chatwoot.{name}"))
            })
        });
        let time = fields.time(|fields| match body.get("created_at") {
            Ok(None) => Some(fields.received_at()),
            _ => fields.required(&body, "created_at", object::time),
        });

        let conversation = conversation_of(&mut fields, &body, &event);
        let contact = contact_of(&mut fields, &body, conversation.as_ref(), &event);
        let contact = contact.as_ref().or_else(|| event.starts_with("contact_").then_some(&body));
        let mut text_of = |key| contact.and_then(|contact| fields.text(contact, key));
        let own = text_of("identifier");
        let user_id = text_of("email").or_else(|| text_of("id"));

        let conversation_id = match &conversation {
            Some(conversation) => fields.text(conversation, "id"),
            None if event.starts_with("conversation_") => fields.text(&body, "id"),
            None => None,
        };
        let external_id = fields.pointed_contact().or(own);
        let conversation = fields.pointed_conversation().or_else(|| {
            let account_id = account_id.as_deref().unwrap_or_default();
            Some(conversation::pair(account_id, ':', &conversation_id?))
        });
        let sensitive = false;
        let parts = Parts { id, kind, time, external_id, user_id, conversation, sensitive };
        Ok(vec![fields.finish(parts, delivery.body().clone())?])
    }

    fn context_headers(&self) -> &[&str] {
        &[DELIVERY_HEADER]
    }
}

/// The id that names this version of what the event is about, if the body has all its parts.
fn version_id(
    fields: &mut Fields<'_>,
    body: &Object<'_>,
    account_id: Option<&str>,
    event: &str,
) -> Option<EventId> {
    let (id, updated_at) = (fields.text(body, "id")?, fields.text(body, "updated_at")?);
    let colons = account_id?.contains(':') || event.contains(':') || id.contains(':');
    // With another colon it could be the id of another event.
    let id = format!("{}:{event}:{id}:{updated_at}", account_id?);
    (!colons && !event.is_empty()).then(|| id.parse().ok()).flatten()
}

/// The object that holds the conversation, where it is not the body itself.
fn conversation_of<'a>(
    fields: &mut Fields<'_>,
    body: &Object<'a>,
    event: &str,
) -> Option<Object<'a>> {
    // Events about typing have the name of a conversation's event and the shape of a message's.
    let is_inside = !event.starts_with("conversation_") || body.has("conversation");
    is_inside.then(|| fields.nested(body, "conversation")).flatten()
}

/// The object that describes the contact, where it is not the body itself.
fn contact_of<'a>(
    fields: &mut Fields<'_>,
    body: &Object<'a>,
    conversation: Option<&Object<'a>>,
    event: &str,
) -> Option<Object<'a>> {
    if event.starts_with("contact_") {
        return None;
    }
    let is_by_contact = is_by_contact(fields, body);
    let sender = fields.nested(body, "sender").filter(|_| is_by_contact);
    sender.or_else(|| {
        let meta = fields.nested(conversation.unwrap_or(body), "meta")?;
        fields.nested(&meta, "sender")
    })
}

/// Whether the sender of a message is the contact, not an agent or a bot.
fn is_by_contact(fields: &mut Fields<'_>, body: &Object<'_>) -> bool {
    let is_incoming = match body.get("message_type") {
        // Names, or numbers in older versions: 0 is incoming.
        Ok(Some(kind)) => matches!(kind, "\"incoming\"" | "0"),
        _ => true,
    };
    let sender = fields.nested(body, "sender");
    let sender_type = sender.as_ref().and_then(|sender| sender.get("type").ok().flatten());
    is_incoming && !matches!(sender_type, Some("\"user\"" | "\"agent_bot\""))
}
