//! What the alerts and the dashboard in deploy/monitoring need: metrics that are there from the first
//! scrape and move when they should, and what operators are told while a CRM or the database is gone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::{Server, Site, crm::Crm, event, eventually, stdout};
use serde_json::{Value, json};

const SHOP: &str = "/webhooks/cognigy/shop";

fn metrics(server: &Server) -> String {
    server.request("GET", "/metrics", &[], b"").body
}

/// The value of a series, if it is there.
fn metric(server: &Server, series: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    metrics(server).lines().find_map(value)
}

fn becomes(server: &Server, series: &str, value: f64) {
    eventually(&format!("{series} is {value}"), || {
        (metric(server, series) == Some(value)).then_some(())
    });
}

fn deliver_to_shop(server: &Server, body: &[u8]) -> u16 {
    server.post(SHOP, &[("X-Cognigy-Signature", &common::signature(body))], body).status
}

fn with_shop(site: &mut Site) {
    site.set("COGNIGY_SOURCES", "shop").set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", common::SECRET);
}

fn now() -> f64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    since_1970.unwrap().as_secs_f64()
}

/// The lines of the log with that message.
fn logged(server: &Server, message: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

#[test]
fn every_metric_is_there_at_the_first_scrape_and_in_the_manual() {
    let mut site = Site::new();
    with_shop(&mut site);
    site.set("COGNIGY_SOURCE_SHOP_MAX_IN_FLIGHT", "50")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET_PREVIOUS", "the-secret-before");
    let server = site.serve();
    becomes(&server, "cognigy_store_up", 1.0);
    for source in ["cognigy", "shop"] {
        let labels = format!("source=\"{source}\"");
        for series in [
            format!("cognigy_crm_breaker_opened_total{{{labels}}}"),
            format!("cognigy_last_delivery_timestamp_seconds{{{labels}}}"),
            format!("cognigy_deliveries_in_flight{{{labels}}}"),
            format!("cognigy_source_backlog_events{{{labels}}}"),
            format!("cognigy_failures_total{{kind=\"transient\",stage=\"crm\",{labels}}}"),
            format!("cognigy_failures_total{{kind=\"permanent\",stage=\"forward\",{labels}}}"),
            format!("cognigy_failures_total{{kind=\"permanent\",stage=\"handler\",{labels}}}"),
            format!("cognigy_events_given_up_total{{reason=\"permanent\",{labels}}}"),
            format!("cognigy_events_given_up_total{{reason=\"attempts\",{labels}}}"),
            format!("cognigy_events_given_up_total{{reason=\"lost_leases\",{labels}}}"),
            format!("cognigy_events_given_up_total{{reason=\"replay\",{labels}}}"),
            format!("cognigy_replays_total{{outcome=\"replayed\",{labels}}}"),
            format!("cognigy_replays_total{{outcome=\"busy\",{labels}}}"),
            format!("cognigy_replays_total{{outcome=\"error\",{labels}}}"),
        ] {
            assert_eq!(metric(&server, &series), Some(0.0), "{series}");
        }
    }
    let store = if site.postgres.is_some() { "postgres" } else { "sqlite" };
    for (series, value) in [
        (r#"cognigy_max_in_flight{source="cognigy"}"#, 4096.0),
        (r#"cognigy_max_in_flight{source="shop"}"#, 50.0),
        (r#"cognigy_previous_secret_set{source="cognigy"}"#, 0.0),
        (r#"cognigy_previous_secret_set{source="shop"}"#, 1.0),
        (r#"cognigy_bulk_replays{state="running"}"#, 0.0),
        (r#"cognigy_bulk_replays{state="waiting"}"#, 0.0),
        ("cognigy_bulk_replay_events_waiting", 0.0),
        ("cognigy_worker", 1.0),
        (&format!("cognigy_build_info{{store=\"{store}\",version=\"0.1.0\"}}"), 1.0),
    ] {
        assert_eq!(metric(&server, series), Some(value), "{series}");
    }
    let free = metric(&server, "cognigy_store_free_bytes");
    assert_eq!(free.is_some_and(|free| free > 1e6), site.postgres.is_none(), "{free:?}");
    for (name, bounds) in [
        ("cognigy_ingest_duration_seconds", ["0.003", "0.0075", "0.015", "15"].as_slice()),
        ("cognigy_processing_duration_seconds", &["20", "30", "60"]),
        ("cognigy_crm_request_duration_seconds", &["20", "30", "60"]),
    ] {
        for bound in bounds {
            let series = format!("{name}_bucket{{source=\"cognigy\",le=\"{bound}\"}}");
            assert_eq!(metric(&server, &series), Some(0.0), "{series}");
        }
    }

    let manual = common::workspace().join("docs/metrics.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let text = metrics(&server);
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let names: BTreeSet<_> = names.filter(|name| name.starts_with("cognigy_")).collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let is_there = ['`', '{'].iter().any(|end| manual.contains(&format!("`{name}{end}")));
        assert!(is_there, "{name} is not in docs/metrics.md");
    }
}

#[test]
fn failures_are_told_by_where_they_happened_and_runs_by_why_they_ended() {
    let (crm, mut site) = (Crm::start(), Site::new());
    with_shop(&mut site);
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_RETRY_MAX_ATTEMPTS", "2")
        // No process listens there.
        .set("COGNIGY_SOURCE_SHOP_FORWARD_URL", "http://127.0.0.1:9/hook")
        .set(
            "COGNIGY_SOURCE_SHOP_FORWARD_SECRET",
            "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        );
    let server = site.serve();
    let failures = |source: &str, stage: &str, kind: &str| {
        let labels = format!(r#"kind="{kind}",stage="{stage}",source="{source}""#);
        metric(&server, &format!("cognigy_failures_total{{{labels}}}")).unwrap()
    };
    let of = |name: &str, label: &str| {
        metric(&server, &format!("{name}{{{label},source=\"cognigy\"}}")).unwrap()
    };
    crm.refuse("c-down", 503);
    assert_eq!(server.deliver(&event("down", "c-down")).status, 200);
    server.wait_for("down", "dead_lettered");
    crm.refuse("c-wrong", 400);
    assert_eq!(server.deliver(&event("wrong", "c-wrong")).status, 200);
    server.wait_for("wrong", "dead_lettered");
    assert_eq!(deliver_to_shop(&server, &event("handed", "c-1")), 200);
    eventually("the hand-over fails", || {
        (server.get("/admin/events/handed?source=shop").json()["status"] == "dead_lettered")
            .then_some(())
    });
    assert_eq!(failures("cognigy", "crm", "transient"), 2.0);
    assert_eq!(failures("cognigy", "crm", "permanent"), 1.0);
    assert_eq!(failures("shop", "forward", "transient"), 2.0);
    assert_eq!(failures("shop", "crm", "transient"), 0.0);
    assert_eq!(of("cognigy_events_given_up_total", r#"reason="attempts""#), 1.0);
    assert_eq!(of("cognigy_events_given_up_total", r#"reason="permanent""#), 1.0);

    server.operate("POST", "/webhooks/replay/wrong", b"").problem(500);
    server.operate("POST", "/webhooks/replay/unknown", b"").problem(404);
    crm.refuse_nobody();
    assert_eq!(server.operate("POST", "/webhooks/replay/wrong", b"").status, 200);
    let begun = server.operate("POST", "/admin/replays", br#"{"ids":["down"]}"#);
    assert_eq!(begun.status, 202, "{begun:?}");
    server.wait_for("down", "processed");
    for (outcome, count) in [("failed", 1.0), ("replayed", 2.0), ("busy", 0.0)] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(of("cognigy_replays_total", &label), count, "{outcome}");
    }
    assert_eq!(of("cognigy_events_given_up_total", r#"reason="replay""#), 1.0);
}

#[test]
fn a_bulk_replay_is_told_until_its_end() {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    assert_eq!(metric(&server, "cognigy_worker"), Some(0.0));
    for id in ["a", "b", "c"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
    }
    let begun = server.operate("POST", "/admin/replays", br#"{"ids":["a","b","c"],"rate":0.01}"#);
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    becomes(&server, r#"cognigy_bulk_replays{state="waiting"}"#, 1.0);
    becomes(&server, "cognigy_bulk_replay_events_waiting", 3.0);
    site.set("COGNIGY_WORKER", "on");
    let worker = site.serve();
    becomes(&server, r#"cognigy_bulk_replays{state="running"}"#, 1.0);
    assert_eq!(metric(&worker, r#"cognigy_bulk_replays{state="waiting"}"#), Some(0.0));
    assert_eq!(server.operate("DELETE", &format!("/admin/replays/{id}"), b"").status, 200);
    becomes(&server, r#"cognigy_bulk_replays{state="running"}"#, 0.0);
    becomes(&server, "cognigy_bulk_replay_events_waiting", 0.0);
}

#[test]
fn deliveries_purges_and_what_each_source_has_left_are_told() {
    let mut site = Site::new();
    with_shop(&mut site);
    site.set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    let last = |server: &Server, source: &str| {
        let series = format!("cognigy_last_delivery_timestamp_seconds{{source=\"{source}\"}}");
        metric(server, &series).unwrap()
    };
    server.post(SHOP, &[], b"{}").problem(401);
    assert_eq!(last(&server, "shop"), 0.0, "a stranger's delivery is none of its sender");
    assert_eq!(server.deliver(b"{}").status, 400);
    assert!((now() - last(&server, "cognigy")).abs() < 30.0);
    assert_eq!(deliver_to_shop(&server, &event("a", "c1")), 200);
    assert!((now() - last(&server, "shop")).abs() < 30.0);
    eventually("a purge ends", || {
        let at = metric(&server, "cognigy_purge_last_success_timestamp_seconds")?;
        ((now() - at).abs() < 30.0).then_some(())
    });
    assert_eq!(metric(&server, "cognigy_purge_duration_seconds_count"), Some(1.0));
    server.terminate();

    site.set("COGNIGY_SOURCES", "");
    let server = site.serve();
    // Nothing else shows that its event waits for ever.
    becomes(&server, r#"cognigy_source_backlog_events{source="shop"}"#, 1.0);
    assert_eq!(metric(&server, r#"cognigy_source_backlog_events{source="cognigy"}"#), Some(0.0));
}

#[test]
fn deliveries_in_flight_are_told() {
    let mut site = Site::on_file();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    let series = r#"cognigy_deliveries_in_flight{source="cognigy"}"#;
    assert_eq!(metric(&server, series), Some(0.0));
    let holder = rusqlite::Connection::open(site.database()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let delivery = scope.spawn(|| server.deliver(&event("a", "c1")).status);
        becomes(&server, series, 1.0);
        holder.execute_batch("COMMIT").unwrap();
        assert_eq!(delivery.join().unwrap(), 200);
    });
    becomes(&server, series, 0.0);
}

#[test]
fn requests_for_a_token_of_the_crm_are_counted() {
    let (crm, mut site) = (Crm::start(), Site::new());
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_PRESET", "zendesk")
        .set("CRM_AUTH", "oauth-client-credentials")
        .set("CRM_CLIENT_ID", "client")
        .set("CRM_CLIENT_SECRET", "marked-client-secret")
        .set("CRM_TOKEN_URL", format!("{}/token", crm.url()))
        .set("COGNIGY_RETRY_MAX_DELAY", "100ms");
    crm.answer(200, r#"{"users":[],"count":0,"access_token":"marked-token","expires_in":3600}"#);
    crm.refuse("/token", 400);
    let server = site.serve();
    let series = |outcome: &str| {
        format!("cognigy_crm_token_refreshes_total{{outcome=\"{outcome}\",source=\"cognigy\"}}")
    };
    assert_eq!(metric(&server, &series("failed")), Some(0.0));
    assert_eq!(server.deliver(&event("a", "c1")).status, 200);
    eventually("it fails", || (metric(&server, &series("failed"))? > 0.0).then_some(()));
    assert_eq!(metric(&server, &series("succeeded")), Some(0.0));
    crm.refuse_nobody();
    server.wait_for("a", "processed");
    assert_eq!(metric(&server, &series("succeeded")), Some(1.0));
}

#[test]
fn operators_are_told_that_a_crm_is_out_of_reach_and_why() {
    let (crm, mut site) = (Crm::start(), Site::new());
    crm.answer(503, "");
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_BREAKER", "on")
        .set("COGNIGY_RETRY_MAX_DELAY", "100ms");
    let mut server = site.serve();
    assert_eq!(server.stats()["breakers"], json!({}));
    assert_eq!(server.deliver(&event("waits", "c1")).status, 200);
    let opened = r#"cognigy_crm_breaker_opened_total{source="cognigy"}"#;
    becomes(&server, opened, 1.0);
    let line = eventually("the log says why", || {
        let message = "the CRM is out of reach: look-ups are held back until it answers a probe";
        logged(&server, message).pop()
    });
    assert_eq!(line["level"], "WARN");
    assert!(line["error"].as_str().unwrap().contains("503"), "{line}");

    let breaker = server.stats()["breakers"]["cognigy"].clone();
    assert!(breaker["error"].as_str().unwrap().contains("503"), "{breaker}");
    eventually("every process can read it", || {
        stdout(&site.run(&["stats"])).contains("held back").then_some(())
    });
    let url = format!("http://{}", server.address);
    for more in [[].as_slice(), &["--server", &url]] {
        let told = |arguments: &[&str]| {
            let output = site.run(&[arguments, more].concat());
            assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
            stdout(&output)
        };
        let why = told(&["why", "waits"]);
        assert!(why.contains("the CRM of the source cognigy is out of reach"), "{why}");
        assert!(why.contains("503"), "{why}");
        for command in ["errors", "stats"] {
            let told = told(&[command]);
            assert!(told.contains("look-ups of") && told.contains("503"), "{told}");
        }
        let oldest = told(&["stats"]);
        let oldest = oldest.lines().find(|line| line.starts_with("oldest waiting event")).unwrap();
        let seconds = oldest.split_whitespace().nth(3).unwrap();
        assert!(seconds.split_once('.').is_some_and(|(_, tenths)| tenths.len() == 1), "{oldest}");
        assert!(!told(&["errors", "--source", "other"]).contains("held back"));
    }
    let doctor = site.run(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(1));
    let found = stdout(&doctor);
    assert!(found.lines().any(|it| it.starts_with("WRONG  breaker")), "{found}");
    server.kill();
    let server = site.serve();
    eventually("the next process tells its own", || {
        let since = server.stats()["breakers"]["cognigy"]["since"].clone();
        (since.is_string() && since != breaker["since"]).then_some(())
    });
    becomes(&server, opened, 1.0);
    if site.postgres.is_some() {
        assert!(found.lines().any(|it| it.starts_with("-      disk space")), "{found}");
    }

    crm.answer(200, r#"{"id":1}"#);
    server.wait_for("waits", "processed");
    eventually("it is over", || (server.stats()["breakers"] == json!({})).then_some(()));
    assert_eq!(logged(&server, "the CRM answers again")[0]["level"], "INFO");
    assert_eq!(metric(&server, opened), Some(1.0), "probes that fail are no further openings");
}

#[test]
fn while_the_database_is_gone_the_log_is_not_flooded_and_a_scrape_says_so() {
    let site = Site::on_file();
    let server = site.serve();
    becomes(&server, "cognigy_store_up", 1.0);
    let elsewhere = tempfile::tempdir().unwrap();
    let files = ["webhooks.db", "webhooks.db-wal", "webhooks.db-shm"];
    for file in files {
        std::fs::rename(site.folder.path().join(file), elsewhere.path().join(file)).unwrap();
    }
    becomes(&server, "cognigy_store_up", 0.0);
    assert!(metrics(&server).contains("cognigy_oldest_pending_seconds"));
    for number in 0..5 {
        assert_eq!(server.deliver(&event(&format!("e{number}"), "c1")).status, 503);
    }
    std::thread::sleep(Duration::from_secs(3));
    for message in
        ["bodies of sensitive events not forgotten", "the bulk replays could not be looked at"]
    {
        assert_eq!(logged(&server, message).len(), 1, "{message}\n{}", server.log());
    }
    let mut refused = logged(&server, "the store could not answer");
    refused.retain(|line| line["operation"] == "record");
    assert_eq!(refused.len(), 1, "{refused:?}");
    for file in files {
        let _ = std::fs::rename(elsewhere.path().join(file), site.folder.path().join(file));
    }
    becomes(&server, "cognigy_store_up", 1.0);
}
