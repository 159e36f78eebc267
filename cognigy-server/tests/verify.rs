//! `verify`: what is stored is sound, and what is not as it should be is found and named.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Site, crm::Crm, event, stderr, stdout};
use serde_json::{Value, json};

/// The report, and the exit status.
fn verified(site: &Site, more: &[&str]) -> (Value, Option<i32>) {
    let mut arguments = vec!["verify", "--json"];
    arguments.extend(more);
    let output = site.run(&arguments);
    let report = serde_json::from_str(&stdout(&output));
    (report.unwrap_or_else(|_| panic!("{}", stderr(&output))), output.status.code())
}

/// The findings, as `e1: state`.
fn findings(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings.map(|it| format!("{}: {}", text(&it["event_id"]), text(&it["finding"]))).collect()
}

#[test]
fn a_store_in_which_events_ended_in_every_way_is_sound() {
    let crm = Crm::start();
    crm.refuse("c-refused", 400);
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    for (id, contact, ends) in [
        ("e1", "c1", "processed"),
        ("e2", "c-refused", "dead_lettered"),
        ("e3", "c-refused", "dead_lettered"),
        ("e4", "c4", "processed"),
    ] {
        assert_eq!(server.deliver(&event(id, contact)).status, 200);
        server.wait_for(id, ends);
    }
    server.operate("POST", "/admin/discards", br#"{"ids":["e3"]}"#);
    server.operate("POST", "/admin/erasures", br#"{"external_id":"c4"}"#);
    server.operate("POST", "/webhooks/replay/e1", b"");
    assert_eq!(server.deliver(br#"{"eventId":"e9"}"#).status, 400);
    let address = format!("http://{}", server.address);
    for more in [&[][..], &["--server", &address]] {
        let (report, status) = verified(&site, more);
        assert_eq!((status, &report["sound"]), (Some(0), &json!(true)), "{report}");
        assert_eq!((&report["accounting"], &report["events"]), (&json!("agrees"), &json!(4)));
        let by_status = json!({ "processed": 2, "dead_lettered": 1, "discarded": 1 });
        assert_eq!((&report["by_status"], &report["forgotten"]), (&by_status, &json!(1)));
        assert_eq!(
            (&report["quarantined"], &report["attempts"]),
            (&json!(1), &json!(5)),
            "{report}"
        );
    }
    crm.refuse("c-down", 503);
    // One waits for its next attempt, and one is due while nothing works.
    assert_eq!(server.deliver(&event("e5", "c-down")).status, 200);
    server.terminate();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    assert_eq!(server.deliver(&event("e6", "c1")).status, 200);
    let text = stdout(&site.run(&["verify"]));
    assert!(text.ends_with("sound: every event is where it may be\n"), "{text}");
    let (report, status) = verified(&site, &["--bound", "0s"]);
    assert_eq!(status, Some(1), "{report}");
    assert!(findings(&report).contains(&"e6: stuck".to_owned()), "{report}");
    assert_eq!(site.run(&["verify", "--bound", "soon"]).status.code(), Some(2));
}

#[test]
fn a_reader_who_sees_no_bodies_verifies_nothing_and_odd_bodies_are_sound() {
    let mut site = Site::on_file();
    site.set("COGNIGY_WORKER", "off")
        .set("COGNIGY_OPERATOR_RITA_TOKEN", "marked-token-of-rita")
        .set("COGNIGY_OPERATOR_RITA_ROLE", "reader");
    let server = site.serve();
    for (id, input) in [("e1", "1e999"), ("e2", r#""\ud800""#)] {
        let body = format!(
            r#"{{"eventId":"{id}","timestamp":1,"type":"USER_INPUT_RECEIVED","payload":{{"input":{input}}}}}"#
        );
        assert_eq!(server.deliver(body.as_bytes()).status, 200, "{body}");
    }
    assert_eq!(verified(&site, &[]).1, Some(0));
    let address = format!("http://{}", server.address);
    let mut command = site.command(&["verify", "--server", &address]);
    command.env_remove("COGNIGY_OPERATOR_RITA_TOKEN").env_remove("COGNIGY_OPERATOR_RITA_ROLE");
    let refused = command.env("COGNIGY_ADMIN_TOKEN", "marked-token-of-rita").output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(stderr(&refused).contains("does not include bodies"), "{refused:?}");
}

#[test]
fn what_was_changed_behind_the_server_s_back_is_found() {
    let crm = Crm::start();
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    for id in ["e1", "e2", "e3", "e4", "e5"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
        server.wait_for(id, "processed");
    }
    server.terminate();
    assert_eq!(verified(&site, &[]).1, Some(0));
    let file = rusqlite::Connection::open(site.database()).unwrap();
    let change = |id: &str, sql: &str| {
        let event = format!("(SELECT id FROM events WHERE event_id = '{id}')");
        file.execute_batch(&sql.replace("EVENT", &event)).unwrap();
    };
    change("e1", "DELETE FROM bodies WHERE event = EVENT");
    change("e2", "UPDATE bodies SET body = x'7b7d' WHERE event = EVENT");
    change("e3", "DELETE FROM attempts WHERE event = EVENT");
    change("e4", "DELETE FROM contexts WHERE event = EVENT");
    change("e5", "DELETE FROM events WHERE id = EVENT");
    let (report, status) = verified(&site, &[]);
    assert_eq!(status, Some(1), "{report}");
    let expected = ["e4: state", "e3: state", "e2: body", "e1: body", ": accounting"];
    assert_eq!(findings(&report), expected, "{report}");
    let text = stdout(&site.run(&["verify"]));
    assert!(text.contains("e1: its body is missing\n"), "{text}");
    assert!(text.ends_with("not sound: 5 findings\n"), "{text}");
}
