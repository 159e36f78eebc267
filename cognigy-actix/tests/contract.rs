//! The HTTP contract over actix-web, and what an actix-web program can do with the routes.
#![allow(clippy::unwrap_used)]

mod common;

use actix_web::web::{self, ServiceConfig};
use cognigy_contract_tests::{Running, Setup, event, signature};
use cognigy_service::Service;

cognigy_contract_tests::contract_tests!(start);

fn start(setup: Setup) -> Running {
    serve(setup, |service, config| cognigy_actix::configure(service)(config))
}

/// Serves the routes that `routes` makes of a service.
fn serve(setup: Setup, routes: fn(&Service, &mut ServiceConfig)) -> Running {
    common::serve(setup, async |service| service, routes)
}

#[test]
fn a_program_chooses_the_paths_and_mounts_the_routes_in_a_scope() {
    let running = serve(Setup::default(), |service, config| {
        let receiver = service.receivers().next().unwrap();
        config.service(web::scope("/hooks").configure(cognigy_actix::webhook("/in", receiver)));
    });
    let body = event("e1", "c1");
    let signature = signature(&body);
    let length = body.len().to_string();
    let headers = [("X-Cognigy-Signature", signature.as_str()), ("Content-Length", &length)];
    assert_eq!(running.request("POST", "/hooks/in", &headers, &body).status, 200);
    running.request("POST", "/webhooks/cognigy", &headers, &body).problem(404);
    running.request("GET", "/hooks/in", &[], b"").problem(405);
}
