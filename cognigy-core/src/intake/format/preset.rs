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

/// A sender's format, by name.
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
    CognigyCallback,
    /// `cognigy-http-node`: the contract's event as authors of flows send it with the HTTP Request node.
    CognigyHttpNode,
    /// `voice-gateway`: statuses and events of calls.
    VoiceGateway,
    /// `cloudevents`: CloudEvents 1.0 in structured, binary and batched mode.
    CloudEvents,
    /// `standard-webhooks`: `{type, timestamp, data}`, with the id in a header.
    StandardWebhooks,
    /// `chatwoot`: conversations and messages of Chatwoot.
    Chatwoot,
    /// `json`: any JSON.
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
