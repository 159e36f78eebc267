//! The HTTP contract over actix-web, and what an actix-web program can do with the routes.
#![allow(clippy::unwrap_used)]

use actix_web::{
    App, HttpServer,
    dev::ServerHandle,
    web::{self, ServiceConfig},
};
use cognigy_contract_tests::{Running, Setup, event, service, signature};
use cognigy_service::Service;
use tokio::runtime::Runtime;

cognigy_contract_tests::contract_tests!(start);

fn start(setup: Setup) -> Running {
    serve(setup, |service, config| cognigy_actix::configure(service)(config))
}

/// Serves the routes that `routes` makes of a service.
fn serve(setup: Setup, routes: fn(&Service, &mut ServiceConfig)) -> Running {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let (address, handle) = runtime.block_on(async {
        let service = service(setup, folder.path()).await;
        let app = move || {
            App::new()
                .configure(|config| routes(&service, config))
                .default_service(web::to(cognigy_actix::not_found))
        };
        let server = HttpServer::new(app).workers(2).disable_signals();
        let server = server.bind("127.0.0.1:0").unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        (address, handle)
    });
    Running::new(address, (Stopping(handle), runtime, folder))
}

/// Stops the server's threads when dropped.
struct Stopping(ServerHandle);

impl Drop for Stopping {
    fn drop(&mut self) {
        drop(self.0.stop(false));
    }
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
