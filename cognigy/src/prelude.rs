//! What nearly every application names: `use cognigy::prelude::*`.
//!
//! ```
//! use cognigy::prelude::*;
//!
//! let handlers = Handlers::new().on(|said: UserInput<String>, cx| async move {
//!     println!("{:?} said {}", cx.event().contact_key(), said.input);
//!     Ok(())
//! });
//! # let _ = handlers;
//! ```

pub use cognigy_service::Service;

pub use cognigy_core::{
    Clock, Contact, DialogEnded, DialogStarted, Event, EventPayload, Failure, HandlerContext,
    Handlers, OrFail, Pipeline, ProfileUpdated, RawDelivery, RetryPolicy, Secret,
    SignatureVerifier, Source, SourceName, TokioClock, UserInput, Worker,
};
