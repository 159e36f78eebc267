//! Other methods and odd paths: no way around the signature or the operator's token.

use crate::{
    common::{Site, TOKEN, event},
    statuses, still_serves, stored,
};

#[test]
fn no_spelling_of_a_path_gets_around_the_token() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "secret-event");
    for path in [
        "/admin/stats",
        "//admin/stats",
        "///admin//stats",
        "/./admin/stats",
        "/healthz/../admin/stats",
        "/webhooks/cognigy/../../admin/stats",
        "/healthz/%2e%2e/admin/stats",
        "/healthz/..%2fadmin/stats",
        "/healthz/%2e%2e%2fadmin%2fstats",
        "/healthz;/../admin/stats",
        "/%61dmin/stats",
        "/admin%2fstats",
        "/admin%2Fevents%2Fsecret-event",
        "/admin/events/secret-event",
        "/admin/events/%2e%2e/stats",
        "/admin/events?",
        "/admin/events/",
        "/admin/stats/",
        "/admin/stats%00",
        "/admin/stats%0a",
        "/admin/stats%20",
        "/admin/stats;a=b",
        "/admin/stats.json",
        "/ADMIN/STATS",
        "/admin/%2573tats",
        "/admin\\stats",
        "/admin/stats#",
        "/admin/stats?x=/healthz",
        "http://t/admin/stats",
        "http://localhost/admin/stats",
        "http:///admin/stats",
        "/healthz?/../admin/stats",
        "/metrics/../admin/stats",
        "*",
        "admin/stats",
        "",
    ] {
        for (method, lines) in [
            ("GET", ""),
            ("HEAD", ""),
            ("OPTIONS", ""),
            ("TRACE", ""),
            ("GET", "X-Original-URL: /admin/stats\r\n"),
            ("GET", "X-Rewrite-URL: /admin/stats\r\n"),
            ("GET", "X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n"),
            ("POST", "X-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n"),
        ] {
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{lines}\r\n");
            let answer = server.raw(head.as_bytes());
            // A probe with an odd query is a probe.
            if path.starts_with("/healthz?") && answer.status == 200 {
                assert!(!answer.body.contains("deliveries"), "{method} {path}: {answer:?}");
                continue;
            }
            let refused = matches!(answer.status, 400 | 401 | 404 | 405);
            assert!(refused, "{method} {path} {lines}: {answer:?}");
            assert!(!answer.body.contains("secret-event"), "{method} {path}: {answer:?}");
        }
    }
    let nul = b"GET /admin/sta\0ts HTTP/1.1\r\nHost: t\r\n\r\n";
    assert!(matches!(statuses(&server, nul)[..], [400..=499]));
}

#[test]
fn the_token_is_taken_whole_and_once() {
    let site = Site::new();
    let server = site.serve();
    let short = &TOKEN[..TOKEN.len() - 1];
    for lines in [
        format!("Authorization: Bearer {short}\r\n"),
        format!("Authorization: Bearer {TOKEN}x\r\n"),
        format!("Authorization: Bearer {TOKEN}, Bearer x\r\n"),
        format!("Authorization: Bearer Bearer {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Bearer\t{TOKEN}\r\n"),
        format!("Authorization: Bearer {}\r\n", TOKEN.to_uppercase()),
        format!("Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer x\r\n"),
        format!("Authorization: Bearer x\r\nAuthorization: Bearer {TOKEN}\r\n"),
        format!("Cookie: token={TOKEN}\r\nX-Token: {TOKEN}\r\n"),
    ] {
        let head =
            format!("GET /admin/stats HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{lines}\r\n");
        server.raw(head.as_bytes()).problem(401);
    }
    assert!(!server.log().contains(short), "what was sent is not logged");
    assert_eq!(server.get("/admin/stats").status, 200);
}

#[test]
fn no_other_method_or_spelling_takes_an_unsigned_delivery() {
    let site = Site::new();
    let server = site.serve();
    let body = event("unsigned", "c1");
    for path in [
        "/webhooks/cognigy",
        "/webhooks//cognigy",
        "//webhooks/cognigy",
        "/webhooks/cognigy/",
        "/webhooks/%63ognigy",
        "/webhooks/cognigy%00",
        "/webhooks/x/../cognigy",
        "/webhooks/cognigy?replay=1",
        "/webhooks/replay/../cognigy",
        "http://t/webhooks/cognigy",
    ] {
        for method in [
            "POST",
            "PUT",
            "PATCH",
            "DELETE",
            "GET",
            "HEAD",
            "OPTIONS",
            "TRACE",
            "post",
            "PO\u{0}ST",
            "XYZ",
        ] {
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let answer = server.raw(&[head.as_bytes(), &body].concat());
            let refused = matches!(answer.status, 400 | 401 | 404 | 405);
            assert!(refused, "{method} {path}: {answer:?}");
        }
    }
    assert!(matches!(
        statuses(&server, b"CONNECT t:443 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")[..],
        [400..=499]
    ));
    assert_eq!(stored(&server), 0);
    still_serves(&server, "after");
}
