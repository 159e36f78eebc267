//! The CRM, the handler, the sink and its queue: each fails as the plan says, and keeps its own
//! account of what it saw.

mod crm;
mod sink;

pub(crate) use crm::{SettlesItself, SimCrm, SimHandler};
pub(crate) use sink::{Message, SimQueue, SimSink};

use std::sync::Arc;

use cognigy_core::Contact;

use crate::{
    history::{Ended, Happened},
    world::World,
};

/// The outcome of a call, written to the history when the call ends, however it ends.
struct Call {
    world: Arc<World>,
    process: usize,
    number: u64,
    event: u32,
    /// The run, for a handler's call.
    handler_run: Option<u32>,
    how: Ended,
    contact: Option<Contact>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let (call, event, how) = (self.number, self.event, self.how);
        let contact = self.contact.take();
        let what = match self.handler_run {
            Some(run) => Happened::HandlerEnded { call, event, run, how, contact },
            None => Happened::CrmEnded { call, event, how, contact },
        };
        self.world.log(Some(self.process), what);
    }
}

/// A panic that leaves no message on standard error: runs have thousands of them.
fn panic_quietly(message: &'static str) -> ! {
    std::panic::resume_unwind(Box::new(message))
}
