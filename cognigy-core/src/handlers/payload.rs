//! Payloads as types: those of the contract's four events, and those of the user's own.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::event::{DecodeError, Event, EventType};

/// A type that the payload of one type of event is read as.
///
/// ```
/// use cognigy_core::EventPayload;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct OrderPlaced {
///     order: u64,
/// }
///
/// impl EventPayload for OrderPlaced {
///     const TYPE: &'static str = "ORDER_PLACED";
/// }
/// ```
///
/// The source has to take such events: the contract's format knows four types and refuses every other one.
/// Of the presets, `cognigy-http-node` is the same format with open types
/// ([`FormatPreset::CognigyHttpNode`](crate::FormatPreset::CognigyHttpNode)), and each of the others has types of its own.
///
/// A format that has no `payload` (a call status, plain JSON) overrides [`read`](Self::read) with
/// [`Event::body_as`].
pub trait EventPayload: DeserializeOwned + Send + 'static {
    /// The name of the type, as [`Event::kind`] has it.
    const TYPE: &'static str;

    /// The type.
    #[must_use]
    fn kind() -> EventType {
        EventType::from_name(Self::TYPE)
    }

    /// Reads it from `event`. Default: from the key `payload` of the body.
    ///
    /// # Errors
    /// The content does not fit.
    fn read(event: &Event) -> Result<Self, DecodeError> {
        event.payload()
    }
}

/// The payload of `DIALOG_STARTED`: an object, of which the contract demands nothing.
///
/// ```
/// use cognigy_core::{DialogStarted, Handlers, testing::World};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Start {
///     channel: Option<String>,
/// }
///
/// let handlers = Handlers::new().on(|DialogStarted(start): DialogStarted<Start>, cx| async move {
///     println!("{} began at {:?}", cx.event().id(), start.channel);
///     Ok(())
/// });
/// let mut world = World::start(handlers);
/// world.deliver_body(
///     r#"{"eventId":"e1","timestamp":0,"type":"DIALOG_STARTED","payload":{"channel":"web"}}"#,
/// );
/// world.pass(std::time::Duration::from_secs(1));
/// # assert_eq!(world.state("e1"), cognigy_core::State::Processed);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DialogStarted<P = Map<String, Value>>(pub P);

/// The payload of `DIALOG_ENDED`: an object, of which the contract demands nothing.
///
/// ```
/// use cognigy_core::{DialogEnded, Handlers, testing::World};
///
/// // Without a type of your own it is a map of JSON values.
/// let handlers = Handlers::new().on(|DialogEnded(end): DialogEnded, cx| async move {
///     println!("{:?} ended because of {:?}", cx.event().conversation(), end.get("reason"));
///     Ok(())
/// });
/// let mut world = World::start(handlers);
/// world.deliver_body(
///     r#"{"eventId":"e1","timestamp":0,"type":"DIALOG_ENDED","payload":{"reason":"timeout"}}"#,
/// );
/// world.pass(std::time::Duration::from_secs(1));
/// # assert_eq!(world.state("e1"), cognigy_core::State::Processed);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct DialogEnded<P = Map<String, Value>>(pub P);

/// The payload of `USER_INPUT_RECEIVED`. A payload type of your own reads what stands beside `input`.
///
/// ```
/// use cognigy_core::{EventPayload, Handlers, UserInput, testing::World};
/// use serde::Deserialize;
///
/// /// What stands beside `input` in the payload is read by a type of your own.
/// #[derive(Deserialize)]
/// struct Said {
///     input: String,
///     language: Option<String>,
/// }
///
/// impl EventPayload for Said {
///     const TYPE: &'static str = UserInput::<String>::TYPE;
/// }
///
/// let handlers = Handlers::new().on(|said: Said, _| async move {
///     println!("{} characters in {:?}", said.input.len(), said.language);
///     Ok(())
/// });
/// let mut world = World::start(handlers);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// # assert_eq!(world.state("e1"), cognigy_core::State::Processed);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct UserInput<I = Value> {
    /// What the user said: any JSON, often a text.
    pub input: I,
}

/// The payload of `PROFILE_UPDATED`. A payload type of your own reads what stands beside `profile`.
///
/// ```
/// use cognigy_core::{Handlers, OrFail, ProfileUpdated, State, testing::World};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Profile {
///     email: String,
/// }
///
/// let handlers = Handlers::new().on(|update: ProfileUpdated<Profile>, _| async move {
///     let (_, domain) = update.profile.email.split_once('@').ok_or("no @").or_permanent("no e-mail")?;
///     println!("a domain of {} characters", domain.len());
///     Ok(())
/// });
/// let mut world = World::start(handlers);
/// world.deliver_body(
///     r#"{"eventId":"e1","timestamp":0,"type":"PROFILE_UPDATED","payload":{"profile":{"email":7}}}"#,
/// );
/// world.pass(std::time::Duration::from_secs(1));
/// assert_eq!(world.state("e1"), State::DeadLettered); // a number is no e-mail address
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ProfileUpdated<P = Value> {
    /// The profile as it is now: any JSON, often an object.
    pub profile: P,
}

impl<P: DeserializeOwned + Send + 'static> EventPayload for DialogStarted<P> {
    const TYPE: &'static str = "DIALOG_STARTED";
}

impl<P: DeserializeOwned + Send + 'static> EventPayload for DialogEnded<P> {
    const TYPE: &'static str = "DIALOG_ENDED";
}

impl<I: DeserializeOwned + Send + 'static> EventPayload for UserInput<I> {
    const TYPE: &'static str = "USER_INPUT_RECEIVED";
}

impl<P: DeserializeOwned + Send + 'static> EventPayload for ProfileUpdated<P> {
    const TYPE: &'static str = "PROFILE_UPDATED";
}
