//! The commands with which people ask: what is stored, why, what arrives, is everything well. Each
//! answers the same from the database and from a running server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use common::{Server, Site, crm::Crm, event, eventually, stderr, stdout};
use serde_json::Value;

/// Runs a command that must succeed, and yields what it prints.
fn printed(site: &Site, arguments: &[&str]) -> String {
    let output = site.run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// The same arguments, asked of a running server.
fn of_server<'a>(arguments: &[&'a str], url: &'a str) -> Vec<&'a str> {
    [arguments, &["--server", url]].concat()
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// A server with an event that was processed, one that was given up, and two bodies in quarantine.
fn with_history(site: &mut Site) -> Server {
    let crm = Crm::start();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETRY_MAX_ATTEMPTS", "2");
    let server = site.serve();
    assert_eq!(server.deliver(&event("good", "c1")).status, 200);
    server.wait_for("good", "processed");
    crm.refuse("customer-2", 500);
    assert_eq!(server.deliver(&event("bad", "customer-2")).status, 200);
    server.wait_for("bad", "dead_lettered");
    assert_eq!(server.deliver(&event("bad", "c3")).status, 200, "a conflict");
    assert_eq!(server.deliver(br#"{"eventId":"worse","timestamp":1}"#).status, 400);
    server
}

#[test]
fn a_running_server_answers_as_its_database_does() {
    let mut site = Site::new();
    let server = with_history(&mut site);
    let url = url(&server);
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--limit", "1"],
        &["list", "--status", "dead_lettered", "--from", "1h"],
        &["show", "good"],
        &["show", "bad", "--json"],
        &["quarantine"],
        &["quarantine", "--json"],
        &["why", "bad"],
        &["why", "customer-2", "--json"],
    ] {
        let (here, there) =
            (printed(&site, arguments), printed(&site, &of_server(arguments, &url)));
        assert!(here == there && !here.is_empty(), "{arguments:?}:\n{here}\n{there}");
    }
    let stats = ["stats", "--json"];
    let here: Value = serde_json::from_str(&printed(&site, &stats)).unwrap();
    let there: Value = serde_json::from_str(&printed(&site, &of_server(&stats, &url))).unwrap();
    for name in ["events", "by_status", "by_type", "quarantined", "paused"] {
        assert_eq!(here[name], there[name], "{name}");
    }
    assert!(here["deliveries"].is_null() && there["deliveries"]["received"] == 4);
    assert!(printed(&site, &["stats"]).contains("dead_lettered"));

    let missing = site.run(&of_server(&["show", "nothing"], &url));
    assert_eq!(missing.status.code(), Some(1), "{}", stderr(&missing));
    let failed = site.run(&of_server(&["replay", "bad", "good", "nothing"], &url));
    assert_eq!(failed.status.code(), Some(1));
    let lines = stdout(&failed);
    assert!(lines.contains("bad: failed: ") && lines.contains("good: replayed"), "{lines}");
    assert!(
        lines.contains("nothing: not_found") && lines.ends_with("1 replayed, 2 not\n"),
        "{lines}"
    );
    let all = printed(&site, &of_server(&["replay", "--status", "processed"], &url));
    assert!(all.contains("as replay 1"), "{all}");
    let id = server.get("/admin/quarantine").json()["items"][1]["id"].to_string();
    let retried = site.run(&of_server(&["quarantine", "--retry", &id], &url));
    assert_eq!(
        (stdout(&retried).trim(), retried.status.code()),
        (&*format!("{id}: conflict"), Some(1))
    );

    site.set("COGNIGY_ADMIN_TOKEN", "another-marked-token");
    let refused = site.run(&of_server(&["list"], &url));
    let told = stderr(&refused);
    assert!(
        refused.status.code() == Some(1) && told.contains("401") && !told.contains("marked"),
        "{told}"
    );
    site.set("COGNIGY_ADMIN_TOKEN", "");
    let unset = site.run(&of_server(&["list"], &url));
    assert!(unset.status.code() == Some(2) && stderr(&unset).contains("COGNIGY_ADMIN_TOKEN"));
    let nowhere = site.run(&["list", "--server", "nonsense"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", stderr(&nowhere));
}

/// Something else that listens: it answers every request with these bytes. Yields its address.
fn another_program(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn what_is_not_this_server_is_named_and_nothing_is_made_of_its_answers() {
    let site = Site::new();
    let answered = |head: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    let page = "200 OK\r\nContent-Type: text/html";
    let json = "200 OK\r\nContent-Type: application/json";
    let uncached = format!("{json}\r\nCache-Control: no-store");
    for answer in [
        answered(page, "<h1>Welcome</h1>"),
        answered("404 Not Found\r\nContent-Type: text/html", "<h1>Not here</h1>"),
        answered("301 Moved\r\nLocation: https://www.example.com/", ""),
        answered(json, "{}"),
        answered(&uncached, "{}"),
        answered(&uncached, "[]"),
        answered(&uncached, r#"{"status":"ok"}"#),
    ] {
        let url = format!("http://{}", another_program(answer.clone()));
        for command in [
            &["stats"][..],
            &["list"],
            &["errors"],
            &["why", "e1"],
            &["show", "e1"],
            &["replay", "e1"],
            &["replay", "--status", "dead_lettered"],
            &["replays"],
            &["quarantine"],
            &["quarantine", "--retry", "1"],
            &["pause", "cognigy"],
            &["erase", "--user", "u1", "--yes"],
        ] {
            let output = site.run(&of_server(command, &url));
            assert_eq!(output.status.code(), Some(1), "{command:?} of {answer}: {output:?}");
            let told = stderr(&output);
            assert!(told.contains("is not a cognigy-server"), "{command:?} of {answer}: {told}");
            assert_eq!(stdout(&output), "", "{command:?} of {answer}");
        }
    }
}

#[test]
fn a_url_with_the_other_scheme_is_named_as_the_likely_cause() {
    let site = Site::new();
    let server = site.serve();
    let refused = site.run(&["stats", "--server", &format!("https://{}", server.address)]);
    let told = stderr(&refused);
    assert!(refused.status.code() == Some(1) && told.contains("try http://"), "{told}");
    // What a TLS server sends to a request without TLS: an alert.
    let tls = another_program("\u{15}\u{3}\u{3}\0\u{2}\u{2}F".to_owned());
    let refused = site.run(&["stats", "--server", &format!("http://{tls}")]);
    let told = stderr(&refused);
    assert!(refused.status.code() == Some(1) && told.contains("try https://"), "{told}");
    // Others end the connection.
    let silent = another_program(String::new());
    let refused = site.run(&["stats", "--server", &format!("http://{silent}")]);
    let told = stderr(&refused);
    assert!(refused.status.code() == Some(1) && told.contains("try https://"), "{told}");
}

#[test]
fn an_empty_list_says_so_beside_its_output() {
    let site = Site::new();
    let server = site.serve();
    let url = url(&server);
    for place in [&[][..], &["--server", &url]] {
        let empty = site.run(&[&["list", "--status", "pending"], place].concat());
        assert_eq!((stdout(&empty).as_str(), empty.status.code()), ("", Some(0)));
        assert_eq!(stderr(&empty), "cognigy-server: no events match\n");
        let as_json = site.run(&[&["list", "--json"], place].concat());
        assert_eq!((stdout(&as_json), stderr(&as_json)), (String::new(), String::new()));
    }
    let terminal = std::process::Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} list --status pending", env!("CARGO_BIN_EXE_cognigy-server")))
        .arg("/dev/null")
        .current_dir(site.folder.path())
        .envs(site.command(&["list"]).get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert!(shown.contains("no events match") && !shown.contains("RECEIVED"), "{shown}");
}

#[test]
fn an_operator_asks_with_a_token_that_the_settings_beside_the_command_name_too() {
    let mut site = Site::new();
    let file = site.folder.path().join("cognigy.toml");
    std::fs::write(&file, "[operators.anna]\ntoken = \"annas-own-token\"\nrole = \"reader\"")
        .unwrap();
    let server = site.serve();
    let url = url(&server);
    site.set("COGNIGY_ADMIN_TOKEN", "annas-own-token");
    assert!(printed(&site, &["stats", "--server", &url]).contains("deliveries since the start"));
    assert!(printed(&site, &["replays", "--server", &url]).is_empty());
    let refused = site.run(&["stats"]);
    assert_eq!(
        refused.status.code(),
        Some(2),
        "a server here would have two operators of one token"
    );
}

#[test]
fn why_tells_what_became_of_an_event_or_a_contact() {
    let mut site = Site::new();
    let server = with_history(&mut site);
    let good = printed(&site, &["why", "good"]);
    assert!(good.contains("the event good was received and stored"), "{good}");
    assert!(good.contains("attempt 1 of run 1 began, and after") && good.contains("succeeded"));
    assert!(good.contains("Now: it is processed") && good.contains("The CRM knew the contact"));
    let bad = printed(&site, &["why", "bad"]);
    for part in [
        "attempt 2 of run 1",
        "failed in a way that may pass",
        "another delivery had this id and other content",
        "Now: it was given up",
        "cognigy-server replay bad",
    ] {
        assert!(bad.contains(part), "{part}: {bad}");
    }
    // In the order in which it happened.
    let places = ["was received", "attempt 1 of", "attempt 2 of", "other content", "Now:"];
    let places = places.map(|part| bad.find(part).expect(part));
    assert!(places.is_sorted(), "{bad}");
    assert_eq!(printed(&site, &["why", "customer-2"]), bad, "the contact's only event");
    assert!(printed(&site, &["why", "user-1"]).contains("Now: it is processed"), "by its userId");
    let worse = printed(&site, &["why", "worse"]);
    assert!(worse.contains("was refused, because it was not valid"), "{worse}");
    assert!(worse.contains("Now: no event with this id is stored"), "{worse}");

    assert_eq!(server.operate("POST", "/webhooks/replay/bad", b"").status, 500);
    assert!(printed(&site, &["why", "bad"]).contains("admin asked for a replay: failed"));
    printed(&site, &["pause", "cognigy"]);
    eventually("the server sees the pause", || {
        let paused = r#"cognigy_source_paused{source="cognigy"} 1"#;
        server.get("/metrics").body.contains(paused).then_some(())
    });
    assert_eq!(server.deliver(&event("late", "c1")).status, 200);
    let late = printed(&site, &["why", "late"]);
    assert!(
        late.contains("the workers of the source cognigy are paused: by command line"),
        "{late}"
    );
    assert!(printed(&site, &["stats"]).contains("cognigy is paused, by command line"));
    printed(&site, &["resume", "cognigy", "--server", &url(&server)]);
    server.wait_for("late", "processed");
    let by: Vec<_> = server.get("/admin/audit").json()["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {}", entry["by"], entry["action"]))
        .collect();
    let expected = [r#""admin" "resume""#, r#""command line" "pause""#, r#""admin" "replay""#];
    assert_eq!(by, expected);

    let unknown = site.run(&["why", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", stdout(&unknown));
    assert!(stderr(&unknown).contains("nothing is known of"));
    let unknown = site.run(&["pause", "shop"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
}

#[test]
fn what_arrives_is_printed_as_it_arrives() {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    for id in ["before", "then"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
    }
    let url = url(&server);
    let here = ["tail", "--lines", "1", "--json"];
    for arguments in [here.to_vec(), of_server(&here, &url)] {
        let mut tail = site.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut next = || {
            let line = lines.next().expect("it goes on");
            let line: Value = serde_json::from_str(&line).unwrap();
            line["event_id"].as_str().unwrap().to_owned()
        };
        let first = next();
        assert!(first != "before", "only the latest one of those that were there");
        for number in 0..3 {
            let id = format!("{number}-after-{first}");
            assert_eq!(server.deliver(&event(&id, "c1")).status, 200);
            assert_eq!(next(), id);
        }
        let interrupted = std::process::Command::new("kill")
            .args(["-INT", &tail.id().to_string()])
            .status()
            .unwrap();
        assert!(interrupted.success());
        assert_eq!(tail.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    let crm = Crm::start();
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    let well = printed(&site, &["doctor"]);
    for check in ["settings", "secrets", "clock", "database", "file rights", "CRM", "queue", "disk"]
    {
        assert!(well.lines().any(|line| line.starts_with("ok") && line.contains(check)), "{well}");
    }
    assert!(!well.contains("marked") && !well.contains("to mend it"), "{well}");
    server.kill();

    std::fs::set_permissions(site.database(), std::fs::Permissions::from_mode(0o644)).unwrap();
    site.set("COGNIGY_ADMIN_TOKEN", "short")
        .set("CRM_BASE_URL", "http://127.0.0.1:9")
        .set("COGNIGY_FORWARD_URL", "http://no-such-host.invalid/hook")
        .set("COGNIGY_FORWARD_SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let ill = site.run(&["doctor", "--json"]);
    assert_eq!(ill.status.code(), Some(1), "{}", stderr(&ill));
    let text = stdout(&ill);
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let wrong: Vec<_> = lines
        .filter(|line| line["ok"] == false)
        .map(|line| {
            assert!(line["mend"].as_str().is_some_and(|mend| mend.len() > 10), "{line}");
            line["check"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(wrong, ["secrets", "CRM", "forward", "file rights"], "{text}");
    site.set("COGNIGY_WEBHOOK_SECRET", "");
    let unset = site.run(&["doctor"]);
    assert!(stdout(&unset).contains("COGNIGY_WEBHOOK_SECRET is required"), "{}", stdout(&unset));
}

#[test]
fn a_backup_holds_every_event_that_was_answered_before() {
    let mut site = Site::on_file();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    for number in 0..50 {
        assert_eq!(server.deliver(&event(&format!("e{number}"), "c1")).status, 200);
    }
    let (address, stop) =
        (server.address, std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = std::sync::Arc::clone(&stop);
    let load = std::thread::spawn(move || {
        let mut sent = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!(common::post_signed(address, &event(&format!("more{sent}"), "c1")), 200);
            sent += 1;
        }
    });
    let told = printed(&site, &["backup", "copy.db"]);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    load.join().unwrap();
    assert!(told.starts_with("copy.db: "), "{told}");
    let copy = site.folder.path().join("copy.db");
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let check: String = rusqlite::Connection::open(&copy)
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    site.set("COGNIGY_DATABASE_URL", "sqlite:copy.db");
    let listed = printed(&site, &["list", "--limit", "100000", "--json"]);
    for number in 0..50 {
        assert!(listed.contains(&format!("\"e{number}\"")), "e{number}");
    }
    let left: Vec<_> = std::fs::read_dir(site.folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".cognigy-backup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    let before = std::fs::read(&copy).unwrap();
    site.set("COGNIGY_DATABASE_URL", "sqlite:webhooks.db");
    let again = site.run(&["backup", "copy.db"]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("overwrites nothing"));
    assert_eq!(std::fs::read(&copy).unwrap(), before);
    site.set("COGNIGY_DATABASE_URL", "postgres://nobody@127.0.0.1:9/none");
    let other = site.run(&["backup", "other.db"]);
    assert!(
        other.status.code() == Some(2) && stderr(&other).contains("umask 077 && pg_dump"),
        "{}",
        stderr(&other)
    );
    assert!(!site.folder.path().join("other.db").exists());
}

#[test]
fn completions_and_manual_pages_need_no_settings() {
    let mut site = Site::on_file();
    site.set("COGNIGY_LEASE", "soon");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = printed(&site, &["completions", shell]);
        assert!(
            text.contains("quarantine") && text.contains("--hand-over")
                || text.contains("hand-over")
        );
    }
    let page = printed(&site, &["man"]);
    assert!(page.contains(".TH") && page.contains("doctor"), "{page}");
    assert!(printed(&site, &["man", "backup"]).contains("while servers go on"));
    assert_eq!(site.run(&["man", "nonsense"]).status.code(), Some(2));
    assert_eq!(site.run(&["completions", "nonsense"]).status.code(), Some(2));
}
