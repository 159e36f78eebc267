//! Who looks at the console. A session is a cookie that says so, signed with a key that is made from the
//! operator's token. No node keeps anything, so that a session holds on every node and after a restart,
//! and it ends when the token or the operator is taken out of the settings.
//!
//! A handler takes a [`Viewer`] for a page, or an [`Act`] for a change. Only `Act` tells that the form is
//! the console's own and that the operator may change things.

use actix_web::{FromRequest, HttpRequest, dev, http::Method, http::header, web};
use cognigy_core::{Clock, Timestamp};
use futures_util::future::LocalBoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{LONGEST_FORM, page::Sorry};
use cognigy_operator::Operator;

use crate::http::{ProblemResponse, Refused, Service, Shared, WholeBody, bearer_of};

/// How long a session lasts: a working day. After that the token is asked for again.
pub(super) const LASTS: chrono::TimeDelta = chrono::TimeDelta::hours(12);
/// The name of the cookie.
pub(super) const COOKIE: &str = "cognigy_console";
/// The name of the field that shows that a form is the console's own.
pub(super) const FIELD: &str = "form_token";
/// What the two uses of an operator's key begin with, so that neither can stand for the other.
const SESSION: &[u8] = b"cognigy console session 1\0";
const FORM: &[u8] = b"cognigy console form 1\0";

/// The operator who looks at a page.
pub(super) struct Viewer {
    pub(super) operator: Operator,
    /// What the forms of this session carry. None where a bearer token was sent: it changes nothing here.
    pub(super) form_token: Option<String>,
}

/// A change that an operator asks for, with the fields of its form.
pub(super) struct Act {
    pub(super) viewer: Viewer,
    pub(super) fields: Fields,
}

/// The fields of a form. A name that appears twice has its first value.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `a=1&b=2`.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        web::Query::<Vec<(String, String)>>::from_query(text)
            .ok()
            .map(|fields| Self(fields.into_inner()))
    }

    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

fn mac(key: &[u8; 32], purpose: &[u8], text: &str) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        .unwrap_or_else(|_| <Hmac<Sha256> as KeyInit>::new(&Default::default()));
    mac.update(purpose);
    mac.update(text.as_bytes());
    mac
}

