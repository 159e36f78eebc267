//! Events against a real socket: what is posted, what each answer means, what each fault becomes.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use cognigy_core::{
    Event, EventHandler, EventKey, EventTime, EventType, Failure, FailureKind, FailureScope,
    testing::sample,
};
use cognigy_handler_http::{ForwardHandler, ForwardHandlerBuilder, check_secret, check_url};
use serde_json::json;

use common::{
    SECRET, assert_signed, builder, contact, event, event_in, handler, read,
    stand_in::{self, Act, StandIn, answer},
};

const BODY: &str = "body-marker-2";
const CONTACT: &str = "contact-marker-3";
const QUERY: &str = "query-marker-4";
const ANSWER: &str = "answer-marker-5";

fn says(status: &str, headers: &str) -> Act {
    Act::Say(answer(status, headers, ANSWER))
}

/// Forwards an event whose every part is marked. The failure's kind and report, without any of the marks.
async fn forward(handler: &ForwardHandler) -> Result<(), (FailureKind, String)> {
    let event = Arc::new(event(BODY));
    let contact = contact(&format!("{{\"name\":\"{CONTACT}\"}}"));
    handler.handle(event, contact).await.map_err(|failure| {
        let told = everything_told(&failure);
        for marker in ["secretmarker1", BODY, CONTACT, QUERY, ANSWER, "127.0.0.1"] {
            assert!(!told.contains(marker), "{told}");
        }
        assert_eq!(failure.scope(), &FailureScope::Event);
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

fn to(server: &StandIn) -> ForwardHandlerBuilder {
    builder(&format!("{}/hooks?key={QUERY}", server.url()))
}

fn in_a_hurry(server: &StandIn) -> ForwardHandler {
    to(server).timeout(Duration::from_millis(500)).build().unwrap()
}

fn transient(seconds: Option<u64>) -> FailureKind {
    FailureKind::Transient { retry_after: seconds.map(Duration::from_secs) }
}

#[tokio::test]
async fn a_message_has_every_field_of_the_contract_and_its_headers() {
    let server = StandIn::always(says("204 No Content", "")).await;
    let body = r#"{"eventId":"e 1/ü","timestamp":"2026-01-01T02:00:00.250+02:00","type":"DIALOG_STARTED","externalId":"c-1","payload":{}}"#;
    let incoming = sample::incoming_in(body, sample::context(&[]), Some("[\"u-1\",\"s-1\"]"));
    let event = Event::restore(incoming.key, incoming.parts, incoming.body, sample::start(), 3);
    handler(&server).handle(Arc::new(event), contact(r#"{"id": 7}"#)).await.unwrap();

    let seen = server.seen().remove(0);
    assert_eq!(seen.line(), "POST / HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("user-agent"), Some("cognigy-handler-http/0.1.0"));
    // printf 'cognigy/e 1/ü/3' | sha256sum
    let id = "msg_7fd939c4778e213a972d3ade3ebc2ccbf289a2fa5dc90e01d190c20c9e1a4385";
    assert_eq!(seen.header("webhook-id"), Some(id));
    assert_signed(&seen);
    let expected = [
        r#"{"type":"DIALOG_STARTED","timestamp":"2026-01-01T00:00:00.250Z","data":{"#,
        r#""event_id":"e 1/ü","source":"cognigy","contact_key":"c-1","#,
        r#""conversation":"[\"u-1\",\"s-1\"]","correlation":"not_asked","contact":{"id": 7},"#,
        r#""event":"#,
        body,
        r#","run":3,"attempt":1}}"#,
    ];
    assert_eq!(seen.text(), expected.concat());
}

#[tokio::test]
async fn what_an_event_does_not_have_is_null() {
    let server = StandIn::always(says("200 OK", "")).await;
    let body = r#"{"eventId":"e","timestamp":1767225600,"type":"DIALOG_ENDED","payload":{}}"#;
    handler(&server).handle(Arc::new(event_in(body, 1)), None).await.unwrap();
    let data = &read(&server.seen()[0])["data"];
    for name in ["contact_key", "conversation", "contact"] {
        assert_eq!(data.get(name), Some(&json!(null)), "{name}");
    }
}

#[tokio::test]
async fn event_and_contact_arrive_as_they_were_written() {
    let server = StandIn::always(says("200 OK", "")).await;
    let inside = concat!(
        r#"{ "amount" : 12345678901234567890123.4567890123456789e+5,"zero":-0.0,"one":1.0,"#,
        "\r\n\t\"name\":\"\\u00e9é😀\\ud83d\\ude00\\/\u{2028}\" , \"n\":1,\"n\":2,",
        r#""lone":"\ud800", "deep":[[[[{}]]]], "key\u0000":null }"#
    );
    let body = format!(
        " {{\"payload\":{inside}\n,  \"type\":\"DIALOG_STARTED\",\"eventId\":\"e\",\"timestamp\":0}}"
    );
    handler(&server).handle(Arc::new(event_in(body.clone(), 1)), contact(inside)).await.unwrap();
    let seen = server.seen().remove(0);
    assert_signed(&seen);
    assert!(seen.text().contains(&format!("\"contact\":{inside},\"event\":{}", body.trim())));
}

#[tokio::test]
async fn a_body_that_is_not_json_is_a_string() {
    let server = StandIn::always(says("200 OK", "")).await;
    let handler = handler(&server);
    let bodies: [(&[u8], &str); 5] = [
        (b"plain \"text\"\r\n", "plain \"text\"\r\n"),
        (b"", ""),
        (b"{\"a\":1} {}", "{\"a\":1} {}"),
        (b"{\"broken\":", "{\"broken\":"),
        (b"{\"a\":\"\xff\"}", "{\"a\":\"\u{fffd}\"}"),
    ];
    for (body, expected) in bodies {
        let parts = sample::incoming(sample::body("e")).parts;
        let body = Bytes::copy_from_slice(body);
        let event = Event::restore(sample::key("e"), parts, body, sample::start(), 1);
        handler.handle(Arc::new(event), None).await.unwrap();
        let seen = server.seen().pop().unwrap();
        assert_signed(&seen);
        assert_eq!(read(&seen)["data"]["event"], json!(expected));
    }
}

#[tokio::test]
async fn the_time_is_rfc_3339_in_utc_whatever_the_sender_wrote() {
    let server = StandIn::always(says("200 OK", "")).await;
    let handler = handler(&server);
    for (written, expected) in [
        ("\"2026-03-01T14:00:00+02:00\"", "2026-03-01T12:00:00Z"),
        ("\"2026-03-01\"", "2026-03-01T00:00:00Z"),
        ("1772366400", "2026-03-01T12:00:00Z"),
        ("1772366400123", "2026-03-01T12:00:00.123Z"),
        ("1772366400.5", "2026-03-01T12:00:00.500Z"),
        ("\"2026-03-01T12:00:00.123456789Z\"", "2026-03-01T12:00:00.123456789Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("253402300799999", "9999-12-31T23:59:59.999Z"),
        ("253402300800000", "+10000-01-01T00:00:00Z"),
    ] {
        let mut parts = sample::incoming(sample::body("e")).parts;
        parts.time = EventTime::from_json(written).unwrap();
        let event = Event::restore(sample::key("e"), parts, sample::body("e"), sample::start(), 1);
        handler.handle(Arc::new(event), None).await.unwrap();
        assert_eq!(read(&server.seen().pop().unwrap())["timestamp"], json!(expected), "{written}");
    }
}

#[tokio::test]
async fn an_id_is_of_its_source_event_and_run_and_fits_into_a_header() {
    let server = StandIn::always(says("200 OK", "")).await;
    let handler = handler(&server);
    let longest = "😀".repeat(256);
    let keys = [
        ("cognigy", "e", 1),
        ("cognigy", "e", 2),
        ("shop", "e", 1),
        ("cognigy", "e/1", 1),
        ("cognigy", "e/1", 11),
        ("cognigy", "e/1/1", 1),
        ("cognigy", "a.b.c d\"é", 1),
        ("cognigy", &longest, 1),
    ];
    for (source, id, run) in keys {
        let key = EventKey { source: source.parse().unwrap(), id: id.parse().unwrap() };
        let parts = sample::incoming(sample::body("e")).parts;
        let event = Arc::new(Event::restore(key, parts, sample::body("e"), sample::start(), run));
        for _ in 0..2 {
            handler.handle(Arc::clone(&event), None).await.unwrap();
        }
    }
    let seen = server.seen();
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("webhook-id").unwrap()).collect();
    for (n, id) in ids.iter().enumerate() {
        let digest = id.strip_prefix("msg_").unwrap();
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        let same = ids.iter().filter(|other| *other == id).count();
        assert_eq!((same, id), (2, &ids[n / 2 * 2]));
    }
}

#[tokio::test]
async fn the_url_keeps_its_path_and_its_query() {
    let server = StandIn::always(says("200 OK", "")).await;
    for target in ["/?", "/a/b/?x=1&y=%20+%2B&&z", "/hook?{id}&u=http://h/#f", "/%2e/a%2Fb;c?q=é"]
    {
        let url = server.url() + target.trim_end_matches("#f");
        assert_eq!(forward(&builder(&url).build().unwrap()).await, Ok(()));
    }
    let seen = server.seen();
    let targets: Vec<_> = seen.iter().map(|seen| seen.target()).collect();
    let expected = ["/?", "/a/b/?x=1&y=%20+%2B&&z", "/hook?{id}&u=http://h/", "/a%2Fb;c?q=%C3%A9"];
    assert_eq!(targets, expected);
}

/// A handler and the server that it posts to, which answers the n-th request with the n-th of these.
async fn answered(answers: Vec<Act>) -> (ForwardHandler, StandIn) {
    let server = StandIn::start(move |n, _| answers[n].clone()).await;
    (to(&server).build().unwrap(), server)
}

#[tokio::test]
async fn every_status_has_its_class() {
    use FailureKind::Permanent;
    let done = ["200 OK", "201 x", "202 x", "204 x", "206 x", "299 x"];
    let failed = [
        ("300 x", Permanent, "300 Multiple Choices (redirects are not followed)"),
        ("304 x", Permanent, "304 Not Modified (redirects are not followed)"),
        ("400 x", Permanent, "400 Bad Request"),
        ("401 x", Permanent, "401 Unauthorized"),
        ("403 x", Permanent, "403 Forbidden"),
        ("404 x", Permanent, "404 Not Found"),
        ("407 x", Permanent, "407 Proxy Authentication Required"),
        ("408 x", transient(None), "408 Request Timeout"),
        ("409 x", Permanent, "409 Conflict"),
        ("410 x", Permanent, "410 Gone"),
        ("413 x", Permanent, "413 Payload Too Large"),
        ("422 x", Permanent, "422 Unprocessable Entity"),
        ("425 x", transient(None), "425 Too Early"),
        ("429 x", transient(None), "429 Too Many Requests"),
        ("499 x", Permanent, "499"),
        ("500 x", transient(None), "500 Internal Server Error"),
        ("501 x", transient(None), "501 Not Implemented"),
        ("502 x", transient(None), "502 Bad Gateway"),
        ("503 x", transient(None), "503 Service Unavailable"),
        ("504 x", transient(None), "504 Gateway Timeout"),
        ("520 answer-marker-5", transient(None), "520"),
        ("599 x", transient(None), "599"),
        ("600 x", Permanent, "600"),
    ];
    // Without a body: a 204 and a 304 have none. Closed, so that one answer is not taken for two.
    let act = |status: &str| Act::SayAndClose(answer(status, "Connection: close\r\n", ""));
    let statuses = done.into_iter().chain(failed.iter().map(|case| case.0));
    let (handler, server) = answered(statuses.map(act).collect()).await;
    for status in done {
        assert_eq!(forward(&handler).await, Ok(()), "{status}");
    }
    for (status, kind, told) in failed {
        let expected = Err((kind, format!("the forward URL answered {told}")));
        assert_eq!(forward(&handler).await, expected, "{status}");
    }
    assert_eq!(server.seen().len(), done.len() + failed.len(), "nothing is sent twice");
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
    let statuses = ["408 x", "425 x", "429 x", "500 x", "503 x"];
    let said = |(status, value): (&str, &str)| says(status, &format!("Retry-After: {value}\r\n"));
    let pairs = statuses.iter().flat_map(|status| cases.iter().map(|case| (*status, case.0)));
    let (handler, _server) = answered(pairs.map(said).collect()).await;
    for status in statuses {
        for (value, seconds) in cases {
            let (kind, _) = forward(&handler).await.unwrap_err();
            assert_eq!(kind, transient(seconds), "{status} {value}");
        }
    }
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
    let (handler, _server) = answered(vec![said(("503 x", &date))]).await;
    let (kind, _) = forward(&handler).await.unwrap_err();
    let FailureKind::Transient { retry_after: Some(wait) } = kind else { panic!("{kind:?}") };
    assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
    // What is not tried again carries no wait.
    let statuses = ["302 x", "400 x", "403 x", "410 x"];
    let (handler, _server) = answered(statuses.map(|status| said((status, "5"))).to_vec()).await;
    for status in statuses {
        let (kind, _) = forward(&handler).await.unwrap_err();
        assert_eq!(kind, FailureKind::Permanent, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = StandIn::always(says("200 OK", "")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/\r\n", other.url());
        let server = StandIn::always(says(&format!("{status} x"), &location)).await;
        let (kind, told) = forward(&to(&server).build().unwrap()).await.unwrap_err();
        assert_eq!(kind, FailureKind::Permanent);
        assert!(told.ends_with("(redirects are not followed)"), "{told}");
        assert_eq!(server.seen().len(), 1);
    }
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn whatever_breaks_on_the_way_is_transient() {
    let in_time = "the forward URL did not answer within 500ms";
    for (act, told) in [
        (Act::Hang, in_time),
        (Act::Drip(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), in_time),
        (Act::SayLater(Duration::from_secs(60), answer("200 OK", "", "")), in_time),
        (Act::Reset, "the forward URL gave no usable answer: connection reset"),
        (
            Act::SayAndClose(vec![]),
            "the forward URL gave no usable answer: connection closed before message completed",
        ),
        (
            Act::SayAndClose(format!("220 {ANSWER} ESMTP\r\n").into_bytes()),
            "the forward URL gave no usable answer: invalid HTTP version parsed",
        ),
    ] {
        let server = StandIn::always(act).await;
        let started = Instant::now();
        let expected = Err((transient(None), told.to_owned()));
        assert_eq!(forward(&in_a_hurry(&server)).await, expected);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(server.seen().len(), 1, "{told}: nothing is sent twice");
    }
    let handler = builder(&stand_in::closed_port().await).build().unwrap();
    let refused = "the forward URL could not be reached: connection refused".to_owned();
    assert_eq!(forward(&handler).await, Err((transient(None), refused)));
}

#[tokio::test]
async fn an_answer_is_judged_by_its_status_however_its_body_goes_on() {
    let unavailable = (transient(Some(7)), "the forward URL answered 503 Service Unavailable");
    let unavailable = Err((unavailable.0, unavailable.1.to_owned()));
    for (status, expected) in [("200 OK", Ok(())), ("503 x", unavailable)] {
        let head = format!("HTTP/1.1 {status}\r\nRetry-After: 7\r\n");
        let endless = format!("{head}\r\n").into_bytes();
        let half = format!("{head}Content-Length: 9\r\n\r\nhalf").into_bytes();
        let lie = format!("{head}Content-Length: 99999999999\r\n\r\n").into_bytes();
        for act in [
            Act::Drip(endless.clone()),
            Act::Flood(endless, 64 << 20),
            Act::Flood(lie, 64 << 20),
            Act::SayAndClose(half),
        ] {
            let server = StandIn::always(act).await;
            let started = Instant::now();
            assert_eq!(forward(&in_a_hurry(&server)).await, expected);
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
            assert!(server.written() < 16 << 20, "{} bytes went out", server.written());
        }
    }
}

#[tokio::test]
async fn connections_are_used_again_after_every_kind_of_answer() {
    let server = StandIn::start(|n, _| match n % 4 {
        0 => says("200 OK", ""),
        1 => {
            Act::SayInTwo(b"HTTP/1.1 404 x\r\nContent-Length: 4\r\n\r\n".to_vec(), b"gone".to_vec())
        }
        2 => Act::Say(answer("503 x", "", "x".repeat(4000))),
        _ => Act::Say(answer("204 No Content", "", "")),
    })
    .await;
    let handler = handler(&server);
    for _ in 0..12 {
        _ = forward(&handler).await;
    }
    assert_eq!((server.seen().len(), server.accepted()), (12, 1));
}

#[tokio::test]
async fn a_dropped_attempt_leaves_the_handler_usable() {
    let server = StandIn::start(|n, _| match n {
        0 => Act::Hang,
        _ => says("200 OK", ""),
    })
    .await;
    let handler = handler(&server);
    assert!(tokio::time::timeout(Duration::from_millis(50), forward(&handler)).await.is_err());
    assert_eq!(forward(&handler).await, Ok(()));
}

#[tokio::test]
async fn only_the_named_types_are_forwarded() {
    let server = StandIn::always(says("200 OK", "")).await;
    let types = [EventType::ProfileUpdated, EventType::from_name("cognigy.bot.output")];
    let some = to(&server).types(types.clone()).build().unwrap();
    let all = to(&server).build().unwrap();
    let kinds = [
        EventType::ProfileUpdated,
        EventType::UserInputReceived,
        EventType::from_name("cognigy.bot.output"),
        EventType::from_name("cognigy.bot.outpu"),
        EventType::from_name("COGNIGY.BOT.OUTPUT"),
        EventType::from_name(""),
    ];
    for handler in [&some, &all] {
        for kind in &kinds {
            let mut parts = sample::incoming(sample::body("e")).parts;
            parts.kind = kind.clone();
            let body = sample::body("e");
            let event = Event::restore(sample::key("e"), parts, body, sample::start(), 1);
            handler.handle(Arc::new(event), None).await.unwrap();
        }
    }
    let seen = server.seen();
    let sent: Vec<_> = seen
        .iter()
        .map(|seen| EventType::from_name(read(seen)["type"].as_str().unwrap()))
        .collect();
    assert_eq!((&sent[..2], &sent[2..]), (&types[..], &kinds[..]));
    assert!(some.takes(&types[1]) && !some.takes(&EventType::DialogEnded));
}

#[tokio::test]
async fn debug_output_shows_no_secret_and_no_more_of_the_url_than_its_origin() {
    let wrong = ForwardHandler::builder(format!("http://user:{QUERY}@crm/")).secret(SECRET);
    let handler = builder(&format!("https://h.example:8443/{QUERY}?{QUERY}")).build().unwrap();
    let mut shown = format!("{wrong:?} {handler:?}");
    shown += &format!("{:?}", wrong.build());
    assert!(!shown.contains("secretmarker1") && !shown.contains(QUERY), "{shown}");
    assert!(shown.contains("\"https://h.example:8443\""), "{shown}");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let refused = |builder: ForwardHandlerBuilder| builder.build().unwrap_err().to_string();
    let good = || builder("http://h");
    for (told, expected) in [
        (
            refused(builder("h.example")),
            "the forward URL must begin with http:// or https://, followed by a host",
        ),
        (
            refused(ForwardHandler::builder("http://h")),
            "the forward URL needs a secret to sign with",
        ),
        (refused(good().secret("plain")), "the forward secret must begin with whsec_"),
        (
            refused(good().secret("whsec_c2hvcnQ=")),
            "the forward secret must have 16 to 64 bytes in base64 after whsec_, and has 5",
        ),
        (refused(good().types([])), "no event type is named, so that no event would be forwarded"),
        (refused(good().timeout(Duration::ZERO)), "the timeout is zero"),
    ] {
        assert_eq!(told, expected);
    }
}

#[test]
fn what_is_wrong_with_a_url_is_named_and_the_url_is_not() {
    let scheme = "must begin with http:// or https://, followed by a host";
    let blank = "must not hold white space or control characters";
    let user = "must not hold a user name or password";
    for (url, told) in [
        ("", scheme),
        ("marker.example/hooks", scheme),
        ("ftp://marker/", scheme),
        ("file:///marker", scheme),
        ("http:marker", scheme),
        ("http:///marker", scheme),
        ("https://?marker", scheme),
        (" http://marker", blank),
        ("http://h/mar ker", blank),
        ("http://marker\n", blank),
        ("http://marker@h/", user),
        ("http://:marker@h/", user),
        ("http://user:marker@h/", user),
        ("http://h/?q#marker", "must not hold a fragment"),
        ("http://marker:99999/", "cannot be read: invalid port number"),
    ] {
        let error = check_url(url).unwrap_err();
        assert_eq!(error.to_string(), told, "{url:?}");
        assert!(!format!("{error:?}").contains("marker"), "{error:?}");
        assert!(builder(url).build().is_err());
    }
    for url in ["http://h", "HTTPS://h:1/", "http://[::1]:8080/a?b=c", "http://127.0.0.1/?", SHOWN]
    {
        assert_eq!(check_url(url), Ok(()), "{url}");
        assert!(builder(url).build().is_ok(), "{url}");
    }
    assert_eq!(check_secret(SECRET), Ok(()));
}

const SHOWN: &str = "https://orders.example/hooks/%7Bid%7D?tenant=7&sig=a%2Bb";
