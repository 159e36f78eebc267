//! Look-ups against a real socket: what is asked, what each answer means, what each fault becomes.
#![allow(clippy::unwrap_used)]

#[path = "../../cognigy-http/tests/stand_in/mod.rs"]
mod stand_in;

use std::{
    error::Error,
    time::{Duration, Instant, SystemTime},
};

use cognigy_core::{ContactQuery, CrmClient, Failure, FailureKind, FailureScope};
use cognigy_crm_http::{HttpCrm, HttpCrmBuilder, ONLY_NOT_FOUND_AFTER};
use futures_util::future::join_all;
use percent_encoding::percent_decode_str;
use stand_in::{Act, StandIn, answer, json};

const TOKEN: &str = "token-marker-1";
const KEY: &str = "key-marker-2";
const BODY: &str = "body-marker-3";

fn query(key: &str) -> ContactQuery {
    ContactQuery {
        contact_key: key.to_owned(),
        idempotency_key: "cognigy/evt-1/1".to_owned(),
        fresh: false,
        traceparent: None,
    }
}

/// A long timeout, so that no test fails on a busy machine; [`in_a_hurry`] has a short one.
fn builder(url: &str) -> HttpCrmBuilder {
    HttpCrm::builder(url).bearer_token(TOKEN)
}

fn crm(server: &StandIn) -> HttpCrm {
    builder(&server.url()).build().unwrap()
}

fn in_a_hurry(server: &StandIn) -> HttpCrm {
    builder(&server.url()).timeout(Duration::from_millis(500)).build().unwrap()
}

/// The contact's JSON, or the failure's kind and report. Whatever it is, no secret is in it.
async fn find(crm: &HttpCrm) -> Result<Option<String>, (FailureKind, String)> {
    let found = crm.find_contact(&query(KEY)).await;
    found.map(|contact| contact.map(|contact| contact.as_json().to_owned())).map_err(|failure| {
        let told = everything_told(&failure);
        for marker in [TOKEN, KEY, BODY, "external_id"] {
            assert!(!told.contains(marker), "{told}");
        }
        (failure.kind(), failure.report())
    })
}

