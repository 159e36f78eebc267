//! `send`: sign events and post them, as a sender would.

use std::{
    collections::BTreeMap,
    io::Read,
    time::{Duration, Instant},
};

use clap::ArgMatches;
use cognigy_core::FormatPreset;
use cognigy_http::{BaseUrl, ClientOptions, TransportError, read_bounded};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{Progress, number, print_json, source};
use crate::{
    error::StartError,
    output::{printable, say},
    settings::{Settings, Webhook},
    telemetry::milliseconds,
};

/// How long an answer may take. The server refuses a slow body earlier.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer that is read. Answers are a line of JSON.
const MAX_ANSWER: usize = 64 * 1024;

/// How many refused events are listed without --json. A longer list would hide the sums.
const SHOWN: usize = 20;

/// A body to be posted, and its line in the file.
struct Body {
    /// The line in the file, from 1. For a generated event, its number.
    line: usize,
    bytes: Vec<u8>,
}

/// An event that was not taken.
#[derive(serde::Serialize)]
struct Refused {
    line: usize,
    /// None if it cannot be read.
    event_id: Option<String>,
    /// None if there was no answer.
    status: Option<u16>,
    detail: String,
}

/// The event id in a body, which may be invalid otherwise.
fn event_id(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["eventId"].as_str().map(str::to_owned)
}

pub(super) async fn run(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let source = source(arguments, settings)?;
    let webhook = source.webhook()?;
    let url = match arguments.get_one::<String>("url") {
        Some(url) => url.clone(),
        None => {
            let token = webhook.path_end().map(|token| format!("/{token}")).unwrap_or_default();
            format!("http://{}{}{token}", settings.listen, source.path())
        }
    };
    let preset = source.bodies.preset;
    let bodies = bodies(arguments, preset)?;
    if BaseUrl::parse(&url).is_err() {
        return Err(StartError::Usage(format!("--url: {url:?} is not an http or https URL")));
    }
    let client = client(&url, settings.proxy_from_env, TIMEOUT)?;

    let total = bodies.len();
    let progress = Progress::new();
    let started = Instant::now();
    let (client, url) = (&client, url.as_str());
    let mut answers = stream::iter(bodies)
        .map(|Body { line, bytes }| async move {
            let event_id = event_id(&bytes);
            (line, event_id, post(client, url, (webhook, preset), line, bytes).await)
        })
        .buffer_unordered(number(arguments, "concurrency").max(1) as usize);
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut refused = Vec::new();
    let mut done = 0;
    while let Some((line, event_id, (status, words))) = answers.next().await {
        let outcome = match status {
            Some(status) => format!("{status} {words}"),
            None => words.clone(),
        };
        *outcomes.entry(outcome).or_default() += 1;
        if !status.is_some_and(|status| (200..300).contains(&status)) {
            refused.push(Refused { line, event_id, status, detail: words });
        }
        done += 1;
        progress.show(&format!("{done} of {total}"));
    }
    drop(progress);
    let seconds = started.elapsed().as_secs_f64();
    refused.sort_by_key(|refused| refused.line);
    if arguments.get_flag("json") {
        let seconds = milliseconds(started.elapsed()) / 1e3;
        print_json(&json!({
            "sent": total, "seconds": seconds, "outcomes": outcomes, "refused": refused,
        }))?;
    } else {
        for (outcome, count) in &outcomes {
            say!("{count:>8}  {}", printable(outcome))?;
        }
        for Refused { line, event_id, status, detail } in refused.iter().take(SHOWN) {
            let event = event_id.as_deref().map(|id| format!(" (event {})", printable(id)));
            let status = status.map(|status| format!("{status} ")).unwrap_or_default();
            let (event, detail) = (event.unwrap_or_default(), printable(detail));
            say!("line {line}{event}: {status}{detail}")?;
        }
        if let Some(more) = refused.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            say!("and {more} more that were not taken; --json names each")?;
        }
        say!("{total:>8}  in {seconds:.2} s")?;
    }
    Ok(refused.is_empty())
}

