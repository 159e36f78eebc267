//! The breakers of this process, written into the store for `why`, `stats`, `errors` and `doctor`.

use std::time::Duration;

use cognigy_core::Clock;
use cognigy_operator::breakers::tell;
pub(crate) use cognigy_operator::breakers::{Breakers, OpenBreaker, open};

use crate::{app::App, pipelines::Pipelines, view};

/// How often a process looks at its breakers. A look costs no call to the store.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a process writes that a breaker is still open: before an entry ceases to count.
const AGAIN: Duration = Duration::from_secs(30);

/// Writes the breakers of this process into the store, for as long as the server runs.
pub(crate) async fn watch(app: App) {
    // What was written last, and when it has to be written again. At first what an earlier process may have
    // left, so that a restart takes it back; another process whose breaker is open writes its own again.
    let left = OpenBreaker { since: String::new(), error: String::new() };
    let names = app.pipelines.iter().map(|source| source.telemetry.label().to_owned());
    let mut told = (names.map(|name| (name, left.clone())).collect::<Breakers>(), None);
    loop {
        let now = app.clock.now();
        let here = of_this_process(&app.pipelines);
        let is_due = told.1.is_none_or(|due| due <= now) && !here.is_empty();
        if (here != told.0 || is_due) && tell(&*app.store, &told.0, &here, now).await.is_ok() {
            told = (here, Some(now + AGAIN));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The breakers that are open here.
pub(crate) fn of_this_process(pipelines: &Pipelines) -> Breakers {
    let sources = pipelines.iter();
    let open = sources.filter_map(|source| {
        let opened = source.telemetry.opened()?;
        let since = view::time(opened.since.into());
        Some((source.telemetry.label().to_owned(), OpenBreaker { since, error: opened.error }))
    });
    open.collect()
}
