//! What a handler knows beside the payload.

use std::{fmt, sync::Arc};

use serde::de::DeserializeOwned;

use crate::{
    event::{DecodeError, Event},
    ports::Contact,
};

/// The event that a handler is called for, its contact, and the state that handlers share.
///
/// ```
/// use cognigy_core::{Correlation, Handlers, UserInput, testing::World};
/// use serde::Deserialize;
///
/// /// What handlers share, such as a client of another service.
/// struct Mailer;
///
/// impl Mailer {
///     fn send(&self, key: &str, name: &str) {
///         println!("{key}: a mail to {name}");
///     }
/// }
///
/// #[derive(Deserialize)]
/// struct Person {
///     name: String,
/// }
///
/// let handlers = Handlers::with_state(Mailer).on(|_: UserInput, cx| async move {
///     match cx.contact_as::<Person>()? {
///         Some(person) => cx.state().send(&cx.idempotency_key(), &person.name),
///         None => assert_ne!(cx.event().correlation(), Correlation::Matched),
///     }
///     Ok(())
/// });
/// let mut world = World::start(handlers);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// # assert_eq!(world.state("e1"), cognigy_core::State::Processed);
/// ```
pub struct HandlerContext<S = ()> {
    event: Arc<Event>,
    contact: Option<Contact>,
    state: Arc<S>,
}

impl<S> HandlerContext<S> {
    pub(super) fn new(event: Arc<Event>, contact: Option<Contact>, state: Arc<S>) -> Self {
        Self { event, contact, state }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// What the CRM knows of the person. None where it knows nothing or was not asked:
    /// [`Event::correlation`] tells which.
    #[must_use]
    pub fn contact(&self) -> Option<&Contact> {
        self.contact.as_ref()
    }

    /// What the CRM knows of the person as a type of yours.
    ///
    /// # Errors
    /// The CRM's answer does not fit the type.
    pub fn contact_as<T: DeserializeOwned>(&self) -> Result<Option<T>, DecodeError> {
        self.contact.as_ref().map(Contact::read).transpose()
    }

    /// The state that was given to [`Handlers::with_state`](crate::Handlers::with_state).
    #[must_use]
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The same for every attempt of one run: handlers run at least once, so hand it to services that drop
    /// repeated requests. See [`Event::idempotency_key`].
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.event.idempotency_key()
    }
}

impl<S> Clone for HandlerContext<S> {
    fn clone(&self) -> Self {
        Self {
            event: Arc::clone(&self.event),
            contact: self.contact.clone(),
            state: Arc::clone(&self.state),
        }
    }
}

impl<S> fmt::Debug for HandlerContext<S> {
    /// Without the content of the event and of the contact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerContext").field("event", self.event.key()).finish_non_exhaustive()
    }
}
