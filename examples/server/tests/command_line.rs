//! The command line and the settings, as scripts rely on them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io::Write,
    process::{Output, Stdio},
};

use common::{Site, crm::Crm, event, stderr, stdout};
use serde_json::{Value, json};

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Stopped with status 2 and one line that names the setting.
fn refused(output: &Output, named: &str) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let complaint = stderr(output);
    assert!(complaint.contains(named), "{complaint}");
    assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
}

/// Run by somebody who does not read a line of it, as `| head -0` does.
fn unread(site: &Site, arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = site.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn();
    child.unwrap().wait_with_output().unwrap()
}

#[test]
fn a_wrong_setting_stops_the_start_with_one_line_that_names_it() {
    for (variable, value) in [
        ("COGNIGY_WEBHOOK_SECRET", ""),
        ("COGNIGY_WEBHOOK_SECRET", "tiny"),
        ("COGNIGY_WEBHOOK_SECRET_PREVIOUS", "tiny"),
        ("COGNIGY_LISTEN", "nowhere"),
        ("COGNIGY_SIGNATURE_SCHEME", "md5"),
        ("COGNIGY_SIGNATURE_HEADER", "not a header"),
        ("COGNIGY_DATABASE_URL", "mysql://x"),
        ("CRM_BASE_URL", "crm.example"),
        ("CRM_NOT_FOUND", "405"),
        ("CRM_TIMEOUT", "10"),
        ("CRM_CONCURRENCY", "0"),
        ("COGNIGY_RETRY_MAX_ATTEMPTS", "0"),
        ("COGNIGY_RETRY_BASE_DELAY", "-1s"),
        ("COGNIGY_LEASE", "0s"),
        ("COGNIGY_WORKER", "maybe"),
        ("COGNIGY_MAX_BODY_BYTES", "-5"),
        ("COGNIGY_RETENTION", "forever"),
        ("COGNIGY_LOG_FORMAT", "xml"),
    ] {
        let mut site = Site::new();
        site.set(variable, value);
        refused(&site.run(&["serve"]), variable);
    }
    let site = Site::new();
    refused(&site.run(&["serve", "--lease", "soon"]), "COGNIGY_LEASE");
    refused(&site.run(&["serve", "--leese", "1s"]), "--leese");
    refused(&site.run(&["nonsense"]), "nonsense");
    std::fs::write(site.folder.path().join("cognigy.toml"), "leese = '1s'").unwrap();
    refused(&site.run(&["serve"]), "leese");
}

