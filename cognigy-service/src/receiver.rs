//! Taking one source's deliveries in, over any web framework.
//!
//! The order of the checks matters. What the head alone decides comes first, then the body within its
//! limits, then a slot, then the pipeline. Only a complete body takes a slot: a body that does not come
//! must not keep other deliveries out.

use std::{net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use cognigy_core::{
    Clock, Headers, Intake, Pipeline, RawDelivery, Received, Reply, Request, TokioClock,
    WebhookHandshake,
};
use futures_util::Stream;

use crate::{
    admission::{Bodies, Budget, Shares, TrustedProxies, UNKNOWN},
    body,
    replies::method_not_allowed,
};

/// How many requests whose bodies are not complete there may be unless set otherwise, of all sources
/// together. One sender may have half of them.
pub const DEFAULT_MAX_UNFINISHED: usize = 4096;

/// What the receivers of one process share: the clock, the trusted proxies, and what one sender may hold
/// of all sources together.
///
/// ```
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
/// use cognigy_service::{Admission, Receiver, admission::TrustedProxies};
///
/// // For a program that puts receivers together itself, with workers in another process.
/// let admission = Admission::new(1)
///     .trusted_proxies(TrustedProxies::new(&["10.0.0.0/8".parse()?]))
///     .max_unfinished(500);
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let receiver = Receiver::new(pipeline, &admission, 100);
/// assert_eq!(receiver.in_flight(), 0);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Admission {
    clock: Arc<dyn Clock>,
    trusted: TrustedProxies,
    unfinished: Arc<Shares>,
    sources: usize,
}

impl Admission {
    /// For `sources` receivers, which divide the memory for bodies. It trusts no proxy and tells the time
    /// by a [`TokioClock`].
    #[must_use]
    pub fn new(sources: usize) -> Self {
        let unfinished = Shares::of_requests(DEFAULT_MAX_UNFINISHED);
        Self {
            clock: Arc::new(TokioClock::new()),
            trusted: TrustedProxies::default(),
            unfinished,
            sources,
        }
    }

    /// Tells the time by `clock`.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Takes the sender's address from `X-Forwarded-For` where one of these proxies has written it.
    #[must_use]
    pub fn trusted_proxies(self, trusted: TrustedProxies) -> Self {
        Self { trusted, ..self }
    }

    /// How many requests whose bodies are not complete there may be at once: as many as connections. One
    /// sender may have half of them. Default: [`DEFAULT_MAX_UNFINISHED`].
    #[must_use]
    pub fn max_unfinished(self, requests: usize) -> Self {
        Self { unfinished: Shares::of_requests(requests), ..self }
    }
}

/// The head of a request.
///
/// ```
/// use std::net::IpAddr;
///
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
/// use cognigy_service::{Admission, Head, Receiver, admission::TrustedProxies};
///
/// let proxies = TrustedProxies::new(&["10.0.0.0/8".parse()?]);
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let receiver = Receiver::new(pipeline, &Admission::new(1).trusted_proxies(proxies), 100);
///
/// let peer: IpAddr = "10.0.0.2".parse()?; // the proxy
/// let head = Head::new([("X-Forwarded-For", "203.0.113.9")])
///     .method("POST")
///     .target("/webhooks/cognigy")
///     .peer(peer);
/// assert_eq!(receiver.sender(&head), "203.0.113.9".parse::<IpAddr>()?);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Head<'h, H> {
    headers: H,
    method: &'h str,
    target: &'h str,
    peer: Option<IpAddr>,
}

impl<'h, H: Headers> Head<'h, H> {
    /// The head of a `POST`: its headers, such as a reference to the header map of a web framework.
    pub fn new(headers: H) -> Self {
        Self { headers, method: "POST", target: "", peer: None }
    }

    /// The method.
    #[must_use]
    pub fn method(self, method: &'h str) -> Self {
        Self { method, ..self }
    }

    /// The path and the query as received, for sources whose credential is in there.
    #[must_use]
    pub fn target(self, target: &'h str) -> Self {
        Self { target, ..self }
    }

