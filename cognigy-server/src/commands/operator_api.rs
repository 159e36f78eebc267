//! The operator API of a running server, as the commands with `--server` call it.

use std::{collections::BTreeMap, time::Duration};

use clap::ArgMatches;
use cognigy_http::{BaseUrl, TransportError, read_bounded};
use serde_json::Value;

use super::{database_or_server::Page, send::client};
use crate::{deployment::Deployment, error::StartError};

/// How long an answer may take. An erasure is answered when its last byte is overwritten.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The longest answer that is read: a page of events with the longest ids, or an event with a body of the
/// largest size that can be set and its escapes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

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
        self.failed("what answers there is not a cognigy-server")
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

    pub(super) async fn page(
        &self,
        path: &[&str],
        query: &BTreeMap<String, String>,
    ) -> Result<Page, StartError> {
        let missing = || self.failed("there is no operator API at this address");
        self.get(path, query).await?.ok_or_else(missing)
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
        let answer = answer.map_err(|error| StartError::failed(&self.url, &error))?;
        let status = answer.status().as_u16();
        let body = read_bounded(answer, MAX_ANSWER).await;
        Ok((status, body.map_err(|error| StartError::failed(&self.url, &error))?))
    }
}
