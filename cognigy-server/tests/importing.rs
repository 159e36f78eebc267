//! Taking over the database of the Python page that this server replaces. On both databases.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{path::PathBuf, process::Command};

use cognigy_test_postgres::Cluster;
use common::{Site, crm::Crm, eventually, stderr, stdout};
use serde_json::{Value, json};

/// What the page wrote: Python's own `sqlite3`, as there.
const PAGE: &str = r#"
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("CREATE TABLE webhook_events (event_id TEXT PRIMARY KEY, raw_payload TEXT, processed_at TEXT, status TEXT)")
def event(id, **more):
    return {"eventId": id, "timestamp": "2026-03-01T12:00:00Z", "type": "DIALOG_STARTED", "payload": {"name": "Zoë"}, "externalId": "c-" + id, **more}
def keep(id, payload, status, processed_at="2026-03-01T12:00:01.500000"):
    database.execute("INSERT INTO webhook_events VALUES (?, ?, ?, ?)", (id, payload, processed_at, status))
keep("done", json.dumps(event("done")), "processed")
keep("spaced", json.dumps(event("spaced"), indent=2, ensure_ascii=False), "processed")
keep("failed", json.dumps(event("failed")), "failed", None)
keep("waits", json.dumps(event("waits")), "pending", None)
keep("broken", '{"eventId": "broken"', "processed")
keep("renamed", json.dumps(event("another")), "processed")
keep("no-input", json.dumps(event("no-input", type="USER_INPUT_RECEIVED")), "failed")
keep("empty", None, "processed")
database.commit()
"#;

fn page(site: &Site) -> PathBuf {
    let file = site.folder.path().join("page.db");
    let written = Command::new("python3").args(["-c", PAGE]).arg(&file).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    file
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_database_of_the_python_page_is_taken_over_once_and_nothing_runs() {
    for mut site in [Site::on_file(), Site::on_postgres(Cluster::shared())] {
        let crm = Crm::start();
        site.set("CRM_BASE_URL", crm.url());
        let file = page(&site);
        let file = file.to_str().unwrap();
        let mut server = site.serve();
        let refused = site.run(&["import-python", file]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(stderr(&refused).contains("COGNIGY_WORKER=off"), "{refused:?}");
        server.terminate();

        let left_out = ["broken", "renamed", "no-input", "empty"];
        let dry = site.run(&["import-python", file, "--dry-run", "--json"]);
        assert_eq!(dry.status.code(), Some(1), "{dry:?}");
        let sum = |dry_run: bool| {
            json!({
                "imported": {"processed": 2, "dead_lettered": 1, "pending": 1},
                "known": 0, "left_out": 4, "dry_run": dry_run,
            })
        };
        assert_eq!(lines(&stdout(&dry)).last(), Some(&sum(true)), "{dry:?}");
        assert!(
            lines(&stdout(&site.run(&["list", "--json"]))).is_empty(),
            "a dry run stores nothing"
        );

        let imported = site.run(&["import-python", file, "--json"]);
        assert_eq!(imported.status.code(), Some(1), "{imported:?}");
        let told = lines(&stdout(&imported));
        assert_eq!(told.last(), Some(&sum(false)), "{imported:?}");
        let mut named: Vec<_> = told.iter().filter_map(|it| it["event_id"].as_str()).collect();
        named.sort_unstable();
        let mut expected = left_out;
        expected.sort_unstable();
        assert_eq!(named, expected, "{imported:?}");
        let why =
            |id: &str| told.iter().find(|it| it["event_id"] == id).unwrap()["left_out"].to_string();
        assert!(why("no-input").contains("payload.input"), "{imported:?}");
        assert!(why("renamed").contains("another"), "{imported:?}");

        let again = site.run(&["import-python", file]);
        assert_eq!(again.status.code(), Some(1));
        for line in [
            "processed              0\n",
            "known before           4\n",
            "left out               4\n",
        ] {
            assert!(stdout(&again).contains(line), "{}", stdout(&again));
        }

        let verified = site.run(&["verify"]);
        assert!(verified.status.success(), "{verified:?}");
        assert!(crm.requests().is_empty(), "nothing was run");
        let server = site.serve();
        let done = server.wait_for("done", "processed");
        assert_eq!(done["attempts"].as_array().unwrap().len(), 1, "{done}");
        assert_eq!(done["attempts"][0]["outcome"], "imported");
        // PostgreSQL's clock need not be this machine's.
        let at = done["attempts"][0]["started_at"].as_str().unwrap();
        assert!(at.starts_with("2026-03-01T12:00:0"), "{at}");
        let spaced = server.event("spaced")["body"].clone();
        let spaced = spaced.as_str().unwrap();
        assert!(spaced.starts_with("{\n  \"eventId\"") && spaced.contains("Zoë"), "{spaced}");
        server.wait_for("failed", "dead_lettered");
        server.wait_for("waits", "processed");
        let asked: Vec<_> = crm.requests();
        assert!(asked.iter().all(|request| request.contains("c-waits")), "{asked:?}");
        let told = stdout(&site.run(&["why", "done"]));
        assert!(told.contains("another system had processed the event"), "{told}");
        // What the page had given up can be run here.
        let replayed = site.run(&["replay", "failed"]);
        assert!(replayed.status.success(), "{replayed:?}");
        // A sender that repeats a delivery is told that it is known.
        let again = server.deliver(spaced.as_bytes());
        assert_eq!(again.json(), json!({"status": "accepted", "duplicate": true}));
        let entry = server.get("/admin/audit").json()["entries"].clone();
        let of_import = entry.as_array().unwrap().iter().filter(|it| it["action"] == "import");
        let counts: Vec<_> = of_import.map(|it| it["count"].clone()).collect();
        assert_eq!(counts, [0, 4], "{entry}");
        eventually("the server is calm", || {
            (server.stats()["events"]["waiting"] == 0).then_some(())
        });
    }
}

#[test]
fn what_is_no_database_of_the_page_is_named() {
    let site = Site::new();
    drop(site.serve());
    let folder = site.folder.path();
    std::fs::write(folder.join("text"), "no database at all, and long enough for its head")
        .unwrap();
    rusqlite::Connection::open(folder.join("empty.db"))
        .unwrap()
        .execute("CREATE TABLE t (x)", [])
        .unwrap();
    for (file, why) in [
        ("missing.db", "there is no such file"),
        ("text", "not a database"),
        ("empty.db", "no table webhook_events"),
        ("webhooks.db", "a database of this server"),
    ] {
        let refused = site.run(&["import-python", file]);
        assert_eq!(refused.status.code(), Some(1), "{file}: {refused:?}");
        assert!(stderr(&refused).contains(why), "{file}: {refused:?}");
    }
}
