//! Work that operators have a running server do: slow replays beside others, asking the CRM again, purges,
//! redrives, discards; and what a request has to look like.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    Answer, Server, Site, TOKEN, crm::Crm, event, eventually, moto::Moto, stderr, stdout,
};
use serde_json::{Value, json};

fn begin(server: &Server, body: &str) -> Value {
    let begun = server.operate("POST", "/admin/replays", body.as_bytes());
    assert_eq!(begun.status, 202, "{}", begun.body);
    begun.json()["id"].clone()
}

fn progress(server: &Server, id: &Value) -> Value {
    server.get(&format!("/admin/replays/{}", id.as_str().unwrap())).json()
}

#[test]
fn a_slow_replay_holds_up_no_other_and_can_be_cancelled_while_it_waits() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    for id in ["e1", "e2", "e3"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
        server.wait_for(id, "processed");
    }
    let slow = begin(&server, r#"{"ids":["e1","e2"],"rate":0.001}"#);
    eventually("the first event was run", || (progress(&server, &slow)["done"] == 1).then_some(()));
    let quick = begin(&server, r#"{"ids":["e3"]}"#);
    eventually("the other is done", || {
        (progress(&server, &quick)["state"] == "done").then_some(())
    });
    let path = format!("/admin/replays/{}", slow.as_str().unwrap());
    for told in ["cancelled", "unchanged"] {
        let cancelled = server.operate("DELETE", &path, b"").json();
        assert_eq!((&cancelled["state"], &cancelled["done"]), (&json!("cancelled"), &json!(1)));
        let latest = server.get("/admin/audit?limit=1").json()["entries"][0].clone();
        assert_eq!(
            (&latest["action"], &latest["outcome"]),
            (&json!("cancel_replay"), &json!(told))
        );
    }
    // A rate that no clock can keep.
    for rate in ["1e-300", "0.0009", "0", "1e999"] {
        let body = format!(r#"{{"ids":["e1"],"rate":{rate}}}"#);
        server.operate("POST", "/admin/replays", body.as_bytes()).problem(400);
    }
    let named = r#"{"ids":["e1","e1","none"]"#;
    let dry =
        server.operate("POST", "/admin/replays", format!(r#"{named},"dry_run":true}}"#).as_bytes());
    assert_eq!(dry.json(), json!({ "count": 1, "sample": ["e1"], "not_found": 1 }));
    let named = begin(&server, &format!("{named}}}"));
    let ended = eventually("it is done", || {
        Some(progress(&server, &named)).filter(|it| it["state"] == "done")
    });
    assert_eq!(
        (&ended["total"], &ended["succeeded"], &ended["failed"], &ended["work"]),
        (&json!(2), &json!(1), &json!(1), &json!("replay"))
    );
}

#[test]
fn replays_of_a_server_are_listed_shown_and_cancelled_at_the_command_line() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let address = format!("http://{}", server.address);
    let none = site.run(&["replays"]);
    assert!(none.status.success() && stdout(&none).is_empty(), "{none:?}");
    assert!(stderr(&none).contains("no bulk replay yet"), "{none:?}");
    for id in ["e1", "e2"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
        server.wait_for(id, "processed");
    }
    let begun = [0; 2].map(|_| begin(&server, r#"{"ids":["e1","e2"],"rate":0.001}"#));
    let ids = begun.each_ref().map(|id| id.as_str().unwrap());
    for id in &begun {
        eventually("one was run", || (progress(&server, id)["done"] == 1).then_some(()));
    }
    let places = [&[][..], &["--server", &address]];
    for (place, id) in places.into_iter().zip(ids) {
        let run = |arguments: &[&str]| site.run(&[&["replays"], arguments, place].concat());
        let listed = stdout(&run(&[]));
        let newest = listed.lines().next().unwrap();
        for part in [ids[1], "running", "1/2", "0.001/s at most", "by admin"] {
            assert!(newest.contains(part), "{part}: {listed}");
        }
        let all = stdout(&run(&["--json"]));
        let shown = run(&["show", id, "--json"]);
        assert!(all.lines().any(|line| line == stdout(&shown).trim()), "{all}: {shown:?}");
        let told = stdout(&run(&["show", id]));
        assert!(
            told.contains("done       1 of 2\n") && told.contains("by         admin\n"),
            "{told}"
        );
        let cancelled = run(&["cancel", id]);
        assert!(cancelled.status.success(), "{cancelled:?}");
        assert!(stdout(&cancelled).contains("cancelled"), "{cancelled:?}");
        let shown: Value = serde_json::from_str(&stdout(&run(&["show", id, "--json"]))).unwrap();
        assert_eq!(
            (&shown["state"], &shown["done"], &shown["total"]),
            (&json!("cancelled"), &json!(1), &json!(1))
        );
        let unknown = run(&["show", "99"]);
        assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
        assert!(stderr(&unknown).contains("there is no replay \"99\""), "{unknown:?}");
    }
    let done = begin(&server, r#"{"ids":["e1"]}"#);
    eventually("it is done", || (progress(&server, &done)["state"] == "done").then_some(()));
    for place in places {
        let late = site.run(&[&["replays", "cancel", done.as_str().unwrap()], place].concat());
        assert_eq!(late.status.code(), Some(1), "{late:?}");
        assert!(stderr(&late).contains("had ended already"), "{late:?}");
    }
    let entries = server.get("/admin/audit?limit=10").json()["entries"].clone();
    let entries = entries.as_array().unwrap();
    let cancels = entries.iter().filter(|it| it["action"] == "cancel_replay");
    let by: Vec<_> = cancels.map(|it| format!("{} {}", it["by"], it["outcome"])).collect();
    let expected = [
        r#""admin" "unchanged""#,
        r#""command line" "unchanged""#,
        r#""admin" "cancelled""#,
        r#""command line" "cancelled""#,
    ];
    assert_eq!(by, expected);
}

#[test]
fn a_server_asks_the_crm_again_for_contacts_that_were_not_known() {
    let crm = Crm::start();
    crm.answer(404, "");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let address = format!("http://{}", server.address);
    for id in ["e1", "e2", "e3"] {
        server.deliver(&event(id, id));
        assert_eq!(server.wait_for(id, "processed")["correlation"], "none");
    }
    let ask = |body: &str| server.operate("POST", "/admin/recorrelations", body.as_bytes());
    ask(r#"{"run":"yes"}"#).problem(400);
    ask(r#"{"correlation":"nonsense"}"#).problem(400);
    assert_eq!(ask(r#"{"dry_run":true}"#).json()["count"], 3);
    crm.answer(200, r#"{"name":"Ada"}"#);
    let begun = ask(r#"{"external_id":"e1"}"#);
    assert_eq!((begun.status, &begun.json()["total"]), (202, &json!(1)));
    eventually("it is done", || {
        (progress(&server, &begun.json()["id"])["state"] == "done").then_some(())
    });
    let known = server.event("e1");
    assert_eq!(
        (&known["correlation"], &known["crm_context"]["name"]),
        (&json!("matched"), &json!("Ada"))
    );
    assert_eq!(server.event("e2")["correlation"], "none");
    // It is no replay, and nothing calls it one.
    assert_eq!(known["attempts"][1]["outcome"], "recorrelated");
    for (command, words) in [("why", "asked again for the contact"), ("show", "run 2 recorrelated")]
    {
        let told = stdout(&site.run(&[command, "e1"]));
        assert!(told.contains(words) && !told.contains("replay"), "{told}");
    }
    // The command asks for the others, here or at the server, and both come to the same.
    for (status, outcome, exit) in [(404, "none", 0), (400, "failed", 1)] {
        crm.answer(status, "");
        for format in [&[][..], &["--json"]] {
            let here = site.run(&[&["recorrelate"], format].concat());
            let there = site.run(&[&["recorrelate", "--server", &address], format].concat());
            assert_eq!(stdout(&here), stdout(&there));
            assert!(stdout(&here).contains(outcome), "{here:?}");
            let codes = [here.status.code(), there.status.code()];
            assert_eq!(codes, [Some(exit); 2], "{here:?}{there:?}");
        }
    }
    crm.answer(200, r#"{"name":"Ada"}"#);
    let asked = site.run(&["recorrelate", "--server", &address]);
    assert!(asked.status.success(), "{}", stderr(&asked));
    assert!(stdout(&asked).ends_with("2 of 2 have a contact now\n"), "{asked:?}");
    assert_eq!(server.event("e3")["correlation"], "matched");
    let actions = server.get("/admin/audit?limit=10").json()["entries"].to_string();
    assert_eq!(actions.matches(r#""action":"recorrelate""#).count(), 10, "{actions}");
}

#[test]
fn a_rehearsal_says_how_replays_would_end_and_runs_none() {
    let (crm, receiver) = (Crm::start(), Crm::start());
    crm.refuse("c2", 400);
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_FORWARD_URL", receiver.url())
        .set("COGNIGY_FORWARD_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let server = site.serve();
    for (id, contact, ends) in [("e1", "c1", "processed"), ("e2", "c2", "dead_lettered")] {
        server.deliver(&event(id, contact));
        server.wait_for(id, ends);
    }
    let handed_on = receiver.requests().len();
    let before = [server.event("e1"), server.event("e2")];
    crm.answer(200, r#"{"name":"Grace"}"#);
    crm.refuse("c2", 403);
    let address = format!("http://{}", server.address);
    let here = site.run(&["replay", "--rehearse", "e1", "e2"]);
    let there = site.run(&["replay", "--rehearse", "e1", "e2", "--server", &address]);
    assert!(here.status.success() && there.status.success(), "{}", stderr(&there));
    let told = stdout(&here);
    assert_eq!(told, stdout(&there));
    for line in [
        "e1: recorded: processed, correlation matched\n",
        r#"e1: contact:  {"id":"crm-1","name":"Ada"} -> {"name":"Grace"}"#,
        "e2: as recorded: dead_lettered, correlation failed: ",
        "1 of 2 would end differently\n",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let filtered = site.run(&["replay", "--rehearse", "--status", "dead_lettered", "--json"]);
    let line: Value = serde_json::from_str(&stdout(&filtered)).unwrap();
    assert_eq!((&line["event_id"], &line["differs"]), (&json!("e2"), &json!([])));
    assert_eq!(line["now"]["status"], "dead_lettered");
    let unknown = site.run(&["replay", "--rehearse", "none"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert_eq!([server.event("e1"), server.event("e2")], before, "nothing was stored");
    assert_eq!(receiver.requests().len(), handed_on, "nothing was handed on");
}

#[test]
fn a_server_purges_by_its_own_retention_and_removes_a_body_from_the_quarantine() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETENTION", "1s");
    let server = site.serve();
    let address = format!("http://{}", server.address);
    for number in 0..300 {
        assert_eq!(server.deliver(&event(&format!("e{number}"), "c1")).status, 200);
    }
    assert_eq!(server.deliver(br#"{"eventId":"bad"}"#).status, 400);
    eventually("all are processed", || {
        (server.stats()["events"]["processed"] == 300).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let run = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--server", address.as_str()]);
        site.run(&all)
    };
    let own = run(&["purge", "--retention", "7d"]);
    assert_eq!(own.status.code(), Some(2), "{own:?}");
    let item = server.get("/admin/quarantine").json()["items"][0]["id"].to_string();
    let discarded = run(&["quarantine", "--discard", &item]);
    assert_eq!(stdout(&discarded), format!("{item}: discarded\n"), "{}", stderr(&discarded));
    assert_eq!(run(&["quarantine", "--discard", &item]).status.code(), Some(1));
    server.operate("DELETE", "/admin/quarantine/nothing", b"").problem(404);
    let counted = run(&["purge", "--dry-run", "--json"]);
    let counted: Value = serde_json::from_str(&stdout(&counted)).unwrap();
    assert_eq!((&counted["purged"], &counted["events"]["processed"]), (&json!(300), &json!(300)));
    assert_eq!(server.stats()["events"]["total"], 300, "a dry run");
    let purged = run(&["purge", "--yes"]);
    assert!(stdout(&purged).starts_with("300 events (300 processed) forgotten"), "{purged:?}");
    assert_eq!(server.stats()["events"]["total"], 0);
    server.operate("POST", "/admin/purges", br#"{"retention":"1s"}"#).problem(400);
    server.operate("POST", "/admin/purges", br#"{"cursor":"x"}"#).problem(400);
    let actions = server.get("/admin/audit?limit=10").json()["entries"].to_string();
    for action in ["purge", "quarantine_discard"] {
        assert!(actions.contains(&format!(r#""action":"{action}""#)), "{actions}");
    }
}

#[test]
fn a_server_takes_dead_letters_back_from_its_queue() {
    let (crm, moto) = (Crm::start(), Moto::start());
    crm.answer(400, "");
    let queue = moto.queue("dead");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let mut without_queue = site.serve();
    without_queue.operate("POST", "/admin/redrives", b"").problem(409);
    without_queue.terminate();
    moto.configure(&mut site, &queue);
    let server = site.serve();
    for id in ["e1", "e2", "e3"] {
        server.deliver(&event(id, id));
        server.wait_for(id, "dead_lettered");
    }
    eventually("all are in the queue", || (moto.count(&queue) == 3).then_some(()));
    for body in [r#"{"max":0}"#, r#"{"max":1001}"#, r#"{"queue":"x"}"#, "[]"] {
        server.operate("POST", "/admin/redrives", body.as_bytes()).problem(400);
    }
    server.operate("POST", "/admin/redrives", br#"{"source":"none"}"#).problem(404);
    crm.answer(200, "{}");
    let one = server.operate("POST", "/admin/redrives", br#"{"max":1}"#).json();
    assert_eq!(one["requeued"], 1, "{one}");
    let address = format!("http://{}", server.address);
    let others = site.run(&["redrive", "--server", &address, "--json"]);
    assert!(others.status.success(), "{}", stderr(&others));
    let others: Value = serde_json::from_str(&stdout(&others)).unwrap();
    assert_eq!((&others["requeued"], &others["left"]), (&json!(2), &json!(0)), "{others}");
    for id in ["e1", "e2", "e3"] {
        server.wait_for(id, "processed");
    }
    crm.answer(400, "");
    server.deliver(&event("erased", "c4"));
    server.wait_for("erased", "dead_lettered");
    let receipt = site.run(&["erase", "--external-id", "c4", "--yes"]);
    let told = "sent to the queue. Delete their messages there:\n  erased\n";
    assert!(stdout(&receipt).ends_with(told), "{}", stdout(&receipt));
}

/// A request with these headers beside the token.
fn with(server: &Server, method: &str, path: &str, header: (&str, &str), body: &str) -> Answer {
    let (length, bearer) = (body.len().to_string(), format!("Bearer {TOKEN}"));
    let headers = [("Content-Length", length.as_str()), ("Authorization", &bearer), header];
    server.request(method, path, &headers, body.as_bytes())
}

#[test]
fn what_an_operation_does_not_take_is_refused_and_does_nothing() {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    let document = server.get("/admin/openapi.json").json();
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let path = path.replace("{event_id}", "e1").replace("{key}", "c1");
            let path = path.replace("{id}", "1").replace("{source}", "cognigy");
            let body = if method == "post" { r#"{"external_id":"c1"}"# } else { "" };
            let method = method.to_uppercase();
            for query in ["dry_run=true", "nonsense", "%FF=1", "limit=5&limit=5"] {
                let answer = server.operate(&method, &format!("{path}?{query}"), body.as_bytes());
                assert!(matches!(answer.problem(400).len(), 1..), "{method} {path}?{query}");
                asked += 1;
            }
            if !body.is_empty() {
                with(&server, &method, &path, ("Content-Encoding", "gzip"), body).problem(415);
            }
        }
    }
    assert!(asked > 80, "{asked}");
    let event = server.event("e1");
    assert_eq!((&event["external_id"], &event["status"]), (&json!("c1"), &json!("pending")));
    server.get("/admin/contacts/%FF").problem(400);
    for path in ["/admin/replays/+1", "/admin/replays/01", "/admin/quarantine/+1"] {
        server.get(path).problem(404);
    }
    for query in ["limit=%2B5", "limit=005", "cursor=%2B5", "cursor=05"] {
        server.get(&format!("/admin/events?{query}")).problem(400);
    }
    let long = format!(r#"{{"external_id":"{}"}}"#, "x".repeat(300_000));
    let detail = server.operate("POST", "/admin/erasures", long.as_bytes()).problem(413);
    assert!(detail.contains("262144 bytes") && !detail.contains("selection"), "{detail}");
}

#[test]
fn a_body_that_does_not_end_is_waited_for_ten_seconds() {
    use std::{io::Write, time::Instant};

    let server = Site::new().serve();
    let mut stream = server.connect();
    let head = format!(
        "POST /admin/discards HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 50\r\n\r\n{{\"ids\":"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let began = Instant::now();
    let answer = Answer::read(stream);
    assert!((9..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(answer.problem(408).contains("10 s"), "{answer:?}");
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
}

#[test]
fn a_server_runs_what_matches_and_the_command_waits_for_it() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let address = format!("http://{}", server.address);
    for id in ["e1", "e2", "e3"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
        server.wait_for(id, "processed");
    }
    let replay = |more: &[&str]| {
        site.run(&[&["replay", "--status", "processed", "--server", &address], more].concat())
    };
    let dry = replay(&["--dry-run"]);
    assert!(stdout(&dry).starts_with("3 events would be run\n"), "{dry:?}");
    let here = site.run(&["replay", "--status", "processed", "--dry-run"]);
    assert_eq!(stdout(&here), stdout(&dry));
    assert_eq!(server.get("/admin/replays").json()["replays"], json!([]));
    let began = std::time::Instant::now();
    let done = replay(&["--rate", "2"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stdout(&done).ends_with("done: 3 replayed, 0 not\n"), "{done:?}");
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "three at two a second");
    crm.answer(400, "");
    let failed = replay(&["--json"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let ended: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    assert_eq!((&ended["failed"], &ended["state"]), (&json!(3), &json!("done")));
    let none = replay(&[]);
    assert!(none.status.success() && stdout(&none) == "no event matches\n", "{none:?}");
    let rate = site.run(&["replay", "--status", "processed", "--rate", "2"]);
    assert_eq!(rate.status.code(), Some(2), "only a server keeps to a rate");
}

#[test]
fn many_slow_replays_hold_up_no_other_and_what_was_late_is_not_caught_up_with() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url()).set("CRM_CACHE", "0s");
    let server = site.serve();
    let ids: Vec<_> = (0..40).map(|number| format!("e{number}")).collect();
    for id in &ids {
        assert_eq!(server.deliver(&event(id, id)).status, 200);
    }
    eventually("all are processed", || (server.stats()["events"]["processed"] == 40).then_some(()));
    let slow: Vec<_> =
        (0..20).map(|_| begin(&server, r#"{"ids":["e1","e2","e3"],"rate":0.001}"#)).collect();
    let quick = begin(&server, r#"{"ids":["e4"]}"#);
    eventually("the quick one is done", || {
        (progress(&server, &quick)["state"] == "done").then_some(())
    });
    for id in &slow {
        server.operate("DELETE", &format!("/admin/replays/{}", id.as_str().unwrap()), b"");
    }
    // A CRM that hangs and then answers is not asked for all at once.
    crm.delay(std::time::Duration::from_secs(2));
    let body = json!({ "ids": ids[5..25], "rate": 10 }).to_string();
    let paced = begin(&server, &body);
    eventually("the first are asked for", || (crm.requests().len() > 40 + 20 + 1).then_some(()));
    std::thread::sleep(std::time::Duration::from_secs(2));
    crm.delay(std::time::Duration::ZERO);
    let began = std::time::Instant::now();
    let done_before = progress(&server, &paced)["done"].as_u64().unwrap();
    eventually("it is done", || (progress(&server, &paced)["state"] == "done").then_some(()));
    let left = 20 - done_before;
    let least = std::time::Duration::from_millis(left.saturating_sub(4) * 100);
    assert!(began.elapsed() >= least, "{left} in {:?}", began.elapsed());
}

#[test]
fn strangers_with_unfinished_forms_do_not_hold_up_deliveries() {
    use std::io::Write;

    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    let head = "POST /console/sign-in HTTP/1.1\r\nHost: t\r\nContent-Length: 60000\r\n\r\ntoken=";
    let held: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    // Operators have places of their own.
    assert_eq!(server.operate("POST", "/admin/replays", br#"{"ids":["e1"]}"#).status, 202);
    // Those beyond the places are told so at once.
    let turned_away = held.into_iter().filter(|stream| {
        stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let mut byte = [0; 1];
        matches!(std::io::Read::read(&mut &*stream, &mut byte), Ok(1))
    });
    assert_eq!(turned_away.count(), 300 - 64);
}
