//! Several sources on one deployment over one store, each with its own path, secrets, CRM, queue
//! and limits. A problem of one does not affect another.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io::{Read, Write},
    time::Duration,
};

use cognigy_core::{Secret, SignatureScheme, sign};
use common::{Answer, Server, Site, crm::Crm, event, eventually, moto::Moto, stderr, stdout};
use serde_json::{Value, json};

const SHOP_SECRET: &str = "marked-secret-of-shop";
const SUPPORT_SECRET: &str = "marked-secret-of-support";
/// Every path, and the secret of its senders.
const PATHS: [(&str, &str); 3] = [
    ("/webhooks/cognigy", common::SECRET),
    ("/webhooks/cognigy/shop", SHOP_SECRET),
    ("/webhooks/cognigy/support", SUPPORT_SECRET),
];

/// A site with the sources `shop` and `support` beside the plain path's.
fn site() -> Site {
    let mut site = Site::new();
    site.set("COGNIGY_SOURCES", "shop,support")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", SHOP_SECRET)
        .set("COGNIGY_SOURCE_SUPPORT_WEBHOOK_SECRET", SUPPORT_SECRET);
    site
}

fn signed(secret: &str, body: &[u8]) -> String {
    sign(&Secret::new(secret).unwrap(), SignatureScheme::Base64, body)
}

fn deliver(server: &Server, path: &str, secret: &str, body: &[u8]) -> Answer {
    server.post(path, &[("X-Cognigy-Signature", &signed(secret, body))], body)
}

fn to_shop(server: &Server, body: &[u8]) -> Answer {
    deliver(server, "/webhooks/cognigy/shop", SHOP_SECRET, body)
}

fn to_support(server: &Server, body: &[u8]) -> Answer {
    deliver(server, "/webhooks/cognigy/support", SUPPORT_SECRET, body)
}

/// Waits until the event of that source has that status.
fn wait_for(server: &Server, source: &str, id: &str, status: &str) -> Value {
    eventually(&format!("{id} of {source} is {status}"), || {
        let event = server.get(&format!("/admin/events/{id}?source={source}")).json();
        (event["status"] == status).then_some(event)
    })
}

fn metric(server: &Server, series: &str) -> String {
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in {metrics}")).to_owned()
}