fn hex(mac: Hmac<Sha256>) -> String {
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// What a cookie comes to.
enum Session {
    Good(Viewer),
    /// It was right and its time is over.
    Over,
    /// It was not made with the token that an operator has today.
    Wrong,
}

/// The value of a new cookie for that operator.
pub(super) fn begin(service: &Service, operator: &Operator) -> Option<String> {
    let (_, key) = service.tokens.named(operator.name())?;
    let until = (service.app.clock.now() + LASTS).timestamp();
    let says = format!("{}.{until}", operator.name());
    let signature = hex(mac(key, SESSION, &says));
    Some(format!("{says}.{signature}"))
}

fn read(service: &Service, cookie: &str, now: Timestamp) -> Session {
    let mut parts = cookie.rsplitn(3, '.');
    let (Some(signature), Some(until), Some(name)) = (parts.next(), parts.next(), parts.next())
    else {
        return Session::Wrong;
    };
    let Some((operator, key)) = service.tokens.named(name) else { return Session::Wrong };
    let expected = mac(key, SESSION, &format!("{name}.{until}"));
    let is_right = from_hex(signature).is_some_and(|sent| expected.verify_slice(&sent).is_ok());
    match until.parse::<i64>() {
        Ok(until) if is_right && until > now.timestamp() => Session::Good(Viewer {
            operator: operator.clone(),
            form_token: Some(hex(mac(key, FORM, cookie))),
        }),
        Ok(_) if is_right => Session::Over,
        _ => Session::Wrong,
    }
}

/// The cookie of a request.
fn cookie_of(request: &HttpRequest) -> Option<&str> {
    let lines = request.headers().get_all(header::COOKIE);
    let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut named = pairs.filter_map(|pair| pair.trim().split_once('='));
    named.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Where the sign-in leads back to.
fn here(request: &HttpRequest) -> String {
    let path = request.path();
    match request.query_string() {
        _ if request.method() != Method::GET => "/console".to_owned(),
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

enum Entry {
    Allowed(Viewer),
    SignIn,
    Refused(Refused),
    /// Refused, and what is shown is the sign-in.
    Guessed(Refused),
}

/// An operator who may look. It must not tell a guesser more, or faster, than the operator API does.
fn enter(request: &HttpRequest, service: &Service, takes_bearer: bool) -> Entry {
    let tokens = &service.tokens;
    let has_token = takes_bearer && request.headers().contains_key(header::AUTHORIZATION);
    if has_token || tokens.are_none() {
        return match tokens.identify(bearer_of(request), request, &service.app) {
            Ok(operator) => Entry::Allowed(Viewer { operator, form_token: None }),
            Err(refused) => Entry::Refused(refused),
        };
    }
    let Some(cookie) = cookie_of(request) else { return Entry::SignIn };
    match read(service, cookie, service.app.clock.now()) {
        Session::Good(viewer) => Entry::Allowed(viewer),
        Session::Over => Entry::SignIn,
        // A guesser of tokens can sign a cookie with it, so that a wrong cookie is a wrong token.
        Session::Wrong => {
            Entry::Guessed(tokens.guessed("wrong console session", request, &service.app))
        }
    }
}

/// The viewer of a request, or what is answered in place of the page.
async fn viewer_of(request: &HttpRequest, takes_bearer: bool) -> Result<Viewer, Sorry> {
    let service = request.app_data::<Shared>().ok_or_else(not_wired)?;
    match enter(request, service, takes_bearer) {
        Entry::Allowed(viewer) => Ok(viewer),
        Entry::SignIn => Err(Sorry::sign_in(&here(request))),
        Entry::Refused(refused) => Err(refused.answer().await.into()),
        Entry::Guessed(refused) => {
            refused.answer().await;
            Err(Sorry::sign_in_anew(&here(request)))
        }
    }
}

fn not_wired() -> Sorry {
    ProblemResponse::new(500, "Internal Server Error", "Not wired").into()
}

/// Whether a browser says that another site's page sent the request. Older browsers say nothing.
pub(super) fn is_foreign(request: &HttpRequest) -> bool {
    let site = request.headers().get("sec-fetch-site");
    site.is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"))
}

impl FromRequest for Viewer {
    type Error = Sorry;
    type Future = LocalBoxFuture<'static, Result<Self, Sorry>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move { viewer_of(&request, true).await })
    }
}

impl FromRequest for Act {
    type Error = Sorry;
    type Future = LocalBoxFuture<'static, Result<Self, Sorry>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let sent = sent(request, payload);
        let request = request.clone();
        Box::pin(async move {
            let (viewer, fields) = sent.await?;
            let service = request.app_data::<Shared>().ok_or_else(not_wired)?;
            match service.tokens.may_change(&viewer.operator, &request, &service.app) {
                Ok(()) => Ok(Self { viewer, fields }),
                Err(refused) => Err(refused.answer().await.into()),
            }
        })
    }
}

/// A form that the viewer sent, whatever the viewer's role.
pub(super) struct Sent;

impl FromRequest for Sent {
    type Error = Sorry;
    type Future = LocalBoxFuture<'static, Result<Self, Sorry>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let sent = sent(request, payload);
        Box::pin(async move { sent.await.map(|_| Self) })
    }
}

/// The viewer, and the form that the viewer sent.
fn sent(
    request: &HttpRequest,
    payload: &mut dev::Payload,
) -> impl Future<Output = Result<(Viewer, Fields), Sorry>> + use<> {
    let body = WholeBody::from_request(request, payload);
    let request = request.clone();
    async move {
        let viewer = viewer_of(&request, false).await?;
        let Ok(body) = body.await;
        let fields = form(&request, &viewer, body).await?;
        Ok((viewer, fields))
    }
}

/// The fields of a form, if this session's page sent it.
async fn form(request: &HttpRequest, viewer: &Viewer, body: WholeBody) -> Result<Fields, Sorry> {
    let unreadable = || ProblemResponse::bad_request("The form cannot be read");
    let body = body.within(LONGEST_FORM).await?;
    let fields = Fields::read(&body).ok_or_else(unreadable)?;
    let expected = viewer.form_token.as_deref().unwrap_or_default().as_bytes();
    let sent = fields.get(FIELD).as_bytes();
    let is_ours = !expected.is_empty() && bool::from(subtle::ConstantTimeEq::ct_eq(expected, sent));
    if !is_ours || is_foreign(request) {
        let detail = "The form is not of this session, so nothing was changed. Open the page again \
                      and repeat what you did";
        return Err(ProblemResponse::new(403, "Forbidden", detail).into());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_reads_back_and_anything_else_is_refused() {
        let signature = hex(mac(&[7; 32], SESSION, "anna.1"));
        assert_eq!(signature.len(), 64);
        assert_eq!(from_hex(&signature).map(|bytes| bytes.len()), Some(32));
        for wrong in ["0", "+1", "zz", "ä"] {
            assert!(from_hex(wrong).is_none_or(|bytes| bytes.len() < 32), "{wrong}");
        }
    }

    #[test]
    fn a_session_and_a_form_are_signed_apart() {
        assert_ne!(hex(mac(&[7; 32], SESSION, "x")), hex(mac(&[7; 32], FORM, "x")));
        assert_ne!(hex(mac(&[7; 32], SESSION, "x")), hex(mac(&[8; 32], SESSION, "x")));
    }

    #[test]
    fn the_first_value_of_a_field_counts() {
        let fields = Fields::read(b"a=1&a=2&b=%F0%9F%90%A6+x").unwrap();
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), ("1", "🐦 x", ""));
    }
}
