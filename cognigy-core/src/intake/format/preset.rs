//! The formats by the names under which operators choose them.

use std::{fmt, str::FromStr, sync::Arc};

use crate::intake::{
    CognigyFormat, EventFormat, FormatOptions,
    format::{
        callback::CallbackFormat, chatwoot::ChatwootFormat, cloud_events::CloudEventsFormat,
        contract::ContractFormat, json::JsonFormat, object,
        standard_webhooks::StandardWebhooksFormat, voice_gateway::VoiceGatewayFormat,
    },
};

/// A sender's format, by name. [`FormatOptions`] replaces parts of it.
///
/// Where an id is derived, [`VerifiedDelivery::derive_id`](crate::VerifiedDelivery::derive_id) makes it,
/// with the window of the options. A conversation that takes two names is written `first/second` (for
/// Chatwoot `first:second`); in both of them `%`, the separator and control characters are
/// percent-encoded, so that no two pairs are written alike. A name of more than 1,024 bytes is replaced by
/// its SHA-256.
///
/// ```
/// use cognigy_core::{FormatOptions, FormatPreset};
///
/// let preset: FormatPreset = "json".parse()?;
/// let options = FormatOptions {
///     id_pointer: Some("/order/id".parse()?),
///     ..FormatOptions::default()
/// };
/// let format = preset.format(options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum FormatPreset {
    /// `native`: the contract's event.
    #[default]
    Native,
    /// `cognigy-callback`: outputs that Cognigy's Webhook Endpoint calls back with.
    ///
    /// `{userId, sessionId, AIOutput: {text, data, traceId, disableSensitiveLogging, source}}`.
    ///
    /// * The type is `cognigy.bot.output`, or `cognigy.activity.` and the text in
    ///   `AIOutput.data._cognigy.event.type`, where there is one.
    /// * The contact is `userId`. It is required unless a pointer finds the contact.
    /// * The conversation is `userId` and `sessionId`. They are required unless a pointer finds it: within
    ///   one organisation, session ids are unique only together with the user's id.
    /// * The id is derived from the body. `traceId` is that of the incoming message, which may have several
    ///   outputs.
    /// * The time is that of receipt.
    /// * Nothing else is required: an Output Transformer may replace `AIOutput` by anything.
    /// * The event is sensitive if `disableSensitiveLogging` is there, in `AIOutput` or beside it, and is
    ///   neither `false` nor `null`.
    CognigyCallback,
    /// `cognigy-http-node`: the contract's event as authors of flows send it with the HTTP Request node.
    ///
    /// * Types are open. For the contract's four types the contract's rules for the payload hold; an
    ///   event of another type needs none.
    /// * Each field has a second name: `event_id`, `time`, `event` (for `type`), `data` (for `payload`),
    ///   `external_id`, `user_id`, `session_id`. Both at once are taken if they say the same.
    /// * The contact is `externalId`, or `externalId` in the payload, or else `userId`.
    /// * The conversation is `userId` and `sessionId`, or `/sessionId` where there is no `userId`.
    /// * The media type does not matter: the node sends JSON as a form unless its author sets a header.
    CognigyHttpNode,
    /// `voice-gateway`: statuses and events of calls.
    ///
    /// Two shapes: the status of a call, `{call_sid, call_status, direction, from, to, …}`, and an event of a
    /// call, `{event, payload: {call_sid, …}, msgid}`.
    ///
    /// * The type is `voice.call.` and `call_status`, or `voice.` and `event` in lower case.
    /// * The id is derived from `call_sid` and the body. An event of a call has `msgid` where that is there.
    /// * The contact is `customer_data.externalId`, which an outbound call is given as its `tag`; or else the
    ///   telephone number of the other side: `from` of an inbound call, `to` of an outbound one. A number is
    ///   up to 15 digits (E.164), with or without `+`, by itself or in a `sip:` or `tel:` URI; what is
    ///   something else, such as `anonymous`, is no contact.
    /// * The conversation is `call_sid`.
    /// * The time is that of receipt: a repetition repeats the signed time of the first sending.
    /// * An event with `payload.digits` is sensitive: what a caller dials may be a PIN.
    VoiceGateway,
    /// `cloudevents`: CloudEvents 1.0 in structured, binary and batched mode.
    ///
    /// * **Mode.** `application/cloudevents-batch+json` is a batch, `application/cloudevents+json` one
    ///   event. With another media type, or none, the event is binary if one of the headers `ce-id`,
    ///   `ce-source`, `ce-specversion` and `ce-type` is there; otherwise the body is looked at, and an object
    ///   or an array of objects with these four members is taken as one event or as a batch. An event format
    ///   other than JSON is refused with 415.
    /// * **Id.** `source`, a `|`, and `id`: together they identify an event. A URI cannot hold a `|`. Where
    ///   `source` holds one all the same, or the two are too long for an id, the id is the SHA-256 of both.
    /// * **Type and time** are `type` and `time`, or the time of receipt where there is no `time`.
    /// * **Contact.** The extension attributes `externalid` (in the CRM) and `userid` (at the sender).
    /// * **Conversation.** `cognigy_session_id` in the data, which Live Agent sends, or else `subject`.
    /// * **Data** has to be JSON in binary mode, too: it is the event's body. The attributes are in the headers
    ///   that are kept with it.
    /// * **Pointers** look in the event as its JSON format writes it, in each mode: `/data/customer` is found
    ///   in the body of a binary event. What is not found there is looked for in that body, `/customer`.
    /// * **A batch** is taken as a whole or not at all. An error names the event by its index, from 0.
    /// * The answer to what was taken is 202: it is stored, and not processed yet.
    CloudEvents,
    /// `standard-webhooks`: `{type, timestamp, data}`, or the contract's event, with open types and the
    /// id in a header.
    ///
    /// * The id is the header `webhook-id`, also where the body has an `eventId`: the sender's signature
    ///   covers it, and a repetition repeats it.
    /// * The type is `type`, or `event` where there is no `type`.
    /// * The time is `timestamp`, or that of receipt where there is none: the specification only recommends it.
    /// * `data` may be any value; `payload` is looked at where there is no `data`. For the contract's four
    ///   types the contract's rules for the payload hold.
    /// * The contact is `externalId`, at the top or in `data`, or else `userId`, at the top or in `data`.
    /// * The conversation is the user's id and `sessionId`, at the top or in `data`.
    StandardWebhooks,
    /// `chatwoot`: conversations and messages of Chatwoot.
    ///
    /// `{event, id, created_at, account, …}`.
    ///
    /// * The type is `chatwoot.` and `event`.
    /// * The id is the header `X-Chatwoot-Delivery`, which repetitions repeat. Where it is absent, the id is
    ///   made of the account's id, `event`, `id` and `updated_at`, if all are there; or else it is derived from
    ///   the body.
    /// * The time is `created_at`, or that of receipt.
    /// * The contact's id in the CRM is `identifier`, the field of Chatwoot for ids of other systems; its id at
    ///   the sender is `email`, or else `id`. They are those of `sender`; of a message that an agent or a bot
    ///   wrote, those of `conversation.meta.sender`; of a conversation's event, those of `meta.sender`; and of
    ///   a contact's event, its own.
    /// * The conversation is `account.id:conversation.id`; a conversation's event is itself the conversation.
    /// * Private notes and outgoing messages are events like any others. Handlers tell them by `private` and
    ///   `message_type`.
    Chatwoot,
    /// `json`: any JSON value, as one event.
    ///
    /// * The id is derived from the body unless a pointer is set.
    /// * The type is `json` unless a pointer or a constant says otherwise.
    /// * The time is that of receipt unless a pointer finds one.
    /// * Contact and conversation are what pointers find.
    Json,
}

