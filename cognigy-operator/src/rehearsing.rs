//! Rehearses replays: how they would end, without running them.

use cognigy_core::{EventKey, Rehearsed, RunOutcome, StoreError};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    Operator, OperatorApi, find,
    problem::Problem,
    selection::{self, Selection},
};

/// How many events are rehearsed at most: each asks the CRM.
pub const MAX_EVENTS: usize = 100;
/// How many at once.
const AT_ONCE: usize = 8;

/// What a run came to, or would come to.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// Where the event is, or would be.
    pub status: String,
    /// What asking the CRM came to.
    pub correlation: String,
    /// The contact, as the CRM knew it.
    pub crm_context: Option<Box<RawValue>>,
    /// Why it failed.
    pub error: Option<String>,
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
#[non_exhaustive]
pub struct Line {
    /// The id of the event.
    pub event_id: String,
    /// Its source. None for the source of the plain path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How its last run ended, as it is stored.
    pub recorded: Option<Outcome>,
    /// How a replay would end now if its handler succeeded.
    pub now: Option<Outcome>,
    /// In which of `status`, `correlation` and `contact` the two differ.
    pub differs: Vec<Value>,
    /// Why it could not be rehearsed: `not_found`, `forgotten` or `not_configured`.
    pub not_rehearsed: Option<String>,
}

/// What was rehearsed.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Answer {
    /// One entry for each event, in the order in which they were named.
    pub rehearsals: Vec<Line>,
    /// Whether more events were chosen.
    pub more: bool,
}

impl OperatorApi {
    /// Rehearses the events that a request selects, at most the newest [`MAX_EVENTS`]: `body` is JSON, with `ids` or
    /// filters. It changes nothing, but asks the CRM: a reader may not have it do that.
    ///
    /// # Errors
    ///
    /// The operator only reads, the selection is malformed or empty, or the store does not answer.
    pub async fn rehearse(&self, operator: &Operator, body: &[u8]) -> Result<Answer, Problem> {
        operator.may_change()?;
        let (selection, dry_run) = selection::selection(body, self.clock().now(), self.types())
            .map_err(|error| Problem::bad_request(&error))?;
        if dry_run {
            return Err(Problem::bad_request("dry_run: a rehearsal changes nothing"));
        }
        let (keys, more) = match selection {
            Selection::Ids(keys) => (keys, false),
            Selection::Filter(filter) => find::newest(self.store(), &filter, MAX_EVENTS).await?,
        };
        Ok(self.rehearse_keys(keys, more).await?)
    }

    /// Rehearses the first of these events, in this order. `more`: whether others were chosen, too.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn rehearse_keys(
        &self,
        keys: Vec<EventKey>,
        more: bool,
    ) -> Result<Answer, StoreError> {
        let more = more || keys.len() > MAX_EVENTS;
        let keys = keys.into_iter().take(MAX_EVENTS);
        let lines = stream::iter(keys).map(|key| self.rehearse_one(key)).buffered(AT_ONCE);
        let rehearsals: Result<_, _> = lines.collect::<Vec<_>>().await.into_iter().collect();
        Ok(Answer { rehearsals: rehearsals?, more })
    }

    async fn rehearse_one(&self, key: EventKey) -> Result<Line, StoreError> {
        let mut line = Line {
            event_id: key.id.as_str().to_owned(),
            source: (!key.source.is_default()).then(|| key.source.to_string()),
            recorded: None,
            now: None,
            differs: Vec::new(),
            not_rehearsed: None,
        };
        let mut not = |why: &str| line.not_rehearsed = Some(why.to_owned());
        match self.pipeline(&key.source) {
            Err(_) => not("not_configured"),
            Ok(pipeline) => match pipeline.rehearse(&key, self.clock()).await? {
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
}
