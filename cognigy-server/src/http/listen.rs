//! Listening: actix-web's HTTP over connections of the server's own type.

use std::{
    future::ready,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::{
    App as ActixApp,
    dev::{AppConfig, Server, ServerHandle, fn_service},
    middleware::from_fn,
    web,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::{AbortHandle, JoinHandle},
};

use super::{
    Routes, Service,
    connection::Connection,
    connections::{Connections, HEAD_DEADLINE, KEEP_ALIVE},
    edge,
    open_connections::OpenConnections,
};
use cognigy_service::admission::UNKNOWN;

/// The client has this long to read an answer that ends its connection.
const LINGER: Duration = Duration::from_secs(1);
/// How many connections may wait to be taken. The kernel's own limit may be less.
const BACKLOG: u32 = 1024;

/// A running listener.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) serving: JoinHandle<io::Result<()>>,
    handle: ServerHandle,
    watch: AbortHandle,
}

/// How many bytes of unread answers the kernel holds for each connection. Answers to senders are a
/// few hundred bytes. Answers to operators are sent at this many bytes for each round trip.
const SEND_BUFFER: u32 = 128 * 1024;

/// A socket that listens at `address`.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted server need not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    // The connections inherit this. Otherwise the kernel lets the buffer of each grow to megabytes.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// How many connections a listener holds, and which threads serve them.
pub(crate) struct Size {
    pub(crate) connections: usize,
    pub(crate) threads: usize,
}

/// Serves `routes` at `listener`. When the server stops, requests in progress have `grace` to end.
pub(crate) fn serve(
    listener: TcpListener,
    routes: Routes,
    service: &Service,
    size: &Size,
    grace: Duration,
) -> io::Result<Listening> {
    let address = listener.local_addr()?;
    let app = &service.app;
    let connections = Connections::new(size.connections, app.trusted.clone());
    let collector = OpenConnections::new(routes.as_str(), Arc::clone(&connections));
    if let Err(error) = collector.and_then(|collector| app.telemetry.register(collector)) {
        tracing::error!(%error, listener = routes.as_str(), "connections are not counted");
    }
    let watch = tokio::spawn(Arc::clone(&connections).watch()).abort_handle();
    let builder = Server::build();
    let stopping = builder.graceful_shutdown_signal();
    let shared = web::Data::new(service.clone());
    let factory = move || {
        let shared = shared.clone();
        let app = ActixApp::new()
            .app_data(shared.clone())
            .wrap(from_fn(edge::pass))
            .configure(|config| super::configure(config, routes, &shared.app.pipelines));
        let app = app.into_factory().map_err(|error: actix_web::Error| error.error_response());
        let stopping = stopping.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .client_request_timeout(HEAD_DEADLINE)
            .keep_alive(KEEP_ALIVE)
            .client_disconnect_timeout(LINGER)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.state());
            })
            .finish(map_config(app, |()| AppConfig::default()));
        let (connections, refusals) = (Arc::clone(&connections), Arc::clone(&shared.app.refusals));
        let accepted = fn_service(move |socket: TcpStream| {
            let peer = socket.peer_addr().ok();
            let from = peer.map_or(UNKNOWN, |peer| peer.ip().to_canonical());
            let connection = Connection::new(socket, from, &connections, &refusals);
            ready(Ok::<_, actix_http::error::DispatchError>((
                connection,
                actix_http::Protocol::Http1,
                peer,
            )))
        });
        accepted.and_then(http)
    };
    let server = builder
        .workers(size.threads)
        // actix counts the connections of each thread.
        .max_concurrent_connections(size.connections.div_ceil(size.threads))
        .backlog(BACKLOG)
        // actix knows whole seconds only. `Listening::stop` keeps a shorter grace.
        .shutdown_timeout(grace.as_secs() + u64::from(grace.subsec_nanos() > 0))
        // The signal handling of `serve` stops the workers too.
        .disable_signals()
        .listen(routes.as_str(), listener, factory)?
        .run();
    Ok(Listening { address, handle: server.handle(), serving: tokio::spawn(server), watch })
}

impl Listening {
    /// Takes no more connections, lets requests in progress end within `grace`, and stops.
    pub(crate) async fn stop(&self, grace: Duration) {
        if tokio::time::timeout(grace, self.handle.stop(true)).await.is_err() {
            self.handle.stop(false).await;
        }
        self.watch.abort();
    }
}
