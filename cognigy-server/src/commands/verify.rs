//! `verify`: walks all that is stored, and says whether each accepted event is where it may be.

mod event;

use std::{collections::BTreeMap, time::Duration};

use clap::ArgMatches;
use cognigy_core::{Clock, TokioClock};
use serde::Serialize;
use serde_json::Value;

use self::event::{Rules, Suspicion, source_of};
use super::{
    Progress,
    database_or_server::{DatabaseOrServer, PAGE, read},
    print_json,
};
use crate::{
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    settings::duration,
    view::time,
};

/// How many findings are printed one by one.
const SHOWN: usize = 1000;
/// How often an event is looked at again that seems to be stuck, and how long: a replay of an old event looks
/// like it while it runs.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// The same for one that is processing: an attempt may ask a slow CRM and hand on to a slow receiver.
const LONG_PATIENCE: Duration = Duration::from_secs(180);

/// Something that should not be.
#[derive(Debug, Serialize)]
struct Finding {
    event_id: String,
    source: Option<String>,
    finding: &'static str,
    detail: String,
}

/// The report, for an auditor to keep.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    began_at: String,
    ended_at: String,
    /// How many events were looked at, and how many of them are in each status.
    events: u64,
    by_status: BTreeMap<String, u64>,
    /// Bodies that were read and are what was received, and such as were forgotten.
    bodies: u64,
    forgotten: u64,
    attempts: u64,
    /// Bodies in quarantine.
    quarantined: u64,
    /// Whether the numbers that the store keeps agree with what is there; `changing` where events came or
    /// ended meanwhile, so that they cannot be compared.
    accounting: &'static str,
    findings: Vec<Finding>,
    /// How many more there are than `findings` names.
    more_findings: u64,
    sound: bool,
}

/// The exit status is 1 if something is not as it should be.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let bound = arguments.get_one::<String>("bound").map_or("", String::as_str);
    let bound = duration(bound).map_err(|why| StartError::Usage(format!("--bound: {why}")))?;
    let place = DatabaseOrServer::open(arguments, deployment).await?;
    if !place.shows_bodies().await? {
        return Err(StartError::Failed(
            "your role does not include bodies, without which a store cannot be verified"
                .to_owned(),
        ));
    }
    let began_at = TokioClock::new().now();
    let before = read(&place.stats().await?);
    let mut walk = Walk::new(Rules::new(&deployment.settings, &before, began_at, bound));
    let progress = Progress::new();
    let total = before["events"]["total"].as_u64().unwrap_or_default();
    let mut cursor = None;
    loop {
        let page = place.events(&BTreeMap::new(), PAGE, cursor).await?;
        for line in &page.items {
            let line = read(line);
            let id = line["event_id"].as_str().unwrap_or_default();
            // One that is not there any more was purged meanwhile.
            if let Some(event) = place.event(id, Some(&source_of(&line))).await? {
                walk.look(&read(&event));
            }
        }
        progress.count(walk.report.events, total, " events");
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    walk.look_again(&place, &progress).await?;
    walk.report.quarantined = quarantined(&place).await?;
    let after = read(&place.stats().await?);
    drop(progress);
    let mut report = walk.report;
    report.accounting = accounting(&before, &after, &report);
    if report.accounting == "differs" {
        report.add(Finding {
            event_id: String::new(),
            source: None,
            finding: "accounting",
            detail: format!(
                "the store counts {}, and {:?} are there",
                after["by_status"], report.by_status
            ),
        });
    }
    report.began_at = time(began_at);
    report.ended_at = time(TokioClock::new().now());
    report.sound = report.findings.is_empty();
    print(&report, arguments.get_flag("json"))?;
    Ok(report.sound)
}

impl Report {
    fn new() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            began_at: String::new(),
            ended_at: String::new(),
            events: 0,
            by_status: BTreeMap::new(),
            bodies: 0,
            forgotten: 0,
            attempts: 0,
            quarantined: 0,
            accounting: "agrees",
            findings: Vec::new(),
            more_findings: 0,
            sound: true,
        }
    }

    fn add(&mut self, finding: Finding) {
        match self.findings.len() < SHOWN {
            true => self.findings.push(finding),
            false => self.more_findings += 1,
        }
    }
}

/// What was seen so far.
struct Walk {
    rules: Rules,
    report: Report,
    /// Events that seem to be stuck: they are looked at again.
    suspects: Vec<Suspicion>,
}

impl Walk {
    fn new(rules: Rules) -> Self {
        Self { rules, report: Report::new(), suspects: Vec::new() }
    }

