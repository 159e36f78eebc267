//! Asks the CRM again for an event whose contact was not found then.

use cognigy_core::{Correlation, EventFilter, EventKey, Recorrelated, Requeued, StoreError};

use crate::OperatorApi;

/// What is asked for again unless a filter says otherwise.
const UNKNOWN: [Correlation; 3] = [Correlation::None, Correlation::Ambiguous, Correlation::Failed];

/// The events that are asked for again, of those that match.
pub fn filters(filter: &EventFilter) -> impl Iterator<Item = EventFilter> {
    let wanted = |it: &Correlation| filter.correlation.is_none_or(|wanted| wanted == *it);
    let of = |it| EventFilter { correlation: Some(it), ..filter.clone() };
    UNKNOWN.into_iter().filter(wanted).map(of)
}

/// The outcome where the CRM gave no answer that can be used.
pub const FAILED: &str = "failed";
/// The outcomes of events that were asked for. Any other says that the contact could not be asked for.
const ASKED: [&str; 5] = ["matched", "handed_over", "none", "ambiguous", "not_applicable"];

/// Whether a contact was asked for, whatever the CRM's answer.
#[must_use]
pub fn was_asked(outcome: &str) -> bool {
    ASKED.contains(&outcome)
}

/// What asking came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// A name for people and scripts.
    pub outcome: &'static str,
    /// Why it failed.
    pub detail: Option<String>,
}

impl Answer {
    fn named(outcome: &'static str) -> Self {
        Self { outcome, detail: None }
    }

    /// Whether the contact is known now, or the event is to be run.
    #[must_use]
    pub fn went_well(&self) -> bool {
        matches!(self.outcome, "matched" | "handed_over")
    }
}

/// Asks for one event. If `runs_handler`, the event is handed to the workers once its contact is known.
///
/// # Errors
///
/// The store does not answer.
pub async fn ask(
    api: &OperatorApi,
    key: &EventKey,
    runs_handler: bool,
) -> Result<Answer, StoreError> {
    let Ok(pipeline) = api.pipeline(&key.source) else {
        return Ok(Answer::named("not_configured"));
    };
    let outcome = pipeline.recorrelate(key, api.clock()).await?;
    let is_dead = matches!(outcome, Recorrelated::NotApplicable);
    let has_contact = matches!(outcome, Recorrelated::Matched(_));
    if runs_handler && (has_contact || is_dead) {
        // An event that was given up has no end but a run of its own.
        let answers = pipeline.requeue(std::slice::from_ref(key), api.clock().now()).await?;
        return Ok(Answer::named(match answers.first() {
            Some(Requeued::Scheduled | Requeued::Waiting) if has_contact => "matched",
            Some(Requeued::Scheduled | Requeued::Waiting) => "handed_over",
            _ => "busy",
        }));
    }
    let detail = match &outcome {
        Recorrelated::Failed(failure) => Some(failure.report()),
        Recorrelated::NotApplicable => Some("it is not processed; --run runs it again".to_owned()),
        _ => None,
    };
    Ok(Answer { outcome: outcome.as_str(), detail })
}
