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

/// The command stops with status 2 and one line that names the setting.
fn refused(output: &Output, named: &str) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let complaint = stderr(output);
    assert!(complaint.contains(named), "{complaint}");
    assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
}

/// Runs a command whose output is not read at all, as `| head -0` does.
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
    assert_eq!(output.status.code(), Some(1), "there is no database yet");
    assert!(stderr(&output).contains("COGNIGY_LOG_FORMAT"), "{}", stderr(&output));

    let looks_for = |site: &Site, more: &[&str], database: &str| {
        let complaint = stderr(&site.run(&[&["list"], more].concat()));
        assert!(complaint.contains(&format!("/{database} (")), "{complaint}");
    };
    std::fs::write(site.folder.path().join("cognigy.toml"), "database_url = 'sqlite:file.db'")
        .unwrap();
    looks_for(&site, &[], "file.db");
    site.set("COGNIGY_DATABASE_URL", "sqlite:environment.db");
    looks_for(&site, &[], "environment.db");
    looks_for(&site, &["--database-url", "sqlite:flag.db"], "flag.db");
}

#[test]
fn every_command_has_help_with_an_example() {
    let site = Site::new();
    let mut left = vec![Vec::<String>::new()];
    let mut seen = Vec::new();
    while let Some(command) = left.pop() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let output = site.run(&arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let help = stdout(&output);
        assert!(help.contains("COGNIGY_LISTEN"), "{help}");
        if !command.is_empty() {
            assert!(help.contains("Example:"), "{help}");
            seen.push(command.join(" "));
        }
        left.extend(commands_in(&help).map(|name| [&command[..], &[name]].concat()));
    }
    // Those that the outside relies on are among them.
    for name in ["serve", "demo", "send", "list", "show", "replay", "redrive", "register"] {
        assert!(seen.iter().any(|it| it == name), "{name}: {seen:?}");
    }
    assert!(seen.contains(&"replays cancel".to_owned()), "{seen:?}");
}

