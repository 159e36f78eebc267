//! Notices: the server posts to a URL what operators should know, so that they need not look: an error of a
//! class that was not there before, a CRM out of reach and back, a source from which nothing comes, a bulk
//! replay that has ended.
//!
//! Of all servers with workers on a database one looks, the one that last wrote its name into a shared value;
//! another takes over when it has not for a while. A notice is sent before it is noted as told, so that it may
//! come twice after a crash, under one `webhook-id`. While the receiver does not take a notice, it is sent again at
//! later looks, for as long as it is news.

mod news;

use std::time::Duration;

use cognigy_core::{
    Clock, EventFilter, PageRequest, SourceName, StoreError, Timestamp, error_groups,
};
use cognigy_handler_http::ForwardHandler;
use serde::{Deserialize, Serialize};

use self::news::{Failing, Heard, Seen, Told};
use crate::{
    app::App,
    bulk_replays::{self, State},
    error::StartError,
    settings::NotifySettings,
};

/// How often is looked.
const INTERVAL: Duration = Duration::from_secs(10);
/// After this long without a look, another server looks.
const LEASE: Duration = Duration::from_secs(30);
/// How long the receiver may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Failures of events that were received so long ago at most are looked at: all dead letters would be too many.
const RECENT: Duration = Duration::from_secs(900);
/// How many error classes are looked at in one go.
const CLASSES: usize = 20;

/// The name of the shared value.
const NAME: &str = "notices";

/// The shared value.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// The server that looks, and until when it is the only one.
    owner: String,
    owned_until: i64,
    told: Told,
}

/// Looks and tells, for as long as the server runs.
pub(crate) struct Notices {
    app: App,
    receiver: ForwardHandler,
    /// Tells this process from others.
    name: String,
    begun: Timestamp,
}

impl Notices {
    pub(crate) fn new(app: App, settings: &NotifySettings) -> Result<Self, StartError> {
        let mut receiver = ForwardHandler::builder(settings.url.as_str())
            .secret(settings.secret.as_str())
            .timeout(TIMEOUT);
        if app.settings.proxy_from_env {
            receiver = receiver.proxy_from_env();
        }
        let receiver =
            receiver.build().map_err(|error| StartError::failed("COGNIGY_NOTIFY_URL", &error))?;
        let begun = app.clock.now();
        let name = format!("{}-{}", std::process::id(), begun.timestamp_micros());
        Ok(Self { app, receiver, name, begun })
    }

    pub(crate) async fn watch(self) {
        let mut failed = false;
        loop {
            match self.look().await {
                Ok(()) => failed = false,
                Err(error) if !failed => {
                    failed = true;
                    let error = cognigy_core::report(&error);
                    tracing::warn!(error, "what operators should know could not be looked at");
                }
                Err(_) => {}
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let now = self.app.clock.now();
        let store = &self.app.store;
        let before = store.shared_value(NAME).await?;
        let kept: Option<Kept> = before.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut kept = kept.unwrap_or_default();
        if kept.owner != self.name && kept.owned_until > now.timestamp_micros() {
            return Ok(());
        }
        (kept.owner, kept.owned_until) = (self.name.clone(), (now + LEASE).timestamp_micros());
        let owned = serde_json::to_string(&kept).unwrap_or_default();
        if !store.replace_shared_value(NAME, before.as_deref(), Some(&owned)).await? {
            return Ok(());
        }
        let seen = self.seen(now).await?;
        let mut news = kept.told.news(&seen, now).into_iter();
        for _ in 0..kept.told.room(now) {
            let Some(notice) = news.as_slice().first() else { break };
            let body = notice.body(now).to_string().into_bytes();
            if let Err(failure) = self.receiver.post(&notice.id(), body).await {
                let (kind, subject) = (notice.kind, &notice.subject);
                let error = failure.report();
                tracing::warn!(kind, subject, error, "a notice was not taken; it is sent again");
                break;
            }
            if let Some(notice) = news.next() {
                kept.told.tell(notice, now);
            }
        }
        kept.told.note(&seen, news.as_slice(), now);
        let after = serde_json::to_string(&kept).unwrap_or_default();
        store.replace_shared_value(NAME, Some(&owned), Some(&after)).await?;
        Ok(())
    }

    async fn seen(&self, now: Timestamp) -> Result<Seen, StoreError> {
        let store = &*self.app.store;
        let mut seen = Seen::default();
        let groups = error_groups(store, None, Some(now - RECENT), None).await?;
        seen.errors = groups
            .into_iter()
            .take(CLASSES)
            .map(|group| Failing {
                class: group.class.name,
                message: group.class.message,
                count: group.count,
                last: group.last,
                sample: group.sample.iter().map(|key| key.id.as_str().to_owned()).collect(),
            })
            .collect();
        for source in self.app.pipelines.iter() {
            let name = source.pipeline.source().name();
            let is_open = source.pipeline.breaker_is_open();
            seen.breakers.insert(name.to_string(), is_open);
            let silence = self.app.settings.source(name).and_then(|it| it.notify_silence);
            if let Some(silence) = silence
                && let Some(last) = self.last_of(name).await?
            {
                let is_silent =
                    now - last > chrono::TimeDelta::from_std(silence).unwrap_or_default();
                seen.sources.insert(name.to_string(), Heard { last, is_silent });
            }
        }
        for replay in bulk_replays::list(store).await? {
            let (id, runs) = (replay.id, replay.state == State::Running);
            let shown = serde_json::to_value(bulk_replays::Line::from(replay)).unwrap_or_default();
            seen.replays.insert(id, (runs, shown));
        }
        Ok(seen)
    }

    /// When the newest event of a source came; if there is none, when this process began. None if it is not
    /// among the newest ones that a page reads.
    async fn last_of(&self, source: &SourceName) -> Result<Option<Timestamp>, StoreError> {
        let filter = EventFilter { source: Some(source.clone()), ..EventFilter::default() };
        let page = PageRequest { limit: 1, after: None };
        let found = self.app.store.list(&filter, page).await?;
        Ok(match (found.events.first(), found.next) {
            (Some(event), _) => Some(event.received_at),
            (None, None) => Some(self.begun),
            (None, Some(_)) => None,
        })
    }
}
