//! Notices: the server tells a URL what operators should know, once, signed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Site, crm::Crm, event, eventually, stderr};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The notices that came, each with its `webhook-id`, after a look at their signatures.
fn notices(receiver: &Crm) -> Vec<(String, Value)> {
    let heads = receiver.requests();
    let told = heads.iter().zip(receiver.bodies()).map(|(head, body)| {
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(it, _)| it.eq_ignore_ascii_case(name)).expect(name).1.to_owned()
        };
        let id = header("webhook-id");
        let key = STANDARD.decode(&SECRET[6..]).unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{}.{body}", header("webhook-timestamp")).as_bytes());
        let signed = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(header("webhook-signature"), signed);
        (id, serde_json::from_str(&body).unwrap())
    });
    told.collect()
}

fn kinds(receiver: &Crm) -> Vec<String> {
    notices(receiver).iter().map(|(_, it)| it["type"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a notice of this kind came, and yields what it says.
fn told(receiver: &Crm, kind: &str) -> Value {
    eventually(&format!("{kind} is told"), || {
        let mut all = notices(receiver).into_iter().rev();
        all.find(|(_, notice)| notice["type"] == kind).map(|(_, notice)| notice["data"].clone())
    })
}

#[test]
fn operators_are_told_of_errors_breakers_silence_and_the_end_of_replays() {
    let (crm, receiver) = (Crm::start(), Crm::start());
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_BREAKER", "on")
        .set("COGNIGY_RETRY_MAX_DELAY", "1s")
        .set("COGNIGY_NOTIFY_URL", receiver.url())
        .set("COGNIGY_NOTIFY_SECRET", SECRET)
        .set("COGNIGY_NOTIFY_SILENCE", "12s");
    let server = site.serve();
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    server.wait_for("e1", "processed");
    // A CRM that is out of reach.
    crm.answer(503, "");
    assert_eq!(server.deliver(&event("e2", "c2")).status, 200);
    assert_eq!(told(&receiver, "breaker.opened"), json!({ "source": "cognigy" }));
    crm.answer(200, r#"{"name":"Ada"}"#);
    server.wait_for("e2", "processed");
    assert_eq!(told(&receiver, "breaker.closed"), json!({ "source": "cognigy" }));
    // An error that was not there before. The receiver does not take the notice at first.
    receiver.answer(500, "");
    crm.refuse("refused-customer", 400);
    assert_eq!(server.deliver(&event("e3", "refused-customer")).status, 200);
    server.wait_for("e3", "dead_lettered");
    let error = told(&receiver, "error.opened");
    assert_eq!((&error["count"], &error["sample"]), (&json!(1), &json!(["e3"])), "{error}");
    receiver.answer(200, "");
    // A bulk replay.
    let begun = server.operate("POST", "/admin/replays", br#"{"ids":["e1","e2"]}"#).json();
    let ended = told(&receiver, "replay.ended");
    assert_eq!((&ended["id"], &ended["succeeded"]), (&begun["id"], &json!(2)), "{ended}");
    // A source from which nothing comes.
    let silent = told(&receiver, "source.silent");
    assert_eq!(silent["source"], "cognigy");
    assert_eq!(server.deliver(&event("e4", "c4")).status, 200);
    told(&receiver, "source.heard");
    // What came more than once came under one id, and nothing was told that did not change.
    let all = notices(&receiver);
    for kind in ["breaker.opened", "error.opened", "replay.ended", "source.heard"] {
        let ids: std::collections::BTreeSet<_> =
            all.iter().filter(|(_, it)| it["type"] == kind).map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 1, "{kind}: {all:?}");
    }
    assert!(!server.log().contains(SECRET) && !server.log().contains("marked-body"));
}

#[test]
fn another_server_does_not_tell_the_same_again() {
    let (crm, receiver) = (Crm::start(), Crm::start());
    crm.answer(400, "");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_NOTIFY_URL", receiver.url())
        .set("COGNIGY_NOTIFY_SECRET", SECRET);
    let (mut one, mut other) = (site.serve(), site.serve());
    assert_eq!(one.deliver(&event("e1", "c1")).status, 200);
    told(&receiver, "error.opened");
    std::thread::sleep(std::time::Duration::from_secs(11));
    one.terminate();
    other.terminate();
    let _after_a_restart = site.serve();
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(kinds(&receiver), ["error.opened"]);
}

#[test]
fn a_url_without_a_secret_stops_the_start() {
    let mut site = Site::new();
    site.set("COGNIGY_NOTIFY_URL", "http://127.0.0.1:9/marked-path");
    let refused = site.run(&["serve"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let told = stderr(&refused);
    assert!(told.contains("COGNIGY_NOTIFY_SECRET") && !told.contains("marked-path"), "{told}");
    site.set("COGNIGY_NOTIFY_SECRET", "whsec_short");
    assert_eq!(site.run(&["serve"]).status.code(), Some(2));
}
