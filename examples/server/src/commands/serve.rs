//! `serve`: take webhooks in and process them until told to stop.

use std::{net::SocketAddr, time::Duration};

use actix_web::{App as ActixApp, HttpServer, dev::ServerHandle, middleware::from_fn, web};
use cognigy_core::{Backlog, Clock, Purged, StoreError, Worker, WorkerHandle, WorkerOptions};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::{
    app::{Access, App, StartError},
    http,
    settings::Settings,
};

/// A head has to be complete within this time of the connection.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// An idle connection is kept this long: longer than the usual 60 s of a balancer in front, so
/// that the balancer and not the server is the one to close it.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Connections held at once; the next ones wait in the kernel's backlog until one is closed. At
/// some 35 KiB each, idle or not, a flood of them costs 150 MB and not the machine.
const MAX_CONNECTIONS: usize = 4096;
/// Requests under way may go on this long after a stop, in seconds.
const SHUTDOWN_SECONDS: u64 = 15;
/// How often finished events are checked against the retention.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// Events forgotten in one transaction: a few milliseconds, so that deliveries hardly wait.
const PURGE_BATCH: usize = 500;
/// A pause between two such transactions leaves the writer to deliveries.
const PURGE_PAUSE: Duration = Duration::from_millis(20);

/// A server at work.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    app: App,
    server: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
    workers: Vec<WorkerHandle>,
    upkeep: JoinHandle<()>,
}

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(settings: &Settings) -> Result<bool, StartError> {
    settings.can_serve()?;
    let app = App::build(settings, None, Access::Create, Some(settings.ordering)).await?;
    let mut running = start(app, settings).await?;
    tracing::info!(address = %running.address, "listening");
    tokio::select! {
        () = asked_to_stop() => tracing::info!("stopping"),
        ended = &mut running.serving => {
            return Err(StartError::Failed(format!("the server ended by itself: {ended:?}")));
        }
    }
    // Whoever asks twice does not want to wait.
    let noticed = async {
        tokio::select! {
            () = tokio::time::sleep(settings.drain) => {}
            () = asked_to_stop() => {}
        }
    };
    running.stop(noticed).await;
    tracing::info!("stopped");
    Ok(true)
}

/// Starts serving `app`.
pub(crate) async fn start(app: App, settings: &Settings) -> Result<Running, StartError> {
    let shared = web::Data::new(app.clone());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let server = HttpServer::new(move || {
        ActixApp::new()
            .app_data(shared.clone())
            .wrap(from_fn(http::end_with_the_answer))
            .wrap(from_fn(http::leave_while_stopping))
            .configure(|config| http::routes(config, &shared.sources))
    })
    .client_request_timeout(HEAD_DEADLINE)
    .keep_alive(KEEP_ALIVE)
    // actix counts for each of its threads.
    .max_connections(MAX_CONNECTIONS.div_ceil(threads))
    .workers(threads)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    // Our own signal handling stops the worker too.
    .disable_signals()
    .bind(settings.listen)
    .map_err(|error| {
        StartError::failed(&format!("cannot listen on {}", settings.listen), &error)
    })?;
    let address = server.addrs().first().copied().unwrap_or(settings.listen);
    let server = server.run();
    let handle = server.handle();
    // A worker for each source: what holds one up holds up nothing of another's.
    let workers = app.sources.iter().filter(|_| settings.worker).map(|source| {
        let options = WorkerOptions { concurrency: source.concurrency, ..WorkerOptions::default() };
        Worker::spawn_with(source.pipeline.clone(), app.clock, options)
    });
    tokio::spawn(warn_of_orphans(app.clone()));
    Ok(Running {
        address,
        server: handle,
        serving: tokio::spawn(server),
        workers: workers.collect(),
        upkeep: tokio::spawn(upkeep(app.clone(), settings.clone())),
        app,
    })
}

impl Running {
    /// Is no longer ready and claims no more; takes deliveries until those who send them have
    /// `noticed`, then no more. Lets work in hand finish within a bound, leaves the rest to the
    /// lease.
    pub(crate) async fn stop(self, noticed: impl Future<Output = ()>) {
        self.app.readiness.stop();
        self.upkeep.abort();
        let workers = join_all(self.workers.into_iter().map(WorkerHandle::shutdown));
        let server = async {
            noticed.await;
            self.server.stop(true).await;
        };
        tokio::join!(server, workers);
    }
}

/// Tells of work whose source is not configured any more: it stays stored, and nobody does it.
async fn warn_of_orphans(app: App) {
    match app.store.backlog().await {
        Ok(backlog) => {
            let orphans = backlog.iter().filter(|(source, _)| app.sources.get(source).is_none());
            for (source, Backlog { events, dead_letters }) in orphans {
                let source = source.as_str();
                tracing::warn!(
                    source,
                    events,
                    dead_letters,
                    "unfinished work of a source that is not configured"
                );
            }
        }
        Err(error) => {
            let error = crate::app::chain(&error);
            tracing::warn!(error, "could not look for work of sources that are not configured");
        }
    }
}

/// Forgets what is older than the retention, for as long as the server runs.
async fn upkeep(app: App, settings: Settings) {
    loop {
        if let Err(error) = purge_once(&app, &settings).await {
            tracing::error!(error = crate::app::chain(&error), "finished events not forgotten");
        }
        for source in app.sources.iter().filter(|source| source.crm.only_not_found()) {
            let source = source.telemetry.label();
            tracing::warn!(source, "the CRM has answered nothing but 404: is CRM_BASE_URL right?");
        }
        tokio::time::sleep(PURGE_INTERVAL).await;
    }
}

async fn purge_once(app: &App, settings: &Settings) -> Result<(), StoreError> {
    let mut request = super::purge::request(settings, app.clock.now(), PURGE_BATCH);
    let mut total = Purged::default();
    let outcome = loop {
        match app.store.purge(request).await {
            Ok(step) => {
                total.add(&step.purged);
                request.after = step.next;
                if request.after.is_none() {
                    break Ok(());
                }
                tokio::time::sleep(PURGE_PAUSE).await;
            }
            Err(error) => break Err(error),
        }
    };
    if !total.is_empty() {
        app.telemetry.forgot(&total);
    }
    outcome
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}
