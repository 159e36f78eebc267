//! Call statuses of Voice Gateway, and its call events as Cognigy hands them on.

use crate::{
    event::InvalidEvent,
    intake::{
        EventFormat, FormatOptions, ReadEvent, VerifiedDelivery,
        format::{
            conversation,
            fields::{Fields, Parts, given},
            object::{self, Object},
        },
    },
};

/// The format of [`FormatPreset::VoiceGateway`](crate::FormatPreset::VoiceGateway), which says what it reads.
pub(super) struct VoiceGatewayFormat {
    options: FormatOptions,
}

impl VoiceGatewayFormat {
    pub(super) fn new(options: FormatOptions) -> Self {
        Self { options }
    }
}

impl EventFormat for VoiceGatewayFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let text = object::text_of(delivery.body())?;
        let body = Object::of_text(text)?;
        let mut fields = Fields::new(delivery, &self.options, &text);
        let payload = match body.has("call_sid") {
            true => None,
            false => fields.nested(&body, "payload"),
        };
        let call = payload.as_ref().unwrap_or(&body);

        let call_sid = fields.required(call, "call_sid", object::filled);
        let id = fields.id(|fields| {
            let message_id =
                payload.as_ref().and_then(|_| fields.optional(&body, "msgid", message_id));
            match message_id {
                Some(id) => Some(given(id)),
                None => fields.derived(&[call_sid.as_deref()?.as_bytes(), delivery.body()]),
            }
        });
        let kind = fields.kind(|fields| match payload {
            None => fields.required(&body, "call_status", |json| {
                object::kind_named(&format!("voice.call.{}", name(json)?))
            }),
            Some(_) => fields.required(&body, "event", |json| {
                object::kind_named(&format!("voice.{}", name(json)?.to_lowercase()))
            }),
        });
        let time = fields.time(|fields| Some(fields.received_at()));

        let pointed = fields.pointed_contact();
        let own =
            fields.nested(call, "customer_data").and_then(|data| fields.text(&data, "externalId"));
        let external_id = pointed.or(own);
        let user_id = other_side(call);
        let conversation =
            fields.pointed_conversation().or_else(|| call_sid.as_deref().map(conversation::named));
        let sensitive = payload.as_ref().is_some_and(|payload| payload.has("digits"));
        let parts = Parts { id, kind, time, external_id, user_id, conversation, sensitive };
        Ok(vec![fields.finish(parts, delivery.body().clone())?])
    }
}

fn message_id(json: &str) -> Result<crate::event::EventId, String> {
    object::filled(json)?.parse().map_err(|error| format!("{error}"))
}

/// A string that is not empty.
fn name(json: &str) -> Result<String, String> {
    match object::string(json)?.into_owned() {
        name if name.is_empty() => Err("must not be empty".to_owned()),
        name => Ok(name),
    }
}

/// The telephone number of the side of a call that is not ours.
fn other_side(call: &Object<'_>) -> Option<String> {
    let text = |key| object::text(call.get(key).ok()??).ok();
    let side = match &*text("direction")?.to_ascii_lowercase() {
        "inbound" => "from",
        "outbound" => "to",
        _ => return None,
    };
    number(&text(side)?).map(ToOwned::to_owned)
}

/// The telephone number in `address`, as it is written there.
fn number(address: &str) -> Option<&str> {
    let address = address.trim();
    let without_scheme = ["sip:", "sips:", "tel:"].into_iter().find_map(|scheme| {
        let start = address.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &address[scheme.len()..])
    });
    let user = without_scheme.unwrap_or(address).split(['@', ';']).next()?;
    let digits = user.strip_prefix('+').unwrap_or(user);
    let is_number = matches!(digits.len(), 3..=15) && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then_some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telephone_number_is_taken_as_it_is_written() {
        for (address, expected) in [
            ("+4930000001", Some("+4930000001")),
            ("16170000001", Some("16170000001")),
            ("sip:+4930000001@gateway.example;user=phone", Some("+4930000001")),
            ("SIPS:+4930000001;x=y@host", Some("+4930000001")),
            ("tel:+4930000001", Some("+4930000001")),
            ("anonymous", None),
            ("sip:anonymous@anonymous.invalid", None),
            ("+", None),
            ("", None),
            ("+49 30 000", None),
            ("+4930000000000001", None),
            ("é:+49300", None),
        ] {
            assert_eq!(number(address), expected, "{address}");
        }
    }
}
