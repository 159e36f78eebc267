//! How the body of a verified delivery becomes one or several events.

pub use cognigy_core::{
    CognigyFormat, DerivedId, EventFormat, FieldError, FormatOptions, FormatPreset,
    HandshakeRefused, InvalidContent, InvalidEvent, InvalidEventType, InvalidJsonPointer,
    JsonPointer, MAX_CONTEXT_BYTES, MAX_EVENTS, MAX_JSON_DEPTH, ReadEvent, UnknownPreset,
    VerifiedDelivery, WebhookHandshake, same_content,
};
