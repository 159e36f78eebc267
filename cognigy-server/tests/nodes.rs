//! Several servers on one PostgreSQL database, and what happens when one of them, or the database,
//! fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cognigy_test_postgres::{Cluster, Stop};
use common::{Server, Site, crm::Crm, event, eventually};

/// Servers on one database, with one CRM.
struct Nodes {
    site: Site,
    crm: Crm,
}

impl Nodes {
    fn new(lease: &str) -> Self {
        Self::in_cluster(Cluster::shared(), lease)
    }

    fn in_cluster(cluster: &Cluster, lease: &str) -> Self {
        let crm = Crm::start();
        let mut site = Site::on_postgres(cluster);
        site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_LEASE", lease);
        Self { site, crm }
    }

    /// How often the CRM was asked for each run of an event.
    fn asked(&self) -> HashMap<String, u32> {
        let mut asked = HashMap::new();
        for request in self.crm.requests() {
            let key =
                request.lines().find(|line| line.to_lowercase().starts_with("idempotency-key"));
            *asked.entry(key.unwrap().to_owned()).or_default() += 1;
        }
        asked
    }
}

fn processed(server: &Server) -> u64 {
    server.stats()["events"]["processed"].as_u64().unwrap()
}

#[test]
fn four_servers_share_the_work_and_run_each_event_once() {
    let nodes = Nodes::new("60s");
    let servers: Vec<_> = (0..4).map(|_| nodes.site.serve()).collect();
    let senders = 8;
    std::thread::scope(|scope| {
        for sender in 0..senders {
            let servers = &servers;
            scope.spawn(move || {
                for number in 0..50 {
                    let body =
                        event(&format!("e{sender}-{number}"), &format!("c{sender}-{number}"));
                    let [one, other] = [number % 4, (number + 1) % 4].map(|n: usize| &servers[n]);
                    assert_eq!(one.deliver(&body).status, 200);
                    assert!(other.deliver(&body).body.contains("duplicate"));
                }
            });
        }
    });
    eventually("all are processed", || (processed(&servers[0]) == 400).then_some(()));
    let asked = nodes.asked();
    assert_eq!(asked.len(), 400);
    assert!(asked.values().all(|times| *times == 1), "each was run once");
    for server in &servers {
        assert_eq!(server.stats()["events"]["total"], 400, "they all say the same");
    }
}

#[test]
fn what_a_killed_server_held_is_taken_over_within_a_lease() {
    let nodes = Nodes::new("5s");
    nodes.crm.delay(Duration::from_secs(60));
    let mut doomed = nodes.site.serve();
    for number in 0..20 {
        let body = event(&format!("e{number}"), &format!("c{number}"));
        assert_eq!(doomed.deliver(&body).status, 200);
    }
    eventually("the CRM is asked", || (nodes.crm.requests().len() == 20).then_some(()));
    nodes.crm.delay(Duration::ZERO);
    let other = nodes.site.serve();
    doomed.kill();
    let killed = Instant::now();
    eventually("all are processed", || (processed(&other) == 20).then_some(()));
    // A lease, a poll, and some time for the machine; less than a second lease.
    assert!(killed.elapsed() < Duration::from_millis(9500), "{:?}", killed.elapsed());
    let stored = other.event("e7");
    assert_eq!(stored["attempts"][0]["outcome"], "lease_expired");
    assert_eq!(stored["attempts"][1]["outcome"], "succeeded");
    assert!(nodes.asked().values().all(|times| *times == 2), "under one stable key each");
}

