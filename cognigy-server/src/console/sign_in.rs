//! Signing in with an operator's token, and out again.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header, header::SET_COOKIE},
};
use maud::{Markup, html};

use super::{
    LONGEST_FORM,
    assets::ICON,
    page::{Shown, Sorry, forgotten, outside, see},
    session::{COOKIE, Fields, LASTS, Sent, Viewer, begin, is_foreign},
};
use crate::http::{ProblemResponse, Shared, WholeBody};

/// The form. An operator with a session goes on to the page that was asked for.
pub(super) async fn form(request: HttpRequest, service: Shared, viewer: Option<Viewer>) -> Shown {
    if service.tokens.are_none() {
        return Err(closed());
    }
    let query = Fields::read(request.query_string().as_bytes());
    let next = query.as_ref().map_or("", |query| query.get("next"));
    match viewer {
        Some(viewer) if viewer.form_token.is_some() => Ok(see(next_page(next))),
        _ => Ok(shown(StatusCode::OK, next, None)),
    }
}

fn closed() -> Sorry {
    ProblemResponse::new(403, "Forbidden", "COGNIGY_ADMIN_TOKEN is not set").into()
}

/// Checks the token as the operator API does, and slows guesses down as that does.
pub(super) async fn sign_in(request: HttpRequest, service: Shared, body: WholeBody) -> Shown {
    let unreadable = || ProblemResponse::bad_request("The form cannot be read");
    let body = body.within(LONGEST_FORM).await?;
    let fields = Fields::read(&body).ok_or_else(unreadable)?;
    if is_foreign(&request) {
        let detail = "The form is not of this console, so nobody was signed in";
        return Err(ProblemResponse::new(403, "Forbidden", detail).into());
    }
    // A token that was copied often has a space or a line's end with it.
    let (token, next) = (fields.get("token").trim(), fields.get("next"));
    let token = Some(token.as_bytes()).filter(|token| !token.is_empty());
    match service.tokens.identify(token, &request, &service.app) {
        Ok(operator) => {
            let value = begin(&service, &operator).ok_or_else(unreadable)?;
            let mut response = see(next_page(next));
            let secure = if is_behind_tls(&request) { "; Secure" } else { "" };
            let cookie = format!(
                "{COOKIE}={value}; Path=/console; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
                LASTS.num_seconds()
            );
            let cookie = cookie.parse().map_err(|_| unreadable())?;
            response.headers_mut().insert(SET_COOKIE, cookie);
            Ok(response)
        }
        Err(refused) => {
            let problem = refused.answer().await;
            if problem.told().0 != 401 {
                return Err(problem.into());
            }
            let told = match token {
                Some(_) => "This is no operator's token. Tokens are in the settings of the server.",
                None => "Enter your token.",
            };
            let mut response = shown(StatusCode::UNAUTHORIZED, next, Some(told));
            // So each guess costs a connection.
            response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
            Ok(response)
        }
    }
}

/// Ends the session in this browser.
pub(super) async fn sign_out(_: Sent) -> Shown {
    let mut response = see("/console/sign-in");
    if let Ok(cookie) = forgotten().parse() {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The page to go to. An address that leads out of the console is not followed.
fn next_page(next: &str) -> &str {
    let within =
        next == "/console" || ["/console/", "/console?"].iter().any(|it| next.starts_with(it));
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let signs = next.starts_with("/console/sign-");
    // A browser would follow dots out of the console, plain or percent-encoded.
    let path = next.split('?').next().unwrap_or_default().to_ascii_lowercase();
    let climbs = path.contains("..") || path.contains("%2e") || path.contains("/./");
    if within && plain && !signs && !climbs { next } else { "/console" }
}

/// Whether the browser speaks TLS to the proxy in front. To believe that wrongly does no harm: the browser
/// then keeps the cookie back.
pub(super) fn is_behind_tls(request: &HttpRequest) -> bool {
    let says = |name: &str, wanted: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(wanted))
    };
    says("x-forwarded-proto", "https")
        || says(header::FORWARDED.as_str(), "proto=https")
        || says(header::FORWARDED.as_str(), "proto=\"https\"")
}

fn shown(status: StatusCode, next: &str, problem: Option<&str>) -> HttpResponse {
    let content: Markup = html! {
        p.brand { img src=(ICON.address()) alt="" width="40" height="40"; }
        h1 { "Cognigy console" }
        @if let Some(problem) = problem {
            div.note.bad role="alert" #problem { p { (problem) } }
        }
        form.stacked method="post" action="/console/sign-in" {
            label for="token" { "Operator's token" }
            input #token name="token" type="password" autocomplete="current-password" required
                autofocus spellcheck="false" aria-describedby="token-help"
                aria-invalid=[problem.map(|_| "true")];
            p.help #token-help { "The value of " code { "COGNIGY_ADMIN_TOKEN" } " or "
                code { "COGNIGY_OPERATOR_{NAME}_TOKEN" } " in the settings of the server." }
            input type="hidden" name="next" value=(next_page(next));
            button.main { "Sign in" }
        }
        p.help { "Signed in already? A link from elsewhere does not bring the session with it: "
            a href=(next_page(next)) { "go on" } "." }
    };
    outside(status, "Sign in", &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_in_leads_to_pages_of_the_console_only() {
        for page in ["/console", "/console/events?q=a%20b", "/console?x=1"] {
            assert_eq!(next_page(page), page);
        }
        for other in [
            "",
            "//elsewhere.example",
            "https://elsewhere.example",
            "/consoles",
            "/console/\\elsewhere",
            "/console/\r\nSet-Cookie: x",
            "/console/sign-out",
        ] {
            assert_eq!(next_page(other), "/console", "{other:?}");
        }
    }
}
