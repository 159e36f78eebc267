//! Registering webhooks against a real socket: the requests as the contract has them, the token's
//! life, and errors that keep secrets.
#![allow(clippy::unwrap_used)]

#[path = "../../cognigy-http/tests/stand_in/mod.rs"]
mod stand_in;

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use cognigy_api::{
    ApiCall, ApiError, CognigyApi, RegisteredWebhook, TransportErrorKind, WebhookRegistration,
};
use cognigy_core::EventType;
use futures_util::future::join_all;
use serde_json::{Value, json};
use stand_in::{Act, Seen, StandIn, answer, json};

const CLIENT_SECRET: &str = "client&secret=marker 1";
const WEBHOOK_SECRET: &str = "webhook \"secret\" marker 2";
const TOKEN_MARKER: &str = "marker-3";
const REGISTERED: &str = r#"{"id":"w-1"}"#;

/// A long timeout, so that no test fails on a busy machine; [`in_a_hurry`] has a short one.
fn api(server: &StandIn) -> CognigyApi {
    CognigyApi::builder(server.url(), "client/id é", CLIENT_SECRET).build().unwrap()
}

fn in_a_hurry(server: &StandIn) -> CognigyApi {
    let builder = CognigyApi::builder(server.url(), "client/id é", CLIENT_SECRET);
    builder.timeout(Duration::from_millis(500)).build().unwrap()
}

fn webhook() -> WebhookRegistration {
    WebhookRegistration::new("ours", "https://ours.example/webhooks/cognigy?a=1", WEBHOOK_SECRET)
}

fn is_token_request(seen: &Seen) -> bool {
    seen.target().ends_with("/auth/oauth/token")
}

/// The n-th token, from 1, good for `seconds`.
fn token(n: usize, seconds: u64) -> Act {
    let token = format!("{TOKEN_MARKER}-{n}");
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds});
    json("200 OK", &body.to_string())
}

/// A server that counts its tokens and answers all else as `script` says, given the number of the
/// token that came with it.
async fn cognigy(
    seconds: u64,
    script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static,
) -> StandIn {
    let tokens = AtomicUsize::new(0);
    StandIn::start(move |_, seen| {
        if is_token_request(seen) {
            return token(tokens.fetch_add(1, SeqCst) + 1, seconds);
        }
        let bearer = seen.header("authorization").unwrap();
        script(bearer.rsplit('-').next().unwrap().parse().unwrap(), seen)
    })
    .await
}

fn requests(server: &StandIn) -> (usize, usize) {
    let seen = server.seen();
    let tokens = seen.iter().filter(|seen| is_token_request(seen)).count();
    (tokens, seen.len() - tokens)
}

/// The error's text, once it is sure that neither it nor its `Debug` output holds a secret.
fn told(result: Result<RegisteredWebhook, ApiError>) -> String {
    let error = result.unwrap_err();
    let all = format!("{error} {error:?}");
    for secret in ["marker", "client&secret", "client%26secret", "webhook \\\"secret"] {
        assert!(!all.contains(secret), "{all}");
    }
    error.to_string()
}

#[tokio::test]
async fn the_requests_are_those_of_the_contract() {
    let server = cognigy(3600, |_, _| json("201 Created", "{\"id\":\"w-1\"}")).await;
    let registered = api(&server).register_webhook(&webhook()).await.unwrap();
    assert_eq!(registered.id, "w-1");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);

    assert_eq!(seen[0].line(), "POST /api/v1/auth/oauth/token HTTP/1.1");
    assert_eq!(seen[0].header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(seen[0].header("accept"), Some("application/json"));
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(
        seen[0].text(),
        "grant_type=client_credentials&client_id=client%2Fid+%C3%A9\
         &client_secret=client%26secret%3Dmarker+1\
         &scope=webhook%3Aread+webhook%3Awrite+dialog%3Aread"
    );

    assert_eq!(seen[1].line(), "POST /api/v1/webhooks HTTP/1.1");
    assert_eq!(seen[1].header("content-type"), Some("application/json"));
    assert_eq!(seen[1].header("accept"), Some("application/json"));
    assert_eq!(seen[1].header("authorization"), Some("Bearer marker-3-1"));
    assert_eq!(
        serde_json::from_str::<Value>(seen[1].text()).unwrap(),
        json!({
            "name": "ours",
            "url": "https://ours.example/webhooks/cognigy?a=1",
            "secret": WEBHOOK_SECRET,
            "events": ["DIALOG_STARTED", "USER_INPUT_RECEIVED", "PROFILE_UPDATED", "DIALOG_ENDED"],
            "active": true,
        })
    );
}

