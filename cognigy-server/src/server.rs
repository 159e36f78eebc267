//! The server as its embedding program sees it.

use std::{future::Future, process::ExitCode, sync::Arc};

use cognigy_core::{BoxError, CrmClient, DeadLetterSink, EventHandler, SourceName, Store};

use crate::{
    cli, commands,
    deployment::{Adapters, Deployment},
    error::{DONE, FAILED, StartError},
    logging, output, panics,
    settings::Settings,
    traces,
};

/// The server with its commands, and the adapters that the program adds to it.
///
/// Without any adapter it is the binary `cognigy-server`. Each method puts an adapter in the place of
/// what the settings would make. Every command of the process that runs events uses them: `serve`, and
/// `replay` where it runs events itself. `demo` is the exception: its events are made up, so that it
/// has a store, CRM and dead-letter queue of its own and calls no handler.
///
/// ```no_run
/// use std::{process::ExitCode, sync::Arc};
///
/// use cognigy_core::{Contact, Event, EventHandler, NoHandler, SourceName};
/// use cognigy_server::Server;
///
/// fn handler_of(source: &SourceName) -> Arc<dyn EventHandler> {
///     match source.as_str() {
///         "shop" => Arc::new(|event: Arc<Event>, _contact: Option<Contact>| async move {
///             println!("an order: {}", event.id());
///             Ok(())
///         }),
///         _ => Arc::new(NoHandler),
///     }
/// }
///
/// fn main() -> ExitCode {
///     Server::new().handler_per_source(handler_of).run()
/// }
/// ```
#[derive(Default)]
#[must_use = "a server does nothing until it is run"]
pub struct Server {
    adapters: Adapters,
}

impl Server {
    /// The server as the settings describe it, with a handler that does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands the events of all sources to `handler`, with their contacts.
    pub fn handler(self, handler: impl EventHandler) -> Self {
        let handler: Arc<dyn EventHandler> = Arc::new(handler);
        self.handler_per_source(move |_| Arc::clone(&handler))
    }

    /// Hands the events of each source to the handler that `handler_of` yields for the source's name.
    /// `handler_of` is called once for each configured source; the source of the plain path is called
    /// `cognigy`. The last handler that was set counts.
    pub fn handler_per_source(
        mut self,
        handler_of: impl Fn(&SourceName) -> Arc<dyn EventHandler> + Send + Sync + 'static,
    ) -> Self {
        self.adapters.handler = Some(Arc::new(handler_of));
        self
    }

    /// Looks the contacts of all sources up with `crm`. Look-ups of one contact at the same time are
    /// one call, and `CRM_CACHE` and `CRM_CONCURRENCY` count; the other `CRM_…` settings are not used.
    pub fn crm(mut self, crm: impl CrmClient) -> Self {
        self.adapters.crm = Some(Arc::new(crm));
        self
    }

    /// Sends the dead letters of all sources to `sink`, in place of the queue in `SQS_DLQ_URL`. The
    /// command `redrive` still reads from that queue.
    pub fn dead_letters(mut self, sink: impl DeadLetterSink) -> Self {
        self.adapters.dead_letters = Some(Arc::new(sink));
        self
    }

    /// Keeps events in the store that `open` opens, in place of the one in `COGNIGY_DATABASE_URL`.
    /// `open` is called once, on the server's runtime. It decides whether the store keeps the order of
    /// a contact's events: `COGNIGY_ORDERING` is not used. `replay` cannot see whether a server works on
    /// such a store. It runs events itself unless it is called with `--hand-over`.
    pub fn store<S, E, F>(mut self, open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        S: Store,
        E: Into<BoxError>,
        F: Future<Output = Result<S, E>> + Send + 'static,
    {
        self.adapters.store = Some(Arc::new(move || {
            let opening = open();
            Box::pin(async move {
                let store: Arc<dyn Store> = Arc::new(opening.await.map_err(Into::into)?);
                Ok(store)
            })
        }));
        self
    }

    /// Reads the command line, the environment and the settings file, runs the command, and yields its
    /// exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted.
    ///
    /// Its messages begin with `cognigy-server:`, whatever the program is called.
    ///
    /// Call it once, at the end of `main`. It starts a runtime and the log, and takes over the panic
    /// hook and the signals SIGTERM and SIGINT. Inside another runtime it fails.
    #[must_use = "the exit status tells whether the command did its work"]
    pub fn run(self) -> ExitCode {
        panics::hide_messages();
        ExitCode::from(panics::caught(|| self.exit_status()).unwrap_or(FAILED))
    }

    fn exit_status(self) -> u8 {
        let invocation = match cli::parse() {
            Ok(invocation) => invocation,
            Err(status) => return status,
        };
        let settings = match Settings::read(&invocation.layers) {
            Ok(settings) => settings,
            Err(error) => return complain(&error.into()),
        };
        let _log = logging::start(&settings);
        for warning in invocation.warnings {
            tracing::warn!("{warning}");
        }
        // Until its end, after the runtime's: what is under way then has its spans too.
        let (traces, _flush) = match traces::start(&settings) {
            Ok(started) => started.unzip(),
            Err(error) => return complain(&error),
        };
        let deployment = Deployment { settings, adapters: self.adapters, traces };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => runtime.block_on(commands::run(
                &invocation.command,
                &invocation.arguments,
                &deployment,
                invocation.layers,
            )),
            Err(error) => Err(StartError::failed("cannot start", &error)),
        };
        match outcome {
            Ok(true) => DONE,
            Ok(false) => FAILED,
            Err(error) => complain(&error),
        }
    }
}

