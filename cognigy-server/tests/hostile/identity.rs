//! The identity of senders and events: signatures in every wrong form, ids in every odd one.

use base64::{Engine, engine::general_purpose::STANDARD};
use cognigy_core::{Secret, SignatureScheme, sign};
use serde_json::{Value, json};

use crate::{
    common::{Answer, SECRET, Server, Site, event, signature, stderr},
    shown, stored,
};

/// Sends `body` with these header lines, which may be any bytes.
fn with_lines(server: &Server, body: &[u8], lines: &[u8]) -> Answer {
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    server.raw(&[head.as_bytes(), lines, b"\r\n", body].concat())
}

fn with_value(server: &Server, body: &[u8], value: &[u8]) -> Answer {
    with_lines(server, body, &[b"X-Cognigy-Signature: ", value, b"\r\n"].concat())
}

#[test]
fn a_tag_of_any_other_length_or_spelling_is_refused_with_the_same_answer() {
    let site = Site::new();
    let server = site.serve();
    let body = event("e1", "c1");
    let good = signature(&body);
    let tag = STANDARD.decode(&good).unwrap();
    let mut values: Vec<Vec<u8>> = Vec::new();
    // A right beginning is not enough (RUSTSEC-2024-0010), nor is a right beginning and more.
    for length in [0, 1, 16, 31] {
        values.push(STANDARD.encode(&tag[..length]).into_bytes());
    }
    values.push(STANDARD.encode([tag.as_slice(), &[0]].concat()).into_bytes());
    values.push(STANDARD.encode([tag.as_slice(), &tag].concat()).into_bytes());
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    // Two bits of the last character before the padding have no meaning. Set, they make another
    // text.
    let mut loose = good.clone().into_bytes();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let last = alphabet.iter().position(|letter| *letter == loose[42]).unwrap();
    loose[42] = alphabet[last ^ 1];
    values.push(loose);
    for value in [
        good.to_lowercase(),
        good.to_uppercase(),
        good.trim_end_matches('=').to_owned(),
        format!("{good}="),
        format!("{} {}", &good[..20], &good[20..]),
        format!("v1,{good}"),
        format!("sha256={good}"),
        format!("{good},{good}"),
        format!("{good}, x"),
        format!("x,{good}"),
        format!("\"{good}\""),
        good.replace('=', "%3D"),
        hex.clone(),
        "A".repeat(100_000),
    ] {
        values.push(value.into_bytes());
    }
    values.push([good.as_bytes(), b"\x80"].concat());
    values.push([b"\xff\xfe", good.as_bytes()].concat());
    values.push("ключ".into());
    let expected = with_lines(&server, &body, b"");
    expected.problem(401);
    for value in &values {
        let answer = with_value(&server, &body, value);
        let answer = (answer.status, answer.body);
        assert_eq!(answer, (401, expected.body.clone()), "{:?}", String::from_utf8_lossy(value));
    }
    // Control characters are not even HTTP.
    for value in [format!("{good}\0"), format!("\u{1b}{good}"), format!("{good}\r\r")] {
        assert_eq!(with_value(&server, &body, value.as_bytes()).status, 400);
    }
    // A bare LF ends the line, and what follows is no longer what was signed.
    assert_ne!(with_value(&server, &body, format!("{good}\n").as_bytes()).status, 200);
    assert_eq!(stored(&server), 0);
    // White space around a value belongs to HTTP and not to the value (RFC 9110, section 5.5).
    assert_eq!(with_value(&server, &body, format!(" \t{good} \t").as_bytes()).status, 200);
    assert_eq!(
        with_lines(&server, &body, format!("x-COGNIGY-signature:{good}\r\n").as_bytes()).status,
        200
    );
}

#[test]
fn two_signatures_are_none() {
    let site = Site::new();
    let server = site.serve();
    let body = event("e1", "c1");
    let good = signature(&body);
    let bad = signature(b"something else");
    for (one, other) in [(&good, &bad), (&bad, &good), (&good, &good)] {
        let lines = format!("X-Cognigy-Signature: {one}\r\nx-cognigy-signature: {other}\r\n");
        with_lines(&server, &body, lines.as_bytes()).problem(401);
    }
    assert_eq!(stored(&server), 0);
}

#[test]
fn hexadecimal_digits_are_taken_in_either_case_and_in_full() {
    let mut site = Site::new();
    site.set("COGNIGY_SIGNATURE_SCHEME", "sha256=hex");
    let server = site.serve();
    let body = event("e1", "c1");
    let good = sign(&Secret::new(SECRET).unwrap(), SignatureScheme::Sha256Hex, &body);
    let digits = good.strip_prefix("sha256=").unwrap();
    for value in [
        digits.to_owned(),
        format!("SHA256={digits}"),
        format!("sha256= {digits}"),
        format!("sha256={}", &digits[..62]),
        format!("sha256={}", &digits[..63]),
        format!("{good}0"),
        format!("{good}00"),
        format!("sha256={}g", &digits[..63]),
        format!("sha1={digits}"),
        "sha256=".to_owned(),
        signature(&body),
    ] {
        with_value(&server, &body, value.as_bytes()).problem(401);
    }
    assert_eq!(stored(&server), 0);
    let upper = format!("sha256={}", digits.to_uppercase());
    for value in [good.clone(), upper] {
        assert_eq!(with_value(&server, &body, value.as_bytes()).status, 200, "{value}");
    }
}

