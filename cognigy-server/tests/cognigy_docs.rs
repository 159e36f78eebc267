//! docs/cognigy.md, as it is written: the settings start the server, the transformer runs under Node.js
//! with stand-ins for Cognigy's functions, and what each way sends is accepted and becomes the event that
//! the page tells of. The settings in docs/sources.md and docs/crms.md are tried, too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Answer, Server, Site, crm::Crm, eventually};
use serde_json::{Value, json};

/// The address that the page uses.
const ADDRESS: &str = "https://hooks.example.com";

/// Gives the page's transformer what Cognigy gives one, and nothing else: `require`, `Buffer` and `fetch`
/// are not there. Prints the requests of each function, and what it returned.
const TRANSFORMER: &str = r#"
const { source, input, output, fails } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const printed = [], requests = [];
let functions;
require("vm").runInNewContext(source, {
  crypto: require("crypto"),
  console: { log: () => {}, info: () => {}, error: (text) => printed.push(text) },
  httpRequest: async (options) => {
    requests.push(options);
    if (fails) throw new Error("ETIMEDOUT");
    return {};
  },
  createWebhookTransformer: (given) => { functions = given; },
});
(async () => {
  const answers = [await functions.handleInput(input), await functions.handleOutput(output)];
  console.log(JSON.stringify({ answers, requests, printed }));
})();
"#;

/// Signs as Voice Gateway does.
const VOICE: &str = r#"
const { secret, body, at } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const t = at ?? Math.floor(Date.now() / 1000);
const v1 = require("crypto").createHmac("sha256", secret).update(`${t}.${body}`).digest("hex");
console.log(JSON.stringify(`t=${t},v1=${v1}`));
"#;

fn page() -> String {
    document("cognigy")
}

fn document(name: &str) -> String {
    std::fs::read_to_string(common::workspace().join(format!("docs/{name}.md"))).unwrap()
}

/// The blocks of `language` in the section with that heading; in all of them, where it is empty.
fn blocks(heading: &str, language: &str) -> Vec<String> {
    let page = page();
    let section = match heading {
        "" => page.as_str(),
        heading => {
            let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
            rest.split("\n## ").next().unwrap()
        }
    };
    fenced(section, language)
}

fn fenced(text: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().into()).collect()
}

fn block(heading: &str, language: &str) -> String {
    let mut found = blocks(heading, language);
    assert_eq!(found.len(), 1, "{heading}: {language}");
    found.remove(0)
}

/// What one source of the page is set to.
fn secret_of(source: &str) -> String {
    let file: toml::Table = blocks("", "toml").join("\n").parse().unwrap();
    file["sources"][source]["webhook_secret"].as_str().unwrap().to_owned()
}

/// A server with all tables of the page, and its CRM.
fn serve() -> (Site, Server, Crm) {
    let crm = Crm::start();
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", crm.url());
    configure(&site, &blocks("", "toml").join("\n"));
    let server = site.serve();
    (site, server, crm)
}

