//! From a request that may be carried out to its answer.

use cognigy_core::Reply;
use serde_json::json;

use crate::{
    Operator, OperatorApi, Parameters,
    api::json as answer,
    bulk_replays::Line,
    problem::Problem,
    routes::Action,
    view::{AuditLine, ErrorLine, EventLine, EventsPage, QuarantineLine, QuarantinePage},
};

impl OperatorApi {
    /// `named` is what the path names, decoded.
    pub(crate) async fn perform(
        &self,
        operator: &Operator,
        action: Action,
        named: String,
        parameters: Parameters,
        body: &[u8],
    ) -> Result<Reply, Problem> {
        match action {
            Action::ListEvents => {
                let found = self.events(operator, parameters).await?;
                let events = found.events.into_iter().map(EventLine::from).collect();
                let next_cursor = found.next.map(|cursor| cursor.to_string());
                answer(&EventsPage { events, next_cursor })
            }
            Action::ShowEvent => {
                let key = self.key(&named, parameters).await?;
                answer(&self.event(operator, &key).await?)
            }
            Action::Replay => {
                let key = self.key(&named, parameters).await?;
                let contact = self.replay(operator, key).await?;
                answer(&json!({ "status": "replayed", "crm_context": contact }))
            }
            Action::ListReplays => {
                let replays = self.bulk_replays(operator).await?;
                let lines: Vec<_> = replays.into_iter().map(Line::from).collect();
                answer(&json!({ "replays": lines }))
            }
            Action::BeginReplay => self.begin_replay(operator, body).await?.into_reply(),
            Action::ShowReplay => answer(&Line::from(self.bulk_replay(operator, &named).await?)),
            Action::CancelReplay => {
                answer(&Line::from(self.cancel_replay(operator, &named).await?))
            }
            Action::BeginRecorrelation => {
                self.begin_recorrelation(operator, body).await?.into_reply()
            }
            Action::ListQuarantine => {
                let found = self.quarantine(operator, parameters).await?;
                let seen = |item| QuarantineLine::from(item).seen_by(operator.role());
                let items = found.items.into_iter().map(seen).collect();
                let next_cursor = found.next.map(|cursor| cursor.to_string());
                answer(&QuarantinePage { items, next_cursor })
            }
            Action::ShowQuarantined => {
                let item = self.quarantined(operator, &named).await?;
                answer(&QuarantineLine::from(item).seen_by(operator.role()))
            }
            Action::DiscardQuarantined => {
                self.discard_quarantined(operator, &named).await?;
                answer(&json!({ "id": named, "status": "discarded" }))
            }
            Action::RetryQuarantined => {
                let (key, is_duplicate) = self.retry_quarantined(operator, &named).await?;
                let mut told = json!({ "status": "accepted", "event_id": key.id.as_str() });
                if is_duplicate {
                    told["duplicate"] = true.into();
                }
                answer(&told)
            }
            Action::Pause | Action::Resume => {
                let paused = action == Action::Pause;
                let source = self.set_paused(operator, &named, paused).await?;
                answer(&json!({ "source": source.as_str(), "paused": paused }))
            }
            Action::ListAudit => {
                let found = self.audit(operator, parameters).await?;
                let seen = |entry| AuditLine::from(entry).seen_by(operator.role());
                let entries: Vec<_> = found.entries.into_iter().map(seen).collect();
                let next = found.next.map(|cursor| cursor.to_string());
                answer(&json!({ "entries": entries, "next_cursor": next }))
            }
            Action::ListErrors => {
                let groups = self.errors(operator, &parameters).await?;
                let groups: Vec<_> = groups.into_iter().map(ErrorLine::from).collect();
                answer(&json!({ "groups": groups }))
            }
            Action::ShowContact => answer(&self.contact(operator, named).await?),
            Action::Discard => answer(&self.discard(operator, body).await?),
            Action::Erase => self.erase_as_asked(operator, body).await,
            Action::Purge => answer(&self.purge(operator, body).await?),
            Action::Rehearse => answer(&self.rehearse(operator, body).await?),
            Action::ShowStats => answer(&self.stats(operator).await?),
        }
    }
}
