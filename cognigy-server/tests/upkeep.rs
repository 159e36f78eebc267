//! What is forgotten and what is kept, and what operators' requests cost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_test_postgres::Cluster;
use common::{Server, Site, crm::Crm, event, eventually, stderr, stdout};
use serde_json::Value;

/// The value of a series in `/metrics`, by its name and the `labels` that it must have.
fn metric(server: &Server, name: &str, labels: &str) -> Option<f64> {
    let text = server.get("/metrics").body;
    let is_it = |line: &&str| line.split(['{', ' ']).next() == Some(name) && line.contains(labels);
    text.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

fn purge(site: &Site, more: &[&str]) -> Value {
    let arguments = [&["purge", "--json", "--retention", "1ms"], more].concat();
    let output = site.run(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Makes one processed event, one dead-lettered event, one invalid body and one conflict.
fn with_some_of_each(site: &mut Site, crm: &Crm) -> Server {
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETRY_MAX_ATTEMPTS", "1");
    crm.refuse("c-dead", 400);
    let server = site.serve();
    for (id, contact) in [("done", "c-done"), ("dead", "c-dead"), ("done", "c-other")] {
        assert_eq!(server.deliver(&event(id, contact)).status, 200);
    }
    assert_eq!(server.deliver(b"{}").status, 400);
    server.wait_for("done", "processed");
    server.wait_for("dead", "dead_lettered");
    server
}

#[test]
fn what_no_operator_has_dealt_with_outlives_the_retention() {
    let (crm, mut site) = (Crm::start(), Site::new());
    let server = with_some_of_each(&mut site, &crm);
    let counted = purge(&site, &["--dry-run"]);
    assert_eq!(counted["events"], serde_json::json!({ "processed": 1 }));
    assert_eq!(counted["quarantined"], serde_json::json!({ "invalid": 1 }));
    assert_eq!(server.event("done")["status"], "processed", "it was only counted");
    let gone = purge(&site, &[]);
    assert_eq!(
        (&gone["events"], &gone["quarantined"]),
        (&counted["events"], &counted["quarantined"])
    );
    assert_eq!(server.get("/admin/events/done").status, 404);
    assert_eq!(server.event("dead")["status"], "dead_lettered");
    assert_eq!(server.get("/admin/quarantine").json()["items"][0]["reason"], "conflict");

    let counted = purge(&site, &["--dry-run", "--dead-letter-retention", "1ms"]);
    assert_eq!(counted["events"], serde_json::json!({ "dead_lettered": 1 }));
    assert_eq!(counted["quarantined"], serde_json::json!({ "conflict": 1 }));
    // Once an operator has replayed it, it is forgotten like any other.
    crm.refuse_nobody();
    assert_eq!(server.operate("POST", "/webhooks/replay/dead", b"").status, 200);
    assert_eq!(purge(&site, &[])["events"], serde_json::json!({ "processed": 1 }));
    purge(&site, &["--dead-letter-retention", "1ms"]);
    assert!(server.get("/admin/quarantine").json()["items"].as_array().unwrap().is_empty());
}

#[test]
fn a_server_logs_and_counts_what_it_forgets() {
    let (crm, mut site) = (Crm::start(), Site::new());
    with_some_of_each(&mut site, &crm).terminate();
    site.set("COGNIGY_RETENTION", "1ms");
    let server = site.serve();
    let purged = |status: &str| metric(&server, "cognigy_events_purged_total", status);
    eventually("it forgets", || (purged("processed") == Some(1.0)).then_some(()));
    assert_eq!(purged("dead_lettered"), Some(0.0));
    let log = eventually("it says so", || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("older than the retention"))?;
        serde_json::from_str::<Value>(line).ok()
    });
    assert_eq!((&log["processed"], &log["invalid_bodies"]), (&1.into(), &1.into()), "{log}");
    assert!(metric(&server, "cognigy_store_bytes", "database").unwrap() > 0.0);
}

#[test]
fn a_purge_and_an_erasure_ask_on_a_terminal_only() {
    let (crm, mut site) = (Crm::start(), Site::new());
    let server = with_some_of_each(&mut site, &crm);
    // `script` runs a command on a terminal of its own; util-linux has it nearly everywhere.
    let on_terminal = |command: &str, answer: &str| {
        let settings: Vec<_> = site.variables.clone();
        let output = std::process::Command::new("sh")
            .args([
                "-c",
                &format!(
                    "printf '{answer}\\n' | script -qec '{} {command}' /dev/null",
                    common::BINARY
                ),
            ])
            .env_clear()
            .envs(settings)
            .env("PATH", "/usr/bin:/bin")
            .current_dir(site.folder.path())
            .output()
            .unwrap();
        stdout(&output)
    };
    let refused = on_terminal("purge --retention 1ms", "n");
    assert!(refused.contains("would be forgotten") && refused.contains("[y/N]"), "{refused}");
    assert_eq!(server.event("done")["status"], "processed");
    let agreed = on_terminal("purge --retention 1ms", "y");
    assert!(agreed.contains("1 events (1 processed) forgotten"), "{agreed}");
    assert_eq!(server.get("/admin/events/done").status, 404);
    // An erasure tells how much would go before it asks.
    let person = server.event("dead")["external_id"].as_str().unwrap().to_owned();
    let erase = format!("erase --external-id {person}");
    let refused = on_terminal(&erase, "n");
    let told = "1 event, 0 quarantined bodies and 1 dead letter of this person would be erased. Erase their";
    assert!(refused.contains(told) && refused.contains("nothing was erased"), "{refused}");
    assert_eq!(server.event("dead")["forgotten"], Value::Null);
    assert!(on_terminal(&erase, "y").contains("events       1"));
    assert_eq!(server.event("dead")["forgotten"], "erased");
}

#[test]
fn a_source_s_broken_sender_evicts_only_its_own_invalid_bodies() {
    let mut site = Site::new();
    site.set("COGNIGY_QUARANTINE_MAX_ITEMS", "2")
        .set("COGNIGY_SOURCES", "shop")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", common::SECRET)
        .set("COGNIGY_WORKER", "off");
    let server = site.serve();
    let post = |path: &str, body: &[u8]| {
        server.post(path, &[("X-Cognigy-Signature", &common::signature(body))], body).status
    };
    let shop = "/webhooks/cognigy/shop";
    assert_eq!(post(shop, b"{\"of\":\"the shop\"}"), 400);
    assert_eq!(server.deliver(&event("a", "c1")).status, 200);
    assert_eq!(server.deliver(&event("a", "c2")).status, 200, "a conflict");
    for number in 0..5 {
        assert_eq!(post("/webhooks/cognigy", format!("{{\"n\":{number}}}").as_bytes()), 400);
    }
    let items = server.get("/admin/quarantine").json()["items"].clone();
    let bodies: Vec<_> =
        items.as_array().unwrap().iter().map(|item| item["body"].as_str().unwrap()).collect();
    assert_eq!(bodies.len(), 4, "{bodies:?}");
    assert_eq!(bodies[..2], ["{\"n\":4}", "{\"n\":3}"]);
    assert!(bodies[2].contains("\"c2\"") && bodies[3].contains("the shop"), "{bodies:?}");
    assert_eq!(metric(&server, "cognigy_quarantine_evicted_total", ""), Some(3.0));
    assert!(server.log().contains("went from the quarantine"), "{}", server.log());
}

#[test]
#[cfg(target_os = "linux")]
fn no_operator_s_request_costs_much_memory() {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off").set("COGNIGY_LOG", "info");
    let server = site.serve();
    // In JSON, a control character takes six bytes.
    let mut body = vec![1_u8; 1 << 20];
    for number in 0..64_u8 {
        body[..2].copy_from_slice(&[b'a' + number / 26, b'a' + number % 26]);
        assert_eq!(server.deliver(&body).status, 400);
    }
    let long = "x".repeat(900_000);
    for number in 0..8 {
        assert_eq!(server.deliver(&event(&format!("e{number}"), &long)).status, 200);
    }
    let status = |name: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let mut quarantine = server.get("/admin/quarantine?limit=500").json();
    assert_eq!(quarantine["items"].as_array().unwrap().len(), 64, "the limit in bytes is met");
    let newest = quarantine["items"][0].take();
    assert_eq!(
        (&newest["body_bytes"], &newest["body_truncated"]),
        (&(1 << 20).into(), &true.into())
    );
    for path in [
        "/admin/quarantine?limit=500".to_owned(),
        format!("/admin/quarantine/{}", newest["id"]),
        "/admin/events?limit=500".to_owned(),
        "/admin/events/e1".to_owned(),
        "/metrics".to_owned(),
    ] {
        // Forgets how much memory was used at most before (proc(5)).
        std::fs::write(format!("/proc/{}/clear_refs", server.id()), "5").unwrap();
        let before = status("VmRSS");
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        let grown = status("VmHWM").saturating_sub(before);
        assert!(grown <= 32 * 1024, "{path}: {grown} KiB");
        println!("{path}: {grown} KiB for an answer of {} KiB", answer.body.len() / 1024);
    }
    let whole = server.get(&format!("/admin/quarantine/{}", newest["id"])).json();
    assert_eq!(whole["body"].as_str().unwrap().len(), 1 << 20);
    assert_eq!(whole["body_truncated"], false);
}

/// Without further ado, once there are enough events for a segment.
#[test]
fn words_are_described_in_the_index_unless_that_is_turned_off() {
    for [mut with, mut without] in [
        [Site::on_file(), Site::on_file()],
        [Site::on_postgres(Cluster::shared()), Site::on_postgres(Cluster::shared())],
    ] {
        let prefix = if with.postgres.is_some() { "cognigy_" } else { "" };
        let segments = format!(
            "SELECT CAST(count(*) AS TEXT) FROM {prefix}search_segments WHERE state = 'built'"
        );
        with.set("COGNIGY_WORKER", "off");
        without.set("COGNIGY_WORKER", "off").set("COGNIGY_SEARCH", "off");
        let servers = [with.serve(), without.serve()];
        for server in &servers {
            for n in 0..1030 {
                assert_eq!(server.deliver(&event(&format!("e{n}"), "c1")).status, 200);
            }
        }
        eventually("a segment is built", || (with.sql(&segments) != "0").then_some(()));
        assert_eq!(without.sql(&segments), "0");
        for server in &servers {
            let found = server.get("/admin/events?q=e77&limit=100").json();
            let ids: Vec<_> =
                found["events"].as_array().unwrap().iter().map(|it| &it["event_id"]).collect();
            assert_eq!(ids.len(), 11, "e77 and e770 to e779: {ids:?}");
        }
    }
}