/// The commands that a help lists.
fn commands_in(help: &str) -> impl Iterator<Item = String> {
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let name = |line: &str| {
        let is_name = line.starts_with("  ") && !line.starts_with("   ");
        line.split_whitespace().next().filter(|_| is_name).map(str::to_owned)
    };
    lines.filter_map(name).collect::<Vec<_>>().into_iter()
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
    let began = std::time::Instant::now();
    let chosen = ["send", "--type", "DIALOG_ENDED", "--external-id", "chosen", "--count", "5"];
    let sent = site.run(&[&chosen[..], &["--rate", "20", "--to", &url]].concat());
    assert!(stdout(&sent).contains("5  200 accepted"), "{sent:?}");
    assert!(began.elapsed() >= std::time::Duration::from_millis(200), "four pauses of 50 ms");
    let listed = json_lines(&site.run(&["list", "--json", "--external-id", "chosen"]));
    assert!(
        listed.len() == 5 && listed.iter().all(|it| it["type"] == "DIALOG_ENDED"),
        "{listed:?}"
    );
    for wrong in [["--type", "DIALOG"], ["--rate", "0"], ["--rate", "many"]] {
        let output = site.run(&[&["send", "--url", &url][..], &wrong[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    common::eventually("these, too", || {
        (server.stats()["events"]["processed"] == 15).then_some(())
    });

    let listed = json_lines(&site.run(&["list", "--json", "--external-id", "c2"]));
    assert_eq!((listed.len(), &listed[0]["event_id"]), (1, &json!("e2")));
    assert_eq!(json_lines(&site.run(&["list", "--json", "--limit", "3"])).len(), 3);
    assert_eq!(stdout(&site.run(&["list"])).lines().count(), 15);
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
        // A command that only prints is done; any other says why it ended.
        let expected = "cognigy-server: stopped: the program that reads the output has ended";
        assert_eq!(complaint.as_deref(), (status == 1).then_some(expected), "{arguments:?}");
    }
    let processing = site.run(&["list", "--status", "processing", "--json"]);
    assert!(json_lines(&processing).is_empty(), "what it had begun is given back");
    common::eventually("the server runs what was given back", || {
        (server.stats()["events"]["processed"] == 15).then_some(())
    });
    let asked = crm.requests().len();
    assert!(asked <= 15 + 2 + 2, "{asked}");

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
    assert_eq!((purged.len(), &purged[0]["purged"]), (1, &json!(14)), "{purged:?}");
    let all = ["purge", "--retention", "1ms", "--dead-letter-retention", "1ms", "--json"];
    assert_eq!(json_lines(&site.run(&all))[0]["events"], json!({ "dead_lettered": 1 }));
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
fn webhooks_are_listed_changed_and_deleted() {
    let api = Crm::start();
    let token = r#""access_token":"marked-token","expires_in":3600"#;
    let listed = r#"[{"id":"w1","name":"ours","url":"https://h.example/x","active":true}]"#;
    api.answer(200, &format!(r#"{{{token},"items":{listed}}}"#));
    let mut site = Site::new();
    site.set("COGNIGY_BASE_URL", api.url())
        .set("COGNIGY_CLIENT_ID", "client")
        .set("COGNIGY_CLIENT_SECRET", "marked-client-secret");
    let done = site.run(&["webhooks", "list"]);
    assert_eq!(stdout(&done), "w1  ours  active  https://h.example/x\n", "{}", stderr(&done));
    let done = site.run(&["webhooks", "list", "--json"]);
    let line: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(line["id"], "w1");
    let change = ["webhooks", "update", "w/1", "--active", "off", "--secret"];
    let done = site.run(&change);
    assert_eq!(stdout(&done), "updated: w/1\n", "{}", stderr(&done));
    let last = api.requests().pop().unwrap();
    assert!(last.starts_with("PATCH /api/v1/webhooks/w%2F1 "), "{last}");
    let done = site.run(&["webhooks", "delete", "w1"]);
    assert_eq!(stdout(&done), "deleted: w1\n", "{}", stderr(&done));
    assert!(api.requests().pop().unwrap().starts_with("DELETE /api/v1/webhooks/w1 "));
    refused(&site.run(&["webhooks", "update", "w1"]), "name what is to change");
    refused(&site.run(&["webhooks", "update", "w1", "--url", "nonsense"]), "the URL");
    refused(&site.run(&["webhooks", "update", "w1", "--events", "X"]), "type of event");
    api.answer(404, "marked-client-secret");
    let failed = site.run(&["webhooks", "delete", "w1"]);
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

#[test]
fn an_empty_condition_is_refused_wherever_it_stands() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    server.deliver(&event("e1", "c1"));
    server.wait_for("e1", "processed");
    let names = ["status", "type", "user", "external-id", "from", "to", "source"];
    for command in ["list", "replay"] {
        for name in names {
            let (flag, beside) =
                (format!("--{name}"), if name == "to" { "--from" } else { "--to" });
            let output = site.run(&[command, beside, "2027-01-01", &flag, ""]);
            // The name of the filter is `external_id`.
            refused(&output, &format!("--{}: is empty", name.replace('-', "_")));
        }
    }
    for arguments in [
        &["show", "e1", "--source", ""][..],
        &["replay", "e1", "--source", ""],
        &["redrive", "--source", ""],
        &["send", "--generate", "1", "--source", ""],
    ] {
        refused(&site.run(arguments), "source");
    }
    for name in names {
        let name = name.replace('-', "_");
        let beside = if name == "user" { "external_id" } else { "user" };
        let query = format!("/admin/events?{beside}=c1&{name}=");
        assert!(server.get(&query).problem(400).starts_with(&format!("{name}: is empty")));
        let filter = json!({ beside: "c1", name.as_str(): "" }).to_string();
        server.operate("POST", "/admin/replays", filter.as_bytes()).problem(400);
    }
    server.get("/admin/events?limit=").problem(400);
    assert_eq!(server.get("/admin/events?cursor=").status, 200, "the first page has none");
    assert_eq!(crm.requests().len(), 1, "nothing was run again");
}

#[test]
fn filters_take_times_ago_and_say_what_there_is() {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    server.deliver(&event("e1", "c1"));
    for (arguments, count) in [
        (["list", "--json", "--from", "1h"], 1),
        (["list", "--json", "--to", "1h"], 0),
        (["list", "--json", "--from", "0s"], 0),
    ] {
        assert_eq!(json_lines(&site.run(&arguments)).len(), count, "{arguments:?}");
    }
    let found =
        |query: &str| server.get(&format!("/admin/events?{query}")).json()["events"].clone();
    assert_eq!(found("from=1h").as_array().unwrap().len(), 1);
    assert_eq!(found("to=30d").as_array().unwrap().len(), 0);
    for (name, known) in [("status", "dead_lettered"), ("type", "PROFILE_UPDATED")] {
        refused(&site.run(&["list", &format!("--{name}"), "odd"]), known);
        let detail = server.get(&format!("/admin/events?{name}=odd")).problem(400);
        assert!(detail.contains(known), "{detail}");
    }
    refused(&site.run(&["list", "--from", "soon"]), "such as 1h");
}

#[test]
fn send_names_the_lines_that_were_not_taken() {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    let url = format!("http://{}/webhooks/cognigy", server.address);
    let lines = [
        &b"\xef\xbb\xbf"[..],
        &event("e1", "c1"),
        b"\r\n\n{\"eventId\":\"bad\\u202e\",\"type\":\"X\"}\nno JSON\n",
        &event("e2", "c1"),
    ];
    std::fs::write(site.folder.path().join("events.ndjson"), lines.concat()).unwrap();
    let sent = site.run(&["send", "events.ndjson", "--url", &url, "--json"]);
    assert_eq!(sent.status.code(), Some(1), "{sent:?}");
    let sent = json_lines(&sent);
    assert_eq!((&sent[0]["sent"], &sent[0]["outcomes"]["200 accepted"]), (&json!(4), &json!(2)));
    let refused_lines = sent[0]["refused"].as_array().unwrap();
    let named: Vec<_> = refused_lines
        .iter()
        .map(|refused| (&refused["line"], &refused["event_id"], &refused["status"]))
        .collect();
    let (bad, none) = (json!("bad\u{202e}"), Value::Null);
    assert_eq!(named, [(&json!(3), &bad, &json!(400)), (&json!(4), &none, &json!(400))]);
    assert!(refused_lines[0]["detail"].as_str().unwrap().contains("timestamp"), "{sent:?}");
    let told = stdout(&site.run(&["send", "events.ndjson", "--url", &url]));
    assert!(told.contains("line 3 (event bad\\u{202e}): 400 "), "{told}");

    let nobody = site.run(&["send", "events.ndjson", "--url", "http://127.0.0.1:9/", "--json"]);
    assert_eq!(json_lines(&nobody)[0]["refused"][0]["status"], Value::Null);
    refused(&site.run(&["send", "events.ndjson", "--url", ""]), "--url");
    std::fs::write(site.folder.path().join("utf16.json"), b"\xff\xfe{\0}\0").unwrap();
    refused(&site.run(&["send", "utf16.json", "--url", &url]), "utf16.json: is UTF-16");
}

#[test]
fn what_is_missing_is_named() {
    let mut site = Site::on_file();
    let missing = site.run(&["send", "nowhere/events.json"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("nowhere/events.json"), "{missing:?}");
    refused(&site.run(&["list", "--config", "nowhere/my.toml"]), "nowhere/my.toml");
    site.set("COGNIGY_DATABASE_URL", "sqlite:nowhere/events.db");
    for command in ["serve", "list", "quarantine"] {
        let missing = site.run(&[command]);
        assert_eq!(missing.status.code(), Some(1));
        let complaint = stderr(&missing);
        assert!(complaint.contains("COGNIGY_DATABASE_URL: the folder nowhere "), "{complaint}");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_no_panic() {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    server.deliver(&event("e1", "c1"));
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for arguments in [&["list"][..], &["list", "--json"], &["show", "e1"], &["--help"]] {
        let child = site.command(arguments).stdout(full()).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains("No space left"), "{output:?}");
        let child = site.command(arguments).stdout(full()).stderr(full()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    }
    for (arguments, status) in [(&["list", "--status", "odd"][..], 2), (&["show", "unknown"], 1)] {
        let child = site.command(arguments).stderr(full()).spawn();
        assert_eq!(child.unwrap().wait().unwrap().code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn nothing_that_an_event_holds_rearranges_a_terminal() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    site.set("COGNIGY_LOG", "off");
    let odd = "e\u{202e}\u{2028}\u{feff}";
    server.deliver(&event(odd, "c\u{2066}"));
    common::eventually("it is processed", || {
        (server.stats()["events"]["processed"] == 1).then_some(())
    });
    server.deliver("{\"eventId\":\"bad\u{202e}\"}".as_bytes()).problem(400);
    let outputs = [
        site.run(&["list"]),
        site.run(&["show", odd]),
        site.run(&["show", "unknown\u{202e}\u{9b}"]),
        site.run(&["replay", odd]),
        site.run(&["quarantine"]),
        site.run(&["list", "--status", "odd\u{202e}\u{85}"]),
        site.run(&["nonsense\u{202e}"]),
    ];
    for output in outputs {
        let all = stdout(&output) + &stderr(&output);
        assert!(all.contains("\\u{202e}"), "it is shown escaped: {output:?}");
        let raw =
            |c: char| c != '\n' && c.is_control() || "\u{202e}\u{2028}\u{2066}\u{feff}".contains(c);
        assert!(!all.contains(raw), "{output:?}");
    }
}

#[test]
fn a_dead_letter_that_waits_for_its_queue_is_shown_to_wait() {
    let crm = Crm::start();
    crm.answer(422, "");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("SQS_DLQ_URL", "http://127.0.0.1:9/1/dead.fifo")
        .set("AWS_REGION", "us-east-1")
        .set("AWS_ACCESS_KEY_ID", "k")
        .set("AWS_SECRET_ACCESS_KEY", "s");
    let server = site.serve();
    server.deliver(&event("down-1", "c1"));
    let event = server.wait_for("down-1", "dead_lettering");
    assert_eq!(event["dead_letter"]["status"], "unsent");
    assert!(event["dead_letter"]["reason"].as_str().unwrap().contains("422"), "{event}");
    let attempt = &event["attempts"][0]["duration_ms"];
    let text = attempt.to_string();
    assert!(text.split_once('.').is_none_or(|(_, decimals)| decimals.len() <= 3), "{text}");
    let shown = stdout(&site.run(&["show", "down-1"]));
    assert!(shown.contains("event        down-1\n"), "{shown}");
    assert!(shown.contains("external id  c1\n") && shown.contains("dead letter: not sent yet"));
    assert!(shown.contains(&format!("failed_permanent after {text} ms")), "{shown}");
}

#[test]
fn the_demo_runs_as_many_events_as_it_is_told_to() {
    let site = Site::on_file();
    let demo = site.run(&["demo", "--events", "10"]);
    assert_eq!(demo.status.code(), Some(0), "{demo:?}");
    let told = stdout(&demo);
    assert!(told.contains("1. Posting 10 signed events"), "{told}");
    assert!(told.contains("Everything adds up"), "{told}");
    for events in ["3", "0", "100001"] {
        refused(&site.run(&["demo", "--events", events]), "4..=100000");
    }
    let unread = unread(&site, &["demo", "--events", "10"]);
    assert_eq!(unread.status.code(), Some(0), "{unread:?}");
    for arguments in [["list", "--limit", "0"], ["send", "--concurrency", "0"]] {
        refused(&site.run(&arguments), arguments[1]);
    }
}
