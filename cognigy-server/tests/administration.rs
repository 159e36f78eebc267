//! What operators do to many events at once: search, group failures, discard, erase. On both databases.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, path::Path};

use cognigy_test_postgres::Cluster;
use common::{Server, Site, crm::Crm, event, eventually, stderr, stdout};
use serde_json::{Value, json};

/// Runs `story` on each database. Every event of the contact `refused` fails for good.
fn on_both(story: impl Fn(&Site, &Server, &Crm)) {
    for mut site in [Site::on_file(), Site::on_postgres(Cluster::shared())] {
        let crm = Crm::start();
        crm.refuse("refused", 422);
        site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETRY_MAX_ATTEMPTS", "1");
        let server = site.serve();
        story(&site, &server, &crm);
    }
}

fn deliver(server: &Server, id: &str, contact: &str, status: &str) {
    assert_eq!(server.deliver(&event(id, contact)).status, 200);
    server.wait_for(id, status);
}

fn ids(answer: &Value) -> Vec<String> {
    let mut ids: Vec<_> = answer["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

fn post(server: &Server, path: &str, body: &Value) -> Value {
    let answer = server.operate("POST", path, body.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn dead_letters_are_discarded_by_id_or_filter_and_can_be_run_again() {
    on_both(|_, server, crm| {
        for id in ["d1", "d2", "d3"] {
            deliver(server, id, "refused", "dead_lettered");
        }
        deliver(server, "fine", "c1", "processed");
        let plan = json!({"status":"dead_lettered","dry_run":true});
        for path in ["/admin/replays", "/admin/discards"] {
            let planned = post(server, path, &plan);
            assert_eq!(planned["count"], 3, "{path}");
            let mut sample: Vec<_> = planned["sample"].as_array().unwrap().iter().collect();
            sample.sort_by_key(|id| id.to_string());
            assert_eq!(sample, ["d1", "d2", "d3"], "{path}");
        }
        let named = json!({"ids":["d1","fine","unknown"]});
        let planned = post(server, "/admin/discards", &json!({"ids":["d1"],"dry_run":true}));
        assert_eq!((&planned["count"], &planned["sample"]), (&json!(1), &json!(["d1"])));
        assert_eq!(server.event("d1")["status"], "dead_lettered", "a plan changes nothing");
        let done = post(server, "/admin/discards", &named);
        assert_eq!((&done["count"], &done["sample"]), (&json!(1), &json!(["d1"])));
        assert_eq!((&done["not_dead_lettered"], &done["not_found"]), (&json!(1), &json!(1)));
        let discarded = server.event("d1");
        assert_eq!(discarded["status"], "discarded");
        assert_eq!(discarded["attempts"].as_array().unwrap().len(), 1, "its history stays");
        assert_eq!(server.event("fine")["status"], "processed");
        assert_eq!(ids(&server.get("/admin/events?status=discarded").json()), ["d1"]);
        let stats = server.stats();
        assert_eq!(
            (&stats["by_status"]["discarded"], &stats["events"]["waiting"]),
            (&json!(1), &json!(0))
        );
        let metrics = server.request("GET", "/metrics", &[], b"").body;
        assert!(metrics.contains(r#"cognigy_events{status="discarded"} 1"#), "{metrics}");
        assert_eq!(post(server, "/admin/discards", &json!({"external_id":"refused"}))["count"], 2);
        assert_eq!(post(server, "/admin/discards", &json!({"status":"dead_lettered"}))["count"], 0);
        for body in ["{}", r#"{"dry_run":true}"#, r#"{"ids":["d1"],"dry_run":1}"#, r#"{"x":"y"}"#] {
            server.operate("POST", "/admin/discards", body.as_bytes()).problem(400);
        }
        crm.refuse_nobody();
        assert_eq!(server.operate("POST", "/webhooks/replay/d1", b"").status, 200);
        assert_eq!(server.event("d1")["status"], "processed");
    });
}

/// What operators did to an event, newest first, each as `by action outcome`; it was one of many.
fn history(server: &Server, id: &str) -> Vec<String> {
    let entry = |entry: &Value| {
        assert_eq!(entry["count"], Value::Null, "{entry}");
        assert!(entry["at"].is_string(), "{entry}");
        ["by", "action", "outcome"].map(|name| entry[name].as_str().unwrap()).join(" ")
    };
    server.event(id)["audit"].as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn what_was_done_to_many_events_is_in_the_history_of_each() {
    on_both(|site, server, crm| {
        for id in ["d1", "d2", "d3"] {
            deliver(server, id, "refused", "dead_lettered");
        }
        deliver(server, "fine", "c1", "processed");
        let begun = br#"{"status":"dead_lettered"}"#;
        let begun = server.operate("POST", "/admin/replays", begun).json()["id"].clone();
        let path = format!("/admin/replays/{}", begun.as_str().unwrap());
        eventually("it is done", || (server.get(&path).json()["state"] == "done").then_some(()));
        for id in ["d1", "d2", "d3"] {
            server.wait_for(id, "dead_lettered");
        }
        let discarded = json!({"external_id":"refused", "status": "dead_lettered"});
        assert_eq!(post(server, "/admin/discards", &discarded)["count"], 3);
        crm.refuse_nobody();
        let here = site.run(&["replay", "--status", "discarded", "--here"]);
        assert!(here.status.success(), "{here:?}");
        for id in ["d1", "d2", "d3"] {
            let told =
                ["command line replay replayed", "admin discard discarded", "admin replay failed"];
            assert_eq!(history(server, id), told, "{id}");
        }
        assert_eq!(history(server, "fine"), Vec::<String>::new());
        let why = stdout(&site.run(&["why", "d1"]));
        assert!(why.contains("admin asked for a discard, with other events: discarded"), "{why}");
        let shown = stdout(&site.run(&["show", "d1"]));
        assert!(shown.contains("discard by admin, one of many: discarded, "), "{shown}");
        let page = server.get("/console/event?source=cognigy&id=d1").body;
        assert!(page.contains("one of many events"), "{page}");
        // The record of everything has each operation once.
        let entries = server.get("/admin/audit").json()["entries"].clone();
        let counts: Vec<_> = entries.as_array().unwrap().iter().map(|it| &it["count"]).collect();
        assert_eq!(counts, [3, 3, 3], "{entries}");
    });
}

#[test]
fn events_are_found_by_words_conversation_correlation_and_error() {
    on_both(|_, server, _| {
        deliver(server, "d1", "refused-1", "dead_lettered");
        deliver(server, "d2", "refused-2", "dead_lettered");
        deliver(server, "fine", "c1", "processed");
        let found = |query: &str| ids(&server.get(&format!("/admin/events?{query}")).json());
        assert_eq!(found("q=marked-body"), ["d1", "d2", "fine"]);
        assert_eq!(found("q=MARKED-body%20FINE"), ["fine"]);
        assert_eq!(found("q=ada"), ["fine"], "what the CRM knows");
        assert_eq!(found("q=refused-2"), ["d2"]);
        assert_eq!(found("q=422%20crm"), ["d1", "d2"]);
        assert_eq!(found("correlation=matched"), ["fine"]);
        assert_eq!(found("correlation=failed"), ["d1", "d2"]);
        assert!(found("conversation=nowhere").is_empty());
        for odd in
            ["%22", "%27%20OR%201%3D1", "*", "%28%29", "a%00b", "%25", "%F0%9F%98%80", "NEAR%28"]
        {
            assert_eq!(server.get(&format!("/admin/events?q={odd}")).status, 200, "{odd}");
        }
        assert_eq!(found("q=").len(), 3, "a field that is left blank is no condition");
        for wrong in ["words=x", "correlation=maybe", "error=", "q=a&q=b"] {
            server.get(&format!("/admin/events?{wrong}")).problem(400);
        }

        let groups = server.get("/admin/errors").json();
        let groups = groups["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 1, "{groups:?}");
        let group = &groups[0];
        assert_eq!((&group["count"], &group["sample"]), (&json!(2), &json!(["d2", "d1"])));
        assert!(group["message"].as_str().unwrap().starts_with("CRM answered 422"), "{group}");
        assert!(group["first"].as_str().unwrap() <= group["last"].as_str().unwrap());
        let class = group["class"].as_str().unwrap();
        assert_eq!(found(&format!("error={class}")), ["d1", "d2"]);
        assert!(found("error=another").is_empty());
        let none = server.get("/admin/errors?source=shop&from=1h").json();
        assert_eq!(none, json!({"groups": []}));
        assert_eq!(server.get("/admin/errors?from=1h").json()["groups"][0]["count"], 2);
        server.get("/admin/errors?status=pending").problem(400);
        let discarded = post(server, "/admin/discards", &json!({"error": class}));
        assert_eq!(discarded["count"], 2);
        assert_eq!(server.get("/admin/errors").json(), json!({"groups": []}));
    });
}

#[test]
fn a_contact_is_shown_with_everything_that_is_stored_about_it() {
    on_both(|_, server, crm| {
        deliver(server, "a1", "c 1", "processed");
        deliver(server, "a2", "refused/1", "dead_lettered");
        deliver(server, "b1", "c2", "processed");
        assert_eq!(server.deliver(br#"{"eventId":"bad","externalId":"refused/1"}"#).status, 400);
        crm.refuse_nobody();
        assert_eq!(server.operate("POST", "/webhooks/replay/a1", b"").status, 200);
        let contact = server.get("/admin/contacts/c%201").json();
        assert_eq!(ids(&contact), ["a1"]);
        assert_eq!((&contact["key"], &contact["more"]), (&json!("c 1"), &json!(false)));
        assert_eq!(contact["replays"][0]["event_id"], "a1");
        assert_eq!(
            (&contact["replays"][0]["run"], &contact["dead_letters"]),
            (&json!(2), &json!([]))
        );
        let contact = server.get("/admin/contacts/refused%2F1").json();
        assert_eq!(ids(&contact), ["a2"]);
        assert_eq!(contact["dead_letters"][0]["event_id"], "a2");
        assert_eq!(contact["quarantine"][0]["event_id"], "bad");
        let nobody = server.get("/admin/contacts/nobody").json();
        assert_eq!((&nobody["events"], &nobody["quarantine"]), (&json!([]), &json!([])));
        server.get("/admin/contacts/c2?limit=1").problem(400);
    });
}

/// What stands around the marker in each file that holds it.
fn holds(folder: &Path, marker: &str) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let around = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).unwrap();
        let at = bytes.windows(marker.len()).position(|part| part == marker.as_bytes())?;
        let around = &bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())];
        Some(format!("{} at {at}: {}", path.display(), around.escape_ascii()))
    };
    files.filter_map(|path| around(&path)).collect()
}

/// Events that share pages of the file.
const MANY: usize = 120;

/// Bodies, long and short, contact, CRM answer, errors, dead letters, conflicts, invalid bodies.
#[test]
fn an_erased_person_is_in_no_byte_of_the_files() {
    let crm = Crm::start();
    crm.answer(200, r#"{"id":"crm-1","name":"marked-person of the CRM"}"#);
    crm.refuse("dead", 422);
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETRY_MAX_ATTEMPTS", "1");
    site.set("COGNIGY_ORDERING", "per_contact").set("COGNIGY_ORDERING_ON_DEAD_LETTER", "stop");
    let mut server = site.serve();
    let body = |id: &str, contact: &str, text: &str| {
        let body = String::from_utf8(event(id, contact)).unwrap();
        body.replace("marked-body", text).into_bytes()
    };
    let long = "marked-person ".repeat(2000);
    let (person, dead) = ("marked-person-1", "marked-person-dead");
    assert_eq!(server.deliver(&body("e1", person, "marked-person")).status, 200);
    assert_eq!(server.deliver(&body("e2", person, &long)).status, 200);
    assert_eq!(server.deliver(&body("d1", dead, &long)).status, 200);
    server.wait_for("d1", "dead_lettered");
    for id in ["d2", "d3"] {
        assert_eq!(server.deliver(&body(id, dead, "marked-person")).status, 200);
    }
    for id in ["e1", "e2"] {
        server.wait_for(id, "processed");
    }
    crm.answer(200, r#"{"id":"crm-2","name":"Ada"}"#);
    assert_eq!(server.deliver(&body("other", "c2", "of another")).status, 200);
    server.wait_for("other", "processed");
    assert_eq!(server.deliver(&body("e1", person, "marked-person, but other text")).status, 200);
    assert_eq!(server.deliver(b"{\"externalId\":\"marked-person-1\"}").status, 400);
    assert!(!holds(site.folder.path(), "marked-person").is_empty());

    let receipt = post(&server, "/admin/erasures", &json!({"external_id": person}));
    assert_eq!((&receipt["events"], &receipt["quarantined"]), (&json!(2), &json!(2)), "{receipt}");
    assert_eq!(receipt["dead_letters"], 0);
    let receipt = post(&server, "/admin/erasures", &json!({"external_id": dead}));
    assert_eq!((&receipt["events"], &receipt["dead_letters"]), (&json!(3), &json!(1)), "{receipt}");
    let left = || holds(site.folder.path(), "marked-person");
    assert!(left().is_empty(), "while the server runs: {:?}", left());

    for (id, status) in [("e1", "processed"), ("d1", "discarded"), ("d2", "discarded")] {
        let erased = server.event(id);
        assert_eq!((&erased["status"], &erased["forgotten"]), (&json!(status), &json!("erased")));
        let nothing = [&erased["body"], &erased["external_id"], &erased["user_id"]];
        assert_eq!(nothing, [&Value::Null; 3], "{erased}");
        assert_eq!(erased["crm_context"], Value::Null);
        server.operate("POST", &format!("/webhooks/replay/{id}"), b"").problem(410);
    }
    let other = server.event("other");
    assert!(other["body"].as_str().unwrap().contains("of another"), "{other}");
    assert_eq!(post(&server, "/admin/replays", &json!({"ids":["e1"],"dry_run":true}))["count"], 0);
    assert_eq!(server.get("/admin/events?q=marked-person").json()["events"], json!([]));

    let again = server.deliver(&body("e1", person, "marked-person"));
    assert_eq!(again.json()["duplicate"], true);
    assert!(left().is_empty(), "a repetition brings nothing back: {:?}", left());
    assert_eq!(server.deliver(&body("e9", "new", "later")).status, 200);
    server.wait_for("e9", "processed");
    server.terminate();
    assert!(left().is_empty(), "after an orderly stop: {:?}", left());
    let receipts = rusqlite::Connection::open(site.database()).unwrap();
    let sum = "SELECT count(*) || ' by ' || max(erased_by) || ': ' || sum(events) FROM erasures";
    let sum: String = receipts.query_row(sum, [], |row| row.get(0)).unwrap();
    assert_eq!(sum, "2 by admin: 5");
}

/// Their events come one by one among those of others, are processed, and leave the pages one by one.
#[test]
fn an_erasure_leaves_nothing_in_pages_that_others_share() {
    let crm = Crm::start();
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    for number in 0..MANY {
        for (name, contact) in [("m", "marked-person"), ("o", "another")] {
            let body = String::from_utf8(event(&format!("{name}{number}"), contact)).unwrap();
            let text = format!("{contact} ").repeat(number * 7 % 90);
            let body = body.replace("marked-body", &text).replace("user-1", contact);
            assert_eq!(server.deliver(body.as_bytes()).status, 200);
        }
    }
    eventually("all are processed", || {
        (server.stats()["events"]["processed"] == 2 * MANY).then_some(())
    });
    let receipt = post(&server, "/admin/erasures", &json!({"user_id": "marked-person"}));
    assert_eq!(receipt["events"], MANY);
    let left = || holds(site.folder.path(), "marked-person");
    assert!(left().is_empty(), "while the server runs: {:?}", left());
    assert!(server.event("o9")["body"].as_str().unwrap().contains("another"));
    server.terminate();
    assert!(left().is_empty(), "after an orderly stop: {:?}", left());
}

#[test]
fn an_erasure_on_postgres_leaves_nothing_that_a_query_finds() {
    let crm = Crm::start();
    crm.answer(200, r#"{"id":"crm-1","name":"marked-person of the CRM"}"#);
    let mut site = Site::on_postgres(Cluster::shared());
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let body = String::from_utf8(event("e1", "marked-person")).unwrap();
    let body = body.replace("marked-body", "marked-person");
    assert_eq!(server.deliver(body.as_bytes()).status, 200);
    server.wait_for("e1", "processed");
    assert_eq!(server.deliver(b"{\"externalId\":\"marked-person\"}").status, 400);
    let rows = || {
        let tables = ["events", "bodies", "contexts", "attempts", "outbox", "quarantine", "queue"];
        let counts = tables.map(|table| {
            format!(
                "(SELECT count(*) FROM cognigy_{table} AS it WHERE it::text LIKE '%marked-person%' \
                  OR it::text LIKE '%' || encode('marked-person', 'hex') || '%')"
            )
        });
        site.sql(&format!("SELECT {}", counts.join(" + ")))
    };
    assert_ne!(rows().trim(), "0");
    let receipt = post(&server, "/admin/erasures", &json!({"external_id": "marked-person"}));
    assert_eq!((&receipt["events"], &receipt["quarantined"]), (&json!(1), &json!(1)));
    assert_eq!(rows().trim(), "0");
    assert_eq!(server.deliver(body.as_bytes()).json()["duplicate"], true);
    server.operate("POST", "/webhooks/replay/e1", b"").problem(410);
    server.operate("POST", "/admin/erasures", b"{}").problem(400);
}

#[test]
fn commands_group_failures_discard_and_erase() {
    on_both(|site, server, _| {
        deliver(server, "d1", "refused", "dead_lettered");
        deliver(server, "d2", "refused", "dead_lettered");
        deliver(server, "fine", "c1", "processed");
        let run = |arguments: &[&str]| {
            let output = site.run(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
            stdout(&output)
        };
        let group: Value = serde_json::from_str(&run(&["errors", "--json"])).unwrap();
        assert_eq!(group["count"], 2);
        let class = group["class"].as_str().unwrap();
        assert!(run(&["errors"]).contains(class));
        assert_eq!(run(&["list", "--error", class, "--json"]).lines().count(), 2);
        assert_eq!(run(&["list", "--q", "MARKED-BODY fine", "--json"]).lines().count(), 1);
        assert_eq!(run(&["list", "--correlation", "matched", "--json"]).lines().count(), 1);
        let planned: Value =
            serde_json::from_str(&run(&["discard", "--error", class, "--dry-run", "--json"]))
                .unwrap();
        assert_eq!(planned["count"], 2);
        let url = format!("http://{}", server.address);
        for question in
            [&["errors", "--json"][..], &["discard", "--error", class, "--dry-run", "--json"]]
        {
            let asked = run(&[question, &["--server", &url]].concat());
            assert_eq!(asked, run(question), "a server answers as its database does");
        }
        assert!(run(&["discard", "d1", "--yes"]).contains("1 dead letters discarded"));
        let not = site.run(&["discard", "fine", "--yes"]);
        assert_eq!(not.status.code(), Some(1), "{not:?}");
        assert_eq!(site.run(&["discard"]).status.code(), Some(2));
        // d1 is discarded, d2 is dead-lettered.
        let counted = json!({ "events": 2, "quarantined": 0, "dead_letters": 1 });
        let dry_run = ["erase", "--external-id", "refused", "--dry-run"];
        let told =
            "2 events, 0 quarantined bodies and 1 dead letter of this person would be erased";
        for place in [&[][..], &["--server", &url]] {
            assert_eq!(run(&[&dry_run[..], place].concat()).trim(), told);
            let json: Value =
                serde_json::from_str(&run(&[&dry_run[..], &["--json"], place].concat())).unwrap();
            assert_eq!(json, counted);
        }
        let asked = json!({ "external_id": "refused", "dry_run": true });
        assert_eq!(post(server, "/admin/erasures", &asked), counted);
        assert_eq!(server.event("d2")["external_id"], "refused", "a dry run changes nothing");
        let erased: Value =
            serde_json::from_str(&run(&["erase", "--external-id", "refused", "--yes", "--json"]))
                .unwrap();
        assert_eq!(erased["events"], 2);
        let sent = &erased["sent_dead_letters"];
        assert_eq!(sent, &json!([]), "there is no queue to delete a message from");
        let erase = ["erase", "--external-id", "c1", "--server", &url, "--yes", "--json"];
        let erased: Value = serde_json::from_str(&run(&erase)).unwrap();
        assert_eq!(erased["events"], 1);
        let entries = server.get("/admin/audit").json()["entries"].clone();
        let done: Vec<_> = entries
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (&it["by"], &it["action"], &it["count"]))
            .collect();
        let expected = [
            ("admin", "erase", 1),
            ("command line", "erase", 2),
            ("command line", "discard", 0),
            ("command line", "discard", 1),
        ];
        assert_eq!(json!(done), json!(expected));
        assert_eq!(site.run(&["erase", "--yes"]).status.code(), Some(2));
        eventually("the server sees it", || {
            (server.event("d2")["status"] == "discarded").then_some(())
        });
        assert!(run(&["show", "d2"]).contains("forgotten (erased)"));
    });
}
