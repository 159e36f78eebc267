//! `serve`: receive webhooks and process them until a signal stops the server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cognigy_core::{Backlog, Clock, Stop, WorkerOptions};
use cognigy_crm_http::HttpCrm;
use cognigy_operator::OperatorApi;
use cognigy_service::{Happening, ServiceObserver, Upkeep};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::{
    app::App,
    breakers,
    deployment::Deployment,
    error::StartError,
    http::{self, Listening, MAX_CONNECTIONS, Routes, Service, Size},
    notices::Notices,
    presence::Presence,
    purging,
    settings::{EXAMPLE_CRM, Settings},
    store::Access,
};

/// How many connections operators may have, if they have a listener of their own.
const OPERATORS_CONNECTIONS: usize = 256;
/// What a log line about forgetting the bodies of sensitive events is remembered by.
const SENSITIVE: &str = "sensitive events";
const INDEX: &str = "search index";

/// A running server.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    service: Service,
    listening: Vec<Listening>,
    grace: Duration,
    upkeep: Upkeep,
    watching: Vec<JoinHandle<()>>,
    /// The task that carries bulk replays out, where this process has workers.
    replays: Option<(Stop, JoinHandle<()>)>,
}

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(deployment: &Deployment) -> Result<bool, StartError> {
    let Deployment { settings, adapters, .. } = deployment;
    settings.can_serve()?;
    let app = App::build(deployment, Access::Create, Some(settings.ordering)).await?;
    let _presence = Presence::announce(deployment);
    let mut running = start(app, settings).await?;
    let operators = running.listening.get(1).map(|listening| listening.address);
    let operators = operators.map(tracing::field::display);
    if settings.plain.crm.base_url == EXAMPLE_CRM && adapters.crm.is_none() {
        tracing::warn!(
            "CRM_BASE_URL is not set: contacts are looked up at {EXAMPLE_CRM}, which is an example"
        );
    }
    tracing::info!(address = %running.address, operators, "listening");
    let ended =
        futures_util::future::select_all(running.listening.iter_mut().map(|it| &mut it.serving));
    tokio::select! {
        () = asked_to_stop() => tracing::info!("stopping"),
        (ended, ..) = ended => {
            return Err(StartError::Failed(format!("the server stopped unexpectedly: {ended:?}")));
        }
    }
    // A second signal ends the wait.
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
    let grace = settings.stop_grace;
    let service = Service::new(app, settings);
    let app = &service.app;
    let listen = |address: SocketAddr, routes, size| {
        http::bind(address)
            .and_then(|socket| http::serve(socket, routes, &service, &size, grace))
            .map_err(|error| StartError::failed(&format!("cannot listen on {address}"), &error))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let public = Size { connections: MAX_CONNECTIONS, threads };
    let mut listening = Vec::new();
    match settings.admin_listen {
        None => listening.push(listen(settings.listen, Routes::All, public)?),
        Some(address) => {
            // The operators' listener has threads and connections of its own: a flood of deliveries
            // does not reach it.
            let private = Size { connections: OPERATORS_CONNECTIONS, threads: 1 };
            listening.push(listen(settings.listen, Routes::Deliveries, public)?);
            listening.push(listen(address, Routes::Operators, private)?);
        }
    }
    let address = listening.first().map_or(settings.listen, |public| public.address);
    app.api.follow_pauses().await?;
    app.telemetry.works(settings.worker);
    // Each source has a worker, so that a slow source does not hold up another.
    let clock: Arc<dyn Clock> = Arc::new(app.clock);
    for source in app.pipelines.iter().filter(|_| settings.worker) {
        let concurrency = source.concurrency;
        let options = WorkerOptions { concurrency, grace, ..WorkerOptions::default() };
        service.workers.start(source.pipeline.clone(), Arc::clone(&clock), options);
    }
    tokio::spawn(warn_of_orphans(app.clone()));
    let replays = settings.worker.then(|| {
        let stop = Stop::new();
        (stop.clone(), tokio::spawn(carry_out_replays(app.api.clone(), stop)))
    });
    let notices = match settings.notify.as_ref().filter(|_| settings.worker) {
        Some(notify) => Some(tokio::spawn(Notices::new(app.clone(), notify)?.watch())),
        None => None,
    };
    let told: Arc<dyn ServiceObserver> = Arc::new(Told(app.clone()));
    let stores = vec![Arc::clone(&app.store)];
    let upkeep = Upkeep::start(stores, clock, purging::upkeep(settings), Arc::clone(&told));
    let watching = [
        tokio::spawn(service.workers.clone().watch(told)),
        tokio::spawn(Arc::clone(&app.refusals).watch()),
        tokio::spawn(watch_pauses(app.api.clone())),
        tokio::spawn(breakers::watch(app.clone())),
    ];
    Ok(Running {
        replays,
        address,
        listening,
        grace,
        upkeep,
        watching: watching.into_iter().chain(notices).collect(),
        service,
    })
}

/// Carries bulk replays out, as one of the servers with workers.
async fn carry_out_replays(api: OperatorApi, stop: Stop) {
    api.carry_out_replays(stop).await;
}

/// Has the workers do as the store says about pauses, for as long as the server runs.
async fn watch_pauses(api: OperatorApi) {
    api.watch_pauses().await;
}

impl Running {
    /// Stops the server. From now on it says that it is not ready, and claims no more work. It still takes
    /// deliveries until `noticed` resolves, by when the balancer has noticed. Work in progress may finish
    /// within the grace. Events that are not finished then can be claimed again when their lease ends.
    pub(crate) async fn stop(self, noticed: impl Future<Output = ()>) {
        self.service.stop();
        self.upkeep.stop();
        self.watching.iter().for_each(JoinHandle::abort);
        let replays = async {
            let Some((stop, task)) = self.replays else { return };
            stop.stop();
            // It writes how far it has come, once the events that it runs have ended.
            let _ = tokio::time::timeout(self.grace, task).await;
        };
        let workers = self.service.workers.shutdown();
        let servers = async {
            noticed.await;
            let end = tokio::time::Instant::now() + self.grace;
            join_all(self.listening.iter().map(|listening| listening.stop(self.grace))).await;
            // Those whose operators have hung up.
            let _ = tokio::time::timeout_at(end, self.service.app.api.changes_end()).await;
        };
        tokio::join!(servers, workers, replays);
        self.service.app.refusals.report();
    }
}

/// Warns of unfinished work whose source is not configured any more. It stays stored, and no worker
/// takes it.
async fn warn_of_orphans(app: App) {
    match app.store.backlog().await {
        Ok(backlog) => {
            let orphans = backlog.iter().filter(|(source, _)| app.pipelines.get(source).is_none());
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
            let error = cognigy_core::report(&error);
            tracing::warn!(error, "could not look for work of sources that are not configured");
        }
    }
}

/// Logs and counts what upkeep and workers do.
struct Told(App);

impl ServiceObserver for Told {
    fn happened(&self, happening: &Happening<'_>) {
        let telemetry = &self.0.telemetry;
        match happening {
            Happening::Forgot { purged } => telemetry.forgot(purged),
            Happening::PurgeEnded { duration } => {
                telemetry.purged(*duration);
                self.warn_of_wrong_crms();
            }
            Happening::PurgeFailed { error } => {
                let error = cognigy_core::report(error);
                tracing::error!(error, "finished events not forgotten");
                self.warn_of_wrong_crms();
            }
            Happening::ForgotSensitive { count } => {
                telemetry.failing.over(SENSITIVE);
                if *count > 0 {
                    tracing::debug!(count, "bodies of sensitive events forgotten");
                }
            }
            Happening::ForgetSensitiveFailed { error } => {
                if let Some(unlogged) = telemetry.failing.again(SENSITIVE) {
                    let error = cognigy_core::report(error);
                    tracing::error!(error, unlogged, "bodies of sensitive events not forgotten");
                }
            }
            Happening::IndexFailed { error } => {
                if let Some(unlogged) = telemetry.failing.again(INDEX) {
                    let error = cognigy_core::report(error);
                    tracing::warn!(error, unlogged, "events not described in the search index");
                }
            }
            Happening::WorkerEnded { source } => {
                if let Some(source) = self.0.pipelines.get(source) {
                    source.telemetry.worker_ended();
                }
                let message =
                    "the worker of this source has ended unexpectedly: restart the server";
                tracing::error!(source = source.as_str(), "{message}");
            }
            _ => {}
        }
    }
}

impl Told {
    /// As often as a purge, it is seen whether a CRM is asked at a wrong address.
    fn warn_of_wrong_crms(&self) {
        for source in self.0.pipelines.iter() {
            if !source.http_crm.as_ref().is_some_and(HttpCrm::only_not_found) {
                continue;
            }
            let source = source.telemetry.label();
            tracing::warn!(source, "the CRM has answered nothing but 404: is CRM_BASE_URL right?");
        }
    }
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, pin::Pin};

    use cognigy_core::{Timestamp, TokioClock};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{deployment::Adapters, settings::Layers};

    /// A clock that breaks at once: the worker that waits by it panics.
    struct Broken(TokioClock);

    impl Clock for Broken {
        fn now(&self) -> Timestamp {
            self.0.now()
        }

        fn sleep_until(&self, _: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            panic!("on purpose")
        }
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_has_ended_fails_the_liveness_probe_and_is_in_the_metrics() {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite:{}", folder.path().join("webhooks.db").display());
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let layers = Layers::from_flags(BTreeMap::from(
            [
                ("webhook_secret", "a-secret-for-this-test"),
                ("database_url", &database),
                ("listen", "127.0.0.1:0"),
            ]
            .map(own),
        ));
        let settings = Settings::read(&layers).unwrap();
        let deployment = Deployment { settings, adapters: Adapters::default(), traces: None };
        let app = App::build(&deployment, Access::Create, None).await.unwrap();
        let running = start(app, &deployment.settings).await.unwrap();
        let address = running.address;
        assert!(get(address, "/healthz").await.ends_with(r#"{"status":"ok"}"#));
        let ended = "cognigy_worker_ended{source=\"cognigy\"}";
        assert!(get(address, "/metrics").await.contains(&format!("{ended} 0")));

        let app = &running.service.app;
        let pipeline = app.pipelines.iter().next().unwrap().pipeline.clone();
        let clock = Arc::new(Broken(app.clock));
        running.service.workers.start(pipeline, clock, WorkerOptions::default());
        let mut metrics = String::new();
        for _ in 0..300 {
            metrics = get(address, "/metrics").await;
            if metrics.contains(&format!("{ended} 1")) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(metrics.contains(&format!("{ended} 1")), "{metrics}");
        let health = get(address, "/healthz").await;
        assert!(health.starts_with("HTTP/1.1 503 ") && health.contains("cognigy"), "{health}");
        let ready = get(address, "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 200 "), "events can be taken: {ready}");
        running.stop(std::future::ready(())).await;
    }
}
