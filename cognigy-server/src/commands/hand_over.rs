//! Hands events to the workers of a server, and waits for their outcomes.

use std::time::{Duration, Instant};

use cognigy_core::{AttemptOutcome, Clock, EventKey, Requeued, State};

use super::{
    interrupt::Interrupt,
    replay::{Account, Status, by_source, not_configured},
};
use crate::{app::App, deployment::Deployment, error::StartError, presence::Presence};

/// How many events one store call hands over: large enough for one fsync to matter little.
const BATCH: usize = 256;

/// The shortest and the longest pause between two looks at the events that have not ended. In
/// between, a pause is twice as long as the look before it, so that looking takes a third of the
/// time at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long a server may be away, for a restart, before the command gives up waiting for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event that was handed over.
struct HandedOver {
    key: EventKey,
    /// How many attempts the event's history had at the last look.
    attempts: Option<usize>,
}

/// Hands the events to the workers. If `waits`, it waits for their outcomes. With `deployment` it
/// waits only while a server works on that deployment's database.
pub(super) async fn run(
    app: &App,
    keys: Vec<EventKey>,
    waits: bool,
    deployment: Option<&Deployment>,
    interrupt: &Interrupt,
    mut account: Account,
) -> Result<Account, StartError> {
    let mut outstanding = Vec::new();
    for (source, keys) in by_source(keys) {
        let Some(source) = app.pipelines.get(&source) else {
            for key in &keys {
                let (status, detail) = not_configured(key);
                account.record(key, status, detail);
            }
            continue;
        };
        for keys in keys.chunks(BATCH) {
            if interrupt.is_requested() || account.broke_off.is_some() {
                break;
            }
            let answers = source.pipeline.requeue(keys, app.clock.now()).await?;
            for (key, answer) in keys.iter().zip(answers) {
                match answer {
                    Requeued::Scheduled | Requeued::Waiting => {
                        outstanding.push(HandedOver { key: key.clone(), attempts: None });
                    }
                    Requeued::Busy => account.record(key, Status::Busy, None),
                    Requeued::Forgotten => account.record(key, Status::Forgotten, None),
                    Requeued::NotFound => account.record(key, Status::NotFound, None),
                }
            }
        }
    }
    let count = outstanding.len();
    if !waits {
        outstanding.iter().for_each(|event| account.record(&event.key, Status::HandedOver, None));
        outstanding.clear();
    } else if count > 0 {
        account.say(&format!("{count} handed to the workers of the server; waiting for them"));
    }
    if account.broke_off.is_none() && !outstanding.is_empty() {
        account.show_progress();
        await_all(app, &mut outstanding, deployment, interrupt, &mut account).await?;
    }
    if account.broke_off.is_none() && interrupt.is_requested() {
        let (ended, left) = (count - outstanding.len(), outstanding.len());
        account.broke_off = Some(StartError::Interrupted(format!(
            "{count} were handed over; {ended} have ended, {left} stay with the workers"
        )));
    }
    Ok(account)
}

/// Looks at the events until each has ended, or until there is a reason to stop waiting.
async fn await_all(
    app: &App,
    outstanding: &mut Vec<HandedOver>,
    deployment: Option<&Deployment>,
    interrupt: &Interrupt,
    account: &mut Account,
) -> Result<(), StartError> {
    let mut last_seen = Instant::now();
    while !outstanding.is_empty() && account.broke_off.is_none() && !interrupt.is_requested() {
        let started = Instant::now();
        let mut left = Vec::new();
        for mut event in std::mem::take(outstanding) {
            if interrupt.is_requested() || account.broke_off.is_some() {
                left.push(event);
                continue;
            }
            match outcome(app, &mut event).await? {
                Some((status, detail)) => account.record(&event.key, status, detail),
                None => left.push(event),
            }
        }
        *outstanding = left;
        if outstanding.is_empty() {
            break;
        }
        if let Some(deployment) = deployment {
            if Presence::is_announced(deployment).await? {
                last_seen = Instant::now();
            } else if last_seen.elapsed() > PATIENCE {
                let left = outstanding.len();
                account.broke_off = Some(StartError::Failed(format!(
                    "no server works on the database any more: {left} events are due and run when \
                     one does"
                )));
            }
        }
        let pause = (started.elapsed() * 2).clamp(PAUSES.0, PAUSES.1);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = interrupt.requested() => {}
        }
    }
    Ok(())
}

/// The outcome of an event, once its run has ended. The event was `pending` when it was handed
/// over, so an end state is the end of that run. The event with its body is read only if its
/// history has grown: an event whose workers vanish may be given up without another attempt.
async fn outcome(
    app: &App,
    event: &mut HandedOver,
) -> Result<Option<(Status, Option<String>)>, StartError> {
    let attempts = app.store.attempts(&event.key).await?;
    let last = attempts.last();
    let vanished = last.is_some_and(|last| last.outcome == AttemptOutcome::LeaseExpired);
    if event.attempts.replace(attempts.len()) == Some(attempts.len()) && !vanished {
        return Ok(None);
    }
    let Some(stored) = app.store.find(&event.key).await? else {
        return Ok(Some((Status::NotFound, None)));
    };
    Ok(match stored.state {
        State::Pending | State::Processing => None,
        State::Processed => Some((Status::Replayed, None)),
        State::DeadLettering | State::DeadLettered | State::Discarded => {
            Some((Status::Failed, last.and_then(|last| last.error.clone())))
        }
    })
}
