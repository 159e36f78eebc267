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
/// Failures of the last quarter of an hour are looked at, of events that were received in this time: to read all
/// dead letters at each look would be too much.
const RECENT: Duration = Duration::from_secs(900);
/// Every so many looks, those of events that were received earlier are looked at, too: they may have waited
/// for long, or be run again.
const FAR_EVERY: u32 = 12;
const FAR: Duration = Duration::from_secs(7 * 24 * 3600);
/// After so many notices that were not taken, a look ends: the receiver is away.
const REFUSALS: u32 = 3;

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
        for number in 1_u32.. {
            match self.look(number.is_multiple_of(FAR_EVERY)).await {
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

    async fn look(&self, looks_far: bool) -> Result<(), StoreError> {
        let now = self.app.clock.now();
        let before = self.app.store.shared_value(NAME).await?;
        let kept: Option<Kept> = before.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut kept = kept.unwrap_or_default();
        if kept.owner != self.name && kept.owned_until > now.timestamp_micros() {
            return Ok(());
        }
        let Some(mut written) = self.keep(&mut kept, before.as_deref()).await? else {
            return Ok(());
        };
        let seen = self.seen(now, looks_far).await?;
        let (mut left, mut refused) = (Vec::new(), 0);
        for notice in kept.told.news(&seen, now) {
            if refused == REFUSALS || kept.told.room(now) == 0 {
                left.push(notice);
                continue;
            }
            let body = notice.body(now).to_string().into_bytes();
            if let Err(failure) = self.receiver.post(&notice.id(), body).await {
                let error = failure.report().replace("the forward URL", "COGNIGY_NOTIFY_URL");
                let (kind, subject) = (notice.kind, &notice.subject);
                tracing::warn!(kind, subject, error, "a notice was not taken; it is sent again");
                refused += 1;
                left.push(notice);
            } else {
                kept.told.tell(notice, now);
            }
            // Noted at once, which renews the lease too: a receiver may be slow.
            match self.keep(&mut kept, Some(&written)).await? {
                Some(text) => written = text,
                // Another server looks now.
                None => return Ok(()),
            }
        }
        kept.told.note(&seen, &left, now);
        self.keep(&mut kept, Some(&written)).await?;
        Ok(())
    }

    /// Writes what was told, and that this process looks. Yields what was written; None if another process
    /// has written meanwhile.
    async fn keep(
        &self,
        kept: &mut Kept,
        before: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        let until = (self.app.clock.now() + LEASE).timestamp_micros();
        (kept.owner, kept.owned_until) = (self.name.clone(), until);
        let text = serde_json::to_string(kept).unwrap_or_default();
        let replaced = self.app.store.replace_shared_value(NAME, before, Some(&text)).await?;
        Ok(replaced.then_some(text))
    }

    async fn seen(&self, now: Timestamp, looks_far: bool) -> Result<Seen, StoreError> {
        let store = &*self.app.store;
        let mut seen = Seen::default();
        let span = if looks_far { FAR } else { RECENT };
        let groups = error_groups(store, None, Some(now - span), None).await?;
        let recent = chrono::TimeDelta::from_std(RECENT).unwrap_or_default();
        seen.errors = groups
            .into_iter()
            .filter(|group| now - group.last < recent)
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
