//! The real server is killed, at chosen moments and at random ones. What it acknowledged is stored,
//! what it did not acknowledge can be sent again, and the next server does the work in progress.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{BTreeSet, HashMap},
    io::Write,
    net::TcpStream,
    thread,
    time::Duration,
};

use cognigy_fault_disk::{Dice, Effect, Entry, Fault, FileKind, Operation, Recorder};
use common::{
    Answer, Server,
    bench::{Bench, deliver_until_the_end, integrity, request, stored},
    crm::Crm,
    event, eventually,
    moto::Moto,
    signature,
};
use serde_json::{Value, json};

/// Delivers `count` events to a server that dies meanwhile. Yields the ids that were answered with
/// 200.
fn deliver_to_the_dying(server: &Server, count: u64) -> BTreeSet<String> {
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn(move || {
                    // The pause makes them more than one group.
                    thread::sleep(Duration::from_millis(3 * number));
                    let id = format!("e{number}");
                    let mut stream = TcpStream::connect(server.address).ok()?;
                    stream.write_all(&request(&id)).ok()?;
                    (Answer::read(stream).status == 200).then_some(id)
                })
            })
            .collect();
        waiting.into_iter().filter_map(|sender| sender.join().unwrap()).collect()
    })
}

#[test]
fn death_around_a_commit_never_belies_an_answer() {
    let wal = FileKind::WAL;
    // Before the write; between the write and its sync; between the sync and the answer; and the
    // same inside a group of many events.
    for (what, operations, effect, nth, many) in [
        ("before the write", Operation::WRITE, Effect::DieBefore, 1, 1),
        ("in the middle of the write", Operation::WRITE, Effect::DieAfter, 3, 1),
        ("before the sync", Operation::SYNC, Effect::DieBefore, 1, 1),
        ("before the answer", Operation::SYNC, Effect::DieAfter, 1, 1),
        ("in a group", Operation::WRITE, Effect::DieAfter, 25, 40),
        ("between groups", Operation::SYNC, Effect::DieAfter, 2, 40),
    ] {
        let bench = Bench::new();
        let mut server = bench.serve();
        let fault = Fault { effect, ..Fault::once(operations, wal, 0, nth) };
        bench.injector.arm(fault).unwrap();
        let answered = deliver_to_the_dying(&server, many);
        server.kill_if_alive();
        assert_eq!(bench.injector.fired().unwrap(), 1, "{what}: it died there");
        bench.injector.disarm().unwrap();
        let there = stored(&bench.sql());
        assert!(answered.is_subset(&there), "{what}: {answered:?} of {there:?}");
        let sent = usize::try_from(many).unwrap();
        if many == 1 {
            assert!(answered.is_empty(), "{what}: nobody was answered");
            if what == "before the answer" {
                assert_eq!(there.len(), 1, "the event is there all the same");
            }
        }
        // Every sender without an answer sends again, and each event is stored once.
        let server = bench.serve();
        for number in 0..many {
            let id = format!("e{number}");
            let answer = server.deliver(&event(&id, "c1")).json();
            assert_eq!(answer.get("duplicate").is_some(), there.contains(&id), "{what}, {id}");
        }
        assert_eq!(stored(&bench.sql()).len(), sent);
        assert_eq!(integrity(&bench.sql()), "ok");
    }
}

#[test]
fn death_before_the_body_is_whole_leaves_nothing() {
    let bench = Bench::new();
    let mut server = bench.serve();
    let body = event("e1", "c1");
    let mut stream = server.connect();
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: test\r\nX-Cognigy-Signature: {}\r\n\
         Content-Length: {}\r\n\r\n",
        signature(&body),
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body[..body.len() / 2]].concat()).unwrap();
    thread::sleep(Duration::from_millis(100));
    server.kill();
    assert_eq!(Answer::read(stream).status, 0, "no answer");
    assert!(stored(&bench.sql()).is_empty());
    assert_eq!(bench.serve().deliver(&body).body, r#"{"status":"accepted"}"#);
}