    /// The address of the other end of the connection. Without it, all senders count as one where each
    /// may hold a share.
    #[must_use]
    pub fn peer(self, address: impl Into<Option<IpAddr>>) -> Self {
        Self { peer: address.into(), ..self }
    }
}

/// Takes the deliveries of one source in. Cheap to clone; all clones share the limits.
///
/// Of each delivery it bounds the length, the time from the head to the last byte (10 s), and for bodies
/// over 16 KiB also the rate (16 KiB/s on average, after 2 s). Bodies in memory have a budget: eight times
/// the longest body or 32 MiB divided by the number of sources, whichever is more. One sender may hold half
/// of it with bodies that are not complete. What goes beyond a budget is answered with 503 and
/// `Retry-After`.
///
/// ```
/// use std::convert::Infallible;
///
/// use bytes::Bytes;
/// use cognigy_core::{Pipeline, SignatureScheme, memory::MemoryStore, sign, testing::sample};
/// use cognigy_service::{Admission, Head, Receiver};
/// use futures_util::stream;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::builder(sample::verifier())
///     .store(MemoryStore::new())
///     .max_body_bytes(1000)
///     .build()?;
/// let receiver = Receiver::new(pipeline, &Admission::new(1), 100);
///
/// // A route hands the head and the body over as they arrive, whatever the method is.
/// let body = sample::body("e1");
/// let signature = sign(&sample::secret(), SignatureScheme::Base64, &body);
/// let head = Head::new([("X-Cognigy-Signature", signature.as_str())]);
/// let reply = receiver.answer(head, stream::iter([Ok::<_, Infallible>(body)])).await;
/// assert_eq!(reply.status(), 200);
///
/// let endless = stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 100])));
/// assert_eq!(receiver.answer(head, endless).await.status(), 413);
/// let none = stream::empty::<Result<Bytes, Infallible>>();
/// assert_eq!(receiver.answer(head.method("GET"), none).await.status(), 405);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    pipeline: Pipeline,
    clock: Arc<dyn Clock>,
    trusted: TrustedProxies,
    bodies: Bodies,
    slots: Budget,
}

impl Receiver {
    /// Takes deliveries in for `pipeline`, whose longest body is the limit. At most `max_in_flight`
    /// deliveries whose bodies are complete may wait for the store at once.
    #[must_use]
    pub fn new(pipeline: Pipeline, admission: &Admission, max_in_flight: usize) -> Self {
        let Admission { clock, trusted, unfinished, sources } = admission.clone();
        let bodies = Bodies::new(pipeline.max_body_bytes(), sources, &unfinished);
        let slots = Budget::of(max_in_flight);
        Self(Arc::new(Inner { pipeline, clock, trusted, bodies, slots }))
    }

