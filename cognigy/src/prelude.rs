//! What nearly every application names: `use cognigy::prelude::*`.

pub use cognigy_service::Service;

pub use cognigy_core::{
    Clock, Contact, DialogEnded, DialogStarted, Event, EventPayload, Failure, HandlerContext,
    Handlers, OrFail, Pipeline, ProfileUpdated, RawDelivery, RetryPolicy, Secret,
    SignatureVerifier, Source, SourceName, TokioClock, UserInput, Worker,
};
