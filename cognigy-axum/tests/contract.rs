//! The HTTP contract over axum, and what an axum program can do with the routes.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};

use axum::{Router, response::IntoResponse};
use cognigy_contract_tests::{Running, Setup, event, service, signature};
use cognigy_core::Reply;
use cognigy_service::Service;
use tokio::{net::TcpListener, runtime::Runtime};

cognigy_contract_tests::contract_tests!(start);

fn start(setup: Setup) -> Running {
    serve(setup, |service| Router::new().merge(cognigy_axum::router(service)))
}

/// Serves the routes that `routes` makes of a service.
fn serve(setup: Setup, routes: impl FnOnce(&Service) -> Router) -> Running {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let address = runtime.block_on(async {
        let service = service(setup, folder.path()).await;
        let app = routes(&service).fallback(cognigy_axum::not_found);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async { axum::serve(listener, app).await });
        address
    });
    Running::new(address, (runtime, folder))
}

#[test]
fn a_program_chooses_the_paths_and_nests_the_routes() {
    let running = serve(Setup::default(), |service| {
        let receiver = service.receivers().next().unwrap();
        let hooks = Router::new().route("/in", cognigy_axum::webhook(receiver));
        Router::new().nest("/hooks", hooks)
    });
    let body = event("e1", "c1");
    let signature = signature(&body);
    let length = body.len().to_string();
    let headers = [("X-Cognigy-Signature", signature.as_str()), ("Content-Length", &length)];
    assert_eq!(running.request("POST", "/hooks/in", &headers, &body).status, 200);
    running.request("POST", "/webhooks/cognigy", &headers, &body).problem(404);
    running.request("GET", "/hooks/in", &[], b"").problem(405);
}

#[test]
fn an_answer_keeps_every_header() {
    let reply = Reply::problem(503, "Service Unavailable", "later").with_retry_after(7);
    let response = cognigy_axum::Answer(reply.with_header("Allow", "POST")).into_response();
    assert_eq!(response.status(), 503);
    let header = |name| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!([header("retry-after"), header("allow")], ["7", "POST"]);
    assert_eq!(header("content-type"), "application/problem+json");
}
