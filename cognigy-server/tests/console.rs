//! The operators' console: signing in, who may do what, hostile content, and every page and action.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io::{Read, Write},
    time::Duration,
};

use common::{
    Answer, Server, Site, TOKEN,
    crm::Crm,
    event, eventually,
    operators::{ANNA, BILL, RITA, site},
};
use serde_json::{Value, json};

/// A text as a form sends it.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn form(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| format!("{name}={}", encoded(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![("Content-Type", "application/x-www-form-urlencoded")];
    all.extend_from_slice(headers);
    server.post(path, &all, form(fields).as_bytes())
}

fn sign_in(server: &Server, token: &str, headers: &[(&str, &str)]) -> Answer {
    post(server, "/console/sign-in", headers, &[("token", token)])
}

/// What a browser keeps of a session: its cookie, and the token of its forms.
struct Browser<'a> {
    server: &'a Server,
    cookie: String,
    form_token: String,
}

impl<'a> Browser<'a> {
    fn new(server: &'a Server, token: &str) -> Self {
        let answer = sign_in(server, token, &[]);
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = answer.header("set-cookie").unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let mut browser = Self { server, cookie, form_token: String::new() };
        let page = browser.get("/console").body;
        let (_, rest) = page.split_once("name=\"form_token\" value=\"").expect("a form");
        browser.form_token = rest.split('"').next().unwrap().to_owned();
        browser
    }

    fn get(&self, path: &str) -> Answer {
        self.server.request("GET", path, &[("Cookie", &self.cookie)], b"")
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("form_token", self.form_token.as_str())];
        all.extend_from_slice(fields);
        post(self.server, path, &[("Cookie", &self.cookie)], &all)
    }

    /// Changes something, and follows to the page that is shown then.
    fn change(&self, path: &str, fields: &[(&str, &str)]) -> (String, Answer) {
        let answer = self.post(path, fields);
        assert_eq!(answer.status, 303, "{path}: {answer:?}");
        let address = answer.header("location").unwrap();
        let page = self.get(&address);
        assert_eq!(page.status, 200, "{address}: {page:?}");
        (address, page)
    }
}

const PAGES: [&str; 11] = [
    "/console",
    "/console/events",
    "/console/errors",
    "/console/dead-letters",
    "/console/dead-letters?status=discarded",
    "/console/replays",
    "/console/quarantine",
    "/console/sources",
    "/console/audit",
    "/console/settings",
    "/console/contact?key=c1",
];

