//! The operator API over axum, behind an authentication of the program's own.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, header::AUTHORIZATION},
    middleware::{Next, from_fn},
    response::Response,
};
use cognigy_contract_tests::{ANNA, BILL, RITA, Running, Setup, event, service};
use cognigy_operator::{Operator, OperatorApi, Role};
use tokio::{net::TcpListener, runtime::Runtime};

cognigy_contract_tests::operator_tests!(start);

fn start(setup: Setup) -> Running {
    serve(setup, |api| cognigy_axum::operator_router(api).layer(from_fn(authenticate)))
}

/// A login that lets strangers through, as no operator.
async fn authenticate(mut request: Request, next: Next) -> Response {
    if let Some(operator) = operator_of(request.headers()) {
        request.extensions_mut().insert(operator);
    }
    next.run(request).await
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
fn serve(setup: Setup, routes: impl FnOnce(&OperatorApi) -> Router) -> Running {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let address = runtime.block_on(async {
        let service = service(setup, folder.path()).await;
        let api = OperatorApi::of(&service).start().await.unwrap();
        let app = Router::new().merge(cognigy_axum::router(&service)).merge(routes(&api));
        let app = app.fallback(cognigy_axum::not_found);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async { axum::serve(listener, app).await });
        address
    });
    Running::new(address, (runtime, folder))
}

#[test]
fn routes_are_nested_and_closed_where_the_login_was_forgotten() {
    let running = serve(Setup::default(), |api| {
        let behind = cognigy_axum::operator_router(api).layer(from_fn(authenticate));
        let open = cognigy_axum::operator_router(api);
        Router::new().nest("/internal", behind).nest("/forgotten", open)
    });
    assert_eq!(running.deliver(&event("a/b", "c1")).status, 200);
    let bearer = format!("Bearer {ANNA}");
    let get = |path| running.request("GET", path, &[("Authorization", &bearer)], b"");
    assert_eq!(get("/internal/admin/events/a%2Fb").json()["event_id"], "a/b");
    get("/forgotten/admin/events").problem(403);
    get("/forgotten/webhooks/replay/a%2Fb").problem(403);
    get("/admin/events").problem(404);
    get("/internal/admin/%65vents").problem(404);
}
