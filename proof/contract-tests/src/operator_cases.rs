//! The cases of the operator API, for programs that have it behind a login: who sends a request, its bearer token
//! says.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{ANNA, Answer, BILL, RITA, Running, Setup, event};

/// Starts the receiver under test, with its operator API.
type Start<'s> = &'s dyn Fn(Setup) -> Running;

/// A request of the operator with that token.
fn ask(running: &Running, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let (length, bearer) = (body.len().to_string(), format!("Bearer {token}"));
    let headers = [("Content-Length", length.as_str()), ("Authorization", &bearer)];
    let answer = running.request(method, path, &headers, body.as_bytes());
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{path}: {answer:?}");
    answer
}

fn read(running: &Running, token: &str, path: &str) -> Value {
    let answer = ask(running, token, "GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    answer.json()
}

/// What was received is found, with all of its bytes.
pub fn operators_find_events_and_read_them(start: Start<'_>) {
    let running = start(Setup::default());
    let body = event("e1", "c1");
    assert_eq!(running.deliver(&body).status, 200);
    assert_eq!(read(&running, ANNA, "/admin/events?external_id=c1")["events"][0]["event_id"], "e1");
    assert_eq!(
        read(&running, ANNA, "/admin/events?external_id=c2")["events"],
        Value::Array(vec![])
    );
    let found = read(&running, BILL, "/admin/events/e1");
    assert_eq!(found["body"].as_str().unwrap().as_bytes(), body);
    assert_eq!(read(&running, BILL, "/admin/events?q=HELLO")["events"][0]["event_id"], "e1");
    assert_eq!(read(&running, RITA, "/admin/contacts/c1")["events"][0]["event_id"], "e1");
    assert_eq!(read(&running, RITA, "/admin/stats")["events"]["total"], 1);
    ask(&running, ANNA, "GET", "/admin/events/e2", "").problem(404);
    let id = "a/b c%+ü";
    assert_eq!(running.deliver(&event(id, "c1")).status, 200);
    for path in ["/admin/events/a%2Fb%20c%25%2B%C3%BC", "/admin/events/a/b%20c%25+%c3%bc"] {
        assert_eq!(read(&running, ANNA, path)["event_id"], id, "{path}");
    }
}

/// Without an operator there is no answer, whatever the path.
pub fn operators_have_to_be_known(start: Start<'_>) {
    let running = start(Setup::default());
    assert_eq!(running.deliver(&event("e1", "c1")).status, 200);
    for headers in [&[][..], &[("Authorization", "Bearer marked-token-of-another")]] {
        for (method, path) in [
            ("GET", "/admin/events"),
            ("GET", "/admin/events/e1"),
            ("GET", "/admin/stats"),
            ("POST", "/webhooks/replay/e1"),
            ("GET", "/webhooks/replay/e1"),
            ("POST", "/admin/sources/cognigy/pause"),
        ] {
            let answer = running.request(method, path, headers, b"");
            assert!(matches!(answer.status, 401 | 403), "{path}: {answer:?}");
            answer.problem(answer.status);
        }
    }
}

/// A reader sees no bodies, searches for no words and changes nothing.
pub fn operators_who_read_change_nothing(start: Start<'_>) {
    let running = start(Setup::default());
    assert_eq!(running.deliver(&event("e1", "c1")).status, 200);
    assert_eq!(running.deliver(br#"{"marked-body":1}"#).status, 400);
    let quarantined = read(&running, RITA, "/admin/quarantine")["items"][0].clone();
    assert_eq!((&quarantined["reason"], &quarantined["body"]), (&"invalid".into(), &Value::Null));
    let item = format!("/admin/quarantine/{}", quarantined["id"]);
    assert_eq!(read(&running, BILL, &item)["body"], r#"{"marked-body":1}"#);
    assert_eq!(read(&running, RITA, "/admin/events/e1")["body"], Value::Null);
    ask(&running, RITA, "GET", "/admin/events?q=hello", "").problem(403);
    for (method, path) in [
        ("POST", "/webhooks/replay/e1"),
        ("GET", "/webhooks/replay/e1"),
        ("DELETE", &item),
        ("POST", &format!("{item}/retry")),
        ("POST", "/admin/discards"),
        ("POST", "/admin/erasures"),
        ("POST", "/admin/purges"),
        ("POST", "/admin/replays"),
        ("DELETE", "/admin/replays/1"),
        ("POST", "/admin/rehearsals"),
        ("POST", "/admin/recorrelations"),
        ("POST", "/admin/sources/cognigy/pause"),
        ("POST", "/admin/sources/cognigy/resume"),
    ] {
        for token in [RITA, BILL] {
            let detail = ask(&running, token, method, path, r#"{"external_id":"c1"}"#).problem(403);
            assert!(detail.contains("changes nothing"), "{method} {path}: {detail}");
        }
    }
    assert_eq!(read(&running, RITA, "/admin/audit")["entries"], Value::Array(vec![]));
    assert_eq!(read(&running, RITA, "/admin/stats")["quarantined"], 1);
}

/// What was done stays known, with the operator's name.
pub fn operators_are_recorded_with_what_they_do(start: Start<'_>) {
    let running = start(Setup::default());
    assert_eq!(running.deliver(&event("e1", "c1")).status, 200);
    let change = |method, path, body| ask(&running, ANNA, method, path, body);
    let paused = change("POST", "/admin/sources/cognigy/pause", "");
    assert_eq!(paused.body, r#"{"paused":true,"source":"cognigy"}"#);
    assert_eq!(read(&running, RITA, "/admin/stats")["paused"]["cognigy"]["by"], "anna");
    assert_eq!(change("POST", "/admin/sources/cognigy/resume", "").status, 200);
    change("POST", "/admin/sources/shop/pause", "").problem(404);
    let erased = change("POST", "/admin/erasures", r#"{"external_id":"c1"}"#).json();
    assert_eq!(erased["events"], 1);
    assert_eq!(read(&running, ANNA, "/admin/events/e1")["body"], Value::Null);
    change("POST", "/webhooks/replay/e1", "").problem(410);
    let entries = read(&running, RITA, "/admin/audit")["entries"].clone();
    let entries = entries.as_array().unwrap().iter().rev();
    let told: Vec<_> = entries
        .map(|it| format!("{} {} {}", it["by"], it["action"], it["outcome"]).replace('"', ""))
        .collect();
    let expected =
        ["anna pause done", "anna resume done", "anna erase erased", "anna replay forgotten"];
    assert_eq!(told, expected);
}

/// Many events are run again, without a request that waits for it.
pub fn operators_run_many_events_again(start: Start<'_>) {
    let running = start(Setup::default());
    let ids: Vec<_> = (0..20).map(|number| format!("e{number}")).collect();
    for id in &ids {
        // Without a contact no CRM is asked, wherever there is one.
        let body = event(id, "c1").to_vec();
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        body.as_object_mut().unwrap().retain(|name, _| name != "externalId" && name != "userId");
        assert_eq!(running.deliver(body.to_string().as_bytes()).status, 200);
    }
    let select = |more: &str| format!(r#"{{"from":"1h"{more}}}"#);
    let replay = |body: &str| ask(&running, ANNA, "POST", "/admin/replays", body);
    let looked = replay(&select(r#","dry_run":true"#));
    assert_eq!((looked.status, &looked.json()["count"]), (200, &20.into()));
    replay("{}").problem(400);
    let begun = replay(&select(""));
    assert_eq!((begun.status, &begun.json()["total"]), (202, &20.into()));
    let path = format!("/admin/replays/{}", begun.json()["id"].as_str().unwrap());
    let begun = Instant::now();
    let ended = loop {
        let replay = read(&running, RITA, &path);
        if replay["state"] != "running" || begun.elapsed().as_secs() > 20 {
            break replay;
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!((&ended["state"], &ended["succeeded"]), (&"done".into(), &20.into()), "{ended}");
    let event = read(&running, RITA, "/admin/events/e7");
    assert_eq!(event["attempts"].as_array().unwrap().last().unwrap()["run"], 2);
    let cancelled = ask(&running, ANNA, "DELETE", &path, "");
    assert_eq!(cancelled.json()["state"], "done", "there was nothing to cancel");
}

/// What no route takes is refused, as a problem document.
pub fn operators_are_told_what_is_wrong(start: Start<'_>) {
    let running = start(Setup::default());
    let get = |path| ask(&running, ANNA, "GET", path, "");
    for path in [
        "/admin/events?state=pending",
        "/admin/events?user=a&user=b",
        "/admin/events?limit=0",
        "/admin/stats?limit=1",
        "/admin/events?user=%FF",
    ] {
        get(path).problem(400);
    }
    for path in ["/admin/nothing", "/admin/%65vents", "/admin/events/", "/admin//events"] {
        get(path).problem(404);
    }
    for (method, path, allowed) in [
        ("POST", "/admin/events", "GET"),
        ("PUT", "/admin/quarantine/1", "GET, DELETE"),
        ("DELETE", "/webhooks/replay/e1", "GET, POST"),
    ] {
        let answer = ask(&running, ANNA, method, path, "");
        answer.problem(405);
        assert_eq!(answer.header("allow").as_deref(), Some(allowed));
    }
    let erase = |headers: &[(&str, &str)], body: &[u8]| {
        let (length, bearer) = (body.len().to_string(), format!("Bearer {ANNA}"));
        let own = [("Content-Length", length.as_str()), ("Authorization", &bearer)];
        running.request("POST", "/admin/erasures", &[&own, headers].concat(), body)
    };
    erase(&[], b"{}").problem(400);
    erase(&[("Content-Encoding", "gzip")], b"{}").problem(415);
    erase(&[], &vec![b' '; 300 * 1024]).problem(413);
}
