//! `doctor`: look at everything that a server needs, and say how to mend what is wrong.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::ArgMatches;
use cognigy_core::{Clock, EventArchive, EventFilter, PageRequest, Store, Timestamp, TokioClock};
use serde_json::json;

use super::{
    print_json,
    send::{TIMEOUT, client},
};
use crate::{
    breakers::{self, OpenBreaker},
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    settings::{self, Database, EXAMPLE_CRM, Layers, SourceSettings, weak_secrets},
    store::{self, Access},
};

/// How long a system may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// With less room the database cannot grow by a day of events, nor its log be written back.
const LEAST_ROOM: u64 = 512 * 1024 * 1024;
/// Signatures with a time are refused beyond minutes, and so are tokens; a clock that is kept right is off
/// by milliseconds.
const CLOCK_OFF: Duration = Duration::from_secs(30);
/// A clock before this time was never set: 2026-01-01.
const EARLIEST: u64 = 1_767_225_600;

/// What was found.
struct Findings {
    as_json: bool,
    wrong: usize,
}

impl Findings {
    fn fine(&self, check: &str, found: &str) -> Result<(), StartError> {
        self.print(check, Some(true), found, None)
    }

    /// It could not be looked at from here, so that nothing is said of it.
    fn unseen(&self, check: &str, found: &str) -> Result<(), StartError> {
        self.print(check, None, found, None)
    }

    fn wrong(&mut self, check: &str, found: &str, mend: &str) -> Result<(), StartError> {
        self.wrong += 1;
        self.print(check, Some(false), found, Some(mend))
    }

    fn print(
        &self,
        check: &str,
        fine: Option<bool>,
        found: &str,
        mend: Option<&str>,
    ) -> Result<(), StartError> {
        if self.as_json {
            return print_json(
                &json!({ "check": check, "ok": fine, "found": found, "mend": mend }),
            );
        }
        let verdict = match fine {
            Some(true) => "ok",
            Some(false) => "WRONG",
            None => "-",
        };
        say!("{verdict:<6} {check:<22} {}", printable(found))?;
        match mend {
            Some(mend) => say!("{:>29} to mend it: {}", "", printable(mend)),
            None => Ok(()),
        }
    }
}

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
    layers: &Layers,
) -> Result<bool, StartError> {
    let mut findings = Findings { as_json: arguments.get_flag("json"), wrong: 0 };
    secrets(&mut findings, deployment, layers)?;
    let server_date = systems(&mut findings, deployment).await?;
    let newest = database(&mut findings, deployment).await?;
    clock(&mut findings, newest, server_date)?;
    if !findings.as_json {
        match findings.wrong {
            0 => say!("everything that was looked at is as it should be")?,
            1 => say!("one thing is wrong")?,
            count => say!("{count} things are wrong")?,
        }
    }
    Ok(findings.wrong == 0)
}

/// The settings were read, or the command had not begun. What is left is whether a server could start.
fn secrets(
    findings: &mut Findings,
    deployment: &Deployment,
    layers: &Layers,
) -> Result<(), StartError> {
    let settings = &deployment.settings;
    match settings.can_serve() {
        Ok(()) => findings.fine("settings", "they are complete and well-formed")?,
        Err(error) => findings.wrong(
            "settings",
            &error.to_string(),
            "set it, as a variable or in cognigy.toml; cognigy-server --help-settings lists all",
        )?,
    }
    // What it warns of holds secrets, or quotes that were not meant.
    for warning in settings::warnings(layers, false, false)? {
        findings.wrong("settings", &warning, "correct the setting, or the rights of its file")?;
    }
    let weak = weak_secrets(layers);
    for warning in &weak {
        let mend = "make one with: openssl rand -base64 32. Set it here and at the sender";
        findings.wrong("secrets", warning, mend)?;
    }
    if weak.is_empty() {
        findings.fine("secrets", "none is short or well-known")?;
    }
    match settings.operators.len() {
        0 => findings.fine("operators", "no token is set: the operator API is closed")?,
        count => findings.fine("operators", &format!("{count} with a token"))?,
    }
    Ok(())
}

