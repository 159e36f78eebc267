//! What a receiver refuses and in which order, for any web framework. Time is tokio's, paused: a test of
//! ten seconds takes none.
#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use cognigy_core::{
    EventArchive, FormatOptions, FormatPreset, Observation, Observer, Pipeline, Reply, Secret,
    SignatureScheme, Source,
    memory::MemoryStore,
    sign,
    testing::sample::{self, SECRET},
};
use cognigy_service::{Admission, Head, Receiver, admission::TrustedProxies};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::time::Instant;

/// What an observer was told of deliveries: the outcome and the sender.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Observer for Told {
    fn observe(&self, observation: &Observation<'_>) {
        if let Observation::Delivery { intake, peer, duration } = observation {
            assert!(duration.is_some());
            let peer = peer.unwrap().to_string();
            self.0.lock().unwrap().push((intake.as_str(), peer));
        }
    }
}

struct Door {
    store: Arc<MemoryStore>,
    told: Told,
    receiver: Receiver,
}

impl Door {
    fn new(admission: &Admission, max_body_bytes: usize, max_in_flight: usize) -> Self {
        let (store, told) = (Arc::new(MemoryStore::new()), Told::default());
        let pipeline = Pipeline::builder(sample::verifier())
            .store(Arc::clone(&store))
            .observer(told.clone())
            .max_body_bytes(max_body_bytes)
            .build()
            .unwrap();
        let receiver = Receiver::new(pipeline, admission, max_in_flight);
        Self { store, told, receiver }
    }

    fn usual() -> Self {
        Self::new(&Admission::new(1), 1 << 20, 100)
    }

    async fn receive(
        &self,
        headers: &[(&str, &str)],
        body: impl Stream<Item = Result<Bytes, Infallible>>,
        peer: &str,
    ) -> Reply {
        let peer: IpAddr = peer.parse().unwrap();
        let headers: Vec<_> = headers.to_vec();
        self.receiver.receive(Head::new(Pairs(&headers)).peer(peer), body).await
    }

    fn told(&self) -> Vec<(&'static str, String)> {
        self.told.0.lock().unwrap().clone()
    }
}

#[derive(Clone, Copy)]
struct Pairs<'p>(&'p [(&'p str, &'p str)]);

impl cognigy_core::Headers for Pairs<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
    }
}

fn signature(body: &[u8]) -> String {
    sign(&Secret::new(SECRET).unwrap(), SignatureScheme::Base64, body)
}

/// A body that arrives in these pieces.
fn pieces(pieces: Vec<Bytes>) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    stream::iter(pieces.into_iter().map(Ok))
}

/// A body of which `bytes` arrive, and then nothing more.
fn unfinished(bytes: usize) -> impl Stream<Item = Result<Bytes, Infallible>> {
    pieces(vec![Bytes::from(vec![b' '; bytes])]).chain(stream::pending())
}

fn whole(body: &Bytes) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    pieces(vec![body.clone()])
}

const ONE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

