//! The operators' routes: the address and the spelling under which they are served, and that no
//! cache keeps their answers.

use std::net::SocketAddr;

use crate::{
    common::{Answer, Server, Site, TOKEN, event, signature},
    still_serves,
};

fn ask(server: &Server, address: SocketAddr, request: &str) -> Answer {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let (line, rest) = request.split_once("\r\n").unwrap_or((request, ""));
    let head = format!(
        "{line} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n\
         Authorization: Bearer {TOKEN}\r\n{rest}\r\n"
    );
    let _ = stream.write_all(head.as_bytes());
    assert_ne!(server.id(), 0);
    Answer::read(stream)
}

const ROUTES: [&str; 13] = [
    "GET /admin/stats",
    "GET /admin/events",
    "GET /admin/events/e1",
    "POST /admin/replays",
    "GET /admin/replays/1",
    "GET /admin/quarantine",
    "GET /admin/audit",
    "GET /admin/openapi.json",
    "POST /admin/sources/cognigy/resume",
    "POST /admin/quarantine/1/retry",
    "POST /webhooks/replay/e1",
    "GET /webhooks/replay/e1",
    "GET /metrics",
];

#[test]
fn operators_have_a_listener_of_their_own_where_one_is_set() {
    let mut site = Site::new();
    site.set("COGNIGY_ADMIN_LISTEN", "127.0.0.1:0").set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    let (public, private) = (server.address, server.operators.expect("it is in the log"));
    let body = event("e1", "c1");
    assert_eq!(server.deliver(&body).status, 200);
    for route in ROUTES {
        let nothing = "There is nothing at this path";
        assert_eq!(ask(&server, public, route).problem(404), nothing, "{route}");
        let answer = ask(&server, private, route);
        assert!(!answer.body.contains(nothing), "{route}: {answer:?}");
    }
    assert_eq!(ask(&server, private, "GET /admin/events/e1").status, 200);
    assert_eq!(ask(&server, private, "HEAD /metrics").status, 200);
    for address in [public, private] {
        for probe in ["GET /healthz", "HEAD /healthz", "GET /readyz", "HEAD /readyz"] {
            assert_eq!(ask(&server, address, probe).status, 200, "{probe}");
        }
    }
    let delivery = format!("POST /webhooks/cognigy\r\nX-Cognigy-Signature: {}\r\n", signature(b""));
    ask(&server, private, &delivery).problem(404);
    assert_eq!(server.deliver(&body).body, r#"{"status":"accepted","duplicate":true}"#);
    assert_eq!(server.terminate(), Some(0));
    // An address in use stops the start, with the address in the error.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    site.set("COGNIGY_ADMIN_LISTEN", &address);
    let output = site.run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[test]
fn a_path_that_is_spelt_otherwise_is_not_found() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "e1");
    for path in [
        "/%61dmin/stats",
        "/%6detrics",
        "/metric%73",
        "/%68ealthz",
        "/r%65adyz",
        "//admin/stats",
        "/admin//stats",
        "/admin/./stats",
        "/./admin/stats",
        "/admin/../admin/stats",
        "/admin/stats/",
        "/admin/stats;a=b",
        "/admin;a=b/stats",
        "/admin/st%61ts",
        "/admin%2fstats",
        "/admin%2Fevents%2Fe1",
        "/%61dmin/events/e1",
        "/admin/%65vents/e1",
        "/admin/replays/%31",
        "/webhooks/%72eplay/e1",
        "/webhooks//replay/e1",
        "/ADMIN/stats",
        "/Metrics",
    ] {
        let answer = ask(&server, server.address, &format!("GET {path}"));
        let detail = answer.problem(404);
        assert_eq!(detail, "There is nothing at this path", "{path}");
    }
    let body = event("e2", "c1");
    for path in ["/%77ebhooks/cognigy", "/webhooks/cogn%69gy", "/webhooks%2Fcognigy"] {
        let signed = [("X-Cognigy-Signature", &*signature(&body))];
        server.post(path, &signed, &body).problem(404);
    }
    // An event's id may contain any character, and the path encodes it.
    for path in ["/admin/events/%651", "/admin/events/e1", "/admin/events/e%31"] {
        let answer = ask(&server, server.address, &format!("GET {path}"));
        assert_eq!(answer.json()["event_id"], "e1", "{path}");
    }
    assert_eq!(ask(&server, server.address, "GET /metrics").status, 200);
}

#[test]
fn nothing_that_operators_are_told_is_kept_on_the_way() {
    let mut site = Site::new();
    let no_store = |answer: &Answer, what: &str| {
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{what}");
    };
    let server = site.serve();
    still_serves(&server, "e1");
    for route in ROUTES {
        no_store(&ask(&server, server.address, route), route);
        let (method, path) = route.split_once(' ').unwrap();
        no_store(&server.request(method, path, &[("Content-Length", "0")], b""), route);
        no_store(&ask(&server, server.address, &format!("PUT {path}")), route);
    }
    for path in ["/admin", "/admin/nothing", "/%61dmin/stats", "/healthz", "/readyz"] {
        no_store(&ask(&server, server.address, &format!("GET {path}")), path);
    }
    drop(server);
    site.set("COGNIGY_ADMIN_TOKEN", "");
    let server = site.serve();
    no_store(&ask(&server, server.address, "GET /admin/stats"), "closed");
}