/// The CRM, the queue and the hand-over of each source. Yields the time by the clock of a CRM.
async fn systems(
    findings: &mut Findings,
    deployment: &Deployment,
) -> Result<Option<SystemTime>, StartError> {
    let settings = &deployment.settings;
    let mut date = None;
    for source in settings.all() {
        let of = |what: &str| match source.name.is_default() {
            true => what.to_owned(),
            false => format!("{what} of {}", source.name),
        };
        if deployment.adapters.crm.is_none() {
            date = crm(findings, &of("CRM"), source, settings.proxy_from_env).await?.or(date);
        }
        queue(findings, &of("queue"), source, settings.proxy_from_env).await?;
        let Some(forward) = &source.forward else { continue };
        resolve(findings, &of("forward"), forward.url.as_str()).await?;
    }
    Ok(date)
}

async fn crm(
    findings: &mut Findings,
    check: &str,
    source: &SourceSettings,
    proxy_from_env: bool,
) -> Result<Option<SystemTime>, StartError> {
    let url = &source.crm.base_url;
    if url == EXAMPLE_CRM && source.crm.product.is_none() {
        let mend = "set CRM_BASE_URL to the address of your CRM";
        findings.wrong(check, "CRM_BASE_URL is not set, and its default is an example", mend)?;
        return Ok(None);
    }
    let answer = match client(url, proxy_from_env, TIMEOUT) {
        Ok(client) => client.get(url).timeout(PATIENCE).send().await,
        Err(error) => {
            findings.wrong(check, &error.to_string(), "correct CRM_BASE_URL")?;
            return Ok(None);
        }
    };
    match answer {
        // Whatever it answers to a request without a contact and without a token.
        Ok(answer) => {
            let status = answer.status();
            let asked = "a request without a contact and a token";
            match status.is_server_error() {
                false => findings.fine(check, "it can be reached")?,
                true => findings
                    .fine(check, &format!("it can be reached; to {asked} it says {status}"))?,
            }
            let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
            Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
        }
        Err(error) => {
            let error = cognigy_http::TransportError::from(error);
            let mend =
                "correct CRM_BASE_URL, or let this machine reach it: name look-up, firewall, proxy";
            findings.wrong(check, &format!("the CRM {error}"), mend)?;
            Ok(None)
        }
    }
}

#[cfg(feature = "sqs")]
async fn queue(
    findings: &mut Findings,
    check: &str,
    source: &SourceSettings,
    proxy_from_env: bool,
) -> Result<(), StartError> {
    use cognigy_sink_sqs::{SqsOptions, SqsSink};

    let Some(url) = &source.sqs_dlq_url else {
        return findings.fine(check, "none is set: dead letters stay in the database");
    };
    let options = SqsOptions::default().proxy_from_env(proxy_from_env);
    let mend = "correct SQS_DLQ_URL and the AWS_* variables, and grant sqs:GetQueueAttributes and \
                sqs:SendMessage";
    let asked = async {
        let sink = SqsSink::connect_with(url, options).await.map_err(|error| error.to_string())?;
        sink.check().await.map_err(|failure| failure.report())
    };
    match tokio::time::timeout(3 * PATIENCE, asked).await {
        Ok(Ok(())) => findings.fine(check, "it answers"),
        Ok(Err(error)) => findings.wrong(check, &error, mend),
        Err(_) => findings.wrong(check, "it does not answer in time", mend),
    }
}

#[cfg(not(feature = "sqs"))]
#[allow(clippy::unused_async)]
async fn queue(
    findings: &mut Findings,
    check: &str,
    _: &SourceSettings,
    _: bool,
) -> Result<(), StartError> {
    findings.fine(check, "this build has none: dead letters stay in the database")
}

/// Whether the host of the hand-over has an address. No request is made: its receiver might act on it.
async fn resolve(findings: &mut Findings, check: &str, url: &str) -> Result<(), StartError> {
    let mend = "correct COGNIGY_FORWARD_URL, or the name look-up of this machine";
    let Ok(url) = cognigy_http::absolute_url(url) else {
        return findings.wrong(check, "COGNIGY_FORWARD_URL is not a URL", mend);
    };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let look_up = tokio::net::lookup_host((host.as_str(), port));
    let found = tokio::time::timeout(PATIENCE, look_up).await.ok().and_then(Result::ok);
    if found.is_some_and(|mut addresses| addresses.next().is_some()) {
        findings.fine(check, &format!("{host} has an address"))
    } else {
        findings.wrong(check, &format!("the name {host} has no address"), mend)
    }
}