    fn look(&mut self, event: &Value) {
        let report = &mut self.report;
        report.events += 1;
        let status = event["status"].as_str().unwrap_or_default();
        *report.by_status.entry(status.to_owned()).or_default() += 1;
        report.attempts += event["attempts"].as_array().map_or(0, Vec::len) as u64;
        match event["forgotten"].is_string() {
            true => report.forgotten += 1,
            false => report.bodies += u64::from(event["body"] != ""),
        }
        for (finding, detail) in self.rules.broken_by(event) {
            report.add(finding_of(event, finding, detail));
        }
        self.suspects.extend(self.rules.suspicion(event));
    }

    /// Looks again at what seems to be stuck, until it has moved or the patience is over.
    async fn look_again(
        &mut self,
        place: &DatabaseOrServer,
        progress: &Progress,
    ) -> Result<(), StartError> {
        let began = std::time::Instant::now();
        while !self.suspects.is_empty() {
            progress.show(&format!("{} events seem to be stuck", self.suspects.len()));
            tokio::time::sleep(LOOK_AGAIN).await;
            let waited = began.elapsed();
            for suspicion in std::mem::take(&mut self.suspects) {
                let (id, source) = (suspicion.id(), suspicion.source());
                let Some(event) = place.event(id, Some(source)).await? else { continue };
                let event = read(&event);
                if !suspicion.stands(&event) {
                    continue;
                }
                let patience = if suspicion.is_running() { LONG_PATIENCE } else { PATIENCE };
                match waited >= patience {
                    true => self.report.add(finding_of(&event, "stuck", suspicion.detail())),
                    false => self.suspects.push(suspicion),
                }
            }
        }
        Ok(())
    }
}

fn finding_of(event: &Value, finding: &'static str, detail: String) -> Finding {
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    Finding {
        event_id: text("event_id").unwrap_or_default(),
        source: text("source"),
        finding,
        detail,
    }
}

async fn quarantined(place: &DatabaseOrServer) -> Result<u64, StartError> {
    let (mut count, mut cursor) = (0, None);
    loop {
        let page = place.quarantine(PAGE, cursor).await?;
        count += page.items.len() as u64;
        cursor = page.next;
        if cursor.is_none() {
            return Ok(count);
        }
    }
}

/// Whether the numbers that the store keeps are those of what is there.
fn accounting(before: &Value, after: &Value, report: &Report) -> &'static str {
    let same = |name: &str| before[name] == after[name];
    if !same("by_status") || !same("by_type") || !same("quarantined") {
        return "changing";
    }
    let kept: BTreeMap<String, u64> = after["by_status"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, count)| Some((name.clone(), count.as_u64().filter(|it| *it > 0)?)))
        .collect();
    let sum = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    let ran = report.by_status.contains_key("processing") || kept.contains_key("processing");
    if kept == report.by_status && after["quarantined"] == report.quarantined {
        "agrees"
    } else if ran && sum(&kept) == sum(&report.by_status) {
        // Events that were run again while they were looked at are back where they were.
        "changing"
    } else {
        "differs"
    }
}

fn print(report: &Report, as_json: bool) -> Result<(), StartError> {
    if as_json {
        return print_json(report);
    }
    let statuses = report.by_status.iter().map(|(status, count)| format!("{count} {status}"));
    let statuses: Vec<_> = statuses.collect();
    say!("version     {}", report.version)?;
    say!("from        {}", report.began_at)?;
    say!("to          {}", report.ended_at)?;
    say!("events      {} ({})", report.events, statuses.join(", "))?;
    say!("bodies      {} there, {} forgotten", report.bodies, report.forgotten)?;
    say!("attempts    {}", report.attempts)?;
    say!("quarantine  {}", report.quarantined)?;
    match report.accounting {
        "agrees" => {
            say!("accounting  the numbers that the store keeps are those of what is there")?
        }
        "differs" => say!("accounting  the numbers that the store keeps are others")?,
        _ => say!("accounting  not compared: events came or ended meanwhile")?,
    }
    for Finding { event_id, source, finding, detail } in &report.findings {
        let of = source.as_ref().map_or(String::new(), |it| format!(" of {}", printable(it)));
        say!("{finding}: {}{of}: {}", printable(event_id), printable(detail))?;
    }
    match report.findings.len() as u64 + report.more_findings {
        0 => say!("sound: every event is where it may be"),
        count => say!("not sound: {count} findings"),
    }
}