#[test]
fn a_server_that_slept_through_its_lease_changes_nothing_when_it_wakes() {
    let nodes = Nodes::new("1s");
    nodes.crm.delay(Duration::from_millis(1500));
    let sleeper = nodes.site.serve();
    sleeper.deliver(&event("e1", "c1"));
    eventually("the CRM is asked", || (nodes.crm.requests().len() == 1).then_some(()));
    sleeper.signal("STOP");
    nodes.crm.delay(Duration::ZERO);
    nodes.crm.answer(200, r#"{"id":"crm-1","name":"as the other server saw it"}"#);
    let other = nodes.site.serve();
    let stored = other.wait_for("e1", "processed");
    assert_eq!(stored["attempts"].as_array().unwrap().len(), 2);

    // The CRM answered it long ago, and its settlement is too late.
    sleeper.signal("CONT");
    eventually("it is told", || {
        let metrics = sleeper.request("GET", "/metrics", &[], b"").body;
        let lost = metrics.lines().find(|line| line.starts_with("cognigy_lost_leases_total"));
        (lost.unwrap() == r#"cognigy_lost_leases_total{source="cognigy"} 1"#).then_some(())
    });
    let log = eventually("the log names the event", || {
        let log = sleeper.log();
        log.lines().find(|line| line.contains("a lease was lost")).map(str::to_owned)
    });
    assert!(log.contains(r#""event_id":"e1""#), "{log}");
    assert_eq!(other.event("e1"), stored, "nothing has changed");
    // The server goes on working.
    sleeper.deliver(&event("e2", "c1"));
    sleeper.wait_for("e2", "processed");
}

/// Servers are killed at random moments and started again, while senders repeat each delivery until
/// it is acknowledged.
#[test]
fn servers_that_are_killed_again_and_again_lose_nothing_and_never_overlap() {
    let nodes = Nodes::new("1s");
    nodes.crm.delay(Duration::from_millis(10));
    let mut servers: Vec<_> = (0..3).map(|_| nodes.site.serve()).collect();
    let addresses =
        Arc::new(std::sync::Mutex::new(servers.iter().map(|s| s.address).collect::<Vec<_>>()));
    let stop = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (addresses, stop) = (Arc::clone(&addresses), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = format!("e{sender}-{number}");
                    let body = event(&id, "c1");
                    for attempt in 0_usize.. {
                        let address = addresses.lock().unwrap()[(number + attempt) % 3];
                        if common::post_signed(address, &body) == 200 {
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    acknowledged.push(id);
                    std::thread::sleep(Duration::from_millis(5));
                }
                acknowledged
            })
        })
        .collect();
    // No random numbers are needed: the servers are in another state each time.
    for round in 0..12_u64 {
        std::thread::sleep(Duration::from_millis(100 + (round * 137) % 300));
        let victim = (round % 3) as usize;
        servers[victim].kill();
        servers[victim] = nodes.site.serve();
        addresses.lock().unwrap()[victim] = servers[victim].address;
    }
    stop.store(true, Ordering::SeqCst);
    let acknowledged: Vec<String> =
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    eventually("all are processed", || {
        let left =
            nodes.site.sql("SELECT count(*) FROM webhook_events WHERE status <> 'processed'");
        (left == "0").then_some(())
    });
    let total = nodes.site.sql("SELECT count(*) FROM webhook_events");
    assert_eq!(total, acknowledged.len().to_string(), "one row for each");
    let lost =
        nodes.site.sql("SELECT count(*) FROM cognigy_attempts WHERE outcome = 'lease_expired'");
    assert_ne!(lost, "0", "some were killed at work");
    let overlapping = nodes.site.sql(
        "SELECT count(*) FROM cognigy_attempts AS one JOIN cognigy_attempts AS next
             ON next.event = one.event AND next.fence > one.fence
         WHERE next.started_at < one.started_at + one.duration_us * interval '1 microsecond'",
    );
    assert_eq!(overlapping, "0", "no attempt began while another was held");
    let repeated = nodes.site.sql(
        "SELECT count(*) FROM (SELECT 1 FROM cognigy_attempts WHERE outcome = 'succeeded'
                               GROUP BY event HAVING count(*) > 1) AS repeated",
    );
    assert_eq!(repeated, "0", "each succeeded once");
}

#[test]
fn senders_are_told_to_come_back_while_the_database_is_away() {
    let mut cluster = Cluster::start();
    let nodes = Nodes::in_cluster(&cluster, "5s");
    let (one, other) = (nodes.site.serve(), nodes.site.serve());
    let mut acknowledged = 0;
    for number in 0..20 {
        assert_eq!(one.deliver(&event(&format!("before-{number}"), "c1")).status, 200);
        acknowledged += 1;
    }
    cluster.stop(Stop::Immediate);
    for server in [&one, &other] {
        let asked = Instant::now();
        let answer = server.deliver(&event("meanwhile", "c1"));
        answer.problem(503);
        assert!(answer.header("retry-after").is_some());
        assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
        assert_eq!(server.request("GET", "/readyz", &[], b"").status, 503);
        assert_eq!(server.request("GET", "/healthz", &[], b"").status, 200);
    }
    cluster.start_again();
    for server in [&one, &other] {
        eventually("it is ready", || {
            (server.request("GET", "/readyz", &[], b"").status == 200).then_some(())
        });
    }
    for number in 0..20 {
        let server = if number % 2 == 0 { &one } else { &other };
        assert_eq!(server.deliver(&event(&format!("after-{number}"), "c1")).status, 200);
        acknowledged += 1;
    }
    eventually("all are processed", || (processed(&other) == acknowledged).then_some(()));
}

#[test]
fn a_database_url_that_does_not_work_stops_the_start_and_shows_no_password() {
    let mut site = Site::on_file();
    for (url, status) in [
        ("postgres://user:marked@127.0.0.1:9/db", 1),
        ("postgres://user:marked@127.0.0.1:port/db", 2),
        ("postgres//user:marked@127.0.0.1/db", 2),
    ] {
        site.set("COGNIGY_DATABASE_URL", url);
        let output = site.run(&["serve"]);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        let complaint = common::stderr(&output);
        assert!(complaint.contains("COGNIGY_DATABASE_URL"), "{complaint}");
        assert!(!complaint.contains("marked"), "{complaint}");
    }
}