/// The database: its files, the room beside them, and whether it can be read. Yields when its newest event
/// was received.
async fn database(
    findings: &mut Findings,
    deployment: &Deployment,
) -> Result<Option<Timestamp>, StartError> {
    let mut is_there = true;
    if let Some(Database::Sqlite(path)) = deployment.database() {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        is_there = path.exists();
        files(findings, &path)?;
    } else {
        let found = "the database is on another machine, or is another program's: not looked at";
        findings.unseen("disk space", found)?;
    }
    if !is_there {
        findings.fine("database", "there is none yet: serve creates it")?;
        return Ok(None);
    }
    let newest = PageRequest { limit: 1, after: None };
    let read = match store::open(deployment, Access::Read, None).await {
        Ok(store) => {
            breakers_of(findings, &*store).await?;
            store.list(&EventFilter::default(), newest).await.map_err(StartError::from)
        }
        Err(error) => Err(error),
    };
    match read {
        Ok(page) => {
            findings.fine("database", "it can be read, and its schema is known")?;
            Ok(page.events.first().map(|event| event.received_at))
        }
        Err(error) => {
            let mend = "correct COGNIGY_DATABASE_URL, start the database, or give this user the right to it";
            findings.wrong("database", &error.to_string(), mend)?;
            Ok(None)
        }
    }
}

/// The look-ups that running servers hold back.
async fn breakers_of(findings: &mut Findings, store: &dyn Store) -> Result<(), StartError> {
    // If the store cannot be read, the next question says so.
    let Ok(open) = breakers::open(store, TokioClock::new().now()).await else { return Ok(()) };
    for (source, OpenBreaker { since, error }) in open {
        let found = format!("look-ups of {source} are held back since {since}: {error}");
        let mend = "mend the CRM, its token, or the network between; the server goes on by itself";
        findings.wrong("breaker", &found, mend)?;
    }
    Ok(())
}

/// The files of an SQLite database.
fn files(findings: &mut Findings, path: &Path) -> Result<(), StartError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let shown = folder.display();
    if !folder.is_dir() {
        let found = format!("the folder {shown} does not exist");
        return findings.wrong("file rights", &found, &format!("mkdir -p {shown}"));
    }
    if let Err(error) = tempfile::Builder::new().prefix(".cognigy-doctor-").tempfile_in(folder) {
        let found = format!("no file can be made in {shown}: {error}");
        let mend = "let the user of the server write to the folder: chown it to that user";
        findings.wrong("file rights", &found, mend)?;
    }
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let mut open = Vec::new();
    for file in ["", "-wal", "-shm"].map(beside) {
        let mode = file.metadata().map(|file| file.permissions().mode()).unwrap_or_default();
        if mode & 0o077 != 0 {
            open.push(file.display().to_string());
        }
    }
    match open.as_slice() {
        [] => findings.fine("file rights", "only the owner can read the events")?,
        open => findings.wrong(
            "file rights",
            &format!("other users can read the events: {}", open.join(", ")),
            &format!("chmod go= {}", open.join(" ")),
        )?,
    }
    let Ok(room) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let found = format!("{} MiB are free in {shown}", free / (1024 * 1024));
    match free < LEAST_ROOM {
        false => findings.fine("disk space", &found),
        true => {
            let mend = "free some, move the database, or keep events for a shorter time \
                        (COGNIGY_RETENTION, cognigy-server purge)";
            findings.wrong("disk space", &found, mend)
        }
    }
}

/// The clock of this machine, against what was seen of other clocks.
fn clock(
    findings: &mut Findings,
    newest: Option<Timestamp>,
    server_date: Option<SystemTime>,
) -> Result<(), StartError> {
    let now = SystemTime::now();
    let mend = "have the clock set over the network: timedatectl set-ntp true";
    if now < SystemTime::UNIX_EPOCH + Duration::from_secs(EARLIEST) {
        return findings.wrong("clock", "the clock is years behind", mend);
    }
    let newest = newest.map(SystemTime::from);
    if newest.is_some_and(|newest| newest > now + CLOCK_OFF) {
        let found = "the newest event was received later than this clock says that it is";
        return findings.wrong("clock", found, mend);
    }
    let off = server_date.map(|date| match now.duration_since(date) {
        Ok(ahead) => ahead,
        Err(behind) => behind.duration(),
    });
    match off {
        Some(off) if off > CLOCK_OFF => {
            let found = format!("this clock and that of a CRM differ by {} s", off.as_secs());
            findings.wrong("clock", &found, mend)
        }
        Some(_) => findings.fine("clock", "it agrees with that of a CRM"),
        None => findings.fine("clock", "nothing speaks against it"),
    }
}
