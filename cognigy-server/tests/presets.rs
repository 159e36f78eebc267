//! Senders of other kinds than the contract's: how they prove who they are, and what becomes of what
//! they send, over HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Answer, Server, Site, crm::Crm, eventually, stderr};
use serde_json::{Value, json};

const PATH: &str = "/webhooks/cognigy";

/// A site whose plain path is for a sender of that preset.
fn site(preset: &str, secret: &str) -> Site {
    let mut site = Site::new();
    site.set("COGNIGY_PRESET", preset).set("COGNIGY_WEBHOOK_SECRET", secret);
    site
}

fn basic(user_and_password: &str) -> String {
    format!("Basic {}", STANDARD.encode(user_and_password))
}

/// The only event, once it is processed.
fn processed(server: &Server) -> Value {
    let listed = eventually("an event is processed", || {
        let listed = server.get("/admin/events?status=processed").json();
        (listed["events"].as_array().unwrap().len() == 1).then_some(listed)
    });
    let id = listed["events"][0]["event_id"].as_str().unwrap().to_owned();
    server.get(&format!("/admin/events/{}", id.replace('|', "%7C").replace('/', "%2F"))).json()
}

fn metric(server: &Server, series: &str) -> f64 {
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
}

/// One published delivery: how it is set, its headers, its body.
struct Vector {
    settings: &'static [(&'static str, &'static str)],
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

/// The senders' own examples, from their documentation and libraries.
const VECTORS: [Vector; 6] = [
    Vector {
        settings: &[
            ("COGNIGY_SIGNATURE_SCHEME", "github"),
            ("COGNIGY_WEBHOOK_SECRET", "It's a Secret to Everybody"),
        ],
        headers: &[(
            "X-Hub-Signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        )],
        body: "Hello, World!",
    },
    Vector {
        settings: &[
            ("COGNIGY_SIGNATURE_SCHEME", "slack"),
            ("COGNIGY_WEBHOOK_SECRET", "8f742231b10e8888abcd99yyyzzz85a5"),
        ],
        headers: &[
            (
                "X-Slack-Signature",
                "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            ),
            ("X-Slack-Request-Timestamp", "1531420618"),
        ],
        body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=\
               G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=\
               %2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2F\
               T1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=\
               398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    },
    Vector {
        settings: &[
            ("COGNIGY_PRESET", "standard-webhooks"),
            ("COGNIGY_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ],
        headers: &[
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
        ],
        body: r#"{"test": 2432232314}"#,
    },
    Vector {
        settings: &[
            ("COGNIGY_SIGNATURE_SCHEME", "line"),
            ("COGNIGY_WEBHOOK_SECRET", "channel_secret"),
        ],
        headers: &[("x-line-signature", "/gg9a+LvFevTH1sd7XCQycD7tsWclCsInj7MhBHxN7k=")],
        body: "bodybodybodybody",
    },
    Vector {
        settings: &[
            ("COGNIGY_SIGNATURE_SCHEME", "hubspot-v3"),
            ("COGNIGY_PUBLIC_URL", "https://www.example.com/webhook_uri"),
            ("COGNIGY_WEBHOOK_SECRET", "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"),
        ],
        headers: &[
            ("X-HubSpot-Signature-v3", "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="),
            ("X-HubSpot-Request-Timestamp", "1693657560000"),
        ],
        body: "{'example_field':'example_value'}",
    },
    Vector {
        // As older documentation of Zendesk signs: the order of body and time is a setting.
        settings: &[
            ("COGNIGY_SIGNATURE_SCHEME", "zendesk"),
            ("COGNIGY_SIGNATURE_CONTENT", "{body}{ts}"),
            ("COGNIGY_WEBHOOK_SECRET", "HRkRd4BeOAoUkfZr-mhauJT64rvBASlJRoIyPsd3zeA="),
        ],
        headers: &[
            ("X-Zendesk-Webhook-Signature", "tRDSF7URY8BLCDlaBcQ7FHu051Zk+aAB0NKMP53teMw="),
            ("X-Zendesk-Webhook-Signature-Timestamp", "2021-07-25T10:00:00Z"),
        ],
        body: r#"{"say": "hello"}"#,
    },
];

#[test]
fn the_senders_own_examples_are_let_through_and_every_changed_bit_is_not() {
    for Vector { settings, headers, body } in VECTORS {
        let mut site = Site::new();
        // The examples are years old.
        site.set("COGNIGY_TIMESTAMP_TOLERANCE", "36500d");
        for (name, value) in settings {
            site.set(name, *value);
        }
        let server = site.serve();
        let name = settings[0].1;
        // It is the sender's. That the example is no event is another matter.
        let answer = server.post(PATH, headers, body.as_bytes());
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        let refused = |headers: &[(&str, &str)], body: &[u8], what: &str| {
            let answer = server.post(PATH, headers, body);
            assert_eq!(answer.problem(401), "Invalid HMAC signature", "{name}: {what}");
        };
        let mut other = body.as_bytes().to_vec();
        other[0] ^= 1;
        refused(headers, &other, "the body");
        for index in 0..headers.len() {
            let mut changed = headers.to_vec();
            // The last digit or letter: it stays what it was in kind, and says something else.
            let value = changed[index].1;
            let at = value.rfind(|c: char| c.is_ascii_alphanumeric()).unwrap();
            let digit = if &value[at..=at] == "1" { "2" } else { "1" };
            let value = format!("{}{digit}{}", &value[..at], &value[at + 1..]);
            changed[index].1 = &value;
            refused(&changed, body.as_bytes(), headers[index].0);
            let without: Vec<_> =
                headers.iter().copied().filter(|it| *it != headers[index]).collect();
            refused(&without, body.as_bytes(), "a header is missing");
            let twice: Vec<_> = headers.iter().copied().chain([headers[index]]).collect();
            refused(&twice, body.as_bytes(), "a header comes twice");
        }
    }
}

#[test]
fn an_old_delivery_is_refused_and_the_operator_is_told_by_how_much() {
    let Vector { settings, headers, body } = &VECTORS[2];
    let mut site = Site::new();
    for (name, value) in *settings {
        site.set(name, *value);
    }
    let server = site.serve();
    server.post(PATH, headers, body.as_bytes()).problem(401);
    assert_eq!(
        metric(&server, r#"cognigy_unauthenticated_total{reason="stale",source="cognigy"}"#),
        1.0
    );
    eventually("the log says so", || server.log().contains(" s from ours").then_some(()));
}

#[test]
fn the_operator_is_told_which_setting_a_refused_delivery_fits() {
    let mut site = Site::new();
    site.set("COGNIGY_SIGNATURE_SCHEME", "genesys");
    let server = site.serve();
    let body = common::event("e1", "c1");
    // As the contract signs, which is not what is set.
    let answer = server.deliver(&body);
    assert_eq!(answer.problem(401), "Invalid HMAC signature");
    assert_eq!(
        metric(&server, r#"cognigy_unauthenticated_total{reason="missing",source="cognigy"}"#),
        1.0
    );
    eventually("the log has the hint", || {
        let log = server.log();
        log.contains("fits other settings")
            .then(|| assert!(log.contains("COGNIGY_SIGNATURE_SCHEME=native")))
    });
    assert!(!server.log().contains(common::SECRET));
}

#[test]
fn credentials_that_are_shown_let_their_sender_in_and_nobody_else() {
    let body = common::event("e1", "c1");
    let wrong = "another-secret";
    type Headers<'a> = Vec<(&'a str, String)>;
    type Shown = dyn Fn(&str) -> Headers<'static>;
    let shown: [(&str, &str, &Shown); 3] = [
        ("basic", "user:marked-password", &|it| vec![("Authorization", basic(it))]),
        ("header", "marked-key", &|it| vec![("X-API-Key", it.to_owned())]),
        ("bearer", "marked-token", &|it| vec![("authorization", format!("Bearer {it}"))]),
    ];
    for (auth, secret, headers) in shown {
        let mut site = site("native", secret);
        site.set("COGNIGY_AUTH", auth);
        let server = site.serve();
        let post = |headers: Headers<'_>| {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            server.post(PATH, &headers, &body)
        };
        assert_eq!(post(headers(secret)).status, 200, "{auth}");
        for refused in [Vec::new(), headers(wrong), [headers(secret), headers(secret)].concat()] {
            let answer = post(refused);
            assert_eq!(answer.problem(401), "Invalid credentials", "{auth}");
            assert_eq!(answer.header("www-authenticate").is_some(), auth != "header");
        }
        assert!(!server.log().contains("marked-"), "{}", server.log());
    }
}

#[test]
fn a_token_may_end_the_path() {
    let mut site = site("native", "marked-path-token");
    site.set("COGNIGY_AUTH", "path-token")
        .set("COGNIGY_SOURCES", "shop")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", "marked-shop-token");
    let server = site.serve();
    let post = |path: &str| server.post(path, &[], &common::event("e1", "c1")).status;
    assert_eq!(post("/webhooks/cognigy/cognigy/marked-path-token"), 200);
    assert_eq!(post("/webhooks/cognigy/shop/marked-shop-token"), 200);
    assert_eq!(post("/webhooks/cognigy/shop/marked-path-token"), 401);
    assert_eq!(post("/webhooks/cognigy/shop/"), 404);
    assert_eq!(post("/webhooks/cognigy/shop"), 401);
    assert_eq!(post("/webhooks/cognigy/shop/marked-shop-token/more"), 404);
    assert!(!server.log().contains("marked-"), "{}", server.log());
    let sent = site.run(&[
        "send",
        "--source",
        "shop",
        "--generate",
        "2",
        "--url",
        &format!("http://{}/webhooks/cognigy/shop/marked-shop-token", server.address),
    ]);
    assert!(sent.status.success(), "{}", stderr(&sent));
}

#[test]
fn without_a_credential_only_the_named_networks_may_send() {
    let mut site = site("native", "unused-secret");
    site.set("COGNIGY_AUTH", "none").set("COGNIGY_ALLOW_FROM", "127.0.0.0/8, 192.0.2.0/24");
    let server = site.serve();
    let body = common::event("e1", "c1");
    assert_eq!(server.post(PATH, &[], &body).status, 200);
    // Only a trusted proxy can speak for another address.
    assert_eq!(server.post(PATH, &[("X-Forwarded-For", "198.51.100.1")], &body).status, 200);
    drop(server);
    site.set("COGNIGY_TRUSTED_PROXIES", "127.0.0.1");
    let server = site.serve();
    assert_eq!(server.post(PATH, &[("X-Forwarded-For", "192.0.2.9")], &body).status, 200);
    let answer = server.post(PATH, &[("X-Forwarded-For", "198.51.100.1")], &body);
    assert_eq!(answer.problem(401), "The address is not allowed");
}

#[test]
fn a_setting_that_lets_nobody_in_or_everyone_stops_the_start() {
    for (settings, named) in [
        (&[("COGNIGY_PRESET", "cognigy")][..], "COGNIGY_PRESET"),
        (&[("COGNIGY_AUTH", "oauth")], "COGNIGY_AUTH"),
        (&[("COGNIGY_AUTH", "none")], "COGNIGY_ALLOW_FROM"),
        (&[("COGNIGY_AUTH", "none"), ("COGNIGY_ALLOW_FROM", "10.0.0.0/33")], "COGNIGY_ALLOW_FROM"),
        (&[("COGNIGY_ALLOW_FROM", "host.example")], "COGNIGY_ALLOW_FROM"),
        (&[("COGNIGY_PRESET", "standard-webhooks")], "COGNIGY_WEBHOOK_SECRET"),
        (&[("COGNIGY_PRESET", "cognigy-callback")], "COGNIGY_WEBHOOK_SECRET"),
        (&[("COGNIGY_SIGNATURE_SCHEME", "hubspot-v3")], "COGNIGY_PUBLIC_URL"),
        (&[("COGNIGY_SIGNATURE_SCHEME", "sha256")], "COGNIGY_SIGNATURE_SCHEME"),
        (&[("COGNIGY_SIGNATURE_CONTENT", "{ts}.{body}")], "COGNIGY_SIGNATURE_TIMESTAMP_HEADER"),
        (&[("COGNIGY_SIGNATURE_CONTENT", "{ts}")], "COGNIGY_SIGNATURE_CONTENT"),
        (&[("COGNIGY_ID_POINTER", "id")], "COGNIGY_ID_POINTER"),
        (&[("COGNIGY_FORWARD_URL", "http://127.0.0.1:9/x")], "COGNIGY_FORWARD_SECRET"),
        (
            &[
                ("COGNIGY_FORWARD_URL", "ftp://h"),
                ("COGNIGY_FORWARD_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            ],
            "COGNIGY_FORWARD_URL",
        ),
        (&[("COGNIGY_FORWARD_SECRET", "plain")], "COGNIGY_FORWARD_SECRET"),
        (&[("CRM_PRESET", "sugar")], "CRM_PRESET"),
        (&[("CRM_PRESET", "template")], "CRM_PRESET"),
        (&[("CRM_PRESET", "hubspot"), ("CRM_TOKEN", "t")], "CRM_EXTERNAL_ID_FIELD"),
        (&[("CRM_PRESET", "zendesk")], "CRM_TOKEN"),
        (&[("CRM_RATE_LIMIT", "often")], "CRM_RATE_LIMIT"),
        (&[("CRM_AMBIGUOUS", "both")], "CRM_AMBIGUOUS"),
    ] {
        let mut site = Site::new();
        for (name, value) in settings {
            site.set(name, *value);
        }
        let output = site.run(&["serve"]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{settings:?}: {told}");
        assert!(told.lines().last().unwrap().contains(named), "{settings:?}: {told}");
    }
}

#[test]
fn a_callback_becomes_an_event_each_time_unless_a_window_is_set() {
    let secret = "cognigy:marked-password";
    let mut site = site("cognigy-callback", secret);
    let server = site.serve();
    let body = br#"{"userId":"u-42","sessionId":"s-7","AIOutput":{"text":"Hi","data":{},"traceId":"t-1","source":"bot"}}"#;
    let credential = basic(secret);
    let headers = [("Authorization", credential.as_str())];
    for _ in 0..2 {
        let answer = server.post(PATH, &headers, body);
        assert_eq!(answer.json(), json!({"status": "accepted"}), "two people may say the same");
    }
    assert_eq!(server.stats()["events"]["total"], 2);
    let listed = server.get("/admin/events").json();
    let event = &listed["events"][0];
    assert_eq!((&event["type"], &event["user_id"]), (&json!("cognigy.bot.output"), &json!("u-42")));
    assert!(event["conversation"].as_str().unwrap().contains("s-7"));
    let invalid = server.post(PATH, &headers, br#"{"sessionId":"s","AIOutput":{}}"#);
    assert!(invalid.problem(400).contains("userId"), "{invalid:?}");
    drop(server);

    site.set("COGNIGY_DERIVED_ID_WINDOW", "1h");
    let server = site.serve();
    assert_eq!(server.post(PATH, &headers, body).json(), json!({"status": "accepted"}));
    let again = server.post(PATH, &headers, body);
    assert_eq!(again.json(), json!({"status": "accepted", "duplicate": true}));
    assert_eq!(server.stats()["events"]["total"], 3);
}

#[test]
fn what_a_sensitive_callback_says_is_nowhere_to_be_read() {
    let secret = "cognigy:marked-password";
    let crm = Crm::start();
    crm.answer(503, "");
    let mut site = site("cognigy-callback", secret);
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_RETRY_MAX_ATTEMPTS", "2")
        .set("COGNIGY_LOG", "trace");
    let server = site.serve();
    let body = |user: &str| {
        format!(
            r#"{{"userId":"{user}","sessionId":"s-7","AIOutput":{{"text":"PLANTED-{user}","data":{{"pin":"PLANTED"}},"disableSensitiveLogging":true}}}}"#
        )
    };
    let credential = basic(secret);
    let headers = [("Authorization", credential.as_str())];
    assert_eq!(server.post(PATH, &headers, body("u-1").as_bytes()).status, 200);
    let dead = eventually("it is given up", || {
        let listed = server.get("/admin/events?status=dead_lettered").json();
        let events = listed["events"].as_array().unwrap();
        events.first().map(|event| event["event_id"].as_str().unwrap().to_owned())
    });
    let shown = server.get(&format!("/admin/events/{dead}"));
    assert_eq!((&shown.json()["body"], &shown.json()["sensitive"]), (&Value::Null, &json!(true)));
    // One that no event can be made of is not kept at all.
    let broken = body("").replace("sessionId", "session");
    server.post(PATH, &headers, broken.as_bytes()).problem(400);
    crm.answer(200, r#"{"id":1}"#);
    assert_eq!(server.post(PATH, &headers, body("u-2").as_bytes()).status, 200);
    let event = processed(&server);
    let id = event["event_id"].as_str().unwrap();
    let forgotten = eventually("its body is forgotten", || {
        let event = server.event(id);
        (event["forgotten"] == "sensitive").then_some(event)
    });
    assert_eq!(forgotten["status"], "processed");
    assert_eq!(server.operate("POST", &format!("/webhooks/replay/{id}"), b"").status, 410);
    for path in
        ["/admin/events", "/admin/quarantine", &format!("/admin/events/{id}"), "/admin/stats"]
    {
        let answer = server.get(path);
        assert!(!answer.body.contains("PLANTED"), "{path}: {answer:?}");
    }
    let text = site.run(&["show", id]);
    assert!(common::stdout(&text).contains("forgotten"), "{text:?}");
    assert!(!server.log().contains("PLANTED"));
    if site.postgres.is_none() {
        drop(server);
        let file = std::fs::read(site.database()).unwrap();
        let holds = |marker: &[u8]| file.windows(marker.len()).any(|window| window == marker);
        assert!(!holds(b"PLANTED-u-2"), "the processed one is gone from the file");
        assert!(holds(b"PLANTED-u-1"), "the other one can still be replayed");
    }
}

#[test]
fn cloud_events_come_one_by_one_in_headers_and_in_batches() {
    let mut site = site("cloudevents", "marked-token");
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    let post = |kind: &str, extra: &[(&str, &str)], body: &str| -> Answer {
        let mut headers = vec![("Authorization", "Bearer marked-token"), ("Content-Type", kind)];
        headers.extend_from_slice(extra);
        server.post(PATH, &headers, body.as_bytes())
    };
    let event = |id: &str| {
        format!(
            r#"{{"specversion":"1.0","type":"a.b","source":"/s","id":"{id}","data":{{"n":10000000000000000001}}}}"#
        )
    };
    assert_eq!(post("application/cloudevents+json", &[], &event("1")).status, 202);
    let again = post("application/cloudevents+json; charset=utf-8", &[], &event("1"));
    assert_eq!((again.status, again.json()["duplicate"].as_bool()), (202, Some(true)));
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-type", "a.b"),
        ("ce-source", "/s"),
        ("ce-id", "\"two \\\" %E2%82%AC\""),
    ];
    assert_eq!(post("application/json", &binary, r#"{"x":1}"#).status, 202);
    let batch = |events: &[&str]| {
        format!("[{}]", events.iter().map(|id| event(id)).collect::<Vec<_>>().join(","))
    };
    assert_eq!(post("application/cloudevents-batch+json", &[], &batch(&["3", "4"])).status, 202);
    assert_eq!(post("application/cloudevents-batch+json", &[], "[]").status, 202);
    let bad = batch(&["5", "6"]).replace(r#""id":"6""#, r#""id":"""#);
    assert_eq!(post("application/cloudevents-batch+json", &[], &bad).status, 400);
    assert_eq!(server.stats()["events"]["total"], 4, "one bad event refuses the batch");
    post("application/cloudevents+avro", &[], "x").problem(415);
    let mut invalid = binary;
    invalid[3].1 = "%C0%A0";
    assert_eq!(post("application/json", &invalid, "{}").status, 400);

    let in_query = server.post(
        &format!("{PATH}?access_token=marked-token"),
        &[("Content-Type", "application/cloudevents+json")],
        event("7").as_bytes(),
    );
    assert_eq!(in_query.status, 202);
    let wrong =
        server.post(&format!("{PATH}?access_token=marked-tokem"), &[], event("8").as_bytes());
    assert_eq!(wrong.problem(401), "Invalid credentials");
    assert!(!server.log().contains("marked-"), "{}", server.log());

    let asks = [("WebHook-Request-Origin", "sender.example"), ("WebHook-Request-Rate", "120")];
    let answer = server.request("OPTIONS", PATH, &asks, b"");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("webhook-allowed-origin").as_deref(), Some("sender.example"));
    assert_eq!(answer.header("webhook-allowed-rate").as_deref(), Some("120"));
    let plain = server.request("OPTIONS", PATH, &[], b"");
    assert!(plain.status == 400 && plain.header("webhook-allowed-origin").is_none());
}

#[test]
fn any_json_becomes_an_event_by_pointers() {
    let mut site = site("json", common::SECRET);
    site.set("COGNIGY_AUTH", "header")
        .set("COGNIGY_SIGNATURE_HEADER", "X-Key")
        .set("COGNIGY_ID_POINTER", "/meta/id")
        .set("COGNIGY_CONTACT_POINTER", "/who")
        .set("COGNIGY_CONVERSATION_POINTER", "/thread/0")
        .set("COGNIGY_EVENT_TYPE", "order.placed");
    let crm = Crm::start();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let post = |body: &str| server.post(PATH, &[("X-Key", common::SECRET)], body.as_bytes());
    assert_eq!(post(r#"{"meta":{"id":7},"who":"c-9","thread":["t-1"]}"#).status, 200);
    let event = server.wait_for("7", "processed");
    assert_eq!(event["type"], "order.placed");
    assert_eq!((&event["external_id"], &event["conversation"]), (&json!("c-9"), &json!("t-1")));
    assert_eq!(event["correlation"], "matched");
    for (body, pointer) in [
        (r#"{"meta":{}}"#, "/meta/id"),
        (r#"{"meta":{"id":{}}}"#, "/meta/id"),
        (r#"{"meta":{"id":"8"},"who":{}}"#, "/who"),
    ] {
        let answer = post(body);
        answer.problem(400);
        assert_eq!(answer.json()["errors"][0]["field"], pointer, "{body}");
    }
    assert_eq!(server.get("/admin/quarantine").json()["items"].as_array().unwrap().len(), 3);
}

#[test]
fn a_source_with_a_sender_of_its_own_inherits_no_part_of_another() {
    let mut site = Site::new();
    site.set("COGNIGY_SIGNATURE_SCHEME", "github")
        .set("COGNIGY_SOURCES", "voice,same")
        .set("COGNIGY_SOURCE_VOICE_PRESET", "voice-gateway")
        .set("COGNIGY_SOURCE_VOICE_WEBHOOK_SECRET", "marked-voice")
        .set("COGNIGY_SOURCE_SAME_WEBHOOK_SECRET", "marked-same");
    let server = site.serve();
    let sent = |source: &[&str]| site.run(&[&["send", "--generate", "1"], source].concat());
    for source in [&[][..], &["--source", "same"]] {
        let url = format!(
            "http://{}{}",
            server.address,
            match source {
                [] => PATH.to_owned(),
                _ => format!("{PATH}/same"),
            }
        );
        let output = sent(&[source, &["--url", &url]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let url = format!("http://{}{PATH}/voice", server.address);
    let body = site.folder.path().join("call.json");
    std::fs::write(&body, r#"{"call_sid":"c-1","call_status":"completed","direction":"inbound","from":"+4930000001"}"#).unwrap();
    let output = site.run(&["send", body.to_str().unwrap(), "--source", "voice", "--url", &url]);
    assert!(output.status.success(), "{}", stderr(&output));
    let listed = server.get("/admin/events?source=voice").json();
    assert_eq!(listed["events"][0]["type"], "voice.call.completed");
    assert_eq!(listed["events"][0]["conversation"], "c-1");
}

#[test]
fn a_crm_that_is_down_uses_up_no_attempt_where_the_breaker_is_on() {
    let crm = Crm::start();
    crm.answer(503, "");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_BREAKER", "on")
        .set("COGNIGY_RETRY_MAX_ATTEMPTS", "2")
        .set("COGNIGY_RETRY_MAX_DELAY", "100ms");
    let server = site.serve();
    for number in 0..5 {
        assert_eq!(server.deliver(&common::event(&format!("e{number}"), "c1")).status, 200);
    }
    let series = r#"cognigy_crm_breaker{source="cognigy"}"#;
    eventually("the breaker is open", || (metric(&server, series) == 1.0).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    let asked = crm.requests().len();
    assert!((5..=40).contains(&asked), "one probe at a time, some ten a second: {asked}");
    assert_eq!(server.stats()["by_status"]["dead_lettered"], 0);
    assert!(server.event("e0")["attempts"].as_array().unwrap().is_empty());
    crm.answer(200, r#"{"id":1}"#);
    for number in 0..5 {
        server.wait_for(&format!("e{number}"), "processed");
    }
    assert_eq!(metric(&server, series), 0.0);
}

#[test]
fn what_a_product_answers_decides_what_becomes_of_the_event() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_PRESET", "zendesk")
        .set("CRM_TOKEN", "agent@example.test/token:marked-key");
    let server = site.serve();
    let one = r#"{"id":9,"external_id":"c1","name":"Ada"}"#;
    crm.answer(200, &format!(r#"{{"users":[{one}],"count":1}}"#));
    server.deliver(&common::event("found", "c1"));
    let event = server.wait_for("found", "processed");
    assert_eq!(
        (&event["correlation"], &event["crm_context"]["name"]),
        (&json!("matched"), &json!("Ada"))
    );
    let request = crm.requests().pop().unwrap();
    assert!(request.starts_with("GET /api/v2/users/show_many.json?external_ids=c1"), "{request}");
    assert!(request.contains(&basic("agent@example.test/token:marked-key")), "{request}");

    crm.answer(200, r#"{"users":[],"count":0}"#);
    server.deliver(&common::event("nobody", "c1"));
    assert_eq!(server.wait_for("nobody", "processed")["correlation"], "none");
    crm.answer(200, &format!(r#"{{"users":[{one},{one}],"count":2}}"#));
    server.deliver(&common::event("two", "c1"));
    let event = server.wait_for("two", "dead_lettered");
    assert_eq!(event["correlation"], "ambiguous");
    crm.answer(404, "<html>");
    server.deliver(&common::event("misconfigured", "c1"));
    assert_eq!(server.wait_for("misconfigured", "dead_lettered")["correlation"], "failed");
    assert!(!server.log().contains("marked-"), "{}", server.log());
    drop(server);

    for (policy, contact) in [("none", Value::Null), ("first", json!("Ada"))] {
        crm.answer(200, &format!(r#"{{"users":[{one},{one}],"count":2}}"#));
        site.set("CRM_AMBIGUOUS", policy);
        let server = site.serve();
        let id = format!("two-{policy}");
        server.deliver(&common::event(&id, "c1"));
        let event = server.wait_for(&id, "processed");
        assert_eq!(event["correlation"], "ambiguous");
        assert_eq!(event["crm_context"]["name"], contact);
    }
}

#[test]
fn a_crm_of_one_s_own_is_a_table_in_the_file() {
    let crm = Crm::start();
    crm.answer(200, r#"{"people":[{"key":"c1","name":"Ada"}]}"#);
    let mut site = Site::new();
    let file = r#"
        crm_preset = "template"
        [crm_template]
        external_id_field = "key"
        [crm_template.auth]
        kind = "header"
        header = "X-Crm-Key"
        [[crm_template.look_up]]
        path = "/people"
        query = { key = "{external_id}" }
        found = { pointer = "/people", verify = "/{external_id_field}" }
    "#;
    std::fs::write(site.folder.path().join("cognigy.toml"), file).unwrap();
    site.set("CRM_BASE_URL", crm.url()).set("CRM_TOKEN", "marked-key");
    let server = site.serve();
    server.deliver(&common::event("e1", "c1"));
    assert_eq!(server.wait_for("e1", "processed")["crm_context"]["name"], "Ada");
    let request = crm.requests().pop().unwrap().to_ascii_lowercase();
    assert!(
        request.starts_with("get /people?key=c1 ") && request.contains("x-crm-key: marked-key")
    );
}

#[test]
fn events_are_handed_on_with_their_contacts() {
    let crm = Crm::start();
    let receiver = Crm::start();
    receiver.answer(500, "");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_FORWARD_URL", format!("{}/in?tenant=1", receiver.url()))
        .set("COGNIGY_FORWARD_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .set("COGNIGY_FORWARD_TYPES", "USER_INPUT_RECEIVED,DIALOG_ENDED");
    let server = site.serve();
    let body = r#"{"eventId":"e1","timestamp":1772366400,"type":"USER_INPUT_RECEIVED","externalId":"c1","payload":{"input":1.00000000000000000001}}"#;
    server.deliver(body.as_bytes());
    eventually("it was tried", || (!receiver.requests().is_empty()).then_some(()));
    receiver.answer(204, "");
    let event = server.wait_for("e1", "processed");
    assert!(event["attempts"][0]["error"].as_str().unwrap().contains("500"), "{event}");
    let (requests, bodies) = (receiver.requests(), receiver.bodies());
    let ids: Vec<_> = requests
        .iter()
        .map(|head| head.lines().find(|line| line.starts_with("webhook-id")).unwrap().to_owned())
        .collect();
    assert!(requests.len() >= 2 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(requests[0].starts_with("POST /in?tenant=1 "), "{}", requests[0]);
    let sent: Value = serde_json::from_str(bodies.last().unwrap()).unwrap();
    assert_eq!(
        (&sent["type"], &sent["timestamp"]),
        (&json!("USER_INPUT_RECEIVED"), &json!("2026-03-01T12:00:00Z"))
    );
    let data = &sent["data"];
    assert_eq!(
        (&data["event_id"], &data["source"], &data["contact_key"]),
        (&json!("e1"), &json!("cognigy"), &json!("c1"))
    );
    assert_eq!(
        (&data["correlation"], &data["contact"]["name"]),
        (&json!("matched"), &json!("Ada"))
    );
    assert!(bodies.last().unwrap().contains("1.00000000000000000001"), "no number is rounded");

    // Of a type that is not handed on; and one whose receiver refuses it for good.
    let started = br#"{"eventId":"e2","timestamp":1,"type":"DIALOG_STARTED","payload":{}}"#;
    server.deliver(started);
    server.wait_for("e2", "processed");
    assert_eq!(receiver.requests().len(), requests.len());
    receiver.answer(410, "");
    server.deliver(br#"{"eventId":"e3","timestamp":1,"type":"DIALOG_ENDED","payload":{}}"#);
    let event = server.wait_for("e3", "dead_lettered");
    assert_eq!(
        (event["attempts"].as_array().unwrap().len(), &event["correlation"]),
        (1, &json!("not_asked"))
    );
    let shown = format!("{event}{}", server.log());
    assert!(
        !shown.contains("tenant") && !shown.contains("whsec_"),
        "the URL's query may be a secret"
    );
}

#[test]
fn a_contact_that_was_not_known_is_asked_for_again() {
    let crm = Crm::start();
    crm.answer(404, "");
    let receiver = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_FORWARD_URL", receiver.url())
        .set("COGNIGY_FORWARD_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let server = site.serve();
    for id in ["e1", "e2"] {
        server.deliver(&common::event(id, id));
        assert_eq!(server.wait_for(id, "processed")["correlation"], "none");
    }
    let handed_on = receiver.requests().len();
    let still = site.run(&["recorrelate", "--external-id", "e1"]);
    assert!(still.status.success(), "{}", stderr(&still));
    assert!(common::stdout(&still).ends_with("0 of 1 have a contact now\n"), "{still:?}");
    crm.answer(200, r#"{"name":"Ada"}"#);
    let asked = site.run(&["recorrelate", "--external-id", "e1"]);
    assert!(common::stdout(&asked).ends_with("1 of 1 have a contact now\n"), "{asked:?}");
    let event = server.event("e1");
    assert_eq!(
        (&event["correlation"], &event["crm_context"]["name"]),
        (&json!("matched"), &json!("Ada"))
    );
    assert_eq!(receiver.requests().len(), handed_on, "the handler was not run");
    let run = site.run(&["recorrelate", "--run", "--json"]);
    assert!(common::stdout(&run).contains(r#""outcomes":{"matched":1}"#), "{run:?}");
    eventually("it is handed on again", || (receiver.requests().len() > handed_on).then_some(()));
    assert_eq!(server.event("e2")["crm_context"]["name"], "Ada");
    crm.answer(500, "");
    let failed = site.run(&["recorrelate"]);
    assert!(failed.status.success(), "nothing is left to ask for: {failed:?}");
}

#[test]
fn the_simple_protocol_takes_other_credentials_and_a_rate_limit() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_AUTH", "basic")
        .set("CRM_TOKEN", "user:marked-password")
        .set("CRM_RATE_LIMIT", "1/300ms");
    let server = site.serve();
    for id in ["e1", "e2", "e3", "e4"] {
        server.deliver(&common::event(id, id));
    }
    let began = std::time::Instant::now();
    for id in ["e1", "e2", "e3", "e4"] {
        let event = server.wait_for(id, "processed");
        assert_eq!(event["crm_context"]["name"], "Ada");
    }
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    let request = crm.requests().pop().unwrap();
    assert!(request.contains(&basic("user:marked-password")), "{request}");
    for (status, body) in [(404, ""), (200, "[]"), (204, "")] {
        crm.answer(status, body);
        let id = format!("nobody-{status}");
        server.deliver(&common::event(&id, &id));
        assert_eq!(server.wait_for(&id, "processed")["correlation"], "none");
    }
}

#[test]
fn send_makes_up_what_each_sender_sends() {
    for (preset, secret) in [
        ("native", common::SECRET),
        ("cognigy-callback", "user:a-password"),
        ("cognigy-http-node", common::SECRET),
        ("voice-gateway", common::SECRET),
        ("cloudevents", common::SECRET),
        ("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("chatwoot", common::SECRET),
        ("json", common::SECRET),
    ] {
        let mut site = site(preset, secret);
        site.set("COGNIGY_WORKER", "off");
        let server = site.serve();
        let url = format!("http://{}{PATH}", server.address);
        let sent = site.run(&["send", "--generate", "8", "--url", &url]);
        assert!(sent.status.success(), "{preset}: {} {}", common::stdout(&sent), stderr(&sent));
        assert_eq!(server.stats()["events"]["total"], 8, "{preset}");
    }
}
