//! `send`: sign events and post them, as a sender would.

mod template;

use std::{
    collections::BTreeMap,
    io::Read,
    time::{Duration, Instant},
};

use clap::ArgMatches;
use cognigy_core::{EventType, FormatPreset};
use cognigy_http::{BaseUrl, ClientOptions, TransportError, read_bounded};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use self::template::{Wishes, headers_of, made_up};
use super::{Progress, number, print_json, source};
use crate::{
    error::StartError,
    output::{printable, say},
    settings::{Settings, Webhook},
    view::milliseconds,
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
    let rate = arguments.get_one::<f64>("rate").copied();
    let turn = |number: usize| {
        rate.and_then(|rate| Duration::try_from_secs_f64(number as f64 / rate).ok())
            .and_then(|after| started.checked_add(after))
    };
    let answers = stream::iter(bodies.into_iter().enumerate())
        .then(|(number, body)| async move {
            if let Some(turn) = turn(number) {
                tokio::time::sleep_until(turn.into()).await;
            }
            body
        })
        .map(|Body { line, bytes }| async move {
            let event_id = event_id(&bytes);
            (line, event_id, post(client, url, (webhook, preset), line, bytes).await)
        })
        .buffer_unordered(number(arguments, "concurrency").max(1) as usize);
    let mut answers = std::pin::pin!(answers);
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
        progress.count(done, total as u64, "");
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

fn kind_of(name: &str) -> Result<EventType, StartError> {
    EventType::from_contract(name).ok_or_else(|| {
        let names: Vec<_> = EventType::CONTRACT.iter().map(EventType::as_str).collect();
        StartError::Usage(format!("--type: expected one of {}", names.join(", ")))
    })
}

fn bodies(arguments: &ArgMatches, preset: FormatPreset) -> Result<Vec<Body>, StartError> {
    let Some(file) = arguments.get_one::<String>("file") else {
        let kind = arguments.get_one::<String>("type").map(|name| kind_of(name)).transpose()?;
        let external_id = arguments.get_one::<String>("external_id").map(String::as_str);
        let wishes = Wishes { kind: kind.as_ref(), external_id };
        let has_wishes = kind.is_some() || external_id.is_some();
        if has_wishes && preset != FormatPreset::Native {
            let why = format!(
                "--type and --external-id are for events of the preset native, not {preset}"
            );
            return Err(StartError::Usage(why));
        }
        let count = match number(arguments, "generate") {
            0 if has_wishes => 1,
            0 => {
                let why = "name a file, or --generate N, or the --type of an event";
                return Err(StartError::Usage(why.to_owned()));
            }
            count => count,
        };
        // Each invocation has ids of its own, so that the events of a second one are not all
        // duplicates.
        let run = run_number();
        let made_up = |n: u32| made_up(preset, &format!("sent-{run}-{n}"), n, &wishes);
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