    /// The pipeline that it takes deliveries in for.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline {
        &self.0.pipeline
    }

    /// How many deliveries are in flight: their bodies are complete, and they have no answer yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.slots.used()
    }

    /// The same number at any later time, for a metric. It does not hold the receiver: a pipeline's observer
    /// that held the receiver of its own pipeline would keep the store from ever being closed.
    pub fn watch_in_flight(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let slots = self.0.slots.clone();
        move || slots.used()
    }

    /// The sender's address, which limits and log lines use: the peer's, or the one that a trusted proxy
    /// names.
    pub fn sender<H: Headers>(&self, head: &Head<'_, H>) -> IpAddr {
        self.0.trusted.sender(head.peer.unwrap_or(UNKNOWN), &head.headers)
    }

    /// Answers a request at the source's path, whatever its method is: takes the delivery of a `POST` in,
    /// answers the `OPTIONS` of a sender that [asks before it sends](cognigy_core::EventFormat::shakes_hands),
    /// and refuses every other method.
    pub async fn answer<H, E>(
        &self,
        head: Head<'_, H>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Reply
    where
        H: Headers + Clone + Send,
    {
        let shakes_hands = self.0.pipeline.source().shakes_hands();
        match head.method {
            "POST" => self.receive(head, body).await,
            "OPTIONS" if shakes_hands => handshake(&head.headers),
            _ => method_not_allowed(if shakes_hands { "POST, OPTIONS" } else { "POST" }),
        }
    }

    /// Takes a delivery in: the head and the body as it arrives. Tells the pipeline's observer what became
    /// of it, and yields the answer to the sender. Once the answer says success, the event is durable.
    pub async fn receive<H, E>(
        &self,
        head: Head<'_, H>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Reply
    where
        H: Headers + Clone + Send,
    {
        self.receive_with(head, body, |_, _| ()).await
    }

    /// As [`receive`](Self::receive). If the delivery is not authenticated, `refused` is shown the request
    /// and its sender, before the observer is told.
    pub async fn receive_with<H, E>(
        &self,
        head: Head<'_, H>,
        body: impl Stream<Item = Result<Bytes, E>>,
        refused: impl FnOnce(&Request<'_>, IpAddr),
    ) -> Reply
    where
        H: Headers + Clone + Send,
    {
        let began = Instant::now();
        let pipeline = &self.0.pipeline;
        let sender = self.sender(&head);
        let taken = self.take(head, body, sender, refused).await;
        let received = taken.unwrap_or_else(Received::from);
        received.in_scope(|intake| {
            pipeline.observe_delivery(intake, Some(sender), Some(began.elapsed()));
        });
        pipeline.source().reply(&received.intake)
    }

    /// `Err` is the outcome of a delivery that is refused before the pipeline sees it.
    async fn take<H, E>(
        &self,
        head: Head<'_, H>,
        body: impl Stream<Item = Result<Bytes, E>>,
        sender: IpAddr,
        refused: impl FnOnce(&Request<'_>, IpAddr),
    ) -> Result<Received, Intake>
    where
        H: Headers + Clone + Send,
    {
        let Inner { pipeline, clock, bodies, slots, .. } = &*self.0;
        let Head { headers, target, .. } = head;
        if let Some(refused) = pipeline.refuse_by_head(headers.clone()) {
            return Err(refused);
        }
        let announced = announced(&headers);
        // The reservation lasts until the event is stored, since its body is in memory until then.
        let (body, _reservation) = body::read(bodies, body, announced, sender).await?;
        let _slot = slots.reserve(1)?;
        let raw = RawDelivery::new(headers, body).target(target).peer(sender);
        let (now, tried) = (clock.now(), raw.clone());
        let received = pipeline.take(raw, now).await;
        if matches!(received.intake, Intake::Unsigned(_)) {
            refused(&tried.request(now), sender);
        }
        Ok(received)
    }
}

/// The length that the head announces, in bytes.
fn announced(headers: &impl Headers) -> Option<usize> {
    let mut first = None;
    headers.visit("content-length", &mut |value| {
        first.get_or_insert(std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()));
    });
    first.flatten()
}

/// Answers a sender of CloudEvents that asks whether it may send (CloudEvents webhooks, section 4). The
/// callback URL that it may name is not fetched: anyone can ask.
fn handshake(headers: &impl Headers) -> Reply {
    let header = |name: &str| {
        let mut values = Vec::new();
        headers.visit(name, &mut |value| values.push(value.to_owned()));
        let value = values.pop().filter(|_| values.is_empty());
        value.and_then(|value| String::from_utf8(value).ok())
    };
    let (origin, rate) = (header("webhook-request-origin"), header("webhook-request-rate"));
    let callback = header("webhook-request-callback");
    let asked = WebhookHandshake {
        origin: origin.as_deref(),
        rate: rate.as_deref(),
        callback: callback.as_deref(),
    };
    match asked.answer() {
        Ok(headers) => headers
            .into_iter()
            .fold(Reply::empty(200), |reply, (name, value)| reply.with_header(name, value)),
        Err(error) => Reply::problem(400, "Bad Request", &error.to_string()),
    }
}
