//! The shared client against a real socket: how each fault is reported, and which limits hold.
#![allow(clippy::unwrap_used)]

mod stand_in;

use std::time::{Duration, Instant};

use cognigy_http::{
    BaseUrl, ClientOptions, ConfigError, ReadError, TransportError,
    TransportErrorKind::{self, Body, Connect, NoAnswer, Timeout},
    bearer, client, read_at_most, read_bounded,
};
use reqwest::Response;
use stand_in::{Act, StandIn, answer};

/// Stands for a secret or a contact key: in the URL and in a header of every request.
const MARKER: &str = "marker-7f3a";

async fn ask(url: &str, timeout: Duration) -> Result<Response, TransportError> {
    let base = BaseUrl::parse(url).unwrap();
    let mut options = ClientOptions::new("cognigy-http-tests/1");
    options.timeout = timeout;
    let request = client(&base, &options).unwrap().get(base.join(&["look-up", MARKER]));
    Ok(request.header("Authorization", bearer(MARKER).unwrap()).send().await?)
}

async fn body(server: &StandIn, timeout: Duration) -> Result<usize, ReadError> {
    Ok(read_bounded(ask(&server.url(), timeout).await?, 1024).await?.len())
}

fn told(error: &impl std::error::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    assert!(!text.contains(MARKER), "{text}");
    text
}

#[tokio::test]
async fn every_fault_is_told_by_its_kind_and_without_the_url() {
    let long_head = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let cases: Vec<(Act, TransportErrorKind, &str)> = vec![
        (Act::Hang, Timeout, "did not answer in time"),
        (Act::Drip(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), Timeout, "did not answer in time"),
        (
            Act::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n".to_vec()),
            Timeout,
            "did not answer in time",
        ),
        (Act::Reset, NoAnswer, "gave no usable answer: connection reset"),
        (
            Act::SayAndClose(vec![]),
            NoAnswer,
            "gave no usable answer: connection closed before message completed",
        ),
        (
            Act::SayAndClose(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()),
            NoAnswer,
            "gave no usable answer: invalid HTTP version parsed",
        ),
        (Act::Say(long_head), NoAnswer, "gave no usable answer: message head is too large"),
        (
            Act::SayAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
            Body,
            "broke its answer off: end of file before message length reached",
        ),
        (
            Act::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()),
            Body,
            "broke its answer off: Invalid chunk size line: missing size digit",
        ),
    ];
    for (act, kind, words) in cases {
        let case = format!("{act:.60?}");
        let server = StandIn::always(act).await;
        let error = match body(&server, Duration::from_millis(300)).await.unwrap_err() {
            ReadError::Transport(error) => error,
            other => panic!("{case}: {other:?}"),
        };
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, words), "{case}");
        told(&error);
        assert_eq!(server.seen().len(), 1, "{case}: a request is never repeated");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_as_such() {
    let error = ask(&stand_in::closed_port().await, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error.kind(), Connect);
    assert_eq!(error.to_string(), "could not be reached: connection refused");
    // RFC 6761 reserves the name, so that it never resolves.
    let error = ask("http://crm.invalid", Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error.kind(), Connect | Timeout), "{error:?}");
    told(&error);
}

#[tokio::test]
async fn the_deadline_covers_the_whole_body() {
    let server = StandIn::always(Act::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    let started = Instant::now();
    let error = body(&server, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, ReadError::Transport(error) if error.kind() == Timeout));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_and_not_beyond() {
    let limit = 1024;
    let timeout = Duration::from_secs(5);
    let exact = StandIn::always(Act::Say(answer("200 OK", "", vec![b'x'; limit]))).await;
    assert_eq!(body(&exact, timeout).await, Ok(limit));
    let flood = |headers: &str| {
        Act::Flood(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes(), 64 << 20)
    };
    for (case, act) in [
        ("one byte more", Act::Say(answer("200 OK", "", vec![b'x'; limit + 1]))),
        ("64 MB, announced", flood("Content-Length: 67108864\r\n")),
        ("64 MB, until the connection closes", flood("Connection: close\r\n")),
        ("64 MB in one chunk", flood("Transfer-Encoding: chunked\r\n\r\n4000000\r\n")),
    ] {
        let server = StandIn::always(act).await;
        assert_eq!(body(&server, timeout).await, Err(ReadError::TooLarge { limit }), "{case}");
        // No more was sent than the kernel's buffers hold.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(server.written() < 16 << 20, "{case}: {} bytes went out", server.written());
    }
}

#[tokio::test]
async fn an_excerpt_is_what_there_is() {
    let half = b"HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nhalf".to_vec();
    let server = StandIn::always(Act::SayAndClose(half)).await;
    let answer = ask(&server.url(), Duration::from_secs(2)).await.unwrap();
    assert_eq!(read_at_most(answer, 100).await, "half");
    let server = StandIn::always(Act::Say(stand_in::answer("500 Oh", "", "0123456789"))).await;
    let answer = ask(&server.url(), Duration::from_secs(2)).await.unwrap();
    assert_eq!(read_at_most(answer, 4).await, "0123");
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let other = StandIn::always(Act::Say(answer("200 OK", "", "{}"))).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/elsewhere\r\n", other.url());
        let server =
            StandIn::always(Act::Say(answer(&format!("{status} Go"), &location, ""))).await;
        let answer = ask(&server.url(), Duration::from_secs(2)).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
    }
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn a_request_says_who_sends_it_and_asks_for_no_compression() {
    let server = StandIn::always(Act::Say(answer("200 OK", "", ""))).await;
    ask(&server.url(), Duration::from_secs(2)).await.unwrap();
    let seen = server.seen().remove(0);
    assert_eq!(seen.header("user-agent"), Some("cognigy-http-tests/1"));
    assert_eq!(seen.header("accept-encoding"), None);
    assert_eq!(seen.header("referer"), None);
}

#[test]
fn a_token_stays_out_of_debug_output_and_bad_ones_out_of_headers() {
    let value = bearer(MARKER).unwrap();
    assert_eq!(value.to_str().unwrap(), format!("Bearer {MARKER}"));
    assert!(!format!("{value:?}").contains(MARKER));
    for token in ["", " ", "line\n", "carriage\rreturn", "two words", "nul\0", "umläut"] {
        assert_eq!(bearer(token), None);
    }
}

#[test]
fn a_timeout_of_zero_is_refused() {
    let base = BaseUrl::parse("http://crm").unwrap();
    let mut options = ClientOptions::new("tests");
    options.timeout = Duration::ZERO;
    assert!(matches!(client(&base, &options), Err(ConfigError::ZeroTimeout)));
}
