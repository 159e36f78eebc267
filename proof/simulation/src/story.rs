//! A run as a story: what happened when, in the words of an operator.

use std::fmt::Write;

use cognigy_core::{ClaimToken, DeadLetterEnd, RunEnd, Settled, Settlement, WorkEnd, WorkKind};

use crate::{
    Bug, Ended, Entry, Happened, Micros, RecordedAs, Run, Told,
    plan::{Plan, SECOND},
};

/// Describes `run`: which promise was broken, how the run was set up, and what led to the breach.
#[must_use]
pub fn tell(run: &Run, bug: Option<Bug>) -> String {
    let mut story = String::new();
    let seed = run.plan.seed;
    for broken in run.violations.iter().take(5) {
        let event = broken.event.map(|event| format!(" (event {event})")).unwrap_or_default();
        let _ = writeln!(story, "BROKEN at {}: {}{event}", time(broken.at), broken.promise);
        let _ = writeln!(story, "       {}", broken.detail);
    }
    let _ = writeln!(story, "\n{}", set_up(&run.plan));
    let until = run.violations.first().map_or(Micros::MAX, |first| first.at);
    let mut handles = Handles::default();
    for entry in &run.history {
        handles.learn(entry);
        if entry.at <= until {
            let who = entry.process.map_or("world    ".to_owned(), |n| format!("process {n}"));
            let told = line(entry, &run.plan, &handles);
            let _ = writeln!(story, "{:>14}  {who}  {told}", time(entry.at));
        }
    }
    let planted = bug.map(|bug| format!(" --planted {}", bug.name())).unwrap_or_default();
    let _ = writeln!(
        story,
        "\nRun it again: cargo run -p cognigy-simulation --release -- --seed {seed}{planted}"
    );
    story
}

fn set_up(plan: &Plan) -> String {
    let settings = &plan.settings;
    let store = match (settings.reference_store, settings.remote_store) {
        (true, true) => "the reference store, remote",
        (true, false) => "the reference store, in the process",
        (false, true) => "the simulated disk, remote",
        (false, false) => "the simulated disk, in the process",
    };
    let mut text = format!(
        "{} process(es) with {} worker(s) each on {store}; lease {:?}, attempt timeout {:?}, at most \
         {} attempts, {} lost leases; {} in flight, {} held, a look every {:?}; quiet from {}",
        settings.clocks.len(),
        settings.workers,
        settings.lease,
        settings.attempt_timeout,
        settings.retry.max_attempts,
        settings.max_lost_leases,
        settings.options.concurrency,
        settings.options.batch,
        settings.options.poll_interval,
        time(settings.quiet_at),
    );
    if settings.clocks.iter().any(|clock| *clock != 0) {
        let _ = write!(text, "; clocks ahead by {:?} µs", settings.clocks);
    }
    for (event, nature) in &plan.natures {
        let _ = write!(text, "\nevent {event} is of a kind that: {nature:?}");
    }
    text
}

fn time(at: Micros) -> String {
    format!("{}.{:06} s", at / SECOND, at % SECOND)
}

/// Which event a store's handle stands for.
#[derive(Default)]
struct Handles(std::collections::BTreeMap<i64, (u32, u32)>);

impl Handles {
    fn learn(&mut self, entry: &Entry) {
        let (token, event, run) = match &entry.what {
            Happened::Granted(grant) => (grant.token, grant.event, grant.run),
            Happened::GrantedLetter(grant) => (grant.token, grant.event, grant.run),
            _ => return,
        };
        self.0.insert(token.handle, (event, run));
    }

    fn name(&self, token: &ClaimToken) -> String {
        let (event, run) = self.0.get(&token.handle).copied().unwrap_or((u32::MAX, 0));
        let what = match token.work {
            WorkKind::Run => format!("event {event}"),
            WorkKind::DeadLetter => format!("dead letter of event {event}, run {run}"),
        };
        format!("{what} (claim {})", token.fence)
    }
}

