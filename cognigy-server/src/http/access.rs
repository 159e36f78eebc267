//! Who may use the operator API: each operator has a name, a bearer token and a role. The API is
//! closed if no token is set.
//!
//! A handler takes [`Reader`] or [`Change`]. Either of them proves that the request carries a right
//! token, and `Change` that its operator may change things too. [`Operator`] alone cannot be taken from
//! a request, so that no route is added without this choice.

use std::sync::Arc;

use actix_web::{FromRequest, HttpRequest, dev, http::header};
use cognigy_operator::Operator;
use futures_util::future::LocalBoxFuture;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::{
    ProblemResponse, Shared,
    guard::{Guard, Pause},
    webhook::sender_of,
};
use crate::{app::App, settings::OperatorSettings, telemetry::refusal};

/// The digests of the operators' tokens. Comparing digests takes the same time for every token that
/// is sent, whatever its length, and each of them is compared.
#[derive(Clone)]
pub(crate) struct Tokens {
    operators: Arc<[([u8; 32], Operator)]>,
    guard: Arc<Guard>,
}

/// An operator who reads. A handler that takes one needs a right token, of any role.
pub(super) struct Reader(pub(super) Operator);

/// An operator who changes something. A handler that takes one needs the token of an operator who may.
pub(super) struct Change(pub(super) Operator);

/// A request that is refused: its answer, and the wait before it.
pub(crate) struct Refused(ProblemResponse, Option<Pause>);

impl Refused {
    /// The answer, once the wait is over.
    pub(crate) async fn answer(self) -> ProblemResponse {
        if let Some(pause) = self.1 {
            pause.over().await;
        }
        self.0
    }
}

impl Tokens {
    pub(super) fn new(operators: &[OperatorSettings]) -> Self {
        let operators = operators.iter().map(|it| {
            let operator = Operator::new(it.name.as_str(), it.role);
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
        let operator = self.identify(bearer_of(request), request, app)?;
        if changes {
            self.may_change(&operator, request, app)?;
        }
        super::request::check(request).map_err(|problem| Refused(problem, None))?;
        Ok(operator)
    }

    /// The operator whose token was sent with the request. A wrong token counts, and slows the next
    /// answers to its sender down.
    pub(crate) fn identify(
        &self,
        token: Option<&[u8]>,
        request: &HttpRequest,
        app: &App,
    ) -> Result<Operator, Refused> {
        if self.are_none() {
            let detail = "The operator API is closed: COGNIGY_ADMIN_TOKEN is not set";
            return Err(refused("no token is set", forbidden(detail), None, request, app));
        }
        match (self.find(token.unwrap_or_default()), token) {
            (Some(operator), Some(_)) => Ok(operator.clone()),
            (_, Some(_)) => Err(self.guessed("wrong operator token", request, app)),
            (_, None) => Err(refused("no operator token", unauthorized(), None, request, app)),
        }
    }

    /// The refusal of a guess: of a wrong token, or of what only the owner of a token can make.
    pub(crate) fn guessed(&self, reason: &str, request: &HttpRequest, app: &App) -> Refused {
        let pause = self.guard.wrong(sender_of(request, app));
        refused(reason, unauthorized(), pause, request, app)
    }

    /// Refuses an operator who only reads.
    pub(crate) fn may_change(
        &self,
        operator: &Operator,
        request: &HttpRequest,
        app: &App,
    ) -> Result<(), Refused> {
        operator.may_change().map_err(|problem| {
            refused("the operator may only read", problem.into(), None, request, app)
        })
    }

    /// Whether no operator is set, so that everything for operators is closed.
    pub(crate) fn are_none(&self) -> bool {
        self.operators.is_empty()
    }

    /// All operators, in the order of the settings.
    pub(crate) fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.operators.iter().map(|(_, operator)| operator)
    }

    /// The operator of that name, and the digest of the operator's token.
    pub(crate) fn named(&self, name: &str) -> Option<(&Operator, &[u8; 32])> {
        let named = self.operators.iter().find(|(_, operator)| operator.name() == name);
        named.map(|(digest, operator)| (operator, digest))
    }
}

fn forbidden(detail: &str) -> ProblemResponse {
    ProblemResponse::new(403, "Forbidden", detail)
}

fn unauthorized() -> ProblemResponse {
    let detail = "The operator's bearer token is missing or wrong";
    ProblemResponse::new(401, "Unauthorized", detail)
}

/// Counts and logs a refusal.
fn refused(
    reason: &str,
    problem: ProblemResponse,
    pause: Option<Pause>,
    request: &HttpRequest,
    app: &App,
) -> Refused {
    let (from, method) = (sender_of(request, app), request.method());
    app.telemetry.operator_refused();
    refusal!(app.refusals.first(reason, from), peer = %from, %method, "operator refused: {reason}");
    Refused(problem, pause)
}

/// The bearer token of a request, if it has just one.
pub(crate) fn bearer_of(request: &HttpRequest) -> Option<&[u8]> {
    let mut sent = request.headers().get_all(header::AUTHORIZATION);
    match (sent.next(), sent.next()) {
        (Some(value), None) => bearer(value.as_bytes()),
        _ => None,
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
            Err(refused) => Err(refused.answer().await),
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
    use crate::settings::{Hidden, Role};

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
        let name = |token: &[u8]| tokens.find(token).map(|it| (it.name().to_owned(), it.role()));
        assert_eq!(name(b"one"), Some(("admin".to_owned(), Role::Operator)));
        assert_eq!(name(b"two"), Some(("anna".to_owned(), Role::Reader)));
        for other in [&b""[..], b"three", b"on", b"one "] {
            assert_eq!(name(other), None);
        }
        assert!(Tokens::new(&[]).find(b"").is_none());
    }
}