#[test]
fn one_bit_more_or_less_and_the_signature_is_another_s() {
    let site = Site::new();
    let server = site.serve();
    let (one, other) = (event("e1", "c1"), event("e2", "c1"));
    for bit in 0..one.len() * 8 {
        if bit % 13 == 0 {
            let mut changed = one.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            with_value(&server, &changed, signature(&one).as_bytes()).problem(401);
        }
    }
    with_value(&server, &one, signature(&other).as_bytes()).problem(401);
    with_value(&server, &other, signature(&one).as_bytes()).problem(401);
    assert_eq!(stored(&server), 0);
    // A captured delivery that is sent again has a right signature and changes nothing: it is the
    // same event.
    for _ in 0..3 {
        assert_eq!(server.deliver(&one).status, 200);
    }
    assert_eq!(stored(&server), 1);
}

#[test]
fn the_previous_secret_is_good_until_it_is_taken_out_and_an_empty_one_never() {
    let mut site = Site::new();
    let old = Secret::new("marked-previous-secret").unwrap();
    let body = event("e1", "c1");
    let by_old = sign(&old, SignatureScheme::Base64, &body);
    site.set("COGNIGY_WEBHOOK_SECRET_PREVIOUS", "marked-previous-secret");
    let server = site.serve();
    assert_eq!(with_value(&server, &body, by_old.as_bytes()).status, 200);
    assert_eq!(with_value(&server, &body, signature(&body).as_bytes()).status, 200);
    drop(server);
    site.set("COGNIGY_WEBHOOK_SECRET_PREVIOUS", "");
    let server = site.serve();
    with_value(&server, &body, by_old.as_bytes()).problem(401);
    drop(server);
    for empty in ["", "      ", "short"] {
        site.set("COGNIGY_WEBHOOK_SECRET", empty);
        let output = site.run(&["serve"]);
        assert_eq!(output.status.code(), Some(2), "{empty:?}");
        assert!(stderr(&output).contains("COGNIGY_WEBHOOK_SECRET"), "{}", stderr(&output));
    }
}

#[test]
fn ids_are_kept_as_they_are_or_refused_and_never_interpreted() {
    let site = Site::new();
    let server = site.serve();
    let with_id = |id: &str| {
        let mut body: Value = serde_json::from_slice(&event("x", "c1")).unwrap();
        body["eventId"] = json!(id);
        body.to_string().into_bytes()
    };
    let long = "é".repeat(256);
    let kept = [
        "../../etc/passwd",
        "..",
        "/",
        "%2e%2e",
        "a%00b",
        "'; DROP TABLE events; --",
        "\" OR 1=1 --",
        "e1",
        "E1",
        " e1",
        "e1 ",
        "e\u{301}1",
        "\u{e9}1",
        "👩‍👩‍👧",
        "\u{202e}evil",
        "\u{feff}e1",
        "\u{2028}",
        "$(reboot)`id`",
        "{{7*7}}${jndi:ldap://x}",
        "<script>alert(1)</script>",
        "e1\",\"level\":\"ERROR\",\"message\":\"forged",
        "%s%n%x",
        "null",
        "0",
        "\u{ffff}",
        &long,
    ];
    for id in kept {
        let body = with_id(id);
        let answer = server.deliver(&body);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, r#"{"status":"accepted"}"#),
            "{id}"
        );
        let shown = shown(&server, id).json();
        assert_eq!(shown["event_id"], *id);
        assert_eq!(shown["body"].as_str().unwrap().as_bytes(), body, "{id}");
    }
    assert_eq!(stored(&server), kept.len() as u64, "each is an event of its own");

    let too_long = "e".repeat(257);
    let refused = [
        "",
        "\0",
        "a\0b",
        "a\nb",
        "a\r\nX-Injected: 1",
        "\u{1b}[2J",
        "\u{7f}",
        "\u{85}",
        &too_long,
    ];
    for id in refused {
        let answer = server.deliver(&with_id(id));
        assert!(answer.problem(400).starts_with("Payload validation failed: eventId"), "{id:?}");
        assert!(answer.header("x-injected").is_none());
    }
    for id in ["7", "null", "[]", "{}", "true", r#""\ud800""#] {
        let body = String::from_utf8(with_id("x")).unwrap().replace(r#""x""#, id);
        server.deliver(body.as_bytes()).problem(400);
    }
    let without = String::from_utf8(with_id("x")).unwrap().replace("eventId", "event_id");
    server.deliver(without.as_bytes()).problem(400);
    assert_eq!(stored(&server), kept.len() as u64);
    every_log_line_is_ours(&server);
}

#[test]
fn nothing_that_is_sent_forges_a_line_of_the_log() {
    let site = Site::new();
    let server = site.serve();
    let forged = "\\n{\\\"level\\\":\\\"ERROR\\\",\\\"message\\\":\\\"forged\\\"}\\u001b[2J";
    for body in [
        format!(r#"{{"{forged}":1,"{forged}":2}}"#),
        format!(r#"{{"eventId":"e1","type":"{forged}","payload":{{"{forged}":1}}}}"#),
        format!(
            r#"{{"eventId":"e2","timestamp":0,"type":"DIALOG_STARTED","payload":{{}},"userId":"{forged}","externalId":"{forged}"}}"#
        ),
    ] {
        server.deliver(body.as_bytes());
    }
    server.get("/admin/events?q=%0a%1b%5b2J&nonsense=%0aforged");
    server.get("/admin/events/%0a%7b%22message%22:%22forged%22%7d");
    server.request("GET", "/%0aforged", &[("X-Forwarded-For", "\u{1b}[2J")], b"");
    every_log_line_is_ours(&server);
}

fn every_log_line_is_ours(server: &Server) {
    let log = server.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not ours: {line}"));
        assert_ne!(entry["message"], "forged", "{line}");
    }
    assert!(!log.contains('\u{1b}'));
}
