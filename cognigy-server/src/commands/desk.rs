//! What the reading commands read from: the database, or a running server (`--server`). Both give the
//! same JSON, that of the operator API, so that each command prints the same for both. It is kept as it
//! was written: numbers and the order of names may matter to a reader.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::ArgMatches;
use cognigy_core::{Clock, PageRequest, QuarantinedItem, SourceName, Store, TokioClock};
use cognigy_http::{BaseUrl, TransportError, read_bounded};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{events::key_of, send::client};
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
/// How long an answer may take. An erasure is answered when its last byte is overwritten.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The longest answer that is read: a page of events with the longest ids, or an event with a body of the
/// largest size that can be set and its escapes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Where the commands read from.
pub(super) enum Desk {
    /// The database that is set.
    Database { store: Arc<dyn Store>, settings: Box<Settings> },
    /// A running server.
    Server(Remote),
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

impl Desk {
    /// The server that `--server` names, or else the database that is set, for reading.
    pub(super) async fn open(
        arguments: &ArgMatches,
        deployment: &Deployment,
    ) -> Result<Self, StartError> {
        if let Some(server) = Remote::named(arguments, deployment)? {
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
                server.get(&["admin", "events", id], &query).await
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
                json(&Stats { breakers, ..stats })
            }
            Self::Server(server) => {
                let stats = server.get(&["admin", "stats"], &BTreeMap::new()).await?;
                stats.ok_or_else(|| server.failed("there is no operator API at this address"))
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

/// The operator API of a running server.
pub(super) struct Remote {
    client: reqwest::Client,
    base: BaseUrl,
    url: String,
    token: String,
}

impl Remote {
    /// The server that `--server` names, if it names one.
    pub(super) fn named(
        arguments: &ArgMatches,
        deployment: &Deployment,
    ) -> Result<Option<Self>, StartError> {
        let Some(url) = arguments.get_one::<String>("server") else { return Ok(None) };
        let settings = &deployment.settings;
        let wrong = |error| StartError::Usage(format!("--server: {error}"));
        let base = BaseUrl::parse(url).map_err(|error| wrong(error.to_string()))?;
        let token = settings.admin_token().ok_or_else(|| {
            wrong("COGNIGY_ADMIN_TOKEN is required, with your token at that server".to_owned())
        })?;
        let client = client(url, settings.proxy_from_env, TIMEOUT)?;
        Ok(Some(Self { client, base, url: url.clone(), token: token.as_str().to_owned() }))
    }

    fn failed(&self, what: &str) -> StartError {
        StartError::Failed(format!("{}: {what}", self.url))
    }

    /// Asks the server. None for a 404.
    pub(super) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        query: &BTreeMap<String, String>,
    ) -> Result<Option<T>, StartError> {
        let (status, body) = self.ask(reqwest::Method::GET, path, query, None).await?;
        match status {
            404 => Ok(None),
            200..=299 => match serde_json::from_slice(&body) {
                Ok(answer) => Ok(Some(answer)),
                // A proxy in front of the server may answer with a page.
                Err(_) => Err(self.failed("the answer is not that of an operator API")),
            },
            _ => Err(self.refused(status, &body)),
        }
    }

    /// Has the server do something. Yields the status and the answer's JSON.
    pub(super) async fn post(
        &self,
        path: &[&str],
        query: &BTreeMap<String, String>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), StartError> {
        let (status, body) = self.ask(reqwest::Method::POST, path, query, body).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// As [`Remote::post`], for a route whose only success is a 200.
    pub(super) async fn have_done<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        body: &Value,
    ) -> Result<T, StartError> {
        self.have(path, body, 200).await
    }

    /// As [`Remote::post`], for a route that begins work, with a 202.
    pub(super) async fn have_begun<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        body: &Value,
    ) -> Result<T, StartError> {
        self.have(path, body, 202).await
    }

    async fn have<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        body: &Value,
        success: u16,
    ) -> Result<T, StartError> {
        let (status, answer) =
            self.ask(reqwest::Method::POST, path, &BTreeMap::new(), Some(body)).await?;
        match status {
            _ if status == success => serde_json::from_slice(&answer)
                .map_err(|_| self.failed("the answer is not that of an operator API")),
            _ => Err(self.refused(status, &answer)),
        }
    }

    /// Has the server remove or end something. None if it is not there.
    pub(super) async fn delete(&self, path: &[&str]) -> Result<Option<Value>, StartError> {
        let (status, body) =
            self.ask(reqwest::Method::DELETE, path, &BTreeMap::new(), None).await?;
        match status {
            404 => Ok(None),
            200 => Ok(Some(serde_json::from_slice(&body).unwrap_or_default())),
            _ => Err(self.refused(status, &body)),
        }
    }

    /// The error for an answer that is a refusal.
    pub(super) fn refused(&self, status: u16, body: &[u8]) -> StartError {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        let detail = answer["detail"].as_str().unwrap_or("no detail");
        match status {
            400 | 409 => StartError::Usage(format!("{}: {detail}", self.url)),
            _ => self.failed(&format!("{status}: {detail}")),
        }
    }

    async fn page(
        &self,
        path: &[&str],
        query: &BTreeMap<String, String>,
    ) -> Result<Page, StartError> {
        let missing = || self.failed("there is no operator API at this address");
        self.get(path, query).await?.ok_or_else(missing)
    }

    async fn ask(
        &self,
        method: reqwest::Method,
        path: &[&str],
        query: &BTreeMap<String, String>,
        body: Option<&Value>,
    ) -> Result<(u16, bytes::Bytes), StartError> {
        let mut request = self.client.request(method, self.base.join(path)).query(query);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.bearer_auth(&self.token).send().await.map_err(TransportError::from);
        let answer = answer.map_err(|error| StartError::failed(&self.url, &error))?;
        let status = answer.status().as_u16();
        let body = read_bounded(answer, MAX_ANSWER).await;
        Ok((status, body.map_err(|error| StartError::failed(&self.url, &error))?))
    }
}