fn line(entry: &Entry, plan: &Plan, handles: &Handles) -> String {
    match &entry.what {
        Happened::Started { clock: 0 } => "starts".to_owned(),
        Happened::Started { clock } => format!("starts, its clock ahead by {clock} µs"),
        Happened::Crashed => "CRASHES".to_owned(),
        Happened::StopAsked => "is asked to stop".to_owned(),
        Happened::Stopped => "has stopped".to_owned(),
        Happened::Stalled { until } => format!("is PAUSED until {}", time(*until)),
        Happened::Resumed => "goes on".to_owned(),
        Happened::ClockJumped { by } => format!("its clock jumps ahead by {}", time(*by)),
        Happened::Outage { of, until } => format!("the {of} is DOWN until {}", time(*until)),
        Happened::Struck { fault, about } => format!("FAULT {} ({about})", fault.label()),
        Happened::Sent { delivery, try_number } => {
            let sent = &plan.deliveries[*delivery];
            let parts = sent.parts().map(|part| format!("event {} ({:?})", part.event, part.body));
            let parts = parts.collect::<Vec<_>>().join(", ");
            format!("is sent {parts}, delivery {delivery}, try {try_number}")
        }
        Happened::Answered { delivery, status, body } => {
            let body = String::from_utf8_lossy(body);
            format!("answers delivery {delivery}: {status} {body}")
        }
        Happened::Unanswered { delivery } => format!("delivery {delivery} gets no answer"),
        Happened::Recorded { event, outcome, .. } => match outcome {
            RecordedAs::New => format!("store: event {event} is recorded"),
            RecordedAs::Identical => format!("store: event {event} is known, same bytes"),
            RecordedAs::Differs => format!("store: event {event} is known, other bytes"),
        },
        Happened::Survived { stored } => {
            let events: Vec<_> = stored.iter().map(|(event, _)| event).collect();
            format!("store: after the crash it holds events {events:?}")
        }
        Happened::Granted(grant) => format!(
            "store: event {} is claimed for run {}, attempt {}{}, until {} (claim {})",
            grant.event,
            grant.run,
            grant.attempt,
            if grant.by_replay { ", by a replay" } else { "" },
            grant.until.time(),
            grant.token.fence,
        ),
        Happened::GrantedLetter(grant) => format!(
            "store: the dead letter of event {}, run {}, is claimed until {} (claim {})",
            grant.event,
            grant.run,
            grant.until.time(),
            grant.token.fence,
        ),
        Happened::Renewed { token, answer: Settled::Done, until } => {
            format!("store: {} is renewed until {}", handles.name(token), until.time())
        }
        Happened::Renewed { token, .. } => {
            format!("store: {} is not renewed, the lease is lost", handles.name(token))
        }
        Happened::Settled { settlement, answer } => settled(settlement, *answer, handles),
        Happened::ReplayRefused { event, busy: true, .. } => {
            format!("store: no replay of event {event}, it is held")
        }
        Happened::ReplayRefused { event, .. } => {
            format!("store: no replay of event {event}, it is not known")
        }
        Happened::Requeued { event, answer, .. } => {
            format!("store: event {event} is to run again: {answer:?}")
        }
        Happened::Purged { events, .. } => format!("store: forgets events {events:?}"),
        Happened::Quarantined { item, .. } => {
            format!("store: a body goes into quarantine ({})", item.reason.as_str())
        }
        Happened::Discharged { answer, .. } => format!("store: out of quarantine: {answer}"),
        Happened::CrmBegan { call, event, run, .. } => {
            format!("asks the CRM about event {event}, run {run} (call {call})")
        }
        Happened::CrmEnded { call, how, .. } => format!("CRM call {call} ends: {}", ended(*how)),
        Happened::HandlerBegan { call, event, run, .. } => {
            format!("handles event {event}, run {run} (call {call})")
        }
        Happened::HandlerEnded { call, how, .. } => format!("handler {call} ends: {}", ended(*how)),
        Happened::SinkTook { event, run, reason, .. } => {
            format!("sink: takes the dead letter of event {event}, run {run}: {reason}")
        }
        Happened::SinkRefused { event, run } => {
            format!("sink: refuses the dead letter of event {event}, run {run}")
        }
        Happened::ReplayAsked { event } => {
            format!("an operator asks for a replay of event {event}")
        }
        Happened::ReplayTold { event, told } => match told {
            Told::Gone => format!("the operator who replays event {event} left"),
            told => format!("the operator is told about event {event}: {told:?}"),
        },
        Happened::WorkerEnded { .. } => "a worker ends".to_owned(),
        Happened::Panicked { message } => format!("PANICS: {message}"),
    }
}

fn settled(settlement: &Settlement, answer: Settled, handles: &Handles) -> String {
    let name = handles.name(&settlement.token());
    if answer == Settled::LeaseLost {
        return format!("store: {name} changes nothing, the lease is lost");
    }
    match settlement.end() {
        WorkEnd::Run { end, .. } => match end {
            RunEnd::Processed { .. } => format!("store: {name} is processed"),
            RunEnd::Retry { due } => format!("store: {name} failed, due again {}", due.time()),
            RunEnd::GiveUp { reason, .. } => format!("store: {name} is given up: {reason}"),
            RunEnd::Release => format!("store: {name} is given back"),
            RunEnd::PutOff { due } => format!("store: {name} is put off until {}", due.time()),
        },
        WorkEnd::DeadLetter(DeadLetterEnd::Sent) => format!("store: {name} is sent"),
        WorkEnd::DeadLetter(DeadLetterEnd::Retry { due }) => {
            format!("store: {name} was not taken, due again {}", due.time())
        }
    }
}

fn ended(how: Ended) -> &'static str {
    match how {
        Ended::Well => "well",
        Ended::Transient => "an error that may pass",
        Ended::Permanent => "an error that will not pass",
        Ended::Panicked => "a panic",
        Ended::Dropped => "cut off",
    }
}
