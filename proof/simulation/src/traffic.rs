//! Senders and operators: they live outside, ask a process for something, and may not wait for the
//! answer.

use std::sync::Arc;

use cognigy_core::{Clock, PageRequest, PurgeRequest, RawDelivery, ReplayOutcome};
use futures_channel::oneshot;
use futures_util::future::{AbortHandle, Abortable, Either, select};

use crate::{
    body,
    executor::{Micros, Owner},
    fault::Fault,
    history::{Happened, Told},
    outside::SimQueue,
    plan::{Body, Incident, SECOND, What},
    planted::Bug,
    process::Running,
    world::World,
};

/// Runs `work` inside `process` and waits for it for `patience`. There is no answer if the process
/// crashes or `patience` ends; `dies_with_caller` says whether the work ends then too.
async fn ask<T: Send + 'static>(
    world: &Arc<World>,
    process: usize,
    patience: Micros,
    dies_with_caller: bool,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Unanswered> {
    let (answer, receive) = oneshot::channel();
    let (abort, registration) = AbortHandle::new_pair();
    world.handle.spawn(Owner::Process(process), async move {
        if let Ok(result) = Abortable::new(work, registration).await {
            drop(answer.send(result));
        }
    });
    match select(receive, world.handle.sleep(patience)).await {
        Either::Left((answer, _)) => answer.map_err(|_| Unanswered::Crashed),
        Either::Right(_) => {
            if dies_with_caller {
                abort.abort();
            }
            Err(Unanswered::OutOfPatience)
        }
    }
}

#[derive(PartialEq)]
enum Unanswered {
    Crashed,
    OutOfPatience,
}

/// Counts a sender or an operator as active until it is dropped.
struct About(Arc<World>);

