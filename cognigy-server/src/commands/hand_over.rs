//! Handing events to the workers of a server, and waiting for what comes of them.

use std::time::{Duration, Instant};

use cognigy_core::{AttemptOutcome, Clock, EventKey, Requeued, State};

use super::{
    interrupt::Interrupt,
    replay::{Account, Status, by_source, not_configured},
};
use crate::{app::App, deployment::Deployment, error::StartError, presence::Presence};

/// Events handed over in one store call: large enough for one fsync to matter little.
const BATCH: usize = 256;

/// The pause between two looks at what has not ended: at least, and at most. In between it is twice
/// what a look took, so that looking is a third of the time and no more.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A server may be away for so long, to be started anew, before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event that was handed over.
struct HandedOver {
    key: EventKey,
    /// How many attempts its history had when it was last looked at.
    attempts: Option<usize>,
}

/// Has workers run the events, and waits for their outcome if it `waits`. With `deployment` it goes on
/// waiting only while a server works on that deployment's database.
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
                account.tell(key, status, detail);
            }
            continue;
        };
        for keys in keys.chunks(BATCH) {
            if interrupt.is_told() || account.broke_off.is_some() {
                break;
            }
            let answers = source.pipeline.requeue(keys, app.clock.now()).await?;
            for (key, answer) in keys.iter().zip(answers) {
                match answer {
                    Requeued::Scheduled | Requeued::Waiting => {
                        outstanding.push(HandedOver { key: key.clone(), attempts: None });
                    }
                    Requeued::Busy => account.tell(key, Status::Busy, None),
                    Requeued::NotFound => account.tell(key, Status::NotFound, None),
                }
            }
        }
    }
    let count = outstanding.len();
    if !waits {
        outstanding.iter().for_each(|event| account.tell(&event.key, Status::HandedOver, None));
        outstanding.clear();
    } else if count > 0 {
        account.say(&format!("{count} handed to the workers of the server; waiting for them"));
    }
    if account.broke_off.is_none() && !outstanding.is_empty() {
        account.show_progress();
        await_all(app, &mut outstanding, deployment, interrupt, &mut account).await?;
    }
    if account.broke_off.is_none() && interrupt.is_told() {
        let (ended, left) = (count - outstanding.len(), outstanding.len());
        account.broke_off = Some(StartError::Interrupted(format!(
            "{count} were handed over; {ended} have ended, {left} stay with the workers"
        )));
    }
    Ok(account)
}

/// Looks again and again until each has ended, or there is a reason to wait no longer.
async fn await_all(
    app: &App,
    outstanding: &mut Vec<HandedOver>,
    deployment: Option<&Deployment>,
    interrupt: &Interrupt,
    account: &mut Account,
) -> Result<(), StartError> {
    let mut last_seen = Instant::now();
    while !outstanding.is_empty() && account.broke_off.is_none() && !interrupt.is_told() {
        let started = Instant::now();
        let mut left = Vec::new();
        for mut event in std::mem::take(outstanding) {
            if interrupt.is_told() || account.broke_off.is_some() {
                left.push(event);
                continue;
            }
            match outcome(app, &mut event).await? {
                Some((status, detail)) => account.tell(&event.key, status, detail),
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
            () = interrupt.told() => {}
        }
    }
    Ok(())
}

/// What came of an event, once its run has ended. It was `pending` when it was handed over, so a
/// state that is an end is that run's. The event with its body is read only where its history has
/// grown; an event whose workers vanish may be given up without another attempt.
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
        State::DeadLettering | State::DeadLettered => {
            Some((Status::Failed, last.and_then(|last| last.error.clone())))
        }
    })
}
