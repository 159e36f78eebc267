//! A server of actix-web for the tests of this crate.
#![allow(clippy::unwrap_used)]

use actix_web::{
    App, HttpServer,
    dev::ServerHandle,
    web::{self, ServiceConfig},
};
use cognigy_contract_tests::{Running, Setup, service};
use cognigy_service::Service;
use tokio::runtime::Runtime;

/// Makes something of a service, and serves the routes that `routes` makes of that.
pub(crate) fn serve<T: Clone + Send + 'static>(
    setup: Setup,
    made: impl AsyncFnOnce(Service) -> T,
    routes: fn(&T, &mut ServiceConfig),
) -> Running {
    let (runtime, folder) = (Runtime::new().unwrap(), tempfile::tempdir().unwrap());
    let (address, handle) = runtime.block_on(async {
        let service = service(setup, folder.path()).await;
        let made = made(service).await;
        let app = move || {
            App::new()
                .configure(|config| routes(&made, config))
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
