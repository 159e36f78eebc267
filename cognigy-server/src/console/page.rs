//! What all pages have in common: the frame, the headers, and the pages of errors.

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        ConnectionType, StatusCode,
        header::{
            ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, LOCATION, REFERRER_POLICY,
            RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
        },
    },
};
use cognigy_core::StoreError;
use maud::{DOCTYPE, Markup, html};

use super::{
    assets::{ICON, SCRIPT, STYLE},
    session::{COOKIE, FIELD, Viewer},
    text::link,
};
use cognigy_operator::Problem;

use crate::http::ProblemResponse;

/// Nothing but what this server serves, and no script or style within a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

/// The pages that the navigation leads to.
const PLACES: [(Place, &str, &str); 9] = [
    (Place::Overview, "/console", "Overview"),
    (Place::Events, "/console/events", "Events"),
    (Place::Errors, "/console/errors", "Errors"),
    (Place::DeadLetters, "/console/dead-letters", "Dead letters"),
    (Place::Replays, "/console/replays", "Replays"),
    (Place::Quarantine, "/console/quarantine", "Quarantine"),
    (Place::Sources, "/console/sources", "Sources"),
    (Place::Audit, "/console/audit", "Audit"),
    (Place::Settings, "/console/settings", "Settings"),
];

/// The part of the console that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Events,
    Errors,
    DeadLetters,
    Replays,
    Quarantine,
    Sources,
    Audit,
    Settings,
    /// None that the navigation shows.
    Other,
}

/// What a handler of a page answers.
pub(super) type Shown = Result<HttpResponse, Sorry>;

/// A page of that part, for `viewer`.
pub(super) fn page(viewer: &Viewer, place: Place, title: &str, content: Markup) -> HttpResponse {
    headers(StatusCode::OK).body(frame(Some(viewer), place, title, &content).into_string())
}

/// A page for a person who is not signed in.
pub(super) fn outside(status: StatusCode, title: &str, content: &Markup) -> HttpResponse {
    headers(status).body(document(title, &html! { main.alone #main { (content) } }).into_string())
}

/// Leads on to another page of the console.
pub(super) fn see(address: &str) -> HttpResponse {
    headers(StatusCode::SEE_OTHER).insert_header((LOCATION, address)).finish()
}

/// The form around a button that changes something.
pub(super) fn change(viewer: &Viewer, action: &str, content: Markup) -> Markup {
    html! {
        form.change method="post" action=(action) {
            input type="hidden" name=(FIELD) value=(viewer.form_token.as_deref().unwrap_or_default());
            (content)
        }
    }
}

/// Whether the buttons that change something are shown.
pub(super) fn may_change(viewer: &Viewer) -> bool {
    viewer.operator.role().may_change()
}

fn headers(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .content_type("text/html; charset=utf-8")
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((CACHE_CONTROL, "no-store"));
    response
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Cognigy console" }
                link rel="stylesheet" href=(STYLE.address());
                link rel="icon" type="image/svg+xml" href=(ICON.address());
                script src=(SCRIPT.address()) defer {}
            }
            body { (body) }
        }
    }
}

fn frame(viewer: Option<&Viewer>, place: Place, title: &str, content: &Markup) -> Markup {
    let body = html! {
        a.skip href="#main" { "Skip to the content" }
        header.bar {
            a.brand href="/console" {
                img src=(ICON.address()) alt="" width="24" height="24";
                span { "Cognigy console" }
            }
            nav aria-label="Console" {
                ul {
                    @for (of, address, name) in PLACES {
                        li {
                            a href=(address) aria-current=[(of == place).then_some("page")] {
                                (name)
                            }
                        }
                    }
                }
            }
            @if let Some(viewer) = viewer {
                div.who {
                    span {
                        strong { (viewer.operator.name()) } " "
                        span.role { (viewer.operator.role().as_str()) }
                    }
                    @if viewer.form_token.is_some() {
                        (change(viewer, "/console/sign-out", html! { button.quiet { "Sign out" } }))
                    }
                }
            }
        }
        main #main tabindex="-1" {
            h1 { (title) }
            (content)
        }
        footer {
            "cognigy-server " (env!("CARGO_PKG_VERSION")) " · times are in "
            span data-zone { "UTC" }
        }
    };
    document(title, &body)
}

/// What is answered in place of a page.
#[derive(Debug)]
pub(super) struct Sorry(Kind);

#[derive(Debug)]
enum Kind {
    /// Sign in, then go to this page.
    SignIn { next: String, forget: bool },
    /// What went wrong, and the page to go back to.
    Problem(ProblemResponse, String),
}

