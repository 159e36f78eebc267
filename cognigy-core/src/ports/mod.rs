//! What the core asks of the outside: a clock, a CRM, a handler, a sink for dead letters, an observer.
//! The store's ports are in [`store`](crate::store).

mod clock;
mod crm;
mod dead_letter;
mod error;
mod handler;
mod observe;
mod scope;
mod settling;
mod trace;

pub use clock::Clock;
#[cfg(feature = "tokio")]
pub use clock::TokioClock;
pub use crm::{Contact, ContactQuery, CrmClient, NoCrm};
pub use dead_letter::{
    DeadLetter, DeadLetterMessage, DeadLetterSink, DeadLetterSource, KeepInStore,
    ReceivedDeadLetter,
};
pub use error::{
    BoxError, Failure, FailureKind, FailureScope, OrFail, Stage, StoreError, StoreErrorKind, report,
};
pub use handler::{EventHandler, NoHandler};
pub use observe::{CrmOutcome, GaveUp, Observation, Observer, Silent};
pub use scope::Scope;
pub(crate) use settling::Settling;
pub use settling::{Completion, SettlingHandler};
pub use trace::{Operation, Origin, Recording, Span, SpanEnd, Tracer};
