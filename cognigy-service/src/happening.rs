//! What a service does on its own account, told to an observer that counts or logs it. What happens to
//! deliveries and events is told to the observer of their pipeline ([`cognigy_core::Observer`]).

use std::{sync::Arc, time::Duration};

use cognigy_core::{Purged, SourceName, StoreError};

/// Something that the service did or noticed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happening<'a> {
    /// Events and quarantined bodies that are older than the retention were forgotten.
    Forgot {
        /// How many, of which kind. Never none.
        purged: &'a Purged,
    },
    /// A whole purge ended: nothing is left that is older than the retention.
    PurgeEnded {
        /// How long it took.
        duration: Duration,
    },
    /// A purge broke off. The next one goes on.
    PurgeFailed {
        /// What the store could not do.
        error: &'a StoreError,
    },
    /// The bodies of sensitive events were looked for, and forgotten. This comes every second.
    ForgotSensitive {
        /// How many.
        count: u64,
    },
    /// The bodies of sensitive events could not be forgotten. They are tried again every second.
    ForgetSensitiveFailed {
        /// What the store could not do.
        error: &'a StoreError,
    },
    /// A step of the search index failed. It is tried again every two seconds. Until then lists read the events
    /// that it does not describe.
    IndexFailed {
        /// What the store could not do.
        error: &'a StoreError,
    },
    /// A worker has ended although it was not asked to. Its source's events are stored, and no worker of
    /// this process runs them. Restart the process.
    WorkerEnded {
        /// The worker's source.
        source: &'a SourceName,
    },
}

/// Told of what a service does on its own account: be quick, never block.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
/// use cognigy_service::{Happening, Service, ServiceObserver};
///
/// /// Counts what was forgotten, for a metric.
/// #[derive(Default)]
/// struct Forgotten(AtomicU64);
///
/// impl ServiceObserver for Forgotten {
///     fn happened(&self, happening: &Happening<'_>) {
///         match happening {
///             Happening::Forgot { purged } => {
///                 self.0.fetch_add(purged.total_events(), Ordering::Relaxed);
///             }
///             Happening::PurgeFailed { error } => eprintln!("the purge broke off: {error}"),
///             _ => {}
///         }
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let forgotten = Arc::new(Forgotten::default());
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let service = Service::builder(pipeline).observer(Arc::clone(&forgotten)).start().await?;
/// service.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub trait ServiceObserver: Send + Sync + 'static {
    /// Something happened.
    fn happened(&self, happening: &Happening<'_>);
}

impl<O: ServiceObserver + ?Sized> ServiceObserver for Arc<O> {
    fn happened(&self, happening: &Happening<'_>) {
        (**self).happened(happening);
    }
}

impl ServiceObserver for cognigy_core::Silent {
    fn happened(&self, _happening: &Happening<'_>) {}
}