/// The text names no [`FormatPreset`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}", FormatPreset::NAMES.join(", "))]
pub struct UnknownPreset;

/// The constant type cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the type of events {0}")]
pub struct InvalidEventType(String);

impl FormatPreset {
    /// Every preset.
    pub const ALL: [Self; 8] = [
        Self::Native,
        Self::CognigyCallback,
        Self::CognigyHttpNode,
        Self::VoiceGateway,
        Self::CloudEvents,
        Self::StandardWebhooks,
        Self::Chatwoot,
        Self::Json,
    ];

    /// Their names, in the order of [`ALL`](Self::ALL).
    pub const NAMES: [&'static str; 8] = [
        "native",
        "cognigy-callback",
        "cognigy-http-node",
        "voice-gateway",
        "cloudevents",
        "standard-webhooks",
        "chatwoot",
        "json",
    ];

    /// The name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The format, with the parts replaced that `options` names.
    ///
    /// # Errors
    ///
    /// The constant type is empty, too long, or has control characters.
    pub fn format(self, options: FormatOptions) -> Result<Arc<dyn EventFormat>, InvalidEventType> {
        if let Some(kind) = &options.event_type {
            object::kind_named(kind.as_str()).map_err(InvalidEventType)?;
        }
        Ok(match self {
            Self::Native if options.replaces_nothing() => Arc::new(CognigyFormat),
            Self::Native => Arc::new(ContractFormat::native(options)),
            Self::CognigyCallback => Arc::new(CallbackFormat::new(options)),
            Self::CognigyHttpNode => Arc::new(ContractFormat::http_node(options)),
            Self::VoiceGateway => Arc::new(VoiceGatewayFormat::new(options)),
            Self::CloudEvents => Arc::new(CloudEventsFormat::new(options)),
            Self::StandardWebhooks => Arc::new(StandardWebhooksFormat::new(options)),
            Self::Chatwoot => Arc::new(ChatwootFormat::new(options)),
            Self::Json => Arc::new(JsonFormat::new(options)),
        })
    }
}

impl FromStr for FormatPreset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == name).ok_or(UnknownPreset)
    }
}

impl fmt::Display for FormatPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;

    #[test]
    fn names_read_back_and_each_has_a_format() {
        for (preset, name) in FormatPreset::ALL.into_iter().zip(FormatPreset::NAMES) {
            assert_eq!((preset.to_string().parse(), preset.as_str()), (Ok(preset), name));
            let format = preset.format(FormatOptions::default()).ok().unwrap();
            let expected = if preset == FormatPreset::CloudEvents { 202 } else { 200 };
            assert_eq!(format.accepted_status(), expected, "{name}");
        }
        let unknown = "JSON".parse::<FormatPreset>().unwrap_err();
        assert!(unknown.to_string().contains("standard-webhooks"), "{unknown}");
    }

    #[test]
    fn a_constant_type_that_cannot_be_one_is_refused() {
        for name in ["", "a\n", &"x".repeat(257)] {
            let event_type = Some(EventType::from_name(name));
            let options = FormatOptions { event_type, ..FormatOptions::default() };
            assert!(FormatPreset::Json.format(options).is_err(), "{name:?}");
        }
    }
}
