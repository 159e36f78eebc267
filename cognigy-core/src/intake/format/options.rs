//! What an operator sets about a format, whatever its preset.

use std::time::Duration;

use crate::{event::EventType, intake::JsonPointer};

/// Settings that replace parts of a [`FormatPreset`](crate::FormatPreset). The default replaces
/// nothing.
///
/// A pointer comes before what the preset reads. What it finds:
///
/// | pointer | takes | finds nothing, or `null` | finds something else |
/// |---|---|---|---|
/// | `id` | a string that can be an id; a number, as it is written | 400: an id is never made up where one was to be given | 400 |
/// | `type` | a string that is not empty | the constant, or else the preset's own type | 400 |
/// | `time` | what [`EventTime`](crate::EventTime) takes | the preset's own time | 400 |
/// | `contact` | a string or a number: the contact's id in the CRM | the preset's own contact (an empty string, too) | 400 |
/// | `conversation` | a string or a number | the preset's own conversation (an empty string, too) | 400 |
///
/// Each 400 names the pointer as its field. A key on the way that comes twice is a 400 as well.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{FormatOptions, FormatPreset};
///
/// // Calls back without an id: the same content within ten minutes is the same event.
/// let options = FormatOptions {
///     derived_id_window: Duration::from_secs(600),
///     contact_pointer: Some("/customer/number".parse()?),
///     ..FormatOptions::default()
/// };
/// let format = FormatPreset::CognigyCallback.format(options)?;
/// # let _ = format;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// For how long a delivery without an id is taken for a repetition of one with the same content;
    /// see [`VerifiedDelivery::derive_id`](crate::VerifiedDelivery::derive_id). Zero unless set: each
    /// delivery is an event of its own.
    pub derived_id_window: Duration,
    /// Where the event's id is.
    pub id_pointer: Option<JsonPointer>,
    /// Where the event's type is.
    pub type_pointer: Option<JsonPointer>,
    /// Where the event's time is.
    pub time_pointer: Option<JsonPointer>,
    /// Where the contact's id in the CRM is.
    pub contact_pointer: Option<JsonPointer>,
    /// Where the name of the conversation is.
    pub conversation_pointer: Option<JsonPointer>,
    /// The type of every event, unless the type pointer finds another one.
    pub event_type: Option<EventType>,
}

impl FormatOptions {
    /// Whether every field is read as the preset says.
    pub(super) fn replaces_nothing(&self) -> bool {
        let Self {
            derived_id_window: _,
            id_pointer,
            type_pointer,
            time_pointer,
            contact_pointer,
            conversation_pointer,
            event_type,
        } = self;
        let pointers =
            [id_pointer, type_pointer, time_pointer, contact_pointer, conversation_pointer];
        event_type.is_none() && pointers.into_iter().all(Option::is_none)
    }
}