#[tokio::test(start_paused = true)]
async fn a_body_may_come_in_pieces_and_is_stored_as_it_came() {
    let door = Door::usual();
    let body = sample::body("e1");
    let signature = signature(&body);
    let headers = [("X-Cognigy-Signature", signature.as_str())];
    let (first, rest) = (body.slice(..7), body.slice(7..));
    let slow = pieces(vec![first]).chain(stream::once(async move {
        tokio::time::sleep(Duration::from_secs(9)).await;
        Ok(rest)
    }));
    let reply = door.receive(&headers, slow, ONE).await;
    assert_eq!(reply.body().as_ref(), br#"{"status":"accepted"}"#);
    let stored = door.store.find(&sample::key("e1")).await.unwrap().unwrap();
    assert_eq!(stored.event.body(), &body);
    assert_eq!(door.told(), [("accepted", ONE.to_owned())]);
    assert_eq!(door.receiver.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_a_408_and_a_large_one_has_to_hurry() {
    let door = Door::usual();
    for (bytes, announced, seconds) in [(5, "100", 10), (0, "100", 10), (5, "1000000", 2)] {
        let began = Instant::now();
        let reply = door.receive(&[("Content-Length", announced)], unfinished(bytes), ONE).await;
        assert_eq!((reply.status(), reply.closes_connection()), (408, true));
        assert_eq!(began.elapsed().as_secs(), seconds, "{bytes} of {announced} bytes");
    }
    assert_eq!(door.told()[0], ("timed_out", ONE.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_a_413_announced_or_counted() {
    let door = Door::new(&Admission::new(1), 1000, 100);
    let never = stream::poll_fn(|_| panic!("no byte of it is read"));
    assert_eq!(door.receive(&[("Content-Length", "1001")], never, ONE).await.status(), 413);
    // Counted as it arrives: it has not ended.
    assert_eq!(door.receive(&[], unfinished(1001), ONE).await.status(), 413);
    let never = stream::poll_fn(|_| panic!("no byte of it is read"));
    assert_eq!(door.receive(&[("Content-Encoding", "gzip")], never, ONE).await.status(), 415);
    let broken = stream::iter([Err::<Bytes, _>("reset")]);
    let reply = door.receiver.receive(Head::new([("x", "y")]), broken).await;
    assert_eq!((reply.status(), reply.closes_connection()), (400, true));
}

#[tokio::test(start_paused = true)]
async fn one_sender_holds_half_of_the_unfinished_requests_and_of_the_memory() {
    let door = Door::new(&Admission::new(1).max_unfinished(4), 1 << 20, 100);
    {
        let mut waiting: Vec<_> =
            (0..2).map(|_| Box::pin(door.receive(&[], unfinished(5), ONE))).collect();
        waiting.iter_mut().for_each(|it| assert!(it.now_or_never().is_none()));
        let refused = door.receive(&[], unfinished(5), ONE).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().any(|(name, _)| name == "Retry-After"));
        assert!(pin!(door.receive(&[], unfinished(5), OTHER)).now_or_never().is_none());
        // A body that is there at once holds nothing.
        let body = sample::body("e1");
        let signature = signature(&body);
        let headers = [("X-Cognigy-Signature", signature.as_str())];
        assert_eq!(door.receive(&headers, whole(&body), ONE).await.status(), 200);
    }
    assert!(
        pin!(door.receive(&[], unfinished(5), ONE)).now_or_never().is_none(),
        "what was held is given back"
    );

    // Memory: 32 MiB for all, of which one sender may hold half.
    let door = Door::usual();
    let hold = |from| Box::pin(door.receive(&[], unfinished(1 << 20), from));
    let mut waiting: Vec<_> = (0..16).map(|_| hold(ONE)).collect();
    waiting.iter_mut().for_each(|it| assert!(it.now_or_never().is_none()));
    assert_eq!(hold(ONE).await.status(), 503);
    let mut more: Vec<_> = (0..16).map(|_| hold(OTHER)).collect();
    more.iter_mut().for_each(|it| assert!(it.now_or_never().is_none()));
    assert_eq!(hold("192.0.2.3").await.status(), 503, "all of it is used");
}

#[tokio::test(start_paused = true)]
async fn only_a_complete_body_takes_a_place_in_flight() {
    let door = Door::new(&Admission::new(1), 1 << 20, 0);
    let mut waiting = pin!(door.receive(&[], unfinished(5), ONE));
    assert!(waiting.as_mut().now_or_never().is_none(), "it is waited for");
    let body = sample::body("e1");
    let signature = signature(&body);
    let headers = [("X-Cognigy-Signature", signature.as_str())];
    let refused = door.receive(&headers, whole(&body), ONE).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(door.told(), [("unavailable", ONE.to_owned())]);
    assert!(door.store.find(&sample::key("e1")).await.unwrap().is_none());
}

#[tokio::test]
async fn the_sender_is_who_a_trusted_proxy_names_and_a_refused_request_is_shown() {
    let trusted = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]);
    let door = Door::new(&Admission::new(1).trusted_proxies(trusted), 1 << 20, 100);
    let forwarded = ("X-Forwarded-For", "198.51.100.1, 203.0.113.7");
    let headers = [forwarded, ("X-Cognigy-Signature", "AAAA")];
    let body = sample::body("e1");
    let mut shown = None;
    let head =
        Head::new(Pairs(&headers)).target("/hook?x=1").peer("10.0.0.1".parse::<IpAddr>().ok());
    let reply = door
        .receiver
        .receive_with(head, whole(&body), |refused, from| {
            shown = Some((refused.body().to_vec(), refused.target().to_owned(), from.to_string()));
        })
        .await;
    assert_eq!(reply.status(), 401);
    assert_eq!(shown, Some((body.to_vec(), "/hook?x=1".into(), "203.0.113.7".into())));
    door.receive(&headers, whole(&body), ONE).await;
    let told = [("unsigned", "203.0.113.7".to_owned()), ("unsigned", ONE.to_owned())];
    assert_eq!(door.told(), told, "a peer that is no trusted proxy is the sender");
}

#[tokio::test]
async fn other_methods_are_refused_and_senders_of_cloud_events_may_ask() {
    let door = Door::usual();
    let ask = async |receiver: &Receiver, method: &str, headers: &[(&str, &str)]| {
        let head = Head::new(Pairs(headers)).method(method);
        let reply = receiver.answer(head, whole(&Bytes::new())).await;
        let find = |name| reply.headers().find(|(found, _)| *found == name).map(|(_, it)| it);
        (reply.status(), find("Allow"), find("WebHook-Allowed-Origin"))
    };
    for method in ["GET", "PUT", "OPTIONS", "HEAD"] {
        let refused = ask(&door.receiver, method, &[]).await;
        assert_eq!(refused, (405, Some("POST".to_owned()), None));
    }
    let format = FormatPreset::CloudEvents.format(FormatOptions::default()).unwrap();
    let source = Source::new("events".parse().unwrap(), sample::verifier(), format);
    let pipeline = Pipeline::builder(source).store(MemoryStore::new()).build().unwrap();
    let receiver = Receiver::new(pipeline, &Admission::new(1), 100);
    let origin = [("WebHook-Request-Origin", "grid.example")];
    let allowed = (200, Some("POST".to_owned()), Some("grid.example".to_owned()));
    assert_eq!(ask(&receiver, "OPTIONS", &origin).await, allowed);
    assert_eq!(ask(&receiver, "OPTIONS", &[]).await, (400, None, None));
    assert_eq!(ask(&receiver, "OPTIONS", &[origin[0], origin[0]]).await.0, 400);
    assert_eq!(ask(&receiver, "PUT", &[]).await.1.as_deref(), Some("POST, OPTIONS"));
}
