//! What the reading commands read from: the database, or a running server (`--server`). Both give the
//! same JSON, that of the operator API, so that each command prints the same for both. It is kept as it
//! was written: numbers and the order of names may matter to a reader.

use std::{collections::BTreeMap, sync::Arc};

use clap::ArgMatches;
use cognigy_core::{Clock, PageRequest, QuarantinedItem, SourceName, Store, TokioClock};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{events::key_of, operator_api::OperatorApi};
use crate::{
    breakers,
    deployment::Deployment,
    error::StartError,
    filter::{self, Types},
    pausing,
    settings::Settings,
    store::{self, Access},
    view::{EventDetail, EventLine, QuarantineLine, Stats},
};

/// How many entries one request or store call asks for.
pub(super) const PAGE: usize = 250;

/// Where the commands read from.
pub(super) enum DatabaseOrServer {
    /// The database that is set.
    Database { store: Arc<dyn Store>, settings: Box<Settings> },
    /// A running server.
    Server(OperatorApi),
}

/// JSON as it was written.
pub(super) type Line = Box<RawValue>;

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page {
    /// Newest first.
    #[serde(alias = "events")]
    pub(super) items: Vec<Line>,
    #[serde(rename = "next_cursor")]
    pub(super) next: Option<String>,
}

/// The members of a line.
pub(super) fn read(line: &RawValue) -> Value {
    serde_json::from_str(line.get()).unwrap_or_default()
}

impl DatabaseOrServer {
    /// The server that `--server` names, or else the database that is set, for reading.
    pub(super) async fn open(
        arguments: &ArgMatches,
        deployment: &Deployment,
    ) -> Result<Self, StartError> {
        if let Some(server) = OperatorApi::named(arguments, deployment)? {
            return Ok(Self::Server(server));
        }
        let store = store::open(deployment, Access::Read, None).await?;
        let settings = Box::new(deployment.settings.clone());
        Ok(Self::Database { store, settings })
    }

    /// Events that match, newest first.
    pub(super) async fn events(
        &self,
        filter: &BTreeMap<String, String>,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<Page, StartError> {
        match self {
            Self::Database { store, .. } => {
                let filter = filter::from_pairs(filter, TokioClock::new().now(), Types::Any);
                let filter = filter.map_err(|problem| StartError::Usage(format!("--{problem}")))?;
                let found = store.list(&filter, page(limit, cursor)).await?;
                let items = found.events.into_iter().map(|it| json(&EventLine::from(it)));
                let next = found.next.map(|cursor| cursor.to_string());
                Ok(Page { items: items.collect::<Result<_, _>>()?, next })
            }
            Self::Server(server) => {
                let mut query = filter.clone();
                // "an hour ago" is the same for both: the server reads the same words.
                query.insert("limit".to_owned(), limit.to_string());
                query.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
                server.page(&["admin", "events"], &query).await
            }
        }
    }

    /// One event with its history. None if there is no such event.
    pub(super) async fn event(
        &self,
        id: &str,
        source: Option<&SourceName>,
    ) -> Result<Option<Line>, StartError> {
        match self {
            Self::Database { store, settings } => {
                let key = key_of(id, source, &**store, settings).await?;
                let Some(stored) = store.find(&key).await? else { return Ok(None) };
                let audit = store.audited(Some(&key), page(PAGE, None)).await?.entries;
                let attempts = store.attempts(&key).await?;
                json(&EventDetail::new(stored, attempts, audit)).map(Some)
            }
            Self::Server(server) => {
                let mut query = BTreeMap::new();
                query.extend(source.map(|source| ("source".to_owned(), source.to_string())));
                let event: Option<Line> = server.get(&["admin", "events", id], &query).await?;
                if let Some(event) = &event {
                    server.known(read(event), "event_id")?;
                }
                Ok(event)
            }
        }
    }

    /// What is in quarantine, newest first.
    pub(super) async fn quarantine(
        &self,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<Page, StartError> {
        match self {
            Self::Database { store, .. } => {
                let found = store.quarantined(page(limit, cursor)).await?;
                let items = found.items.into_iter().map(|it| json(&QuarantineLine::from(it)));
                let next = found.next.map(|cursor| cursor.to_string());
                Ok(Page { items: items.collect::<Result<_, _>>()?, next })
            }
            Self::Server(server) => {
                let mut query = BTreeMap::from([("limit".to_owned(), limit.to_string())]);
                query.extend(cursor.map(|cursor| ("cursor".to_owned(), cursor)));
                server.page(&["admin", "quarantine"], &query).await
            }
        }
    }

    /// One body in full.
    pub(super) async fn quarantined(&self, id: i64) -> Result<Option<Line>, StartError> {
        match self {
            Self::Database { store, .. } => {
                let item: Option<QuarantinedItem> = store.quarantined_item(id).await?;
                item.map(|item| json(&QuarantineLine::from(item))).transpose()
            }
            Self::Server(server) => {
                server.get(&["admin", "quarantine", &id.to_string()], &BTreeMap::new()).await
            }
        }
    }

    /// Whether bodies are shown here: a server shows them to some roles only.
    pub(super) async fn shows_bodies(&self) -> Result<bool, StartError> {
        let Self::Server(server) = self else { return Ok(true) };
        // A search looks into bodies.
        let query = [("q", "e"), ("limit", "1"), ("from", "1s")];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (status, body) =
            server.ask(reqwest::Method::GET, &["admin", "events"], &query, None).await?;
        match status {
            200 => Ok(true),
            403 => Ok(false),
            _ => Err(server.refused(status, &body)),
        }
    }

    /// The statistics. Those of the database alone have no rates and no deliveries.
    pub(super) async fn stats(&self) -> Result<Line, StartError> {
        match self {
            Self::Database { store, .. } => {
                let paused = pausing::paused(&**store).await?;
                let now = TokioClock::new().now();
                let breakers = breakers::open(&**store, now).await?;
                let stats = Stats::new(store.counts().await?, None, paused, now);
                json(&stats.with_breakers(breakers))
            }
            Self::Server(server) => {
                let stats = server.get(&["admin", "stats"], &BTreeMap::new()).await?;
                let stats: Line = stats.ok_or_else(|| server.is_another())?;
                server.known(read(&stats), "by_status")?;
                Ok(stats)
            }
        }
    }
}

fn page(limit: usize, cursor: Option<String>) -> PageRequest {
    // Each cursor comes from the store itself.
    PageRequest { limit, after: cursor.and_then(|cursor| cursor.parse().ok()) }
}

fn json(line: &impl Serialize) -> Result<Line, StartError> {
    to_raw_value(line).map_err(|error| StartError::failed("JSON", &error))
}
