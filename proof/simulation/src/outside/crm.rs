//! The CRM and the handler.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cognigy_core::{
    Clock, Completion, Contact, ContactQuery, CrmClient, Event, EventHandler, EventStore, Failure,
    Settled, SettlingHandler,
};

use super::{Call, panic_quietly};
use crate::{
    body::{number, number_in},
    clock::ProcessClock,
    fault::Fault,
    history::{Ended, Happened},
    plan::{Nature, SECOND},
    store::StoreClient,
    world::World,
};

/// The slowest answer of a CRM or a handler that answers.
const SLOWEST: u64 = 15 * SECOND;

/// One process's client for the CRM.
pub(crate) struct SimCrm {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
    pub(crate) clock: ProcessClock,
}

#[async_trait]
impl CrmClient for SimCrm {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        let world = &self.world;
        // Named by the event rather than by the contact, because several events may share a
        // contact.
        let event = number_in(query.idempotency_key.split('/').nth(1).unwrap_or_default());
        let run = query.idempotency_key.rsplit('/').next().and_then(|run| run.parse().ok());
        let run: u32 = run.unwrap_or_default();
        let number = world.next_call();
        let now = self.clock.now();
        world.log(Some(self.process), Happened::CrmBegan { call: number, event, run, now });
        let mut call = Call {
            world: Arc::clone(world),
            process: self.process,
            number,
            event,
            handler_run: None,
            how: Ended::Dropped,
            contact: None,
        };
        let passing = world.pass(("crm", event, run));
        let about = || format!("look-up for event {event}, run {run}");
        let strikes = |fault| world.strikes(fault, passing, Some(self.process), &about);
        world.handle.sleep(world.delay(world.plan.settings.crm, passing).min(SLOWEST)).await;

        let (how, result) = if world.state().crm_back_at > world.handle.now() {
            (Ended::Transient, Err(Failure::transient("the CRM is down")))
        } else if world.plan.natures.get(&event) == Some(&Nature::Refused) {
            (Ended::Permanent, Err(Failure::permanent("the CRM refuses this contact")))
        } else if strikes(Fault::CrmStuck) {
            std::future::pending().await
        } else if strikes(Fault::CrmPanic) {
            call.how = Ended::Panicked;
            drop(call);
            panic_quietly("the CRM client panics")
        } else if strikes(Fault::CrmTransient) {
            (Ended::Transient, Err(Failure::transient("503")))
        } else if strikes(Fault::CrmErrorAfter) {
            (Ended::Transient, Err(Failure::transient("the answer was lost")))
        } else if strikes(Fault::CrmRetryAfter) {
            let wait = Duration::from_secs(passing % 100);
            (Ended::Transient, Err(Failure::transient("429").retry_after(wait)))
        } else if strikes(Fault::CrmPermanent) {
            (Ended::Permanent, Err(Failure::permanent("400")))
        } else if passing.is_multiple_of(4) {
            (Ended::Well, Ok(None))
        } else {
            let contact = Contact::from_json(&format!("{{\"contact\":{event},\"call\":{number}}}"));
            (Ended::Well, Ok(contact.ok()))
        };
        call.how = how;
        call.contact = result.as_ref().ok().cloned().flatten();
        result
    }
}

/// The user's handler in one process.
pub(crate) struct SimHandler {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
    pub(crate) clock: ProcessClock,
}

#[async_trait]
impl EventHandler for SimHandler {
    async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
        let world = &self.world;
        let run = event.run();
        let event = number(event.key());
        let number = world.next_call();
        let now = self.clock.now();
        world.log(Some(self.process), Happened::HandlerBegan { call: number, event, run, now });
        let mut call = Call {
            world: Arc::clone(world),
            process: self.process,
            number,
            event,
            handler_run: Some(run),
            how: Ended::Dropped,
            contact,
        };
        let passing = world.pass(("handler", event, run));
        let about = || format!("handling event {event}, run {run}");
        let strikes = |fault| world.strikes(fault, passing, Some(self.process), &about);
        world.handle.sleep(world.delay(world.plan.settings.handler, passing).min(SLOWEST)).await;

        let nature = world.plan.natures.get(&event).copied();
        if nature == Some(Nature::KillsProcess) || strikes(Fault::CrashInHandler) {
            if nature == Some(Nature::KillsProcess) {
                world.count(Fault::CrashInHandler);
            }
            world.doom(self.process);
            return std::future::pending().await;
        }
        if nature == Some(Nature::NeverEnds) || strikes(Fault::HandlerStuck) {
            return std::future::pending().await;
        }
        if nature == Some(Nature::AlwaysPanics) || strikes(Fault::HandlerPanic) {
            call.how = Ended::Panicked;
            drop(call);
            panic_quietly("the handler panics")
        }
        let (how, result) =
            if nature == Some(Nature::AlwaysFails) || strikes(Fault::HandlerTransient) {
                (Ended::Transient, Err(Failure::transient("not now")))
            } else if strikes(Fault::HandlerErrorAfter) {
                (Ended::Transient, Err(Failure::transient("done, but the answer was lost")))
            } else if strikes(Fault::HandlerPermanent) {
                (Ended::Permanent, Err(Failure::permanent("never")))
            } else {
                (Ended::Well, Ok(()))
            };
        call.how = how;
        result
    }
}

/// The same handler, which then settles its event by itself, over the process's own connection to
/// the store.
pub(crate) struct SettlesItself {
    pub(crate) handler: SimHandler,
    pub(crate) store: StoreClient,
}

#[async_trait]
impl SettlingHandler for SettlesItself {
    async fn handle(
        &self,
        event: Arc<Event>,
        contact: Option<Contact>,
        completion: Completion<'_>,
    ) -> Result<Settled, Failure> {
        self.handler.handle(event, contact).await?;
        let unanswered = || Failure::transient("the settlement was not answered");
        let answers = self.store.settle(&[completion.settlement()]).await;
        let answers = answers.map_err(|error| unanswered().caused_by(error))?;
        answers.first().copied().ok_or_else(unanswered)
    }
}
