//! Where deliveries come from: how they are authenticated, and how a body becomes events.

use std::{fmt, sync::Arc};

use crate::{
    event::{
        DeliveryContext, EventKey, IncomingEvent, InvalidEvent, SourceName, Timestamp, TraceParent,
    },
    intake::{
        Authenticator, CognigyFormat, DeliveryIdentity, EventFormat, Headers, Intake, MAX_EVENTS,
        RawDelivery, ReadEvent, Reply, VerifiedDelivery, keep,
    },
};

/// A sender of events and all that is particular to it.
///
/// ```
/// use cognigy_core::{
///     CredentialPlace, CredentialVerifier, FormatOptions, FormatPreset, Pipeline, Secret, Source,
///     memory::MemoryStore,
/// };
///
/// // Orders of a shop: any JSON, with the fields where these pointers say.
/// let key = Secret::new("the key of the shop")?;
/// let options = FormatOptions {
///     id_pointer: Some("/order/id".parse()?),
///     contact_pointer: Some("/order/customer".parse()?),
///     event_type: Some(cognigy_core::EventType::from_name("ORDER_PLACED")),
///     ..FormatOptions::default()
/// };
/// let source = Source::new(
///     "shop".parse()?,
///     CredentialVerifier::new(CredentialPlace::Header("X-API-Key".into()), &key),
///     FormatPreset::Json.format(options)?,
/// )
/// .keep_headers(["x-shop-*"]); // a handler reads them in `Event::context`
/// let pipeline = Pipeline::builder(source).store(MemoryStore::new()).build()?;
/// assert_eq!(pipeline.source().name().as_str(), "shop");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Source {
    name: SourceName,
    /// None for a source that takes no deliveries.
    authenticator: Option<Arc<dyn Authenticator>>,
    format: Arc<dyn EventFormat>,
    /// The headers that are kept: those of the format, and those that were added.
    kept: Vec<String>,
    trusts_traceparent: bool,
}

impl Source {
    /// A source whose sender is known by `authenticator` and whose deliveries are read by `format`.
    pub fn new(
        name: SourceName,
        authenticator: impl Authenticator,
        format: impl EventFormat,
    ) -> Self {
        let authenticator: Arc<dyn Authenticator> = Arc::new(authenticator);
        Self { authenticator: Some(authenticator), ..Self::without_intake(name, format) }
    }

    /// The source of the contract: named `cognigy`, in Cognigy's event format.
    #[must_use]
    pub fn cognigy(authenticator: impl Authenticator) -> Self {
        Self::new(SourceName::default(), authenticator, CognigyFormat)
    }

    /// A source that takes no deliveries. Its stored events can be processed and replayed; `format`
    /// reads what comes back from the quarantine or from a queue of dead letters.
    pub fn without_intake(name: SourceName, format: impl EventFormat) -> Self {
        let kept = format.context_headers().iter().map(|name| (*name).to_owned()).collect();
        Self {
            name,
            authenticator: None,
            format: Arc::new(format),
            kept,
            trusts_traceparent: false,
        }
    }

    /// Keeps these headers beside each body, besides those that the format needs: names, or
    /// beginnings of names with `*` behind them. Never name one that holds a credential.
    #[must_use]
    pub fn keep_headers<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.kept.extend(names.into_iter().map(Into::into));
        self
    }

    /// Whether the traces of its deliveries go on where the header `traceparent` of its sender says. An
    /// authenticated sender decides then which deliveries are recorded, whatever share is set. Default:
    /// no.
    #[must_use]
    pub fn trust_traceparent(self, trust: bool) -> Self {
        Self { trusts_traceparent: trust, ..self }
    }

    /// The answer to a delivery, as the source's sender wants it: the status of its format, and one text
    /// for whatever was wrong with a credential.
    #[must_use]
    pub fn reply(&self, intake: &Intake) -> Reply {
        let reply = Reply::from(intake);
        match (intake, &self.authenticator) {
            (Intake::Unsigned(_), Some(authenticator)) => {
                reply.unauthorized(authenticator.refusal(), authenticator.challenge())
            }
            _ if reply.status() == 200 => reply.with_status(self.format.accepted_status()),
            _ => reply,
        }
    }

    /// Whether its sender may ask with `OPTIONS` whether it may deliver, as its format says.
    #[must_use]
    pub fn shakes_hands(&self) -> bool {
        self.format.shakes_hands()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Lets `raw`, received at `now`, through if it comes from the source's sender.
    ///
    /// # Errors
    ///
    /// It does not, or the source takes no deliveries, or the headers that have to be kept are too
    /// large.
    pub fn verify<H: Headers>(
        &self,
        raw: RawDelivery<H>,
        now: Timestamp,
    ) -> Result<VerifiedDelivery, Intake> {
        let authenticator = self.authenticator.as_deref().ok_or(Intake::Closed)?;
        let matched = authenticator.authenticate(&raw.request(now)).map_err(Intake::Unsigned)?;
        let context = match self.kept.is_empty() {
            true => DeliveryContext::default(),
            false => keep(&raw.headers, &self.kept).map_err(|_| Intake::HeadersTooLarge)?,
        };
        let traceparent = self.trusts_traceparent.then(|| traceparent(&raw.headers)).flatten();
        Ok(VerifiedDelivery {
            traceparent,
            source: self.name.clone(),
            body: raw.body,
            context,
            matched,
            received_at: now,
            identity: DeliveryIdentity::New,
        })
    }

    /// The events of a delivery that was verified, in their order.
    ///
    /// # Errors
    ///
    /// The delivery is not made of valid events, or holds more than [`MAX_EVENTS`].
    pub fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<IncomingEvent>, InvalidEvent> {
        let events = self.format.read(delivery)?;
        if events.len() > MAX_EVENTS {
            let message = format!("holds more than {MAX_EVENTS} events");
            return Err(InvalidEvent::new("body", message));
        }
        let of_delivery = |ReadEvent { parts, body, earlier }: ReadEvent| IncomingEvent {
            key: EventKey { source: delivery.source.clone(), id: parts.id.clone() },
            parts,
            body,
            context: delivery.context.clone(),
            earlier,
        };
        Ok(events.into_iter().map(of_delivery).collect())
    }
}

/// The header `traceparent`, if it came once and is valid.
fn traceparent(headers: &dyn Headers) -> Option<TraceParent> {
    let (mut count, mut found) = (0, None);
    headers.visit("traceparent", &mut |value| {
        count += 1;
        found = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
    });
    found.filter(|_| count == 1)
}

impl<A: Authenticator> From<A> for Source {
    fn from(authenticator: A) -> Self {
        Self::cognigy(authenticator)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{Secret, SignatureVerifier};

    #[test]
    fn a_source_shows_its_name_and_no_secret() {
        let verifier = SignatureVerifier::new(&Secret::new("marked-secret").unwrap());
        let source = Source::new("crm".parse().unwrap(), verifier, CognigyFormat);
        assert_eq!(source.name().as_str(), "crm");
        assert_eq!(format!("{source:?}"), r#"Source { name: SourceName("crm"), .. }"#);
    }
}
