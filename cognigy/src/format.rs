//! How the body of a verified delivery becomes one or several events.
//!
//! ```
//! use cognigy::format::{FormatOptions, FormatPreset};
//!
//! // Any JSON, with the fields where these pointers say.
//! let options = FormatOptions {
//!     id_pointer: Some("/order/id".parse()?),
//!     contact_pointer: Some("/order/customer".parse()?),
//!     event_type: Some(cognigy::EventType::from_name("ORDER_PLACED")),
//!     ..FormatOptions::default()
//! };
//! let format = FormatPreset::Json.format(options)?;
//! # let _ = format;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

pub use cognigy_core::{
    CognigyFormat, DerivedId, EventFormat, FieldError, FormatOptions, FormatPreset,
    HandshakeRefused, InvalidContent, InvalidEvent, InvalidEventType, InvalidJsonPointer,
    JsonPointer, MAX_CONTEXT_BYTES, MAX_EVENTS, MAX_JSON_DEPTH, ReadEvent, UnknownPreset,
    VerifiedDelivery, WebhookHandshake, same_content,
};
