//! Commands and servers on one database file. None of them damages it, whatever happens to the
//! file.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use common::{BINARY, Server, Site, crm::Crm, event, eventually, stderr, stdout};
use serde_json::Value;

const EVENTS: usize = 20;

fn ids(site: &Site) -> usize {
    let listed = site.run(&["list", "--limit", "100", "--json"]);
    assert!(listed.status.success(), "{}", stderr(&listed));
    stdout(&listed).lines().count()
}

fn files(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entry = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap()))
    };
    fs::read_dir(folder).unwrap().map(|file| entry(&file.unwrap().path())).collect()
}

/// Delivers `EVENTS` events. Each is answered with 200.
fn deliver_all(server: &Server) {
    for number in 0..EVENTS {
        assert_eq!(server.deliver(&event(&format!("e{number}"), "c")).status, 200);
    }
}

/// A server without a worker that has stored `EVENTS` events, and where its database was moved to while
/// it ran.
fn with_database_moved_aside() -> (Site, Server, PathBuf) {
    let mut site = Site::on_file();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    deliver_all(&server);
    let aside = site.folder.path().join("aside.db");
    fs::rename(site.database(), &aside).unwrap();
    (site, server, aside)
}

fn ready(server: &Server) -> bool {
    server.request("GET", "/readyz", &[], b"").status == 200
}

#[test]
fn no_command_and_no_second_server_replaces_a_database_that_was_moved_away() {
    let (site, mut server, aside) = with_database_moved_aside();
    let before = files(site.folder.path());
    let commands: [&[&str]; 8] = [
        &["serve"],
        &["list"],
        &["show", "e1"],
        &["replay", "e1"],
        &["purge", "--yes"],
        &["quarantine"],
        &["quarantine", "--retry", "1"],
        &["quarantine", "--discard", "1"],
    ];
    for command in commands {
        let output = site.run(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {output:?}");
        let complaint = stderr(&output);
        assert!(complaint.contains("put the database back"), "{command:?}: {complaint}");
    }
    assert_eq!(files(site.folder.path()), before, "what is left stays as it is");
    assert!(!ready(&server));
    assert_eq!(server.deliver(&event("late", "c")).status, 503);

    // A copy of the file is not the database either.
    fs::copy(&aside, site.database()).unwrap();
    assert!(!ready(&server));
    assert_eq!(server.deliver(&event("late", "c")).status, 503);

    fs::rename(&aside, site.database()).unwrap();
    eventually("it is ready again", || ready(&server).then_some(()));
    assert_eq!(ids(&site), EVENTS);
    assert_eq!(server.deliver(&event("late", "c")).status, 200);
    assert_eq!(server.deliver(&event("e0", "c")).json()["duplicate"], true);

    // The server is killed while the file is elsewhere, started too early, and then started again.
    fs::rename(site.database(), &aside).unwrap();
    server.kill();
    assert_eq!(site.run(&["serve"]).status.code(), Some(1));
    fs::rename(&aside, site.database()).unwrap();
    let server = site.serve();
    assert!(ready(&server));
    assert_eq!(ids(&site), EVENTS + 1);
}

#[test]
fn a_server_that_is_stopped_while_its_database_is_elsewhere_loses_nothing() {
    let (site, mut server, aside) = with_database_moved_aside();
    server.terminate();
    assert!(!site.database().exists());
    fs::rename(&aside, site.database()).unwrap();
    let _server = site.serve();
    assert_eq!(ids(&site), EVENTS);
}

#[test]
fn without_a_database_a_command_says_where_it_looked_and_creates_nothing() {
    let site = Site::on_file();
    let absolute = site.database().display().to_string();
    let refused = |arguments: &[&str], set_by: &str| {
        let output = site.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let complaint = stderr(&output);
        assert!(complaint.contains(set_by), "{arguments:?}: {complaint}");
        complaint
    };
    for command in ["list", "show e", "replay e", "purge --yes", "purge --dry-run", "quarantine"] {
        let arguments: Vec<_> = command.split(' ').collect();
        let complaint = refused(&arguments, "the default of COGNIGY_DATABASE_URL");
        assert!(complaint.contains(&format!("no database at {absolute}")), "{complaint}");
    }
    refused(&["list", "--database-url", "sqlite:other.db"], "the flag --database-url");
    assert!(files(site.folder.path()).is_empty(), "nothing was created");
    let file = site.folder.path().join("cognigy.toml");
    fs::write(&file, "database_url = 'sqlite:from-file.db'").unwrap();
    let complaint = refused(&["list"], "database_url in the settings file");
    assert!(complaint.contains("from-file.db"), "{complaint}");
}

#[test]
fn reading_commands_wait_for_no_lock_and_write_nothing() {
    let mut site = Site::on_file();
    site.set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    assert_eq!(server.deliver(&event("e1", "c")).status, 200);
    assert_eq!(server.deliver(b"{}").status, 400);
    let reading = |site: &Site| {
        for command in ["list", "show e1", "quarantine", "quarantine --show 1", "purge --dry-run"] {
            let arguments: Vec<_> = command.split(' ').collect();
            let began = Instant::now();
            let output = site.run(&arguments);
            assert!(output.status.success(), "{command}: {}", stderr(&output));
            assert!(began.elapsed() < Duration::from_secs(3), "{command}: {:?}", began.elapsed());
        }
    };
    {
        let holder = rusqlite::Connection::open(site.database()).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let before = files(site.folder.path());
        reading(&site);
        assert_eq!(files(site.folder.path()), before, "beside a server");
    }
    server.kill();
    let before = files(site.folder.path());
    assert!(before.contains_key("webhooks.db-wal"), "a crash leaves its log");
    reading(&site);
    assert_eq!(files(site.folder.path()), before, "after a crash");
    site.serve().terminate();
    let before = files(site.folder.path());
    assert_eq!(before.len(), 1);
    reading(&site);
    assert_eq!(files(site.folder.path()), before, "after an orderly stop");
}

/// A reader in another process reads the index of the log while it changes.
#[test]
fn reading_commands_read_on_beside_senders_that_never_pause() {
    let mut site = Site::on_file();
    site.set("COGNIGY_WORKER", "off").set("COGNIGY_LOG", "info");
    let server = site.serve();
    assert_eq!(server.deliver(&event("e1", "c")).status, 200);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let sent = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for sender in 0..4 {
            let (server, stop, sent) = (&server, &stop, &sent);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = event(&format!("s{sender}-{number}"), "c");
                    assert_eq!(server.deliver(&body).status, 200);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let failed: Vec<_> = (0..150)
            .map(|_| site.run(&["show", "e1"]))
            .filter(|output| !output.status.success())
            .map(|output| stderr(&output))
            .collect();
        stop.store(true, Ordering::Relaxed);
        assert!(failed.is_empty(), "{failed:?}");
    });
    assert!(sent.load(Ordering::Relaxed) > 500, "{sent:?}");
}