impl Sorry {
    /// Leads to the sign-in, and from there to `next`.
    pub(super) fn sign_in(next: &str) -> Self {
        Self(Kind::SignIn { next: next.to_owned(), forget: false })
    }

    /// The same for a cookie that is not right: the browser forgets it.
    pub(super) fn sign_in_anew(next: &str) -> Self {
        Self(Kind::SignIn { next: next.to_owned(), forget: true })
    }
}

impl From<ProblemResponse> for Sorry {
    fn from(problem: ProblemResponse) -> Self {
        Self(Kind::Problem(problem, "/console".to_owned()))
    }
}

impl From<Problem> for Sorry {
    fn from(problem: Problem) -> Self {
        Self::from(ProblemResponse::from(problem))
    }
}

impl Sorry {
    /// Offers that page to go back to, if there is an error page.
    pub(super) fn back_to(mut self, page: String) -> Self {
        if let Kind::Problem(_, back) = &mut self.0 {
            *back = page;
        }
        self
    }
}

impl From<StoreError> for Sorry {
    fn from(error: StoreError) -> Self {
        Self::from(ProblemResponse::from(error))
    }
}

impl std::fmt::Display for Sorry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no page")
    }
}

/// The cookie that takes the place of a session and ends at once.
pub(super) fn forgotten() -> String {
    format!("{COOKIE}=; Path=/console; HttpOnly; SameSite=Strict; Max-Age=0")
}

impl ResponseError for Sorry {
    fn status_code(&self) -> StatusCode {
        match &self.0 {
            Kind::SignIn { .. } => StatusCode::SEE_OTHER,
            Kind::Problem(problem, _) => problem.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        let (problem, back) = match &self.0 {
            Kind::SignIn { next, forget } => {
                let parameters = [("next", next.as_str())];
                let parameters = if next == "/console" { &[][..] } else { &parameters };
                let mut response = see(&link("/console/sign-in", parameters));
                if *forget {
                    if let Ok(cookie) = forgotten().parse() {
                        response.headers_mut().insert(SET_COOKIE, cookie);
                    }
                    // So each guess costs a connection.
                    response.head_mut().set_connection_type(ConnectionType::Close);
                }
                return response;
            }
            Kind::Problem(problem, back) => (problem, back),
        };
        let (status, title, detail) = problem.told();
        let code = problem.status_code();
        let mut response = match status {
            401 => outside(code, &title, &unauthorized(&detail)),
            403 if detail.contains("is not set") => outside(code, "Closed", &closed()),
            _ => {
                let content = html! {
                    div.note.bad role="alert" { p { (super::text::Seen(&detail)) "." } }
                    p { a.button href=(back) { "Back" } }
                };
                let title = title_of(status, &title);
                let page = frame(None, Place::Other, title, &content).into_string();
                headers(code).body(page)
            }
        };
        if status == 503 {
            let soon = HeaderValue::from_static("1");
            response.headers_mut().insert(RETRY_AFTER, soon);
        }
        if status == 401 {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}

/// What is answered for an address under `/console/` that no page has. `/console/` itself is another spelling
/// of a path, which programs are told as they are told of others.
pub(super) async fn unknown(request: HttpRequest) -> HttpResponse {
    let problem = ProblemResponse::new(404, "Not Found", "There is no such page in the console");
    let accepts = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let is_browser = accepts.is_some_and(|value| value.contains("text/html"));
    match is_browser || request.path() != "/console/" {
        true => Sorry::from(problem).error_response(),
        false => problem.error_response(),
    }
}

/// What an error is called on a page.
fn title_of(status: u16, title: &str) -> &str {
    match status {
        400 => "That cannot be done",
        403 => "Not allowed",
        404 => "Not found",
        409 => "Not now",
        410 => "Gone",
        503 => "The store does not answer",
        500 => "It failed",
        _ => title,
    }
}

fn unauthorized(detail: &str) -> Markup {
    html! {
        h1 { "Not signed in" }
        div.note.bad role="alert" { p { (detail) "." } }
        p { a href="/console/sign-in" { "Sign in" } }
    }
}

fn closed() -> Markup {
    html! {
        h1 { "The console is closed" }
        p { "No operator is set, so no one can sign in." }
        p { "Set " code { "COGNIGY_ADMIN_TOKEN" } " to a long random text, such as the output of" }
        pre { code { "openssl rand -hex 32" } }
        p { "and start the server again. Each further operator has a variable "
            code { "COGNIGY_OPERATOR_{NAME}_TOKEN" } " and a role in "
            code { "COGNIGY_OPERATOR_{NAME}_ROLE" } "." }
    }
}