#[test]
fn an_event_id_belongs_to_its_source_and_a_secret_too() {
    let mut site = site();
    site.set("COGNIGY_WORKER", "off")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET_PREVIOUS", "marked-shop-before");
    let server = site.serve();
    let body = event("e1", "c1");
    for (path, secret) in PATHS {
        for (_, other) in PATHS.iter().filter(|(_, other)| *other != secret) {
            assert_eq!(deliver(&server, path, other, &body).problem(401), "Invalid HMAC signature");
        }
        let first = deliver(&server, path, secret, &body);
        assert_eq!((first.status, first.body.as_str()), (200, r#"{"status":"accepted"}"#));
        let second = deliver(&server, path, secret, &body);
        assert_eq!(second.json(), json!({"status": "accepted", "duplicate": true}));
    }
    assert_eq!(server.stats()["events"]["total"], 3, "the same id, three events");

    let (shop, rotated) = ("/webhooks/cognigy/shop", "marked-shop-before");
    assert_eq!(deliver(&server, shop, rotated, &event("e2", "c1")).status, 200);
    for (path, _) in [PATHS[0], PATHS[2]] {
        deliver(&server, path, rotated, &body).problem(401);
    }
    let previous = r#"cognigy_previous_secret_matches_total"#;
    assert_eq!(metric(&server, &format!(r#"{previous}{{source="shop"}}"#)), "1");
    assert_eq!(metric(&server, &format!(r#"{previous}{{source="cognigy"}}"#)), "0");
}

#[test]
fn the_path_of_no_source_is_no_path() {
    let mut site = site();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    let body = event("e1", "c1");
    let nowhere = server.post("/nowhere", &[], &body).problem(404);
    for path in
        ["other", "cognigy", "Shop", "shop/", "shop/x", "shop%2f", "", "sho", "shop,support"]
    {
        for (_, secret) in PATHS {
            let answer = deliver(&server, &format!("/webhooks/cognigy/{path}"), secret, &body);
            assert_eq!(answer.problem(404), nowhere, "{path}");
        }
    }
    server.get("/webhooks/cognigy/other").problem(404);
    server.get("/webhooks/cognigy/shop").problem(405);
    assert_eq!(server.stats()["events"]["total"], 0);
    let quarantine = server.get("/admin/quarantine").json();
    assert_eq!(quarantine["items"].as_array().unwrap().len(), 0, "nothing is kept");
    assert!(!server.request("GET", "/metrics", &[], b"").body.contains(r#"source="other""#));
}

#[test]
fn a_crm_that_hangs_holds_up_its_own_source_only() {
    let (plain, slow, quick) = (Crm::start(), Crm::start(), Crm::start());
    let mut site = site();
    site.set("CRM_BASE_URL", plain.url())
        .set("CRM_TOKEN", "marked-plain-token")
        .set("COGNIGY_SOURCE_SHOP_CRM_BASE_URL", slow.url())
        .set("COGNIGY_SOURCE_SHOP_CRM_CONCURRENCY", "3")
        .set("COGNIGY_SOURCE_SHOP_CRM_TIMEOUT", "50s")
        .set("COGNIGY_SOURCE_SUPPORT_CRM_BASE_URL", quick.url())
        .set("COGNIGY_SOURCE_SUPPORT_CRM_TOKEN", "marked-support-token");
    slow.delay(Duration::from_secs(60));
    let server = site.serve();
    for number in 0..100 {
        let body = event(&format!("s{number}"), &format!("c{number}"));
        assert_eq!(to_shop(&server, &body).status, 200);
    }
    eventually("the shop's CRM is asked", || (slow.requests().len() >= 3).then_some(()));
    for number in 0..20 {
        let (id, contact) = (format!("e{number}"), format!("c{number}"));
        assert_eq!(to_support(&server, &event(&id, &contact)).status, 200);
        assert_eq!(server.deliver(&event(&id, &contact)).status, 200);
    }
    for number in 0..20 {
        let id = format!("e{number}");
        let event = wait_for(&server, "support", &id, "processed");
        assert_eq!(
            (&event["source"], &event["crm_context"]["id"]),
            (&json!("support"), &json!("crm-1"))
        );
        let event = server.wait_for(&id, "processed");
        assert!(event.get("source").is_none(), "the plain source goes without saying");
    }
    // Meanwhile the shop's CRM hangs, with as many requests as may be in flight there.
    assert_eq!(slow.requests().len(), 3);
    assert_eq!(server.stats()["events"]["waiting"], 100);
    // Each CRM was asked for its own source's contacts, and each token was sent only to its own
    // CRM.
    for (crm, asked, token) in [
        (&plain, 20, Some("marked-plain-token")),
        (&quick, 20, Some("marked-support-token")),
        (&slow, 3, None),
    ] {
        let requests = crm.requests();
        assert_eq!(requests.len(), asked);
        for request in requests {
            let bearer = request.lines().find_map(|line| line.split_once("Bearer "));
            assert_eq!(bearer.map(|(_, token)| token.trim()), token, "{request}");
        }
    }
}

#[test]
fn a_queue_that_is_gone_holds_up_its_own_source_only() {
    let (crm, moto) = (Crm::start(), Moto::start());
    crm.answer(400, "{}");
    let queue = moto.queue("dead.fifo");
    let mut site = site();
    site.set("CRM_BASE_URL", crm.url());
    moto.configure(&mut site, &queue);
    let gone = queue.replace("dead.fifo", "gone.fifo");
    site.set("COGNIGY_SOURCE_SHOP_SQS_DLQ_URL", gone);
    let server = site.serve();
    for number in 0..5 {
        let body = event(&format!("e{number}"), "c1");
        for (path, secret) in PATHS {
            assert_eq!(deliver(&server, path, secret, &body).status, 200);
        }
    }
    for number in 0..5 {
        let id = format!("e{number}");
        server.wait_for(&id, "dead_lettered");
        wait_for(&server, "support", &id, "dead_lettered");
    }
    eventually("the shop's queue is missed", || {
        let failed = r#"cognigy_dead_letters_total{outcome="failed",source="shop"}"#;
        (metric(&server, failed) != "0").then_some(())
    });
    let letters = server.get("/admin/events?source=shop&status=dead_lettering").json();
    assert_eq!(letters["events"].as_array().unwrap().len(), 5, "they wait for their queue");

    // Two sources share the other queue, and each message names its source. After a redrive the
    // worker of that source runs the event.
    let sent = moto.count(&queue);
    assert_eq!(sent, 10);
    crm.answer(200, "{}");
    let redriven = site.run(&["redrive", "--source", "support", "--json"]);
    assert_eq!(redriven.status.code(), Some(0), "{redriven:?}");
    let report: Value = serde_json::from_str(&stdout(&redriven)).unwrap();
    assert_eq!((&report["requeued"], &report["unusable"]), (&json!(10), &json!(0)), "{report}");
    for number in 0..5 {
        let id = format!("e{number}");
        server.wait_for(&id, "processed");
        wait_for(&server, "support", &id, "processed");
    }
    let unknown = site.run(&["redrive", "--source", "other"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
}

#[test]
fn a_flood_at_one_source_takes_no_other_s_places() {
    let mut site = site();
    site.set("COGNIGY_WORKER", "off")
        .set("COGNIGY_SOURCE_SHOP_MAX_IN_FLIGHT", "2")
        .set("COGNIGY_SOURCE_SHOP_MAX_BODY_BYTES", "1000");
    let server = site.serve();
    // Bodies that do not arrive take no slot, however many there are.
    let unfinished: Vec<_> = (0..10)
        .map(|number| {
            let body = event(&format!("unfinished-{number}"), "c1");
            let mut stream = server.connect();
            let head = format!(
                "POST /webhooks/cognigy/shop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Expect: 100-continue\r\nContent-Length: {}\r\nX-Cognigy-Signature: {}\r\n\r\n",
                body.len(),
                signed(SHOP_SECRET, &body)
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
            stream.read_exact(&mut asked).unwrap();
            assert!(asked.starts_with(b"HTTP/1.1 100 "));
            (stream, body)
        })
        .collect();
    assert_eq!(to_shop(&server, &event("beside", "c1")).status, 200);
    // Complete bodies do, until the store has answered. Twenty at once on one lock are more than
    // two at a time, and those of other sources do not count.
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let round = |round: usize| {
        std::thread::scope(|scope| {
            for number in 0..20 {
                let (server, refused) = (&server, &refused);
                scope.spawn(move || {
                    let answer = to_shop(server, &event(&format!("shop-{round}-{number}"), "c1"));
                    if answer.status == 503 {
                        answer.problem(503);
                        assert!(answer.header("retry-after").is_some());
                        refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    } else {
                        assert_eq!(answer.status, 200);
                    }
                });
                scope.spawn(move || {
                    let body = event(&format!("e-{round}-{number}"), "c1");
                    assert_eq!(to_support(server, &body).status, 200);
                });
            }
        });
    };
    let mut rounds = 0;
    while refused.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        assert!(rounds < 50, "no delivery was ever refused");
        round(rounds);
        rounds += 1;
    }
    for (mut stream, body) in unfinished {
        stream.write_all(&body).unwrap();
        assert_eq!(Answer::read(stream).status, 200);
    }
    assert_eq!(to_shop(&server, &event("after", "c1")).status, 200, "places are given back");
    let large = event("large", &"x".repeat(1000));
    to_shop(&server, &large).problem(413);
    assert_eq!(to_support(&server, &large).status, 200);
}

#[test]
fn operators_name_the_source_beside_the_id() {
    let (plain, shop) = (Crm::start(), Crm::start());
    shop.answer(200, r#"{"id":"of-the-shop"}"#);
    let mut site = site();
    site.set("CRM_BASE_URL", plain.url()).set("COGNIGY_SOURCE_SHOP_CRM_BASE_URL", shop.url());
    let server = site.serve();
    let body = event("e1", "c1");
    assert_eq!(server.deliver(&body).status, 200);
    assert_eq!(to_shop(&server, &body).status, 200);
    server.wait_for("e1", "processed");
    wait_for(&server, "shop", "e1", "processed");
    assert_eq!(server.event("e1")["crm_context"]["id"], "crm-1");
    server.get("/admin/events/e1?source=support").problem(404);
    server.get("/admin/events/e1?source=The%20Shop").problem(400);

    let listed = server.get("/admin/events?source=shop").json();
    assert_eq!(listed["events"].as_array().unwrap().len(), 1);
    assert_eq!(listed["events"][0]["source"], "shop");
    let plain_only = server.get("/admin/events?source=cognigy").json();
    assert_eq!(plain_only["events"].as_array().unwrap().len(), 1);
    assert!(plain_only["events"][0].get("source").is_none());

    let replayed = server.operate("POST", "/webhooks/replay/e1?source=shop", b"").json();
    assert_eq!(replayed, json!({"status": "replayed", "crm_context": {"id": "of-the-shop"}}));
    assert_eq!((plain.requests().len(), shop.requests().len()), (1, 2));
    server.operate("POST", "/webhooks/replay/e1?source=support", b"").problem(404);
    let unknown = server.operate("POST", "/webhooks/replay/e1?source=other", b"").problem(409);
    assert!(unknown.contains("other is not configured"), "{unknown}");

    for (selection, asked) in [
        (r#"{"ids":["e1"],"source":"shop"}"#, (1, 3)),
        (r#"{"source":"shop"}"#, (1, 4)),
        (r#"{"ids":["e1"]}"#, (2, 4)),
        (r#"{"status":"processed"}"#, (3, 5)),
    ] {
        let begun = server.operate("POST", "/admin/replays", selection.as_bytes());
        assert_eq!(begun.status, 202, "{begun:?}");
        eventually(selection, || {
            let counts = (plain.requests().len(), shop.requests().len());
            (counts == asked).then_some(())
        });
        server.wait_for("e1", "processed");
        wait_for(&server, "shop", "e1", "processed");
    }

    // A quarantined body is retried by its own source.
    to_shop(&server, br#"{"eventId":"bad"}"#).problem(400);
    let item = server.get("/admin/quarantine").json()["items"][0].clone();
    assert_eq!(item["source"], "shop");
    let path = format!("/admin/quarantine/{}/retry", item["id"]);
    let still = server.operate("POST", &path, b"").problem(409);
    assert!(still.starts_with("Still in quarantine. "), "{still}");
}

#[test]
fn an_event_is_found_whichever_source_has_it() {
    let crm = Crm::start();
    let mut site = site();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    for (path, secret, ids) in [
        (PATHS[0].0, PATHS[0].1, &["plain", "plain-and-shop"][..]),
        (PATHS[1].0, PATHS[1].1, &["shop", "plain-and-shop", "shop-and-support"]),
        (PATHS[2].0, PATHS[2].1, &["shop-and-support"]),
    ] {
        for id in ids {
            assert_eq!(deliver(&server, path, secret, &event(id, id)).status, 200);
        }
    }
    eventually("all have run", || (server.stats()["events"]["processed"] == 6).then_some(()));

    assert_eq!(server.event("shop")["source"], "shop");
    assert_eq!(server.event("plain-and-shop").get("source"), None, "the plain source's first");
    let several = server.get("/admin/events/shop-and-support").problem(409);
    assert!(several.contains("shop, support"), "{several}");
    server.get("/admin/events/shop?source=").problem(400);
    server.get("/admin/events/shop?sauce=shop").problem(400);
    server.get("/admin/events/nowhere").problem(404);
    assert_eq!(server.operate("POST", "/webhooks/replay/shop", b"").status, 200);
    server.operate("POST", "/webhooks/replay/shop-and-support", b"").problem(409);
    let attempts = server.event("shop")["attempts"].clone();
    assert_eq!(attempts.as_array().unwrap().len(), 2, "that one ran, once");

    for command in ["show", "replay"] {
        let found = site.run(&[command, "shop"]);
        assert_eq!(found.status.code(), Some(0), "{found:?}");
        for (id, named) in
            [("plain-and-shop", "cognigy, shop"), ("shop-and-support", "shop, support")]
        {
            let several = site.run(&[command, id]);
            assert_eq!(several.status.code(), Some(2), "{several:?}");
            assert!(stderr(&several).contains(named), "{several:?}");
            let named = site.run(&[command, id, "--source", "shop"]);
            assert_eq!(named.status.code(), Some(0), "{named:?}");
        }
        assert_eq!(site.run(&[command, "nowhere"]).status.code(), Some(1));
    }
}

#[test]
fn the_command_line_names_the_source_too() {
    let crm = Crm::start();
    let mut site = site();
    site.set("COGNIGY_SOURCE_SHOP_CRM_BASE_URL", crm.url());
    let server = site.serve();
    site.set("COGNIGY_LISTEN", server.address.to_string());
    let sent = site.run(&["send", "--generate", "3", "--source", "shop", "--json"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    let list = |arguments: &[&str]| -> Vec<Value> {
        let listed = site.run(&[&["list", "--json"], arguments].concat());
        let lines = stdout(&listed);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let events = list(&["--source", "shop"]);
    assert_eq!(events.len(), 3);
    assert_eq!(list(&["--source", "cognigy"]).len(), 0);
    assert!(stdout(&site.run(&["list"])).contains("  of shop"));
    let id = events[0]["event_id"].as_str().unwrap();
    wait_for(&server, "shop", id, "processed");
    for arguments in [&["show", id][..], &["show", id, "--source", "shop"]] {
        let shown = stdout(&site.run(arguments));
        assert!(shown.contains("source       shop"), "{shown}");
    }
    let shown = site.run(&["show", id, "--source", "support"]);
    assert_eq!(shown.status.code(), Some(1), "it is not that source's");
    let asked = crm.requests().len();
    let replayed = site.run(&["replay", id, "--source", "shop"]);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    assert_eq!(crm.requests().len(), asked + 1);
    let replayed = site.run(&["replay", "--source", "shop"]);
    assert!(stdout(&replayed).ends_with("3 replayed, 0 not\n"), "{replayed:?}");
    for arguments in [
        &["send", "--generate", "1", "--source", "other"][..],
        &["show", id, "--source", "The Shop"],
        &["list", "--source", "The Shop"],
    ] {
        let refused = site.run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert_eq!(stderr(&refused).lines().count(), 1, "{refused:?}");
    }

    to_shop(&server, br#"{"eventId":"bad"}"#).problem(400);
    let item = server.get("/admin/quarantine").json()["items"][0]["id"].to_string();
    let retried = stdout(&site.run(&["quarantine", "--retry", &item]));
    assert!(retried.contains("invalid"), "{retried}");
}

#[test]
fn events_of_a_source_that_is_gone_stay_and_are_told_of() {
    let mut site = site();
    site.set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    for number in 0..3 {
        let body = event(&format!("e{number}"), "c1");
        assert_eq!(to_shop(&server, &body).status, 200);
    }
    server.terminate();

    let crm = Crm::start();
    site.set("COGNIGY_SOURCES", "support")
        .set("COGNIGY_WORKER", "on")
        .set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    let told = eventually("the start tells of them", || {
        let log = server.log();
        let told = log.lines().find(|line| line.contains("of a source that is not configured"));
        told.map(|line| serde_json::from_str::<Value>(line).unwrap())
    });
    assert_eq!((&told["source"], &told["events"]), (&json!("shop"), &json!(3)), "{told}");
    assert!(
        server.log().contains("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET"),
        "nor is its variable used"
    );
    to_shop(&server, &event("e9", "c1")).problem(404);
    server.operate("POST", "/webhooks/replay/e0?source=shop", b"").problem(409);
    let begun = server.operate("POST", "/admin/replays", br#"{"source":"shop"}"#).json();
    let path = format!("/admin/replays/{}", begun["id"].as_str().unwrap());
    let ended = eventually("the replay ends", || {
        let progress = server.get(&path).json();
        (progress["state"] == "done").then_some(progress)
    });
    assert_eq!((&ended["failed"], &ended["succeeded"]), (&json!(3), &json!(0)), "{ended}");
    let replayed = site.run(&["replay", "e0", "--source", "shop"]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(stdout(&replayed).contains("not_configured"), "{replayed:?}");
    // Other sources' work goes on beside it.
    assert_eq!(server.deliver(&event("e0", "c1")).status, 200);
    server.wait_for("e0", "processed");
    let listed = server.get("/admin/events?source=shop&status=pending").json();
    assert_eq!(listed["events"].as_array().unwrap().len(), 3);
    server.terminate();

    site.set("COGNIGY_SOURCES", "shop");
    let server = site.serve();
    for number in 0..3 {
        wait_for(&server, "shop", &format!("e{number}"), "processed");
    }
}

#[test]
fn metrics_and_log_lines_tell_sources_apart() {
    let crm = Crm::start();
    let mut site = site();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    for (path, secret, count) in
        [(PATHS[0].0, PATHS[0].1, 1), (PATHS[1].0, PATHS[1].1, 2), (PATHS[2].0, PATHS[2].1, 3)]
    {
        for number in 0..count {
            let body = event(&format!("e{number}"), "c1");
            assert_eq!(deliver(&server, path, secret, &body).status, 200);
        }
    }
    eventually("all are processed", || (server.stats()["events"]["processed"] == 6).then_some(()));
    for (source, count) in [("cognigy", "1"), ("shop", "2"), ("support", "3")] {
        let label = format!(r#",source="{source}""#);
        let accepted = format!(r#"cognigy_deliveries_total{{outcome="accepted"{label}}}"#);
        assert_eq!(metric(&server, &accepted), count);
        let succeeded = format!(r#"cognigy_processing_total{{outcome="succeeded"{label}}}"#);
        assert_eq!(metric(&server, &succeeded), count);
    }
    assert_eq!(metric(&server, r#"cognigy_events{status="processed"}"#), "6");
    assert_eq!(server.stats()["deliveries"]["received"], 6, "all sources together");
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    let heads = metrics.lines().filter(|line| line.starts_with("# TYPE cognigy_deliveries_total"));
    assert_eq!(heads.count(), 1, "one metric, not one a source");
    // Every series of a metric with sources has the label of its source.
    let series = metrics.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
    let told_apart: std::collections::BTreeSet<_> =
        series.clone().filter(|line| line.contains("source=")).map(name).collect();
    let unnamed = series
        .filter(|line| told_apart.contains(&name(line)) && !line.contains("source="))
        .collect::<Vec<_>>();
    assert_eq!((told_apart.len() > 15, unnamed), (true, Vec::new()), "{told_apart:?}");
    assert!(server.log().contains(r#""source":"shop""#));
    assert!(server.log().contains(r#""source":"cognigy""#));
    assert!(!server.log().contains("marked-"), "no secret, no body");
}

#[test]
fn sources_can_be_served_without_the_plain_path() {
    let mut site = site();
    site.variables.retain(|(name, _)| name != "COGNIGY_WEBHOOK_SECRET");
    site.set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    server.deliver(&event("e1", "c1")).problem(404);
    assert_eq!(to_shop(&server, &event("e1", "c1")).status, 200);
    server.terminate();

    site.variables.retain(|(name, _)| name != "COGNIGY_SOURCE_SUPPORT_WEBHOOK_SECRET");
    let refused = site.run(&["serve"]);
    assert_eq!(refused.status.code(), Some(2));
    let complaint =
        "cognigy-server: COGNIGY_SOURCE_SUPPORT_WEBHOOK_SECRET is required but not set\n";
    assert_eq!(stderr(&refused), complaint);
    let help = stdout(&site.run(&["serve", "--help-settings"]));
    assert!(
        help.contains("COGNIGY_SOURCES") && help.contains("COGNIGY_SOURCE_NAME_WEBHOOK_SECRET")
    );
}
