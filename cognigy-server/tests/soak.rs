//! Everything at once: load, `kill -9`, a CRM and a queue that fail in every way, and replays. Then
//! a quiet time, and an account of every event. It takes a few seconds in `./scripts/test`, and a
//! chosen time in `./scripts/prove soak`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use cognigy_fault_disk::Dice;
use cognigy_test_postgres::Cluster;
use common::{Server, Site, crm::Crm, event, eventually, moto::Moto, post_signed};
use serde_json::Value;

/// Stored events by their id: state and body.
type Events = BTreeMap<String, (String, Vec<u8>)>;

const QUEUE: &str = "dead";
const SENDERS: usize = 4;
/// No work waits longer for its next try than a dead letter whose queue was down: a minute.
const STUCK_AFTER: Duration = Duration::from_secs(180);

/// While so many dead letters are unsent, the CRM does not fail. The emulator of the queue takes
/// some fifty a second, and for an hour it must not be offered more than that.
const MOST_LETTERS: usize = 500;

/// What the CRM answers, chosen at random: status, body, delay.
const MOODS: [(u16, &str, Duration); 8] = [
    (200, r#"{"id":"crm-1"}"#, Duration::ZERO),
    (200, r#"{"id":"crm-1"}"#, Duration::from_millis(100)),
    (404, "", Duration::ZERO),
    (400, "no", Duration::ZERO),
    (200, "garbage", Duration::ZERO),
    (302, "", Duration::ZERO),
    (503, "busy", Duration::ZERO),
    // Longer than CRM_TIMEOUT.
    (200, r#"{"id":"crm-1"}"#, Duration::from_millis(900)),
];

/// What senders were answered.
#[derive(Default)]
struct Told {
    answered: BTreeSet<String>,
    /// Events that were sent and never answered with 200. Each may be stored or not.
    unsure: BTreeSet<String>,
}

struct World {
    site: Site,
    crm: Crm,
    address: Mutex<SocketAddr>,
    told: Mutex<Told>,
    stop: AtomicBool,
    duplicates: AtomicU64,
    replays: AtomicU64,
}

fn contact(id: &str) -> String {
    format!("contact-of-{id}")
}

impl World {
    /// Posts new events, and sometimes a known one again, until the test stops it.
    fn send(&self, sender: usize) {
        let mut dice = Dice::new(sender as u64);
        for number in 0.. {
            if self.stop.load(Relaxed) {
                return;
            }
            let known = (dice.roll(8) == 0).then(|| self.pick(&mut dice)).flatten();
            let again = known.is_some();
            let id = known.unwrap_or_else(|| format!("s{sender}-{number}"));
            let status = post_signed(*self.address.lock().unwrap(), &event(&id, &contact(&id)));
            let mut told = self.told.lock().unwrap();
            match status {
                200 if again => {
                    self.duplicates.fetch_add(1, Relaxed);
                }
                200 => {
                    told.answered.insert(id);
                }
                0 | 503 if again => {}
                0 | 503 => {
                    told.unsure.insert(id);
                }
                other => panic!("{id} was answered with {other}"),
            }
            drop(told);
            // The load is limited: the test does not measure the rate, and it has to read
            // everything back.
            thread::sleep(Duration::from_millis(if status == 200 { 4 } else { 50 }));
        }
    }

    fn pick(&self, dice: &mut Dice) -> Option<String> {
        let told = self.told.lock().unwrap();
        told.answered.iter().nth(dice.roll(told.answered.len())).cloned()
    }

    /// Replays single events, and sometimes all dead-lettered ones.
    fn replay(&self) {
        let mut dice = Dice::new(99);
        while !self.stop.load(Relaxed) {
            thread::sleep(Duration::from_millis(100));
            let Some(id) = self.pick(&mut dice) else { continue };
            let (path, body) = match dice.roll(20) {
                0 => ("/admin/replays".to_owned(), r#"{"status":"dead_lettered"}"#),
                _ => (format!("/webhooks/replay/{id}"), ""),
            };
            let address = *self.address.lock().unwrap();
            // Only answered requests count, since the server may be down.
            if [200, 202, 409, 500].contains(&common::operate_at(address, "POST", &path, body)) {
                self.replays.fetch_add(1, Relaxed);
            }
        }
    }

    fn serve(&self) -> Server {
        let server = self.site.serve();
        *self.address.lock().unwrap() = server.address;
        server
    }

    /// Every row, and how many dead letters each event has had.
    fn rows(&self) -> (Events, BTreeMap<String, usize>) {
        let events = "SELECT event_id, status, raw_payload FROM webhook_events";
        let prefix = if self.site.postgres.is_some() { "cognigy_" } else { "" };
        let letters = format!(
            "SELECT event_id, count(*), '' FROM {prefix}outbox AS letter
             JOIN {prefix}events AS events ON events.id = letter.event GROUP BY event_id"
        );
        let events = self.query(events).into_iter();
        let letters = self.query(&letters).into_iter();
        (
            events.map(|[id, status, body]| (id, (status, body.into_bytes()))).collect(),
            letters.map(|[id, count, _]| (id, count.parse().unwrap())).collect(),
        )
    }

    fn query(&self, sql: &str) -> Vec<[String; 3]> {
        if let Some(database) = &self.site.postgres {
            let text = Cluster::shared().sql(database, sql);
            let split = |line: &str| {
                let mut parts = line.splitn(3, '|').map(str::to_owned);
                [0; 3].map(|_| parts.next().expect("three columns"))
            };
            return text.lines().map(split).collect();
        }
        let database = rusqlite::Connection::open(self.site.database()).unwrap();
        let mut select = database.prepare(&format!(
            "SELECT CAST(a AS TEXT), CAST(b AS TEXT), CAST(c AS TEXT)
             FROM (SELECT '' AS a, '' AS b, '' AS c WHERE false UNION ALL {sql})"
        ));
        let rows = select
            .as_mut()
            .unwrap()
            .query_map([], |row| Ok([row.get::<_, String>(0)?, row.get(1)?, row.get(2)?]));
        rows.unwrap().map(Result::unwrap).collect()
    }
}

/// Takes all messages out of the queue. Yields them by event.
fn drain(moto: &Moto, queue: &str, received: &mut BTreeMap<String, usize>) {
    loop {
        let messages = moto.drain(queue);
        if messages.is_empty() {
            return;
        }
        for message in messages {
            let body: Value = serde_json::from_str(message["Body"].as_str().unwrap()).unwrap();
            let id = body["eventId"].as_str().unwrap().to_owned();
            let sent: Value = serde_json::from_slice(&event(&id, &contact(&id))).unwrap();
            assert_eq!(body["rawPayload"], sent, "{id}, as it was sent");
            *received.entry(id).or_default() += 1;
        }
    }
}

#[test]
fn everything_at_once_and_every_event_is_accounted_for() {
    let seconds = std::env::var("COGNIGY_SOAK_SECONDS").map_or(10, |text| text.parse().unwrap());
    let postgres = std::env::var("COGNIGY_SOAK_DATABASE").is_ok_and(|name| name == "postgres");
    let crm = Crm::start();
    let mut moto = Some(Moto::start());
    let port = moto.as_ref().unwrap().port();
    let queue = moto.as_ref().unwrap().queue(QUEUE);
    let mut site = if postgres { Site::on_postgres(Cluster::shared()) } else { Site::on_file() };
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_TIMEOUT", "500ms")
        .set("COGNIGY_LEASE", "2s")
        .set("COGNIGY_RETRY_MAX_ATTEMPTS", "3")
        .set("COGNIGY_RETRY_MAX_DELAY", "1s")
        .set("COGNIGY_LOG", "info");
    moto.as_ref().unwrap().configure(&mut site, &queue);
    let world = World {
        site,
        crm,
        address: Mutex::new(([127, 0, 0, 1], 9).into()),
        told: Mutex::default(),
        stop: AtomicBool::new(false),
        duplicates: AtomicU64::new(0),
        replays: AtomicU64::new(0),
    };
    let mut server = world.serve();
    let mut received = BTreeMap::new();
    let (mut kills, mut pauses, mut outages) = (0, 0, 0);
    let mut dice = Dice::new(7);
    thread::scope(|scope| {
        let world = &world;
        let _stop = StopAtTheEnd(&world.stop);
        for sender in 0..SENDERS {
            scope.spawn(move || world.send(sender));
        }
        scope.spawn(move || world.replay());
        let end = Instant::now() + Duration::from_secs(seconds);
        for round in 0.. {
            if Instant::now() > end {
                break;
            }
            let mood = dice.roll(MOODS.len());
            let (status, body, delay) = MOODS[if world.unsent() > MOST_LETTERS { 0 } else { mood }];
            world.crm.answer(status, body);
            world.crm.delay(delay);
            let pause = Duration::from_millis(100 + dice.roll(1500) as u64);
            // The queue answers, then takes connections without answering for a while, then is
            // down, and so on.
            if round % 3 == 1
                && let Some(moto) = &moto
            {
                moto.pause();
                pauses += 1;
                thread::sleep(pause);
                moto.resume();
            } else {
                thread::sleep(pause);
            }
            assert!(!server.has_ended(), "it ended by itself: {}", server.log());
            server.kill();
            kills += 1;
            // While the server is down no message is sent, so that the emulator's memory holds all
            // that it confirmed. It can be read, and the emulator be killed.
            if round % 3 == 2 {
                drain(moto.as_ref().unwrap(), &queue, &mut received);
                drop(moto.take());
                outages += 1;
                server = world.serve();
                thread::sleep(pause);
                moto = Some(Moto::start_on(port));
                assert_eq!(moto.as_ref().unwrap().queue(QUEUE), queue);
            } else {
                server = world.serve();
            }
        }
    });

    // The quiet time: nothing fails any more, and all work has to end by itself.
    let (status, body, delay) = MOODS[0];
    world.crm.answer(status, body);
    world.crm.delay(delay);
    let quiet = Instant::now();
    let (mut least, mut since) = (u64::MAX, quiet);
    loop {
        // An emulator that holds tens of thousands of messages takes seconds for each.
        drain(moto.as_ref().unwrap(), &queue, &mut received);
        let by_status = server.stats()["by_status"].clone();
        let waiting: u64 = ["pending", "processing", "dead_lettering"]
            .iter()
            .map(|status| by_status[status].as_u64().unwrap_or(0))
            .sum();
        if waiting == 0 && world.unsent() == 0 {
            break;
        }
        // After an hour of faults tens of thousands of dead letters may be on their way: the test
        // waits while their number falls.
        if waiting < least {
            (least, since) = (waiting, Instant::now());
        }
        assert!(since.elapsed() < STUCK_AFTER, "something is stuck: {by_status}");
        thread::sleep(Duration::from_millis(100));
    }
    let ended_after = quiet.elapsed();
    assert_eq!(server.terminate(), Some(0));
    eventually("the queue is read", || {
        drain(moto.as_ref().unwrap(), &queue, &mut received);
        (moto.as_ref().unwrap().count(&queue) == 0).then_some(())
    });

    let told = std::mem::take(&mut *world.told.lock().unwrap());
    let (rows, letters) = world.rows();
    for id in &told.answered {
        assert!(rows.contains_key(id), "{id} was answered for and is gone");
    }
    let asked: BTreeSet<String> =
        world.crm.requests().iter().filter_map(|request| asked_for(request)).collect();
    let mut ends = BTreeMap::<&str, usize>::new();
    for (id, (status, body)) in &rows {
        assert!(told.answered.contains(id) || told.unsure.contains(id), "nobody sent {id}");
        assert_eq!(body, &event(id, &contact(id)), "{id}, byte for byte");
        assert!(["processed", "dead_lettered"].contains(&status.as_str()), "{id} is {status}");
        // According to the CRM's own log. An event that was given up may have lost its worker each
        // time before.
        assert!(
            status != "processed" || asked.contains(&contact(id)),
            "{id}: the CRM was not asked"
        );
        assert!(status == "processed" || letters.contains_key(id), "{id} has no dead letter");
        *ends.entry(status).or_default() += 1;
    }
    for (id, count) in &letters {
        let arrived = received.get(id).copied().unwrap_or_default();
        assert!(arrived >= *count, "{id} was given up {count} times, {arrived} messages came");
    }
    for id in received.keys() {
        assert!(letters.contains_key(id), "a message of {id}, which was never given up");
    }
    assert!(kills > 2 && pauses > 0 && outages > 0, "every fault struck");
    assert!(!letters.is_empty() && world.replays.load(Relaxed) > 0);
    println!(
        "{seconds} s on {}: {} answered with 200 and {} not, {} duplicates, {} replays, {kills} \
         kills, {pauses} silences and {outages} losses of the queue; {} stored ({ends:?}), {} dead \
         letters, {} messages; at rest after {ended_after:.1?}",
        if postgres { "PostgreSQL" } else { "SQLite" },
        told.answered.len(),
        told.unsure.len(),
        world.duplicates.load(Relaxed),
        world.replays.load(Relaxed),
        rows.len(),
        letters.values().sum::<usize>(),
        received.values().sum::<usize>(),
    );
}

/// The contact that a request to the CRM asked for.
fn asked_for(request: &str) -> Option<String> {
    let (_, rest) = request.split_once("external_id=")?;
    Some(rest.split([' ', '&']).next()?.to_owned())
}

impl World {
    /// Dead letters that wait for the queue; a replay can leave one behind an event that has ended.
    fn unsent(&self) -> usize {
        let prefix = if self.site.postgres.is_some() { "cognigy_" } else { "" };
        let sql = format!("SELECT count(*), '', '' FROM {prefix}outbox WHERE due_at IS NOT NULL");
        self.query(&sql)[0][0].parse().unwrap()
    }
}

/// Stops the senders when the test ends, even if it fails.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