#[test]
fn death_between_the_crm_s_answer_and_its_storing_repeats_under_the_same_key() {
    let crm = Crm::start();
    crm.delay(Duration::from_millis(500));
    let mut bench = Bench::new();
    bench.site.set("COGNIGY_WORKER", "on").set("CRM_BASE_URL", crm.url());
    bench.site.set("COGNIGY_LEASE", "2s");
    let mut server = bench.serve();
    server.deliver(&event("e1", "c1"));
    eventually("the CRM is asked", || (crm.requests().len() == 1).then_some(()));
    // The next write is the end of the run, since the lease is not due for renewal yet.
    let fault = Fault::once(Operation::WRITE, FileKind::WAL, 0, 1);
    bench.injector.arm(Fault { effect: Effect::DieBefore, ..fault }).unwrap();
    eventually("it dies", || server.has_ended().then_some(()));
    assert_eq!(bench.injector.fired().unwrap(), 1);
    bench.injector.disarm().unwrap();

    let server = bench.serve();
    let event = server.wait_for("e1", "processed");
    assert_eq!(event["attempts"][0]["outcome"], "lease_expired");
    let key = |request: &String| {
        let mut lines = request.lines();
        lines.find(|line| line.to_lowercase().starts_with("idempotency-key")).unwrap().to_owned()
    };
    let keys: BTreeSet<_> = crm.requests().iter().map(key).collect();
    assert_eq!((crm.requests().len(), keys.len()), (2, 1), "asked twice, under one key");
}

