//! Rehearses replays, for the operator API and for the command.

use cognigy_core::{EventKey, Rehearsed, RunOutcome, StoreError};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::app::App;

/// How many events are rehearsed at most: each asks the CRM.
pub(crate) const MAX_EVENTS: usize = 100;
/// How many at once.
const AT_ONCE: usize = 8;

/// What a run came to, or would come to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) status: String,
    pub(crate) correlation: String,
    pub(crate) crm_context: Option<Box<RawValue>>,
    pub(crate) error: Option<String>,
}

impl From<RunOutcome> for Outcome {
    fn from(outcome: RunOutcome) -> Self {
        let RunOutcome { state, correlation, contact, error } = outcome;
        let contact = contact.map(|contact| contact.as_json().to_owned());
        Self {
            status: state.as_str().to_owned(),
            correlation: correlation.as_str().to_owned(),
            crm_context: contact.and_then(|json| RawValue::from_string(json).ok()),
            error,
        }
    }
}

/// One event: how its last run ended, and how a replay would end now if its handler succeeded.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) event_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    pub(crate) recorded: Option<Outcome>,
    pub(crate) now: Option<Outcome>,
    /// In which of `status`, `correlation` and `contact` the two differ.
    pub(crate) differs: Vec<Value>,
    /// Why it could not be rehearsed: `not_found`, `forgotten` or `not_configured`.
    pub(crate) not_rehearsed: Option<String>,
}

/// What was rehearsed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) rehearsals: Vec<Line>,
    /// Whether more events were chosen.
    pub(crate) more: bool,
}

/// Rehearses the first of these events, in this order. `more`: whether others were chosen, too.
pub(crate) async fn rehearse(
    app: &App,
    keys: Vec<EventKey>,
    more: bool,
) -> Result<Answer, StoreError> {
    let more = more || keys.len() > MAX_EVENTS;
    let keys = keys.into_iter().take(MAX_EVENTS);
    let lines = stream::iter(keys).map(|key| one(app, key)).buffered(AT_ONCE);
    let rehearsals: Result<_, _> = lines.collect::<Vec<_>>().await.into_iter().collect();
    Ok(Answer { rehearsals: rehearsals?, more })
}

async fn one(app: &App, key: EventKey) -> Result<Line, StoreError> {
    let mut line = Line {
        event_id: key.id.as_str().to_owned(),
        source: (!key.source.is_default()).then(|| key.source.to_string()),
        recorded: None,
        now: None,
        differs: Vec::new(),
        not_rehearsed: None,
    };
    let mut not = |why: &str| line.not_rehearsed = Some(why.to_owned());
    match app.pipelines.get(&key.source) {
        None => not("not_configured"),
        Some(source) => match source.pipeline.rehearse(&key, &app.clock).await? {
            Rehearsed::NotFound => not("not_found"),
            Rehearsed::Forgotten => not("forgotten"),
            Rehearsed::Compared(rehearsal) => {
                line.differs = rehearsal.differences().into_iter().map(Value::from).collect();
                line.recorded = Some(rehearsal.recorded.into());
                line.now = Some(rehearsal.now.into());
            }
        },
    }
    Ok(line)
}