#[test]
fn a_session_is_a_cookie_that_holds_no_token_and_ends_with_it() {
    let mut site = site();
    let mut server = site.serve();
    let landing = server.request("GET", "/console/events?status=pending", &[], b"");
    assert_eq!(landing.status, 303);
    let sign_in_page = landing.header("location").unwrap();
    assert_eq!(sign_in_page, "/console/sign-in?next=%2Fconsole%2Fevents%3Fstatus%3Dpending");
    let page = server.request("GET", &sign_in_page, &[], b"");
    assert!(page.body.contains("value=\"/console/events?status=pending\""), "{page:?}");

    let answer = sign_in(&server, &format!(" {ANNA}\n"), &[]);
    assert_eq!((answer.status, answer.header("location").as_deref()), (303, Some("/console")));
    let cookie = answer.header("set-cookie").unwrap();
    for attribute in ["; Path=/console", "; HttpOnly", "; SameSite=Strict", "; Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(ANNA), "{cookie}");
    for proxy in [("X-Forwarded-Proto", "https"), ("Forwarded", "for=192.0.2.1;proto=https")] {
        let cookie = sign_in(&server, ANNA, &[proxy]).header("set-cookie").unwrap();
        assert!(cookie.ends_with("; Secure"), "{cookie}");
    }

    let browser = Browser::new(&server, ANNA);
    let value = browser.cookie.clone();
    assert!(browser.get("/console").body.contains("anna"));
    let signed_in = browser.get("/console/sign-in?next=%2Fconsole%2Faudit");
    assert_eq!(signed_in.header("location").as_deref(), Some("/console/audit"));
    let ended = browser.post("/console/sign-out", &[]);
    assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"), "{ended:?}");
    // The cookie is changed.
    let (name, rest) = value.split_once("anna").unwrap();
    let until: i64 = rest.trim_start_matches('.').split('.').next().unwrap().parse().unwrap();
    let longer = value.replace(&until.to_string(), &(until + 1).to_string());
    for wrong in [longer, format!("{name}admin{rest}"), format!("{value}0"), format!("{name}x")] {
        let answer = server.request("GET", "/console", &[("Cookie", &wrong)], b"");
        assert_eq!(answer.status, 303, "{wrong}: {answer:?}");
    }

    // It holds after a restart, and not after a new token.
    server.kill();
    server = site.serve();
    let cookie = [("Cookie", value.as_str())];
    assert_eq!(server.request("GET", "/console", &cookie, b"").status, 200);
    server.kill();
    server = site.set("COGNIGY_OPERATOR_ANNA_TOKEN", "another-token-of-anna").serve();
    let answer = server.request("GET", "/console", &cookie, b"");
    assert_eq!(answer.status, 303, "{answer:?}");
    assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(!server.log().contains(ANNA) && !server.log().contains(&value), "{}", server.log());
}

#[test]
fn wrong_tokens_are_counted_and_slowed_down_as_the_api_does() {
    let site = site();
    let server = site.serve();
    let refusals = || {
        let metrics = server.get("/metrics").body;
        let line = metrics.lines().find(|it| it.starts_with("cognigy_operator_refusals_total "));
        line.unwrap().split(' ').next_back().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(server.request("GET", "/console", &[], b"").status, 303);
    assert_eq!(refusals(), 0, "a visit is no guess");
    let answer = sign_in(&server, "wrong", &[]);
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("no operator") && !answer.body.contains("wrong\""), "{answer:?}");
    let bearer = [("Authorization", "Bearer wrong")];
    let answer = server.request("GET", "/console", &bearer, b"");
    assert_eq!(
        (answer.status, answer.header("www-authenticate").as_deref()),
        (401, Some("Bearer"))
    );
    // A cookie that is signed with a guessed token is a guess, too.
    let guess = [("Cookie", "cognigy_console=anna.99999999999.00")];
    assert_eq!(server.request("GET", "/console", &guess, b"").status, 303);
    assert_eq!(refusals(), 3);
    for _ in 0..40 {
        assert_eq!(server.request("GET", "/console/events", &guess, b"").status, 303);
    }
    let started = std::time::Instant::now();
    assert_eq!(sign_in(&server, "wrong", &[]).status, 401);
    assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    let started = std::time::Instant::now();
    assert_eq!(sign_in(&server, ANNA, &[]).status, 303);
    assert!(started.elapsed() < Duration::from_millis(100), "a right token does not wait");
}

#[test]
fn without_an_operator_the_console_is_closed_and_says_what_to_set() {
    let mut site = Site::new();
    let server = site.set("COGNIGY_ADMIN_TOKEN", "").serve();
    for path in ["/console", "/console/events", "/console/sign-in", "/console/live"] {
        let answer = server.request("GET", path, &[], b"");
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert!(answer.body.contains("COGNIGY_ADMIN_TOKEN"), "{path}: {answer:?}");
    }
    assert_eq!(sign_in(&server, "", &[]).status, 403);
}

#[test]
fn pages_take_a_bearer_token_and_let_nothing_foreign_in() {
    let site = site();
    let server = site.serve();
    for path in PAGES {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
        let policy = answer.header("content-security-policy").unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.split("; ").any(|it| it == rule), "{rule}: {policy}");
        }
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy").as_deref(), Some("no-referrer"));
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        let body = &answer.body;
        assert!(
            !body.contains(" style=") && !body.contains("<style") && !body.contains(" onclick")
        );
        assert_eq!(
            body.matches("<script").count(),
            body.matches("<script src=\"/console/").count()
        );
        assert!(!body.contains("://") || path == "/console/settings", "{path}: a foreign address");
        assert_eq!(body.matches("<h1").count(), 1, "{path}");
    }
    let page = server.get("/console").body;
    for part in page.split('"').filter(|part| part.starts_with("/console/assets/")) {
        let answer = server.request("GET", part, &[], b"");
        assert_eq!(answer.status, 200, "{part}");
        let kept = answer.header("cache-control").unwrap();
        assert!(kept.contains("immutable") && !kept.contains("no-store"), "{part}: {kept}");
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
    }
    server.request("GET", "/console/assets/console.css", &[], b"").problem(404);
    server.request("GET", "/console/", &[], b"").problem(404);
    let accept = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    for (path, accept) in
        [("/console/", &accept[..]), ("/console/evnts", &accept), ("/console/event/x", &[])]
    {
        for method in ["GET", "POST"] {
            let answer = server.request(method, path, accept, b"");
            let kind = answer.header("content-type");
            assert_eq!((answer.status, kind.as_deref()), (404, Some("text/html; charset=utf-8")));
            assert!(answer.body.contains("There is no such page in the console"), "{answer:?}");
            assert!(answer.header("content-security-policy").is_some(), "{answer:?}");
        }
    }
    // Lists refuse a parameter that they do not know, as the operator API does. Other pages ignore it.
    for path in PAGES {
        let sign = if path.contains('?') { '&' } else { '?' };
        let answer = server.get(&format!("{path}{sign}unknown=1"));
        let is_list = ["/events", "/errors", "/dead-letters", "/quarantine", "/audit"]
            .iter()
            .any(|list| path.split('?').next() == Some(&format!("/console{list}")));
        assert_eq!(answer.status, if is_list { 400 } else { 200 }, "{path}");
    }
    server.request("DELETE", "/console", &[], b"").problem(405);
    server.request("GET", "/%63onsole", &[], b"").problem(404);
    assert_eq!(server.get("/console/events?status=done").status, 400);
    assert_eq!(server.get("/console/event?source=cognigy&id=nothing").status, 404);
}

