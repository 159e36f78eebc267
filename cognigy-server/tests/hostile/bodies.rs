//! Signed bodies that attack the parser. Each is accepted or refused, the same each time, and what
//! is accepted is kept byte for byte.

use crate::{
    common::{Server, Site, event},
    delivery, peak_memory, shown, statuses, still_serves, stored,
};

fn with_payload(id: &str, payload: &str) -> String {
    format!(r#"{{"eventId":"{id}","timestamp":0,"type":"DIALOG_STARTED","payload":{payload}}}"#)
}

/// The body is accepted and kept as it was sent.
fn kept(server: &Server, id: &str, body: &str) {
    let answer = server.deliver(body.as_bytes());
    let start = body.get(..200).unwrap_or(body);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted"}"#), "{start}");
    let again = server.deliver(body.as_bytes()).body;
    assert_eq!(again, r#"{"status":"accepted","duplicate":true}"#, "{start}");
    assert!(shown(server, id).json()["body"].as_str() == Some(body), "{start}");
}

fn refused(server: &Server, body: &[u8]) {
    let detail = server.deliver(body).problem(400);
    assert!(detail.starts_with("Payload validation failed: "), "{detail}");
    assert!(detail.len() < 1000, "{detail}");
}

#[test]
fn depth_has_a_limit_and_the_stack_is_never_used_up() {
    let site = Site::new();
    let server = site.serve();
    // The event and its payload are two of the levels.
    let arrays = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    kept(&server, "deepest", &with_payload("deepest", &arrays(125)));
    refused(&server, with_payload("deeper", &arrays(126)).as_bytes());
    refused(&server, with_payload("deep", &arrays(100_000)).as_bytes());
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    refused(&server, with_payload("deep", &objects).as_bytes());
    refused(&server, "[".repeat(1_000_000).as_bytes());
    refused(&server, "{\"a\":".repeat(200_000).as_bytes());
    assert_eq!(stored(&server), 1);
    still_serves(&server, "after");
}

#[test]
fn a_key_that_comes_twice_decides_nothing() {
    let site = Site::new();
    let server = site.serve();
    let body = with_payload("e1", "{}");
    for more in [
        r#","eventId":"e2""#,
        r#","eventId":"e1""#,
        r#","event\u0049d":"e2""#,
        r#","payload":{}"#,
        r#","type":"DIALOG_ENDED""#,
        r#","more":1,"more":1"#,
    ] {
        refused(&server, format!("{}{more}}}", &body[..body.len() - 1]).as_bytes());
    }
    assert_eq!(stored(&server), 0);
    // Below the top level duplicate keys are allowed.
    kept(&server, "e2", &with_payload("e2", r#"{"a":1,"a":2}"#));
}

#[test]
fn numbers_and_strings_are_passed_on_as_they_were_written() {
    let site = Site::new();
    let server = site.serve();
    for (index, value) in [
        "1e400",
        "-1e400",
        "1e-999",
        "-0",
        "-0.0",
        "9007199254740993",
        "18446744073709551616",
        "123456789012345678901234567890",
        "0.123456789012345678901234567890",
        "1.10",
        "1E+2",
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud83d\ude00""#,
        r#""\/\u002f""#,
        "\"\u{7f}\u{85}\u{2028}\u{feff}\u{ffff}\"",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("v{index}");
        kept(&server, &id, &with_payload(&id, &format!(r#"{{"v":{value}}}"#)));
    }
    // A difference counts even if a `double` does not show it.
    let body = with_payload("exact", r#"{"amount":9007199254740993}"#);
    kept(&server, "exact", &body);
    let other = server.deliver(body.replace("993}", "992}").as_bytes());
    assert_eq!(other.body, r#"{"status":"accepted","duplicate":true,"conflict":true}"#);
    let contact = with_payload("nul", "{}").replace("}}", r#"},"externalId":"a\u0000b"}"#);
    kept(&server, "nul", &contact);
    assert_eq!(shown(&server, "nul").json()["external_id"], "a\0b");
}

#[test]
fn what_is_not_utf_8_or_not_one_object_is_refused() {
    let site = Site::new();
    let server = site.serve();
    let body = with_payload("e1", r#"{"v":"x"}"#);
    for bytes in [
        &b"\xff"[..],
        b"\x80",
        b"\xc0\xaf",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\0",
        b"\n",
        b"\x1b",
    ] {
        let at = body.find("\"x\"").unwrap() + 1;
        refused(&server, &[&body.as_bytes()[..at], bytes, &body.as_bytes()[at..]].concat());
    }
    let utf_16: Vec<u8> = body.encode_utf16().flat_map(u16::to_le_bytes).collect();
    refused(&server, &utf_16);
    refused(&server, &[b"\xff\xfe", utf_16.as_slice()].concat());
    refused(&server, format!("\u{feff}{body}").as_bytes());
    for text in ["", " ", "\r\n\t", "null", "true", "0", "\"\"", "[]", "{", "}", "{}", "{]", "\0"] {
        refused(&server, text.as_bytes());
    }
    for text in [
        format!("{body}{body}"),
        format!("{body}\n{body}"),
        format!("[{body}]"),
        format!("{body}\0"),
        format!("{body},"),
        format!("{body}x"),
        format!("{body}//"),
        format!("x{body}"),
        format!("\u{a0}{body}"),
        body[..body.len() - 1].to_owned(),
        body.replace('"', "'"),
        body.replace("0,", "0,,"),
        body.replace("0,", "00,"),
        body.replace("0,", "NaN,"),
        body.replace("\"x\"", "\"x\","),
        body.replace("\"x\"", "\"\\x\""),
    ] {
        refused(&server, text.as_bytes());
    }
    assert_eq!(stored(&server), 0);
    kept(&server, "e1", &format!(" \t\r\n{body}\n "));
}

#[test]
fn a_hundred_thousand_keys_and_a_string_of_a_megabyte_are_work_and_no_more() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "before");
    let before = peak_memory(&server);
    let keys =
        |count: usize| (0..count).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
    let body = with_payload("top", "{}");
    let top = format!("{},{}}}", &body[..body.len() - 1], keys(80_000));
    kept(&server, "top", &top);
    kept(&server, "inside", &with_payload("inside", &format!("{{{}}}", keys(80_000))));
    // The same keys in another order are equal.
    let reversed = keys(80_000).split(',').rev().collect::<Vec<_>>().join(",");
    let again = server.deliver(with_payload("inside", &format!("{{{reversed}}}")).as_bytes());
    assert_eq!(again.body, r#"{"status":"accepted","duplicate":true}"#);
    let short_keys = (0..100_000).map(|n| format!("\"{n:x}\":0")).collect::<Vec<_>>().join(",");
    kept(&server, "short", &with_payload("short", &format!("{{{short_keys}}}")));
    kept(
        &server,
        "long",
        &with_payload("long", &format!(r#"{{"v":"{}"}}"#, "x".repeat(1_040_000))),
    );
    let grown = peak_memory(&server) - before;
    assert!(grown < 128 * 1024, "{grown} KiB more");
    still_serves(&server, "after");
}

#[test]
fn the_content_type_is_not_asked() {
    let site = Site::new();
    let server = site.serve();
    for (index, kind) in [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/xml",
        "application/octet-stream",
        "text/plain; charset=utf-16",
        "nonsense",
        "",
    ]
    .iter()
    .enumerate()
    {
        let lines = format!("Content-Type: {kind}\r\nConnection: close\r\n");
        let body = event(&format!("e{index}"), "c1");
        assert_eq!(statuses(&server, &delivery(&body, &lines)), [200], "{kind}");
        // No header turns another body into an event.
        assert_eq!(statuses(&server, &delivery(b"eventId=e1&type=x", &lines)), [400], "{kind}");
    }
    assert_eq!(stored(&server), 8);
}