fn everything_told(failure: &Failure) -> String {
    let mut told = format!("{failure} {failure:?} {}", failure.report());
    let mut source = failure.source();
    while let Some(cause) = source {
        told += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    told
}

fn transient(seconds: Option<u64>) -> FailureKind {
    FailureKind::Transient { retry_after: seconds.map(Duration::from_secs) }
}

#[tokio::test]
async fn a_look_up_asks_as_the_contract_says() {
    let server = StandIn::always(json("200 OK", "{\"id\": 7}")).await;
    assert_eq!(find(&crm(&server)).await, Ok(Some("{\"id\": 7}".to_owned())));
    let seen = server.seen().remove(0);
    assert_eq!(seen.line(), format!("GET /v1/contacts?external_id={KEY} HTTP/1.1"));
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert_eq!(seen.header("accept"), Some("application/json"));
    // printf cognigy/evt-1/1 | sha256sum
    let hashed = "3e75bc9a0bea4772c0d575190c474dc688df6a8320b318713732ced63c46c74e";
    assert_eq!(seen.header("idempotency-key"), Some(hashed));
}

#[tokio::test]
async fn the_base_may_have_a_path_and_no_token_means_no_header() {
    let server = StandIn::always(json("200 OK", "{\"id\":7}")).await;
    for path in ["/", "/api", "/api/"] {
        let crm = HttpCrm::builder(server.url() + path).build().unwrap();
        assert!(find(&crm).await.is_ok());
    }
    let seen = server.seen();
    let targets: Vec<_> =
        seen.iter().map(|seen| seen.target().split('?').next().unwrap()).collect();
    assert_eq!(targets, ["/v1/contacts", "/api/v1/contacts", "/api/v1/contacts"]);
    assert!(seen.iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn any_key_arrives_as_it_is() {
    let server = StandIn::always(json("200 OK", "{}")).await;
    let crm = crm(&server);
    let control: String = (0..=0x20u8).map(char::from).chain(['\u{7f}']).collect();
    let keys = [
        "&=#%/ é 😀 ../",
        "a+b c",
        "%41%zz",
        "?external_id=other&x=y",
        "../../admin",
        "..",
        "line\r\nX-Evil: 1",
        "\"quoted\"\\",
        "\u{202e}\u{feff}\u{10ffff}",
        &control,
        &"k".repeat(7000),
    ];
    for key in keys {
        assert_eq!(crm.find_contact(&query(key)).await.unwrap(), None);
        let target = server.seen().last().unwrap().target().to_owned();
        let sent = target.strip_prefix("/v1/contacts?external_id=").unwrap();
        assert!(sent.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-._~".contains(&byte)));
        assert_eq!(percent_decode_str(sent).decode_utf8().unwrap(), key);
    }
    assert_eq!(server.seen().len(), keys.len());
}

#[tokio::test]
async fn a_key_that_no_url_can_hold_fails_for_good_and_asks_nobody() {
    let server = StandIn::always(json("200 OK", "{}")).await;
    for key in ["k".repeat(8000), "😀".repeat(700), "k".repeat(1 << 20)] {
        let failure = crm(&server).find_contact(&query(&key)).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Permanent);
        assert_eq!(failure.report(), "the contact key is too long to ask the CRM for");
    }
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn an_idempotency_key_is_ascii_steady_and_its_own() {
    let server = StandIn::always(json("200 OK", "{}")).await;
    let crm = crm(&server);
    let long = "x".repeat(300);
    for key in ["cognigy/évt 😀\n/1", "cognigy/évt 😀\n/1", "cognigy/évt 😀\n/2", &long] {
        let query = ContactQuery {
            contact_key: KEY.into(),
            idempotency_key: key.into(),
            fresh: false,
            traceparent: None,
        };
        crm.find_contact(&query).await.unwrap();
    }
    let seen = server.seen();
    let sent: Vec<_> = seen.iter().map(|seen| seen.header("idempotency-key").unwrap()).collect();
    assert!(sent.iter().all(|key| key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit())));
    assert_eq!(sent[0], sent[1]);
    assert!(sent[1] != sent[2] && sent[2] != sent[3]);
}

#[tokio::test]
async fn every_status_has_its_class() {
    use FailureKind::Permanent;
    let cases = [
        ("300 Multiple Choices", Permanent, "300 Multiple Choices (redirects are not followed)"),
        ("304 Not Modified", Permanent, "304 Not Modified (redirects are not followed)"),
        ("400 x", Permanent, "400 Bad Request"),
        ("401 x", Permanent, "401 Unauthorized"),
        ("403 x", Permanent, "403 Forbidden"),
        ("405 x", Permanent, "405 Method Not Allowed"),
        ("408 x", transient(None), "408 Request Timeout"),
        ("409 x", Permanent, "409 Conflict"),
        ("410 x", Permanent, "410 Gone"),
        ("422 x", Permanent, "422 Unprocessable Entity"),
        ("425 x", transient(None), "425 Too Early"),
        ("429 x", transient(None), "429 Too Many Requests"),
        ("451 x", Permanent, "451 Unavailable For Legal Reasons"),
        ("499 x", Permanent, "499"),
        ("500 x", transient(None), "500 Internal Server Error"),
        ("501 x", transient(None), "501 Not Implemented"),
        ("502 x", transient(None), "502 Bad Gateway"),
        ("503 x", transient(None), "503 Service Unavailable"),
        ("504 x", transient(None), "504 Gateway Timeout"),
        ("520 body-marker-3", transient(None), "520"),
        ("599 x", transient(None), "599"),
    ];
    for (status, kind, told) in cases {
        let body = format!("{{\"error\":\"{BODY}\"}}");
        let server = StandIn::always(json(status, &body)).await;
        assert_eq!(find(&crm(&server)).await, Err((kind, format!("CRM answered {told}"))));
        assert_eq!(server.seen().len(), 1, "{status}: nothing is sent twice");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_whole_crm_is_told_apart() {
    let scope = async |crm: HttpCrm| {
        let failure = crm.find_contact(&query(KEY)).await.unwrap_err();
        failure.scope().clone()
    };
    for (status, expected) in [
        ("429 x", FailureScope::Service),
        ("503 x", FailureScope::Service),
        ("408 x", FailureScope::Event),
        ("500 x", FailureScope::Event),
        ("502 x", FailureScope::Event),
        ("504 x", FailureScope::Event),
        ("403 x", FailureScope::Event),
    ] {
        let server = StandIn::always(json(status, "")).await;
        assert_eq!(scope(crm(&server)).await, expected, "{status}");
    }
    let server = StandIn::always(Act::Say(answer("403 x", "Retry-After: 5\r\n", ""))).await;
    assert_eq!(scope(crm(&server)).await, FailureScope::Service);
    let server = StandIn::always(Act::Hang).await;
    assert_eq!(scope(in_a_hurry(&server)).await, FailureScope::Event);
    let closed = builder(&stand_in::closed_port().await).build().unwrap();
    assert_eq!(scope(closed).await, FailureScope::Service);
}

#[tokio::test]
async fn a_retry_after_travels_along_in_either_form() {
    let cases = [
        ("0", Some(0)),
        ("120", Some(120)),
        ("1000000000000", Some(365 * 86_400)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
        ("-1", None),
        ("soon", None),
    ];
    for status in ["429 Too Many Requests", "503 Service Unavailable", "408 Request Timeout"] {
        for (value, seconds) in cases {
            let headers = format!("Retry-After: {value}\r\n");
            let server = StandIn::always(Act::Say(answer(status, &headers, ""))).await;
            assert_eq!(find(&crm(&server)).await.unwrap_err().0, transient(seconds), "{value}");
        }
    }
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
    let server =
        StandIn::always(Act::Say(answer("503 x", &format!("Retry-After: {date}\r\n"), ""))).await;
    let (kind, _) = find(&crm(&server)).await.unwrap_err();
    let FailureKind::Transient { retry_after: Some(wait) } = kind else { panic!("{kind:?}") };
    assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
    // A 403 that says when to come back is about too many requests, not about rights.
    let server = StandIn::always(Act::Say(answer("403 x", "Retry-After: 5\r\n", ""))).await;
    let limited = find(&crm(&server)).await.unwrap_err();
    assert_eq!(limited, (transient(Some(5)), "CRM answered 403 Forbidden".to_owned()));
    // A failure that is not retried carries no wait.
    let server = StandIn::always(Act::Say(answer("400 x", "Retry-After: 5\r\n", ""))).await;
    assert_eq!(find(&crm(&server)).await.unwrap_err().0, FailureKind::Permanent);
}

#[tokio::test]
async fn nobody_is_what_the_rule_says() {
    let not_found = |status: &str| (FailureKind::Permanent, format!("CRM answered {status}"));
    let not_json = |status: &str| {
        (
            FailureKind::Permanent,
            format!(
                "CRM answered with something that is not JSON ({status}, application/json): \
             the contact is not JSON: EOF while parsing a value at line 1 column 0"
            ),
        )
    };
    type Found = Result<Option<String>, (FailureKind, String)>;
    let cases: [(&str, &str, &str, Found); 11] = [
        ("404,empty", "404 Not Found", "{}", Ok(None)),
        ("404", "404 Not Found", "<html>", Ok(None)),
        ("empty", "404 Not Found", "[]", Err(not_found("404 Not Found"))),
        ("404,empty", "200 OK", "[]", Ok(None)),
        ("404,empty", "200 OK", "{ }", Ok(None)),
        ("404,empty", "202 Accepted", "null", Ok(None)),
        ("empty", "200 OK", "", Ok(None)),
        ("empty", "204 No Content", "", Ok(None)),
        ("404", "200 OK", "[]", Ok(Some("[]".to_owned()))),
        ("404", "200 OK", "", Err(not_json("200 OK"))),
        ("404", "204 No Content", "", Err(not_json("204 No Content"))),
    ];
    for (rule, status, body, expected) in cases {
        let server = StandIn::always(json(status, body)).await;
        let crm = builder(&server.url()).not_found(rule.parse().unwrap()).build().unwrap();
        assert_eq!(find(&crm).await, expected, "{rule} {status} {body}");
    }
}

#[tokio::test]
async fn an_unreadable_success_is_permanent() {
    let limit = "CRM answered with more than 1048576 bytes";
    let page = format!("<html><a href='/v1/contacts?id={KEY}'>Sign in</a> {TOKEN}</html>");
    let cases: [(Act, &str); 7] = [
        (
            Act::Say(answer("200 OK", "Content-Type: text/html\r\n", page)),
            "CRM answered with something that is not JSON (200 OK, text/html): <html><a \
             href='/v1/contacts?id=[redacted]'>Sign in</a> [redacted]</html>: \
             the contact is not JSON: expected value at line 1 column 1",
        ),
        (
            json("200 OK", "{\"error\":\"no rights\"}"),
            "CRM answered with an error (200 OK, application/json): {\"error\":\"no rights\"}",
        ),
        (
            Act::Say(answer("200 OK", "", format!("{{\"name\": \"{BODY}"))),
            "CRM answered with something that is not JSON (200 OK, no content type): \
             the contact is not JSON: EOF while parsing a string at line 1 column 23",
        ),
        (
            Act::Say(answer("200 OK", "", format!("{{}}{BODY}"))),
            "CRM answered with something that is not JSON (200 OK, no content type): \
             the contact is not JSON: trailing characters at line 1 column 3",
        ),
        (
            Act::Say(answer("200 OK", "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00")),
            "CRM answered with text that is not UTF-8",
        ),
        (Act::Say(answer("200 OK", "", vec![b' '; (1 << 20) + 1])), limit),
        (Act::Flood(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), 64 << 20), limit),
    ];
    for (act, told) in cases {
        let server = StandIn::always(act).await;
        assert_eq!(find(&crm(&server)).await, Err((FailureKind::Permanent, told.to_owned())));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(server.written() < 16 << 20, "{} bytes went out", server.written());
    }
}

#[tokio::test]
async fn the_limit_on_answers_is_exact() {
    let server = StandIn::always(json("200 OK", "{\"id\":12345}")).await;
    for (limit, taken) in [(12, true), (11, false), (0, false)] {
        let crm = builder(&server.url()).max_response_bytes(limit).build().unwrap();
        assert_eq!(find(&crm).await.is_ok(), taken, "{limit}");
    }
}

#[tokio::test]
async fn whatever_breaks_on_the_way_is_transient() {
    let in_time = "CRM did not answer within 500ms";
    let cases: [(Act, &str); 8] = [
        (Act::Hang, in_time),
        (Act::Drip(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), in_time),
        (Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n".to_vec()), in_time),
        (Act::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), in_time),
        (Act::Reset, "CRM gave no usable answer: connection reset"),
        (
            Act::SayAndClose(vec![]),
            "CRM gave no usable answer: connection closed before message completed",
        ),
        (
            Act::SayAndClose(format!("220 {BODY} ESMTP\r\n").into_bytes()),
            "CRM gave no usable answer: invalid HTTP version parsed",
        ),
        (
            Act::SayAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"id\"".to_vec()),
            "CRM broke its answer off: end of file before message length reached",
        ),
    ];
    for (act, told) in cases {
        let server = StandIn::always(act).await;
        let started = Instant::now();
        assert_eq!(find(&in_a_hurry(&server)).await, Err((transient(None), told.to_owned())));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(server.seen().len(), 1, "{told}: nothing is sent twice");
    }
    let crm = builder(&stand_in::closed_port().await).build().unwrap();
    let refused = "CRM could not be reached: connection refused".to_owned();
    assert_eq!(find(&crm).await, Err((transient(None), refused)));
}

#[tokio::test]
async fn an_error_is_judged_by_its_status_however_its_body_goes_on() {
    let drip = Act::Drip(b"HTTP/1.1 503 x\r\nRetry-After: 7\r\n\r\n".to_vec());
    let flood = Act::Flood(b"HTTP/1.1 503 x\r\nRetry-After: 7\r\n\r\n".to_vec(), 64 << 20);
    let half = b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\nhalf".to_vec();
    for act in [drip, flood, Act::SayAndClose(half)] {
        let server = StandIn::always(act).await;
        let told = "CRM answered 503 Service Unavailable".to_owned();
        assert_eq!(find(&in_a_hurry(&server)).await, Err((transient(Some(7)), told)));
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let other = StandIn::always(json("200 OK", "{\"id\":1}")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/v1/contacts\r\n", other.url());
        let server = StandIn::always(Act::Say(answer(&format!("{status} x"), &location, ""))).await;
        let (kind, told) = find(&crm(&server)).await.unwrap_err();
        assert_eq!(kind, FailureKind::Permanent);
        assert!(told.ends_with("(redirects are not followed)"), "{told}");
    }
    assert_eq!(other.accepted(), 0);
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn connections_are_used_again_after_every_kind_of_answer() {
    let server = StandIn::start(|n, _| match n % 4 {
        0 => json("200 OK", "{\"id\":1}"),
        1 => {
            Act::SayInTwo(b"HTTP/1.1 404 x\r\nContent-Length: 4\r\n\r\n".to_vec(), b"gone".to_vec())
        }
        2 => json("503 Service Unavailable", &"x".repeat(4000)),
        _ => Act::Say(answer("204 No Content", "", "")),
    })
    .await;
    let crm = crm(&server);
    for _ in 0..10 {
        join_all((0..4).map(|_| find(&crm))).await;
    }
    assert_eq!(server.seen().len(), 40);
    assert!(server.accepted() <= 4, "{} connections", server.accepted());
}

#[tokio::test]
async fn a_connection_that_the_crm_closed_meanwhile_costs_no_failure() {
    let server = StandIn::always(Act::SayAndClose(answer("200 OK", "", "{\"id\":1}"))).await;
    let crm = crm(&server);
    for _ in 0..5 {
        assert!(find(&crm).await.is_ok());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_dropped_look_up_leaves_the_client_usable() {
    let server = StandIn::start(|n, _| match n {
        0 => Act::Hang,
        _ => json("200 OK", "{\"id\":1}"),
    })
    .await;
    let crm = crm(&server);
    let dropped = tokio::time::timeout(Duration::from_millis(50), find(&crm)).await;
    assert!(dropped.is_err());
    assert!(find(&crm).await.is_ok());
}

#[tokio::test]
async fn a_crm_that_answers_only_404_is_told_until_it_answers_otherwise() {
    let mark = ONLY_NOT_FOUND_AFTER as usize;
    let server = StandIn::start(move |n, _| match n {
        3 => json("500 Oh", ""),
        n if n == mark + 11 => json("200 OK", "[]"),
        _ => json("404 Not Found", ""),
    })
    .await;
    let crm = crm(&server);
    let twin = crm.clone();
    for n in 0..=mark + 12 {
        _ = find(&crm).await;
        let expected = (mark..=mark + 10).contains(&n);
        assert_eq!(twin.only_not_found(), expected, "after look-up {n}");
    }
}

#[tokio::test]
async fn debug_output_shows_no_token() {
    let builder = HttpCrm::builder("http://user:body-marker-3@crm/").bearer_token(TOKEN);
    let crm = HttpCrm::builder("http://crm/").bearer_token(TOKEN).build().unwrap();
    let mut shown = format!("{builder:?} {crm:?}");
    shown += &format!("{:?}", builder.build());
    assert!(!shown.contains(TOKEN) && !shown.contains(BODY), "{shown}");
    assert!(shown.contains("http://crm/v1/contacts"), "{shown}");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let refused = |builder: HttpCrmBuilder| builder.build().unwrap_err().to_string();
    let base = "http://crm";
    for (told, expected) in [
        (
            refused(HttpCrm::builder("crm.example")),
            "the base URL must begin with http:// or https://, followed by a host",
        ),
        (
            refused(HttpCrm::builder("ftp://crm")),
            "the base URL must begin with http:// or https://, followed by a host",
        ),
        (
            refused(HttpCrm::builder("http://me:pass@crm")),
            "the base URL must not hold a user name or password",
        ),
        (refused(HttpCrm::builder(base).bearer_token("")), "the CRM token is empty"),
        (
            refused(HttpCrm::builder(base).bearer_token("token-marker-1\n")),
            "the CRM token holds something other than visible ASCII characters",
        ),
        (refused(HttpCrm::builder(base).timeout(Duration::ZERO)), "the timeout is zero"),
    ] {
        assert_eq!(told, expected);
    }
}
