//! What operators read. Each function takes the operator, whose role decides what is shown.

use cognigy_core::{
    AuditPage, ErrorGroup, EventKey, EventPage, PageRequest, QuarantinePage, QuarantinedItem,
    error_groups,
};

use crate::{
    Operator, OperatorApi, Parameters,
    api::no_event,
    breakers, filter, pausing,
    problem::Problem,
    request::{MAX_PAGE, no_other, number, page},
    view::{EventDetail, Stats},
};

/// The parameters of the list of errors. Each means what it means as a filter.
const OF_ERRORS: [&str; 3] = ["source", "from", "to"];

impl OperatorApi {
    /// The page of events that an operator asks for with these parameters: filters, `limit` and `cursor`.
    ///
    /// # Errors
    ///
    /// A parameter is wrong, the operator sees no bodies and searches for words, or the store does not
    /// answer.
    pub async fn events(
        &self,
        operator: &Operator,
        mut parameters: Parameters,
    ) -> Result<EventPage, Problem> {
        let page = page(&mut parameters)?;
        // A search field that is left blank is no condition.
        if parameters.get("q").is_some_and(|words| words.trim().is_empty()) {
            parameters.remove("q");
        }
        if parameters.contains_key("q") && !operator.role().sees_bodies() {
            // Whether a word is found tells what the body says.
            let detail = "q looks into bodies, which this operator's role does not show";
            return Err(Problem::forbidden(detail));
        }
        let filter = filter::from_pairs(&parameters, self.clock().now(), self.types())
            .map_err(|error| Problem::bad_request(&error))?;
        Ok(self.store().list(&filter, page).await?)
    }

    /// What the operator sees of an event.
    ///
    /// # Errors
    ///
    /// There is no such event, or the store does not answer.
    pub async fn event(&self, operator: &Operator, key: &EventKey) -> Result<EventDetail, Problem> {
        let stored = self.store().find(key).await?.ok_or_else(no_event)?;
        let attempts = self.store().attempts(key).await?;
        let audit = PageRequest { limit: MAX_PAGE, after: None };
        let audit = self.store().audited(Some(key), audit).await?.entries;
        Ok(EventDetail::new(stored, attempts, audit).seen_by(operator.role()))
    }

    /// The page of the quarantine that these parameters ask for, as it is stored: what the operator sees of
    /// an item, [`QuarantineLine::seen_by`](crate::view::QuarantineLine::seen_by) says.
    ///
    /// # Errors
    ///
    /// A parameter is wrong, or the store does not answer.
    pub async fn quarantine(
        &self,
        _: &Operator,
        mut parameters: Parameters,
    ) -> Result<QuarantinePage, Problem> {
        let page = page(&mut parameters)?;
        no_other(&parameters, &[])?;
        Ok(self.store().quarantined(page).await?)
    }

    /// The item in quarantine with that id, as it is stored: what the operator sees of it,
    /// [`QuarantineLine::seen_by`](crate::view::QuarantineLine::seen_by) says.
    ///
    /// # Errors
    ///
    /// There is no such item, or the store does not answer.
    pub async fn quarantined(&self, _: &Operator, id: &str) -> Result<QuarantinedItem, Problem> {
        let id = number(id).ok_or_else(not_quarantined)?;
        self.store().quarantined_item(id).await?.ok_or_else(not_quarantined)
    }

    /// The page of the record of what operators did that these parameters ask for.
    ///
    /// # Errors
    ///
    /// A parameter is wrong, or the store does not answer.
    pub async fn audit(
        &self,
        _: &Operator,
        mut parameters: Parameters,
    ) -> Result<AuditPage, Problem> {
        let page = page(&mut parameters)?;
        no_other(&parameters, &[])?;
        Ok(self.store().audited(None, page).await?)
    }

    /// The classes of errors that these parameters ask for: what fails now, and how often.
    ///
    /// # Errors
    ///
    /// A parameter is wrong, or the store does not answer.
    pub async fn errors(
        &self,
        _: &Operator,
        parameters: &Parameters,
    ) -> Result<Vec<ErrorGroup>, Problem> {
        no_other(parameters, &OF_ERRORS)?;
        let filter = filter::from_pairs(parameters, self.clock().now(), self.types())
            .map_err(|error| Problem::bad_request(&error))?;
        Ok(error_groups(self.store(), filter.source, filter.from, filter.to).await?)
    }

    /// The statistics of this moment.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn stats(&self, _: &Operator) -> Result<Stats, Problem> {
        let counts = self.store().counts().await?;
        let figures = self.host().figures();
        let paused = pausing::paused(self.store()).await?;
        let mut breakers = breakers::open(self.store(), self.clock().now()).await?;
        // Those of this process are known at once.
        breakers.extend(self.host().breakers());
        Ok(Stats::new(counts, figures, paused, self.clock().now()).with_breakers(breakers))
    }
}

/// There is no such item in quarantine.
pub(crate) fn not_quarantined() -> Problem {
    Problem::not_found("There is no such item in quarantine")
}
