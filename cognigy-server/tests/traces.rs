//! Traces: from the delivery over the wait to the attempt, its look-up and its forward, and the dead
//! letter. The collector is a small receiver of OTLP requests.

#![cfg(feature = "otlp")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::HashSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use common::{Server, Site, crm::Crm, event, eventually, moto::Moto, signature};
use serde_json::Value;

/// W3C Trace Context's own example.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A receiver of OTLP requests.
struct Collector(Crm);

/// A span as the collector got it.
#[derive(Debug, Clone)]
struct Span {
    value: Value,
    instance: String,
}

impl Collector {
    fn start() -> Self {
        let receiver = Crm::start();
        receiver.answer(200, "{}");
        Self(receiver)
    }

    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (head, body) in self.0.requests().iter().zip(self.0.bodies()) {
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            assert!(head.to_ascii_lowercase().contains("content-type: application/json\r\n"));
            let request: Value = serde_json::from_str(&body).unwrap();
            for of_resource in request["resourceSpans"].as_array().unwrap() {
                let resource = &of_resource["resource"];
                assert_eq!(attribute(resource, "service.name"), Some("cognigy-server"));
                let instance = attribute(resource, "service.instance.id").unwrap().to_owned();
                for of_scope in of_resource["scopeSpans"].as_array().unwrap() {
                    let values = of_scope["spans"].as_array().unwrap().iter().cloned();
                    spans.extend(values.map(|value| Span { value, instance: instance.clone() }));
                }
            }
        }
        spans
    }

    /// Waits for the span called `name` about the event `id`.
    fn span(&self, name: &str, id: &str) -> Span {
        eventually(&format!("the span {name} of {id}"), || {
            let of_event = |it: &Span| it.name() == name && it.attribute("cognigy.event_id") == id;
            self.spans().into_iter().find(of_event)
        })
    }

    /// Waits for the span called `name` within `parent`.
    fn child(&self, parent: &Span, name: &str) -> Span {
        eventually(&format!("the child {name}"), || {
            let is_child = |it: &Span| it.name() == name && it.text("parentSpanId") == parent.id();
            let found = self.spans().into_iter().find(is_child)?;
            assert_eq!(found.trace(), parent.trace(), "a child is in its parent's trace");
            Some(found)
        })
    }
}

impl Span {
    fn text(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.text("name")
    }

    fn trace(&self) -> &str {
        self.text("traceId")
    }

    fn id(&self) -> &str {
        self.text("spanId")
    }

    fn attribute(&self, name: &str) -> &str {
        attribute(&self.value, name).unwrap_or_default()
    }

    fn is_linked_to(&self, other: &Self) -> bool {
        let links = self.value["links"].as_array().unwrap();
        links.len() == 1 && links[0]["traceId"] == other.trace() && links[0]["spanId"] == other.id()
    }

    /// The header or the attribute that names this span.
    fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace(), self.id())
    }

    fn time(&self, field: &str) -> u128 {
        self.text(field).parse().unwrap()
    }
}

fn attribute<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    let found = of["attributes"].as_array()?.iter().find(|it| it["key"] == name)?;
    let value = &found["value"];
    value["stringValue"].as_str().or_else(|| value["intValue"].as_str())
}

/// The header `traceparent` in the head of a request.
fn traceparent(head: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("traceparent").then(|| value.trim().to_owned())
    })
}

/// A site that has its deliveries traced.
fn site(collector: &Collector, crm: &Crm) -> Site {
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_OTLP_URL", collector.0.url())
        .set("COGNIGY_TRACE_SAMPLE", "1");
    site
}

fn deliver_with(server: &Server, id: &str, traceparents: &[&str]) {
    let body = event(id, "c1");
    let signature = signature(&body);
    let mut headers = vec![("X-Cognigy-Signature", signature.as_str())];
    headers.extend(traceparents.iter().map(|it| ("traceparent", *it)));
    assert_eq!(server.post("/webhooks/cognigy", &headers, &body).status, 200);
}

