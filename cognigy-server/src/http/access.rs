//! Who may use the operator API: each operator has a name, a bearer token and a role. The API is
//! closed if no token is set.
//!
//! A handler takes [`Reader`] or [`Change`]. Either of them proves that the request carries a right
//! token, and `Change` that its operator may change things too. [`Operator`] alone cannot be taken from
//! a request, so that no route is added without this choice.

use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, dev, http::header};
use futures_util::future::LocalBoxFuture;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::{
    ProblemResponse, Shared,
    guard::{Guard, Pause},
    webhook::sender_of,
};
use crate::{
    app::App,
    settings::{OperatorSettings, Role},
    telemetry::refusal,
};

/// The digests of the operators' tokens. Comparing digests takes the same time for every token that
/// is sent, whatever its length, and each of them is compared.
#[derive(Clone)]
pub(super) struct Tokens {
    operators: Arc<[([u8; 32], Operator)]>,
    guard: Arc<Guard>,
}

/// The operator who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
}

/// An operator who reads. A handler that takes one needs a right token, of any role.
pub(super) struct Reader(pub(super) Operator);

/// An operator who changes something. A handler that takes one needs the token of an operator who may.
pub(super) struct Change(pub(super) Operator);

/// A request that is refused: its answer, and the wait before it.
struct Refused(ProblemResponse, Option<Pause>);

impl Tokens {
    pub(super) fn new(operators: &[OperatorSettings]) -> Self {
        let operators = operators.iter().map(|it| {
            let operator = Operator { name: it.name.as_str().into(), role: it.role };
            (Sha256::digest(it.token.as_str()).into(), operator)
        });
        Self { operators: operators.collect(), guard: Arc::default() }
    }

    /// The operator with that token. It takes as long whichever token it is.
    fn find(&self, token: &[u8]) -> Option<&Operator> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let none = u32::MAX;
        let mut found = none;
        for (place, (expected, _)) in (0_u32..).zip(&*self.operators) {
            found.conditional_assign(&place, digest.ct_eq(expected));
        }
        self.operators.get(found as usize).map(|(_, operator)| operator)
    }

    fn check(&self, request: &HttpRequest, app: &App, changes: bool) -> Result<Operator, Refused> {
        let from = sender_of(request, app);
        let refused = |reason: &str, problem, pause| {
            app.telemetry.operator_refused();
            let method = request.method();
            refusal!(app.refusals.first(reason, from), peer = %from, %method, "operator refused: {reason}");
            Err(Refused(problem, pause))
        };
        let forbidden = |detail: &str| ProblemResponse::new(403, "Forbidden", detail);
        if self.operators.is_empty() {
            let detail = "The operator API is closed: COGNIGY_ADMIN_TOKEN is not set";
            return refused("no token is set", forbidden(detail), None);
        }
        let mut sent = request.headers().get_all(header::AUTHORIZATION);
        let token = match (sent.next(), sent.next()) {
            (Some(value), None) => bearer(value.as_bytes()),
            _ => None,
        };
        match (self.find(token.unwrap_or_default()), token) {
            (Some(operator), Some(_)) if changes && !operator.role.may_change() => {
                let (name, role) = (&operator.name, operator.role.as_str());
                let detail = format!("The operator {name} has the role {role} and changes nothing");
                refused("the operator may only read", forbidden(&detail), None)
            }
            (Some(operator), Some(_)) => Ok(operator.clone()),
            (_, sent) => {
                let detail = "The operator's bearer token is missing or wrong";
                let problem = ProblemResponse::new(401, "Unauthorized", detail);
                match sent {
                    Some(_) => refused("wrong operator token", problem, self.guard.wrong(from)),
                    None => refused("no operator token", problem, None),
                }
            }
        }
    }
}

/// The token of `Bearer <token>`. The scheme's name may be in any case (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The operator who sent the request, if the request may do what it asks for.
fn operator_of(
    request: &HttpRequest,
    changes: bool,
) -> LocalBoxFuture<'static, Result<Operator, ProblemResponse>> {
    let service = request.app_data::<Shared>();
    let not_wired =
        || Refused(ProblemResponse::new(500, "Internal Server Error", "Not wired"), None);
    let checked = service
        .ok_or_else(not_wired)
        .and_then(|service| service.tokens.check(request, &service.app, changes));
    Box::pin(async move {
        match checked {
            Ok(operator) => Ok(operator),
            Err(Refused(problem, pause)) => {
                if let Some(pause) = pause {
                    pause.over().await;
                }
                Err(problem)
            }
        }
    })
}

impl FromRequest for Reader {
    type Error = ProblemResponse;
    type Future = LocalBoxFuture<'static, Result<Self, ProblemResponse>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let operator = operator_of(request, false);
        Box::pin(async move { Ok(Self(operator.await?)) })
    }
}

impl FromRequest for Change {
    type Error = ProblemResponse;
    type Future = LocalBoxFuture<'static, Result<Self, ProblemResponse>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let operator = operator_of(request, true);
        Box::pin(async move { Ok(Self(operator.await?)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Hidden;

    #[test]
    fn each_token_names_its_operator_and_no_other_text_names_one() {
        let operator = |name: &str, token: &str, role| {
            let (name, token) = (name.to_owned(), Hidden::new(token));
            OperatorSettings { name, token, role }
        };
        let tokens = Tokens::new(&[
            operator("admin", "one", Role::Operator),
            operator("anna", "two", Role::Reader),
        ]);
        let name = |token: &[u8]| tokens.find(token).map(|it| (it.name.to_string(), it.role));
        assert_eq!(name(b"one"), Some(("admin".to_owned(), Role::Operator)));
        assert_eq!(name(b"two"), Some(("anna".to_owned(), Role::Reader)));
        for other in [&b""[..], b"three", b"on", b"one "] {
            assert_eq!(name(other), None);
        }
        assert!(Tokens::new(&[]).find(b"").is_none());
    }
}