#[test]
fn a_database_that_cannot_be_opened_stops_the_start() {
    let mut site = Site::on_file();
    std::fs::write(site.database(), "this is no database, and not empty either").unwrap();
    let output = site.run(&["list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("webhooks.db"), "{}", stderr(&output));
    site.set("COGNIGY_DATABASE_URL", "sqlite:/nonexistent/folder/x.db");
    assert_eq!(site.run(&["serve"]).status.code(), Some(1));
}

#[test]
fn an_unknown_variable_is_a_warning_and_settings_have_layers() {
    let mut site = Site::on_file();
    site.set("COGNIGY_LOG_FORMT", "json");
    let output = site.run(&["list"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("COGNIGY_LOG_FORMAT"), "{}", stderr(&output));

    std::fs::write(site.folder.path().join("cognigy.toml"), "database_url = 'sqlite:file.db'")
        .unwrap();
    site.run(&["list"]);
    assert!(site.folder.path().join("file.db").exists());
    site.set("COGNIGY_DATABASE_URL", "sqlite:environment.db");
    site.run(&["list"]);
    assert!(site.folder.path().join("environment.db").exists());
    site.run(&["list", "--database-url", "sqlite:flag.db"]);
    assert!(site.folder.path().join("flag.db").exists());
}

#[test]
fn every_command_has_help_with_an_example() {
    let site = Site::new();
    for command in [
        "serve",
        "demo",
        "send",
        "list",
        "show",
        "replay",
        "redrive",
        "register",
        "quarantine",
        "purge",
    ] {
        let output = site.run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        let help = stdout(&output);
        assert!(help.contains("Example:") && help.contains("COGNIGY_LISTEN"), "{help}");
    }
}

#[test]
fn events_are_sent_listed_shown_replayed_and_purged() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let url = format!("http://{}/webhooks/cognigy", server.address);

    let body = event("e1", "c1");
    std::fs::write(site.folder.path().join("one.json"), &body).unwrap();
    let sent = site.run(&["send", "one.json", "--url", &url, "--json"]);
    assert_eq!(sent.status.code(), Some(0), "{sent:?}");
    assert_eq!(json_lines(&sent)[0]["outcomes"], json!({"200 accepted": 1}));

    let mut child = site
        .command(&["send", "-", "--url", &url, "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = [event("e1", "c1"), event("e2", "c2"), b"{}".to_vec()].join(&b'\n');
    child.stdin.take().unwrap().write_all(&lines).unwrap();
    let sent = child.wait_with_output().unwrap();
    assert_eq!(sent.status.code(), Some(1), "one of them was refused");
    let outcomes = json_lines(&sent)[0]["outcomes"].clone();
    assert_eq!(
        (&outcomes["200 accepted"], &outcomes["200 accepted duplicate"]),
        (&json!(1), &json!(1))
    );

    let sent = site.run(&["send", "--generate", "8", "--url", &url]);
    assert!(stdout(&sent).contains("8  200 accepted"), "{sent:?}");
    common::eventually("all processed", || {
        (server.stats()["events"]["processed"] == 10).then_some(())
    });

    let listed = json_lines(&site.run(&["list", "--json", "--external-id", "c2"]));
    assert_eq!((listed.len(), &listed[0]["event_id"]), (1, &json!("e2")));
    assert_eq!(json_lines(&site.run(&["list", "--json", "--limit", "3"])).len(), 3);
    assert_eq!(stdout(&site.run(&["list"])).lines().count(), 10);
    assert_eq!(site.run(&["list", "--status", "odd"]).status.code(), Some(2));

    let shown = json_lines(&site.run(&["show", "e1", "--json"]));
    assert_eq!(shown[0]["body"].as_str().unwrap().as_bytes(), body);
    assert!(stdout(&site.run(&["show", "e1"])).contains("run 1 attempt 1: succeeded"));
    assert_eq!(site.run(&["show", "unknown"]).status.code(), Some(1));
    for (arguments, status) in [
        (["list", "--limit", "9"].as_slice(), 0),
        (&["list", "--json"], 0),
        (&["show", "e1"], 0),
        (&["quarantine"], 0),
        (&["replay", "e1", "e2"], 1),
    ] {
        let output = unread(&site, arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
        let complaint =
            stderr(&output).lines().find(|line| !line.starts_with('{')).map(str::to_owned);
        assert_eq!(complaint, None, "{arguments:?}");
    }
    assert_eq!(crm.requests().len(), 11, "it stops where nobody is told of it");

    let replayed = json_lines(&site.run(&["replay", "e1", "--json"]));
    assert_eq!(replayed, [json!({"event_id": "e1", "status": "replayed", "detail": null})]);
    crm.answer(404, "");
    assert_eq!(
        json_lines(&site.run(&["replay", "--type", "USER_INPUT_RECEIVED", "--json"])).len(),
        4
    );
    crm.answer(500, "");
    let failed = site.run(&["replay", "e1", "unknown"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stdout(&failed).contains("0 replayed, 2 not"), "{failed:?}");
    assert_eq!(site.run(&["replay"]).status.code(), Some(2), "neither ids nor a filter");

    let kept = json_lines(&site.run(&["quarantine", "--json"]));
    assert_eq!((kept.len(), &kept[0]["reason"]), (1, &json!("invalid")));
    let id = kept[0]["id"].to_string();
    assert_eq!(site.run(&["quarantine", "--retry", &id]).status.code(), Some(1));
    assert_eq!(site.run(&["quarantine", "--discard", &id]).status.code(), Some(0));
    assert!(json_lines(&site.run(&["quarantine", "--json"])).is_empty());

    server.wait_for("e1", "dead_lettered");
    std::thread::sleep(std::time::Duration::from_millis(50));
    let purged = json_lines(&site.run(&["purge", "--retention", "1ms", "--json"]));
    assert_eq!(purged, [json!({"purged": 10})]);
    assert!(json_lines(&site.run(&["list", "--json"])).is_empty());
}

#[test]
fn a_webhook_is_registered_with_one_token() {
    let api = Crm::start();
    api.answer(200, r#"{"access_token":"marked-token","expires_in":3600,"id":"w1"}"#);
    let mut site = Site::new();
    refused(&site.run(&["register", "https://h.example/x"]), "COGNIGY_BASE_URL");
    site.set("COGNIGY_BASE_URL", api.url())
        .set("COGNIGY_CLIENT_ID", "client")
        .set("COGNIGY_CLIENT_SECRET", "marked-client-secret");
    let done = site.run(&["register", "https://hooks.example/webhooks/cognigy"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let requests = api.requests();
    assert!(requests[0].starts_with("POST /api/v1/auth/oauth/token "), "{requests:?}");
    api.answer(403, "no");
    let failed = site.run(&["register", "https://hooks.example/webhooks/cognigy"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(!stderr(&failed).contains("marked"), "{failed:?}");
}

#[test]
fn the_plain_view_shows_what_happened() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let body = event("e1", "c1");
    server.deliver(&body);
    server.wait_for("e1", "processed");
    let row = site.sql("SELECT event_id, status, processed_at, raw_payload FROM webhook_events");
    let columns: Vec<_> = row.splitn(4, '|').collect();
    assert_eq!(columns[..2], ["e1", "processed"]);
    assert!(columns[2].starts_with("20"), "{row}");
    assert_eq!(columns[3].as_bytes(), body);
}