impl About {
    fn new(world: &Arc<World>) -> Self {
        world.state().busy += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for About {
    fn drop(&mut self) {
        self.0.state().busy -= 1;
    }
}

/// The process that a request reaches: the one asked for, or the next one that is up.
fn reach(world: &World, wanted: usize) -> Option<(usize, Running)> {
    let processes = world.plan.settings.clocks.len();
    let candidates = (0..processes).map(|n| (wanted + n) % processes);
    candidates.into_iter().find_map(|process| {
        // A process that is stopping takes no new requests.
        let running = world.running(process).filter(|running| !running.is_stopping())?;
        Some((process, running))
    })
}

/// Sends delivery number `delivery` until it is answered or the sender gives up.
pub(crate) fn send(world: &Arc<World>, delivery: usize) {
    let about = About::new(world);
    let world = Arc::clone(world);
    world.handle.clone().spawn(Owner::World, async move {
        let sent = world.plan.deliveries[delivery].clone();
        world.handle.sleep_until(sent.at).await;
        for try_number in 1..=sent.tries {
            if try_number > 1 {
                let passing = world.pass(("resend", delivery));
                world.handle.sleep(world.dice("resend", passing).u64(0..3 * SECOND)).await;
            }
            if let Some((process, running)) = reach(&world, sent.process + try_number as usize - 1)
                && try_once(&world, delivery, try_number, process, running).await
            {
                break;
            }
        }
        drop(about);
    });
}

/// One try. Returns whether the sender accepts the answer.
async fn try_once(
    world: &Arc<World>,
    delivery: usize,
    try_number: u32,
    process: usize,
    running: Running,
) -> bool {
    let sent = &world.plan.deliveries[delivery];
    let body = body::bytes(&world.plan, delivery);
    let kind = sent.body;
    let signatures = match world.has(Bug::SignatureNotChecked) {
        true => body::right_signature(&body),
        false => body::signatures(kind, &body),
    };
    match kind {
        Body::Forged(_) => world.count(Fault::Forged),
        Body::Invalid(_) => world.count(Fault::Invalid),
        _ => {}
    }
    if !sent.others.is_empty() {
        world.count(Fault::SeveralEvents);
    }
    world.log(Some(process), Happened::Sent { delivery, try_number });
    let passing = world.pass(("delivery", delivery, try_number));
    let about = || format!("delivery {delivery}");
    let dies = world.strikes(Fault::DeliveryDropped, passing, Some(process), &about);
    let now = running.clock.now();
    let pipeline = running.pipeline;
    let delivery_name = (!sent.others.is_empty()).then_some(delivery);
    let headers = body::SenderHeaders { signatures, delivery: delivery_name };
    let ingest = async move { pipeline.ingest(RawDelivery::new(headers, body), now).await };
    match ask(world, process, sent.patience, dies, ingest).await {
        Ok(reply) => {
            let (status, body) = (reply.status(), reply.body().clone());
            world.log(Some(process), Happened::Answered { delivery, status, body });
            status != 503
        }
        Err(why) => {
            if why == Unanswered::OutOfPatience {
                world.count(Fault::SenderGone);
            }
            world.log(Some(process), Happened::Unanswered { delivery });
            false
        }
    }
}

/// Makes an operator do what `incident` says.
pub(crate) fn operate(world: &Arc<World>, incident: &Incident) {
    let about = About::new(world);
    let world = Arc::clone(world);
    let what = incident.what.clone();
    world.handle.clone().spawn(Owner::World, async move {
        order(&world, what).await;
        drop(about);
    });
}

async fn order(world: &Arc<World>, what: What) {
    match what {
        What::Replay { process, event, patience } => replay(world, process, event, patience).await,
        What::Requeue { process, events } => {
            let keys: Vec<_> = events.into_iter().map(body::key).collect();
            let work = move |at: Running| async move {
                drop(at.pipeline.requeue(&keys, at.clock.now()).await);
            };
            tell(world, process, work).await;
        }
        What::Purge { process, age } => {
            let work = move |at: Running| async move {
                let before = at.clock.now() - std::time::Duration::from_micros(age);
                let request = PurgeRequest::all_before(before, 1000);
                drop(at.pipeline.store().purge(request).await);
            };
            tell(world, process, work).await;
        }
        What::Redrive { process } => {
            let queue = SimQueue { world: Arc::clone(world), process };
            let counter = Arc::clone(world);
            let work = move |at: Running| async move {
                let report = at.pipeline.redrive(&queue, None, &at.clock, |_| {}).await;
                if let Ok(report) = report {
                    (0..report.requeued).for_each(|_| counter.count(Fault::Redriven));
                    (0..report.stored).for_each(|_| counter.count(Fault::RedrivenAnew));
                }
            };
            tell(world, process, work).await;
        }
        What::RetryQuarantine { process } => {
            let work = move |at: Running| async move {
                let page = PageRequest { limit: 100, after: None };
                let Ok(page) = at.pipeline.store().quarantined(page).await else { return };
                for item in page.items {
                    drop(at.pipeline.retry_quarantined(item.id, at.clock.now()).await);
                }
            };
            tell(world, process, work).await;
        }
        _ => {}
    }
}

/// Makes a process do something, and waits at most a minute for its answer.
async fn tell<F: Future<Output = ()> + Send + 'static>(
    world: &Arc<World>,
    process: usize,
    work: impl FnOnce(Running) -> F,
) {
    let Some((process, running)) = reach(world, process) else { return };
    let passing = world.pass(("operator", process));
    let dies = world.strikes(Fault::OperatorGone, passing, Some(process), &String::new);
    let patience = if dies { SECOND / 2 } else { 60 * SECOND };
    drop(ask(world, process, patience, dies, work(running)).await);
}

async fn replay(world: &Arc<World>, process: usize, event: u32, patience: Micros) {
    let Some((process, running)) = reach(world, process) else { return };
    world.log(Some(process), Happened::ReplayAsked { event });
    let passing = world.pass(("replay", event));
    let about = || format!("replay of event {event}");
    let dies = world.strikes(Fault::OperatorGone, passing, Some(process), &about);
    let key = body::key(event);
    let work = async move { running.pipeline.replay(&key, &running.clock).await };
    let told = match ask(world, process, patience, dies, work).await {
        Err(_) => Told::Gone,
        Ok(Err(_)) => Told::Error,
        Ok(Ok(ReplayOutcome::Replayed(contact))) => Told::Replayed(contact),
        Ok(Ok(ReplayOutcome::Failed(reason))) => Told::Failed(reason),
        Ok(Ok(ReplayOutcome::NotFound)) => Told::NotFound,
        // No replay is stopped here, and no body is forgotten; neither would have had an effect.
        Ok(Ok(ReplayOutcome::Busy | ReplayOutcome::Stopped | ReplayOutcome::Forgotten)) => {
            Told::Busy
        }
    };
    world.log(Some(process), Happened::ReplayTold { event, told });
}
