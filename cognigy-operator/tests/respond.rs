//! What operators are answered, over the store in memory.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use cognigy_core::{
    AuditLog, EventArchive, Failure, Handlers, PageRequest, Pipeline, Reply, Secret, SharedValues,
    SignatureScheme, SignatureVerifier, StoreError, UserInput, memory::MemoryStore, sign,
};
use cognigy_operator::{Happening, Host, Operator, OperatorApi, Request, Role, no_operator};
use cognigy_service::{Head, Service};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

const SECRET: &str = "marked-webhook-secret";

/// A service without workers, and the operator API over it.
struct World {
    store: Arc<MemoryStore>,
    service: Service,
    api: OperatorApi,
}

impl World {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let fails = |_: UserInput<Value>, _| async { Err(Failure::permanent("no such dialog")) };
        let pipeline = Pipeline::builder(SignatureVerifier::new(&Secret::new(SECRET).unwrap()))
            .store(Arc::clone(&store))
            .handler(Handlers::new().on(fails))
            .build()
            .unwrap();
        let service = Service::builder(pipeline).without_workers().start().await.unwrap();
        let api = OperatorApi::of(&service).start().await.unwrap();
        Self { store, service, api }
    }

    /// Delivers an event that holds the text `marked-body`.
    async fn deliver(&self, id: &str) {
        let event = json!({
            "eventId": id, "timestamp": "2026-03-01T12:00:00Z", "type": "USER_INPUT_RECEIVED",
            "externalId": "c1", "userId": "u1", "payload": {"input": {"text": "marked-body"}},
        });
        assert_eq!(self.send(event.to_string().into()).await.status(), 200);
    }

    async fn send(&self, body: Bytes) -> Reply {
        let signature = sign(&Secret::new(SECRET).unwrap(), SignatureScheme::Base64, body.as_ref());
        let head = Head::new([("X-Cognigy-Signature", signature.as_str())]);
        self.service.receive(head, stream::iter([Ok::<_, StoreError>(body)])).await
    }

    async fn ask(&self, operator: &Operator, method: &str, target: &str, body: &str) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request::new(method, path).query(query);
        self.api.respond(operator, request, body.to_owned()).await
    }

    async fn get(&self, operator: &Operator, target: &str) -> Value {
        let reply = self.ask(operator, "GET", target, "").await;
        assert_eq!(reply.status(), 200, "{target}: {reply:?}");
        json_of(&reply)
    }

    /// The path of the body in quarantine.
    async fn quarantined(&self) -> String {
        let found = self.get(&rita(), "/admin/quarantine").await;
        format!("/admin/quarantine/{}", found["items"][0]["id"])
    }

    /// What operators did, newest first: who, what, to what, and what it came to.
    async fn deeds(&self) -> Vec<(String, String, Option<String>, String)> {
        let page = PageRequest { limit: 100, after: None };
        let entries = self.store.audited(None, page).await.unwrap().entries;
        entries.into_iter().map(|it| (it.by, it.action, it.target, it.outcome)).collect()
    }
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(reply.body()).unwrap()
}

fn header(reply: &Reply, name: &str) -> Option<String> {
    reply.headers().find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Checks that the answer is a problem document. Yields its detail.
fn problem(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status(), status, "{reply:?}");
    assert_eq!(header(reply, "Content-Type").as_deref(), Some("application/problem+json"));
    assert_eq!(header(reply, "Cache-Control").as_deref(), Some("no-store"));
    json_of(reply)["detail"].as_str().unwrap().to_owned()
}

fn anna() -> Operator {
    Operator::new("anna", Role::Operator)
}

fn rita() -> Operator {
    Operator::new("rita", Role::Reader)
}

fn bill() -> Operator {
    Operator::new("bill", Role::ReaderOfBodies)
}

#[tokio::test]
async fn events_are_listed_and_shown_with_their_history() {
    let world = World::new().await;
    world.deliver("e1").await;
    let reply = world.ask(&anna(), "GET", "/admin/events?external_id=c1", "").await;
    assert_eq!(reply.status(), 200);
    assert_eq!(header(&reply, "Content-Type").as_deref(), Some("application/json"));
    assert_eq!(header(&reply, "Cache-Control").as_deref(), Some("no-store"));
    assert_eq!(json_of(&reply)["events"][0]["event_id"], "e1");
    assert_eq!(json_of(&reply)["next_cursor"], Value::Null);
    let event = world.get(&anna(), "/admin/events/e1").await;
    assert!(event["body"].as_str().unwrap().contains("marked-body"), "{event}");
    assert_eq!((&event["status"], &event["attempts"]), (&json!("pending"), &json!([])));
    let contact = world.get(&anna(), "/admin/contacts/c1").await;
    assert_eq!(contact["events"][0]["event_id"], "e1");
    let stats = world.get(&anna(), "/admin/stats").await;
    assert_eq!(stats["events"]["waiting"], 1);
    assert_eq!(stats["deliveries"], Value::Null, "no program has counted them");
    problem(&world.ask(&anna(), "GET", "/admin/events/e2", "").await, 404);
}