/// The test needs the right to mount, which containers often lack. The tests above show that
/// nothing is written.
#[test]
fn reading_commands_work_on_a_file_system_that_cannot_be_written_to() {
    let mut site = Site::on_file();
    site.set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    assert_eq!(server.deliver(&event("e1", "c")).status, 200);
    server.kill();
    for state in ["after a crash", "after an orderly stop"] {
        let folder = site.folder.path().display().to_string();
        let script = format!(
            "mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && cd {folder} \
             && ! touch written && {BINARY} list --json"
        );
        let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output();
        let Ok(output) = output else { return };
        if stderr(&output).contains("permission denied")
            || stderr(&output).contains("not permitted")
        {
            return;
        }
        assert!(output.status.success(), "{state}: {}", stderr(&output));
        assert!(stdout(&output).contains("\"e1\""), "{state}: {}", stdout(&output));
        site.serve().terminate();
    }
}

#[test]
fn the_database_is_its_owner_s_alone_whatever_the_umask() {
    let site = Site::on_file();
    let mut command = site.command(&[]);
    let settings: Vec<_> =
        command.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
    command = Command::new("sh");
    command
        .args(["-c", &format!("umask 000; exec {BINARY} serve")])
        .env_clear()
        .envs(settings)
        .env("PATH", "/usr/bin:/bin")
        .current_dir(site.folder.path());
    let server = Server::start(command);
    assert_eq!(server.deliver(&event("e1", "c")).status, 200);
    for file in ["webhooks.db", "webhooks.db-wal", "webhooks.db-shm"] {
        let mode = fs::metadata(site.folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

fn holds(folder: &Path, marker: &str) -> Vec<String> {
    let found = |bytes: &[u8]| bytes.windows(marker.len()).any(|part| part == marker.as_bytes());
    let files = files(folder).into_iter().filter(|(_, (bytes, _))| found(bytes));
    files.map(|(name, _)| name).collect()
}

#[test]
fn what_is_forgotten_cannot_be_read_in_the_files_any_more() {
    let crm = Crm::start();
    let mut site = Site::on_file();
    site.set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    let marked = |number: usize| {
        let text = "marked-to-be-forgotten ".repeat(if number.is_multiple_of(2) { 1 } else { 500 });
        String::from_utf8(event(&format!("e{number}"), "c1")).unwrap().replace("marked-body", &text)
    };
    for number in 0..EVENTS {
        assert_eq!(server.deliver(marked(number).as_bytes()).status, 200);
    }
    assert_eq!(server.deliver(b"{\"eventId\":\"marked-to-be-forgotten\"}").status, 400);
    server.wait_for(&format!("e{}", EVENTS - 1), "processed");
    eventually("all are processed", || {
        (server.stats()["events"]["processed"] == EVENTS).then_some(())
    });
    assert!(!holds(site.folder.path(), "marked-to-be-forgotten").is_empty());
    let purged = site.run(&["purge", "--retention", "1ms", "--json"]);
    assert!(purged.status.success(), "{}", stderr(&purged));
    let purged: Value = serde_json::from_str(&stdout(&purged)).unwrap();
    assert_eq!(purged["events"]["processed"], EVENTS);
    assert_eq!(purged["quarantined"]["invalid"], 1);
    let left = || holds(site.folder.path(), "marked-to-be-forgotten");
    assert!(left().is_empty(), "while the server runs: {:?}", left());
    server.terminate();
    assert!(left().is_empty(), "after an orderly stop: {:?}", left());
}
