//! The requests of one look-up.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use cognigy_core::{Contact, TraceParent};
use cognigy_http::{read_at_most, read_bounded};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    CrmError, Inner,
    judge::{Judge, Reply, Verdict},
};
use crate::{
    auth::{AccessToken, Credential, OAuth, TokenError},
    template::{Batch, Confirm, LookUp, Request, RequestMethod, Values},
};

/// The longest URL sent, in bytes: what RFC 9110, section 4.1, asks every server to take.
const MAX_URL_BYTES: usize = 8000;

/// How much is read of an answer that holds no record: enough for the error objects of all CRMs.
const ERROR_BYTES: usize = 64 * 1024;

/// One look-up: it renews its token once at most, however many requests it makes.
pub(super) struct Session<'a> {
    crm: &'a Inner,
    deadline: Instant,
    renewed: bool,
    /// The span that asks: of several look-ups in one request, the first one's.
    traceparent: Option<TraceParent>,
}

/// A request that is ready to be sent, as often as needed.
struct Prepared {
    method: Method,
    url: Url,
    body: Option<Value>,
}

impl<'a> Session<'a> {
    pub(super) fn new(crm: &'a Inner, traceparent: Option<TraceParent>) -> Self {
        Self { crm, deadline: Instant::now() + crm.timeout, renewed: false, traceparent }
    }

