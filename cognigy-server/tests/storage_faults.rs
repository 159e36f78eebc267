//! The real server on a disk that fails, is full, is held by others or is gone: no false 200, other
//! requests served where possible, recovery without help.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cognigy_fault_disk::{Fault, FileKind, Operation};
use common::{
    Server, Site,
    bench::{Bench, integrity, is_ready, metric, refused, request, stored},
    crm::Crm,
    event, eventually, stderr,
};
use serde_json::json;

#[test]
fn a_disk_that_fails_means_503_and_the_server_recovers_by_itself() {
    let any = FileKind::ANY;
    for (what, fault) in [
        ("writes to the WAL fail", Fault::always(Operation::WRITE, FileKind::WAL, Fault::EIO)),
        ("syncs fail", Fault::always(Operation::SYNC, any, Fault::EIO)),
        ("the disk is full", Fault::always(Operation::CHANGE, any, Fault::ENOSPC)),
        ("it became read-only", Fault::always(Operation::CHANGE, any, Fault::EROFS)),
        ("nothing works", Fault::always(Operation::INPUT_OUTPUT, any, Fault::EIO)),
    ] {
        let bench = Bench::new();
        let mut server = bench.serve();
        let mut answered = BTreeSet::new();
        let mut deliver = |server: &Server, id: &str| {
            let answer = server.deliver(&event(id, "c1"));
            if answer.status == 200 {
                answered.insert(id.to_owned());
            }
            answer
        };
        assert_eq!(deliver(&server, "before").status, 200);
        bench.injector.arm(fault).unwrap();
        for number in 0..5 {
            refused(&deliver(&server, &format!("during-{number}")));
        }
        assert!(bench.injector.fired().unwrap() >= 5, "{what}: the fault was met");
        assert!(!is_ready(&server), "{what}");
        assert_eq!(server.request("GET", "/healthz", &[], b"").status, 200, "{what}: it is alive");
        assert!(metric(&server, "cognigy_store_errors_total") >= 5.0, "{what}: the operator sees");

        bench.injector.disarm().unwrap();
        eventually(what, || is_ready(&server).then_some(()));
        for number in 0..5 {
            assert_eq!(deliver(&server, &format!("during-{number}")).status, 200, "{what}");
        }
        assert_eq!(deliver(&server, "after").status, 200, "{what}");
        server.kill();
        let connection = bench.sql();
        assert_eq!(integrity(&connection), "ok", "{what}");
        assert_eq!(stored(&connection), answered, "{what}: each once, and no other");
    }
}