/// A client for the server at `url`. If `proxy_from_env`, it uses the proxy that the environment
/// names.
pub(super) fn client(
    url: &str,
    proxy_from_env: bool,
    timeout: Duration,
) -> Result<reqwest::Client, StartError> {
    let failed = |error: &dyn std::error::Error| StartError::failed("HTTP client", error);
    let mut options = ClientOptions::new(concat!("cognigy-server/", env!("CARGO_PKG_VERSION")));
    options.timeout = timeout;
    options.proxy_from_env = proxy_from_env;
    let base = BaseUrl::parse(url).map_err(|error| StartError::Usage(format!("--url: {error}")))?;
    cognigy_http::client(&base, &options).map_err(|error| failed(&error))
}

/// Posts one body. Yields the status of the answer, and what it says in a text that can be counted.
async fn post(
    client: &reqwest::Client,
    url: &str,
    (webhook, preset): (&Webhook, FormatPreset),
    line: usize,
    body: Vec<u8>,
) -> (Option<u16>, String) {
    let id = format!("msg_{}_{line}", run_number());
    let signed = match webhook.headers(&body, &id, url) {
        Ok(signed) => signed,
        Err(why) => return (None, why),
    };
    let mut request = client.post(url).body(body);
    for (name, value) in headers_of(preset, &id) {
        request = request.header(name, value);
    }
    for (name, value) in signed {
        request = request.header(name, value);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return (None, format!("the server {}", TransportError::from(error))),
    };
    let status = answer.status().as_u16();
    let answer: Value = match read_bounded(answer, MAX_ANSWER).await {
        Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
        Err(_) => Value::Null,
    };
    if let Some(detail) = answer["detail"].as_str() {
        return (Some(status), detail.to_owned());
    }
    if !(200..300).contains(&status) {
        return (Some(status), "without a reason".to_owned());
    }
    let flag = |name: &str| if answer[name] == true { format!(" {name}") } else { String::new() };
    (Some(status), format!("accepted{}{}", flag("duplicate"), flag("conflict")))
}

/// Tells one invocation from another.
fn run_number() -> u128 {
    static NUMBER: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
    *NUMBER.get_or_init(|| {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since_1970.unwrap_or_default().as_millis()
    })
}

fn bodies(arguments: &ArgMatches, preset: FormatPreset) -> Result<Vec<Body>, StartError> {
    let Some(file) = arguments.get_one::<String>("file") else {
        let count = number(arguments, "generate");
        if count == 0 {
            return Err(StartError::Usage("name a file, or --generate N".to_owned()));
        }
        // Each invocation has ids of its own, so that the events of a second one are not all
        // duplicates.
        let run = run_number();
        let made_up = |n: u32| made_up(preset, &format!("sent-{run}-{n}"), n);
        return Ok((0..count).zip(1..).map(|(n, line)| Body { line, bytes: made_up(n) }).collect());
    };
    let bytes = match file.as_str() {
        "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        }
        path => std::fs::read(path),
    };
    let bytes = bytes.map_err(|error| {
        StartError::failed(&format!("the events cannot be read from {file}"), &error)
    })?;
    split(&bytes).map_err(|problem| StartError::Usage(format!("{file}: {problem}")))
}

/// The mark that Windows programs put before a text. It is not part of JSON (RFC 8259, section
/// 8.1).
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A file that is one JSON document is one event. Otherwise each line is an event.
fn split(bytes: &[u8]) -> Result<Vec<Body>, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16; save it as UTF-8".to_owned());
    }
    // Marks may stand within a file too, if it was joined from several files.
    let text =
        |line: &[u8]| line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii().to_vec();
    let whole = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if serde_json::from_slice::<serde::de::IgnoredAny>(whole).is_ok() {
        return Ok(vec![Body { line: 1, bytes: whole.to_vec() }]);
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(text).zip(1..);
    let bodies = lines.map(|(bytes, line)| Body { line, bytes });
    Ok(bodies.filter(|body| !body.bytes.is_empty()).collect())
}