    fn judge(&self) -> Judge<'a> {
        let Inner { template, names, fold_case, .. } = self.crm;
        Judge { template, names, fold_case: *fold_case, now: SystemTime::now() }
    }

    pub(super) async fn look_up(&mut self, key: &str) -> Result<Option<Contact>, CrmError> {
        let (look_up, prepared) = self.choose(key)?;
        let reply = self.send(&prepared, &look_up.found.status).await?;
        match self.judge().look_up(look_up, key, &reply)? {
            Verdict::Contact(contact) => Ok(Some(contact)),
            Verdict::NoContact => Ok(None),
            Verdict::Moved(link) => self.follow(look_up, key, &link).await,
            Verdict::Candidates(ids) => match &look_up.confirm {
                Some(confirm) => self.confirm(confirm, key, &ids).await,
                None => Err(CrmError::NoRecord),
            },
        }
    }

    /// The first look-up that can express the key, and its request.
    fn choose(&self, key: &str) -> Result<(&'a LookUp, Prepared), CrmError> {
        let mut problem = CrmError::Declined;
        // Some CRMs would take no value for no condition.
        if key.is_empty() {
            return Err(problem);
        }
        for look_up in &self.crm.template.look_ups {
            if !look_up.key.takes(key) {
                continue;
            }
            match self.prepare(&look_up.request, Values::new(&self.crm.names, &[key])) {
                Ok(prepared) => return Ok((look_up, prepared)),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    fn prepare(&self, request: &Request, values: Values<'_>) -> Result<Prepared, CrmError> {
        let rendered = request.render(values).ok_or(CrmError::Declined)?;
        let mut url = self.crm.base.clone();
        let path = format!("{}{}", url.path().trim_end_matches('/'), rendered.path);
        url.set_path(&path);
        url.set_query(rendered.query.as_deref());
        // The URL must say what the template says, whatever the key holds.
        if url.path() != path {
            return Err(CrmError::Declined);
        }
        if url.as_str().len() > MAX_URL_BYTES {
            return Err(CrmError::KeyTooLong);
        }
        let method = match request.method {
            RequestMethod::Get => Method::GET,
            RequestMethod::Post => Method::POST,
        };
        Ok(Prepared { method, url, body: rendered.body })
    }

    /// Asks for the record that another one was merged into.
    async fn follow(
        &mut self,
        look_up: &LookUp,
        key: &str,
        link: &str,
    ) -> Result<Option<Contact>, CrmError> {
        let base = &self.crm.base;
        let url = base.join(link).map_err(|_| CrmError::NoLink)?;
        // The credential must not go to another host.
        let same = url.origin() == base.origin() && url.username().is_empty();
        if !same || url.password().is_some() || url.as_str().len() > MAX_URL_BYTES {
            return Err(CrmError::NoLink);
        }
        let prepared = Prepared { method: Method::GET, url, body: None };
        let reply = self.send(&prepared, &look_up.found.status).await?;
        match self.judge().believed(&look_up.found, key, &reply)? {
            Verdict::Contact(contact) => Ok(Some(contact)),
            _ => Err(CrmError::NoRecord),
        }
    }

    /// Asks for each candidate, and keeps those whose external id is the key.
    async fn confirm(
        &mut self,
        confirm: &Confirm,
        key: &str,
        ids: &[String],
    ) -> Result<Option<Contact>, CrmError> {
        let mut contacts = Vec::new();
        for id in ids {
            let values = Values { record_id: id, ..Values::new(&self.crm.names, &[]) };
            let prepared = self.prepare(&confirm.request, values);
            let prepared = prepared.map_err(|_| CrmError::NoRecordId)?;
            let reply = self.send(&prepared, &confirm.found.status).await?;
            self.judge().check_throttle(key, &reply)?;
            match self.judge().one_of(&confirm.found, key, &reply)? {
                Verdict::Contact(contact) => contacts.push(contact),
                _ => continue,
            }
        }
        match contacts.len() {
            0 | 1 => Ok(contacts.pop()),
            count => Err(CrmError::Ambiguous(Some(count), Some(contacts.swap_remove(0)))),
        }
    }

    /// What the answer to a batch says of each key. `None` for a key that has to be asked for alone.
    pub(super) async fn batch(
        &mut self,
        batch: &Batch,
        keys: &[&str],
    ) -> Result<Vec<Option<Result<Option<Contact>, CrmError>>>, CrmError> {
        let values = Values { separator: &batch.separator, ..Values::new(&self.crm.names, keys) };
        let prepared = self.prepare(&batch.request, values)?;
        let reply = self.send(&prepared, &batch.found.status).await?;
        let judge = self.judge();
        let verdicts = judge.batch(&batch.found, keys, &reply)?;
        let complete = batch.complete.as_ref().is_none_or(|rule| judge.matches(rule, &reply));
        let missing_is_unknown = complete && batch.missing_is_unknown();
        let outcome = |verdict| match verdict {
            Ok(Verdict::Contact(contact)) => Some(Ok(Some(contact))),
            Ok(_) => missing_is_unknown.then_some(Ok(None)),
            Err(error) => Some(Err(error)),
        };
        Ok(verdicts.into_iter().map(outcome).collect())
    }

    /// Sends a request, once more with a new token where the CRM refuses the one it held.
    async fn send(&mut self, prepared: &Prepared, whole: &[u16]) -> Result<Reply, CrmError> {
        let Credential::OAuth(oauth) = &self.crm.credential else {
            return self.exchange(prepared, None, whole).await;
        };
        let token = self.token(oauth, None).await?;
        let reply = self.exchange(prepared, Some(&token.header), whole).await?;
        if reply.status != StatusCode::UNAUTHORIZED || self.renewed {
            return Ok(reply);
        }
        self.renewed = true;
        let token = self.token(oauth, Some(&token)).await?;
        self.exchange(prepared, Some(&token.header), whole).await
    }

    /// A token. It is waited for no longer than three quarters of the time limit, so that a slow token
    /// server, which concerns every look-up, is told apart from a CRM that answers slowly.
    async fn token(
        &self,
        oauth: &OAuth,
        refused: Option<&AccessToken>,
    ) -> Result<Arc<AccessToken>, CrmError> {
        let latest = self.deadline - self.crm.timeout / 4;
        let fetched = tokio::time::timeout_at(latest, oauth.get(refused)).await;
        fetched.unwrap_or(Err(TokenError::Slow)).map_err(CrmError::Token)
    }

    /// One request. The body of an answer whose status is in `whole` is read to its end.
    async fn exchange(
        &self,
        prepared: &Prepared,
        token: Option<&reqwest::header::HeaderValue>,
        whole: &[u16],
    ) -> Result<Reply, CrmError> {
        let crm = self.crm;
        if let Some(limiter) = &crm.limiter {
            let turn = limiter.wait(self.deadline).await;
            turn.map_err(|wait| CrmError::NoRoom { wait })?;
        }
        let mut request = crm.http.request(prepared.method.clone(), prepared.url.clone());
        for (name, value) in &crm.headers {
            request = request.header(name, value);
        }
        request = match (&crm.credential, token) {
            (Credential::Fixed(name, value), _) => request.header(name, value),
            (_, Some(token)) => request.header(reqwest::header::AUTHORIZATION, token),
            _ => request,
        };
        if let Some(traceparent) = self.traceparent {
            request = request.header("traceparent", traceparent.to_string());
        }
        if let Some(body) = &prepared.body {
            let json = reqwest::header::HeaderValue::from_static("application/json");
            request = request.header(reqwest::header::CONTENT_TYPE, json).body(body.to_string());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(CrmError::transport(error.into(), crm.timeout)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = if status == StatusCode::NO_CONTENT {
            Bytes::new()
        } else if whole.contains(&status.as_u16()) {
            let body = read_bounded(response, crm.max_response_bytes).await;
            body.map_err(|error| CrmError::read(error, crm.timeout))?
        } else {
            read_at_most(response, ERROR_BYTES).await
        };
        Ok(Reply { status, headers, body })
    }
}