/// Writes `cognigy.toml`.
fn configure(site: &Site, settings: &str) {
    let file = site.folder.path().join("cognigy.toml");
    std::fs::write(&file, settings).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Runs a script with `input` on its standard input. Yields what it prints.
fn node(script: &str, input: &Value) -> Value {
    let mut child = Command::new("node")
        .args(["--eval", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node.js is not installed: run ./scripts/install/receivers first");
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The path of a URL of the page.
fn path(url: &str) -> &str {
    url.strip_prefix(ADDRESS).unwrap_or_else(|| panic!("{url} is elsewhere"))
}

/// Posts a request that the transformer made. `change` makes another one of it.
fn send(
    server: &Server,
    request: &Value,
    change: impl FnOnce(&mut BTreeMap<String, String>),
) -> Answer {
    assert_eq!((&request["method"], &request["json"]), (&json!("POST"), &json!(false)));
    let mut parts: BTreeMap<String, String> =
        serde_json::from_value(request["headers"].clone()).unwrap();
    parts.insert("body".to_owned(), request["body"].as_str().expect("a text").to_owned());
    change(&mut parts);
    let body = parts.remove("body").unwrap();
    let headers: Vec<_> = parts.iter().map(|(name, value)| (&**name, &**value)).collect();
    server.post(path(request["uri"].as_str().unwrap()), &headers, body.as_bytes())
}

/// The only event of `source` once it is processed, or the first of several that is not in `known`.
fn processed(server: &Server, source: &str, known: &[&str]) -> Value {
    eventually(&format!("an event of {source} is processed"), || {
        let list = server.get(&format!("/admin/events?source={source}&status=processed")).json();
        let mut ids = list["events"].as_array()?.iter().filter_map(|it| it["event_id"].as_str());
        let id = ids.find(|id| !known.contains(id))?;
        let id = id.replace('%', "%25").replace('|', "%7C").replace('/', "%2F");
        Some(server.get(&format!("/admin/events/{id}?source={source}")).json())
    })
}

/// The parts of an event that the page's tables tell of.
fn told(event: &Value) -> [&Value; 5] {
    ["type", "external_id", "user_id", "conversation", "correlation"].map(|part| &event[part])
}

fn count(server: &Server, source: &str) -> usize {
    let list = server.get(&format!("/admin/events?source={source}")).json();
    list["events"].as_array().unwrap().len()
}

#[test]
fn the_transformer_signs_what_the_server_accepts() {
    let (_site, server, crm) = serve();
    let source = block("A transformer that signs", "javascript");
    let input = json!({"request": {"body": {
        "userId": "user123", "sessionId": "session123", "text": "Grüße & 9007199254740993",
        "data": {"externalId": "C-1001"},
    }}});
    let output = json!({
        "userId": "user123", "sessionId": "session123",
        "output": {"text": "Hello", "data": {"_cognigy": {}}},
        "processedOutput": {"marked": "for the channel"},
    });
    let given = json!({"source": source, "input": input, "output": output, "fails": false});
    let ran = node(TRANSFORMER, &given);
    assert_eq!(ran["answers"], json!([input["request"]["body"], output["processedOutput"]]));
    let requests = ran["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 2, "one request in each execution");

    for request in requests {
        let swap = |text: &str| match text.as_bytes()[text.len() - 3] {
            b'A' => format!("{}B{}", &text[..text.len() - 3], &text[text.len() - 2..]),
            _ => format!("{}A{}", &text[..text.len() - 3], &text[text.len() - 2..]),
        };
        for part in ["webhook-signature", "webhook-timestamp", "webhook-id", "body"] {
            let wrong = send(&server, request, |parts| {
                let changed = swap(&parts[part]);
                parts.insert(part.to_owned(), changed);
            });
            assert_eq!(wrong.status, 401, "{part}: {wrong:?}");
        }
        assert_eq!(
            send(&server, request, |parts| drop(parts.remove("webhook-signature"))).status,
            401
        );
        let answer = send(&server, request, |_| ());
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted"}"#));
        assert_eq!(send(&server, request, |_| ()).json()["duplicate"], true);
    }

    let ids: Vec<_> =
        requests.iter().map(|request| request["headers"]["webhook-id"].as_str().unwrap()).collect();
    let event = processed(&server, "transformer", &ids[1..]);
    assert_eq!(event["event_id"], ids[0]);
    let conversation = json!("user123/session123");
    assert_eq!(
        told(&event),
        [
            &json!("USER_INPUT_RECEIVED"),
            &json!("C-1001"),
            &json!("user123"),
            &conversation,
            &json!("matched"),
        ]
    );
    assert_eq!(event["body"], requests[0]["body"], "byte for byte");
    let event = processed(&server, "transformer", &ids[..1]);
    let expected = ["cognigy.bot.output", "", "user123", "user123/session123", "matched"];
    let expected = expected.map(|text| if text.is_empty() { Value::Null } else { json!(text) });
    assert_eq!(told(&event), expected.each_ref());
    assert_eq!(crm.requests().len(), 2);

    // A server that is down does not hold up the dialogue.
    let ran = node(
        TRANSFORMER,
        &json!({"source": source, "input": input, "output": output, "fails": true}),
    );
    assert_eq!(ran["answers"], json!([input["request"]["body"], output["processedOutput"]]));
    assert_eq!(ran["printed"].as_array().unwrap().len(), 2);
}

#[test]
fn the_http_request_node_shows_its_key_and_sends_json_as_a_form() {
    let (_site, server, _crm) = serve();
    let mut body = block("The HTTP Request node", "json");
    for (place, value) in [
        ("input.inputId", "i-1"),
        ("input.currentTime.ISODate", "2026-03-01T12:00:00.000Z"),
        ("input.userId", "user123"),
        ("input.sessionId", "session123"),
        ("context.customerId", "C-1001"),
        ("input.channel", "webchat3"),
        ("input.flowName", "Orders"),
    ] {
        body = body.replace(&format!("{{{{{place}}}}}"), value);
    }
    assert!(!body.contains("{{"), "{body}");
    let key = secret_of("flow");
    let post =
        |headers: &[(&str, &str)]| server.post("/webhooks/cognigy/flow", headers, body.as_bytes());
    assert_eq!(post(&[]).status, 401);
    assert_eq!(post(&[("X-API-Key", "change-me-flow-kez")]).status, 401);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let answer = post(&[("X-API-Key", &key), form]);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted"}"#));
    assert_eq!(post(&[("X-API-Key", &key)]).json()["duplicate"], true);
    let event = processed(&server, "flow", &[]);
    assert_eq!(event["event_id"], "i-1:start");
    let expected = ["DIALOG_STARTED", "C-1001", "user123", "user123/session123", "matched"];
    assert_eq!(told(&event), expected.map(|it| json!(it)).each_ref());
}

#[test]
fn a_callback_shows_user_and_password_and_is_forgotten_if_it_is_sensitive() {
    let (_site, server, _crm) = serve();
    let body = block("The Webhook Endpoint's callback", "json");
    let post = |pair: &str, body: &str| {
        let basic = format!("Basic {}", STANDARD.encode(pair));
        let authorization = ("Authorization", basic.as_str());
        server.post("/webhooks/cognigy/callback", &[authorization], body.as_bytes())
    };
    let pair = secret_of("callback");
    assert_eq!(post("cognigy:another", &body).status, 401);
    assert_eq!(server.post("/webhooks/cognigy/callback", &[], body.as_bytes()).status, 401);
    assert_eq!(post(&pair, &body).body, r#"{"status":"accepted"}"#);
    let event = processed(&server, "callback", &[]);
    let id = event["event_id"].as_str().unwrap();
    assert!(id.starts_with("derived-"), "{id}");
    let expected = [
        json!("cognigy.bot.output"),
        Value::Null,
        json!("user123"),
        json!("user123/session123"),
        json!("matched"),
    ];
    assert_eq!(told(&event), expected.each_ref());
    assert_eq!(event["body"], body);

    // The same once more is an event of its own, as long as no window is set.
    assert_eq!(post(&pair, &body).body, r#"{"status":"accepted"}"#);
    assert_eq!(count(&server, "callback"), 2);
    let second = processed(&server, "callback", &[id]);

    let marked = body
        .replace("order number", "marked-words")
        .replace(r#""disableSensitiveLogging": false"#, r#""disableSensitiveLogging": true"#);
    assert_ne!(marked, body);
    assert_eq!(post(&pair, &marked).body, r#"{"status":"accepted"}"#);
    let known = [id, second["event_id"].as_str().unwrap()];
    let event = eventually("it is forgotten", || {
        let event = processed(&server, "callback", &known);
        (event["forgotten"] == "sensitive").then_some(event)
    });
    assert_eq!((&event["sensitive"], &event["body"]), (&json!(true), &Value::Null));
    assert_eq!(told(&event), expected.each_ref(), "it was processed all the same");
    let id = event["event_id"].as_str().unwrap();
    let replay = format!("/webhooks/replay/{id}?source=callback");
    assert_eq!(server.operate("POST", &replay, b"").status, 410, "there is nothing to run again");
    assert!(!server.log().contains("marked-words"));
}

#[test]
fn voice_gateway_signs_a_status_and_gives_the_tag_back() {
    let (_site, server, _crm) = serve();
    let heading = "Voice Gateway's status hook";
    let [call, body] = <[String; 2]>::try_from(blocks(heading, "json")).unwrap();
    let call: Value = serde_json::from_str(&call).unwrap();
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(call["tag"], status["customer_data"]);
    let url = call["notifyUrl"]["url"].as_str().unwrap();
    // What follows the `#` is for the sender alone.
    let path = path(url.split('#').next().unwrap());

    let secret = secret_of("voice");
    let signed = |secret: &str, body: &str, at: Value| {
        let signature = node(VOICE, &json!({"secret": secret, "body": body, "at": at}));
        let header = ("Jambonz-Signature", signature.as_str().unwrap());
        server.post(path, &[header, ("Content-Type", "application/json")], body.as_bytes())
    };
    assert_eq!(signed("another-secret", &body, Value::Null).status, 401);
    assert_eq!(signed(&secret, &body, json!(1_700_000_000)).status, 401, "too old");
    assert_eq!(server.post(path, &[], body.as_bytes()).status, 401);
    let answer = signed(&secret, &body, Value::Null);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted"}"#));
    assert_eq!(signed(&secret, &body, Value::Null).json()["duplicate"], true, "a repetition");
    let completed = processed(&server, "voice", &[]);
    let expected = [
        "voice.call.completed",
        "C-1001",
        "+4930000002",
        "0c8a1e5e-5f0c-4d5a-9f5b-2f6f0a9c1d11",
        "matched",
    ];
    assert_eq!(told(&completed), expected.map(|it| json!(it)).each_ref());

    let other = body.replace(r#""completed""#, r#""no-answer""#);
    assert_eq!(signed(&secret, &other, Value::Null).body, r#"{"status":"accepted"}"#);
    let event = processed(&server, "voice", &[completed["event_id"].as_str().unwrap()]);
    assert_eq!(event["type"], "voice.call.no-answer");
    // As a transformer hands it on. What the caller dialled is shown nowhere.
    let dialled =
        json!({"event": "RECOGNIZED_DTMF", "payload": {"call_sid": "c-2", "digits": "4711"}});
    assert_eq!(signed(&secret, &dialled.to_string(), Value::Null).status, 200);
    let ids = [&completed, &event].map(|event| event["event_id"].as_str().unwrap());
    let event = processed(&server, "voice", &ids);
    assert_eq!(event["type"], "voice.recognized_dtmf");
    assert_eq!((&event["sensitive"], &event["body"]), (&json!(true), &Value::Null));
}

#[test]
fn live_agent_posts_a_cloud_event_to_a_url_with_a_token() {
    let (_site, server, crm) = serve();
    let heading = "Live Agent's event gateway";
    let variables = block(heading, "sh");
    let url = variables.lines().find_map(|line| line.strip_prefix("EVENT_GATEWAY_HTTP_ENDPOINT="));
    let target = path(url.unwrap());
    let (path, query) = target.split_once('?').unwrap();
    assert_eq!(query, format!("access_token={}", secret_of("live-agent")));
    let body = block(heading, "json");
    // Its media type is not documented.
    for (number, media_type) in
        ["application/json", "application/cloudevents+json", "text/plain"].into_iter().enumerate()
    {
        let headers = [("Content-Type", media_type)];
        assert_eq!(server.post(path, &headers, body.as_bytes()).status, 401);
        let wrong = format!("{path}?access_token=change-me-live-agenT");
        assert_eq!(server.post(&wrong, &headers, body.as_bytes()).status, 401);
        let answer = server.post(target, &headers, body.as_bytes());
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.json()["duplicate"], json!((number > 0).then_some(true)));
    }
    let event = processed(&server, "live-agent", &[]);
    assert_eq!(event["event_id"], "live-agent|01HZX3V8Q5T6K7M8N9P0Q1R2S3");
    let expected = [
        json!("ai.cognigy.live-agent.conversation.typing_on"),
        Value::Null,
        Value::Null,
        json!("session123"),
        json!("not_asked"),
    ];
    assert_eq!(told(&event), expected.each_ref());
    assert_eq!(crm.requests().len(), 0);
    assert!(!server.log().contains("change-me-live-agent"), "the token is logged nowhere");
}

#[test]
fn each_url_of_the_page_is_a_source_and_each_secret_is_known_for_an_example() {
    let (_site, server, _crm) = serve();
    let page = page();
    let ends = |character: char| "\"`#?\n".contains(character);
    let urls: Vec<_> = page
        .split(&format!("{ADDRESS}/"))
        .skip(1)
        .map(|rest| format!("/{}", rest.split(ends).next().unwrap()))
        .collect();
    assert!(urls.len() >= 5, "{urls:?}");
    for url in urls {
        assert_eq!(server.post(&url, &[], b"{}").status, 401, "{url}");
    }
    for source in ["TRANSFORMER", "FLOW", "CALLBACK", "VOICE", "LIVE_AGENT"] {
        let warning = format!("COGNIGY_SOURCE_{source}_WEBHOOK_SECRET: is a well-known example");
        assert!(server.log().contains(&warning), "{warning}: {}", server.log());
    }
}

#[test]
fn the_settings_in_the_other_pages_start_a_server() {
    let mut tried = 0;
    for page in ["sources", "crms"] {
        for settings in fenced(&document(page), "toml") {
            let mut site = Site::on_file();
            site.variables.retain(|(name, _)| name != "CRM_BASE_URL");
            configure(&site, &settings);
            let server = site.serve();
            assert!(!server.log().contains("unknown"), "{settings}: {}", server.log());
            for line in settings.lines().filter_map(|line| line.strip_prefix("[sources.")) {
                let source = line.trim_end_matches(']');
                let path = format!("/webhooks/cognigy/{source}");
                assert_eq!(server.post(&path, &[], b"{}").status, 401, "{source}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 5, "{tried}");
}

#[test]
fn the_ninth_crm_of_the_page_finds_a_contact_and_tells_nobody_from_a_wrong_path() {
    let settings = fenced(&document("crms"), "toml");
    let settings = settings.iter().find(|it| it.contains("crm_template")).unwrap();
    let crm = Crm::start();
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", format!("{}/api", crm.url()));
    configure(&site, settings);
    let server = site.serve();
    let deliver = |id: &str, contact: &str| server.deliver(&common::event(id, contact)).status;

    crm.answer(200, r#"{"people":[{"customer_no":"it's","name":"Ada"},{"customer_no":"other"}]}"#);
    assert_eq!(deliver("found", "it's"), 200);
    assert_eq!(server.wait_for("found", "processed")["crm_context"]["name"], "Ada");
    let request = crm.requests().pop().unwrap();
    let [line, _] = request.splitn(2, "\r\n").collect::<Vec<_>>().try_into().unwrap();
    assert!(line.starts_with("GET /api/v2/people?"), "{line}");
    assert!(line.contains("it%27%27s"), "the quote is doubled: {line}");
    assert!(request.to_ascii_lowercase().contains("x-crm-key: change-me-crm"), "{request}");

    crm.answer(404, r#"{"error":{"code":"NO_SUCH_PERSON"}}"#);
    assert_eq!(deliver("nobody", "c1"), 200);
    assert_eq!(server.wait_for("nobody", "processed")["correlation"], "none");
    crm.answer(404, "<html>");
    assert_eq!(deliver("wrong", "c1"), 200);
    assert_eq!(server.wait_for("wrong", "dead_lettered")["correlation"], "failed");
    crm.answer(403, r#"{"error":{"code":"DAILY_LIMIT"}}"#);
    assert_eq!(deliver("quota", "c1"), 200);
    eventually("the breaker is open", || {
        let metrics = server.request("GET", "/metrics", &[], b"").body;
        metrics.contains(r#"cognigy_crm_breaker{source="cognigy"} 1"#).then_some(())
    });
}

#[test]
fn the_readme_has_every_setting() {
    let help = Site::on_file().run(&["--help-settings"]);
    let help = common::stdout(&help);
    let readme = std::fs::read_to_string(common::workspace().join("README.md")).unwrap();
    let names: Vec<_> = help
        .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
        .filter(|word| ["COGNIGY_", "CRM_", "SQS_"].iter().any(|it| word.starts_with(it)))
        .filter(|word| !word.contains("_NAME") && word.len() > 8)
        .collect();
    assert!(names.len() > 80, "{}", names.len());
    for name in names {
        assert!(readme.contains(&format!("`{name}")), "{name} is not in README.md");
    }
}