#[tokio::test]
async fn events_and_activity_can_be_chosen_and_the_base_may_have_a_path() {
    let server = cognigy(3600, |_, _| json("200 OK", REGISTERED)).await;
    let api = CognigyApi::builder(server.url() + "/cognigy/", "id", "secret").build().unwrap();
    let webhook = webhook().events([EventType::DialogEnded]).active(false);
    api.register_webhook(&webhook).await.unwrap();
    let seen = server.seen();
    assert_eq!(seen[0].target(), "/cognigy/api/v1/auth/oauth/token");
    assert_eq!(seen[1].target(), "/cognigy/api/v1/webhooks");
    let body: Value = serde_json::from_str(seen[1].text()).unwrap();
    assert_eq!((&body["events"], &body["active"]), (&json!(["DIALOG_ENDED"]), &json!(false)));
}

#[tokio::test]
async fn a_200_and_a_201_with_an_id_are_success_and_nothing_else_is() {
    for (status, body, id) in [
        ("200 OK", "{\"id\":\"w-1\"}", "w-1"),
        ("201 Created", "{\"_id\":42,\"error\":null}", "42"),
    ] {
        let server = cognigy(3600, move |_, _| json(status, body)).await;
        let registered = api(&server).register_webhook(&webhook()).await.unwrap();
        assert_eq!(registered.id, id, "{status} {body}");
    }
    // The error repeats as much of the answer as fits into a line, without the secrets.
    let long = "x".repeat(5000);
    for (kind, body, gist) in [
        ("text/html", "<html>\n<b>Sign in</b>", ": <html> <b>Sign in</b>"),
        ("text/html", long.as_str(), ": xxx"),
        ("application/json", "[]", ": []"),
        ("application/json", "{}", ": {}"),
        ("application/json", r#"{"id":""}"#, r#": {"id":""}"#),
        ("application/json", r#"{"id":{"id":1}}"#, r#": {"id":{"id":1}}"#),
        ("application/json", r#"{"id":"w","error":"no \u001b[31mrights"}"#, ": no  [31mrights"),
        ("application/json", r#""webhook \"secret\" marker 2""#, r#": "[redacted]""#),
        ("application/json", "", ""),
    ] {
        let said = answer("200 OK", &format!("Content-Type: {kind}\r\n"), body);
        let server = cognigy(3600, move |_, _| Act::Say(said.clone())).await;
        let told = told(api(&server).register_webhook(&webhook()).await);
        let expected = format!(
            "registering the webhook failed: Cognigy's API answered with 200 OK and {kind} without \
             the id of a webhook{gist}"
        );
        assert!(told.starts_with(&expected) && told.len() < 1024, "{told}\n{expected}");
        assert_eq!(requests(&server), (1, 1), "nothing is sent twice");
    }
    for status in ["202 x", "204 x", "302 x", "400 x", "403 x", "404 x", "409 x", "429 x", "500 x"]
    {
        let server = cognigy(3600, move |_, _| json(status, "")).await;
        let error = api(&server).register_webhook(&webhook()).await.unwrap_err();
        assert_eq!(error.status().map(|code| code.to_string()), Some(status[..3].to_owned()));
        assert_eq!(requests(&server), (1, 1), "{status}: nothing is sent twice");
    }
}

#[tokio::test]
async fn an_answer_that_repeats_the_secrets_is_masked() {
    let echo = |status: &'static str| {
        cognigy(3600, move |_, seen| {
            let sent = format!("{} {}", seen.header("authorization").unwrap(), WEBHOOK_SECRET);
            json(status, &json!({"id": "w", "detail": sent, "traceId": "t-9"}).to_string())
        })
    };
    let server = echo("422 x").await;
    assert_eq!(
        told(api(&server).register_webhook(&webhook()).await),
        "registering the webhook failed: Cognigy's API answered 422 Unprocessable Entity: \
         Bearer [redacted] [redacted] (traceId t-9)"
    );
    let server = echo("201 Created").await;
    let registered = api(&server).register_webhook(&webhook()).await.unwrap();
    assert_eq!(registered.answer["detail"], "Bearer [redacted] [redacted]");

    // The whole request, not even as JSON.
    let server = cognigy(3600, |_, seen| {
        let dump = format!("{}{}", seen.head, seen.text());
        Act::Say(answer("400 x", "", dump))
    })
    .await;
    assert!(told(api(&server).register_webhook(&webhook()).await).contains("[redacted]"));
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_an_error_without_a_secret() {
    let problem =
        r#"{"error":"invalid_client","error_description":"No client client&secret=marker 1"}"#;
    let cases: [(Act, &str); 8] = [
        // With a 200, as some servers do it.
        (json("200 OK", problem), "answered with an error: No client [redacted]"),
        (json("401 x", problem), "answered 401 Unauthorized: No client [redacted]"),
        (json("500 x", ""), "answered 500 Internal Server Error"),
        (json("302 x", ""), "answered 302 Found"),
        (
            json("200 OK", "{\"token\":\"marker\"}"),
            "answered with something that is not JSON with an access_token",
        ),
        (Act::Hang, "did not answer in time"),
        (Act::Reset, "gave no usable answer: connection reset"),
        (Act::Flood(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), 64 << 20), "answered with far too much"),
    ];
    for (act, expected) in cases {
        let server = StandIn::always(act).await;
        let told = told(in_a_hurry(&server).register_webhook(&webhook()).await);
        assert_eq!(told, format!("getting an access token failed: Cognigy's API {expected}"));
        assert_eq!(requests(&server), (1, 0));
        assert!(server.written() < 16 << 20);
    }
    // A server that repeats the form in its answer.
    let server = StandIn::start(|_, seen| Act::Say(answer("400 x", "", seen.text()))).await;
    assert!(told(in_a_hurry(&server).register_webhook(&webhook()).await).contains("[redacted]"));
}

#[tokio::test]
async fn a_registration_whose_answer_is_lost_is_not_sent_again() {
    for (act, kind) in [
        (Act::Hang, TransportErrorKind::Timeout),
        (Act::Reset, TransportErrorKind::NoAnswer),
        (Act::SayAndClose(vec![]), TransportErrorKind::NoAnswer),
    ] {
        let server = cognigy(3600, move |_, _| act.clone()).await;
        let error = in_a_hurry(&server).register_webhook(&webhook()).await.unwrap_err();
        let ApiError::Transport { call, error } = error else { panic!("{error:?}") };
        assert_eq!((call, error.kind()), (ApiCall::RegisterWebhook, kind));
        assert_eq!(requests(&server), (1, 1));
    }
}

#[tokio::test]
async fn fifty_callers_share_one_token_request() {
    let tokens = AtomicUsize::new(0);
    let server = StandIn::start(move |_, seen| {
        if !is_token_request(seen) {
            return json("201 Created", REGISTERED);
        }
        let Act::Say(bytes) = token(tokens.fetch_add(1, SeqCst) + 1, 3600) else { unreachable!() };
        Act::SayLater(Duration::from_millis(50), bytes)
    })
    .await;
    let (api, webhook) = (api(&server), webhook());
    let done = join_all((0..50).map(|_| api.register_webhook(&webhook))).await;
    assert!(done.iter().all(Result::is_ok));
    assert_eq!(requests(&server), (1, 50));
    api.register_webhook(&webhook).await.unwrap();
    assert_eq!(requests(&server), (1, 51));
}

#[tokio::test]
async fn fifty_callers_share_one_failure_and_the_next_one_tries_again() {
    let server = StandIn::start(|n, seen| match n {
        0 => Act::Hang,
        _ if is_token_request(seen) => token(1, 3600),
        _ => json("201 Created", REGISTERED),
    })
    .await;
    let (api, webhook) = (in_a_hurry(&server), webhook());
    let started = Instant::now();
    let done = join_all((0..50).map(|_| api.register_webhook(&webhook))).await;
    assert!(done.iter().all(Result::is_err));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(requests(&server), (1, 0));
    api.register_webhook(&webhook).await.unwrap();
    assert_eq!(requests(&server), (2, 1));
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let server = cognigy(2, |_, _| json("201 Created", REGISTERED)).await;
    let (api, webhook) = (api(&server), webhook());
    for _ in 0..3 {
        api.register_webhook(&webhook).await.unwrap();
    }
    assert_eq!(requests(&server), (1, 3));
    tokio::time::sleep(Duration::from_millis(1850)).await;
    api.register_webhook(&webhook).await.unwrap();
    assert_eq!(requests(&server), (2, 4));
    assert_eq!(server.seen().last().unwrap().header("authorization"), Some("Bearer marker-3-2"));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_call_repeated() {
    let server = cognigy(3600, |token, _| match token {
        1 => json("401 Unauthorized", "{\"detail\":\"expired\"}"),
        _ => json("201 Created", REGISTERED),
    })
    .await;
    let (api, webhook) = (api(&server), webhook());
    api.register_webhook(&webhook).await.unwrap();
    assert_eq!(requests(&server), (2, 2));
    let seen = server.seen();
    assert_eq!(seen[1].text(), seen[3].text());
    api.register_webhook(&webhook).await.unwrap();
    assert_eq!(requests(&server), (2, 3));
}

#[tokio::test]
async fn a_token_refused_to_many_is_replaced_once_for_all() {
    let late =
        |status: &str| Act::SayLater(Duration::from_millis(50), answer(status, "", REGISTERED));
    let server = cognigy(3600, move |token, _| match token {
        1 => late("401 Unauthorized"),
        _ => late("201 Created"),
    })
    .await;
    let (api, webhook) = (api(&server), webhook());
    let done = join_all((0..20).map(|_| api.register_webhook(&webhook))).await;
    assert!(done.iter().all(Result::is_ok));
    assert_eq!(requests(&server), (2, 40));
}

#[tokio::test]
async fn a_new_token_refused_as_well_is_the_end() {
    let server = cognigy(3600, |_, _| json("401 Unauthorized", "{\"detail\":\"no rights\"}")).await;
    assert_eq!(
        told(api(&server).register_webhook(&webhook()).await),
        "registering the webhook failed: Cognigy's API answered 401 Unauthorized: no rights"
    );
    assert_eq!(requests(&server), (2, 2));
}

#[tokio::test]
async fn a_caller_dropped_while_it_fetches_the_token_holds_nobody_up() {
    let server = StandIn::start(|n, seen| match n {
        0 => Act::Hang,
        _ if is_token_request(seen) => token(1, 3600),
        _ => json("201 Created", REGISTERED),
    })
    .await;
    let (api, webhook) = (api(&server), webhook());
    let first = tokio::time::timeout(Duration::from_millis(50), api.register_webhook(&webhook));
    assert!(first.await.is_err());
    api.register_webhook(&webhook).await.unwrap();
    assert_eq!(requests(&server), (2, 1));
}

#[tokio::test]
async fn neither_credentials_nor_token_follow_a_redirect() {
    let other = StandIn::always(token(1, 3600)).await;
    let location = format!("Location: {}/\r\n", other.url());
    let to = move |status: &str| Act::Say(answer(status, &location, ""));
    let tokens = to("307 x");
    let server = StandIn::always(tokens).await;
    assert!(told(api(&server).register_webhook(&webhook()).await).contains("307"));
    let server = cognigy(3600, move |_, _| to("308 x")).await;
    assert!(told(api(&server).register_webhook(&webhook()).await).contains("308"));
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn debug_output_shows_no_secret() {
    let server = cognigy(3600, |_, _| json("201 Created", REGISTERED)).await;
    let (api, webhook) = (api(&server), webhook());
    api.register_webhook(&webhook).await.unwrap();
    let builder = CognigyApi::builder("http://user:marker@cognigy/", "id", CLIENT_SECRET);
    let mut shown = format!("{api:?} {webhook:?} {builder:?}");
    shown += &format!("{:?}", builder.build());
    assert!(!shown.contains("marker"), "{shown}");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let refused =
        |base, id, secret| CognigyApi::builder(base, id, secret).build().unwrap_err().to_string();
    assert_eq!(refused("http://c", "", "s"), "the Cognigy client id is empty");
    assert_eq!(refused("http://c", "i", ""), "the Cognigy client secret is empty");
    assert!(refused("cognigy.example", "i", "s").starts_with("the base URL must begin with"));
}
