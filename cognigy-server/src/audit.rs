//! The record of what operators did, for the routes of this crate and for commands.

use cognigy_core::{EventKey, Store, TokioClock};
pub(crate) use cognigy_operator::audit::Target;
use cognigy_operator::{
    Operator, TracingHost,
    audit::{Deed, Recorder},
};
use serde_json::Value;

use crate::app::App;

/// Who did what is done at the command line.
pub(crate) const COMMAND_LINE: &str = "command line";

/// Records what an operator did. An error is logged: what was done is done.
pub(crate) async fn audit(
    app: &App,
    operator: &Operator,
    action: &str,
    target: Target<'_>,
    filter: Option<&Value>,
    count: Option<u64>,
    outcome: &str,
) {
    let deed = Deed { action, target, filter, count, outcome };
    app.api.recorder(operator).record(deed).await;
}

/// Records what was done at the command line.
pub(crate) async fn audit_command(
    store: &dyn Store,
    action: &str,
    target: Target<'_>,
    filter: Option<&Value>,
    count: Option<u64>,
    outcome: &str,
) {
    let deed = Deed { action, target, filter, count, outcome };
    recorder(store, COMMAND_LINE, &TokioClock::new()).record(deed).await;
}

/// Records in the histories of events what was done to each as one of many. What was done to all of them has
/// an entry of its own.
pub(crate) async fn audit_each(
    store: &dyn Store,
    by: &str,
    action: &str,
    events: &[(EventKey, &'static str)],
) {
    recorder(store, by, &TokioClock::new()).record_each(action, events).await;
}

/// What records deeds of `by` where there is no operator's request.
pub(crate) fn recorder<'a>(
    store: &'a dyn Store,
    by: &'a str,
    clock: &'a TokioClock,
) -> Recorder<'a> {
    Recorder { store, clock, host: &TracingHost, by }
}