/// What a sender of that preset sends.
fn made_up(preset: FormatPreset, id: &str, number: u32) -> Vec<u8> {
    let user = format!("user-{}", number % 1000);
    let body = match preset {
        FormatPreset::CognigyCallback => json!({
            "userId": user, "sessionId": id,
            "AIOutput": { "text": "How can I help you?", "data": {}, "source": "bot" },
        }),
        FormatPreset::VoiceGateway => json!({
            "call_sid": id, "direction": "inbound", "call_status": "completed",
            "from": format!("+49300000{number:04}"), "to": "+4930999999",
            "customer_data": { "externalId": format!("customer-{}", number % 1000) },
        }),
        FormatPreset::CloudEvents => json!({
            "specversion": "1.0", "type": "sent.made-up", "source": "/cognigy-server/send",
            "id": id, "externalid": format!("customer-{}", number % 1000), "data": {},
        }),
        FormatPreset::Chatwoot => json!({
            "event": "message_created", "id": number, "content": "Hello",
            "message_type": "incoming", "created_at": chrono::Utc::now().to_rfc3339(),
            "sender": { "id": number, "email": format!("{user}@example.test") },
            "conversation": { "id": number }, "account": { "id": 1 },
        }),
        _ => return generated(id, number),
    };
    body.to_string().into_bytes()
}

/// The headers of a preset's deliveries, beside those that authenticate them.
fn headers_of(preset: FormatPreset, id: &str) -> Vec<(&'static str, String)> {
    match preset {
        FormatPreset::CloudEvents => {
            vec![("Content-Type", "application/cloudevents+json".to_owned())]
        }
        FormatPreset::Chatwoot => vec![
            ("Content-Type", "application/json".to_owned()),
            ("X-Chatwoot-Delivery", id.to_owned()),
        ],
        _ => vec![("Content-Type", "application/json".to_owned())],
    }
}

/// A valid event. Its type depends on `number`.
pub(super) fn generated(id: &str, number: u32) -> Vec<u8> {
    let (kind, payload) = match number % 4 {
        0 => ("DIALOG_STARTED", json!({ "channel": "webchat" })),
        1 => ("USER_INPUT_RECEIVED", json!({ "input": { "text": "Where is my order?" } })),
        2 => ("PROFILE_UPDATED", json!({ "profile": { "language": "en" } })),
        _ => ("DIALOG_ENDED", json!({ "reason": "completed" })),
    };
    let event = json!({
        "eventId": id,
        "timestamp": chrono::Utc::now().to_rfc3339(),
        "type": kind,
        "externalId": format!("customer-{}", number % 1000),
        "userId": format!("user-{number}"),
        "payload": payload,
    });
    event.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_file_is_a_document_or_lines_with_or_without_byte_order_marks() {
        let bodies = |text: &str| -> Vec<(usize, String)> {
            let bodies = split(text.as_bytes()).unwrap().into_iter();
            bodies.map(|body| (body.line, String::from_utf8(body.bytes).unwrap())).collect()
        };
        let own = |bodies: &[(usize, &str)]| -> Vec<(usize, String)> {
            bodies.iter().map(|(line, body)| (*line, (*body).to_owned())).collect()
        };
        assert_eq!(bodies("{\n }\n"), own(&[(1, "{\n }\n")]));
        assert_eq!(bodies("\u{feff}{\n }"), own(&[(1, "{\n }")]));
        let lines = "\u{feff}{\"a\":1}\r\n\n\u{feff}{}\nx";
        assert_eq!(bodies(lines), own(&[(1, "{\"a\":1}"), (3, "{}"), (4, "x")]));
        assert!(split(b"\xff\xfe{\0}\0").is_err());
    }
}