#[test]
fn operators_with_an_address_of_their_own_have_the_console_there() {
    let mut site = site();
    let mut server = site.set("COGNIGY_ADMIN_LISTEN", "127.0.0.1:0").serve();
    server.request("GET", "/console", &[], b"").problem(404);
    server.address = server.operators.unwrap();
    assert_eq!(server.get("/console").status, 200);
}

/// Every change of the console, with fields that would do it.
const CHANGES: [(&str, &[(&str, &str)]); 11] = [
    ("/console/event/replay?source=cognigy&id=e1", &[]),
    ("/console/event/rehearse?source=cognigy&id=e1", &[]),
    ("/console/event/discard?source=cognigy&id=e1", &[]),
    ("/console/contact/erase?key=c1", &[("kind", "external_id"), ("confirmed", "yes")]),
    ("/console/replays?status=dead_lettered", &[("rate", "")]),
    ("/console/replay/cancel?id=1", &[]),
    ("/console/discards?status=dead_lettered", &[]),
    ("/console/quarantine/retry?id=1", &[]),
    ("/console/quarantine/discard?id=1", &[]),
    ("/console/sources/pause?source=cognigy", &[]),
    ("/console/sources/resume?source=cognigy", &[]),
];

#[test]
fn no_change_without_a_role_and_a_form_of_the_session() {
    let mut site = site();
    site.set("COGNIGY_BASE_URL", "http://crm.example.com/tenants/acme");
    let server = site.set("COGNIGY_RETRY_MAX_ATTEMPTS", "1").serve();
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    server.wait_for("e1", "dead_lettered");
    assert_eq!(server.deliver(br#"{"marked-body":1}"#).status, 400);
    let item = server.get("/admin/quarantine").json()["items"][0]["id"].to_string();
    let (anna, rita, bill) =
        (Browser::new(&server, ANNA), Browser::new(&server, RITA), Browser::new(&server, BILL));
    let event_page = "/console/event?source=cognigy&id=e1";
    for (path, fields) in CHANGES {
        assert_eq!(post(&server, path, &[], fields).status, 303, "{path}: nobody");
        let bearer = format!("Bearer {TOKEN}");
        let by_bearer = post(&server, path, &[("Authorization", &bearer)], fields);
        assert_eq!(by_bearer.status, 303, "{path}: a bearer token has no form");
        for reader in [&rita, &bill] {
            let answer = reader.post(path, fields);
            assert_eq!(answer.status, 403, "{path}: {answer:?}");
            assert!(answer.body.contains("reader"), "{path}: {answer:?}");
        }
        let cookie = ("Cookie", anna.cookie.as_str());
        let mut forged = fields.to_vec();
        assert_eq!(post(&server, path, &[cookie], &forged).status, 403, "{path}: no form");
        forged.push(("form_token", &rita.form_token));
        assert_eq!(post(&server, path, &[cookie], &forged).status, 403, "{path}: another's form");
        let mut own = fields.to_vec();
        own.push(("form_token", &anna.form_token));
        let foreign = [cookie, ("Sec-Fetch-Site", "cross-site")];
        assert_eq!(post(&server, path, &foreign, &own).status, 403, "{path}: another site");
        assert!(matches!(anna.get(path).status, 200 | 404 | 405), "{path}: a link changes nothing");
    }
    assert!(server.get("/admin/audit").json()["entries"].as_array().unwrap().is_empty());
    assert_eq!(server.event("e1")["status"], "dead_lettered");

    let quarantined = format!("/console/quarantined?id={item}");
    for path in PAGES.into_iter().chain([event_page, quarantined.as_str()]) {
        for (reader, sees_bodies) in [(&rita, false), (&bill, true)] {
            let page = reader.get(path);
            assert_eq!(page.status, 200, "{path}: {page:?}");
            let actions = page.body.matches("method=\"post\"").count();
            assert_eq!(actions, 1, "{path}: only the sign-out");
            if !sees_bodies {
                assert!(!page.body.contains("marked-body"), "{path}: {page:?}");
                assert!(!page.body.contains("name=\"q\""), "{path}");
            }
        }
    }
    assert!(bill.get(event_page).body.contains("marked-body"));
    let file = "/console/event/body?source=cognigy&id=e1";
    let saved = bill.get(file);
    assert_eq!(saved.body.as_bytes(), event("e1", "c1"), "byte for byte");
    assert!(saved.header("content-disposition").unwrap().starts_with("attachment"), "{saved:?}");
    assert_eq!(rita.get(file).status, 403);
    let file = format!("/console/quarantined/body?id={item}");
    assert_eq!(bill.get(&file).body, r#"{"marked-body":1}"#);
    assert_eq!(rita.get(&file).status, 403);
    assert!(bill.get(&quarantined).body.contains("marked-body"));
    assert_eq!(rita.get("/console/events?q=marked").status, 403);
    assert_eq!(bill.get("/console/events?q=marked").status, 200);
    for preview in ["/console/replays/new?status=pending", "/console/discards/new?source=cognigy"] {
        assert_eq!(rita.get(preview).status, 403, "{preview}");
        assert_eq!(anna.get(preview).status, 200, "{preview}");
    }
    let page = rita.get("/console/settings").body;
    assert!(page.contains("set by the variable COGNIGY_RETRY_MAX_ATTEMPTS"), "{page}");
    assert!(page.contains("<bdi>bill</bdi>") && page.contains("reader,bodies"), "{page}");
    assert!(!page.contains("marked-"), "a secret is shown");
    // Where URLs lead, and no more: paths name customers and accounts.
    for (browser, sees_paths) in [(&rita, false), (&bill, false), (&anna, true)] {
        let page = browser.get("/console/settings").body;
        assert!(page.contains("http://crm.example.com"), "{page}");
        assert_eq!(page.contains("/tenants/acme"), sees_paths, "{page}");
        // The URL of a database server is hidden from all of them, since it may hold a password.
        let database = site.postgres.as_deref().unwrap_or("webhooks.db");
        assert_eq!(page.contains(database), sees_paths && site.postgres.is_none(), "{page}");
    }
}

#[test]
fn what_senders_write_stays_text() {
    let mut site = site();
    let server = site.set("COGNIGY_WORKER", "off").serve();
    let script = "<script>alert(1)</script>";
    let id = format!("{script}\"'\u{202E}x");
    let contact = format!("{script}\u{2066}\u{200F}\u{061C}c/../1");
    let body = json!({
        "eventId": id, "timestamp": "2026-03-01T12:00:00Z", "type": "USER_INPUT_RECEIVED",
        "externalId": contact, "userId": "u\u{0007}\u{200E}",
        "payload": {"input": {"text": format!("{script}\u{202D}"), "sessionId": script}},
    });
    let body = body.to_string();
    assert_eq!(server.deliver(body.as_bytes()).status, 200);
    let conflict = body.replace("2026-03-01", "2026-03-02");
    assert_eq!(server.deliver(conflict.as_bytes()).status, 200);
    assert_eq!(
        server.deliver(format!("{{\"eventId\":\"{script}\u{202E}\"").as_bytes()).status,
        400
    );
    let items = server.get("/admin/quarantine").json()["items"].clone();
    let browser = Browser::new(&server, ANNA);
    let mut paths = vec![
        "/console".to_owned(),
        "/console/events".to_owned(),
        format!("/console/events?conversation={}", encoded(script)),
        "/console/quarantine".to_owned(),
        format!("/console/event?source=cognigy&id={}", encoded(&id)),
        format!("/console/contact?key={}", encoded(&contact)),
        format!("/console/replays/new?external_id={}", encoded(&contact)),
    ];
    for item in items.as_array().unwrap() {
        paths.push(format!("/console/quarantined?id={}", item["id"]));
    }
    for path in &paths {
        let page = browser.get(path);
        assert_eq!(page.status, 200, "{path}: {page:?}");
        assert!(!page.body.contains("<script>"), "{path}");
        let unseen = |c: &char| {
            matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}'
                | '\u{061C}' | '\u{0007}')
        };
        let mut text = page.body.clone();
        // The filter keeps what was typed.
        while let Some(at) = text.find(" value=\"") {
            let end = at + 8 + text[at + 8..].find('"').unwrap();
            text.replace_range(at..end, "");
        }
        assert_eq!(text.chars().find(unseen), None, "{path}");
    }
    let event = browser.get(&paths[4]).body;
    for spelt in ["U+202E", "U+2066", "U+200F", "U+061C", "U+202D", "&lt;script&gt;", "<bdi>"] {
        assert!(event.contains(spelt), "{spelt}: {event}");
    }
    let difference = browser.get(
        &paths[7..]
            .iter()
            .find(|path| browser.get(path).body.contains("Against the event"))
            .expect("a conflict")
            .clone(),
    );
    assert!(difference.body.contains("<del>") && difference.body.contains("<ins>"));
    // The addresses on the pages lead to the event, whatever its id is.
    let list = browser.get("/console/events").body;
    let (_, rest) = list.split_once("href=\"/console/event?").unwrap();
    let address = rest.split('"').next().unwrap().replace("&amp;", "&");
    assert_eq!(browser.get(&format!("/console/event?{address}")).status, 200);
}

/// The entries of the record, newest first, each as `by action outcome`.
fn audited(server: &Server) -> Vec<String> {
    let entries = server.get("/admin/audit?limit=500").json()["entries"].clone();
    let line = |entry: &Value| {
        ["by", "action", "outcome"].map(|name| entry[name].as_str().unwrap()).join(" ")
    };
    entries.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn every_action_does_its_work_and_is_recorded() {
    let crm = Crm::start();
    let mut site = site();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETRY_MAX_ATTEMPTS", "1");
    let server = site.serve();
    crm.refuse("customer-2", 500);
    for id in ["e1", "e2", "e3", "e4"] {
        assert_eq!(server.deliver(&event(id, "customer-2")).status, 200);
        server.wait_for(id, "dead_lettered");
    }
    let anna = Browser::new(&server, ANNA);
    let of = |id: &str| format!("source=cognigy&id={id}");
    let overview = anna.get("/console").body;
    assert!(overview.contains("4 events were") && overview.contains("<svg"), "{overview}");

    // A replay that fails says why; one that works leads back.
    let failed = anna.post(&format!("/console/event/replay?{}", of("e1")), &[]);
    assert_eq!(failed.status, 500);
    assert!(failed.body.contains("Replay failed"), "{failed:?}");
    // The dead letter of the replay is kept a moment later.
    server.wait_for("e1", "dead_lettered");
    crm.refuse("customer-2", 200);
    let rehearsed = anna.post(&format!("/console/event/rehearse?{}", of("e1")), &[]);
    assert_eq!(rehearsed.status, 200, "{rehearsed:?}");
    assert!(rehearsed.body.contains("A replay would end differently."), "{rehearsed:?}");
    assert_eq!(server.event("e1")["status"], "dead_lettered", "nothing was run");
    let (_, page) = anna.change(&format!("/console/event/replay?{}", of("e1")), &[]);
    assert!(page.body.contains("run again") && page.body.contains("of run"), "{page:?}");
    assert!(page.body.contains("/webhooks/replay/e1?source=cognigy"), "{page:?}");
    let (_, page) = anna.change(&format!("/console/event/discard?{}", of("e2")), &[]);
    assert!(page.body.contains("was discarded"), "{page:?}");
    assert_eq!(server.event("e2")["status"], "discarded");
    assert_eq!(anna.post(&format!("/console/event/discard?{}", of("e2")), &[]).status, 409);

    // The group of errors, its preview, and its replay.
    let groups = server.get("/admin/errors").json()["groups"].clone();
    let class = groups[0]["class"].as_str().unwrap();
    let errors = anna.get("/console/errors?from=1h").body;
    assert!(errors.contains(class) && errors.contains("failures"), "{errors}");
    let filter = format!("error={class}&external_id=customer-2");
    let preview = anna.get(&format!("/console/replays/new?{filter}")).body;
    assert!(preview.contains("<strong>2 events</strong>") && preview.contains("e3"), "{preview}");
    let wrong = anna.post(&format!("/console/replays?{filter}"), &[("rate", "fast")]);
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let (address, _) = anna.change(&format!("/console/replays?{filter}"), &[("rate", "0.01")]);
    let (_, page) = anna.change(&address.replace("/replay?", "/replay/cancel?"), &[]);
    assert!(page.body.contains("cancelled"), "{page:?}");
    let (address, _) = anna.change(&format!("/console/replays?{filter}"), &[("rate", "50")]);
    eventually("the replay is done", || anna.get(&address).body.contains(">done<").then_some(()));
    assert!(anna.get("/console/replays").body.contains("cancelled"));
    for id in ["e3", "e4"] {
        server.wait_for(id, "processed");
    }

    // Dead letters by a filter.
    crm.refuse("customer-2", 500);
    assert_eq!(server.deliver(&event("e5", "customer-2")).status, 200);
    server.wait_for("e5", "dead_lettered");
    assert!(anna.get("/console/dead-letters").body.contains("e5"));
    let preview = anna.get("/console/discards/new?status=dead_lettered").body;
    assert!(preview.contains("1 dead letter") && preview.contains("e5"), "{preview}");
    let answer = anna.post("/console/discards?status=dead_lettered", &[]);
    assert!(answer.status == 200 && answer.body.contains("1 dead letter was"), "{answer:?}");
    assert_eq!(server.event("e5")["status"], "discarded");

    // Quarantine.
    assert_eq!(server.deliver(br#"{"eventId":"e9"}"#).status, 400);
    let item = server.get("/admin/quarantine").json()["items"][0]["id"].to_string();
    let tried = anna.post(&format!("/console/quarantine/retry?id={item}"), &[]);
    assert!(tried.status == 409 && tried.body.contains("Still in quarantine"), "{tried:?}");
    let (_, page) = anna.change(&format!("/console/quarantine/discard?id={item}"), &[]);
    assert!(page.body.contains("Nothing is in quarantine"), "{page:?}");

    // Sources.
    let (_, page) = anna.change("/console/sources/pause?source=cognigy", &[]);
    assert!(page.body.contains("Paused by"), "{page:?}");
    assert_eq!(server.stats()["paused"]["cognigy"]["by"], "anna");
    assert!(anna.get("/console").body.contains("is paused by"));
    let (_, page) = anna.change("/console/sources/resume?source=cognigy", &[]);
    assert!(!page.body.contains("Paused by"), "{page:?}");
    assert!(page.body.contains("bodies that are no event"), "refusals by reason: {page:?}");

    // A person.
    let contact = anna.get("/console/contact?key=customer-2").body;
    assert!(contact.contains("Given up") && contact.contains("e1"), "{contact}");
    let erase = "/console/contact/erase?key=customer-2";
    assert_eq!(anna.post(erase, &[("kind", "external_id")]).status, 400, "not confirmed");
    assert_eq!(anna.post(erase, &[("confirmed", "yes")]).status, 400, "no kind");
    let answer = anna.post(erase, &[("kind", "external_id"), ("confirmed", "yes")]);
    assert!(answer.status == 200 && answer.body.contains("Erased: 5 events"), "{answer:?}");
    assert!(anna.get("/console/contact?key=customer-2").body.contains("Nothing is stored"));
    let gone = anna.post(&format!("/console/event/replay?{}", of("e1")), &[]);
    assert_eq!(gone.status, 410, "{gone:?}");

    let expected = [
        "anna replay forgotten",
        "anna erase erased",
        "anna resume done",
        "anna pause done",
        "anna quarantine_discard discarded",
        "anna quarantine_retry invalid",
        "anna discard discarded",
        "anna replay begun",
        "anna cancel_replay cancelled",
        "anna replay begun",
        "anna discard discarded",
        "anna discard discarded",
        "anna replay replayed",
        "anna replay failed",
    ];
    assert_eq!(audited(&server), expected);
    let audit = anna.get("/console/audit").body;
    assert!(audit.contains("quarantine retry") && audit.contains("anna"), "{audit}");
}

#[test]
fn pages_are_told_when_something_changed_and_a_stop_does_not_wait_for_them() {
    let mut site = site();
    site.set("COGNIGY_WORKER", "off").set("COGNIGY_STOP_GRACE", "20s").set("COGNIGY_DRAIN", "0s");
    let mut server = site.serve();
    let browser = Browser::new(&server, RITA);
    let mut stream = server.connect();
    let request =
        format!("GET /console/live HTTP/1.1\r\nHost: test\r\nCookie: {}\r\n\r\n", browser.cookie);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let mut read_until = |wanted: usize| {
        let mut bytes = [0; 4096];
        while text.matches("data: ").count() < wanted {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "it ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        text.clone()
    };
    let head = read_until(1);
    assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    read_until(2);
    let started = std::time::Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
