//! The operator API over actix-web, behind an authentication of the program's own.
#![allow(clippy::unwrap_used)]

mod common;

use actix_web::{
    Error, HttpMessage,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{AUTHORIZATION, HeaderMap},
    middleware::{Next, from_fn},
    web::{self, ServiceConfig},
};
use cognigy_contract_tests::{ANNA, BILL, RITA, Running, Setup, event};
use cognigy_operator::{Operator, OperatorApi, Role};
use cognigy_service::Service;

cognigy_contract_tests::operator_tests!(start);

fn start(setup: Setup) -> Running {
    serve(setup, |api, config| {
        let operators = web::scope("").wrap(from_fn(authenticate));
        config.service(operators.configure(cognigy_actix::configure_operator(api)));
    })
}

/// A login that lets strangers through, as no operator.
async fn authenticate<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if let Some(operator) = operator_of(request.headers()) {
        request.extensions_mut().insert(operator);
    }
    next.call(request).await
}

fn operator_of(headers: &HeaderMap) -> Option<Operator> {
    match headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")? {
        ANNA => Some(Operator::new("anna", Role::Operator)),
        BILL => Some(Operator::new("bill", Role::ReaderOfBodies)),
        RITA => Some(Operator::new("rita", Role::Reader)),
        _ => None,
    }
}

/// Serves a receiver, and beside it what `routes` makes of its operator API.
fn serve(setup: Setup, routes: fn(&OperatorApi, &mut ServiceConfig)) -> Running {
    let both = async |service: Service| {
        let api = OperatorApi::of(&service).start().await.unwrap();
        (service, api, routes)
    };
    common::serve(setup, both, |(service, api, routes), config| {
        cognigy_actix::configure(service)(config);
        routes(api, config);
    })
}

#[test]
fn routes_are_in_a_scope_and_closed_where_the_login_was_forgotten() {
    let running = serve(Setup::default(), |api, config| {
        let behind = web::scope("/internal/{team}").wrap(from_fn(authenticate));
        let open = web::scope("/forgotten");
        config
            .service(behind.configure(cognigy_actix::configure_operator(api)))
            .service(open.configure(cognigy_actix::configure_operator(api)));
    });
    assert_eq!(running.deliver(&event("a/b", "c1")).status, 200);
    let bearer = format!("Bearer {ANNA}");
    let get = |path| running.request("GET", path, &[("Authorization", &bearer)], b"");
    assert_eq!(get("/internal/a%20team/admin/events/a%2Fb").json()["event_id"], "a/b");
    get("/forgotten/admin/events").problem(403);
    get("/forgotten/webhooks/replay/a%2Fb").problem(403);
    get("/admin/events").problem(404);
    get("/internal/a/admin/%65vents").problem(404);
}