/// Writes one line, and yields the exit status that fits.
fn complain(error: &StartError) -> u8 {
    output::complain(error);
    error.exit_status()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex, time::Duration};

    use async_trait::async_trait;
    use cognigy_core::{
        Clock, Contact, ContactQuery, DeadLetter, Event, Failure, RawDelivery, SignatureScheme,
        StoreError, Worker, memory::MemoryStore, sign,
    };

    use super::*;
    use crate::{app::App, settings::Layers, store::Access};

    /// What the adapters of a program were asked to do, in order.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Log {
        fn add(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }
    }

    #[async_trait]
    impl CrmClient for Log {
        async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
            self.add(format!("crm {}", query.contact_key));
            Ok(Contact::from_json("\"Ada\"").ok())
        }
    }

    #[async_trait]
    impl DeadLetterSink for Log {
        async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
            batch.iter().for_each(|it| self.add(format!("sink {}", it.error_message)));
            batch.iter().map(|_| Ok(())).collect()
        }
    }

    #[tokio::test]
    async fn every_adapter_of_the_program_takes_the_place_of_what_is_set() {
        let log = Log::default();
        let handled = log.clone();
        let server = Server::new()
            .crm(log.clone())
            .dead_letters(log.clone())
            .store(|| std::future::ready(Ok::<_, StoreError>(MemoryStore::new())))
            .handler_per_source(move |source| {
                let (source, log) = (source.clone(), handled.clone());
                Arc::new(move |_: Arc<Event>, contact: Option<Contact>| {
                    let contact = contact.map(|contact| contact.to_string());
                    log.add(format!("{source} {}", contact.unwrap_or_default()));
                    std::future::ready(Err(Failure::permanent(format!("{source} refuses"))))
                })
            });
        let secret = "a-secret-for-this-test";
        let flags = [
            ("webhook_secret", secret),
            ("sources", "shop"),
            ("database_url", "sqlite:/nowhere/webhooks.db"),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut layers = Layers::from_flags(BTreeMap::from(flags.map(own)));
        layers
            .add_environment([("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", secret)].into_iter())
            .unwrap();
        layers.name_sources().unwrap();
        let settings = Settings::read(&layers).unwrap();
        let deployment = Deployment { settings, adapters: server.adapters, traces: None };
        assert!(deployment.database().is_none(), "the database that is set is not used");
        let app = App::build(&deployment, Access::Create, None).await.unwrap();

        let body = r#"{"eventId":"e1","timestamp":1767225600,"type":"DIALOG_STARTED","externalId":"c1","payload":{}}"#;
        for source in app.pipelines.iter() {
            let secret = cognigy_core::Secret::new(secret).unwrap();
            let signature = sign(&secret, SignatureScheme::Base64, body.as_bytes());
            let raw = RawDelivery::new([("X-Cognigy-Signature", signature.as_str())], body);
            let reply = source.pipeline.ingest(raw, app.clock.now()).await;
            assert_eq!(reply.status(), 200);
            let worker = Worker::spawn(source.pipeline.clone(), app.clock);
            let name = source.pipeline.source().name();
            let sent = format!("sink gave up after 1 attempt: {name} refuses");
            for _ in 0..500 {
                if log.0.lock().unwrap().contains(&sent) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            worker.shutdown().await;
            let expected = ["crm c1".to_owned(), format!("{name} \"Ada\""), sent];
            assert_eq!(std::mem::take(&mut *log.0.lock().unwrap()), expected);
        }
    }
}