#[test]
fn a_delivery_leads_to_an_attempt_with_its_look_up_and_its_forward() {
    let (collector, crm, receiver) = (Collector::start(), Crm::start(), Crm::start());
    let mut site = site(&collector, &crm);
    site.set("COGNIGY_FORWARD_URL", format!("{}/events", receiver.url()))
        .set("COGNIGY_FORWARD_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let mut server = site.serve();
    server.deliver(&event("e1", "marked-contact"));
    let stored = server.wait_for("e1", "processed");

    let delivery = collector.span("delivery", "e1");
    assert_eq!((delivery.text("parentSpanId"), &delivery.value["kind"]), ("", &Value::from(2)));
    assert_eq!(delivery.attribute("cognigy.source"), "cognigy");
    let kept = serde_json::json!([[":traceparent", delivery.traceparent()]]);
    assert_eq!(stored["headers"], kept, "an operator finds the trace of an event");
    assert_eq!(delivery.attribute("cognigy.outcome"), "accepted");
    let commit = collector.child(&delivery, "commit");
    assert!(delivery.time("startTimeUnixNano") <= commit.time("startTimeUnixNano"));
    assert!(commit.time("endTimeUnixNano") <= delivery.time("endTimeUnixNano"));

    let attempt = collector.span("attempt", "e1");
    assert_ne!(attempt.trace(), delivery.trace(), "a trace of its own");
    assert!(attempt.is_linked_to(&delivery), "{attempt:?}");
    assert_eq!(
        (attempt.attribute("cognigy.run"), attempt.attribute("cognigy.attempt")),
        ("1", "1")
    );
    assert_eq!(attempt.attribute("cognigy.outcome"), "processed");
    assert_eq!(collector.child(&attempt, "claim").attribute("cognigy.outcome"), "claimed");
    let look_up = collector.child(&attempt, "crm");
    assert_eq!(look_up.attribute("cognigy.outcome"), "matched");
    assert_eq!(traceparent(&crm.requests()[0]), Some(look_up.traceparent()));
    let forward = collector.child(&collector.child(&attempt, "handler"), "forward");
    assert_eq!(traceparent(&receiver.requests()[0]), Some(forward.traceparent()));

    // The lines of both say which event and which trace they are about.
    let log = server.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (message, span) in [("delivery", &delivery), ("event processed", &attempt)] {
        let line = lines.iter().find(|line| line["message"] == message).expect(message);
        assert_eq!((&line["event_id"], &line["trace_id"]), (&"e1".into(), &span.trace().into()));
    }

    // A span that is about to be sent when the server stops is sent.
    server.deliver(&event("e2", "c1"));
    server.wait_for("e2", "processed");
    assert_eq!(server.terminate(), Some(0));
    let sent = |name| {
        collector
            .spans()
            .iter()
            .any(|it| it.name() == name && it.attribute("cognigy.event_id") == "e2")
    };
    assert!(sent("delivery") && sent("attempt"), "sent before the end");
    for body in collector.0.bodies() {
        for content in ["marked", "user-1", "USER_INPUT", "Ada"] {
            assert!(!body.contains(content), "{content} is content: {body}");
        }
    }
}

#[test]
fn failures_say_how_they_ended_and_never_what_was_answered() {
    let (collector, crm, moto) = (Collector::start(), Crm::start(), Moto::start());
    crm.answer(400, r#"{"error":"marked-answer"}"#);
    let mut site = site(&collector, &crm);
    let queue = moto.queue("dead.fifo");
    moto.configure(&mut site, &queue);
    let server = site.serve();
    server.deliver(&event("e1", "c1"));
    server.wait_for("e1", "dead_lettered");

    let delivery = collector.span("delivery", "e1");
    let attempt = collector.span("attempt", "e1");
    assert_eq!(attempt.attribute("cognigy.outcome"), "given_up");
    assert_eq!(attempt.value["status"]["code"], 2);
    assert_eq!(collector.child(&attempt, "crm").value["status"]["code"], 2);
    let letter = collector.span("dead letter", "e1");
    assert!(letter.is_linked_to(&delivery) && letter.value["status"].is_null(), "{letter:?}");
    let messages = moto.drain(&queue);
    let attribute = &messages[0]["MessageAttributes"]["traceparent"];
    assert_eq!(attribute["StringValue"], letter.traceparent(), "{}", messages[0]);
    assert!(!collector.0.bodies().concat().contains("marked"));

    // A replay is linked to the same delivery.
    crm.answer(200, r#"{"id":"crm-1"}"#);
    assert_eq!(server.operate("POST", "/webhooks/replay/e1", b"").status, 200);
    let replay = eventually("the span of the replay", || {
        let spans = collector.spans();
        spans.into_iter().find(|it| it.name() == "attempt" && it.attribute("cognigy.run") == "2")
    });
    assert!(replay.is_linked_to(&delivery) && replay.trace() != attempt.trace());
}

#[test]
fn the_link_survives_the_process_that_took_the_delivery() {
    let (collector, crm) = (Collector::start(), Crm::start());
    let mut site = site(&collector, &crm);
    site.set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    server.deliver(&event("e1", "c1"));
    assert_eq!(server.terminate(), Some(0));
    let delivery = collector.span("delivery", "e1");

    site.set("COGNIGY_WORKER", "on");
    let server = site.serve();
    server.wait_for("e1", "processed");
    let attempt = collector.span("attempt", "e1");
    assert!(attempt.is_linked_to(&delivery), "{attempt:?}");
    assert_ne!(attempt.instance, delivery.instance, "another process");
    collector.child(&attempt, "crm");
}

#[test]
fn a_traceparent_counts_where_its_sender_is_trusted_and_if_it_is_one() {
    let (collector, crm) = (Collector::start(), Crm::start());
    let mut site = site(&collector, &crm);
    let (recorded, unrecorded) =
        (format!("00-{TRACE}-{CALLER}-01"), format!("00-{TRACE}-{CALLER}-00"));
    let malformed = ["00", &recorded.to_uppercase(), &format!("{recorded}-x"), "00-marked"];

    let server = site.serve();
    deliver_with(&server, "untrusted", &[&recorded]);
    server.wait_for("untrusted", "processed");
    let delivery = collector.span("delivery", "untrusted");
    assert!(delivery.trace() != TRACE && delivery.text("parentSpanId").is_empty());
    drop(server);

    site.set("COGNIGY_TRUST_TRACEPARENT", "on");
    let server = site.serve();
    deliver_with(&server, "trusted", &[&recorded]);
    let delivery = collector.span("delivery", "trusted");
    assert_eq!((delivery.trace(), delivery.text("parentSpanId")), (TRACE, CALLER));
    assert!(collector.span("attempt", "trusted").is_linked_to(&delivery));
    for (number, value) in malformed.iter().enumerate() {
        let id = format!("malformed-{number}");
        deliver_with(&server, &id, &[value]);
        assert!(collector.span("delivery", &id).text("parentSpanId").is_empty(), "{value}");
    }
    deliver_with(&server, "twice", &[&recorded, &recorded]);
    assert!(collector.span("delivery", "twice").text("parentSpanId").is_empty());

    // Who is not authenticated has nothing recorded.
    let body = event("forged", "c1");
    let headers = [("X-Cognigy-Signature", "AAAA"), ("traceparent", recorded.as_str())];
    server.post("/webhooks/cognigy", &headers, &body).problem(401);
    drop(server);

    // A trusted sender decides: the share does not.
    site.set("COGNIGY_TRACE_SAMPLE", "0");
    let mut server = site.serve();
    for (id, value) in [("unrecorded", &unrecorded), ("recorded", &recorded)] {
        deliver_with(&server, id, &[value]);
        server.wait_for(id, "processed");
    }
    deliver_with(&server, "own", &[]);
    server.wait_for("own", "processed");
    assert_eq!(server.terminate(), Some(0));
    let ids: HashSet<String> =
        collector.spans().iter().map(|it| it.attribute("cognigy.event_id").to_owned()).collect();
    assert!(ids.contains("recorded") && !ids.contains("unrecorded") && !ids.contains("own"));
    assert!(!ids.contains("forged"));
    // What is not recorded is passed on as such.
    let heads = crm.requests();
    let flags: Vec<_> =
        heads[heads.len() - 3..].iter().map(|it| traceparent(it).unwrap()).collect();
    assert!(flags[0].ends_with("-00") && flags[1].ends_with("-01") && flags[2].ends_with("-00"));
}

#[test]
fn each_source_has_its_own_trust() {
    let (collector, crm) = (Collector::start(), Crm::start());
    let mut site = site(&collector, &crm);
    site.set("COGNIGY_SOURCES", "shop")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", common::SECRET)
        .set("COGNIGY_SOURCE_SHOP_TRUST_TRACEPARENT", "on");
    let server = site.serve();
    let recorded = format!("00-{TRACE}-{CALLER}-01");
    for (path, id) in [("/webhooks/cognigy", "plain"), ("/webhooks/cognigy/shop", "shop")] {
        let body = event(id, "c1");
        let headers =
            [("X-Cognigy-Signature", &*signature(&body)), ("traceparent", recorded.as_str())];
        assert_eq!(server.post(path, &headers, &body).status, 200);
    }
    assert_eq!(collector.span("delivery", "shop").trace(), TRACE);
    assert_ne!(collector.span("delivery", "plain").trace(), TRACE);
}

#[test]
fn without_a_collector_there_are_no_traces() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_TRUST_TRACEPARENT", "on");
    let server = site.serve();
    deliver_with(&server, "e1", &[&format!("00-{TRACE}-{CALLER}-01")]);
    server.wait_for("e1", "processed");
    assert_eq!(traceparent(&crm.requests()[0]), None);
    let log = server.log();
    assert!(!log.contains("trace_id") && !log.contains(TRACE), "{log}");
    let line = log.lines().find(|line| line.contains(r#""message":"delivery""#)).unwrap();
    assert!(line.contains(r#""event_id":"e1""#), "{line}");
    assert!(!server.event("e1").to_string().contains("traceparent"));
    assert!(!server.get("/metrics").body.contains("cognigy_spans_total"));
}

#[test]
fn a_collector_that_is_gone_or_hangs_harms_nothing() {
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = format!("http://{}", hanging.local_addr().unwrap());
    for url in ["http://127.0.0.1:9".to_owned(), hangs] {
        let crm = Crm::start();
        let mut site = Site::new();
        site.set("CRM_BASE_URL", crm.url())
            .set("COGNIGY_OTLP_URL", &url)
            .set("COGNIGY_TRACE_SAMPLE", "1");
        let mut server = site.serve();
        // More spans than may wait.
        let ids: Vec<String> = (0..500).map(|number| format!("e{number}")).collect();
        for id in &ids {
            assert_eq!(server.deliver(&event(id, id)).status, 200);
        }
        for id in &ids {
            server.wait_for(id, "processed");
        }
        eventually("spans are dropped, and counted", || {
            let metrics = server.get("/metrics").body;
            let count = metrics.lines().find_map(|line| {
                line.strip_prefix(r#"cognigy_spans_total{outcome="dropped"} "#)?.parse::<u64>().ok()
            });
            (count? > 0).then_some(())
        });
        let stopped = Instant::now();
        assert_eq!(server.terminate(), Some(0));
        assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    }
}
