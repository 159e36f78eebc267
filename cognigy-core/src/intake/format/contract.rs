//! The contract's event with its fields read one by one: where an operator's pointers replace some of
//! them, and as Cognigy's HTTP Request node sends it, with open types and other spellings.

use crate::{
    event::{EventType, InvalidEvent, same_content},
    intake::{
        EventFormat, FormatOptions, ReadEvent, VerifiedDelivery,
        format::{
            conversation,
            fields::{Fields, Parts, given},
            object::{self, Object},
        },
    },
};

/// The names under which each field of an event may come. The first is the contract's.
struct Spellings {
    id: &'static [&'static str],
    time: &'static [&'static str],
    kind: &'static [&'static str],
    payload: &'static [&'static str],
    external_id: &'static [&'static str],
    user_id: &'static [&'static str],
    session_id: &'static [&'static str],
}

const NATIVE: Spellings = Spellings {
    id: &["eventId"],
    time: &["timestamp"],
    kind: &["type"],
    payload: &["payload"],
    external_id: &["externalId"],
    user_id: &["userId"],
    session_id: &[],
};

const HTTP_NODE: Spellings = Spellings {
    id: &["eventId", "event_id"],
    time: &["timestamp", "time"],
    kind: &["type", "event"],
    payload: &["payload", "data"],
    external_id: &["externalId", "external_id"],
    user_id: &["userId", "user_id"],
    session_id: &["sessionId", "session_id"],
};

/// The contract's event, in one of two dialects.
pub(super) struct ContractFormat {
    spellings: Spellings,
    /// Whether types other than the contract's are taken. Such an event needs no payload.
    open: bool,
    options: FormatOptions,
}

impl ContractFormat {
    /// The contract's event as it is, with parts of it replaced.
    pub(super) fn native(options: FormatOptions) -> Self {
        Self { spellings: NATIVE, open: false, options }
    }

    /// The format of [`FormatPreset::CognigyHttpNode`](crate::FormatPreset::CognigyHttpNode), which says
    /// what it reads.
    pub(super) fn http_node(options: FormatOptions) -> Self {
        Self { spellings: HTTP_NODE, open: true, options }
    }
}

impl EventFormat for ContractFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let text = object::text_of(delivery.body())?;
        let event = Object::of_text(text)?;
        let mut fields = Fields::new(delivery, &self.options, &text);
        let names = &self.spellings;

        let id = fields.id(|fields| {
            spelled(fields, &event, names.id, true, object::id).map(|(_, id)| given(id))
        });
        let time = fields.time(|fields| {
            spelled(fields, &event, names.time, true, object::time).map(|(_, time)| time)
        });
        let kind = fields.kind(|fields| {
            let read = if self.open { object::kind } else { contract_kind };
            spelled(fields, &event, names.kind, true, read).map(|(_, kind)| kind)
        });

        let needs_payload = !self.open || kind.as_ref().is_some_and(is_contract_kind);
        let payload = spelled(&mut fields, &event, names.payload, needs_payload, |json| {
            if json.starts_with('{') { Ok(json) } else { Err("must be an object".to_owned()) }
        });
        let payload = payload.and_then(|(name, _)| Some((name, fields.nested(&event, name)?)));
        if let Some((name, payload)) = &payload {
            demand_key(&mut fields, kind.as_ref(), name, payload);
        }

        let pointed = fields.pointed_contact();
        let mut ids = |names| spelled(&mut fields, &event, names, false, object::string);
        let external_id = ids(names.external_id).map(|(_, id)| id.into_owned());
        let user_id = ids(names.user_id).map(|(_, id)| id.into_owned());
        let external_id = external_id.filter(|id| !self.open || !id.is_empty());
        let within = match (&payload, &external_id) {
            (Some((_, payload)), None) if self.open => fields.text(payload, "externalId"),
            _ => None,
        };

        let conversation = fields.pointed_conversation().or_else(|| {
            let session_id = spelled(&mut fields, &event, names.session_id, false, object::text);
            let (_, session_id) = session_id.filter(|(_, id)| !id.is_empty())?;
            Some(conversation::session(user_id.as_deref(), &session_id))
        });

        let external_id = pointed.or(external_id).or(within);
        let sensitive = false;
        let parts = Parts { id, kind, time, external_id, user_id, conversation, sensitive };
        Ok(vec![fields.finish(parts, delivery.body().clone())?])
    }
}

/// The field that comes under one of `names`, and the name. Under several names it has to be the same.
fn spelled<'j, T>(
    fields: &mut Fields<'_>,
    event: &Object<'j>,
    names: &[&'static str],
    is_required: bool,
    read: impl FnOnce(&'j str) -> Result<T, String>,
) -> Option<(&'static str, T)> {
    let mut given = names.iter().filter_map(|name| Some((*name, event.get(name).ok()??)));
    let Some((name, json)) = given.next() else {
        if let (true, Some(name)) = (is_required, names.first()) {
            fields.refuse(*name, "is required");
        }
        return None;
    };
    for (other_name, other) in given {
        if !same_content(json.as_bytes(), other.as_bytes()) {
            fields.refuse(other_name, format!("differs from `{name}`, which is the same field"));
            return None;
        }
    }
    match read(json) {
        Ok(value) => Some((name, value)),
        Err(message) => {
            fields.refuse(name, message);
            None
        }
    }
}

fn contract_kind(json: &str) -> Result<EventType, String> {
    EventType::from_contract(&object::string(json)?).ok_or_else(|| {
        "must be DIALOG_STARTED, USER_INPUT_RECEIVED, PROFILE_UPDATED or DIALOG_ENDED".to_owned()
    })
}

pub(super) fn is_contract_kind(kind: &EventType) -> bool {
    !matches!(kind, EventType::Other(_))
}

/// Reports a payload without the key that the contract demands for its type.
pub(super) fn demand_key(
    fields: &mut Fields<'_>,
    kind: Option<&EventType>,
    name: &str,
    payload: &Object<'_>,
) {
    if let Some(key) = kind.and_then(EventType::required_payload_key)
        && !payload.has(key)
    {
        fields.refuse(format!("{name}.{key}"), "is required for this type of event");
    }
}
