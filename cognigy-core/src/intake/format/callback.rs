//! The callback of Cognigy's Webhook Endpoint: one output of a flow.

use crate::{
    event::{EventType, InvalidEvent},
    intake::{
        EventFormat, FormatOptions, ReadEvent, VerifiedDelivery,
        format::{
            conversation,
            fields::{Fields, Parts},
            object::{self, Object},
        },
    },
};

/// The format of [`FormatPreset::CognigyCallback`](crate::FormatPreset::CognigyCallback), which says what it reads.
pub(super) struct CallbackFormat {
    options: FormatOptions,
}

impl CallbackFormat {
    pub(super) fn new(options: FormatOptions) -> Self {
        Self { options }
    }
}

/// The member that says that a callback is sensitive.
const SENSITIVE: &str = "disableSensitiveLogging";

impl EventFormat for CallbackFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let text = object::text_of(delivery.body())?;
        let callback = Object::of_text(text)?;
        let mut fields = Fields::new(delivery, &self.options, &text);
        let output = fields.nested(&callback, "AIOutput");

        let id = fields.id(|fields| fields.derived(&[delivery.body()]));
        let kind = fields.kind(|_| {
            let activity = output.as_ref().and_then(activity);
            activity.or_else(|| object::kind_named("cognigy.bot.output").ok())
        });
        let time = fields.time(|fields| Some(fields.received_at()));
        let external_id = fields.pointed_contact();
        let conversation = fields.pointed_conversation();
        let (user_id, session_id);
        if external_id.is_some() && conversation.is_some() {
            user_id = fields.text(&callback, "userId");
            session_id = None;
        } else {
            user_id = fields.required(&callback, "userId", object::filled);
            session_id = match conversation {
                Some(_) => None,
                None => fields.required(&callback, "sessionId", object::filled),
            };
        }
        let conversation =
            conversation.or_else(|| Some(conversation::session(user_id.as_deref(), &session_id?)));
        let sensitive = is_marked(&callback) || output.as_ref().is_some_and(is_marked);
        let parts = Parts { id, kind, time, external_id, user_id, conversation, sensitive };
        Ok(vec![fields.finish(parts, delivery.body().clone())?])
    }
}

/// Whether `object` asks that its content be logged nowhere. What is neither yes nor no counts as yes.
fn is_marked(object: &Object<'_>) -> bool {
    object.all(SENSITIVE).any(|value| !matches!(value, "false" | "null"))
}

fn activity(output: &Object<'_>) -> Option<EventType> {
    let mut object = output.nested("data", output.get("data").ok()??)?;
    for key in ["_cognigy", "event"] {
        object = object.nested(key, object.get(key).ok()??)?;
    }
    let name = object::string(object.get("type").ok()??).ok()?;
    if name.is_empty() {
        return None;
    }
    object::kind_named(&format!("cognigy.activity.{name}")).ok()
}
