//! The CRM port: who is the person behind an event?

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    event::{DecodeError, TraceParent, decode},
    ports::Failure,
};

/// What to ask the CRM.
///
/// ```
/// use cognigy_core::testing::World;
///
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// let asked = &world.crm.queries()[0];
/// assert_eq!(asked.contact_key, "c-e1");
/// assert_eq!(asked.idempotency_key, "cognigy/e1/1");
/// assert!(!asked.fresh); // a remembered answer will do
///
/// world.replay("e1");
/// assert!(world.crm.queries()[1].fresh);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactQuery {
    /// The contact key: any non-empty text. Hostile until encoded.
    pub contact_key: String,
    /// The same for every attempt of one run; see
    /// [`Event::idempotency_key`](crate::Event::idempotency_key).
    pub idempotency_key: String,
    /// Whether only an answer will do that the CRM gives from now on: none that was remembered, nor
    /// one that is already on its way. Set for `PROFILE_UPDATED`, which says that what was known is
    /// out of date, and for replays, which are asked for because something has changed. A client
    /// that asks the CRM every time need not look at it.
    pub fresh: bool,
    /// The span of the look-up, for the header `traceparent`, where there are traces.
    pub traceparent: Option<TraceParent>,
}

/// What the CRM knows of a person: its JSON answer, kept as it was written.
///
/// ```
/// use cognigy_core::Contact;
///
/// #[derive(serde::Deserialize)]
/// struct Person {
///     name: String,
/// }
///
/// let contact = Contact::from_json(r#"{"name":"Ada","score":0.10}"#)?;
/// let person: Person = contact.read()?;
/// assert_eq!(person.name, "Ada");
/// assert_eq!(contact.as_json(), r#"{"name":"Ada","score":0.10}"#); // as the CRM wrote it
/// assert!(Contact::from_json("<html>").is_err());
/// # Ok::<_, cognigy_core::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact(Arc<str>);

impl Contact {
    /// Takes the CRM's answer, which must be one JSON value.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn from_json(json: &str) -> Result<Self, DecodeError> {
        decode::<Box<RawValue>>("the contact", json.as_bytes()).map(|raw| Self(raw.get().into()))
    }

    /// The answer's JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// The answer as a type of yours.
    ///
    /// # Errors
    /// It does not fit the type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        decode("the contact", self.0.as_bytes())
    }
}

impl Serialize for Contact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl fmt::Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Looks people up.
///
/// ## Contract
/// * `Ok(None)` means that the CRM knows no contact by that key: an answer, not an error.
/// * A `Transient` failure may be tried again; a `Permanent` one is not.
/// * Every call ends within a bound of its own; it may be dropped at any time, and be repeated.
///
/// ```
/// use std::collections::HashMap;
///
/// use async_trait::async_trait;
/// use cognigy_core::{Contact, ContactQuery, CrmClient, Failure, State, testing::World};
///
/// /// The contacts of a small company, in memory.
/// struct AddressBook(HashMap<String, Contact>);
///
/// #[async_trait]
/// impl CrmClient for AddressBook {
///     async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
///         // A client over a network ends in Failure::transient, for example, when it gets no answer.
///         Ok(self.0.get(&query.contact_key).cloned())
///     }
/// }
///
/// let ada = Contact::from_json(r#"{"name":"Ada"}"#)?;
/// let book = AddressBook(HashMap::from([("c-e1".to_owned(), ada)]));
/// # use cognigy_core::{testing::{ManualClock, sample}, memory::MemoryStore};
/// # let clock = ManualClock::new(sample::start());
/// let mut world = World::built(clock, MemoryStore::new(), |pipeline| pipeline.crm(book));
/// world.start_worker();
/// world.deliver("e1"); // of contact c-e1
/// world.deliver("e2"); // of contact c-e2
/// world.pass(std::time::Duration::from_secs(1));
/// assert!(world.find("e1").contact.is_some());
/// assert!(world.find("e2").contact.is_none());
/// # Ok::<_, cognigy_core::DecodeError>(())
/// ```
#[async_trait]
pub trait CrmClient: Send + Sync + 'static {
    /// Finds the contact that `query` names.
    ///
    /// # Errors
    /// [`Failure::transient`] where a later look-up may succeed, and with [`of_service`](Failure::of_service) where the whole
    /// CRM is out of reach: a breaker then opens. [`Failure::permanent`] where it will fail in the same way: the event is
    /// dead-lettered. [`Failure::ambiguous`] where the CRM knows several contacts:
    /// [`on_ambiguous`](crate::PipelineBuilder::on_ambiguous) decides.
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure>;
}

#[async_trait]
impl<C: CrmClient + ?Sized> CrmClient for Arc<C> {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        (**self).find_contact(query).await
    }
}

/// No CRM: no contact is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCrm;

#[async_trait]
impl CrmClient for NoCrm {
    async fn find_contact(&self, _query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        Ok(None)
    }
}
