//! How long what is stored is kept, as set.

pub(crate) use cognigy_operator::purging::{Outcome, purge, would};
use cognigy_service::{Retention, UpkeepOptions};

use crate::settings::Settings;

/// What is done for the store while the server runs.
pub(crate) fn upkeep(settings: &Settings) -> UpkeepOptions {
    UpkeepOptions { retention: retention(settings), search_index: settings.search }
}

/// The retention that is set.
pub(crate) fn retention(settings: &Settings) -> Retention {
    Retention {
        finished: settings.retention,
        dead_letters: settings.dead_letter_retention,
        sensitive: settings.sensitive_retention,
    }
}
