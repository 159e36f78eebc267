//! Asks the CRM again for an event whose contact was not found then.

use cognigy_core::{Clock, Correlation, EventFilter, EventKey, Recorrelated, Requeued, StoreError};

use crate::app::App;

/// What is asked for again unless a filter says otherwise.
const UNKNOWN: [Correlation; 3] = [Correlation::None, Correlation::Ambiguous, Correlation::Failed];

/// The events that are asked for again, of those that match.
pub(crate) fn filters(filter: &EventFilter) -> impl Iterator<Item = EventFilter> {
    let wanted = |it: &Correlation| filter.correlation.is_none_or(|wanted| wanted == *it);
    let of = |it| EventFilter { correlation: Some(it), ..filter.clone() };
    UNKNOWN.into_iter().filter(wanted).map(of)
}

/// The outcome where the CRM gave no answer that can be used.
pub(crate) const FAILED: &str = "failed";
/// The outcomes of events that were asked for. Any other says that the contact could not be asked for.
const ASKED: [&str; 5] = ["matched", "handed_over", "none", "ambiguous", "not_applicable"];

/// Whether a contact was asked for, whatever the CRM's answer.
pub(crate) fn was_asked(outcome: &str) -> bool {
    ASKED.contains(&outcome)
}

/// What asking came to.
#[derive(Debug)]
pub(crate) struct Answer {
    /// A name for people and scripts.
    pub(crate) outcome: &'static str,
    /// Why it failed.
    pub(crate) detail: Option<String>,
}

impl Answer {
    fn named(outcome: &'static str) -> Self {
        Self { outcome, detail: None }
    }

    /// Whether the contact is known now, or the event is to be run.
    pub(crate) fn went_well(&self) -> bool {
        matches!(self.outcome, "matched" | "handed_over")
    }
}

/// Asks for one event. If `runs_handler`, the event is handed to the workers once its contact is known.
pub(crate) async fn ask(
    app: &App,
    key: &EventKey,
    runs_handler: bool,
) -> Result<Answer, StoreError> {
    let Some(source) = app.pipelines.get(&key.source) else {
        return Ok(Answer::named("not_configured"));
    };
    let outcome = source.pipeline.recorrelate(key, &app.clock).await?;
    let is_dead = matches!(outcome, Recorrelated::NotApplicable);
    let has_contact = matches!(outcome, Recorrelated::Matched(_));
    if runs_handler && (has_contact || is_dead) {
        // An event that was given up has no end but a run of its own.
        let answers = source.pipeline.requeue(std::slice::from_ref(key), app.clock.now()).await?;
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