#[test]
fn death_between_the_queue_s_answer_and_its_storing_sends_the_same_letter_again() {
    let (crm, moto) = (Crm::start(), Moto::start());
    crm.answer(400, "");
    crm.delay(Duration::from_millis(500));
    let queue = moto.queue("dead");
    let mut bench = Bench::new();
    bench.site.set("COGNIGY_WORKER", "on").set("CRM_BASE_URL", crm.url());
    bench.site.set("COGNIGY_LEASE", "3s");
    moto.configure(&mut bench.site, &queue);
    let mut server = bench.serve();
    server.deliver(&event("e1", "c1"));
    eventually("the CRM is asked", || (crm.requests().len() == 1).then_some(()));
    // The queue delays its answer until the dead letter is claimed.
    moto.pause();
    eventually("the letter is claimed", || {
        let claimed = "SELECT count(*) FROM outbox WHERE fence > 0";
        let count: i64 = bench.sql().query_row(claimed, [], |row| row.get(0)).unwrap();
        (count == 1).then_some(())
    });
    let fault = Fault::once(Operation::WRITE, FileKind::WAL, 0, 1);
    bench.injector.arm(Fault { effect: Effect::DieBefore, ..fault }).unwrap();
    moto.resume();
    eventually("it dies", || server.has_ended().then_some(()));
    assert_eq!(bench.injector.fired().unwrap(), 1);
    bench.injector.disarm().unwrap();
    assert_eq!(moto.count(&queue), 1, "the queue had taken it");

    let server = bench.serve();
    server.wait_for("e1", "dead_lettered");
    let messages = moto.drain(&queue);
    let ids: BTreeSet<_> = messages
        .iter()
        .map(|message| serde_json::from_str::<Value>(message["Body"].as_str().unwrap()).unwrap())
        .map(|letter| letter["eventId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((messages.len(), ids.len()), (2, 1), "at least once, the same letter");
}

#[test]
fn death_in_the_middle_of_a_bulk_replay_repeats_a_handful_and_the_next_start_goes_on() {
    let crm = Crm::start();
    let mut bench = Bench::new();
    bench.site.set("COGNIGY_WORKER", "on").set("CRM_BASE_URL", crm.url());
    // The events that were running at the death stay claimed for as long.
    bench.site.set("COGNIGY_LEASE", "3s");
    let mut server = bench.serve();
    const EVENTS: usize = 300;
    for number in 0..EVENTS {
        assert_eq!(server.deliver(&event(&format!("e{number}"), "c1")).status, 200);
    }
    eventually("all are processed", || {
        (server.stats()["events"]["processed"] == EVENTS).then_some(())
    });
    let fault = Fault::once(Operation::SYNC, FileKind::WAL, 0, 60);
    bench.injector.arm(Fault { effect: Effect::DieAfter, ..fault }).unwrap();
    let begun = server.operate("POST", "/admin/replays", br#"{"status":"processed"}"#);
    assert_eq!((begun.status, &begun.json()["total"]), (202, &json!(EVENTS)));
    let path = format!("/admin/replays/{}", begun.json()["id"].as_str().unwrap());
    eventually("it dies", || server.has_ended().then_some(()));
    bench.injector.disarm().unwrap();
    let runs = || -> usize {
        let sql = "SELECT sum(run - 1) FROM events";
        let count: i64 = bench.sql().query_row(sql, [], |row| row.get(0)).unwrap();
        usize::try_from(count).unwrap()
    };
    assert!((1..EVENTS).contains(&runs()), "{} of {EVENTS}: in the middle", runs());

    let mut server = bench.serve();
    let ended = eventually("the next start goes on", || {
        let progress = server.get(&path).json();
        (progress["state"] == "done").then_some(progress)
    });
    assert_eq!((&ended["done"], &ended["succeeded"]), (&json!(EVENTS), &json!(EVENTS)), "{ended}");
    assert!((EVENTS..=EVENTS + 16).contains(&runs()), "{} runs of {EVENTS}", runs());

    // A stop repeats none, and a cancel leaves none.
    let before = runs();
    let slow = br#"{"status":"processed","rate":20}"#;
    let begun = server.operate("POST", "/admin/replays", slow).json();
    let path = format!("/admin/replays/{}", begun["id"].as_str().unwrap());
    eventually("some were run", || (server.get(&path).json()["done"] != 0).then_some(()));
    assert_eq!(server.terminate(), Some(0));
    let server = bench.serve();
    let at_the_stop = server.get(&path).json()["done"].as_u64().unwrap();
    eventually("it goes on", || {
        (server.get(&path).json()["done"].as_u64().unwrap() > at_the_stop).then_some(())
    });
    assert_eq!(server.operate("DELETE", &path, b"").status, 200);
    let ended = eventually("it has ended", || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let progress = server.get(&path).json();
        (progress["done"] == progress["total"]).then_some(progress)
    });
    assert_eq!(ended["state"], "cancelled");
    assert_eq!(runs() - before, usize::try_from(ended["done"].as_u64().unwrap()).unwrap());
    assert_eq!(server.stats()["events"]["waiting"], 0);
}

#[test]
fn kill_9_again_and_again_under_load_loses_nothing_and_leaves_nothing_stuck() {
    let crm = Crm::start();
    let mut bench = Bench::new();
    bench.site.set("COGNIGY_WORKER", "on").set("CRM_BASE_URL", crm.url());
    bench.site.set("COGNIGY_LEASE", "2s").set("COGNIGY_LOG", "info");
    let rounds = std::env::var("COGNIGY_CRASH_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    let mut dice = Dice::new(1);
    let mut answered = BTreeSet::new();
    for round in 0..rounds {
        let mut server = bench.serve();
        let address = server.address;
        answered.extend(thread::scope(|scope| {
            let deliver =
                move |sender| deliver_until_the_end(address, &format!("{round}-{sender}"));
            let senders: Vec<_> =
                (0..4).map(|sender| scope.spawn(move || deliver(sender))).collect();
            thread::sleep(Duration::from_millis(u64::try_from(dice.roll(300)).unwrap()));
            server.kill();
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect::<Vec<_>>()
        }));
        assert_eq!(integrity(&bench.sql()), "ok", "round {round}");
    }
    let stored = stored(&bench.sql());
    assert!(answered.is_subset(&stored), "{:?}", answered.difference(&stored).next());
    assert!(answered.len() > rounds * 5, "{} answers", answered.len());
    let server = bench.serve();
    eventually("everything has ended", || {
        (server.stats()["by_status"]["processed"] == stored.len()).then_some(())
    });
    println!("{rounds} kills, {} answers, {} events", answered.len(), stored.len());
}

/// How many of the 200s were sent after a sync of the log that contained their event, and how many
/// were not.
fn order_of_answers(recorder: &Recorder, bench: &Bench) -> (usize, usize) {
    let mut command = bench.site.command(&["serve"]);
    recorder.attach(&mut command, &bench.data);
    let mut server = Server::start(command);
    for number in 0..20 {
        assert_eq!(server.deliver(&event(&format!("single-{number}"), "c1")).status, 200);
    }
    thread::scope(|scope| {
        for sender in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for number in 0..10 {
                    let id = format!("many-{sender}-{number}");
                    assert_eq!(server.deliver(&event(&id, "c1")).status, 200);
                }
            });
        }
    });
    server.kill();

    let mut wal = BTreeSet::new();
    let (mut heard, mut waiting) = (HashMap::new(), Vec::new());
    let mut synced = BTreeSet::new();
    let (mut right, mut wrong) = (0, 0);
    let name = |data: &[u8]| -> Option<String> {
        let text = String::from_utf8_lossy(data);
        let (_, rest) = text.split_once(r#""eventId":""#)?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    for entry in recorder.finish().unwrap().entries {
        match entry {
            Entry::Opened { file, name, .. } if name.ends_with("-wal") => {
                wal.insert(file);
            }
            // A frame's page may contain several bodies.
            Entry::Wrote { file, data, .. } if wal.contains(&file) => {
                let text = String::from_utf8_lossy(&data).into_owned();
                let parts = text.split(r#""eventId":""#).skip(1);
                waiting.extend(parts.filter_map(|part| Some(part.split_once('"')?.0.to_owned())));
            }
            Entry::Synced { file } if wal.contains(&file) => synced.extend(waiting.drain(..)),
            Entry::Received { socket, data } => {
                if let Some(id) = name(&data) {
                    heard.insert(socket, id);
                }
            }
            Entry::Sent { socket, data } if data.starts_with(b"HTTP/1.1 200") => {
                let id: String = heard.remove(&socket).expect("an answer to a delivery");
                if synced.contains(&id) { right += 1 } else { wrong += 1 }
            }
            _ => {}
        }
    }
    (right, wrong)
}

#[test]
fn the_sync_comes_before_the_answer() {
    let place = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(&place.path().join("log")).with_sockets();
    assert_eq!(order_of_answers(&recorder, &Bench::new()), (100, 0));
    // The check finds an answer that comes before its sync.
    let recorder = Recorder::new(&place.path().join("other")).with_sockets();
    let forgetful = recorder.forgetting_wal_syncs();
    assert_eq!(order_of_answers(&forgetful, &Bench::new()), (0, 100));
}

#[test]
fn a_stop_under_load_keeps_every_answer() {
    let bench = Bench::new();
    let mut server = bench.serve();
    let (answered, status) = thread::scope(|scope| {
        let address = server.address;
        let deliver = move |sender| deliver_until_the_end(address, &format!("e{sender}"));
        let senders: Vec<_> = (0..4).map(|sender| scope.spawn(move || deliver(sender))).collect();
        thread::sleep(Duration::from_millis(500));
        let status = server.terminate();
        let answered = senders.into_iter().flat_map(|sender| sender.join().unwrap());
        (answered.collect::<BTreeSet<_>>(), status)
    });
    assert_eq!(status, Some(0));
    let stored = stored(&bench.sql());
    assert!(answered.is_subset(&stored), "{:?}", answered.difference(&stored).next());
    assert!(answered.len() > 20, "{} answers", answered.len());
}