#[test]
fn a_failing_disk_under_many_senders_has_no_false_200() {
    let bench = Bench::new();
    let mut server = bench.serve();
    let answered: BTreeSet<String> = thread::scope(|scope| {
        let senders: Vec<_> = (0..6)
            .map(|sender| {
                let server = &server;
                scope.spawn(move || {
                    let ids = (0..60).map(|number| format!("e{sender}-{number}"));
                    ids.filter(|id| {
                        let answer = server.deliver(&event(id, "c1"));
                        assert!([200, 503].contains(&answer.status), "{answer:?}");
                        answer.status == 200
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        // Some writes and syncs fail, another one each time.
        for nth in 1..=40 {
            let operations = if nth % 2 == 0 { Operation::SYNC } else { Operation::CHANGE };
            let fault = Fault::once(operations, FileKind::ANY, Fault::EIO, nth % 7 + 1);
            bench.injector.arm(fault).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
        bench.injector.disarm().unwrap();
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });
    assert!(metric(&server, "cognigy_store_errors_total") >= 1.0, "faults were met");
    server.kill();
    let connection = bench.sql();
    assert_eq!(integrity(&connection), "ok");
    let stored = stored(&connection);
    assert!(answered.is_subset(&stored), "{:?}", answered.difference(&stored).next());
    assert!(answered.len() > 50, "{} were accepted all the same", answered.len());
}

#[test]
fn a_read_that_fails_once_gives_no_event_up() {
    let crm = Crm::start();
    let mut bench = Bench::new();
    bench.site.set("COGNIGY_WORKER", "on").set("CRM_BASE_URL", crm.url());
    let mut server = bench.serve();
    let ids: Vec<_> = (1..=14).map(|number| format!("e{number}")).collect();
    for id in &ids {
        // The body is several pages long, so that it is read by itself.
        let body = json!({
            "eventId": id, "timestamp": "2026-03-01T12:00:00Z", "type": "DIALOG_ENDED",
            "externalId": "c1", "payload": {"text": "x".repeat(20_000)},
        });
        assert_eq!(server.deliver(body.to_string().as_bytes()).status, 200);
        server.wait_for(id, "processed");
    }
    server.kill();
    let far = "UPDATE events SET state = 'pending', due_at = 9000000000000000, attempt = 0";
    bench.sql().execute_batch(far).unwrap();
    let tallies = "DELETE FROM tallies WHERE dimension = 'state';
                   INSERT INTO tallies VALUES ('state', 'pending', 14)";
    bench.sql().execute_batch(tallies).unwrap();

    let server = bench.serve();
    let mut fired = 0;
    for (nth, id) in (1..).zip(&ids) {
        let fault = Fault::once(Operation::READ, FileKind::DATABASE, Fault::EIO, nth);
        bench.injector.arm(fault).unwrap();
        // Another process wrote it into the database: no cache has it.
        let due = "UPDATE events SET due_at = 0 WHERE event_id = ?1";
        bench.sql().execute(due, [id]).unwrap();
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        bench.sql().query_row(checkpoint, [], |_| Ok(())).unwrap();
        // Only the worker reads until it has met the fault or is past it.
        let asked = crm.requests().len();
        eventually("the worker comes by", || {
            let met = bench.injector.fired().unwrap() > 0 || crm.requests().len() > asked;
            met.then_some(())
        });
        eventually(&format!("{id} has ended"), || {
            let status = server.event(id)["status"].as_str().unwrap_or("unknown").to_owned();
            assert!(!status.starts_with("dead"), "{id}: given up for read {nth}");
            (status == "processed").then_some(())
        });
        fired += bench.injector.fired().unwrap();
    }
    assert!(fired > 8, "{fired} reads failed");
}

/// A server in a mount namespace of its own with its database on a small file system, and the
/// folder as other processes see it. None where the machine does not allow that.
fn serve_on_small_disk(site: &mut Site) -> Option<(Server, PathBuf)> {
    let allowed = Command::new("unshare").args(["--map-root-user", "--mount", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!("no mount namespaces here: the full disk is only injected");
        return None;
    }
    let data = site.folder.path().join("small");
    fs::create_dir(&data).unwrap();
    site.set("COGNIGY_DATABASE_URL", format!("sqlite:{}", data.join("webhooks.db").display()))
        .set("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$1\" serve";
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(&data)
        .arg(common::BINARY)
        .env_clear()
        .envs(site.variables.iter().map(|(name, value)| (name, value)))
        .current_dir(site.folder.path());
    let server = Server::start(command);
    // `unshare` and the shell each became the next program: it is one process.
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.id(), data.display()));
    Some((server, inside))
}

#[test]
fn a_disk_that_is_really_full_is_survived_by_intake_and_worker() {
    let crm = Crm::start();
    crm.delay(Duration::from_secs(2));
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let Some((server, disk)) = serve_on_small_disk(&mut site) else { return };
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    eventually("the CRM is asked", || (crm.requests().len() == 1).then_some(()));

    // The disk fills up while the CRM has not answered yet.
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let mut accepted = vec!["e1".to_owned()];
    let mut refusals = 0;
    for number in 0..400 {
        // The space that is left in the WAL may be used up.
        let id = format!("full-{number}");
        match server.deliver(&event(&id, "c1")) {
            answer if answer.status == 200 => accepted.push(id),
            answer => {
                refused(&answer);
                refusals += 1;
            }
        }
        if refusals == 3 {
            break;
        }
    }
    assert_eq!(refusals, 3, "the disk is full");
    assert!(!is_ready(&server));
    assert_eq!(server.event("e1")["status"], "processing", "reading goes on");

    // The CRM has answered by now and the outcome cannot be stored: the store call is repeated with
    // pauses.
    thread::sleep(Duration::from_secs(4));
    assert_eq!(server.event("e1")["status"], "processing");
    let errors = metric(&server, "cognigy_store_errors_total");
    assert!((2.0..100.0).contains(&errors), "{errors} errors in four seconds: no busy loop");
    let asked = crm.requests().len();
    assert!(asked <= accepted.len(), "{asked} look-ups for {} events", accepted.len());

    crm.delay(Duration::ZERO);
    fs::remove_file(&ballast).unwrap();
    eventually("ready again", || is_ready(&server).then_some(()));
    assert_eq!(server.deliver(&event("after", "c1")).status, 200);
    accepted.push("after".to_owned());
    for id in &accepted {
        let event = server.wait_for(id, "processed");
        assert_eq!(event["body"].as_str().unwrap().as_bytes(), common::event(id, "c1"));
    }
    assert_eq!(crm.requests().len(), accepted.len(), "the lease held: each was looked up once");
}

#[test]
fn a_lock_that_another_process_holds_means_503_in_bounded_time() {
    let long = std::env::var_os("COGNIGY_CRASH_ROUNDS").is_some();
    let held = Duration::from_secs(if long { 30 } else { 12 });
    let crm = Crm::start();
    let mut bench = Bench::new();
    bench.site.set("COGNIGY_WORKER", "on").set("CRM_BASE_URL", crm.url());
    let server = bench.serve();
    server.deliver(&event("before", "c1"));
    server.wait_for("before", "processed");
    let holder = bench.sql();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let mut answers = 0;
    while began.elapsed() < held {
        let asked = Instant::now();
        refused(&server.deliver(&event("during", "c1")));
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        assert_eq!(server.event("before")["status"], "processed", "reading goes on");
        answers += 1;
    }
    assert!(!is_ready(&server));
    assert!(server.log().contains("another program"), "{}", server.log());
    assert!(!server.log().contains("too much at once"), "{}", server.log());
    holder.execute_batch("COMMIT").unwrap();
    eventually("ready again", || is_ready(&server).then_some(()));
    assert_eq!(server.deliver(&event("during", "c1")).body, r#"{"status":"accepted"}"#);
    server.wait_for("during", "processed");
    println!("{answers} refusals in {held:?}");
}

#[test]
fn a_database_that_goes_away_takes_no_event_until_it_is_back() {
    let bench = Bench::new();
    let server = bench.serve();
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    let aside = bench.site.folder.path().join("aside");
    fs::rename(&bench.data, &aside).unwrap();
    fs::create_dir(&bench.data).unwrap();
    refused(&server.deliver(&event("e2", "c1")));
    refused(&server.deliver(&event("e2", "c1")));
    assert!(!is_ready(&server));
    let left = fs::read_dir(&bench.data).unwrap().count();
    assert_eq!(left, 0, "no empty database takes its place");
    // Another file in its place is refused too.
    fs::write(bench.data.join("webhooks.db"), "").unwrap();
    refused(&server.deliver(&event("e2", "c1")));
    fs::remove_dir_all(&bench.data).unwrap();
    fs::rename(&aside, &bench.data).unwrap();
    eventually("ready again", || is_ready(&server).then_some(()));
    assert_eq!(server.deliver(&event("e2", "c1")).status, 200);
    assert_eq!(server.event("e1")["status"], "pending");
}

/// The server refuses to start: exit status 1 and a line that says why.
fn refuses_to_start(mut command: Command, reason: &str) {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = stderr(&output);
    let line = said.lines().find(|line| line.contains(reason));
    assert!(line.is_some_and(|line| line.contains("webhooks.db")), "{reason}: {said}");
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_database_that_cannot_be_served_is_refused_at_the_start_and_left_as_it_is() {
    let bench = Bench::new();
    let mut server = bench.serve();
    server.deliver(&event("e1", "c1"));
    assert_eq!(server.terminate(), Some(0));
    // All data is in one file, so that the damaged part is read.
    bench.sql().execute_batch("PRAGMA journal_mode = DELETE; PRAGMA journal_mode = WAL").unwrap();
    let file = bench.data.join("webhooks.db");
    let whole = fs::read(&file).unwrap();
    for (damage, reason) in [
        // SQLite's header: the position of the schema's version, and the beginning.
        (&(60, vec![0, 0, 0, 99]), "schema version 99"),
        (&(0, b"no database".to_vec()), "not a database"),
        // The table of tables.
        (&(100, vec![0xff; 200]), "malformed"),
        (&(68, b"else".to_vec()), "another application"),
    ] {
        overwrite(&file, damage.0, &damage.1);
        let damaged = fs::read(&file).unwrap();
        refuses_to_start(bench.site.command(&["serve"]), reason);
        assert_eq!(fs::read(&file).unwrap(), damaged, "{reason}: left as it was");
        fs::write(&file, &whole).unwrap();
    }
    // Once the file is repaired, the server serves again.
    assert_eq!(bench.serve().event("e1")["status"], "pending");
}

#[test]
fn a_file_system_without_shared_memory_is_refused() {
    let bench = Bench::new();
    const ENODEV: i32 = 19;
    bench.injector.arm(Fault::always(Operation::MAP, FileKind::SHM, ENODEV)).unwrap();
    let mut command = bench.site.command(&["serve"]);
    bench.injector.attach(&mut command, &bench.data);
    refuses_to_start(command, "cannot open");
    assert!(bench.injector.fired().unwrap() > 0);
    bench.injector.disarm().unwrap();
    assert_eq!(bench.serve().deliver(&event("e1", "c1")).status, 200, "elsewhere it works");
}

#[test]
fn a_database_of_another_owner_is_refused() {
    use std::os::unix::fs::MetadataExt;

    let bench = Bench::new();
    drop(bench.serve());
    // Root may do everything, so the server runs as another user.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let someone = || {
        let mut command = Command::new(if is_root { "setpriv" } else { "env" });
        if is_root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        }
        command.arg(common::BINARY);
        command
    };
    let runs = someone().arg("--version").output();
    if !runs.is_ok_and(|output| output.status.success()) {
        eprintln!("others may not run this build of the program: not tried");
        return;
    }
    let open = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(bench.site.folder.path(), 0o755);
    open(&bench.data, 0o777);
    // Not readable at all; readable and not writable.
    for mode in [0o600, 0o444] {
        for name in ["webhooks.db", "webhooks.db-wal", "webhooks.db-shm"] {
            let file = bench.data.join(name);
            if file.exists() {
                open(&file, mode);
            }
        }
        let mut command = someone();
        command.arg("serve").env_clear();
        command.envs(bench.site.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(bench.site.folder.path());
        refuses_to_start(command, "cannot open");
    }
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let bench = Bench::new();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64; exec \"$0\" serve", common::BINARY])
        .env_clear()
        .envs(bench.site.variables.iter().map(|(name, value)| (name, value)))
        .current_dir(bench.site.folder.path());
    let mut server = Server::start(command);
    assert_eq!(server.deliver(&event("before", "c1")).status, 200);
    // A connection that was open before is still served.
    let mut early = server.connect();
    let request = |id: &str| {
        let text = String::from_utf8(request(id)).unwrap();
        text.replace("Connection: close\r\n", "").into_bytes()
    };
    let mut ask = |id: &str| -> String {
        early.write_all(&request(id)).unwrap();
        let mut answer = [0; 4096];
        let length = early.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    assert!(ask("early-1").starts_with("HTTP/1.1 200"));
    let crowd: Vec<TcpStream> = (0..150).map(|_| server.connect()).collect();
    let open = || fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
    eventually("all descriptors are used", || (open() >= 64).then_some(()));
    assert!(ask("early-2").starts_with("HTTP/1.1 200"), "who is in is served");
    drop(crowd);
    eventually("new connections are taken again", || {
        let mut stream = server.connect();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.write_all(&request("late")).unwrap();
        let mut answer = [0; 12];
        (stream.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 200").then_some(())
    });
    assert_eq!(server.deliver(&event("after", "c1")).status, 200);
    server.kill();
    let expected = ["before", "early-1", "early-2", "late", "after"].map(str::to_owned).into();
    assert_eq!(stored(&bench.sql()), expected);
}
