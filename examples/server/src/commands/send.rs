//! `send`: sign events and post them, as a sender would.

use std::{
    collections::BTreeMap,
    io::Read,
    time::{Duration, Instant},
};

use clap::ArgMatches;
use cognigy_core::sign;
use cognigy_http::{BaseUrl, ClientOptions, TransportError, read_bounded};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{Progress, number, print_json, source};
use crate::{
    app::StartError,
    output::say,
    settings::{Settings, Webhook},
};

/// Longer than the server takes to refuse a slow body.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Answers are a line of JSON.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) async fn run(arguments: &ArgMatches, settings: &Settings) -> Result<bool, StartError> {
    let source = source(arguments, settings)?;
    let webhook = source.webhook()?;
    let url = match arguments.get_one::<String>("url") {
        Some(url) => url.clone(),
        None => format!("http://{}{}", settings.listen, source.path()),
    };
    let bodies = bodies(arguments)?;
    let client = client(&url, settings.proxy_from_env)?;

    let total = bodies.len();
    let progress = Progress::new();
    let started = Instant::now();
    let (client, url) = (&client, url.as_str());
    let mut answers = stream::iter(bodies)
        .map(|body| post(client, url, webhook, body))
        .buffer_unordered(number(arguments, "concurrency").max(1) as usize);
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut done = 0;
    while let Some(outcome) = answers.next().await {
        *outcomes.entry(outcome).or_default() += 1;
        done += 1;
        progress.show(&format!("{done} of {total}"));
    }
    drop(progress);
    let seconds = started.elapsed().as_secs_f64();
    if arguments.get_flag("json") {
        print_json(&json!({ "sent": total, "seconds": seconds, "outcomes": outcomes }))?;
    } else {
        for (outcome, count) in &outcomes {
            say!("{count:>8}  {outcome}")?;
        }
        say!("{total:>8}  in {seconds:.2} s")?;
    }
    Ok(outcomes.keys().all(|outcome| outcome.starts_with("200")))
}

/// A client for the server at `url`, through the environment's proxy if that is asked for.
pub(super) fn client(url: &str, proxy_from_env: bool) -> Result<reqwest::Client, StartError> {
    let failed = |error: &dyn std::error::Error| StartError::failed("HTTP client", error);
    let mut options = ClientOptions::new(concat!("cognigy-server/", env!("CARGO_PKG_VERSION")));
    options.timeout = TIMEOUT;
    options.proxy_from_env = proxy_from_env;
    let base = BaseUrl::parse(url).map_err(|error| StartError::Usage(format!("--url: {error}")))?;
    cognigy_http::client(&base, &options).map_err(|error| failed(&error))
}

/// Posts one body; what came of it, in words that can be counted.
async fn post(client: &reqwest::Client, url: &str, webhook: &Webhook, body: Vec<u8>) -> String {
    let signature = sign(&webhook.secret, webhook.scheme, &body);
    let request = client
        .post(url)
        .header(&webhook.header, signature)
        .header("Content-Type", "application/json")
        .body(body);
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return format!("the server {}", TransportError::from(error)),
    };
    let status = answer.status();
    let answer: Value = match read_bounded(answer, MAX_ANSWER).await {
        Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
        Err(_) => Value::Null,
    };
    if let Some(detail) = answer["detail"].as_str() {
        return format!("{} {detail}", status.as_u16());
    }
    let flag = |name: &str| if answer[name] == true { format!(" {name}") } else { String::new() };
    format!("{} accepted{}{}", status.as_u16(), flag("duplicate"), flag("conflict"))
}

fn bodies(arguments: &ArgMatches) -> Result<Vec<Vec<u8>>, StartError> {
    let file = match arguments.get_one::<String>("file").map(String::as_str) {
        None => {
            let count = number(arguments, "generate");
            if count == 0 {
                return Err(StartError::Usage("name a file, or --generate N".to_owned()));
            }
            // A name of its own for each invocation, so that a second one is not all duplicates.
            let run = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default()
                .as_millis();
            return Ok((0..count).map(|n| generated(&format!("sent-{run}-{n}"), n)).collect());
        }
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        }
        Some(path) => std::fs::read(path),
    };
    let bytes = file.map_err(|error| StartError::failed("cannot read the events", &error))?;
    // One JSON document is one event, however it is laid out; otherwise each line is one.
    if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() {
        return Ok(vec![bytes]);
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    Ok(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

/// A valid event; the types take turns.
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
