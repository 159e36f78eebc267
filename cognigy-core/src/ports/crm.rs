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
#[async_trait]
pub trait CrmClient: Send + Sync + 'static {
    /// Finds the contact that `query` names.
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