#[tokio::test]
async fn a_reader_sees_no_body_and_may_not_search_for_one() {
    let world = World::new().await;
    world.deliver("e1").await;
    assert_eq!(world.send(br#"{"marked-body":1}"#[..].into()).await.status(), 400);
    let item = world.quarantined().await;
    for target in ["/admin/events/e1", "/admin/quarantine", &item, "/admin/contacts/c1"] {
        let (hidden, shown) = (world.get(&rita(), target).await, world.get(&bill(), target).await);
        assert!(!hidden.to_string().contains("marked-body"), "{hidden}");
        let names_bodies = target != "/admin/contacts/c1";
        assert_eq!(shown.to_string().contains("marked-body"), names_bodies, "{shown}");
    }
    let search = "/admin/events?q=marked-body";
    problem(&world.ask(&rita(), "GET", search, "").await, 403);
    assert_eq!(world.get(&bill(), search).await["events"][0]["event_id"], "e1");
    assert_eq!(world.get(&rita(), "/admin/events?q=+").await["events"][0]["event_id"], "e1");
}

#[tokio::test]
async fn a_reader_changes_nothing_on_any_route() {
    let world = World::new().await;
    world.deliver("e1").await;
    let changes = cognigy_operator::routes().iter().filter(|route| route.changes());
    let mut count = 0;
    for route in changes {
        let path = route.path().replace("{event_id}", "e1").replace("{source}", "cognigy");
        let path = path.replace("{id}", "1");
        for reader in [rita(), bill()] {
            let reply = world.ask(&reader, route.method(), &path, r#"{"external_id":"c1"}"#).await;
            assert!(problem(&reply, 403).contains(reader.name()), "{path}");
            count += 1;
        }
    }
    assert!(count >= 26, "{count}");
    assert_eq!(world.deeds().await, []);
    assert_eq!(world.get(&bill(), "/admin/events/e1").await["status"], "pending");
    assert!(!world.service.pipeline().is_paused());
}

#[tokio::test]
async fn each_change_is_recorded_with_its_operator() {
    let world = World::new().await;
    world.deliver("e1").await;
    assert_eq!(world.send(br#"{"eventId":"e2"}"#[..].into()).await.status(), 400);
    let anna = anna();
    let reply = world.ask(&anna, "POST", "/webhooks/replay/e1", "").await;
    assert_eq!(problem(&reply, 500), "Replay failed: no such dialog");
    let item = world.quarantined().await;
    let reply = world.ask(&anna, "POST", &format!("{item}/retry"), "").await;
    assert!(problem(&reply, 409).starts_with("Still in quarantine."));
    let reply = world.ask(&anna, "DELETE", &item, "").await;
    assert_eq!(json_of(&reply)["status"], "discarded");
    let dry_run = r#"{"ids":["e1"],"dry_run":true}"#;
    for (body, told) in [(dry_run, 1), (r#"{"ids":["e1"]}"#, 1), (r#"{"ids":["e1"]}"#, 0)] {
        let reply = world.ask(&anna, "POST", "/admin/discards", body).await;
        assert_eq!(json_of(&reply)["count"], told, "{body}: {reply:?}");
    }
    let reply = world.ask(&anna, "POST", "/admin/erasures", r#"{"user_id":"u1"}"#).await;
    assert_eq!((reply.status(), &json_of(&reply)["events"]), (200, &json!(1)));
    assert_eq!(json_of(&reply)["sent_dead_letters"], json!([]), "they stayed in the store");
    problem(&world.ask(&anna, "POST", "/webhooks/replay/e1", "").await, 410);
    assert_eq!(world.ask(&anna, "POST", "/admin/purges", "").await.status(), 200);
    let rehearsed = world.ask(&anna, "POST", "/admin/rehearsals", r#"{"ids":["e1","e2"]}"#).await;
    let why = |line: usize| json_of(&rehearsed)["rehearsals"][line]["not_rehearsed"].clone();
    assert_eq!((why(0), why(1)), ("forgotten".into(), "not_found".into()));
    let deeds = world.deeds().await;
    assert!(deeds.iter().all(|(by, ..)| by == "anna"), "{deeds:?}");
    let mut done: Vec<_> =
        deeds.iter().rev().map(|(_, action, _, told)| format!("{action} {told}")).collect();
    done.dedup();
    let expected = [
        "replay failed",
        "quarantine_retry invalid",
        "quarantine_discard discarded",
        "discard discarded",
        "erase erased",
        "replay forgotten",
        "purge forgotten",
    ];
    assert_eq!(done, expected);
    let entries = world.get(&rita(), "/admin/audit?limit=1").await;
    assert_eq!(entries["entries"][0]["action"], "purge");
    assert!(entries["next_cursor"].is_string());
}

#[tokio::test(start_paused = true)]
async fn a_paused_source_stays_paused_and_other_processes_follow() {
    let world = World::new().await;
    let reply = world.ask(&anna(), "POST", "/admin/sources/cognigy/pause", "").await;
    assert_eq!(json_of(&reply), json!({ "source": "cognigy", "paused": true }));
    assert!(world.service.pipeline().is_paused());
    let stats = world.get(&rita(), "/admin/stats").await;
    assert_eq!(stats["paused"]["cognigy"]["by"], "anna");
    problem(&world.ask(&anna(), "POST", "/admin/sources/shop/pause", "").await, 404);
    // A new process on the same store begins as it was left, and follows what others write.
    let verifier = SignatureVerifier::new(&Secret::new(SECRET).unwrap());
    let pipeline = Pipeline::builder(verifier).store(Arc::clone(&world.store)).build().unwrap();
    let other = Service::builder(pipeline).without_workers().start().await.unwrap();
    let api = OperatorApi::of(&other).start().await.unwrap();
    assert!(other.pipeline().is_paused());
    let reply = world.ask(&anna(), "POST", "/admin/sources/cognigy/resume", "").await;
    assert_eq!(reply.status(), 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!other.pipeline().is_paused());
    // Once the API is gone, nothing follows any more.
    drop(api);
    world.ask(&anna(), "POST", "/admin/sources/cognigy/pause", "").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!other.pipeline().is_paused());
}

#[tokio::test]
async fn a_bulk_replay_is_carried_out_and_a_later_process_goes_on_with_it() {
    let world = World::new().await;
    for id in ["e1", "e2"] {
        world.deliver(id).await;
    }
    let all = r#"{"status":"pending"}"#;
    let dry_run = r#"{"status":"pending","dry_run":true}"#;
    let reply = world.ask(&anna(), "POST", "/admin/replays", dry_run).await;
    assert_eq!((reply.status(), &json_of(&reply)["count"]), (200, &json!(2)));
    // This process stops, so that the replay waits for another one.
    world.api.shutdown().await;
    let reply = world.ask(&anna(), "POST", "/admin/replays", all).await;
    assert_eq!((reply.status(), json_of(&reply)), (202, json!({ "id": "1", "total": 2 })));
    tokio::time::sleep(Duration::from_millis(700)).await;
    let waiting = world.get(&rita(), "/admin/replays/1").await;
    assert_eq!((&waiting["state"], &waiting["done"]), (&json!("running"), &json!(0)));
    let _next = OperatorApi::of(&world.service).start().await.unwrap();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if world.get(&rita(), "/admin/replays/1").await["state"] == "done" {
            break;
        }
    }
    let ended = &world.get(&rita(), "/admin/replays").await["replays"][0];
    let expected = json!({
        "id": "1", "work": "replay", "state": "done", "total": 2, "done": 2, "succeeded": 0, "failed": 2,
        "outcomes": { "failed": 2 }, "rate": null, "by": "anna", "begun_at": ended["begun_at"],
    });
    assert_eq!(*ended, expected);
    let event = world.get(&rita(), "/admin/events/e1").await;
    assert_eq!(event["attempts"][0]["error"], "no such dialog");
    assert_eq!(
        (&event["audit"][0]["by"], &event["audit"][0]["count"]),
        (&"anna".into(), &Value::Null)
    );
    problem(&world.ask(&anna(), "DELETE", "/admin/replays/2", "").await, 404);
    let told: Vec<_> =
        world.deeds().await.into_iter().map(|(_, action, _, told)| (action, told)).collect();
    assert_eq!(told, [("replay".to_owned(), "begun".to_owned())]);
}

#[tokio::test]
async fn what_no_route_takes_is_refused() {
    let world = World::new().await;
    world.deliver("a/b c%").await;
    let event = world.get(&rita(), "/admin/events/a%2Fb%20c%25").await;
    assert_eq!(event["event_id"], "a/b c%");
    for (target, detail) in [
        ("/admin/events?state=pending", "\"state\" is not a parameter here"),
        ("/admin/events?user=a&user=b", "\"user\" appears more than once"),
        ("/admin/events?limit=501", "limit: expected a number from 1 to 500"),
        ("/admin/events?cursor=x", "cursor: is not a next_cursor of this server"),
        ("/admin/stats?limit=1", "\"limit\" is not a parameter here"),
        ("/admin/events?user=%FF", "The path and the query have to be UTF-8, percent-encoded"),
        ("/admin/events/%FF", "The path and the query have to be UTF-8, percent-encoded"),
    ] {
        assert_eq!(problem(&world.ask(&rita(), "GET", target, "").await, 400), detail, "{target}");
    }
    for path in ["/admin", "/admin/", "/admin/%65vents", "/admin/redrives", "/healthz"] {
        problem(&world.ask(&anna(), "GET", path, "").await, 404);
    }
    let reply = world.ask(&anna(), "PUT", "/admin/quarantine/1", "").await;
    problem(&reply, 405);
    assert_eq!(header(&reply, "Allow").as_deref(), Some("GET, DELETE"));
    assert_eq!(no_operator().status(), 403);
    problem(&no_operator(), 403);
}

#[tokio::test(start_paused = true)]
async fn bodies_are_bounded_and_have_a_deadline() {
    let world = World::new().await;
    let path = Request::new("POST", "/admin/erasures");
    let long = "x".repeat(256 * 1024 + 1);
    let headers = [("Content-Length", long.len().to_string())];
    let pairs = || headers.iter().map(|(name, value)| (*name, value.as_str()));
    let pairs: Vec<_> = pairs().collect();
    let never = || stream::pending::<Result<Bytes, StoreError>>();
    // What the head says is enough.
    let request = path.headers([pairs[0]]);
    problem(&world.api.answer(&anna(), request, never()).await, 413);
    let request = path.headers([("Content-Encoding", "gzip")]);
    problem(&world.api.answer(&anna(), request, never()).await, 415);
    problem(&world.api.answer(&rita(), path, never()).await, 403);
    // Else what arrives.
    problem(&world.api.respond(&anna(), path, long).await, 413);
    let half = stream::iter([Ok(Bytes::from_static(b"{"))]).chain(never());
    let reply = world.api.answer(&anna(), path, half).await;
    problem(&reply, 408);
    assert!(reply.closes_connection());
    let broken = stream::iter([Err::<Bytes, _>(StoreError::overloaded())]);
    problem(&world.api.answer(&anna(), path, broken).await, 400);
    // Of those that are waited for there are not more than 64.
    let anna = anna();
    let waiting = (0..65).map(|_| world.api.answer(&anna, path, never()));
    let mut operators = Vec::new();
    for reply in futures_util::future::join_all(waiting).await {
        operators.push(reply.status());
    }
    assert_eq!(operators.iter().filter(|status| **status == 503).count(), 1);
    assert_eq!(operators.iter().filter(|status| **status == 408).count(), 64);
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let world = World::new().await;
    let pause = Request::new("POST", "/admin/sources/cognigy/pause");
    for (site, status) in
        [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
    {
        let request = pause.headers([("Sec-Fetch-Site", site)]);
        assert_eq!(world.api.respond(&anna(), request, "").await.status(), status, "{site}");
        let read = Request::new("GET", "/admin/stats").headers([("Sec-Fetch-Site", site)]);
        assert_eq!(world.api.respond(&rita(), read, "").await.status(), 200, "{site}");
    }
}

/// Remembers what it was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Host for Told {
    fn happened(&self, happening: &Happening<'_>) {
        self.0.lock().unwrap().push(format!("{happening:?}"));
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_told_to_the_program_and_not_to_the_operator() {
    let world = World::new().await;
    let told = Told::default();
    let api = OperatorApi::of(&world.service).host(told.clone()).build();
    // What another version of a program may have left.
    world.store.replace_shared_value("paused", None, Some("marked-text")).await.unwrap();
    let reply = api.respond(&rita(), Request::new("GET", "/admin/stats"), "").await;
    assert_eq!(problem(&reply, 503), "The store cannot answer now");
    assert_eq!(header(&reply, "Retry-After").as_deref(), Some("1"));
    let told = told.0.lock().unwrap().clone();
    assert!(told.len() == 1 && told[0].starts_with("Failed"), "{told:?}");
    assert!(world.store.counts().await.is_ok());
}
