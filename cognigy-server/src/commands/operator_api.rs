//! The operator API of a running server, as the commands with `--server` call it.

use std::{collections::BTreeMap, time::Duration};

use clap::ArgMatches;
use cognigy_http::{BaseUrl, TransportError, read_bounded};
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, LOCATION};
use serde_json::Value;

use super::{database_or_server::Page, send::client};
use crate::{deployment::Deployment, error::StartError};

/// How long an answer may take. An erasure is answered when its last byte is overwritten.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The longest answer that is read: a page of events with the longest ids, or an event with a body of the
/// largest size that can be set and its escapes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// What is said of an answer that no operator API gives.
const ANOTHER: &str = "what answers there is not a cognigy-server, or a proxy answers in its place";

/// The operator API of a running server.
pub(super) struct OperatorApi {
    client: reqwest::Client,
    base: BaseUrl,
    url: String,
    token: String,
}

impl OperatorApi {
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

    pub(super) fn failed(&self, what: &str) -> StartError {
        StartError::Failed(format!("{}: {what}", self.url))
    }

    /// The error for an answer that no operator API gives.
    pub(super) fn is_another(&self) -> StartError {
        self.failed(ANOTHER)
    }

    /// An answer that has to have this member, or else is another program's.
    pub(super) fn known(&self, answer: Value, member: &str) -> Result<Value, StartError> {
        if answer.get(member).is_some() { Ok(answer) } else { Err(self.is_another()) }
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
                Err(_) => Err(self.is_another()),
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

    /// As [`OperatorApi::post`], for a route whose only success is a 200.
    pub(super) async fn have_done<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        body: &Value,
    ) -> Result<T, StartError> {
        self.have(path, body, 200).await
    }

    /// As [`OperatorApi::post`], for a route that begins work, with a 202.
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
            _ if status == success => {
                serde_json::from_slice(&answer).map_err(|_| self.is_another())
            }
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

    pub(super) async fn page(
        &self,
        path: &[&str],
        query: &BTreeMap<String, String>,
    ) -> Result<Page, StartError> {
        self.get(path, query).await?.ok_or_else(|| self.is_another())
    }

    pub(super) async fn ask(
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
        let answer = answer.map_err(|error| {
            let hint = hint(&self.url, &error.to_string());
            StartError::Failed(format!("{}: {error}{hint}", self.url))
        })?;
        let status = answer.status().as_u16();
        if !is_of_an_operator_api(answer.status(), answer.headers()) {
            return Err(self.failed(&described(status, answer.headers())));
        }
        let body = read_bounded(answer, MAX_ANSWER).await;
        Ok((status, body.map_err(|error| StartError::failed(&self.url, &error))?))
    }
}

/// Whether the answer has the form of every answer to an operator: JSON that must not be cached, or the
/// details of a problem.
fn is_of_an_operator_api(status: reqwest::StatusCode, headers: &HeaderMap) -> bool {
    let has = |name, text: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains(text))
    };
    match status.is_success() {
        true => has(CONTENT_TYPE, "application/json") && has(CACHE_CONTROL, "no-store"),
        false => has(CONTENT_TYPE, "application/problem+json"),
    }
}

/// What another program answered.
fn described(status: u16, headers: &HeaderMap) -> String {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (status, text(LOCATION)) {
        (300..=399, Some(place)) => {
            format!("{ANOTHER}: it answered {status} and sends on to {place}")
        }
        _ => {
            let kind = text(CONTENT_TYPE).unwrap_or("no Content-Type");
            format!("{ANOTHER}: it answered {status} with {kind}")
        }
    }
}

/// What the error says about the scheme of the URL, if it tells that the port speaks the other one.
fn hint(url: &str, error: &str) -> &'static str {
    let says = |parts: &[&str]| parts.iter().any(|part| error.contains(part));
    let is_tls = url.starts_with("https:");
    if is_tls && says(&["corrupt message", "InvalidContentType", "wrong version"]) {
        " (this port seems to speak HTTP without TLS: try http:// in place of https://)"
    } else if !is_tls && says(&["HTTP version", "invalid HTTP", "before message completed"]) {
        " (this port does not seem to speak HTTP: if it speaks TLS, try https:// in place of http://)"
    } else {
        ""
    }
}
